"""Captures of inputs: which slices of the first run's inputs are copied from then on, and what they are reduced to."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.errors import log_rationed, nearest
from device_sdk.signals import COLUMN, Feature, Signals
from device_sdk.signals.captures import NUMERIC, Capture, TensorCapture, picked
from device_sdk.signals.categories import CategoryTable, Vocabulary
from device_sdk.signals.declare import CATEGORY, PATCH_KINDS, PROJECTION, TEXT_KINDS
from device_sdk.signals.infer import inferred_features
from device_sdk.signals.models import ModelRuns
from device_sdk.signals.reading import ELEMENTS_MAX, plane_of
from device_sdk.signals.reduce import Layout, Reducer
from device_sdk.signals.summaries import FeatureTable
from device_sdk.signals.text import NUMBERS, category_code, cell, is_textual, samples_of, text_numbers

SHAPES_MAX: Final = 32
"""Other sample shapes than the planned one whose reading places are kept; samples of further ones are left out."""


class InputCapture(Capture):
    """What numeric and textual inputs have in common: a table of numbers, a table of categories, or both."""

    def __init__(self, name: str, features: tuple[Feature, ...]) -> None:
        super().__init__(name)
        self.numbers = tuple(feature for feature in features if feature.kind != CATEGORY)
        self.categories = tuple(feature for feature in features if feature.kind == CATEGORY)
        self._table: FeatureTable | None = None
        self._counts: CategoryTable | None = None

    def bind(self, runs: ModelRuns) -> None:
        """Connect the ring to the model's tables; without one where another session has declared it otherwise."""
        if self.numbers:
            self._table = runs.inputs.table(self.name, self.numbers)
        if self.categories:
            self._counts = runs.inputs.category_table(self.name, self.categories)

    def count_missing(self, samples: int) -> None:
        """Count samples that came without this input."""
        for table in (self._table, self._counts):
            if table is not None:
                table.add_missing(samples)


class NumericInput(InputCapture, TensorCapture):
    """A numeric input: a bounded slice of every sample, reduced to features in the fold."""

    def __init__(self, name: str, sample: NDArray[Any], features: tuple[Feature, ...]) -> None:
        InputCapture.__init__(self, name, features)
        self.plan(sample, batched=sample.ndim >= 2)
        self._layout = Layout(self.sample_shape, features)
        self.flat, self.width = self._layout.flat, self._layout.width
        self._reducer = Reducer(self.numbers, self._layout)
        self._vocabularies = [(feature.column or 0, Vocabulary(feature)) for feature in self.categories]
        self._others: dict[tuple[int, ...], NDArray[np.intp] | None] = {}

    def fold(self, rows: NDArray[Any]) -> None:
        """Reduce rows to features."""
        if self._table is not None and len(rows):
            self._table.add(self._reducer.values(rows))
        if self._counts is not None and len(rows):
            codes = [vocabulary.codes(rows[:, column]) for column, vocabulary in self._vocabularies]
            self._counts.add(np.stack(codes, axis=1))

    def _picked(self, whole: NDArray[Any]) -> NDArray[Any] | None:
        if whole.shape[1:] == self.sample_shape:
            return super()._picked(whole)
        shape = whole.shape[1:]
        if shape not in self._others and len(self._others) < SHAPES_MAX:
            self._others[shape] = self._layout.places_for(shape)
        places = self._others.get(shape)
        return None if places is None else picked(whole, places)


class TextInput(InputCapture):
    """An input of texts, bytes or objects: numbers and vocabulary places of every sample, never content."""

    def __init__(self, name: str, features: tuple[Feature, ...]) -> None:
        super().__init__(name, features)
        self._columns = sorted({feature.column or 0 for feature in self.numbers})
        self._vocabularies = [
            (feature.column or 0, {word: place for place, word in enumerate(feature.category_names)})
            for feature in self.categories
        ]
        self.width = len(self._columns) * NUMBERS + len(self.categories)
        places = [self._columns.index(feature.column or 0) * NUMBERS for feature in self.numbers]
        kinds = [TEXT_KINDS.index(feature.kind) for feature in self.numbers]
        self._picks = np.array(places, dtype=np.intp) + np.array(kinds, dtype=np.intp)

    def samples_in(self, values: Mapping[str, Any]) -> int | None:
        """Return the length of the array or list."""
        value = values[self.name]
        return len(samples_of(value)) if is_textual(value) else None

    def rows_of(self, values: Mapping[str, Any], step: int) -> NDArray[Any] | None:
        """Return the numbers of every ``step``-th sample."""
        rows = []
        for sample in samples_of(values[self.name])[::step]:
            row: list[float] = []
            for column in self._columns:
                row.extend(text_numbers(cell(sample, column)))
            row.extend(category_code(cell(sample, column), words) for column, words in self._vocabularies)
            rows.append(row)
        return np.array(rows, dtype=np.float64).reshape(len(rows), self.width)

    def fold(self, rows: NDArray[Any]) -> None:
        """Add rows to the tables."""
        if self._table is not None and len(rows):
            self._table.add(rows[:, self._picks], nan_is_missing=True)
        if self._counts is not None and len(rows):
            self._counts.add(rows[:, self.width - len(self.categories) :])


def input_captures(feed: Mapping[str, Any], signals: Signals) -> tuple[list[Capture], list[str]]:
    """Return the captures of the inputs of a first run and, in words, what of the declaration does not fit it."""
    numeric = {name: value for name, value in feed.items() if _is_numeric(value)}
    textual = {name: value for name, value in feed.items() if is_textual(value)}
    if not signals.features:
        inferred, reasons = inferred_features(numeric, textual)
        if reasons and logging.getLogger("device_sdk").isEnabledFor(logging.INFO):
            log_rationed(logging.INFO, "nothing is declared, so these are watched: %s", "; ".join(reasons))
        signals = Signals(features=inferred)
    wanted: dict[str, list[Feature]] = {}
    complaints = []
    default = next(iter(feed), "")
    for feature in signals.features:
        name = feature.input or default
        complaint = _misfit(feature, name, numeric, textual)
        if complaint:
            complaints.append(f"feature {feature.name!r} is not watched: {complaint}")
        else:
            wanted.setdefault(name, []).extend(feature.expanded())
    captures: list[Capture] = [
        NumericInput(name, numeric[name], tuple(chosen)) if name in numeric else TextInput(name, tuple(chosen))
        for name, chosen in wanted.items()
    ]
    return captures, complaints


def _is_numeric(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in NUMERIC and value.ndim >= 1 and value.size > 0


def _misfit(feature: Feature, name: str, numeric: Mapping[str, NDArray[Any]], textual: Mapping[str, Any]) -> str:
    if name in textual:
        fits = feature.kind in (CATEGORY, *TEXT_KINDS)
        return "" if fits else f"input {name!r} holds text, which has kind {CATEGORY!r} and {', '.join(TEXT_KINDS)}"
    tensor = numeric.get(name)
    if tensor is None:
        return f"no numeric or text input {name!r} in the first run; {nearest(name, [*numeric, *textual])}"
    shape = tensor.shape[1:] if tensor.ndim >= 2 else tensor.shape
    size = math.prod(shape)
    if feature.kind in TEXT_KINDS:
        return f"input {name!r} holds numbers, no text"
    if feature.kind in (COLUMN, CATEGORY) and (size > ELEMENTS_MAX or (feature.column or 0) >= size):
        return f"input {name!r} has no column {feature.column} (of {size}; at most {ELEMENTS_MAX} are read)"
    if feature.kind == CATEGORY and any(isinstance(value, str) for value in feature.categories):
        return f"input {name!r} holds numbers: give its categories as numbers or booleans"
    if feature.kind in PATCH_KINDS and plane_of(shape) is None:
        return f"input {name!r} has samples of shape {shape}, no image of at least 3 x 3 pixels, at most 4 channels"
    if feature.kind == PROJECTION and (feature.projections or 0) > size:
        return f"input {name!r} has {size} elements, so at most as many projections"
    return ""

"""Which slices of a run's tensors are copied, decided on the first run: one ``Capture`` for each watched tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.contract.attributes import ErrorType
from device_sdk.signals import COLUMN, FEATURES_MAX, NAME_LENGTH_MAX, Feature, Signals
from device_sdk.signals.models import ModelRuns, OutputSummary
from device_sdk.signals.summaries import FeatureTable

ELEMENTS_MAX: Final = 1024
"""Elements of one sample that are copied; a larger sample is read at an even stride."""
OUTPUT_COLUMNS_MAX: Final = 4096
"""Widest class vector that is watched."""
UNDECLARED_COLUMNS_MAX: Final = 16
"""Widest 2-D input whose columns become features without being declared."""
NUMERIC: Final = "fiub"


class Capture:
    """A watched part of a run: its ring of rows of one width, and where the fold takes them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.width = 0
        self.dtype: np.dtype[Any] = np.dtype(np.float64)
        self.flat: slice | NDArray[np.intp] = slice(None)
        """Which elements of one flattened sample are a row: what the quick way copies."""
        self.ring: NDArray[Any] = np.empty((0, 0))
        self.missed = 0
        """Samples of runs without this tensor, not yet folded."""

    def allocate(self, rows: int) -> None:
        """Make the ring."""
        self.ring = np.zeros((rows, self.width), dtype=self.dtype)

    def absent(self, values: Mapping[str, Any]) -> bool:
        """Say whether a run has none of this: an optional input left out, an output that was not asked for."""
        return values.get(self.name) is None

    def is_one_row(self, tensor: NDArray[Any]) -> bool:  # noqa: ARG002
        """Say whether the quick way may copy a tensor: it is exactly one sample of the planned shape."""
        return False

    def bind(self, runs: ModelRuns, signals: Signals) -> None:
        """Connect the ring to the model's summary."""
        raise NotImplementedError

    def samples_in(self, values: Mapping[str, Any]) -> int | None:
        """Return how many rows a run has for the ring, None when it is not what was planned."""
        raise NotImplementedError

    def rows_of(self, values: Mapping[str, Any], step: int) -> NDArray[Any] | None:
        """Return every ``step``-th sample of a run as a row of the ring, None when it is not what was planned."""
        raise NotImplementedError

    def fold(self, rows: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Fold rows of the ring; an output says for each whether the model answered at all."""
        raise NotImplementedError

    def fault(self, values: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Return the error type of a run whose watched output is no answer, '' for a sound one."""
        return ""

    def count_missing(self, samples: int) -> None:
        """Count samples that came without this tensor."""


class TensorCapture(Capture):
    """A numeric tensor whose first axis is the batch (or which is one sample as a whole)."""

    def __init__(self, name: str, sample: NDArray[Any], *, batched: bool = True) -> None:
        super().__init__(name)
        self.sample_shape = sample.shape[1:] if batched else sample.shape
        self.batched = batched
        small = sample.dtype.kind == "f" and sample.dtype.itemsize <= 4
        self.dtype = np.dtype(np.float32 if small else np.float64)

    def is_one_row(self, tensor: NDArray[Any]) -> bool:
        """Say whether a tensor is exactly one sample of the planned shape."""
        expected = (1, *self.sample_shape) if self.batched else self.sample_shape
        one = tensor.shape == expected or (tensor.shape == (1,) and self.sample_shape == (1,))
        return one and tensor.dtype.kind in NUMERIC

    def samples_in(self, values: Mapping[str, Any]) -> int | None:
        """Return the length of the batch axis."""
        tensor = values.get(self.name)
        if not isinstance(tensor, np.ndarray) or tensor.dtype.kind not in NUMERIC:
            return None
        return len(tensor) if self.batched and tensor.ndim else 1

    def rows_of(self, values: Mapping[str, Any], step: int) -> NDArray[Any] | None:
        """Return every ``step``-th sample as a row of the ring's width, None when it is not what was planned."""
        tensor = values[self.name]
        whole: NDArray[Any] = tensor[::step] if self.batched and tensor.ndim else tensor[None]
        if whole.ndim == 1 and self.sample_shape == (1,):
            whole = whole[:, None]
        return self._picked(whole)

    def _picked(self, whole: NDArray[Any]) -> NDArray[Any] | None:
        if whole.shape[1:] != self.sample_shape:
            return None
        rows: NDArray[Any] = whole.reshape(len(whole), math.prod(self.sample_shape))[:, self.flat]
        return rows


class InputCapture(TensorCapture):
    """A numeric input and its features."""

    def __init__(self, name: str, sample: NDArray[Any], features: tuple[Feature, ...], *, batched: bool = True) -> None:
        super().__init__(name, sample, batched=batched)
        self.features = features
        size = math.prod(self.sample_shape)
        self.flat = slice(None, None, stride_for(self.sample_shape, size))
        self.width = len(range(0, size, self.flat.step))
        self._table: FeatureTable | None = None

    def bind(self, runs: ModelRuns, signals: Signals) -> None:  # noqa: ARG002
        """Connect the ring to the model's feature table."""
        self._table = runs.inputs.table(self.name, self.features)

    def fold(self, rows: NDArray[Any]) -> None:
        """Reduce rows to features."""
        if self._table is not None and len(rows):
            self._table.add_rows(rows)

    def count_missing(self, samples: int) -> None:
        """Count samples that came without this input."""
        if self._table is not None:
            self._table.add_missing(samples)

    def _picked(self, whole: NDArray[Any]) -> NDArray[Any] | None:
        if whole.shape[1:] == self.sample_shape:
            return super()._picked(whole)
        # samples of another size: statistics do not mind, columns do
        size = math.prod(whole.shape[1:])
        if size == 0 or any(feature.kind == COLUMN for feature in self.features):
            return None
        evenly = np.arange(self.width) * size // self.width  # a smaller sample repeats its elements
        rows: NDArray[Any] = whole.reshape(len(whole), size)[:, evenly]
        return rows


class OutputCapture(TensorCapture):
    """A class vector, or a single value a sample."""

    def __init__(self, name: str, tensor: NDArray[Any]) -> None:
        super().__init__(name, tensor)
        self.width = tensor.shape[1]
        self._summary: OutputSummary | None = None

    def bind(self, runs: ModelRuns, signals: Signals) -> None:
        """Connect the ring to the output's summary."""
        self._summary = runs.output(self.name, signals)

    def fold(self, rows: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Fold the sound rows and say which those are."""
        if self._summary is None:
            return None
        sound = self._summary.sound(rows)
        self._summary.add(rows if sound.all() else rows[sound])
        return sound

    def fault(self, values: Mapping[str, Any]) -> str:
        """Say whether the output is no answer: empty for a non-empty batch, or NaN anywhere."""
        watched = values.get(self.name)
        if not isinstance(watched, np.ndarray):
            return ""
        if watched.size == 0:
            return ErrorType.EMPTY_OUTPUT
        broken = watched.dtype.kind == "f" and bool(np.isnan(watched).any())
        return ErrorType.NAN_OUTPUT if broken else ""


def stride_for(shape: tuple[int, ...], size: int) -> int:
    """Return the smallest stride that reads at most ~1k elements and shares no factor with any dimension.

    A stride that divides the width of an image would read the same columns of every row.
    """
    if size <= ELEMENTS_MAX:
        return 1
    stride = -(-size // ELEMENTS_MAX)
    while any(math.gcd(stride, extent) > 1 for extent in shape):
        stride += 1
    return stride


def input_captures(feed: Mapping[str, Any], signals: Signals) -> tuple[list[Capture], list[str]]:
    """Return the captures of the inputs of a first run and, in words, the declared features that do not fit it."""
    tensors = {
        name: value
        for name, value in feed.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in NUMERIC and value.ndim >= 1 and value.size
    }
    if not signals.features:
        return _undeclared(tensors), []
    wanted: dict[str, list[Feature]] = {}
    complaints = []
    default = next(iter(feed), "")
    for feature in signals.features:
        name = feature.input or default
        complaint = _misfit(feature, name, tensors)
        if complaint:
            complaints.append(complaint)
        else:
            wanted.setdefault(name, []).append(feature)
    return [_capture(name, tensors[name], tuple(chosen)) for name, chosen in wanted.items()], complaints


def _capture(name: str, tensor: NDArray[Any], features: tuple[Feature, ...]) -> Capture:
    return InputCapture(name, tensor, features, batched=tensor.ndim >= 2)


def _misfit(feature: Feature, name: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    tensor = tensors.get(name)
    if tensor is None:
        known = ", ".join(tensors) or "none"
        return f"feature {feature.name!r} is not watched: no numeric input {name!r} in the first run (numeric: {known})"
    size = math.prod(tensor.shape[1:] if tensor.ndim >= 2 else tensor.shape)
    if feature.kind == COLUMN and (size > ELEMENTS_MAX or (feature.column or 0) >= size):
        return f"feature {feature.name!r} is not watched: input {name!r} has no column {feature.column} (of {size})"
    return ""


def _undeclared(tensors: Mapping[str, NDArray[Any]]) -> list[Capture]:
    captures: list[Capture] = []
    room = FEATURES_MAX
    for name, tensor in tensors.items():
        narrow = tensor.ndim == 2 and tensor.dtype.kind == "f" and tensor.shape[1] <= UNDECLARED_COLUMNS_MAX
        if not narrow or tensor.shape[1] > room:
            continue
        short = name[: NAME_LENGTH_MAX - 4]
        features = tuple(Feature(f"{short}[{column}]", column=column) for column in range(tensor.shape[1]))
        captures.append(InputCapture(name, tensor, features))
        room -= len(features)
    return captures


def output_captures(outputs: Mapping[str, Any], signals: Signals) -> list[Capture]:
    """Return the capture of the watched output: the declared one, else the first that could be a class vector or value.

    A 2-D float output with at least two columns comes before a single float a sample; integer label outputs, maps and
    anything of higher rank are not watched.
    """
    if signals.output == "none":
        return []
    chosen = {signals.output_name: outputs.get(signals.output_name)} if signals.output_name else dict(outputs)
    floats = {
        name: value
        for name, value in chosen.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size
    }
    for name, tensor in floats.items():
        if tensor.ndim == 2 and 2 <= tensor.shape[1] <= OUTPUT_COLUMNS_MAX and signals.output != "value":
            return [OutputCapture(name, tensor)]
    for name, tensor in floats.items():
        single = (tensor.ndim == 2 and tensor.shape[1] == 1) or tensor.ndim == 1
        if single and signals.output in ("auto", "value"):
            return [OutputCapture(name, tensor if tensor.ndim == 2 else tensor[:, None])]
    return []

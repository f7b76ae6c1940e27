"""Which slices of a run's tensors are copied, decided on the first run: one ``Capture`` for each watched tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.signals import COLUMN, FEATURES_MAX, NAME_LENGTH_MAX, Feature, Signals
from device_sdk.signals.models import ModelRuns, OutputSummary
from device_sdk.signals.summaries import FeatureTable

ELEMENTS_MAX: Final = 1024
"""Elements of one sample that are copied; a larger sample is read at an even stride."""
OUTPUT_COLUMNS_MAX: Final = 4096
"""Widest class vector that is watched."""
UNDECLARED_COLUMNS_MAX: Final = 16
"""Widest 2-D input whose columns become features without being declared."""
_NUMERIC: Final = "fiub"


class Capture:
    """A watched tensor: its ring of copied rows, and where the fold takes them."""

    def __init__(self, name: str, sample: NDArray[Any], features: tuple[Feature, ...], *, batched: bool = True) -> None:
        self.name = name
        self.features = features
        self.sample_shape = sample.shape[1:] if batched else sample.shape
        self.batched = batched
        size = math.prod(self.sample_shape)
        self.flat = slice(None, None, stride_for(self.sample_shape, size))
        self.width = len(range(0, size, self.flat.step))
        self.dtype = np.dtype(np.float32 if sample.dtype in (np.float32, np.float16) else np.float64)
        self.ring: NDArray[Any] = np.empty((0, self.width), dtype=self.dtype)
        self.table: FeatureTable | None = None
        self.summary: OutputSummary | None = None

    def allocate(self, rows: int) -> None:
        """Make the ring."""
        self.ring = np.zeros((rows, self.width), dtype=self.dtype)

    def bind(self, runs: ModelRuns, signals: Signals) -> None:
        """Connect the ring to the model's summary: to a feature table, or without features to the output's."""
        if self.features:
            self.table = runs.inputs.table(self.name, self.features)
        else:
            self.summary = runs.output(self.name, signals)

    def is_one_row(self, tensor: NDArray[Any]) -> bool:
        """Say whether a tensor is exactly one sample of the planned shape."""
        expected = (1, *self.sample_shape) if self.batched else self.sample_shape
        one = tensor.shape == expected or (tensor.shape == (1,) and self.sample_shape == (1,))
        return one and tensor.dtype.kind in _NUMERIC

    def rows_of(self, tensor: object) -> NDArray[Any] | None:
        """Return a tensor as rows of the ring's width, None when it is not what was planned."""
        if not isinstance(tensor, np.ndarray) or tensor.dtype.kind not in _NUMERIC:
            return None
        whole = tensor if self.batched else tensor[None]
        if whole.ndim == 1 and self.sample_shape == (1,):
            whole = whole[:, None]
        if whole.shape[1:] != self.sample_shape:
            return self._elastic_rows(whole)
        rows: NDArray[Any] = whole.reshape(len(whole), math.prod(self.sample_shape))[:, self.flat]
        return rows

    def _elastic_rows(self, whole: NDArray[Any]) -> NDArray[Any] | None:
        """Return rows of samples of another size: statistics do not mind, columns and class vectors do."""
        if not self.features or any(feature.kind == COLUMN for feature in self.features):
            return None
        size = math.prod(whole.shape[1:])
        if size == 0:
            return None
        evenly = np.arange(self.width) * size // self.width  # a smaller sample repeats its elements
        rows: NDArray[Any] = whole.reshape(len(whole), size)[:, evenly]
        return rows


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
        if isinstance(value, np.ndarray) and value.dtype.kind in _NUMERIC and value.ndim >= 1 and value.size
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
    return Capture(name, tensor, features, batched=tensor.ndim >= 2)


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
        captures.append(Capture(name, tensor, features))
        room -= len(features)
    return captures


def output_capture(outputs: Mapping[str, Any], signals: Signals) -> Capture | None:
    """Return the capture of the watched output: the declared one, else the first that could be a class vector or value.

    A 2-D float output with at least two columns comes before a single float a sample; integer label outputs, maps and
    anything of higher rank are not watched.
    """
    if signals.output == "none":
        return None
    chosen = {signals.output_name: outputs.get(signals.output_name)} if signals.output_name else dict(outputs)
    floats = {
        name: value
        for name, value in chosen.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size
    }
    for name, tensor in floats.items():
        if tensor.ndim == 2 and 2 <= tensor.shape[1] <= OUTPUT_COLUMNS_MAX and signals.output != "value":
            return _whole(name, tensor)
    for name, tensor in floats.items():
        single = (tensor.ndim == 2 and tensor.shape[1] == 1) or tensor.ndim == 1
        if single and signals.output in ("auto", "value"):
            return _whole(name, tensor if tensor.ndim == 2 else tensor[:, None])
    return None


def _whole(name: str, tensor: NDArray[Any]) -> Capture:
    capture = Capture(name, tensor, ())
    capture.flat = slice(None, None, 1)
    capture.width = tensor.shape[1]
    return capture

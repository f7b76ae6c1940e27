"""Captures of outputs: class vectors, values, embeddings and detections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.contract.attributes import ErrorType
from device_sdk.errors import nearest
from device_sdk.signals import Output, Signals
from device_sdk.signals.captures import Capture, TensorCapture
from device_sdk.signals.declare import AUTO, DETECTIONS, EMBEDDING, LOGITS, NONE, PROBABILITIES, VALUE
from device_sdk.signals.detections import Detections, DetectionSummary
from device_sdk.signals.models import ModelRuns, OutputSummary
from device_sdk.signals.summaries import are_probabilities

OUTPUT_COLUMNS_MAX: Final = 4096
"""Widest class vector or embedding that is watched."""
VALUES_MAX: Final = 8
"""Most values of one output."""
_ROWS_LOOKED_AT: Final = 64
_ELEMENTS_LOOKED_AT: Final = 1 << 22


def holds_nan(tensor: NDArray[Any]) -> bool:
    """Say whether a tensor with elements has a NaN: its maximum is one then, in one pass and without a copy.

    Of more than 4 million elements an even part of some 4 million is looked at: this is the host's thread.
    """
    if tensor.dtype.kind != "f":
        return False
    if tensor.size > _ELEMENTS_LOOKED_AT:
        longest, step = int(np.argmax(tensor.shape)), -(-tensor.size // _ELEMENTS_LOOKED_AT)
        tensor = tensor[(slice(None),) * longest + (slice(None, None, step),)]
    return bool(np.isnan(tensor.max()))


class OutputCapture(TensorCapture):
    """A class vector, an embedding, or up to 8 values a sample."""

    def __init__(self, output: Output, tensor: NDArray[Any]) -> None:
        super().__init__(output.name)
        self.plan(tensor)
        self.width = tensor.shape[1]
        self._output = output
        self._summary: OutputSummary | None = None

    def bind(self, runs: ModelRuns) -> None:
        """Connect the ring to the output's summary; without one where another session has declared it otherwise."""
        summary = runs.outputs.setdefault(self.name, OutputSummary(self._output, self.width))
        self._summary = summary if isinstance(summary, OutputSummary) and summary.width == self.width else None

    def fold(self, rows: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Fold the sound rows and say which those are."""
        if self._summary is None or not len(rows):
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
        return ErrorType.NAN_OUTPUT if holds_nan(watched) else ""


class DetectionCapture(Capture):
    """The boxes of a detector: reduced to a few numbers a frame as they come, for their count differs."""

    def __init__(self, output: Output) -> None:
        super().__init__(output.name)
        self._output = output
        self._reader = Detections(output)
        self.width = self._reader.width
        self.dtype = np.dtype(np.float32)
        self._summary: DetectionSummary | None = None

    def bind(self, runs: ModelRuns) -> None:
        """Connect the ring to the output's summary."""
        summary = runs.outputs.setdefault(self.name, DetectionSummary(self._output))
        self._summary = summary if isinstance(summary, DetectionSummary) else None

    def absent(self, values: Mapping[str, Any]) -> bool:
        """Say whether boxes or scores were not asked for."""
        return any(values.get(name) is None for name in self._reader.names)

    def samples_in(self, values: Mapping[str, Any]) -> int | None:
        """Return the number of frames."""
        return self._reader.frames(values)

    def rows_of(self, values: Mapping[str, Any], step: int) -> NDArray[Any] | None:
        """Return the numbers of every ``step``-th frame."""
        return self._reader.rows(values, step)

    def fold(self, rows: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Add frames; one whose scores or boxes were not numbers is no answer."""
        if self._summary is None or not len(rows):
            return None
        sound: NDArray[np.bool_] = ~np.isnan(rows[:, 0])
        self._summary.add(rows if sound.all() else rows[sound])
        return sound

    def fault(self, values: Mapping[str, Any]) -> str:
        """Say whether scores or boxes hold NaN; no detection at all is an answer."""
        for name in self._reader.names[:2]:
            tensor = values.get(name)
            if isinstance(tensor, np.ndarray) and tensor.size and holds_nan(tensor):
                return ErrorType.NAN_OUTPUT
        return ""


def output_captures(outputs: Mapping[str, Any], signals: Signals) -> tuple[list[Capture], list[str]]:
    """Return the captures of the watched outputs of a first run and, in words, what of the declaration does not fit.

    Without a declaration it is the first 2-D float output whose rows are probabilities, else the first 2-D float
    output, else a single float a sample; integer label outputs, maps and anything of higher rank are not watched.
    """
    captures: list[Capture] = []
    complaints = []
    for output in signals.watched_outputs:
        if output.kind == NONE:
            continue
        if output.kind == DETECTIONS:
            complaint = Detections(output).misfit(outputs)
            if complaint:
                complaints.append(f"output {output.name!r} is not watched: {complaint}")
            else:
                captures.append(DetectionCapture(output))
            continue
        chosen = [output.name] if output.name else list(outputs)
        floats: dict[str, NDArray[Any]] = {name: outputs[name] for name in chosen if _is_float(outputs.get(name))}
        found = _found(output, floats)
        if found is not None:
            captures.append(found)
        elif output.name:
            complaints.append(f"output {output.name!r} is not watched: {_misfit(output, outputs)}")
    return captures, complaints


def _is_float(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size > 0


def _found(output: Output, floats: Mapping[str, NDArray[Any]]) -> Capture | None:
    vectors = {name: value for name, value in floats.items() if value.ndim == 2}
    wide = {name: value for name, value in vectors.items() if 2 <= value.shape[1] <= OUTPUT_COLUMNS_MAX}
    if output.kind in (AUTO, PROBABILITIES, LOGITS):
        sure = {name: are_probabilities(value[:_ROWS_LOOKED_AT]) for name, value in wide.items()}
        for name in sorted(wide, key=lambda name: sure[name] is (output.kind == LOGITS)):  # stable: else the first
            return OutputCapture(replace(output, name=name), wide[name])
    if output.kind == EMBEDDING:
        for tensor in vectors.values():
            if (output.projections or 0) <= tensor.shape[1] <= OUTPUT_COLUMNS_MAX:
                return OutputCapture(output, tensor)
    if output.kind in (AUTO, VALUE):
        for name, tensor in floats.items():
            column = tensor[:, None] if tensor.ndim == 1 else tensor
            most = VALUES_MAX if output.name and output.kind == VALUE else 1
            if column.ndim == 2 and column.shape[1] <= most:
                return OutputCapture(replace(output, name=name), column)
    return None


def _misfit(output: Output, outputs: Mapping[str, Any]) -> str:
    value = outputs.get(output.name)
    if not isinstance(value, np.ndarray):
        return f"there is no tensor of that name in the first run; {nearest(output.name, outputs)}"
    return f"kind {output.kind!r} does not fit {value.dtype} of shape {value.shape}"

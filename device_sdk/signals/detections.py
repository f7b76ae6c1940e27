"""Detections of a frame: how many, how large, of which class, how sure; from boxes and scores as detectors give them.

The numbers of one frame are a row of one width: the count, then boxes, scores and classes of at most 64 detections,
evenly chosen when there are more, with NaN behind the last. Boxes become areas in the fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.buckets import N1_BOUNDS, U1_BOUNDS
from device_sdk.errors import nearest
from device_sdk.points import AttributePairs, ExplicitHistogram, Points
from device_sdk.signals import Output
from device_sdk.signals.summaries import ClassCounts

DETECTIONS_MAX: Final = 64
"""Detections of one frame whose size, score and class are kept; the count is of all."""
SCORES_MAX: Final = 65_536
"""Scores of one frame that are looked at; a raw head with more is not watched."""
_BOX: Final = 4
_SCORES: Final = 1 + _BOX * DETECTIONS_MAX
_CLASSES: Final = _SCORES + DETECTIONS_MAX
_N1: Final = np.array(N1_BOUNDS, dtype=np.float64)
_U1: Final = np.array(U1_BOUNDS)

Reals = NDArray[np.float64]


class Detections:
    """Reads the declared output tensors."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._separate = output.scores is not None
        self.names = tuple(name for name in (output.name, output.scores, output.labels) if name)
        self.width = 1 + (_BOX + 2) * DETECTIONS_MAX

    def frames(self, values: Mapping[str, Any]) -> int | None:
        """Return the number of frames of a run, None for tensors that cannot be read."""
        return None if self.misfit(values) else len(self._batches(values)[0])

    def misfit(self, values: Mapping[str, Any]) -> str:
        """Say in words why a run's tensors cannot be read as declared, '' when they can."""
        for name in self.names:
            tensor = values.get(name)
            if not isinstance(tensor, np.ndarray) or tensor.dtype.kind not in "fiu":
                return f"there is no numeric tensor {name!r} in the first run; {nearest(name, values)}"
            if tensor.ndim not in (1, 2, 3):
                return f"{name!r} has the shape {tensor.shape}; expected is one frame or a batch of them"
        boxes = values[self._output.name]
        rows, columns = boxes.shape[-2:] if boxes.ndim > 1 else (1, boxes.shape[0])
        if self._output.layout == "column" and not self._separate:
            rows, columns = columns, rows
        enough = columns == _BOX if self._separate else columns > _BOX
        if boxes.ndim < 2 or not enough:
            wanted = "[N, 4]" if self._separate else "[N, 5] or wider" if self._output.layout == "row" else "[5.., N]"
            return f"{self._output.name!r} has the shape {boxes.shape}; expected is {wanted}"
        return self._misfit_of_scores(values, boxes, rows, columns)

    def _misfit_of_scores(self, values: Mapping[str, Any], boxes: NDArray[Any], rows: int, columns: int) -> str:
        frames = len(boxes) if boxes.ndim == 3 else 1
        for name in self.names[1:]:
            tensor = values[name]
            if tensor.shape[: boxes.ndim - 1] != boxes.shape[:-1]:
                return f"{name!r} has the shape {tensor.shape}, which does not belong to boxes of {boxes.shape}"
        scores = values[self.names[1]].size // max(1, frames) if self._separate else rows * max(1, columns - _BOX)
        if scores > SCORES_MAX:
            return (
                f"{scores} scores a frame, at most {SCORES_MAX} are read: watch an output behind the suppression "
                "(end-to-end export)"
            )
        return ""

    def _batches(self, values: Mapping[str, Any]) -> list[NDArray[Any]]:
        """Return the tensors with a leading frame axis."""
        single = values[self._output.name].ndim == 2
        return [values[name][None] if single else values[name] for name in self.names]

    def rows(self, values: Mapping[str, Any], step: int) -> NDArray[np.float32]:
        """Return the numbers of every ``step``-th frame."""
        tensors = [tensor[::step] for tensor in self._batches(values)]
        rows = np.full((len(tensors[0]), self.width), np.nan, dtype=np.float32)
        for place, row in enumerate(rows):
            self._read(row, *[tensor[place] for tensor in tensors])
        return rows

    def _read(self, row: NDArray[np.float32], boxes: NDArray[Any], *others: NDArray[Any]) -> None:
        classes: NDArray[Any] | None = others[1] if len(others) > 1 else None
        if self._separate:
            scores = others[0]
        elif self._output.layout == "column":
            boxes, scores = boxes[:_BOX].T, boxes[_BOX:].T
        else:
            classes = boxes[:, _BOX + 1] if boxes.shape[1] > _BOX + 1 else None
            boxes, scores = boxes[:, :_BOX], boxes[:, _BOX]
        table = scores if scores.ndim == 2 else None
        if table is not None:
            scores = table.max(axis=1) if table.shape[1] else np.zeros(len(table))
        if scores.size and np.isnan(scores.max()):
            return  # no answer: the row stays NaN
        found = (scores >= self._output.threshold).nonzero()[0]
        count = row[0] = len(found)
        if not count:
            return
        if count > DETECTIONS_MAX:
            found = found[:: -(-count // DETECTIONS_MAX)]
        kept = len(found)
        row[1 : 1 + _BOX * kept] = boxes[found].reshape(-1)
        row[_SCORES : _SCORES + kept] = scores[found]
        if classes is not None:
            row[_CLASSES : _CLASSES + kept] = classes[found].reshape(kept, -1)[:, 0]
        elif table is not None:
            row[_CLASSES : _CLASSES + kept] = table[found].argmax(axis=1)


def areas_of(boxes: Reals, output: Output) -> Reals:
    """Return the share of the frame of each box's part inside it; 0 for inverted corners and what lies outside.

    ``boxes`` are rows of four coordinates in the output's format.
    """
    frame = np.array([output.frame[1], output.frame[0]] if output.format == "yxyx" else output.frame)
    first, second = boxes[:, :2] / frame, boxes[:, 2:] / frame
    if output.format == "cxcywh":
        first, second = first - second / 2, first + second / 2
    elif output.format == "xywh":
        second = first + second
    sides = np.clip(second, 0.0, 1.0) - np.clip(first, 0.0, 1.0)
    area: Reals = np.maximum(sides, 0.0).prod(axis=1)
    return area


class DetectionSummary:
    """Counts a frame, and area, score and class of detections, of one output."""

    def __init__(self, output: Output) -> None:
        self.name = output.name[: a.VALUE_LENGTH_MAX]
        self._output = output
        self._classes = ClassCounts(output.classes)
        self._frames = np.zeros(len(_N1) + 1, dtype=np.int64)
        self._areas = np.zeros(len(_U1) + 1, dtype=np.int64)
        self._scores = np.zeros(len(_U1) + 1, dtype=np.int64)

    def add(self, rows: NDArray[np.floating]) -> None:
        """Add frames, one a row; a box that is no number counts, but has no area."""
        self._frames += np.bincount(np.searchsorted(_N1, rows[:, 0]), minlength=len(self._frames))
        boxes = rows[:, 1:_SCORES].reshape(-1, _BOX).astype(np.float64)
        areas = areas_of(boxes[~np.isnan(boxes).any(axis=1)], self._output)
        scores = rows[:, _SCORES:_CLASSES]
        for values, counts in ((areas, self._areas), (scores[~np.isnan(scores)].astype(np.float64), self._scores)):
            counts += np.bincount(np.searchsorted(_U1, values), minlength=len(counts))
        classes = rows[:, _CLASSES:]
        self._classes.add(classes[np.isfinite(classes) & (classes >= 0)].astype(np.int64))

    def emit(self, points: Points, identity: AttributePairs) -> None:
        """Add this window's points and start anew."""
        named = (*identity, (a.OUTPUT_NAME, self.name))
        for metric, bounds, counts in (
            (m.DETECTION_COUNT, N1_BOUNDS, self._frames),
            (m.DETECTION_AREA, U1_BOUNDS, self._areas),
            (m.OUTPUT_CONFIDENCE, U1_BOUNDS, self._scores),
        ):
            total = int(counts.sum())
            if total:
                points.add(metric.name, ExplicitHistogram(total, bounds, counts.tolist()), named)
                counts[:] = 0
        for name, count in self._classes.take():
            points.add(m.OUTPUT_PREDICTIONS.name, count, (*named, (a.CLASS_NAME, name)))

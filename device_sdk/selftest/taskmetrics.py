"""Task metrics of a golden set that has labels: accuracy, macro F1, ROC AUC and mAP at IoU 0.5.

On a device there is only numpy; the tests hold each against its textbook definition, written as loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TASK_METRICS: Final = ("accuracy", "f1", "auc", "map")
IOU_MATCH: Final = 0.5


def predicted_classes(output: Array) -> Array:
    """Return the class of each sample of scores (samples, classes) or of labels (samples,) or (samples, 1)."""
    if output.dtype.kind == "f" and output.ndim == 2 and output.shape[1] >= 2:
        winners: Array = np.asarray(output.argmax(axis=1))
        return winners
    if output.dtype.kind == "f":
        return (output.reshape(len(output)) >= 0.5).astype(np.int64)
    return output.reshape(len(output))


def accuracy(output: Array, labels: Array) -> float:
    """Return the share of samples whose class is the label."""
    return float((predicted_classes(output) == labels.reshape(-1)).mean())


def macro_f1(output: Array, labels: Array) -> float:
    """Return the mean over classes (labelled or predicted) of 2 TP / (2 TP + FP + FN)."""
    guesses, truth = predicted_classes(output), labels.reshape(-1)
    scores = []
    for name in np.union1d(guesses, truth):
        hit = float(((guesses == name) & (truth == name)).sum())
        scores.append(2 * hit / float((guesses == name).sum() + (truth == name).sum()))
    return float(np.mean(scores))


def roc_auc(output: Array, labels: Array) -> float:
    """Return the area under the ROC curve: of the positive class, or averaged one-against-rest over the classes.

    It is the share of (positive, negative) pairs that the score puts in the right order, ties half (Mann-Whitney U).
    Classes without a positive or a negative sample are left out; NaN when none is left.
    """
    truth = labels.reshape(-1)
    scores = output.reshape(len(output), -1).astype(np.float64)
    if scores.shape[1] <= 2:
        return _binary_auc(scores[:, -1], truth == truth.max())
    areas = [_binary_auc(scores[:, place], truth == place) for place in range(scores.shape[1])]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else float("nan")


def _binary_auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    hits, misses = int(positive.sum()), int((~positive).sum())
    if not hits or not misses:
        return float("nan")
    _values, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    return float((mean_rank[place][positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def mean_average_precision(
    boxes: Sequence[Array], scores: Sequence[Array], classes: Sequence[Array], labels: Array
) -> float:
    """Return mAP at IoU 0.5 (PASCAL VOC 2010: area under the interpolated precision-recall curve), mean over classes.

    ``boxes[i]`` is (detections, 4) corners of image i with ``scores[i]`` and ``classes[i]``; ``labels`` is
    (objects, 6): image, class, x1, y1, x2, y2. NaN when there is no labelled object.
    """
    names = np.unique(labels[:, 1])
    areas = [_average_precision(boxes, scores, classes, labels[labels[:, 1] == name], name) for name in names]
    return float(np.mean(areas)) if areas else float("nan")


def _average_precision(
    boxes: Sequence[Array], scores: Sequence[Array], classes: Sequence[Array], truth: Array, name: float
) -> float:
    found = [
        (float(score), image, box)
        for image in range(len(boxes))
        for box, score, kind in zip(boxes[image], scores[image], classes[image], strict=True)
        if kind == name
    ]
    found.sort(key=lambda item: -item[0])
    taken = np.zeros(len(truth), dtype=bool)
    hits = np.zeros(len(found))
    for place, (_score, image, box) in enumerate(found):
        overlaps = np.where(truth[:, 0] == image, iou(box, truth[:, 2:6]), 0.0)
        best = int(overlaps.argmax()) if len(truth) else 0
        if overlaps[best] >= IOU_MATCH and not taken[best]:
            taken[best], hits[place] = True, 1.0
    if not len(found):
        return 0.0
    recall = np.cumsum(hits) / len(truth)
    precision = np.cumsum(hits) / np.arange(1, len(found) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def iou(box: Array, others: Array) -> NDArray[np.float64]:
    """Return the intersection over union of one corner box (4,) with each of (n, 4), 0 for degenerate boxes."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:4], others[:, 2:4])
    inner = np.prod(np.clip(high - low, 0, None), axis=1)
    own = np.prod(np.clip(box[2:4] - box[:2], 0, None))
    theirs = np.prod(np.clip(others[:, 2:4] - others[:, :2], 0, None), axis=1)
    whole = own + theirs - inner
    shares: NDArray[np.float64] = np.where(whole > 0, inner / np.where(whole > 0, whole, 1), 0.0)
    return shares

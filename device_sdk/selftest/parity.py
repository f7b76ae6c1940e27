"""Pure comparisons of an output with its golden one: error sizes, cosine, top-1 and per-class agreement.

Arrays are (samples, ...); nothing here reads a clock or a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.contract.attributes import ErrorType

Array = NDArray[Any]

RELATIVE_FLOOR: Final = 1e-6
"""Smallest magnitude that a relative error is taken of: below it the absolute error says more."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far an output is from its golden one. ``error`` is set when the two cannot be compared number by number.

    ``max_abs`` and ``max_rel`` are the largest errors of any element, ``cosine`` the smallest cosine similarity of any
    sample, ``top1`` the share of samples with the same class (None where the output is no class vector or label), and
    ``class_agreement`` the lowest such share of any golden class.
    """

    samples: int
    max_abs: float | None = None
    max_rel: float | None = None
    cosine: float | None = None
    top1: float | None = None
    class_agreement: float | None = None
    error: ErrorType | None = None


def compare(got: Array, golden: Array) -> Parity:
    """Return the parity of two arrays of shape (samples, ...)."""
    if got.shape != golden.shape:
        return Parity(len(golden), error=ErrorType.SHAPE_MISMATCH)
    if got.dtype.kind not in "fiub" or golden.dtype.kind not in "fiub":
        return _labels_only(got, golden)
    if golden.size == 0:
        return Parity(0, error=ErrorType.EMPTY_OUTPUT)
    ours, theirs = got.astype(np.float64), golden.astype(np.float64)
    if not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return Parity(len(golden), error=ErrorType.NAN_OUTPUT)
    ours, theirs = np.nan_to_num(ours, nan=0.0), np.nan_to_num(theirs, nan=0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.where(ours == theirs, 0.0, np.abs(ours - theirs))  # equal infinities are no error
        relative = np.where(apart == 0, 0.0, apart / np.maximum(np.abs(theirs), RELATIVE_FLOOR))
    classes = _classes(got), _classes(golden)
    top1 = agreement = None
    if classes[0] is not None and classes[1] is not None:
        top1, agreement = _agreement(classes[0], classes[1])
    return Parity(
        samples=len(golden),
        max_abs=float(apart.max()),
        max_rel=float(relative.max()),
        cosine=None if golden.dtype.kind in "iub" else float(cosines(ours, theirs).min()),
        top1=top1,
        class_agreement=agreement,
    )


def cosines(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine similarity of each sample; two zero samples are alike, one zero sample is like no other."""
    a = np.clip(ours.reshape(len(ours), -1), -1e150, 1e150)
    b = np.clip(theirs.reshape(len(theirs), -1), -1e150, 1e150)
    a = a / np.maximum(np.abs(a).max(axis=1, keepdims=True), 1e-300)
    b = b / np.maximum(np.abs(b).max(axis=1, keepdims=True), 1e-300)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    dots = np.einsum("ij,ij->i", a, b)
    similar: NDArray[np.float64] = np.where(both_zero, 1.0, dots / np.where(lengths > 0, lengths, 1.0))
    return similar


def _classes(output: Array) -> Array | None:
    """Return the class of each sample: argmax of a class vector, an integer label as it is, else None."""
    if output.dtype.kind in "iub" and output.size == len(output):
        return output.reshape(-1)
    if output.dtype.kind == "f" and output.ndim == 2 and output.shape[1] >= 2:
        winners: Array = np.asarray(output.argmax(axis=1))
        return winners
    return None


def _agreement(ours: Array, theirs: Array) -> tuple[float, float]:
    same = ours == theirs
    worst = min(float(same[theirs == name].mean()) for name in np.unique(theirs))
    return float(same.mean()), worst


def _labels_only(got: Array, golden: Array) -> Parity:
    """Compare text labels: all that can be said is which agree."""
    ours, theirs = got.reshape(-1).astype(str), golden.reshape(-1).astype(str)
    if len(ours) == 0:
        return Parity(0, error=ErrorType.EMPTY_OUTPUT)
    top1, agreement = _agreement(ours, theirs)
    return Parity(len(golden), top1=top1, class_agreement=agreement)

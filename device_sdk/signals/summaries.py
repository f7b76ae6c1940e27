"""Folds: rows of measurements become fixed-size aggregates, which become the points of a window and start anew.

Everything here is numpy on at most a few dozen rows at a time; no row outlives its fold. Nothing here is thread-safe:
the Monitor's fold lock is.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.contract.attributes import OTHER, FeatureState
from device_sdk.contract.buckets import (
    FEATURE_MAX_SCALE,
    FEATURE_ZERO_THRESHOLD,
    LATENCY_MAX_SCALE,
    MAX_BUCKETS,
    U1_BOUNDS,
    downscaled,
)
from device_sdk.points import ExplicitHistogram, ExponentialHistogram, Side
from device_sdk.signals import Feature
from device_sdk.signals.grids import (
    DURATION_FIRST,
    FEATURE_BINS,
    FEATURE_FIRST,
    ZERO_BIN,
    duration_bounds_ns,
    feature_edges,
)

Rows = NDArray[np.floating]

CLASSES_MAX: Final = 64
_SUM_TOLERANCE: Final = 1e-3
_U1: Final = np.array(U1_BOUNDS)
_U1_BINS: Final = len(U1_BOUNDS) + 1
_STATES: Final = (
    FeatureState.OK,
    FeatureState.NAN,
    FeatureState.INFINITE,
    FeatureState.BELOW_RANGE,
    FeatureState.ABOVE_RANGE,
    FeatureState.MISSING,
)


class DurationHistogram:
    """Durations in ns on exact exponential buckets of the contract's latency scale, with sum, minimum and maximum."""

    __slots__ = ("_counts", "_maximum", "_minimum", "_sum", "_zero")

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] | None = None
        self._reset()

    def _reset(self) -> None:
        self._sum = 0
        self._zero = 0
        self._minimum = -1
        self._maximum = 0
        if self._counts is not None:
            self._counts[:] = 0

    def add(self, values_ns: NDArray[np.int64]) -> None:
        """Add durations; negative ones count as zero."""
        if not len(values_ns):
            return
        bounds = duration_bounds_ns()
        if self._counts is None:
            self._counts = np.zeros(len(bounds), dtype=np.int64)
        lowest, highest = int(values_ns.min()), int(values_ns.max())
        if lowest <= 0:
            self._zero += int((values_ns <= 0).sum())
            values_ns = values_ns[values_ns > 0]
            lowest = 0
        if len(values_ns):
            position = np.searchsorted(bounds, values_ns, side="left") - 1
            self._counts += np.bincount(position, minlength=len(bounds))
            self._sum += int(values_ns.sum())
        self._minimum = lowest if self._minimum < 0 else min(self._minimum, lowest)
        self._maximum = max(self._maximum, highest)

    def take(self) -> ExponentialHistogram | None:
        """Return what was added since the last take, in seconds, None when nothing was."""
        if self._minimum < 0 or self._counts is None:
            return None
        scale = LATENCY_MAX_SCALE
        side = _side(self._counts, DURATION_FIRST)
        while len(side.counts) > MAX_BUCKETS:
            side = Side(*downscaled(side.offset, side.counts, 1))
            scale -= 1
        taken = ExponentialHistogram(
            count=self._zero + sum(side.counts),
            scale=scale,
            zero_count=self._zero,
            zero_threshold=0.0,
            positive=side,
            negative=Side(),
            total=self._sum / 1e9,
            minimum=self._minimum / 1e9,
            maximum=self._maximum / 1e9,
        )
        self._reset()
        return taken


class FeatureTable:
    """Features of one input on their pinned grids, with the state of every observation."""

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self.features = features
        width = len(features)
        self._center = np.array([feature.center for feature in features])
        self._unit = np.array([feature.unit for feature in features])
        ranges = [feature.range or (-np.inf, np.inf) for feature in features]
        self._low = np.array([low for low, _ in ranges])
        self._high = np.array([high for _, high in ranges])
        self._ranged = any(feature.range is not None for feature in features)
        self._shift = np.arange(width) * (FEATURE_BINS + 1)
        self._edges = self._shift[:, None] + (0, ZERO_BIN, ZERO_BIN + 1, FEATURE_BINS)  # the last bin: not finite
        self._counts = np.zeros(width * (FEATURE_BINS + 1), dtype=np.int64)
        self._states = np.zeros((len(_STATES), width), dtype=np.int64)
        self.touched = False

    def add(self, values: NDArray[np.float64], *, nan_is_missing: bool = False) -> None:
        """Add values, one row a sample and one column a feature; NaN and infinities are counted, not bucketed."""
        self.touched = True
        bins = np.searchsorted(feature_edges(), (values - self._center) / self._unit)
        finite = np.isfinite(values)
        counted = len(values)
        if finite.all():
            self._states[0] += counted
        else:
            bins[~finite] = FEATURE_BINS
            infinite = np.isinf(values).sum(axis=0)
            broken = (~finite).sum(axis=0)
            self._states[0] += counted - broken
            self._states[5 if nan_is_missing else 1] += broken - infinite
            self._states[2] += infinite
        if self._ranged:
            below, above = (finite & (values < self._low)).sum(axis=0), (finite & (values > self._high)).sum(axis=0)
            self._states[0] -= below + above
            self._states[3] += below
            self._states[4] += above
        self._counts += np.bincount((bins + self._shift).ravel(), minlength=len(self._counts))

    def add_missing(self, samples: int) -> None:
        """Count samples that came without this input."""
        self.touched = True
        self._states[5] += samples

    def take(self) -> list[tuple[Feature, ExponentialHistogram | None, list[tuple[FeatureState, int]]]]:
        """Return (feature, histogram, states with a count) of each feature observed since the last take."""
        if not self.touched:
            return []
        self.touched = False
        used = self._counts.nonzero()[0]
        edges = np.searchsorted(used, self._edges).tolist()
        taken = []
        for at, feature, column in zip(edges, self.features, self._states.T.tolist(), strict=True):
            states = [(state, count) for state, count in zip(_STATES, column, strict=True) if count]
            taken.append((feature, self._signed(used, *at), states))
        self._counts[:] = 0
        self._states[:] = 0
        return taken

    def _signed(
        self, used: NDArray[np.intp], negative: int, zero: int, positive: int, end: int
    ) -> ExponentialHistogram | None:
        """Return one feature's bins as a histogram without sum, minimum or maximum; None when it holds nothing.

        ``used`` are the bins with a count; the numbers say where in it this feature's sides begin and end.
        """
        if negative == end:
            return None
        counts = self._counts
        below = above = Side()
        zeros = int(counts[used[zero]]) if positive > zero else 0
        zero_bin = int(used[negative]) // (FEATURE_BINS + 1) * (FEATURE_BINS + 1) + ZERO_BIN
        if zero > negative:
            lowest, highest = int(used[negative]), int(used[zero - 1])
            below = Side(FEATURE_FIRST + zero_bin - 1 - highest, counts[lowest : highest + 1].tolist()[::-1])
        if end > positive:
            lowest, highest = int(used[positive]), int(used[end - 1])
            above = Side(FEATURE_FIRST + lowest - zero_bin - 1, counts[lowest : highest + 1].tolist())
        return ExponentialHistogram(
            count=zeros + sum(below.counts) + sum(above.counts),
            scale=FEATURE_MAX_SCALE,
            zero_count=zeros,
            zero_threshold=FEATURE_ZERO_THRESHOLD,
            positive=above,
            negative=below,
        )


def _side(bins: NDArray[np.int64], first: int) -> Side:
    """Return the bins from the first to the last that is used as buckets; bin 0 has index ``first``."""
    used = bins.nonzero()[0]
    if not len(used):
        return Side()
    lowest, highest = int(used[0]), int(used[-1])
    return Side(lowest + first, bins[lowest : highest + 1].tolist())


class ClassCounts:
    """How often each class was predicted; beyond the declared ones, or else the first 64 seen, as ``_OTHER``."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self._classes = classes
        self._seen: dict[int, int] = {}

    def add(self, predicted: NDArray[np.integer]) -> None:
        """Add class numbers (>= 0)."""
        classes, counts = np.unique(predicted, return_counts=True)
        for index, count in zip(classes.tolist(), counts.tolist(), strict=True):
            key = index if self._within(index) else -1
            self._seen[key] = self._seen.get(key, 0) + count

    def _within(self, index: int) -> bool:
        if self._classes:
            return index < min(len(self._classes), CLASSES_MAX)
        return index in self._seen or len(self._seen) - (-1 in self._seen) < CLASSES_MAX

    def take(self) -> list[tuple[str, int]]:
        """Return [(class, count)] since the last take."""
        taken = [(self._name(index), count) for index, count in sorted(self._seen.items()) if count]
        self._seen = dict.fromkeys(self._seen, 0)
        return taken

    def _name(self, index: int) -> str:
        if index < 0:
            return OTHER
        return self._classes[index] if self._classes else str(index)


class ClassifierSummary:
    """Confidence, entropy, margin and top-1 classes of probability rows."""

    def __init__(self, classes: tuple[str, ...], *, logits: bool) -> None:
        self._logits = logits
        self._classes = ClassCounts(classes)
        self._unit = np.zeros(3 * _U1_BINS, dtype=np.int64)
        self._count = 0

    def add(self, rows: Rows) -> None:
        """Add finite rows, one a sample, with at least two columns."""
        probabilities = rows  # in the output's own precision: single is enough for the buckets, and twenty times faster
        if self._logits:
            probabilities = np.exp(rows - rows.max(axis=1, keepdims=True))
            probabilities /= probabilities.sum(axis=1, keepdims=True)
        top, each = probabilities.argmax(axis=1), np.arange(len(rows))
        shares = np.empty((3, len(rows)))
        shares[0] = probabilities[each, top]
        positive = np.maximum(probabilities, np.finfo(probabilities.dtype).tiny)
        shares[1] = np.einsum("ij,ij->i", positive, np.log(positive)) / -math.log(probabilities.shape[1])
        positive[each, top] = 0
        shares[2] = shares[0] - positive.max(axis=1)
        bins = np.searchsorted(_U1, shares) + _SHIFT3
        self._unit += np.bincount(bins.ravel(), minlength=len(self._unit))
        self._count += len(rows)
        self._classes.add(top)

    def take(self) -> tuple[list[ExplicitHistogram], list[tuple[str, int]]] | None:
        """Return ([confidence, entropy, margin], [(class, count)]) since the last take, None when nothing was added."""
        if not self._count:
            return None
        parts = self._unit.reshape(3, _U1_BINS)
        histograms = [ExplicitHistogram(self._count, U1_BOUNDS, part.tolist()) for part in parts]
        self._unit[:] = 0
        self._count = 0
        return histograms, self._classes.take()


_SHIFT3: Final = (np.arange(3) * _U1_BINS)[:, None]


def are_probabilities(rows: Rows) -> bool:
    """Say whether finite rows lie in 0..1 and sum to 1, both within 0.001."""
    if rows.ndim != 2 or rows.shape[1] < 2 or not len(rows):
        return False
    inside = float(rows.min()) >= -_SUM_TOLERANCE and float(rows.max()) <= 1 + _SUM_TOLERANCE
    return inside and bool(np.all(np.abs(rows.sum(axis=1, dtype=np.float64) - 1) <= _SUM_TOLERANCE))

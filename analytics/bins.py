"""Pinned bins: twenty quantiles of a reference, taken once, at edges the devices' own buckets have.

Bins never move with the current window (edges that do hide drift), and a bin's *score*, the reference mean inside it,
stands for every value in it, so that a stray value cannot own a mean. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from analytics.signals import CATEGORICAL, NUMERIC, Buckets, SignalRows
from device_sdk.contract.attributes import OTHER

Reals = NDArray[np.float64]

BINS: Final = 20
CLASSES_MAX: Final = 65
RESOLUTION_SHARE: Final = 0.5
"""A bucket that is no atom and holds more than this share hides the signal: verdict ``insufficient: resolution``."""

_COARSE_SHARE: Final = 0.01
_CLIP: Final = 0.001
_SHARE_FLOOR: Final = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class PinnedBins:
    """Bins of one signal, chosen by its reference.

    Numeric: ``edges`` are the B−1 inner edges, bin b holds ``(edges[b−1], edges[b]]``. Categorical: ``labels`` names
    the B classes, the last is ``_OTHER``. ``scores`` and ``variances`` are mean and variance of the reference inside
    each bin, ``center`` and ``spread`` mean and sd of the whole (values beyond the .1 % tails drawn in).
    """

    signal: str
    kind: str
    edges: Reals
    labels: tuple[str, ...]
    counts: Reals
    scores: Reals
    variances: Reals
    center: float
    spread: float
    resolved: bool

    @property
    def size(self) -> int:
        """Return the number of bins."""
        return int(self.counts.size)

    def allocation(self, buckets: Buckets) -> Reals:
        """Return buckets x bins: the part of each source bucket that belongs to each bin (rows sum to 1)."""
        if self.kind == CATEGORICAL:
            known = {label: i for i, label in enumerate(self.labels)}
            column = [known.get(label, self.size - 1) for label in buckets.labels]
            return np.eye(self.size)[np.array(column, dtype=np.int64)]
        below = _below(self.edges, buckets)
        outer = np.ones((below.shape[0], 1))
        return np.diff(np.hstack([0.0 * outer, below, outer]), axis=1)

    def standard_scores(self, spread: float) -> Reals:
        """Return scores x bins in reference sd: one for a numeric signal, one for each class of at least 1 %."""
        if self.kind == NUMERIC:
            return (self.scores / (spread if spread > 0 else 1.0))[None, :]
        share = self.counts / max(self.counts.sum(), 1.0)
        sd = np.sqrt(np.maximum(share * (1.0 - share), _SHARE_FLOOR * (1.0 - _SHARE_FLOOR)))
        common = share >= _SHARE_FLOOR
        return np.asarray((np.eye(self.size) / sd[:, None])[common], dtype=np.float64)

    def scored_labels(self) -> list[str]:
        """Return the classes that have a score of their own, in the order of ``standard_scores``."""
        share = self.counts / max(self.counts.sum(), 1.0)
        return [label for label, one in zip(self.labels, share.tolist(), strict=True) if one >= _SHARE_FLOOR]

    def tier_scale(self, counts: Reals) -> tuple[float, float]:
        """Return (mean, sd) of a part of the fleet from its counts on these bins; the whole's where it is empty."""
        total = float(counts.sum())
        if self.kind == CATEGORICAL or total <= 0:
            return self.center, self.spread
        share = counts / total
        mean = float(share @ self.scores)
        sd = float(np.sqrt(share @ (self.variances + (self.scores - mean) ** 2)))
        return mean, sd if sd > 0 else self.spread


def _below(edges: Reals, buckets: Buckets) -> Reals:
    """Return buckets x edges: the share of each bucket at or below each edge."""
    width = np.maximum(buckets.hi - buckets.lo, 1e-300)
    below = (edges[None, :] - buckets.lo[:, None]) / width[:, None]
    below = np.clip(below, 0.0, 1.0)
    # An edge and a bucket's bound come from the same formula but not always from the same bits.
    below[below < 1e-6] = 0.0
    below[below > 1.0 - 1e-6] = 1.0
    return np.asarray(below, dtype=np.float64)


def pin(signal: str, kind: str, parts: Sequence[tuple[Buckets, Reals]]) -> PinnedBins:
    """Return the bins of a signal from the buckets of its reference and the count in each."""
    return _pin_categorical(signal, parts) if kind == CATEGORICAL else _pin_numeric(signal, parts)


def _pin_categorical(signal: str, parts: Sequence[tuple[Buckets, Reals]]) -> PinnedBins:
    counts: dict[str, float] = {}
    for buckets, mass in parts:
        for label, count in zip(buckets.labels, mass.tolist(), strict=True):
            counts[label] = counts.get(label, 0.0) + count
    other = counts.pop(OTHER, 0.0)
    ranked = sorted((item for item in counts.items() if item[1] > 0), key=lambda item: (-item[1], item[0]))
    kept = sorted(label for label, _ in ranked[: CLASSES_MAX - 1])
    other += sum(count for _, count in ranked[CLASSES_MAX - 1 :])
    values = np.array([*(counts[label] for label in kept), other])
    zero = np.zeros(values.size)
    return PinnedBins(signal, CATEGORICAL, np.zeros(0), (*kept, OTHER), values, zero, zero, 0.0, 1.0, True)


def _pin_numeric(signal: str, parts: Sequence[tuple[Buckets, Reals]]) -> PinnedBins:
    buckets, mass = _joined(parts)
    total = float(mass.sum())
    if total <= 0:
        zero = np.zeros(1)
        return PinnedBins(signal, NUMERIC, np.zeros(0), (), zero, zero, zero, 0.0, 1.0, False)
    edges = _quantile_edges(buckets, mass, total)
    low, high = _clip_range(buckets, mass, total)
    middle = np.clip(buckets.middle, low, high)
    inner = np.where((buckets.lo >= low) & (buckets.hi <= high), (buckets.hi - buckets.lo) ** 2 / 12.0, 0.0)
    center = float(mass @ middle / total)
    spread = float(np.sqrt(mass @ ((middle - center) ** 2 + inner) / total))
    outer = np.ones((mass.size, 1))
    share = np.diff(np.hstack([0.0 * outer, _below(edges, buckets), outer]), axis=1)
    counts = mass @ share
    filled = np.where(counts > 0, counts, 1.0)
    scores = (mass * middle) @ share / filled
    variances = np.maximum((mass * (middle**2 + inner)) @ share / filled - scores**2, 0.0)
    scores = _scores_of_empty(scores, counts, edges, spread)
    resolved = float(np.max(mass[~buckets.atom], initial=0.0)) <= RESOLUTION_SHARE * total
    return PinnedBins(signal, NUMERIC, edges, (), counts, scores, variances, center, spread, resolved)


def _joined(parts: Sequence[tuple[Buckets, Reals]]) -> tuple[Buckets, Reals]:
    """Return the buckets of all parts with equal ones added up, the empty ones left out."""
    lo = np.concatenate([buckets.lo for buckets, _ in parts])
    hi = np.concatenate([buckets.hi for buckets, _ in parts])
    resolution = np.concatenate([buckets.resolution for buckets, _ in parts])
    atom = np.concatenate([buckets.atom for buckets, _ in parts])
    mass = np.concatenate([counts for _, counts in parts])
    keep = mass > 0
    keys = np.stack([lo[keep], hi[keep], resolution[keep].astype(np.float64), atom[keep].astype(np.float64)], axis=1)
    unique, index = np.unique(keys, axis=0, return_inverse=True)
    merged = np.bincount(index.ravel(), weights=mass[keep], minlength=unique.shape[0])
    joined = Buckets(unique[:, 0], unique[:, 1], unique[:, 2].astype(np.int64), unique[:, 3] > 0)
    return joined, np.asarray(merged, dtype=np.float64)


def _quantile_edges(buckets: Buckets, mass: Reals, total: float) -> Reals:
    """Return the inner edges: for each twentieth of the mass the nearest bound of the coarsest layout in real use.

    Bounds of a coarse layout are bounds of the finer ones too, so no device's bucket is cut. A signal that never
    leaves one bucket keeps that bucket's bounds, so that leaving it shows.
    """
    levels, code = np.unique(buckets.resolution, return_inverse=True)
    weight = np.bincount(code.ravel(), weights=mass) / total
    coarsest = levels[np.flatnonzero(weight >= _COARSE_SHARE)[0]]
    mine = buckets.resolution == coarsest
    bounds = np.unique(np.concatenate([buckets.lo[mine], buckets.hi[mine]]))
    cumulative = mass @ _below(bounds, buckets)
    inner = (cumulative > 1e-9 * total) & (cumulative < (1 - 1e-9) * total)
    if not inner.any():
        return np.asarray(bounds, dtype=np.float64)
    candidates, reached = bounds[inner], cumulative[inner]
    targets = np.arange(1, BINS) / BINS * total
    nearest = np.abs(reached[None, :] - targets[:, None]).argmin(axis=1)
    chosen = candidates[np.unique(nearest)]
    # Bounds that differ in the last bits only are one edge.
    keep = np.concatenate([[True], np.diff(chosen) > 1e-9 * np.maximum(np.abs(chosen[1:]), 1e-300)])
    return np.asarray(chosen[keep], dtype=np.float64)


def _clip_range(buckets: Buckets, mass: Reals, total: float) -> tuple[float, float]:
    order = np.argsort(buckets.middle)
    cumulative = np.cumsum(mass[order])
    low = buckets.lo[order[np.searchsorted(cumulative, _CLIP * total, side="right").clip(0, order.size - 1)]]
    high = buckets.hi[order[np.searchsorted(cumulative, (1 - _CLIP) * total).clip(0, order.size - 1)]]
    return float(min(low, high)), float(max(low, high))


def _scores_of_empty(scores: Reals, counts: Reals, edges: Reals, spread: float) -> Reals:
    """Give bins the reference left empty a place: half a spread beyond their outer edge, the middle between two."""
    result = scores.copy()
    for b in np.flatnonzero(counts <= 0):
        if edges.size == 0:
            continue
        left = edges[b - 1] if b > 0 else edges[0] - spread
        right = edges[b] if b < edges.size else edges[-1] + spread
        result[b] = 0.5 * (left + right)
    return result


def fill(rows: SignalRows, bins: PinnedBins, index: dict[str, int], start_ns: int, hours: int, hour_ns: int) -> Reals:
    """Return hours x devices x bins: the rows' counts on the bins; devices outside ``index`` are left out."""
    if not index or not rows.device.size:
        return np.zeros((hours, len(index), bins.size))
    device = np.array([index.get(name, -1) for name in rows.device_names], dtype=np.int64)[rows.device]
    hour = (rows.hours_ns - start_ns) // hour_ns
    keep = (device >= 0) & (hour >= 0) & (hour < hours)
    cell = np.where(keep, hour * len(index) + device, 0)
    chosen = rows.entries[np.flatnonzero(keep)]
    select = sparse.csr_matrix(
        (np.ones(chosen.shape[0]), (cell[keep], np.arange(chosen.shape[0]))),
        shape=(hours * len(index), chosen.shape[0]),
    )
    binned = select @ (chosen @ bins.allocation(rows.buckets))
    return np.asarray(binned, dtype=np.float64).reshape(hours, len(index), bins.size)

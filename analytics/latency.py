"""Quantiles from merged exponential histograms: log-linear inside a bucket, with the bucket as error bound.

Bucket i at scale s holds ``(base^i, base^(i+1)]``, base = 2^(2^-s). Histograms of different scales merge at the lowest
by an exact shift of the index. A quantile cannot be known better than its bucket: the true one lies between its bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from device_sdk.contract.buckets import base_of, lower_bound


@dataclass(frozen=True, slots=True)
class Quantile:
    """An estimated quantile and the bounds that hold the true one (the values' unit)."""

    q: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """A merged histogram of values >= 0: ascending bucket indices at ``scale`` with their counts, and the zeros."""

    scale: int
    zeros: int
    index: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Return the number of observations."""
        return self.zeros + sum(self.counts)

    @property
    def error(self) -> float:
        """Return the largest relative error of a quantile: the growth of one bucket less 1."""
        return base_of(self.scale) - 1


def merge(scale: npt.ArrayLike, index: npt.ArrayLike, counts: npt.ArrayLike, zeros: int = 0) -> Histogram | None:
    """Return the buckets brought to their lowest scale and summed, None when nothing was observed."""
    scales, indices, n = (np.asarray(values, dtype=np.int64) for values in (scale, index, counts))
    keep = n > 0
    scales, indices, n = scales[keep], indices[keep], n[keep]
    if not len(n):
        return Histogram(0, zeros, (), ()) if zeros > 0 else None
    lowest = int(scales.min())
    shifted = indices >> (scales - lowest)
    found, at = np.unique(shifted, return_inverse=True)
    sums = np.zeros(len(found), np.int64)
    np.add.at(sums, at, n)
    return Histogram(lowest, zeros, tuple(found.tolist()), tuple(sums.tolist()))


def quantiles(histogram: Histogram, qs: Sequence[float]) -> list[Quantile]:
    """Return the quantiles at ``qs`` (0..1); raises ``ValueError`` outside."""
    total = histogram.total
    cumulated = histogram.zeros + np.cumsum(np.array(histogram.counts, dtype=np.int64))
    found = []
    for q in qs:
        if not 0 <= q <= 1:
            raise ValueError(f"{q!r} is not a quantile; use a number from 0 to 1")
        rank = q * total
        if not histogram.counts or (rank <= histogram.zeros and histogram.zeros > 0):
            found.append(Quantile(q, 0.0, 0.0, 0.0))
            continue
        position = min(int(np.searchsorted(cumulated, rank, side="left")), len(histogram.counts) - 1)
        count, index = histogram.counts[position], histogram.index[position]
        before = int(cumulated[position]) - count
        share = min(max((rank - before) / count, 0.0), 1.0)
        low, high = lower_bound(index, histogram.scale), lower_bound(index + 1, histogram.scale)
        value = low * base_of(histogram.scale) ** share
        found.append(Quantile(q, min(value, high), low, high))
    return found


def merge_frame(frame: pl.DataFrame) -> Histogram | None:
    """Return the histogram of ``distribution_hours`` rows (side, scale, bucket_index, n); negatives count as 0."""
    zeros = int(frame.filter(pl.col("side") <= 0).get_column("n").sum())
    positive = frame.filter(pl.col("side") == 1)
    return merge(
        positive.get_column("scale").to_numpy(),
        positive.get_column("bucket_index").to_numpy(),
        positive.get_column("n").to_numpy(),
        zeros,
    )

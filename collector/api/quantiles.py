"""Quantiles of merged histograms; pure.

Inside an exponential bucket a value is placed log-linearly, inside an explicit one linearly; without buckets there is
no quantile. Cumulative streams become increments first: a decrease or a new start is a reset, whose point counts whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from collector.storage.fold import SHIFT_MAX, Buckets, Ints, common_scale, fold_buckets, ints, lists, totals

WIDTH_MAX: Final = 20_000
"""Most buckets a side of a merged histogram; beyond it comes to a lower scale, with every count kept."""

Cell: TypeAlias = tuple[int, int, int]
"""(sign, bucket index, count) of one bucket; sign 0 is the zero bucket."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """A merged histogram: exponential when ``bounds`` and ``counts`` are empty, else explicit."""

    count: int
    sum: float | None
    scale: int = 0
    zero_count: int = 0
    zero_threshold: float = 0.0
    positive_offset: int = 0
    positive: tuple[int, ...] = ()
    negative_offset: int = 0
    negative: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


def quantile(histogram: Histogram, q: float) -> float | None:
    """Return the value at rank ``q`` (0..1); None without buckets or observations."""
    return _explicit(histogram, q) if histogram.counts else _exponential(histogram, q)


def _cells(histogram: Histogram) -> Iterator[Cell]:
    """Yield the buckets that hold something, from the least values up."""
    for position in range(len(histogram.negative) - 1, -1, -1):
        if histogram.negative[position]:
            yield -1, histogram.negative_offset + position, histogram.negative[position]
    if histogram.zero_count:
        yield 0, 0, histogram.zero_count
    for position, count in enumerate(histogram.positive):
        if count:
            yield 1, histogram.positive_offset + position, count


def _power(index: float, scale: int) -> float:
    """Return ``base ** index``; infinite where a double cannot hold it."""
    try:
        return float(2.0 ** math.ldexp(index, -scale))
    except OverflowError:
        return math.inf if index > 0 else 0.0


def _exponential(histogram: Histogram, q: float) -> float | None:
    cells = list(_cells(histogram))
    rank = q * sum(count for _, _, count in cells)
    below = 0
    for number, (sign, index, count) in enumerate(cells):
        if below + count < rank and number < len(cells) - 1:
            below += count
            continue
        share = min(max(rank - below, 0.0) / count, 1.0)
        if sign > 0:
            return _power(index + share, histogram.scale)
        if sign < 0:
            return -_power(index + 1 - share, histogram.scale)
        low = -histogram.zero_threshold if any(histogram.negative) else 0.0
        return low + (histogram.zero_threshold - low) * share
    return None


def _explicit(histogram: Histogram, q: float) -> float | None:
    total = sum(histogram.counts)
    if not total or not histogram.bounds:
        return None
    rank, below = q * total, 0
    last = max(position for position, count in enumerate(histogram.counts) if count)
    for position, count in enumerate(histogram.counts):
        if not count or (below + count < rank and position < last):
            below += count
            continue
        if position >= len(histogram.bounds):
            return histogram.bounds[-1]
        high = histogram.bounds[position]
        low = histogram.bounds[position - 1] if position else min(0.0, high)
        return low + (high - low) * min(max(rank - below, 0.0) / count, 1.0)
    return None


def merge(raw: pa.Table, group: Ints, groups: int, bounds: Sequence[Sequence[float]]) -> list[Histogram]:
    """Return one histogram a group, summed exactly over rows of ``raw_distribution``; mixed scales go to the lowest.

    ``bounds`` holds the explicit bounds of each group, empty for exponential histograms.
    """
    scale = ints(raw.column("scale"))
    sides = [
        (ints(raw.column(f"{side}_offset")), lists(raw.column(f"{side}_counts"))) for side in ("positive", "negative")
    ]
    target = common_scale(group, groups, scale, sides, WIDTH_MAX)
    shift = scale - target[group]
    positive, negative = (fold_buckets(group, groups, shift, offset, counts) for offset, counts in sides)
    explicit = fold_buckets(group, groups, shift * 0, shift * 0, lists(raw.column("counts")))
    count = totals(group, groups, ints(raw.column("count")))
    zero = totals(group, groups, ints(raw.column("zero_count")))
    summed = np.zeros(groups)
    np.add.at(summed, group, raw.column("sum").to_numpy())
    unknown = totals(group, groups, ints(raw.column("no_sum")))
    threshold = np.zeros(groups)
    np.maximum.at(threshold, group, raw.column("zero_threshold").to_numpy())
    return [
        Histogram(
            count=int(count[g]),
            sum=None if unknown[g] else float(summed[g]),
            scale=int(target[g]),
            zero_count=int(zero[g]),
            zero_threshold=float(threshold[g]),
            positive_offset=int(positive.offset[g]),
            positive=_counts(positive, g),
            negative_offset=int(negative.offset[g]),
            negative=_counts(negative, g),
            bounds=tuple(bounds[g]),
            counts=(0,) * int(explicit.offset[g]) + _counts(explicit, g) if _counts(explicit, g) else (),
        )
        for g in range(groups)
    ]


def _counts(buckets: Buckets, group: int) -> tuple[int, ...]:
    starts = buckets.counts.starts
    return tuple(buckets.counts.values[starts[group] : starts[group + 1]].tolist())


def increments(raw: pa.Table, from_ns: int) -> pa.Table:
    """Return rows of ``raw_distribution`` with cumulative points replaced by what they add to the one before.

    ``raw`` may hold for each cumulative stream its last point before ``from_ns``, which is only subtracted.
    """
    rows = raw.to_pylist()
    rows.sort(key=lambda row: (row["sid"], row["stid"], row["time_ns"], row["start_ns"]))
    added: list[dict[str, Any]] = []
    before: dict[str, Any] | None = None
    for row in rows:
        if row["temporality"] != "cumulative":
            if row["time_ns"] >= from_ns:
                added.append(row)
            continue
        same = before is not None and (before["sid"], before["stid"]) == (row["sid"], row["stid"])
        if row["time_ns"] >= from_ns:
            added.append((same and before is not None and _difference(row, before)) or row)
        before = row
    return pa.Table.from_pylist(added, schema=raw.schema)


def _difference(row: dict[str, Any], before: dict[str, Any]) -> dict[str, Any] | None:
    """Return what ``row`` adds to ``before``; None when the stream was reset between them."""
    if row["start_ns"] != before["start_ns"] or row["count"] < before["count"]:
        return None
    scale = min(row["scale"], before["scale"])
    result = {**row, "scale": scale, "sum": row["sum"] - before["sum"], "no_sum": row["no_sum"] or before["no_sum"]}
    for name in ("count", "zero_count"):
        result[name] = row[name] - before[name]
        if result[name] < 0:
            return None
    if len(row["counts"]) != len(before["counts"]):
        return None
    result["counts"] = [new - old for new, old in zip(row["counts"], before["counts"], strict=True)]
    if any(count < 0 for count in result["counts"]):
        return None
    for side in ("positive", "negative"):
        cells = _by_index(row, side, row["scale"] - scale)
        for index, count in _by_index(before, side, before["scale"] - scale).items():
            cells[index] = cells.get(index, 0) - count
        if any(count < 0 for count in cells.values()):
            return None
        first = min(cells, default=0)
        result[f"{side}_offset"] = first
        result[f"{side}_counts"] = [cells.get(index, 0) for index in range(first, max(cells, default=-1) + 1)]
    return result


def _by_index(row: dict[str, Any], side: str, shift: int) -> dict[int, int]:
    cells: dict[int, int] = {}
    for position, count in enumerate(row[f"{side}_counts"]):
        if count:
            index = (row[f"{side}_offset"] + position) >> min(shift, SHIFT_MAX)
            cells[index] = cells.get(index, 0) + count
    return cells

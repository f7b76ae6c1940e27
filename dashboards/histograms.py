"""Bucket rows of the query API -> shares and quantiles for pictures. Pure; exponential buckets of OTLP, base 2."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from dashboards import formats, series
from dashboards.rows import Verdict, reals

SCALE_DRAWN = 2
"""Buckets are merged down to this scale for a heat map: four to each doubling."""


def merge(items: Iterable[Mapping[str, Any]], scale: int = SCALE_DRAWN) -> dict[int, dict[int, float]]:
    """Merge distribution rows into hour_ns -> bucket -> count, every row brought to one scale.

    Rows of a coarser scale than ``scale`` lower it for all; rows without a scale, negative and zero sides are left out.
    """
    usable = [
        item
        for item in items
        if item.get("scale") is not None and item.get("side", "positive") in ("positive", "pos", "+", 1)
    ]
    lowest = min([scale, *(int(item["scale"]) for item in usable)])
    hours: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for item in usable:
        bucket = int(item["bucket_index"]) >> (int(item["scale"]) - lowest)
        hours[int(item.get("hour_ns") or 0)][bucket] += float(item["n"])
    factor = scale - lowest
    if factor:
        return {hour: {bucket << factor: n for bucket, n in found.items()} for hour, found in hours.items()}
    return {hour: dict(found) for hour, found in hours.items()}


def bounds(bucket: int, scale: int = SCALE_DRAWN) -> tuple[float, float]:
    """Return the exact lower (exclusive) and upper (inclusive) bound of an exponential bucket."""
    return 2.0 ** (bucket / 2**scale), 2.0 ** ((bucket + 1) / 2**scale)


def quantile(counts: Mapping[int, float], q: float, scale: int = SCALE_DRAWN) -> float | None:
    """Return the ``q`` quantile of bucket counts, log-linear inside a bucket; None without counts."""
    total = sum(counts.values())
    if total <= 0:
        return None
    wanted, seen = q * total, 0.0
    for bucket in sorted(counts):
        inside = counts[bucket]
        if inside > 0 and seen + inside >= wanted:
            return float(2.0 ** ((bucket + (wanted - seen) / inside) / 2**scale))
        seen += inside
    return None


def binned(edges: Sequence[float | None], shares: int, tail: float = 0.0) -> list[float]:
    """Return ``shares`` + 1 finite edges.

    Given the inner edges only, an open end is as wide as its neighbour but at least ``tail``; without
    edges the bins are counted from 0.
    """
    known = [edge for edge in edges if edge is not None]
    if len(known) < 2:
        return [float(index) for index in range(shares + 1)]
    if len(known) == shares - 1:
        known = [known[0] - max(known[1] - known[0], tail), *known, known[-1] + max(known[-1] - known[-2], tail)]
    while len(known) < shares + 1:
        known.append(known[-1] + (known[-1] - known[-2]))
    return [float(edge) for edge in known[: shares + 1]]


def picture_marks(row: Verdict) -> tuple[series.Marks, bool, float, tuple[float, float]]:
    """Turn a row's bins into the marks of ``charts.densities``.

    Returns marks, whether to draw steps, the share of mass above the reference, and where that mass sits. Heights are
    the share per bin of usual (median) width, so that bins of different widths compare fairly.
    """
    reference, current = reals(row.detail.get("reference_share")), reals(row.detail.get("current_share"))
    count = min(len(reference), len(current))
    if not count:
        return [], False, 0.0, (0.0, 0.0)
    edges = binned(reals(row.detail.get("edges")), count, row.number("spread") or 0.0)
    widths = [max(1e-12, right - left) for left, right in pairwise(edges)]
    usual = sorted(widths)[count // 2]
    step = count < 14 or max(widths) > 6 * min(widths)
    marks: series.Marks = []
    over, weight, where = 0.0, 0.0, 0.0
    for index in range(count):
        ref, cur = reference[index] or 0.0, current[index] or 0.0
        over += max(0.0, cur - ref)
        middle = (edges[index] + edges[index + 1]) / 2
        if cur - ref > weight:
            weight, where = cur - ref, middle
        scale = usual / widths[index]
        tip = (
            f"{formats.number(edges[index])} to {formats.number(edges[index + 1])} "
            f"· now {formats.percent(cur)} · reference {formats.percent(ref)}"
        )
        at = edges[index] if step else middle
        marks.append(_bin(at, ref * scale, cur * scale, tip))
    if step:
        marks.append({**marks[-1], "t": edges[count]})
    height = max(max(mark["hi"] for mark in marks), 1e-9)
    found = next((mark["hi"] for mark in marks if mark["t"] >= where - usual / 2), height)
    return marks, step, over, (where, found)


def evenly(row: Verdict) -> bool:
    """Say whether the bins are equally wide, so that a height can be read as a share."""
    edges = [edge for edge in reals(row.detail.get("edges")) if edge is not None]
    widths = [right - left for left, right in pairwise(edges)]
    return bool(widths) and max(widths) < 1.2 * min(widths)


def _bin(at: float, ref: float, cur: float, tip: str) -> dict[str, object]:
    return {"layer": "bin", "t": at, "y": ref, "y2": cur, "lo": min(ref, cur), "hi": max(ref, cur), "tip": tip}

"""Aggregates of one metric added together: nothing is lost but resolution where two scales meet."""

from __future__ import annotations

from collections.abc import Callable

from device_sdk.contract import Kind
from device_sdk.contract.buckets import MAX_BUCKETS, downscaled
from device_sdk.points import ExplicitHistogram, ExponentialHistogram, Side, Value


def merged(kind: Kind, left: Value, right: Value) -> Value:
    """Return two values of one metric as one: counts and buckets add, of levels and gauges the later one stands."""
    if isinstance(left, ExponentialHistogram) and isinstance(right, ExponentialHistogram):
        return _exponential(left, right)
    if isinstance(left, ExplicitHistogram) and isinstance(right, ExplicitHistogram):
        counts = [x + y for x, y in zip(left.counts, right.counts, strict=True)]
        return ExplicitHistogram(left.count + right.count, left.bounds, counts)
    if kind is Kind.COUNTER and isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left + right
    return right


def observations(value: Value) -> int:
    """Return how many measurements a value stands for: the count of a histogram or counter, else 1."""
    if isinstance(value, (ExponentialHistogram, ExplicitHistogram)):
        return value.count
    return value if isinstance(value, int) else 1


def _exponential(left: ExponentialHistogram, right: ExponentialHistogram) -> ExponentialHistogram:
    scale = min(left.scale, right.scale)
    while True:
        positive = _added(_at(left.positive, left.scale - scale), _at(right.positive, right.scale - scale))
        negative = _added(_at(left.negative, left.scale - scale), _at(right.negative, right.scale - scale))
        if max(len(positive.counts), len(negative.counts)) <= MAX_BUCKETS:
            break
        scale -= 1
    return ExponentialHistogram(
        count=left.count + right.count,
        scale=scale,
        zero_count=left.zero_count + right.zero_count,
        zero_threshold=max(left.zero_threshold, right.zero_threshold),
        positive=positive,
        negative=negative,
        total=_both(left.total, right.total, lambda x, y: x + y),
        minimum=_both(left.minimum, right.minimum, min),
        maximum=_both(left.maximum, right.maximum, max),
    )


def _at(side: Side, by: int) -> Side:
    return Side(*downscaled(side.offset, side.counts, by)) if side.counts else Side()


def _added(left: Side, right: Side) -> Side:
    if not left.counts or not right.counts:
        return left if left.counts else right
    first = min(left.offset, right.offset)
    last = max(left.offset + len(left.counts), right.offset + len(right.counts))
    counts = [0] * (last - first)
    for side in (left, right):
        for position, count in enumerate(side.counts, side.offset - first):
            counts[position] += count
    return Side(first, counts)


def _both(left: float | None, right: float | None, join: Callable[[float, float], float]) -> float | None:
    return join(left, right) if left is not None and right is not None else None

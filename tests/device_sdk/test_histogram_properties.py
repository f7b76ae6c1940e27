"""Exponential histograms as properties: quantiles within the scale's bound, downscaling exact, sums in any order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sdk import Feature
from device_sdk.contract import Kind
from device_sdk.contract.buckets import FEATURE_ZERO_THRESHOLD, MAX_BUCKETS, base_of, downscaled, lower_bound
from device_sdk.points import ExponentialHistogram, Side
from device_sdk.privacy.aggregate import merged
from device_sdk.signals.summaries import DurationHistogram, FeatureTable

QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
durations = st.lists(st.integers(1, 10**13), min_size=1, max_size=300)
narrow = st.lists(st.integers(10**6, 3 * 10**6), min_size=1, max_size=300)
values = st.lists(st.floats(-1000, 1000), min_size=1, max_size=300)


def of_durations(ns: list[int]) -> ExponentialHistogram:
    histogram = DurationHistogram()
    histogram.add(np.array(ns, dtype=np.int64))
    taken = histogram.take()
    assert taken is not None
    return taken


def of_values(numbers: list[float]) -> ExponentialHistogram:
    table = FeatureTable((Feature("x", column=0),))
    table.add(np.array(numbers, dtype=np.float64)[:, None])
    ((_, taken, _),) = table.take()
    assert taken is not None
    return taken


def quantile(histogram: ExponentialHistogram, q: float) -> float:
    """Return the geometric middle of the bucket that holds the q-quantile, 0 in the zero bucket."""
    buckets = [(-i, c) for i, c in reversed(list(enumerate(histogram.negative.counts, histogram.negative.offset)))]
    cells: list[tuple[float, int]] = [(-_middle(-i, histogram.scale), c) for i, c in buckets]
    cells.append((0.0, histogram.zero_count))
    cells += [
        (_middle(i, histogram.scale), c) for i, c in enumerate(histogram.positive.counts, histogram.positive.offset)
    ]
    rank, seen = max(1, math.ceil(q * histogram.count)), 0
    for middle, count in cells:
        seen += count
        if seen >= rank:
            return middle
    raise AssertionError("counts do not reach the rank")


def _middle(index: int, scale: int) -> float:
    return lower_bound(index, scale) * math.sqrt(base_of(scale))


def order_statistic(numbers: list[Any], q: float) -> float:
    return float(sorted(numbers)[max(1, math.ceil(q * len(numbers))) - 1])


@given(durations | narrow)
def test_a_quantile_of_durations_is_within_half_a_bucket_of_the_true_one(ns: list[int]) -> None:
    histogram = of_durations(ns)
    bound = math.sqrt(base_of(histogram.scale)) - 1  # 2.2 % at scale 4
    for q in QUANTILES:
        truth = order_statistic(ns, q) / 1e9
        assert abs(quantile(histogram, q) / truth - 1) <= bound * (1 + 1e-9)


@given(narrow)
def test_durations_of_one_model_keep_the_finest_scale(ns: list[int]) -> None:
    assert of_durations(ns).scale == 4
    assert math.sqrt(base_of(4)) - 1 == pytest.approx(0.0219, abs=1e-4)


@given(values)
def test_a_quantile_of_a_feature_is_within_half_a_bucket_or_the_zero_threshold(numbers: list[float]) -> None:
    histogram = of_values(numbers)
    bound = math.sqrt(base_of(histogram.scale)) - 1
    for q in QUANTILES:
        truth, found = order_statistic(numbers, q), quantile(histogram, q)
        if found == 0:
            assert abs(truth) <= FEATURE_ZERO_THRESHOLD
        else:
            # the buckets next to the zero bucket begin inside it: their middle may lie a whole bucket away
            edge = abs(truth) <= FEATURE_ZERO_THRESHOLD * base_of(histogram.scale)
            assert abs(found / truth - 1) <= (base_of(histogram.scale) - 1 if edge else bound) * (1 + 1e-9)


def same(left: Any, right: Any) -> bool:
    """Say whether two histograms are equal; sums of doubles may differ in the last places."""
    sums = left.total == pytest.approx(right.total, rel=1e-12)
    fields = ("count", "scale", "zero_count", "zero_threshold", "positive", "negative", "minimum", "maximum")
    return sums and all(getattr(left, name) == getattr(right, name) for name in fields)


def add(left: ExponentialHistogram, right: ExponentialHistogram) -> Any:
    return merged(Kind.EXPONENTIAL, left, right)


@given(durations | narrow, durations | narrow, durations | narrow)
def test_merging_is_associative_and_commutative_and_equals_counting_all_at_once(
    one: list[int], two: list[int], three: list[int]
) -> None:
    a, b, c = of_durations(one), of_durations(two), of_durations(three)
    assert same(add(a, b), add(b, a))
    assert same(add(add(a, b), c), add(a, add(b, c)))
    assert same(add(add(a, b), c), of_durations(one + two + three))
    assert max(len(add(a, add(b, c)).positive.counts), 0) <= MAX_BUCKETS


@given(values, values, values)
def test_merging_features_is_associative_and_commutative_and_equals_counting_all_at_once(
    one: list[float], two: list[float], three: list[float]
) -> None:
    a, b, c = of_values(one), of_values(two), of_values(three)
    assert add(a, b) == add(b, a)
    assert add(add(a, b), c) == add(a, add(b, c)) == of_values(one + two + three)


sides = st.builds(Side, st.integers(-300, 300), st.lists(st.integers(0, 10**9), min_size=1, max_size=80))


@given(sides, st.integers(0, 6))
def test_downscaling_moves_every_count_to_the_bucket_that_covers_its_own(side: Side, by: int) -> None:
    offset, counts = downscaled(side.offset, side.counts, by)
    assert sum(counts) == sum(side.counts)
    expected: dict[int, int] = {}
    for index, count in enumerate(side.counts, side.offset):
        expected[index >> by] = expected.get(index >> by, 0) + count
        # (lower, upper] of the fine bucket lies within the coarse one's, exactly: both bounds are powers of two
        assert (index >> by) << by <= index < ((index >> by) + 1) << by
    assert {offset + place: count for place, count in enumerate(counts) if count} == {
        index: count for index, count in expected.items() if count
    }


@given(sides, sides, st.integers(0, 5))
def test_downscaling_and_adding_change_places_freely(left: Side, right: Side, by: int) -> None:
    first = min(left.offset, right.offset)
    last = max(left.offset + len(left.counts), right.offset + len(right.counts))
    total = [0] * (last - first)
    for side in (left, right):
        for index, count in enumerate(side.counts, side.offset):
            total[index - first] += count
    together = downscaled(first, total, by)
    apart: dict[int, int] = {}
    for side in (left, right):
        offset, counts = downscaled(side.offset, side.counts, by)
        for place, count in enumerate(counts):
            apart[offset + place] = apart.get(offset + place, 0) + count
    assert {together[0] + place: count for place, count in enumerate(together[1]) if count} == {
        index: count for index, count in apart.items() if count
    }

"""Laws of the bucket tables, against exact integer arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sdk.contract.buckets import FEATURE_MAX_SCALE, LATENCY_MAX_SCALE, MAX_BUCKETS, downscaled
from device_sdk.signals import Feature
from device_sdk.signals.grids import (
    DURATION_FIRST,
    FEATURE_FIRST,
    SIDE,
    ZERO_BIN,
    duration_bounds_ns,
    feature_edges,
    floor_bound,
)
from device_sdk.signals.summaries import DurationHistogram, FeatureTable


def above_power(value: Fraction, index: int, scale: int) -> bool:
    """Say, exactly, whether value > 2**(index / 2**scale): compare value**(2**scale) with a power of two."""
    return value ** (2**scale) > Fraction(2) ** index


@given(st.integers(min_value=1, max_value=65_000_000_000_000))
def test_a_duration_lies_in_the_bucket_that_exact_arithmetic_names(ns: int) -> None:
    index = int(np.searchsorted(duration_bounds_ns(), ns)) - 1 + DURATION_FIRST
    seconds = Fraction(ns, 10**9)
    assert above_power(seconds, index, LATENCY_MAX_SCALE)
    assert not above_power(seconds, index + 1, LATENCY_MAX_SCALE)


@given(st.floats(min_value=0.0203, max_value=1023.9))
def test_a_feature_lies_in_the_bucket_that_exact_arithmetic_names_on_both_sides(value: float) -> None:
    position = int(np.searchsorted(feature_edges(), value))
    index = position - ZERO_BIN - 1 + FEATURE_FIRST
    assert above_power(Fraction(value), index, FEATURE_MAX_SCALE)
    assert not above_power(Fraction(value), index + 1, FEATURE_MAX_SCALE)
    assert int(np.searchsorted(feature_edges(), -value)) == 2 * SIDE - position


@pytest.mark.parametrize("octave", range(-5, 10))
def test_powers_of_two_belong_to_the_lower_bucket_and_the_next_double_to_the_upper(octave: int) -> None:
    value = 2.0**octave
    below, above = (int(np.searchsorted(feature_edges(), v)) for v in (value, math.nextafter(value, math.inf)))
    assert above == below + 1


@pytest.mark.parametrize("value", [0.02, -0.02, 0.0, -0.0, 1e-300, 0.0199])
def test_values_within_the_zero_threshold_are_zero(value: float) -> None:
    assert int(np.searchsorted(feature_edges(), value)) == ZERO_BIN


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2))
def test_bucket_index_is_monotone(values: list[float]) -> None:
    ordered = np.sort(np.array(values))
    assert (np.diff(np.searchsorted(feature_edges(), ordered)) >= 0).all()


@given(st.integers(min_value=-80, max_value=80))
def test_floor_bound_is_the_last_double_not_above_the_power(index: int) -> None:
    bound = floor_bound(index, 3)
    assert not above_power(Fraction(bound), index, 3)
    assert above_power(Fraction(math.nextafter(bound, math.inf)), index, 3)


@given(st.lists(st.integers(min_value=0, max_value=10**13), min_size=1, max_size=60))
def test_a_duration_histogram_keeps_every_count_and_the_exact_sum(values: list[int]) -> None:
    histogram = DurationHistogram()
    half = len(values) // 2
    histogram.add(np.array(values[:half], dtype=np.int64))
    histogram.add(np.array(values[half:], dtype=np.int64))
    taken = histogram.take()
    assert taken is not None
    assert taken.count == len(values)
    assert taken.total == sum(values) / 1e9
    assert (taken.minimum, taken.maximum) == (min(values) / 1e9, max(values) / 1e9)
    assert len(taken.positive.counts) <= MAX_BUCKETS
    assert taken.zero_count == values.count(0)
    assert histogram.take() is None


def test_a_wide_spread_of_durations_is_coarsened_to_160_buckets_without_losing_a_count() -> None:
    histogram = DurationHistogram()
    values = [10**power for power in range(14)]
    histogram.add(np.array(values, dtype=np.int64))
    taken = histogram.take()
    assert taken is not None
    assert taken.scale < LATENCY_MAX_SCALE
    assert sum(taken.positive.counts) == len(values)
    first, last = taken.positive.offset, taken.positive.offset + len(taken.positive.counts) - 1
    assert above_power(Fraction(1, 10**9), first, taken.scale)
    assert not above_power(Fraction(10**4), last + 1, taken.scale)


@given(
    st.integers(-300, 300),
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_downscaling_twice_is_downscaling_once_by_the_sum(offset: int, counts: list[int], a: int, b: int) -> None:
    once = downscaled(offset, counts, a + b)
    first_offset, first_counts = downscaled(offset, counts, a)
    assert downscaled(first_offset, first_counts, b) == once
    assert sum(once[1]) == sum(counts)


@given(st.lists(st.floats(width=32), min_size=1, max_size=100), st.integers(1, 99))
def test_folding_in_parts_equals_folding_at_once(values: list[float], cut: int) -> None:
    feature = Feature("x", column=0, center=3.0, unit=0.5, range=(-10.0, 10.0))
    whole, parts = FeatureTable((feature,)), FeatureTable((feature,))
    column = np.array(values, dtype=np.float64)[:, None]
    with np.errstate(all="ignore"):
        whole.add(column)
        for part in (column[:cut], column[cut:]):
            if len(part):
                parts.add(part)
    assert whole.take() == parts.take()


@given(st.lists(st.floats(), min_size=1, max_size=60))
def test_states_of_a_feature_sum_to_its_rows_and_finite_ones_to_its_histogram(values: list[float]) -> None:
    table = FeatureTable((Feature("x", column=0, range=(-1.0, 1.0)),))
    with np.errstate(all="ignore"):
        table.add(np.array(values)[:, None])
    ((_, histogram, states),) = table.take()
    assert sum(count for _, count in states) == len(values)
    finite = sum(math.isfinite(value) for value in values)
    assert (histogram.count if histogram is not None else 0) == finite

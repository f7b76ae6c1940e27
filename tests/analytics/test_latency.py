"""Quantiles of exponential histograms against the raw values they came from."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from analytics.latency import merge, merge_frame, quantiles
from device_sdk.contract.buckets import base_of


def bucketed(values: np.ndarray, scale: int):
    """Return (indices, counts): bucket i holds (base^i, base^(i+1)]."""
    index = np.ceil(np.log2(values) * 2.0**scale).astype(np.int64) - 1
    return np.unique(index, return_counts=True)


@pytest.mark.parametrize("scale", [2, 4, 6])
@pytest.mark.parametrize("spread", [0.3, 1.5])
def test_the_true_quantile_lies_within_the_bucket_and_its_error_bound(scale, spread):
    values = np.random.default_rng(scale).lognormal(-4, spread, 20_000)
    index, counts = bucketed(values, scale)
    histogram = merge([scale] * len(index), index, counts)
    for found in quantiles(histogram, [0.01, 0.5, 0.95, 0.99]):
        truth = float(np.quantile(values, found.q, method="inverted_cdf"))
        assert found.low <= truth <= found.high
        assert abs(found.value / truth - 1) <= histogram.error
        assert histogram.error == base_of(scale) - 1


def test_inside_a_bucket_the_quantile_is_log_linear():
    found = quantiles(merge([0], [3], [4]), [0.0, 0.25, 0.5, 1.0])
    assert [item.value for item in found] == pytest.approx([8.0, 8 * 2**0.25, 8 * 2**0.5, 16.0])


def test_histograms_of_different_scales_merge_at_the_lower_one_exactly():
    values = np.random.default_rng(1).lognormal(0, 1, 5000)
    fine, coarse = bucketed(values[:2500], 5), bucketed(values[2500:], 3)
    merged = merge(
        [5] * len(fine[0]) + [3] * len(coarse[0]), np.concatenate([fine[0], coarse[0]]),
        np.concatenate([fine[1], coarse[1]]),
    )  # fmt: skip
    index, counts = bucketed(values, 3)
    assert (merged.scale, merged.index, merged.counts) == (3, tuple(index), tuple(counts))


def test_zeros_count_below_every_bucket():
    histogram = merge([1], [0], [5], zeros=5)
    values = [item.value for item in quantiles(histogram, [0.1, 0.5, 0.75])]
    assert values[:2] == [0.0, 0.0]
    assert 1.0 < values[2] <= 2**0.5


def test_nothing_observed_is_no_histogram():
    assert merge([], [], []) is None
    assert merge([3], [2], [0]) is None
    assert quantiles(merge([], [], [], zeros=3), [0.5])[0].value == 0.0


def test_a_quantile_outside_nought_to_one_is_refused():
    with pytest.raises(ValueError, match="from 0 to 1"):
        quantiles(merge([0], [0], [1]), [95])


def test_rows_of_distribution_hours_become_one_histogram():
    frame = pl.DataFrame({"side": [1, 1, 0], "scale": [4, 4, 4], "bucket_index": [7, 7, 0], "n": [2, 3, 4]})
    histogram = merge_frame(frame)
    assert (histogram.zeros, histogram.counts, histogram.total) == (4, (5,), 9)

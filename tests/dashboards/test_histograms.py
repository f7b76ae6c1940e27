from __future__ import annotations

import math
from typing import Any

import pytest

from dashboards import histograms
from dashboards.rows import verdict_of


def item(bucket: int, n: int, scale: int, **more: Any) -> dict[str, Any]:
    return {"hour_ns": 1, "side": "positive", "scale": scale, "bucket_index": bucket, "n": n, **more}


def test_rows_of_different_scales_are_merged_without_losing_a_count() -> None:
    merged = histograms.merge([item(-21, 4, 4), item(-24, 3, 4), item(-6, 5, 2)])
    assert merged == {1: {-6: 12.0}}
    low, high = histograms.bounds(-6)
    assert low < 2 ** (-21 / 16) <= high


def test_a_coarser_row_coarsens_the_picture_and_keeps_its_bounds() -> None:
    merged = histograms.merge([item(-3, 7, 1), item(-5, 2, 2)])
    assert sum(merged[1].values()) == 9.0
    assert set(merged[1]) == {-6}


def test_only_positive_exponential_buckets_are_drawn() -> None:
    rows = [item(1, 1, 2, side="negative"), item(0, 1, 2, side="zero"), {**item(3, 1, 2), "scale": None}]
    assert histograms.merge(rows) == {}


@pytest.mark.parametrize("q", [0.05, 0.5, 0.95])
def test_a_quantile_is_log_linear_inside_its_bucket(q: float) -> None:
    value = histograms.quantile({4: 100.0}, q)
    assert value == pytest.approx(2 ** ((4 + q) / 4))
    assert histograms.quantile({}, q) is None


def test_inner_edges_gain_open_ends_no_narrower_than_the_spread() -> None:
    assert histograms.binned([1.0, 2.0, 4.0], 4, tail=5.0) == [-4.0, 1.0, 2.0, 4.0, 9.0]
    assert histograms.binned([0.0, 1.0, 2.0], 2) == [0.0, 1.0, 2.0]
    assert histograms.binned([], 2) == [0.0, 1.0, 2.0]


def drift(edges: list[float], reference: list[float], current: list[float]) -> Any:
    detail = {"edges": edges, "labels": [], "reference_share": reference, "current_share": current, "spread": 1.0}
    return verdict_of({"signal": "input:x", "detail": detail, "verdict": "drift"}, "drift")


def test_the_picture_fills_exactly_what_lies_over_and_under_the_reference() -> None:
    marks, _, over, (where, _) = histograms.picture_marks(drift([0, 1, 2, 3], [0.2, 0.6, 0.2], [0.6, 0.3, 0.1]))
    assert over == pytest.approx(0.4)
    assert where == 0.5
    assert all(mark["lo"] == min(mark["y"], mark["y2"]) and mark["hi"] == max(mark["y"], mark["y2"]) for mark in marks)


def test_bins_of_different_widths_are_compared_by_density() -> None:
    marks, step, _, _ = histograms.picture_marks(drift([0, 1, 11], [0.5, 0.5], [0.5, 0.5]))
    assert step
    assert marks[0]["y"] / marks[1]["y"] == pytest.approx(10.0)
    assert not histograms.evenly(drift([0, 1, 11], [0.5, 0.5], [0.5, 0.5]))


def test_a_signal_without_buckets_has_no_picture() -> None:
    assert histograms.picture_marks(drift([], [], []))[0] == []
    assert math.isclose(sum(histograms.merge([item(0, 3, 2)])[1].values()), 3.0)

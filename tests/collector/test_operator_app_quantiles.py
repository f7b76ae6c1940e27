"""Quantiles of the query API: where in a bucket, which buckets merge, what a cumulative stream adds."""

import math

import pyarrow as pa
import pytest
from store_kit import CUMULATIVE, T0, Request, S, get, put, resource_of

from collector.api.quantiles import Histogram, quantile

ARROW = "application/vnd.apache.arrow.stream"


def test_quantiles_are_log_linear_in_exponential_and_linear_in_explicit_buckets(client, store, tmp_path):
    request = Request(**resource_of("a"))
    request.exponential("e", T0, T0 + S, [10, 30], scale=0, offset=0)
    request.explicit("h", T0, T0 + S, [1.0, 3.0], [0, 8, 2])
    request.sum("n", T0, T0 + S, 4)
    put(store, tmp_path, request)
    (item,) = get(client, "metrics/e/quantiles", q="0,0.125,0.25,0.625,1")["items"]
    values = [entry["value"] for entry in item["quantiles"]]
    assert values == pytest.approx([1, 2**0.5, 2, 2**1.5, 4])
    assert [entry["q"] for entry in item["quantiles"]] == [0, 0.125, 0.25, 0.625, 1]
    (item,) = get(client, "metrics/h/quantiles", q="0.4,0.8,0.99")["items"]
    assert [entry["value"] for entry in item["quantiles"]] == pytest.approx([2.0, 3.0, 3.0])
    assert get(client, "metrics/n/quantiles")["items"] == []


def test_a_histogram_without_buckets_has_a_count_and_null_quantiles(client, store, tmp_path):
    request = Request(**resource_of("a")).explicit("h", T0, T0 + S, [], [])
    point = request.message.resource_metrics[0].scope_metrics[0].metrics[0].histogram.data_points[0]
    point.count, point.sum = 5, 10.0
    put(store, tmp_path, request)
    (item,) = get(client, "metrics/h/quantiles", q="0.5")["items"]
    assert (item["count"], item["sum"], item["quantiles"]) == (5, 10.0, [{"q": 0.5, "value": None}])


def test_arrow_holds_sums_that_json_writes_as_words_and_grids_that_only_some_have(client, store, tmp_path):
    request = Request(**resource_of("a"))
    request.explicit("h", T0, T0 + S, [1.0], [1, 2], k="a")
    request.explicit("h", T0, T0 + S, [1.0], [1, 2], k="b", **{"edge.feature.grid": "c=0;u=1"})
    points = [
        metric.histogram.data_points[0] for metric in request.message.resource_metrics[0].scope_metrics[0].metrics
    ]
    points[0].sum, points[1].sum = math.nan, 4.5
    put(store, tmp_path, request)
    answer = client.get("/api/v1/metrics/h/quantiles", params={"by": "k"}, headers={"accept": ARROW})
    assert answer.status_code == 200, answer.text
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.schema.field("sum").type == pa.float64()
    assert [math.isnan(value) for value in table.column("sum").to_pylist()] == [True, False]
    assert table.column("grid").to_pylist() == [None, "c=0;u=1"]


@pytest.mark.parametrize("absurd", [2**63 - 1, 2**62])
def test_one_device_s_absurd_counts_do_not_overflow_the_fleet_s(client, store, tmp_path, absurd):
    for device, counts in (("good", [10, 30]), ("mad", [absurd]), ("madder", [absurd])):
        put(store, tmp_path, Request(**resource_of(device)).exponential("e", T0, T0 + S, counts, scale=0))
    (item,) = get(client, "metrics/e/quantiles", q="0.5")["items"]
    assert item["count"] == 40
    assert item["quantiles"][0]["value"] == pytest.approx(2 ** (1 + 1 / 3))
    assert len(get(client, "metrics/e/points")["items"]) == 3


def test_mixed_scales_merge_by_downscaling(client, store, tmp_path):
    request = Request(**resource_of("a"))
    request.exponential("e", T0, T0 + S, [1, 1, 1, 1], scale=2, offset=0)
    request.exponential("e", T0 + S, T0 + 2 * S, [4], scale=0, offset=0)
    put(store, tmp_path, request)
    (item,) = get(client, "metrics/e/quantiles", q="0.5")["items"]
    assert item["count"] == 8
    assert item["quantiles"][0]["value"] == pytest.approx(2**0.5)


def test_cumulative_histograms_count_only_what_was_added(client, store, tmp_path):
    request = Request(**resource_of("a"))
    for at, start, counts in ((1, 0, [5, 0]), (2, 0, [5, 3]), (3, 0, [9, 3]), (4, 0, [1, 1]), (5, 4, [2, 2])):
        request.exponential("e", T0 + start, T0 + at * S, counts, scale=0, temporality=CUMULATIVE)
    put(store, tmp_path, request)
    (item,) = get(client, "metrics/e/quantiles")["items"]
    assert item["count"] == 12 + 2 + 4
    (item,) = get(client, "metrics/e/quantiles", from_=T0 + 2 * S, to=T0 + 4 * S)["items"]
    assert item["count"] == 3 + 4


def test_values_on_a_pinned_grid_are_transformed_back_and_grids_never_merge(client, store, tmp_path):
    request = Request(**resource_of("a"))
    for grid in ("c=100;u=10", "c=0;u=1"):
        request.exponential("edge.input.value", T0, T0 + S, [4], scale=0, unit="1", **{"edge.feature.grid": grid})
    put(store, tmp_path, request)
    items = get(client, "metrics/edge.input.value/quantiles", q="1")["items"]
    assert {item["grid"]: item["quantiles"][0]["value"] for item in items} == {"c=100;u=10": 120.0, "c=0;u=1": 2.0}


@pytest.mark.parametrize(
    ("histogram", "q", "value"),
    [
        (Histogram(4, None, scale=0, negative=(2,), negative_offset=0, positive=(2,)), 0.0, -2.0),
        (Histogram(4, None, scale=0, negative=(2,), negative_offset=0, positive=(2,)), 0.5, -1.0),
        (Histogram(4, None, scale=0, negative=(2,), negative_offset=0, positive=(2,)), 0.25, -(2**0.5)),
        (Histogram(2, None, zero_count=2, zero_threshold=0.5), 0.5, 0.25),
        (Histogram(4, None, zero_count=2, zero_threshold=0.5, negative=(2,)), 0.75, 0.0),
        (Histogram(0, None), 0.5, None),
        (Histogram(3, None, bounds=(-1.0, 1.0), counts=(3, 0, 0)), 0.5, -1.0),
        (Histogram(3, None, bounds=(1.0, 2.0), counts=(0, 0, 3)), 0.5, 2.0),
    ],
)
def test_quantiles_of_negative_zero_and_outer_buckets(histogram, q, value):
    found = quantile(histogram, q)
    assert found == value or found == pytest.approx(value)


@pytest.mark.parametrize("scale", [-32768, -1000, 32767])
def test_absurd_scales_are_answered_not_crashed_on(client, store, tmp_path, scale):
    request = Request(**resource_of("a"))
    request.exponential("e", T0, T0 + S, [1, 2], scale=scale, offset=-1).exponential("e", T0, T0 + 2 * S, [1], scale=3)
    put(store, tmp_path, request)
    (item,) = get(client, "metrics/e/quantiles", q="0,0.5,1")["items"]
    assert item["count"] == 4
    assert len(item["quantiles"]) == 3

"""Metrics decoding: every kind exactly, impossible points alone refused, ids by content."""

from __future__ import annotations

import json
import math
from hashlib import blake2b
from typing import Any

import pytest
from ingest_kit import MINUTE, T, rows
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from store_kit import Request

from collector.api.decode import decode_metrics
from collector.api.decode_metrics import MetricsDecoder
from collector.ingest.batch import to_tables
from device_sdk.contract import attributes as keys

RECEIVED = T + 5 * MINUTE
ID = "service.instance.id"


def decoded(request: Request) -> Any:
    return MetricsDecoder().decode(request.message.SerializeToString(), RECEIVED)


def one(request: Request) -> dict[str, Any]:
    batch = decoded(request)
    assert batch.rejected == {}
    (row,) = rows(batch)
    (series,) = rows(batch, "series")
    return {**series, "series_attributes": series["attributes"], **row}


def last_point(request: Request) -> Any:
    metric = request.message.resource_metrics[0].scope_metrics[0].metrics[-1]
    return getattr(metric, metric.WhichOneof("data")).data_points[-1]


def test_an_integer_sum_keeps_kind_unit_temporality_times_and_exact_value() -> None:
    row = one(Request(**{ID: "a"}).sum("runs", T, T + MINUTE, 2**53 + 1, unit="{run}", k="v"))
    assert (row["kind"], row["unit"], row["temporality"], row["monotonic"]) == ("sum", "{run}", "delta", True)
    assert (row["start_ns"], row["time_ns"], row["received_ns"]) == (T, T + MINUTE, RECEIVED)
    assert (row["value_int"], row["value_double"], row["no_recorded_value"]) == (2**53 + 1, None, False)
    assert row["series_attributes"] == '{"k":"v"}'
    assert (row["scope_name"], row["scope_version"]) == ("device_sdk", "1")


def test_a_cumulative_sum_that_may_fall_is_told_apart_from_a_delta() -> None:
    row = one(Request().sum("open", T, T + 1, -3, temporality=2, monotonic=False))
    assert (row["temporality"], row["monotonic"], row["value_int"]) == ("cumulative", False, -3)


@pytest.mark.parametrize("value", [0.1, -1e300, math.inf, -math.inf, 5e-324])
def test_a_double_gauge_keeps_every_bit(value: float) -> None:
    row = one(Request().gauge("g", T, value))
    assert (row["kind"], row["temporality"], row["monotonic"]) == ("gauge", None, None)
    assert (row["value_int"], row["value_double"], row["start_ns"]) == (None, value, 0)


def test_nan_is_a_value() -> None:
    assert math.isnan(one(Request().gauge("g", T, math.nan))["value_double"])


def test_a_point_without_recorded_value_is_kept_as_such() -> None:
    row = one(Request().gauge("g", T, 0, flags=1))
    assert (row["no_recorded_value"], row["value_int"], row["value_double"]) == (True, None, None)
    request = Request().exponential("h", T, T + 1, [])
    last_point(request).flags = 1
    row = one(request)
    assert (row["no_recorded_value"], row["count"], row["scale"], row["positive_counts"]) == (True, None, None, ())


def test_other_flag_bits_mean_nothing() -> None:
    request = Request().gauge("g", T, 4)
    last_point(request).flags = 0xFE
    assert one(request)["value_int"] == 4


def test_an_explicit_histogram_keeps_counts_with_the_point_and_bounds_with_the_series() -> None:
    row = one(Request().explicit("h", T, T + 1, [0.5, 1.0], [1, 2, 3]))
    assert (row["kind"], row["count"], row["counts"], row["bounds"]) == ("histogram", 6, (1, 2, 3), (0.5, 1.0))
    assert (row["sum"], row["min"], row["max"], row["scale"]) == (None, None, None, None)


def test_other_bounds_are_another_series() -> None:
    batch = decoded(Request().explicit("h", T, T + 1, [0.5], [1, 2]).explicit("h", T, T + 1, [0.6], [1, 2]))
    assert len(batch.series) == 2


def test_sum_min_and_max_of_zero_are_not_absent() -> None:
    request = Request().exponential("h", T, T + 1, [1])
    point = last_point(request)
    point.sum = point.min = point.max = 0.0
    row = one(request)
    assert (row["sum"], row["min"], row["max"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("scale", [-10, 0, 3, 20])
def test_an_exponential_histogram_keeps_both_sides_at_any_scale(scale: int) -> None:
    request = Request().exponential("h", T, T + 1, [1, 0, 2], scale=scale, offset=-7, zero=4, negative=(5, 6))
    point = last_point(request)
    point.negative.offset, point.zero_threshold = -(2**31), 0.02
    row = one(request)
    assert (row["scale"], row["zero_count"], row["zero_threshold"], row["count"]) == (scale, 4, 0.02, 18)
    assert (row["positive_offset"], row["positive_counts"]) == (-7, (1, 0, 2))
    assert (row["negative_offset"], row["negative_counts"]) == (-(2**31), (5, 6))


def test_a_summary_keeps_its_quantiles() -> None:
    row = one(Request().summary("s", T, 9, 4.5, {0.0: 1.0, 0.99: 2.0}))
    assert (row["kind"], row["count"], row["sum"]) == ("summary", 9, 4.5)
    assert (row["quantiles"], row["quantile_values"]) == ((0.0, 0.99), (1.0, 2.0))


def test_an_empty_request_and_empty_envelopes_hold_nothing() -> None:
    message = ExportMetricsServiceRequest()
    message.resource_metrics.add().scope_metrics.add().metrics.add().name = "no data"
    for body in (b"", message.SerializeToString()):
        batch = decode_metrics(body, 1)
        assert (batch.accepted, batch.rejected, batch.resources) == (0, {}, {})


# --- what can never be stored -----------------------------------------------------------------------------------


def _without_time(request: Request) -> None:
    last_point(request.gauge("bad", T, 1)).time_unix_nano = 0


def _beyond_2262(request: Request) -> None:
    last_point(request.gauge("bad", T, 1)).time_unix_nano = 2**63


def _ends_before_it_starts(request: Request) -> None:
    request.sum("bad", T + 1, T, 1)


def _without_value(request: Request) -> None:
    last_point(request.gauge("bad", T, 1)).ClearField("as_int")


def _without_name(request: Request) -> None:
    request.gauge("", T, 1)


def _without_temporality(request: Request) -> None:
    request.sum("bad", T, T + 1, 1, temporality=0)


def _unknown_temporality(request: Request) -> None:
    request.exponential("bad", T, T + 1, [1], temporality=7)


def _counts_do_not_fit_bounds(request: Request) -> None:
    request.explicit("bad", T, T + 1, [1.0, 2.0], [1, 2])


def _bounds_fall(request: Request) -> None:
    request.explicit("bad", T, T + 1, [2.0, 1.0], [1, 2, 3])


def _bounds_are_nan(request: Request) -> None:
    request.explicit("bad", T, T + 1, [math.nan], [1, 2])


def _count_beyond_int64(request: Request) -> None:
    last_point(request.exponential("bad", T, T + 1, [1])).count = 2**63


def _bucket_beyond_int64(request: Request) -> None:
    request.exponential("bad", T, T + 1, [1])
    last_point(request).positive.bucket_counts[0] = 2**64 - 1


def _explicit_buckets_hold_more(request: Request) -> None:
    last_point(request.explicit("bad", T, T + 1, [1.0], [1, 2])).count = 2


def _scale_beyond_tables(request: Request) -> None:
    request.exponential("bad", T, T + 1, [1], scale=2**15)


def _index_beyond_int32(request: Request) -> None:
    request.exponential("bad", T, T + 1, [1, 1], offset=2**31 - 1)


def _quantile_above_one(request: Request) -> None:
    request.summary("bad", T, 1, 1.0, {1.5: 2.0})


IMPOSSIBLE = {
    "time": [_without_time, _beyond_2262],
    "start_after_time": [_ends_before_it_starts],
    "value": [_without_value],
    "name": [_without_name],
    "temporality": [_without_temporality, _unknown_temporality],
    "buckets": [_counts_do_not_fit_bounds],
    "bounds": [_bounds_fall, _bounds_are_nan],
    "count": [_count_beyond_int64],
    "bucket_sum": [_bucket_beyond_int64, _explicit_buckets_hold_more],
    "scale": [_scale_beyond_tables],
    "bucket_index": [_index_beyond_int32],
    "quantile": [_quantile_above_one],
}


@pytest.mark.parametrize(
    ("reason", "make"), [(reason, make) for reason, makers in IMPOSSIBLE.items() for make in makers]
)
def test_an_impossible_point_is_refused_alone_with_its_reason(reason: str, make: Any) -> None:
    request = Request().sum("good", T, T + 1, 1)
    make(request)
    request.sum("good too", T, T + 1, 2)
    batch = decoded(request)
    assert batch.rejected == {reason: 1}
    assert [row["value_int"] for row in rows(batch)] == [1, 2]
    assert {row["metric"] for row in rows(batch, "series")} == {"good", "good too"}
    assert batch.message().startswith(f"1 x {reason}: ")


def test_a_count_above_its_buckets_is_possible_because_nan_has_no_bucket() -> None:
    request = Request().exponential("h", T, T + 1, [1, 2])
    last_point(request).count = 10
    assert one(request)["count"] == 10


def test_a_request_of_only_impossible_points_leaves_no_dictionary_rows() -> None:
    batch = decoded(Request().sum("bad", T + 1, T, 1))
    assert (batch.series, batch.resources, batch.streams, batch.windows) == ({}, {}, {}, {})


def test_exemplars_are_dropped_counted_and_mentioned() -> None:
    request = Request().sum("runs", T, T + 1, 3).exponential("h", T, T + 1, [1])
    for metric in request.message.resource_metrics[0].scope_metrics[0].metrics:
        getattr(metric, metric.WhichOneof("data")).data_points[0].exemplars.add(as_double=1, time_unix_nano=T)
    batch = decoded(request)
    assert (batch.accepted, batch.rejected_total, batch.exemplars_dropped) == (2, 0, 2)
    assert "2 exemplars dropped" in batch.message()


# --- identity ---------------------------------------------------------------------------------------------------


def test_ids_do_not_depend_on_the_order_of_attributes() -> None:
    one_way = decoded(Request(a="1", b="2").sum("m", T, T + 1, 1, x=1, y=2))
    other = decoded(Request(b="2", a="1").sum("m", T, T + 1, 1, y=2, x=1))
    for table in ("series", "resources", "cohorts", "streams"):
        assert getattr(one_way, table).keys() == getattr(other, table).keys()


def test_values_of_different_types_are_different_series() -> None:
    request = Request()
    for value in (1, 1.0, "1", True, [1], ["1"]):
        request.sum("m", T, T + 1, 1, x=value)
    assert len(decoded(request).series) == 6


def test_attribute_values_keep_their_types_in_canonical_json() -> None:
    request = Request().gauge("m", T, 1, s="é", i=2**60, d=2.0, t=True, l=[1, "a"])
    point = last_point(request)
    point.attributes.add(key="b").value.bytes_value = b"\x00\xff"
    point.attributes.add(key="n").value.double_value = math.nan
    point.attributes.add(key="e").value.SetInParent()
    point.attributes.add(key="k").value.kvlist_value.values.add(key="z").value.int_value = 1
    text = one(request)["series_attributes"]
    assert json.loads(text) == {
        "s": "é", "i": 2**60, "d": 2.0, "t": True, "l": [1, "a"], "b": {"bytes": "AP8="}, "n": "NaN", "e": None,
        "k": {"z": 1},
    }  # fmt: skip
    assert '"d":2.0' in text
    assert '"i":1152921504606846976' in text


def test_the_ids_are_the_published_hashes() -> None:
    def hashed(text: str) -> bytes:
        return blake2b(text.encode(), digest_size=16).digest()

    batch = decoded(
        Request(**{ID: "abc", keys.TIER: "cam", "edge.label.shop": "7", "os.type": "linux"}).explicit(
            "h", T, T + 1, [1.0], [0, 1], unit="s", k=1
        )
    )
    (point,) = rows(batch)
    assert point["stream"] == hashed("i:abc")
    assert point["resource"] == hashed(
        '{"edge.device.tier":"cam","edge.label.shop":"7","os.type":"linux","service.instance.id":"abc"}'
    )
    assert point["cohort"] == hashed('{"edge.device.tier":"cam","edge.label.shop":"7"}')
    assert point["series"] == hashed('["h","histogram","s","delta",null,"device_sdk",{"k":1},[1.0]]')
    assert rows(batch, "cohorts")[0]["tier"] == "cam"


def test_scope_version_and_other_resource_attributes_are_not_part_of_a_point_s_key() -> None:
    first, second = Request(**{ID: "a", "os.version": "1"}), Request(**{ID: "a", "os.version": "2"})
    second.message.resource_metrics[0].scope_metrics[0].scope.version = "9"
    before, after = (decoded(request.sum("m", T, T + 1, 1)) for request in (first, second))
    assert before.series.keys() == after.series.keys()
    assert before.streams.keys() == after.streams.keys()
    assert before.resources.keys() != after.resources.keys()


@pytest.mark.parametrize(
    ("resource", "device"),
    [
        ({"device.id": "d", "app.installation.id": "i", ID: "s"}, "d"),
        ({"app.installation.id": "i", ID: "s"}, "i"),
        ({"device.id": "", ID: "s"}, "s"),
        ({"device.id": 7}, "7"),
    ],
)
def test_the_device_is_the_first_identity_the_resource_carries(resource: dict[str, Any], device: str) -> None:
    (stream,) = rows(decoded(Request(**resource).gauge("m", T, 1)), "streams")
    assert stream["device_id"] == device
    assert stream["first_received_ns"] == RECEIVED


def test_senders_without_identity_are_told_apart_by_their_whole_resource() -> None:
    one_host, other = decoded(Request(h="1").gauge("m", T, 1)), decoded(Request(h="2").gauge("m", T, 1))
    assert one_host.streams.keys() != other.streams.keys()
    (stream,) = rows(one_host, "streams")
    assert stream["device_id"] == "unknown:" + stream["resource"].hex()[:8]


def test_model_and_version_are_columns_of_their_own() -> None:
    row = one(Request().sum("m", T, T + 1, 1, **{keys.MODEL_NAME: "digits", keys.MODEL_VERSION: "3"}))
    assert (row["model"], row["version"]) == ("digits", "3")


# --- windows ----------------------------------------------------------------------------------------------------


def test_each_window_of_a_request_is_one_ledger_row_with_its_seal() -> None:
    request = Request(**{ID: "a"})
    for sequence in range(3):
        start = T + sequence * MINUTE
        request.sum("m", start, start + MINUTE, 1).window(start, start + MINUTE, sequence, count=2, points=4)
    table = to_tables([decoded(request)])["windows"].to_pylist()
    assert [(row["start_ns"], row["sequence"], row["window_count"], row["window_points"]) for row in table] == [
        (T + n * MINUTE, n, 2, 4) for n in range(3)
    ]


def test_an_envelope_or_a_foreign_window_has_no_sequence() -> None:
    request = Request(**{ID: "a"}).window(T, T + 1, 5).gauge("edge.clock.offset", T + 9, 0.25, start=T + 9)
    windows = {key[1:]: facts for key, facts in decoded(request).windows.items()}
    assert windows[(T, T + 1)].sequence == 5
    assert windows[(T + 9, T + 9)].sequence is None


def test_a_negative_or_fractional_sequence_is_stored_but_not_believed() -> None:
    request = Request().gauge("edge.window.sequence", T, -1).gauge("edge.window.sequence", T + 1, 0.5)
    batch = decoded(request)
    assert batch.accepted == 2
    assert [facts.sequence for facts in batch.windows.values()] == [None, None]

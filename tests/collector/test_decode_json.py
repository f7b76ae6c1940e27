"""OTLP/JSON: the protobuf mapping with OTLP's own rules, and never a crash."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_kit import T, rows
from store_kit import Request

from collector.api.decode import (
    MalformedRequestError,
    decode_logs_json,
    decode_metrics,
    decode_metrics_json,
    decode_traces_json,
)
from collector.ingest.batch import to_tables


def metrics_json(metric: dict[str, Any], **resource: Any) -> bytes:
    return json.dumps({"resourceMetrics": [{**resource, "scopeMetrics": [{"metrics": [metric]}]}]}).encode()


def number(**point: Any) -> bytes:
    return metrics_json({"name": "m", "gauge": {"dataPoints": [{"timeUnixNano": str(T), **point}]}})


def log(**record: Any) -> bytes:
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode()


def only(body: bytes) -> dict[str, Any]:
    (row,) = rows(decode_metrics_json(body, 1))
    return row


@pytest.mark.parametrize("value", ["9007199254740993", 9007199254740993, "-1", 3.0])
def test_integers_come_as_strings_or_numbers(value: Any) -> None:
    assert only(number(asInt=value))["value_int"] == int(value)


@pytest.mark.parametrize(
    ("value", "expected"), [("Infinity", math.inf), ("-Infinity", -math.inf), ("1.5", 1.5), (2, 2.0)]
)
def test_doubles_come_as_numbers_or_words(value: Any, expected: float) -> None:
    assert only(number(asDouble=value))["value_double"] == expected
    assert math.isnan(only(number(asDouble="NaN"))["value_double"])


def test_trace_ids_are_hex_in_any_case() -> None:
    batch = decode_logs_json(
        log(timeUnixNano=T, traceId="5B8EFFF798038103D269B633813FC60C", spanId="eee19b7ec3c1b174"), 1
    )
    (row,) = rows(batch, "logs")
    assert (row["trace_id"], row["span_id"]) == ("5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174")


def test_a_base64_trace_id_is_refused() -> None:
    with pytest.raises(MalformedRequestError, match=r"logRecords\[0\]\.traceId is .* not hex"):
        decode_logs_json(log(traceId="W47/95gDgQPSabYzgT/GDA=="), 1)


def test_other_bytes_are_base64_with_or_without_padding() -> None:
    for text in ("AP8=", "AP8", "AP-_"):
        body = number(asInt=1, attributes=[{"key": "k", "value": {"bytesValue": text}}])
        assert '"bytes":"AP' in rows(decode_metrics_json(body, 1), "series")[0]["attributes"]


def test_enums_are_integers_only() -> None:
    point = {"timeUnixNano": T, "asInt": 1}
    good = metrics_json({"name": "m", "sum": {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": [point]}})
    assert rows(decode_metrics_json(good, 1), "series")[0]["temporality"] == "delta"
    named = good.replace(b": 1, ", b': "AGGREGATION_TEMPORALITY_DELTA", ', 1)
    with pytest.raises(MalformedRequestError, match="no enum names"):
        decode_metrics_json(named, 1)
    with pytest.raises(MalformedRequestError, match="no enum names"):
        decode_logs_json(log(severityNumber="SEVERITY_NUMBER_INFO"), 1)


def test_unknown_keys_and_nulls_are_ignored() -> None:
    body = number(asInt=1, startTimeUnixNano=None, somethingNew={"deep": [1]}, exemplars=[])
    assert only(body)["start_ns"] == 0


def test_snake_case_keys_are_unknown_keys() -> None:
    assert decode_metrics_json(b'{"resource_metrics": [{"scope_metrics": []}]}', 1).accepted == 0
    assert decode_metrics_json(number(as_int=1), 1).rejected == {"value": 1}


def test_empty_bodies_hold_nothing() -> None:
    for body in (b"", b"{}", b'{"resourceMetrics": []}'):
        assert decode_metrics_json(body, 1).accepted == 0
        assert decode_traces_json(body, 1).rejected == {}


def test_json_and_protobuf_of_one_request_are_the_same_rows() -> None:
    request = (
        Request(**{"service.instance.id": "a", "n": 1, "d": 1.0})
        .sum("s", T, T + 1, 2**60, k=True)
        .gauge("g", T, 0.1)
        .explicit("h", T, T + 1, [1.0], [1, 2])
        .exponential("e", T, T + 1, [1, 2], offset=-3, negative=(4,), total=1.5)
        .summary("q", T, 3, 1.0, {0.5: 2.0})
    )
    as_json = json_format.MessageToDict(request.message)
    for metric in as_json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]:
        for data in metric.values():
            if isinstance(data, dict) and "aggregationTemporality" in data:
                data["aggregationTemporality"] = 1
    one = decode_metrics(request.message.SerializeToString(), 7)
    other = decode_metrics_json(json.dumps(as_json).encode(), 7)
    for name, table in to_tables([one]).items():
        assert table.equals(to_tables([other])[name]), name


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b"1", b"\xff\xfe", b'"x"', b'{"resourceMetrics": {}}', b'{"resourceMetrics": [1]}',
        number(asInt="x"), number(asInt="1.5"), number(asInt=1.5), number(asInt=True), number(asInt=2**63),
        number(asInt="9" * 5000), number(asDouble="x"), number(asDouble=True), number(asDouble=[]),
        number(asInt=1, asDouble=2), number(asInt=1, flags=-1), number(asInt=1, attributes=[{"key": 5}]),
        number(asInt=1, attributes=[{"key": "k", "value": {"boolValue": "true"}}]),
        number(asInt=1, attributes=[{"key": "k", "value": {"bytesValue": "%%"}}]),
        number(asInt=1, attributes=[{"key": "\ud800", "value": {}}]),
        number(asDouble=10**400),
        b'{"resourceMetrics":' + b"1" * 5_000 + b"}",
        b"[" * 100_000,
        b'{"resourceMetrics":' * 5_000,
    ],
)  # fmt: skip
def test_what_is_no_request_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        decode_metrics_json(body, 1)


def test_values_nested_deeper_than_protobuf_allows_are_malformed() -> None:
    value: dict[str, Any] = {"intValue": 1}
    for _ in range(200):
        value = {"arrayValue": {"values": [value]}}
    with pytest.raises(MalformedRequestError):
        decode_metrics_json(number(asInt=1, attributes=[{"key": "k", "value": value}]), 1)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["resourceMetrics", "scopeMetrics", "metrics", "gauge", "sum", "dataPoints", "asInt", "name", "attributes",
             "key", "value", "stringValue", "timeUnixNano", "resource", "exponentialHistogram", "positive", "offset"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(JSON_VALUES)
def test_any_json_is_decoded_or_refused(document: Any) -> None:
    with contextlib.suppress(MalformedRequestError):
        to_tables([decode_metrics_json(json.dumps(document).encode(), 1)])


@settings(max_examples=100, deadline=None)
@given(JSON_VALUES)
def test_any_json_below_a_real_envelope_is_decoded_or_refused(document: Any) -> None:
    body = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "gauge": document}]}]}]})
    with contextlib.suppress(MalformedRequestError):
        to_tables([decode_metrics_json(body.encode(), 1)])

"""Logs decoding: events with their uid, records of other senders with a content hash, spans only counted."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_kit import T, rows
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from store_kit import attributes

from collector.api.decode import MalformedRequestError, decode_logs, decode_traces
from collector.ingest.batch import to_tables


def request_of(*records: dict[str, Any], **resource: Any) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    envelope = request.resource_logs.add()
    envelope.resource.attributes.extend(attributes(resource))
    scope = envelope.scope_logs.add()
    for values in records:
        values = dict(values)
        record = scope.log_records.add(**{name: value for name, value in values.items() if name not in ("at", "text")})
        record.attributes.extend(attributes(values.get("at", {})))
        if "text" in values:
            record.body.string_value = values["text"]
    return request


def decoded(*records: dict[str, Any], received_ns: int = T + 5, **resource: Any) -> Any:
    return decode_logs(request_of(*records, **resource).SerializeToString(), received_ns)


def test_an_event_keeps_every_field() -> None:
    batch = decoded(
        {
            "time_unix_nano": T, "observed_time_unix_nano": T + 1, "event_name": "session.end", "severity_number": 9,
            "severity_text": "INFO", "text": "bye", "trace_id": bytes(range(16)), "span_id": bytes(range(8)),
            "at": {"log.record.uid": "i:7", "edge.session.end.expected": True},
        },
        **{"service.instance.id": "i", "device.id": "d"},
    )  # fmt: skip
    (row,) = rows(batch, "logs")
    assert (row["uid"], row["event_name"], row["severity_number"], row["severity_text"]) == (
        "i:7", "session.end", 9, "INFO",
    )  # fmt: skip
    assert (row["time_ns"], row["observed_ns"], row["received_ns"]) == (T, T + 1, T + 5)
    assert (row["body"], row["trace_id"], row["span_id"]) == ("bye", bytes(range(16)).hex(), bytes(range(8)).hex())
    assert json.loads(row["attributes"]) == {"log.record.uid": "i:7", "edge.session.end.expected": True}
    (stream,) = rows(batch, "streams")
    assert (stream["device_id"], stream["stream"]) == ("d", row["stream"])
    assert to_tables([batch])["logs"].num_rows == 1


def test_the_event_name_of_older_sdks_is_read_from_the_attribute() -> None:
    (row,) = rows(decoded({"time_unix_nano": T, "at": {"event.name": "old"}}), "logs")
    assert row["event_name"] == "old"


def test_a_structured_body_is_canonical_json() -> None:
    request = request_of({"time_unix_nano": T})
    body = request.resource_logs[0].scope_logs[0].log_records[0].body
    body.kvlist_value.values.add(key="b").value.int_value = 1
    body.kvlist_value.values.add(key="a").value.double_value = 1
    (row,) = rows(decode_logs(request.SerializeToString(), 1), "logs")
    assert row["body"] == '{"a":1.0,"b":1}'


def test_missing_times_fall_back_to_observed_then_to_arrival() -> None:
    batch = decoded({"observed_time_unix_nano": T}, {"text": "no time at all"})
    assert [(row["time_ns"], row["observed_ns"]) for row in rows(batch, "logs")] == [(T, T), (T + 5, T + 5)]


def test_a_record_without_uid_has_the_same_uid_whenever_it_arrives() -> None:
    first = rows(decoded({"text": "x"}, received_ns=1, a=1), "logs")[0]["uid"]
    again = rows(decoded({"text": "x"}, received_ns=2, a=1), "logs")[0]["uid"]
    assert first == again
    assert first.startswith("h:")


@pytest.mark.parametrize(
    "other",
    [
        {"text": "y"},
        {"text": "x", "time_unix_nano": T},
        {"text": "x", "at": {"k": 1}},
        {"text": "x", "event_name": "e"},
    ],
)
def test_records_that_differ_have_different_uids(other: dict[str, Any]) -> None:
    uids = {row["uid"] for row in rows(decoded({"text": "x"}, {"text": "x", **other}), "logs")}
    assert len(uids) == 2


def test_equal_records_of_two_devices_have_different_uids() -> None:
    one, two = (rows(decoded({"text": "x"}, **{"service.instance.id": name}), "logs")[0]["uid"] for name in "ab")
    assert one != two


@pytest.mark.parametrize("raw", [b"", b"\x00" * 16, b"\x01" * 15])
def test_an_invalid_trace_id_is_none(raw: bytes) -> None:
    assert rows(decoded({"text": "x", "trace_id": raw}), "logs")[0]["trace_id"] == ""


def test_a_time_beyond_int64_is_refused_alone() -> None:
    batch = decoded({"time_unix_nano": 2**63}, {"observed_time_unix_nano": 2**64 - 1}, {"text": "good"})
    assert (batch.rejected, batch.accepted) == ({"time": 2}, 1)


def test_spans_are_counted_and_refused_with_a_reason() -> None:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for _ in range(3):
        scope.spans.add(name="s")
    batch = decode_traces(request.SerializeToString(), 1)
    assert (batch.accepted, batch.rejected) == (0, {"traces": 3})
    assert "spans are not kept" in batch.message()
    assert decode_traces(b"", 1).message() == ""


@given(st.binary(max_size=200))
def test_random_bytes_are_decoded_or_refused(body: bytes) -> None:
    for decode in (decode_logs, decode_traces):
        with contextlib.suppress(MalformedRequestError):
            to_tables([decode(body, 1)])

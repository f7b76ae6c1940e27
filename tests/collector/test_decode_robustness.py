"""Metrics decoding of what is legal but rare, or no request at all."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_kit import T, rows
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from store_kit import Request

from collector.api.decode import (
    MalformedRequestError,
    OversizedRequestError,
    decode_logs,
    decode_metrics,
    decode_metrics_json,
    decode_traces,
)
from collector.api.decode_limits import ITEMS_MAX
from collector.api.decode_metrics import MetricsDecoder
from collector.ingest.batch import to_tables

ID = "service.instance.id"


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def attributes_of(request: Request) -> str:
    (series,) = rows(decode_metrics(request.message.SerializeToString(), 1), "series")
    return str(series["attributes"])


def test_unpacked_lists_and_split_messages_mean_the_same() -> None:
    bounds = b"".join(varint(7 << 3 | 1) + struct.pack("<d", bound) for bound in (1.0, 2.0))
    counts = b"".join(varint(6 << 3 | 1) + struct.pack("<Q", count) for count in (1, 2, 3))
    times = varint(3 << 3 | 1) + struct.pack("<Q", T) + varint(4 << 3 | 1) + struct.pack("<Q", 6)
    metric = field(1, b"h") + field(9, field(1, times + bounds + counts) + b"\x10\x01")
    pairs = [KeyValue(key=key, value=AnyValue(string_value="v")).SerializeToString() for key in ("a", ID)]
    split_resource = b"".join(field(1, field(1, pair)) for pair in pairs)
    batch = decode_metrics(field(1, split_resource + field(2, field(2, metric))), 1)
    (row,) = rows(batch)
    assert row["counts"] == (1, 2, 3)
    assert rows(batch, "resources")[0]["attributes"] == '{"a":"v","service.instance.id":"v"}'
    assert rows(batch, "series")[0]["bounds"] == (1.0, 2.0)


def test_long_attributes_survive_the_bytes_they_are_kept_as() -> None:
    values = {f"key{n}": "x" * size for n, size in enumerate((1, 126, 127, 128, 20_000))}
    assert json.loads(attributes_of(Request().gauge("m", T, 1, **values))) == values


@pytest.mark.parametrize("body", [b"\xff", b"hello", b"\x0a\x05abc", field(1, field(1, b"\xff\xff")), b"\x00"])
def test_what_is_no_request_is_malformed(body: bytes) -> None:
    request = Request().gauge("m", T, 1).message.SerializeToString()
    with pytest.raises(MalformedRequestError, match="ExportMetricsServiceRequest"):
        decode_metrics(request + body if body == b"\x00" else body, 1)


@pytest.mark.parametrize("where", ["resource", "point", "name"])
def test_text_that_is_not_utf8_is_malformed_wherever_it_stands(where: str) -> None:
    body = Request(marker_resource="v").gauge("marker_name", T, 1, marker_point="v").message.SerializeToString()
    with pytest.raises(MalformedRequestError):
        decode_metrics(body.replace(f"marker_{where}".encode(), b"\xff" + f"arker_{where}".encode()), 1)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_decoded_or_refused(body: bytes) -> None:
    with contextlib.suppress(MalformedRequestError):
        to_tables([decode_metrics(body, 1)])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_request_is_decoded_or_refused(data: st.DataObject) -> None:
    request = Request(**{ID: "a"}).sum("m", T, T + 1, 1, k="v").exponential("e", T, T + 1, [1, 2], negative=(3,))
    body = bytearray(
        request.explicit("h", T, T + 1, [1.0], [1, 2]).summary("s", T, 1, 1, {0.5: 1}).message.SerializeToString()
    )
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedRequestError):
        to_tables([decode_metrics(bytes(body), 1)])


def test_the_cache_of_series_is_bounded_and_stays_right_when_it_forgets() -> None:
    decoder = MetricsDecoder()
    decoder._metrics._limit = 20_000
    ids = set()
    for n in range(200):
        request = Request().gauge("m", T, 1, k=f"{n}" * 20)
        batch = decoder.decode(request.message.SerializeToString(), 1)
        ids |= batch.series.keys()
        assert decoder._metrics._held <= 20_000
        assert sum(len(metric.series) for metric in decoder._metrics.known.values()) < 40
    assert len(ids) == 200


def nested(*numbers: int, inside: bytes) -> bytes:
    for number in reversed(numbers):
        inside = field(number, inside)
    return inside


def gauge_of(points: int) -> bytes:
    return field(2, field(1, b"m") + field(5, b"\x0a\x02\x40\x01" * points))


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a\x00" * (ITEMS_MAX + 1),
        nested(1, inside=b"\x12\x00" * (ITEMS_MAX + 1)),
        nested(1, 2, inside=b"\x12\x00" * (ITEMS_MAX + 1)),
        nested(1, 2, 2, 5, inside=b"\x0a\x00" * (ITEMS_MAX + 1)),
        nested(1, 2, inside=gauge_of(ITEMS_MAX + 1)),
        nested(1, 2, inside=gauge_of(ITEMS_MAX // 2 + 1) * 2),
    ],
    ids=["resources", "scopes", "metrics", "empty points", "points", "points of two metrics"],
)
def test_more_items_than_a_request_may_hold_are_refused_before_they_are_walked(body: bytes) -> None:
    decoder = MetricsDecoder()
    walked: list[object] = []
    decoder._walkers = dict.fromkeys(decoder._walkers, lambda *point: walked.append(point))
    with pytest.raises(OversizedRequestError, match="send smaller batches"):
        decoder.decode(body, 1)
    assert len(walked) <= 1


@pytest.mark.parametrize("decode", [decode_logs, decode_traces])
def test_the_same_holds_for_logs_and_traces(decode: Callable[[bytes, int], object]) -> None:
    for body in (b"\x0a\x00" * (ITEMS_MAX + 1), nested(1, inside=b"\x12\x02\x1a\x00" * (ITEMS_MAX + 1))):
        with pytest.raises(OversizedRequestError):
            decode(body, 1)


def test_json_of_millions_of_empty_objects_is_refused_before_it_is_parsed() -> None:
    body = b'{"resourceMetrics":[' + b"{}," * (20 * ITEMS_MAX) + b"{}]}"
    with pytest.raises(OversizedRequestError):
        decode_metrics_json(body, 1)


def test_a_large_body_of_few_items_is_no_problem() -> None:
    pad = "x" * 3_000_000
    assert len(json.loads(attributes_of(Request().gauge("m", T, 1, pad=pad)))["pad"]) == len(pad)

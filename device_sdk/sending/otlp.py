"""Aggregates to OTLP bytes: one window is one ExportMetricsServiceRequest, one event one ExportLogsServiceRequest.

Requests are written as bytes, each the same that protobuf's own runtime would write (tests hold the two against each
other): what repeats from window to window (resource, scope, a metric's name and unit, the attributes of a series) is
encoded once. Concatenated requests are themselves a valid request: that is how the sender puts many unchanged windows
into one. Tags below are those of opentelemetry-proto's fields.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from device_sdk._version import __version__
from device_sdk.contract import BY_NAME, SCOPE_NAME, Kind
from device_sdk.points import AttributePairs, ExplicitHistogram, ExponentialHistogram, Points, Side, Value
from device_sdk.sending.wire import attributes as attribute_fields
from device_sdk.sending.wire import delimited, length, packed_counts, text, varint, zigzag

if TYPE_CHECKING:
    from device_sdk.privacy import AttributeValue

_SCHEMA_URL: Final = text(0x1A, "https://opentelemetry.io/schemas/1.44.0")
_SCOPE: Final = delimited(0x0A, text(0x0A, SCOPE_NAME) + text(0x12, __version__))
_CACHE_MAX: Final = 4096
_INT: Final = struct.Struct("<Bq")
_FIXED: Final = struct.Struct("<BQ")
_DOUBLE: Final = struct.Struct("<Bd")
_DELTA: Final = b"\x10\x01"
_CUMULATIVE: Final = b"\x10\x02"
_MONOTONIC: Final = b"\x18\x01"
_DATA: Final = {
    Kind.GAUGE: (b"\x2a", b"", 0x3A),
    Kind.COUNTER: (b"\x3a", _DELTA + _MONOTONIC, 0x3A),
    Kind.UP_DOWN: (b"\x3a", _CUMULATIVE, 0x3A),  # the level itself, which merges by taking the last
    Kind.EXPLICIT: (b"\x4a", _DELTA, 0x4A),
    Kind.EXPONENTIAL: (b"\x52", _DELTA, 0x0A),
}
"""Of each kind: the tag of a metric's data, what follows its points, and the tag of a point's attributes."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """What stands around the points of one metric."""

    head: bytes
    data_tag: bytes
    tail: bytes
    attributes_tag: int
    bounds: bytes


class Encoder:
    """Encodes windows and events under one resource; output depends on the arguments alone."""

    def __init__(self, resource: Mapping[str, AttributeValue]) -> None:
        self._resource = delimited(0x0A, attribute_fields(0x0A, sorted(resource.items())))
        self._frames: dict[str, _Frame] = {}
        self._attributes: dict[tuple[int, AttributePairs], bytes] = {}
        self._by_identity: dict[int, tuple[AttributePairs, int, bytes]] = {}

    def window(self, points: Points, start_ns: int, time_ns: int) -> bytes:
        """Return the request of one window; every point carries (start_ns, time_ns) in epoch ns of the stream clock."""
        times = _fixed(0x11, start_ns) + _fixed(0x19, time_ns)
        metrics = [_SCOPE]
        for name, members in points.by_metric.items():
            frame = self._frames.get(name) or self._frame(name)
            data = b"".join([self._point(frame, times, attributes, value) for attributes, value in members])
            size = length(len(data) + len(frame.tail))
            whole = len(frame.head) + 1 + len(size) + len(data) + len(frame.tail)
            metrics += (b"\x12", length(whole), frame.head, frame.data_tag, size, data, frame.tail)
        return self._request(metrics)

    def event(
        self,
        name: str,
        severity: int,
        attributes: Sequence[tuple[str, AttributeValue]],
        *,
        time_ns: int,
        observed_ns: int,
    ) -> bytes:
        """Return the request of one event (a log record with ``event_name``)."""
        record = delimited(
            0x12,
            _fixed(0x09, time_ns),
            b"\x10" + varint(severity) if severity else b"",
            attribute_fields(0x32, attributes),
            _fixed(0x59, observed_ns),
            text(0x62, name),
        )
        return self._request([_SCOPE, record])

    def _request(self, scoped: Sequence[bytes]) -> bytes:
        """Return a request of one resource and one scope; those of metrics and logs number these fields alike."""
        return delimited(0x0A, self._resource, delimited(0x12, *scoped), _SCHEMA_URL)

    def _frame(self, name: str) -> _Frame:
        row = BY_NAME[name]
        data_tag, tail, tag = _DATA[row.kind]
        bounds = _doubles(0x3A, row.bounds)
        frame = self._frames[name] = _Frame(text(0x0A, name) + text(0x1A, row.unit), data_tag, tail, tag, bounds)
        return frame

    def _point(self, frame: _Frame, times: bytes, attributes: AttributePairs, value: Value) -> bytes:
        known = self._by_identity.get(id(attributes))  # a hash of all the pairs costs as much as the rest of a point
        if known is not None and known[0] is attributes and known[1] == frame.attributes_tag:
            named = known[2]
        else:
            named = self._named(frame.attributes_tag, attributes)
        if isinstance(value, int):
            content = times + _INT.pack(0x31, value) + named
        elif isinstance(value, float):
            content = times + _DOUBLE.pack(0x21, value) + named
        elif isinstance(value, ExponentialHistogram):
            content = named + times + _exponential(value)
        else:
            content = times + _explicit(value, frame.bounds) + named
        return b"\x0a" + length(len(content)) + content

    def _named(self, tag: int, attributes: AttributePairs) -> bytes:
        """Return the attribute fields of a series; what is kept of it keeps its identity from being given again."""
        named = self._attributes.get((tag, attributes))
        if named is None:
            if len(self._attributes) >= _CACHE_MAX:
                self._attributes.clear()
                self._by_identity.clear()
            named = self._attributes[tag, attributes] = attribute_fields(tag, attributes)
            self._by_identity[id(attributes)] = attributes, tag, named
        return named


def _explicit(value: ExplicitHistogram, bounds: bytes) -> bytes:
    counts = struct.pack(f"<{len(value.counts)}Q", *value.counts)
    return _fixed(0x21, value.count) + delimited(0x32, counts) + bounds


def _exponential(value: ExponentialHistogram) -> bytes:
    positive, negative = value.positive, value.negative
    content = _FIXED.pack(0x21, value.count) if value.count else b""
    told = value.total is not None and value.minimum is not None and value.maximum is not None
    if told:
        content += _DOUBLE.pack(0x29, value.total)
    if value.scale:
        content += b"\x30" + zigzag(value.scale)
    if value.zero_count:
        content += _FIXED.pack(0x39, value.zero_count)
    if positive.counts:
        content += _buckets(b"\x42", positive)
    if negative.counts:
        content += _buckets(b"\x4a", negative)
    if told:
        content += _DOUBLE.pack(0x61, value.minimum) + _DOUBLE.pack(0x69, value.maximum)
    if value.zero_threshold:
        content += _DOUBLE.pack(0x71, value.zero_threshold)
    return content


def _buckets(tag: bytes, side: Side) -> bytes:
    packed = packed_counts(side.counts)
    offset = b"\x08" + zigzag(side.offset) if side.offset else b""
    size = length(len(packed))
    return tag + length(len(offset) + 1 + len(size) + len(packed)) + offset + b"\x12" + size + packed


def _fixed(tag: int, number: int) -> bytes:
    """Return a ``fixed64`` field, nothing for 0: what is absent is 0."""
    return _FIXED.pack(tag, number) if number else b""


def _doubles(tag: int, values: Sequence[float]) -> bytes:
    return delimited(tag, struct.pack(f"<{len(values)}d", *values)) if values else b""

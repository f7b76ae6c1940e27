"""The encoder writes the bytes that protobuf's own runtime writes for the same messages, whatever is in them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.common.v1 import common_pb2

from device_sdk._version import __version__
from device_sdk.contract import BY_NAME, INSTRUMENTS, SCOPE_NAME, Kind
from device_sdk.points import ExplicitHistogram, ExponentialHistogram, Points, Side
from device_sdk.sending.otlp import Encoder
from device_sdk.sending.wire import packed_counts, varint

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**64 - 1)
SMALL = st.integers(0, 40_000)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
NUMBERS = st.floats(allow_nan=False)
SCALARS = st.one_of(WORDS, st.booleans(), INT64, NUMBERS)
PAIRS = st.lists(
    st.one_of(  # one key, one type, as in the contract: 1, True and 1.0 are the same to a dictionary
        st.tuples(WORDS.map("s".__add__), WORDS),
        st.tuples(WORDS.map("b".__add__), st.booleans()),
        st.tuples(WORDS.map("i".__add__), INT64),
        st.tuples(WORDS.map("f".__add__), NUMBERS.map((0.0).__add__)),
    ),
    max_size=5,
).map(tuple)
RESOURCES = st.dictionaries(WORDS, st.one_of(SCALARS, st.lists(WORDS, max_size=3).map(tuple)), max_size=5)
COUNTS = st.lists(st.one_of(SMALL, UINT64), max_size=160)
SIDES = st.builds(Side, st.integers(-(2**31), 2**31 - 1), COUNTS)
TOLD = st.one_of(st.just((None, None, None)), st.tuples(NUMBERS, NUMBERS, NUMBERS))


@st.composite
def exponentials(draw: st.DrawFn) -> ExponentialHistogram:
    total, minimum, maximum = draw(TOLD)
    scale, threshold = draw(st.integers(-10, 20)), draw(st.floats(0, 1))
    return ExponentialHistogram(
        draw(UINT64), scale, draw(UINT64), threshold, draw(SIDES), draw(SIDES), total, minimum, maximum
    )


@st.composite
def windows(draw: st.DrawFn) -> Points:
    points = Points()
    for row in draw(st.lists(st.sampled_from(INSTRUMENTS), max_size=6, unique=True)):
        for attributes in draw(st.lists(PAIRS, min_size=1, max_size=3)):
            value: Any = draw(st.one_of(INT64, NUMBERS))
            if row.kind is Kind.EXPONENTIAL:
                value = draw(exponentials())
            elif row.kind is Kind.EXPLICIT:
                size = len(row.bounds) + 1
                value = ExplicitHistogram(
                    draw(UINT64), row.bounds, draw(st.lists(UINT64, min_size=size, max_size=size))
                )
            points.add(row.name, value, attributes)
    return points


@given(RESOURCES, st.lists(windows(), min_size=1, max_size=3), UINT64, UINT64)
def test_windows_are_what_protobuf_writes(resource: Any, measured: list[Points], start_ns: int, time_ns: int) -> None:
    encoder = Encoder(resource)
    for points in [*measured, measured[0]]:  # the last one by what the encoder kept of the first
        assert encoder.window(points, start_ns, time_ns) == stock_window(resource, points, start_ns, time_ns)


@given(RESOURCES, RESOURCES, WORDS, st.integers(0, 24), UINT64, UINT64)
def test_events_are_what_protobuf_writes(
    resource: Any, attributes: dict[str, Any], name: str, severity: int, time_ns: int, observed_ns: int
) -> None:
    request = logs_service_pb2.ExportLogsServiceRequest()
    scope = with_head(request.resource_logs.add(), resource).scope_logs.add()
    scope.scope.name, scope.scope.version = SCOPE_NAME, __version__
    record = scope.log_records.add(severity_number=severity, event_name=name)
    record.time_unix_nano, record.observed_time_unix_nano = time_ns, observed_ns
    record.attributes.extend([pair(key, value) for key, value in attributes.items()])
    told = Encoder(resource).event(name, severity, [*attributes.items()], time_ns=time_ns, observed_ns=observed_ns)
    assert told == request.SerializeToString()


@given(COUNTS)
def test_packed_counts_are_varints_one_after_the_other(counts: list[int]) -> None:
    assert packed_counts(counts) == b"".join(map(varint, counts))


def stock_window(resource: Any, points: Points, start_ns: int, time_ns: int) -> bytes:
    request = metrics_service_pb2.ExportMetricsServiceRequest()
    scope = with_head(request.resource_metrics.add(), resource).scope_metrics.add()
    scope.scope.name, scope.scope.version = SCOPE_NAME, __version__
    for name, members in points.by_metric.items():
        row = BY_NAME[name]
        metric = scope.metrics.add(name=name, unit=row.unit)
        data = getattr(metric, "sum" if row.kind in (Kind.COUNTER, Kind.UP_DOWN) else row.kind)
        if row.kind is not Kind.GAUGE:
            data.aggregation_temporality = 2 if row.kind is Kind.UP_DOWN else 1
        if row.kind is Kind.COUNTER:
            data.is_monotonic = True
        for attributes, value in members:
            point = data.data_points.add(start_time_unix_nano=start_ns, time_unix_nano=time_ns)
            point.attributes.extend([pair(key, told) for key, told in attributes])
            fill(point, value)
    return bytes(request.SerializeToString())


def fill(point: Any, value: Any) -> None:
    if isinstance(value, ExponentialHistogram):
        point.count, point.scale, point.zero_count = value.count, value.scale, value.zero_count
        point.zero_threshold = value.zero_threshold
        for side, buckets in ((value.positive, point.positive), (value.negative, point.negative)):
            if side.counts:
                buckets.offset = side.offset
                buckets.bucket_counts.extend(side.counts)
        if value.total is not None:
            point.sum, point.min, point.max = value.total, value.minimum, value.maximum
    elif isinstance(value, ExplicitHistogram):
        point.count = value.count
        point.explicit_bounds.extend(value.bounds)
        point.bucket_counts.extend(value.counts)
    elif isinstance(value, int):
        point.as_int = value
    else:
        point.as_double = value


def with_head(message: Any, resource: Any) -> Any:
    message.resource.attributes.extend([pair(key, value) for key, value in sorted(resource.items())])
    message.schema_url = SCHEMA_URL
    return message


def pair(key: str, value: Any) -> Any:
    return common_pb2.KeyValue(key=key, value=any_value(value))


def any_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return common_pb2.AnyValue(array_value=common_pb2.ArrayValue(values=[any_value(item) for item in value]))
    kind = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}[type(value)]
    return common_pb2.AnyValue(**{kind: value})

"""Aggregates to OTLP bytes: one window is one ExportMetricsServiceRequest, one event one ExportLogsServiceRequest.

Requests are built as opentelemetry-proto messages, because the OpenTelemetry encoder cannot leave a sum out and costs
several times as much. Repeated parts (resource, attributes) are encoded once and merged in as bytes. Concatenated
requests are themselves a valid request: that is how the sender puts many unchanged windows into one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from device_sdk._version import __version__
from device_sdk.contract import BY_NAME, SCOPE_NAME, Kind
from device_sdk.points import AttributePairs, ExplicitHistogram, ExponentialHistogram, Points, Value

if TYPE_CHECKING:
    from device_sdk.privacy import AttributeValue

_SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
_CACHE_MAX = 4096


class Encoder:
    """Encodes windows and events under one resource; output depends on the arguments alone."""

    def __init__(self, resource: Mapping[str, AttributeValue]) -> None:
        # The protobuf classes cost tens of milliseconds to import: pay when the first window closes, not at import.
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
        from opentelemetry.proto.common.v1 import common_pb2
        from opentelemetry.proto.metrics.v1 import metrics_pb2
        from opentelemetry.proto.resource.v1 import resource_pb2

        self._common = common_pb2
        self._metrics = metrics_pb2
        self._metrics_request = metrics_service_pb2.ExportMetricsServiceRequest
        self._logs_request = logs_service_pb2.ExportLogsServiceRequest
        pairs = [self._pair(key, value) for key, value in sorted(resource.items())]
        head = metrics_pb2.ResourceMetrics(resource=resource_pb2.Resource(attributes=pairs), schema_url=_SCHEMA_URL)
        self._head = head.SerializeToString()  # ResourceMetrics and ResourceLogs number these fields alike
        self._prefixes: dict[tuple[type, AttributePairs], bytes] = {}

    def window(self, points: Points, start_ns: int, time_ns: int) -> bytes:
        """Return the request of one window; every point carries (start_ns, time_ns) in epoch ns of the stream clock."""
        request = self._metrics_request()
        resource_metrics = request.resource_metrics.add()
        resource_metrics.MergeFromString(self._head)
        scope_metrics = resource_metrics.scope_metrics.add()
        scope_metrics.scope.name = SCOPE_NAME
        scope_metrics.scope.version = __version__
        for name, members in points.by_metric.items():
            metric = scope_metrics.metrics.add()
            metric.name = name
            metric.unit = BY_NAME[name].unit
            add = self._adder(metric, BY_NAME[name].kind)
            for attributes, value in members:
                point = add()
                prefix = self._prefix(type(point), attributes)
                if prefix:
                    point.MergeFromString(prefix)
                point.start_time_unix_nano = start_ns
                point.time_unix_nano = time_ns
                _fill(point, value)
        return bytes(request.SerializeToString())

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
        request = self._logs_request()
        resource_logs = request.resource_logs.add()
        resource_logs.MergeFromString(self._head)
        scope_logs = resource_logs.scope_logs.add()
        scope_logs.scope.name = SCOPE_NAME
        scope_logs.scope.version = __version__
        record = scope_logs.log_records.add()
        record.time_unix_nano = time_ns
        record.observed_time_unix_nano = observed_ns
        record.severity_number = severity
        record.event_name = name
        record.attributes.extend([self._pair(key, value) for key, value in attributes])
        return bytes(request.SerializeToString())

    def _adder(self, metric: Any, kind: Kind) -> Any:
        if kind is Kind.GAUGE:
            return metric.gauge.data_points.add
        temporality = self._metrics.AGGREGATION_TEMPORALITY_DELTA
        if kind is Kind.EXPONENTIAL:
            metric.exponential_histogram.aggregation_temporality = temporality
            return metric.exponential_histogram.data_points.add
        if kind is Kind.EXPLICIT:
            metric.histogram.aggregation_temporality = temporality
            return metric.histogram.data_points.add
        if kind is Kind.UP_DOWN:  # the level itself, which merges by taking the last
            metric.sum.aggregation_temporality = self._metrics.AGGREGATION_TEMPORALITY_CUMULATIVE
        else:
            metric.sum.aggregation_temporality = temporality
            metric.sum.is_monotonic = True
        return metric.sum.data_points.add

    def _prefix(self, kind: type, attributes: AttributePairs) -> bytes:
        """Return the encoded attributes as they stand in a point of ``kind`` (each kind numbers the field its way)."""
        if not attributes:
            return b""
        key = (kind, attributes)
        prefix = self._prefixes.get(key)
        if prefix is None:
            prefix = kind(attributes=[self._pair(name, value) for name, value in attributes]).SerializeToString()
            if len(self._prefixes) >= _CACHE_MAX:
                self._prefixes.clear()
            self._prefixes[key] = prefix
        return prefix

    def _pair(self, key: str, value: AttributeValue) -> Any:
        return self._common.KeyValue(key=key, value=self._any(value))

    def _any(self, value: AttributeValue) -> Any:
        any_value = self._common.AnyValue
        if isinstance(value, bool):
            return any_value(bool_value=value)
        if isinstance(value, int):
            return any_value(int_value=value)
        if isinstance(value, float):
            return any_value(double_value=value)
        if isinstance(value, tuple):
            return any_value(array_value=self._common.ArrayValue(values=[any_value(string_value=v) for v in value]))
        return any_value(string_value=value)


def _fill(point: Any, value: Value) -> None:
    if isinstance(value, int):
        point.as_int = value
    elif isinstance(value, float):
        point.as_double = value
    elif isinstance(value, ExplicitHistogram):
        point.count = value.count
        point.explicit_bounds.extend(value.bounds)
        point.bucket_counts.extend(value.counts)
    elif isinstance(value, ExponentialHistogram):
        _fill_exponential(point, value)


def _fill_exponential(point: Any, value: ExponentialHistogram) -> None:
    point.count = value.count
    point.scale = value.scale
    point.zero_count = value.zero_count
    point.zero_threshold = value.zero_threshold
    if value.positive.counts:
        point.positive.offset = value.positive.offset
        point.positive.bucket_counts.extend(value.positive.counts)
    if value.negative.counts:
        point.negative.offset = value.negative.offset
        point.negative.bucket_counts.extend(value.negative.counts)
    if value.total is not None and value.minimum is not None and value.maximum is not None:
        point.sum = value.total
        point.min = value.minimum
        point.max = value.maximum

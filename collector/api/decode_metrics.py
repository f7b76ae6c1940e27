"""From an OTLP metrics request to rows, point by point; what can never be stored is refused alone.

Nothing here reads a clock or does I/O. The caches only remember what equal bytes meant before. The loops are written
out flat on purpose: they run some 30 times a window and a collector's capacity is what they cost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags

from collector.api.decode_canonical import (
    BoundedCache,
    MalformedRequestError,
    Sender,
    Senders,
    canonical,
    content_id,
    parsed_attributes,
    text_of,
)
from collector.api.decode_checks import (
    INT64_MAX,
    PointRefused,
    check_bounds,
    check_count,
    check_indices,
    check_layout,
    check_quantiles,
    check_scale,
    check_times,
    shown,
)
from collector.api.decode_limits import ITEMS_MAX, check_protobuf, spend
from collector.api.decode_shadow import MetricsRequest
from collector.ingest.batch import DecodedBatch, Row, WindowFacts
from device_sdk.contract import attributes as keys
from device_sdk.contract.metrics import WINDOW_COUNT, WINDOW_POINTS, WINDOW_SEQUENCE

_NO_VALUE: Final = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
_TEMPORALITIES: Final = {
    AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA: "delta",
    AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE: "cumulative",
}
_HAS_TEMPORALITY: Final = frozenset({"sum", "histogram", "exponential_histogram"})
_WINDOW_FACTS: Final = {
    WINDOW_SEQUENCE.name: "sequence",
    WINDOW_COUNT.name: "window_count",
    WINDOW_POINTS.name: "window_points",
}
_E: Final[tuple[int, ...]] = ()
"""The empty list of the columns a kind of point does not use."""


@dataclass(slots=True)
class _Metric:
    """One metric of one scope, and the series met under it by what tells them apart."""

    name: str
    kind: str
    unit: str
    temporality: str | None
    monotonic: bool | None
    scope_name: str
    scope_version: str
    fact: str | None
    series: dict[Any, tuple[bytes, Row]] = field(default_factory=dict)


@dataclass(slots=True)
class _Walk:
    """Where the decoder is: what the points it meets belong to."""

    batch: DecodedBatch
    sender: Sender
    room: int
    """How many more points and envelopes the request may hold."""
    scope: bytes = b""
    scope_name: str = ""
    scope_version: str = ""
    start_ns: int = -1
    time_ns: int = -1
    facts: WindowFacts | None = None

    def window(self, start_ns: int, time_ns: int) -> WindowFacts:
        """Return the window of a point, made when it is new."""
        if self.facts is None or start_ns != self.start_ns or time_ns != self.time_ns:
            self.start_ns, self.time_ns = start_ns, time_ns
            key = (self.sender.stream, start_ns, time_ns)
            self.facts = self.batch.windows.get(key)
            if self.facts is None:
                self.facts = self.batch.windows[key] = WindowFacts(self.batch.received_ns)
        return self.facts

    def refuse(self, refused: PointRefused) -> None:
        """Count a refused point."""
        self.batch.reject(refused.reason, refused.sample)

    def append(self, point: Any, series: bytes, no_value: bool, *columns: Any) -> None:
        """Store a point that is not a number; ``columns`` follow ``no_recorded_value``."""
        sender, start, time = self.sender, point.start_time_unix_nano, point.time_unix_nano
        self.window(start, time)
        self.batch.exemplars_dropped += len(getattr(point, "exemplars", _E))
        if no_value:
            columns = _NO_COLUMNS
        received = self.batch.received_ns
        self.batch.points.append(
            (sender.stream, series, sender.resource, sender.cohort, start, time, received, no_value, *columns)
        )


_NO_COLUMNS: Final = (None,) * 10 + (_E, None, _E, _E, _E, _E)


class MetricsDecoder:
    """Decodes requests; keeps bounded caches of senders, scopes and series between them."""

    def __init__(self) -> None:
        self._senders = Senders()
        self._scopes: BoundedCache[tuple[str, str]] = BoundedCache()
        self._metrics: BoundedCache[_Metric] = BoundedCache()
        self._walkers = {
            "gauge": self._numbers,
            "sum": self._numbers,
            "histogram": self._histograms,
            "exponential_histogram": self._exponentials,
            "summary": self._summaries,
        }

    def decode(self, body: bytes, received_ns: int) -> DecodedBatch:
        """Return the rows of a serialised ``ExportMetricsServiceRequest``.

        Raises ``MalformedRequestError`` and ``OversizedRequestError``.
        """
        check_protobuf(body)
        batch = DecodedBatch(received_ns)
        try:
            envelopes = MetricsRequest.FromString(body).resource_metrics
            room = spend(ITEMS_MAX, len(envelopes))
            for resource_metrics in envelopes:
                walk = _Walk(batch, self._senders.of(b"".join(resource_metrics.resource)), room)
                before = len(batch.points)
                scopes = resource_metrics.scope_metrics
                walk.room = spend(walk.room, len(scopes))
                for scope_metrics in scopes:
                    self._enter_scope(walk, b"".join(scope_metrics.scope))
                    metrics = scope_metrics.metrics
                    walk.room = spend(walk.room, len(metrics))
                    for metric in metrics:
                        self._metric(walk, metric)
                if len(batch.points) > before:
                    walk.sender.join(batch)
                room = walk.room
        except DecodeError as error:
            raise MalformedRequestError(f"the body is not an OTLP ExportMetricsServiceRequest: {error}") from error
        return batch

    def _enter_scope(self, walk: _Walk, serialised: bytes) -> None:
        named = self._scopes.known.get(serialised)
        if named is None:
            scope = InstrumentationScope.FromString(serialised)
            named = (scope.name, scope.version)
            self._scopes.put(serialised, named, 2 * len(serialised) + 200)
        walk.scope = serialised
        walk.scope_name, walk.scope_version = named

    def _metric(self, walk: _Walk, message: Any) -> None:
        kind = message.WhichOneof("data")
        if kind is None:
            return
        data = getattr(message, kind)
        name, unit = message.name, message.unit
        temporality = data.aggregation_temporality if kind in _HAS_TEMPORALITY else None
        monotonic = data.is_monotonic if kind == "sum" else None
        key = (name, kind, unit, temporality, monotonic, walk.scope)
        metric = self._metrics.known.get(key)
        if metric is None:
            word = _TEMPORALITIES.get(temporality) if temporality is not None else None
            if not name or (temporality is not None and word is None):
                _refuse_all(walk, name, temporality, len(data.data_points))
                return
            metric = _Metric(
                name, kind, unit, word, monotonic, walk.scope_name, walk.scope_version, _WINDOW_FACTS.get(name)
            )
            self._metrics.put(key, metric, 500 + 2 * len(name) + len(walk.scope))
        points = data.data_points
        walk.room -= len(points)
        if walk.room < 0:
            spend(0, 1)  # raises
        self._walkers[kind](walk, metric, points)

    def _series(self, walk: _Walk, metric: _Metric, point: Any, bounds: tuple[float, ...] = ()) -> bytes:
        """Return the series id of a point and see to it that the batch holds its row."""
        attributes = tuple(point.attributes)
        key = (attributes, bounds) if bounds else attributes
        found = metric.series.get(key)
        if found is None:
            found = self._learn(metric, key, attributes, bounds)
        series = found[0]
        known = walk.batch.series
        if series not in known:
            known[series] = found[1]
        return series

    def _learn(
        self, metric: _Metric, key: Any, attributes: tuple[bytes, ...], bounds: tuple[float, ...]
    ) -> tuple[bytes, Row]:
        check_bounds(metric.name, bounds)
        found = _make_series(metric, attributes, bounds)
        if self._metrics.charge(600 + 3 * sum(map(len, attributes)) + 24 * len(bounds)):
            metric.series[key] = found
        return found

    def _numbers(self, walk: _Walk, metric: _Metric, points: Any) -> None:
        batch, sender = walk.batch, walk.sender
        stream, resource, cohort, received = sender.stream, sender.resource, sender.cohort, batch.received_ns
        known, learnt, rows, fact = batch.series, metric.series, batch.points, metric.fact
        for point in points:
            start, time = point.start_time_unix_nano, point.time_unix_nano
            as_int = as_double = None
            no_value = bool(point.flags & _NO_VALUE)
            if not no_value:
                which = point.WhichOneof("value")
                if which == "as_int":
                    as_int = point.as_int
                elif which == "as_double":
                    as_double = point.as_double
            if start > time or not 0 < time <= INT64_MAX or (as_int is as_double and not no_value):
                _refuse_number(walk, metric.name, start, time)
                continue
            attributes = tuple(point.attributes)
            found = learnt.get(attributes)
            if found is None:
                found = self._learn(metric, attributes, attributes, ())
            series = found[0]
            if series not in known:
                known[series] = found[1]
            if time != walk.time_ns or start != walk.start_ns:
                walk.window(start, time)
            if point.exemplars:
                batch.exemplars_dropped += len(point.exemplars)
            rows.append(
                (stream, series, resource, cohort, start, time, received, no_value, as_int, as_double,
                 None, None, None, None, None, None, None, None, _E, None, _E, _E, _E, _E)
            )  # fmt: skip
            if fact is not None and as_int is not None and as_int >= 0:
                setattr(walk.window(start, time), fact, as_int)

    def _histograms(self, walk: _Walk, metric: _Metric, points: Any) -> None:
        for point in points:
            no_value = bool(point.flags & _NO_VALUE)
            start, time, count = point.start_time_unix_nano, point.time_unix_nano, point.count
            counts, bounds = tuple(point.bucket_counts), tuple(point.explicit_bounds)
            try:
                if start > time or not 0 < time <= INT64_MAX:
                    check_times(metric.name, start, time)
                if not no_value:
                    if len(counts) != len(bounds) + 1:
                        check_layout(metric.name, counts, bounds)
                    if not sum(counts) <= count <= INT64_MAX:
                        check_count(metric.name, count, sum(counts))
                series = self._series(walk, metric, point, bounds)
            except PointRefused as refused:
                walk.refuse(refused)
                continue
            walk.append(
                point, series, no_value, None, None, count, *_optional(point),
                None, None, None, None, _E, None, _E, counts, _E, _E,
            )  # fmt: skip

    def _exponentials(self, walk: _Walk, metric: _Metric, points: Any) -> None:
        for point in points:
            no_value = bool(point.flags & _NO_VALUE)
            start, time, count = point.start_time_unix_nano, point.time_unix_nano, point.count
            positive, negative, zero_count, scale = point.positive, point.negative, point.zero_count, point.scale
            up, down = tuple(positive.bucket_counts), tuple(negative.bucket_counts)
            up_from, down_from = positive.offset, negative.offset
            try:
                if start > time or not 0 < time <= INT64_MAX:
                    check_times(metric.name, start, time)
                if not no_value:
                    held = sum(up) + sum(down) + zero_count
                    if not held <= count <= INT64_MAX:
                        check_count(metric.name, count, held)
                    check_scale(metric.name, scale)
                    check_indices(metric.name, max(up_from + len(up), down_from + len(down)))
                series = self._series(walk, metric, point)
            except PointRefused as refused:
                walk.refuse(refused)
                continue
            walk.append(
                point, series, no_value, None, None, count, *_optional(point),
                scale, zero_count, point.zero_threshold, up_from, up, down_from, down, _E, _E, _E,
            )  # fmt: skip

    def _summaries(self, walk: _Walk, metric: _Metric, points: Any) -> None:
        for point in points:
            no_value = bool(point.flags & _NO_VALUE)
            try:
                check_times(metric.name, point.start_time_unix_nano, point.time_unix_nano)
                check_count(metric.name, point.count, 0)
                check_quantiles(metric.name, point.quantile_values)
                series = self._series(walk, metric, point)
            except PointRefused as refused:
                walk.refuse(refused)
                continue
            quantiles = tuple(item.quantile for item in point.quantile_values)
            values = tuple(item.value for item in point.quantile_values)
            walk.append(
                point, series, no_value, None, None, point.count, point.sum, None, None,
                None, None, None, None, _E, None, _E, _E, quantiles, values,
            )  # fmt: skip


def _optional(point: Any) -> tuple[float | None, float | None, float | None]:
    """Return sum, min and max; what the sender left out is null."""
    return (
        point.sum if point.HasField("sum") else None,
        point.min if point.HasField("min") else None,
        point.max if point.HasField("max") else None,
    )


def _make_series(metric: _Metric, serialised: tuple[bytes, ...], bounds: tuple[float, ...]) -> tuple[bytes, Row]:
    """Return a series' id and dictionary row; raises protobuf's ``DecodeError``."""
    attributes = parsed_attributes(serialised)
    bounds = tuple(bound + 0.0 for bound in bounds)  # -0.0 is 0.0: they are one series
    series = content_id(
        canonical(
            [metric.name, metric.kind, metric.unit, metric.temporality, metric.monotonic, metric.scope_name,
             attributes, list(bounds)]
        )
    )  # fmt: skip
    return series, (
        series, metric.name, metric.kind, metric.unit, metric.temporality, metric.monotonic, metric.scope_name,
        metric.scope_version, canonical(attributes), bounds, text_of(attributes, keys.MODEL_NAME),
        text_of(attributes, keys.MODEL_VERSION),
    )  # fmt: skip


def _refuse_all(walk: _Walk, name: str, temporality: int | None, count: int) -> None:
    """Count all points of a metric that says too little about itself."""
    if not count:
        return
    if not name:
        walk.batch.reject("name", "a metric without a name; name it", count)
    else:
        walk.batch.reject(
            "temporality",
            f"{shown(name)}: aggregation_temporality {temporality}; send 1 (delta) or 2 (cumulative)",
            count,
        )


def _refuse_number(walk: _Walk, name: str, start_ns: int, time_ns: int) -> None:
    """Count a number point that has an impossible time or no value."""
    try:
        check_times(name, start_ns, time_ns)
    except PointRefused as refused:
        walk.refuse(refused)
    else:
        walk.batch.reject("value", f"{shown(name)}: a point without a value; set as_int or as_double")

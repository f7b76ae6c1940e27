"""Hold what an emitter sends against the wire contract: one finding for each thing another program must change.

Pure: parsed OTLP requests in, findings out. A ``Checker`` keeps what spans requests: streams, windows, events.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from device_sdk.contract import BY_NAME, EVENTS, SCOPE_NAME, Instrument, Kind
from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.buckets import FEATURE_ZERO_THRESHOLD, MAX_BUCKETS
from device_sdk.contract.document import closed_words
from device_sdk.contract.events import COMMON_KEYS
from device_sdk.contract.vocabulary import OWN_ERRORS

ERROR: Final = "error"
NOTE: Final = "note"

REQUIRED_RESOURCE: Final = (a.SERVICE_NAME, a.SERVICE_INSTANCE_ID, a.INSTALLATION_ID, a.BOOT_ID)
_OTHERWISE_IDENTIFIED: Final = (a.DEVICE_ID,)
_SEAL: Final = (m.WINDOW_SEQUENCE.name, m.WINDOW_COUNT.name, m.WINDOW_POINTS.name)
_DATA: Final = {
    Kind.EXPONENTIAL: "exponential_histogram",
    Kind.EXPLICIT: "histogram",
    Kind.COUNTER: "sum",
    Kind.UP_DOWN: "sum",
    Kind.GAUGE: "gauge",
}
_DELTA, _CUMULATIVE = 1, 2
_UID: Final = re.compile(r"(?P<instance>.+):(?P<number>\d+)")
_GRID: Final = re.compile(r"c=-?[0-9.e+-]+;u=[0-9.e+-]+")
_EVENTS: Final = {event.name: event for event in EVENTS}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as the contract says: how bad, where, what, and what to do."""

    level: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.level:5} {self.where}: {self.message}"


Rows = Iterator[tuple[str, str, str]]


@dataclass(slots=True)
class _Stream:
    """What is known of one ``service.instance.id`` so far."""

    end_ns: int | None = None
    sequence: int | None = None
    events: set[int] = field(default_factory=set)
    series: dict[str, set[frozenset[tuple[str, Any]]]] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)


Check = Callable[[_Stream, str], Rows]


class Checker:
    """Checks requests in the order they came; the same finding of one stream is told once."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self.windows = self.points = self.events = self.errors = 0

    def metrics(self, request: Any) -> list[Finding]:
        """Return the findings of one ExportMetricsServiceRequest (several windows may be joined in it)."""
        found: list[Finding] = []
        for resource_metrics in request.resource_metrics:
            found += self._resource(resource_metrics.resource, self._metrics_of(resource_metrics))
        return found

    def logs(self, request: Any) -> list[Finding]:
        """Return the findings of one ExportLogsServiceRequest."""
        found: list[Finding] = []
        for resource_logs in request.resource_logs:
            records = [record for scope in resource_logs.scope_logs for record in scope.log_records]
            found += self._resource(resource_logs.resource, self._events_of(records))
        return found

    # --- resource ---------------------------------------------------------------------------------------------

    def _resource(self, resource: Any, checks: Check) -> list[Finding]:
        values = {pair.key: _value(pair.value) for pair in resource.attributes}
        instance = str(values.get(a.SERVICE_INSTANCE_ID, ""))
        stream = self._streams.setdefault(instance, _Stream())
        found = [
            *(Finding(*row) for row in _resource_problems(values)),
            *(Finding(*row) for row in checks(stream, instance)),
        ]
        fresh = []
        for finding in found:
            if str(finding) not in stream.told:
                stream.told.add(str(finding))
                fresh.append(finding)
        self.errors += sum(finding.level == ERROR for finding in fresh)
        return fresh

    # --- metrics ----------------------------------------------------------------------------------------------

    def _metrics_of(self, resource_metrics: Any) -> Check:
        def check(stream: _Stream, _instance: str) -> Rows:
            own: list[tuple[Any, Any]] = []
            for scope in resource_metrics.scope_metrics:
                for metric in scope.metrics:
                    if scope.scope.name != SCOPE_NAME:
                        yield NOTE, metric.name, f"scope {scope.scope.name!r}: stored as sent, not part of the contract"
                        continue
                    yield from self._metric(stream, metric)
                    own += [(metric, point) for point in _points_of(metric)]
            self.points += len(own)
            yield from self._window(stream, own)

        return check

    def _metric(self, stream: _Stream, metric: Any) -> Rows:
        row = BY_NAME.get(metric.name)
        if row is None:
            yield ERROR, metric.name, "no such metric in the contract; use another scope for metrics of your own"
            return
        kind = metric.WhichOneof("data")
        if kind != _DATA[row.kind]:
            yield ERROR, row.name, f"is a {kind or 'metric without data'}; the contract says {_DATA[row.kind]}"
            return
        if metric.unit != row.unit:
            yield ERROR, row.name, f"unit {metric.unit!r}; the contract says {row.unit!r}"
        if row.kind is not Kind.GAUGE:
            wanted = _CUMULATIVE if row.kind is Kind.UP_DOWN else _DELTA
            if getattr(metric, kind).aggregation_temporality != wanted:
                yield ERROR, row.name, "temporality: levels are cumulative, everything else is delta"
        if row.kind is Kind.COUNTER and not metric.sum.is_monotonic:
            yield ERROR, row.name, "a counter must be monotonic"
        known = stream.series.setdefault(row.name, set())
        seen: Counter[frozenset[tuple[str, Any]]] = Counter()
        for point in _points_of(metric):
            values = {pair.key: _value(pair.value) for pair in point.attributes}
            seen[frozenset(values.items())] += 1
            yield from _point_problems(row, values, point)
        known |= {series for series in seen if (a.OVERFLOW, True) not in series}
        if len(known) > row.series_max:
            yield ERROR, row.name, f"{len(known)} series; at most {row.series_max}, count the rest as {a.OVERFLOW}=true"
        if any(count > 1 for count in seen.values()):
            yield ERROR, row.name, "two points of one series in one window: the second is a conflict"

    def _window(self, stream: _Stream, own: list[tuple[Any, Any]]) -> Rows:
        names = [metric.name for metric, _ in own]
        if not own or set(names) == {m.CLOCK_OFFSET.name}:
            return  # an envelope, or nothing of ours
        self.windows += 1
        times = {(point.start_time_unix_nano, point.time_unix_nano) for _, point in own}
        if len(times) != 1:
            yield ERROR, "window", f"{len(times)} different (start, time) pairs; all points of a window share one"
            return
        ((start, end),) = times
        if not 0 < start <= end:
            yield ERROR, "window", f"start {start}, time {end}: epoch nanoseconds, start before time"
        missing = [name for name in _SEAL if names.count(name) != 1]
        if missing:
            yield ERROR, "window", f"exactly one point each of {', '.join(missing)} is needed: without it no seal"
            return
        told = {metric.name: _number(point) for metric, point in own if metric.name in _SEAL}
        if told[m.WINDOW_POINTS.name] != len(own):
            yield ERROR, m.WINDOW_POINTS.name, f"says {told[m.WINDOW_POINTS.name]}, the window has {len(own)} points"
        first = told[m.WINDOW_SEQUENCE.name] - told[m.WINDOW_COUNT.name] + 1
        if stream.sequence is not None and first > stream.sequence + 1:
            yield ERROR, m.WINDOW_SEQUENCE.name, f"a gap: {first} follows {stream.sequence}"
        if stream.end_ns is not None and first == (stream.sequence or 0) + 1 and start != stream.end_ns:
            yield ERROR, "window", f"starts {start - stream.end_ns} ns after the end of the one before, not with it"
        if stream.sequence is None or told[m.WINDOW_SEQUENCE.name] > stream.sequence:
            stream.sequence, stream.end_ns = told[m.WINDOW_SEQUENCE.name], end

    # --- events -----------------------------------------------------------------------------------------------

    def _events_of(self, records: list[Any]) -> Check:
        def check(stream: _Stream, instance: str) -> Rows:
            for record in records:
                self.events += 1
                yield from _event_problems(f"event {record.event_name or '(no name)'}", record, instance, stream)

        return check


def _resource_problems(values: dict[str, Any]) -> Rows:
    for key in REQUIRED_RESOURCE:
        if not values.get(key) and not (key == a.INSTALLATION_ID and any(values.get(k) for k in _OTHERWISE_IDENTIFIED)):
            yield ERROR, "resource", f"{key} is missing"
    labels = [key for key in values if key.startswith(a.LABEL_PREFIX)]
    if len(labels) > a.LABEL_COUNT_MAX:
        yield ERROR, "resource", f"{len(labels)} labels; at most {a.LABEL_COUNT_MAX}"
    for key in values:
        if key not in a.RESOURCE_KEYS and key not in labels:
            yield ERROR, "resource", f"{key} is not in the contract and must stay on the device"


def _point_problems(row: Instrument, values: dict[str, Any], point: Any) -> Rows:
    allowed = {*row.attributes, a.OVERFLOW, *a.RANDOMISED_KEYS}
    words = closed_words()
    for key, value in values.items():
        if key not in allowed:
            yield ERROR, row.name, f"attribute {key} is not allowed here"
        elif key == a.ERROR_TYPE and row.name in OWN_ERRORS:
            continue
        elif key in words and value not in words[key]:
            yield ERROR, row.name, f"{key}={value!r}: known are {', '.join(sorted(words[key]))}"
    if (grid := values.get(a.FEATURE_GRID)) is not None and not _GRID.fullmatch(str(grid)):
        yield ERROR, row.name, f"{a.FEATURE_GRID}={grid!r}: write c=<centre>;u=<unit>"
    if row.kind is Kind.EXPONENTIAL:
        yield from _exponential_problems(row, point)
    elif row.kind is Kind.EXPLICIT:
        if tuple(point.explicit_bounds) != row.bounds:
            yield ERROR, row.name, "explicit bounds are not the frozen ones"
        if sum(point.bucket_counts) != point.count:
            yield ERROR, row.name, f"buckets hold {sum(point.bucket_counts)}, count says {point.count}"
    if row.kind in (Kind.EXPONENTIAL, Kind.EXPLICIT) and not row.summed:
        for name in ("sum", "min", "max"):
            if point.HasField(name):
                yield ERROR, row.name, f"{name} must not be sent: of one observation it is the raw value"
    if row.kind is Kind.COUNTER and _number(point) < 0:
        yield ERROR, row.name, f"{_number(point)}: a counter never falls"


def _exponential_problems(row: Instrument, point: Any) -> Rows:
    if row.max_scale is not None and not -10 <= point.scale <= row.max_scale:
        yield ERROR, row.name, f"scale {point.scale}; from -10 to {row.max_scale}"
    if max(len(point.positive.bucket_counts), len(point.negative.bucket_counts)) > MAX_BUCKETS:
        yield ERROR, row.name, f"more than {MAX_BUCKETS} buckets on a side; use a smaller scale"
    total = sum(point.positive.bucket_counts) + sum(point.negative.bucket_counts) + point.zero_count
    if total != point.count:
        yield ERROR, row.name, f"buckets and zero hold {total}, count says {point.count}"
    if not row.summed and point.zero_threshold != FEATURE_ZERO_THRESHOLD:
        yield ERROR, row.name, f"zero_threshold {point.zero_threshold}; the grid's is {FEATURE_ZERO_THRESHOLD}"


def _event_problems(where: str, record: Any, instance: str, stream: _Stream) -> Rows:
    event = _EVENTS.get(record.event_name)
    values = {pair.key: _value(pair.value) for pair in record.attributes}
    if event is None:
        yield ERROR, where, "no such event in the contract (the name goes into event_name)"
        return
    if not record.time_unix_nano:
        yield ERROR, where, "time_unix_nano is missing: the time at which it happened"
    if not record.severity_number:
        yield ERROR, where, "severity_number is missing"
    if record.HasField("body"):
        yield ERROR, where, "has a body: details go into attributes"
    for key in COMMON_KEYS:
        if key not in values:
            yield ERROR, where, f"{key} is missing"
    words = closed_words()
    for key, value in values.items():
        if key not in {*event.attributes, *COMMON_KEYS}:
            yield ERROR, where, f"attribute {key} is not allowed here"
        elif key in words and value not in words[key] and key != a.ERROR_TYPE:  # there it is the updater's own word
            yield ERROR, where, f"{key}={value!r}: known are {', '.join(sorted(words[key]))}"
    uid = _UID.fullmatch(str(values.get(a.LOG_RECORD_UID, "")))
    number = values.get(a.EVENT_SEQUENCE)
    if uid is None or uid["instance"] != instance or int(uid["number"]) != number:
        yield ERROR, where, f"{a.LOG_RECORD_UID} must be <{a.SERVICE_INSTANCE_ID}>:<{a.EVENT_SEQUENCE}>"
    elif number in stream.events:
        yield NOTE, where, f"event {number} came twice (a resent one is kept once)"
    else:
        stream.events.add(number)


def _points_of(metric: Any) -> Iterable[Any]:
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind else ()


def _number(point: Any) -> Any:
    kind = point.WhichOneof("value")
    return getattr(point, kind) if kind else 0


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(item) for item in value.array_value.values)
    return getattr(value, kind) if kind else None

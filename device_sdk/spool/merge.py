"""Merging neighbouring windows of one stream: counts add, time coarsens, nothing is lost.

Only this SDK's own delta windows: one resource, one scope, every point over the same (start, time), each window ending
where the next begins, sequence numbers without a gap. Counters and histograms add; exponential histograms come down to
the smaller scale and the larger zero threshold; levels and gauges keep the last value, peaks the highest;
``edge.window.count`` adds, ``edge.window.sequence`` is the last, ``edge.window.points`` is counted anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from device_sdk.contract import SCOPE_NAME
from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.ledger import LOSS_METRICS

_BUCKETS_MAX: Final = 160
_PEAKS: Final = frozenset({m.PROCESS_MEMORY_PEAK.name, m.TEMPERATURE_PEAK.name})
_DELTA: Final = 1


class _Unmergeable(Exception):  # noqa: N818 - a way out of the walk, never seen outside
    """These windows do not fit together."""


def merge_windows(payloads: Sequence[bytes]) -> bytes | None:
    """Return the one window that holds all of these neighbours, oldest first; None when they do not fit together."""
    from google.protobuf.message import DecodeError

    try:
        requests = [_parse(payload) for payload in payloads]
        return _merged(requests)
    except (DecodeError, _Unmergeable):
        return None


def losses_in(payload: bytes) -> dict[tuple[str, str], int]:
    """Return the losses a window tells of, by (metric name, reason)."""
    from google.protobuf.message import DecodeError

    found: dict[tuple[str, str], int] = {}
    try:
        request = _parse(payload)
    except DecodeError:
        return found
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name in LOSS_METRICS:
                    for point in metric.sum.data_points:
                        reason = next((p.value.string_value for p in point.attributes if p.key == a.LOSS_REASON), "")
                        key = (metric.name, reason)
                        found[key] = found.get(key, 0) + point.as_int
    return found


def _parse(payload: bytes) -> Any:
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

    return metrics_service_pb2.ExportMetricsServiceRequest.FromString(payload)


class _Window:
    """One parsed window that keeps to the contract."""

    def __init__(self, request: Any) -> None:
        if len(request.resource_metrics) != 1 or len(request.resource_metrics[0].scope_metrics) != 1:
            raise _Unmergeable
        self.resource = request.resource_metrics[0]
        self.scope = self.resource.scope_metrics[0]
        if self.scope.scope.name != SCOPE_NAME:
            raise _Unmergeable
        self.points: dict[tuple[str, str, bytes], Any] = {}
        times: set[tuple[int, int]] = set()
        for metric in self.scope.metrics:
            kind = metric.WhichOneof("data")
            if kind is None:
                raise _Unmergeable
            for point in getattr(metric, kind).data_points:
                times.add((point.start_time_unix_nano, point.time_unix_nano))
                key = (metric.name, kind, b"".join(pair.SerializeToString() for pair in point.attributes))
                if key in self.points:
                    raise _Unmergeable
                self.points[key] = (metric, point)
        if len(times) != 1:
            raise _Unmergeable
        ((self.start_ns, self.time_ns),) = times
        self.sequence = self._own(m.WINDOW_SEQUENCE.name, "gauge")
        self.count = self._own(m.WINDOW_COUNT.name, "sum")

    def _own(self, name: str, kind: str) -> int:
        held = self.points.get((name, kind, b""))
        if held is None:
            raise _Unmergeable
        return int(held[1].as_int)

    def head(self) -> tuple[bytes, str, bytes, str]:
        """Return what must be the same in windows that merge."""
        return (
            self.resource.resource.SerializeToString(),
            self.resource.schema_url,
            self.scope.scope.SerializeToString(),
            self.scope.schema_url,
        )


def _merged(requests: Sequence[Any]) -> bytes:
    windows = [_Window(request) for request in requests]
    target = windows[0]
    for before, window in pairwise(windows):
        if (
            window.head() != target.head()
            or window.start_ns != before.time_ns
            or window.sequence - window.count != before.sequence
        ):
            raise _Unmergeable
        _add_window(target, window)
    for _metric, point in target.points.values():
        point.start_time_unix_nano = target.start_ns
        point.time_unix_nano = windows[-1].time_ns
    held = target.points.get((m.WINDOW_POINTS.name, "sum", b""))
    if held is None:
        raise _Unmergeable
    held[1].as_int = len(target.points)
    return bytes(requests[0].SerializeToString())


def _add_window(target: _Window, window: _Window) -> None:
    metrics = {(metric.name, metric.WhichOneof("data")): metric for metric in target.scope.metrics}
    for key, (metric, point) in window.points.items():
        name, kind, _ = key
        held = target.points.get(key)
        if held is not None:
            _add_point(name, kind, held[0], held[1], metric, point)
            continue
        home = metrics.get((name, kind))
        if home is None:
            home = target.scope.metrics.add()
            home.CopyFrom(metric)
            getattr(home, kind).ClearField("data_points")
            metrics[name, kind] = home
        added = getattr(home, kind).data_points.add()
        added.CopyFrom(point)
        target.points[key] = (home, added)


def _add_point(name: str, kind: str, home: Any, held: Any, metric: Any, point: Any) -> None:
    if kind == "gauge":
        if name not in _PEAKS or _number(point) >= _number(held):
            _set(held, _number(point))
        return
    data, other = getattr(home, kind), getattr(metric, kind)
    if data.aggregation_temporality != other.aggregation_temporality:
        raise _Unmergeable
    if kind == "sum":
        if data.is_monotonic != other.is_monotonic:
            raise _Unmergeable
        delta = data.aggregation_temporality == _DELTA
        _set(held, _number(held) + _number(point) if delta else _number(point))
        return
    if data.aggregation_temporality != _DELTA:
        raise _Unmergeable
    if kind == "histogram":
        _add_explicit(held, point)
    elif kind == "exponential_histogram":
        _add_exponential(held, point)
    else:
        raise _Unmergeable


def _number(point: Any) -> int | float:
    value: int | float = getattr(point, point.WhichOneof("value") or "as_int")
    return value


def _set(point: Any, value: float) -> None:
    if isinstance(value, int):
        point.as_int = value
    else:
        point.as_double = value


def _add_explicit(held: Any, point: Any) -> None:
    if list(held.explicit_bounds) != list(point.explicit_bounds) or len(held.bucket_counts) != len(point.bucket_counts):
        raise _Unmergeable
    counts = [x + y for x, y in zip(held.bucket_counts, point.bucket_counts, strict=True)]
    _add_summary(held, point)
    del held.bucket_counts[:]
    held.bucket_counts.extend(counts)


def _add_exponential(held: Any, point: Any) -> None:
    scale = min(held.scale, point.scale)
    parts = [
        (
            source.scale,
            {getattr(source, side).offset + i: c for i, c in enumerate(getattr(source, side).bucket_counts) if c},
        )
        for side in ("positive", "negative")
        for source in (held, point)
    ]
    zeros, threshold = held.zero_count + point.zero_count, max(held.zero_threshold, point.zero_threshold)
    if held.zero_threshold != point.zero_threshold:
        zeros, threshold, parts = _into_zero(zeros, threshold, parts)
    sides = (parts[:2], parts[2:])
    while True:
        added = [_sum_of([_coarser(counts, own - scale) for own, counts in both]) for both in sides]
        if all(not counts or max(counts) - min(counts) < _BUCKETS_MAX for counts in added):
            break
        scale -= 1
    _add_summary(held, point)
    held.scale, held.zero_count, held.zero_threshold = scale, zeros, threshold
    for side, counts in zip((held.positive, held.negative), added, strict=True):
        del side.bucket_counts[:]
        side.offset = min(counts) if counts else 0
        if counts:
            side.bucket_counts.extend(counts.get(i, 0) for i in range(min(counts), max(counts) + 1))


def _coarser(counts: dict[int, int], steps: int) -> dict[int, int]:
    """Return buckets ``steps`` scales down: two neighbours become one at each step."""
    coarse: dict[int, int] = {}
    for index, count in counts.items():
        coarse[index >> steps] = coarse.get(index >> steps, 0) + count
    return coarse


def _sum_of(parts: Sequence[dict[int, int]]) -> dict[int, int]:
    total = dict(parts[0])
    for part in parts[1:]:
        for index, count in part.items():
            total[index] = total.get(index, 0) + count
    return total


def _into_zero(
    zeros: int, threshold: float, parts: list[tuple[int, dict[int, int]]]
) -> tuple[int, float, list[tuple[int, dict[int, int]]]]:
    """Move buckets that reach into a larger zero bucket there; it grows to the bound of the last bucket it cuts."""
    while True:
        grown, left = threshold, []
        for scale, counts in parts:
            kept: dict[int, int] = {}
            for index, count in counts.items():
                if 2.0 ** (index * 2.0**-scale) < threshold:
                    zeros += count
                    grown = max(grown, 2.0 ** ((index + 1) * 2.0**-scale))
                else:
                    kept[index] = count
            left.append((scale, kept))
        if grown == threshold:
            return zeros, threshold, left
        threshold, parts = grown, left


def _add_summary(held: Any, point: Any) -> None:
    """Add count and, where both have them, sum, minimum and maximum."""
    for name, join in (("sum", _plus), ("min", min), ("max", max)):
        if held.count == 0 and point.HasField(name):
            setattr(held, name, getattr(point, name))
        elif point.count == 0:
            continue
        elif held.HasField(name) and point.HasField(name):
            setattr(held, name, join(getattr(held, name), getattr(point, name)))
        else:
            held.ClearField(name)
    held.count += point.count


def _plus(first: float, second: float) -> float:
    return first + second

"""``Monitor.meter``: OpenTelemetry instruments of the program's own that ride the Monitor's spool.

The readings carry the Monitor's resource and identity and are stamped by its stream clock, so that a jump of the wall
clock moves them as little as the windows beside them. They are never merged and pass no privacy gate: what the program
records here is its own declaration.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.metrics import Meter
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from device_sdk.exporter import SpoolMetricExporter
from device_sdk.spool import Priority, Spool

_DELTA: Final[dict[type, AggregationTemporality]] = dict.fromkeys(
    (Counter, Histogram, ObservableCounter), AggregationTemporality.DELTA
)


class Metering:
    """The provider behind ``Monitor.meter`` and the target of its exporter."""

    def __init__(
        self,
        resource: Mapping[str, Any],
        spool: Spool,
        now_ns: Callable[[], int],
        *,
        interval_s: float = math.inf,
    ) -> None:
        self._spool = spool
        self._times = StreamTimes(now_ns)
        self._home = os.getpid()
        reader = PeriodicExportingMetricReader(
            SpoolMetricExporter(self, preferred_temporality=_DELTA), export_interval_millis=interval_s * 1e3
        )
        made_of = Resource({key: list(v) if isinstance(v, tuple) else v for key, v in resource.items()})
        self._provider = MeterProvider([reader], made_of, shutdown_on_exit=False)

    def meter(self, name: str) -> Meter:
        """Return the meter of this name."""
        return self._provider.get_meter(name)

    def collect(self) -> None:
        """Queue what was recorded since the last time."""
        self._provider.force_flush()

    def stop(self) -> None:
        """Take nothing more and end the reader's thread."""
        self._home = 0
        self._provider.shutdown()

    def accept(self, kind: int, payload: bytes) -> bool:
        """Queue one encoded request, stamped by the stream clock; a forked child's readings end here."""
        if self._home != os.getpid():
            return True
        stamped = self._times.restamp(payload)
        if stamped:
            self._spool.put(kind, stamped, priority=Priority.HEALTH)
        return True

    def flush(self, timeout_s: float) -> bool:  # noqa: ARG002 - the Monitor sends
        """Leave sending to the Monitor."""
        return True


class StreamTimes:
    """Puts wall clock times of one provider onto the stream clock; equal times stay equal: deltas stay seamless."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._known: dict[int, int] = {}
        self._latest_ns = now_ns()

    def restamp(self, payload: bytes) -> bytes:
        """Return an ExportMetricsServiceRequest with its times on the stream clock, empty when it holds no point."""
        request = metrics_service_pb2.ExportMetricsServiceRequest.FromString(payload)
        points = [
            point
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in getattr(metric, metric.WhichOneof("data")).data_points
        ]
        if not points:
            return b""
        now, newest = max(self._now_ns(), self._latest_ns + 1), max(point.time_unix_nano for point in points)
        used: dict[int, int] = {}
        for point in points:
            for name in ("start_time_unix_nano", "time_unix_nano"):
                wall = getattr(point, name)
                if wall:
                    used[wall] = self._stream_ns(wall, now - (newest - wall))
                    setattr(point, name, used[wall])
            for exemplar in getattr(point, "exemplars", ()):
                exemplar.time_unix_nano = now - (newest - exemplar.time_unix_nano)
        self._known, self._latest_ns = used, now
        return bytes(request.SerializeToString())

    def _stream_ns(self, wall: int, guess: int) -> int:
        known = self._known.get(wall)
        return known if known is not None else max(self._latest_ns, guess)

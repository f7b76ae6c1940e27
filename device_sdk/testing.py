"""For tests and simulations: a clock you turn by hand, a collector that is a list, and sudden death."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from device_sdk.contract.attributes import ClockSource
from device_sdk.host.host import Host
from device_sdk.host.tree import Tree
from device_sdk.sending.transport import Answer, Transport

if TYPE_CHECKING:
    from device_sdk.engine import Engine
    from device_sdk.monitor import Monitor

__all__ = ["ManualClock", "MemorySink", "attach_host", "connect", "kill"]


class ManualClock:
    """A clock that stands still until told: a Monitor with it starts no threads and is driven by ``step``."""

    manual = True

    def __init__(self, start_wall_ns: int, boot_id: str = "manual-boot", source: ClockSource = ClockSource.NTP) -> None:
        self._wall_ns = start_wall_ns
        self._boot_ns = 0
        self._perf_ns = 0
        self._first_boot_id = boot_id
        self._boots = 0
        self.source = source

    def perf_ns(self) -> int:
        """Return the steady clock."""
        return self._perf_ns

    def boot_ns(self) -> int:
        """Return nanoseconds since the last ``reboot``."""
        return self._boot_ns

    def wall_ns(self) -> int:
        """Return the wall clock, UTC epoch nanoseconds."""
        return self._wall_ns

    def boot_id(self) -> str:
        """Return this boot's id."""
        if not self._boots:
            return self._first_boot_id
        return hashlib.sha256(f"{self._first_boot_id}/{self._boots}".encode()).hexdigest()[:32]

    def advance(self, ns: int) -> None:
        """Let time pass."""
        self._check(ns)
        self._wall_ns += ns
        self._boot_ns += ns
        self._perf_ns += ns

    def suspend(self, ns: int) -> None:
        """Let time pass while the machine sleeps: the steady clock stops, so this is no observed time."""
        self._check(ns)
        self._wall_ns += ns
        self._boot_ns += ns

    def set_wall(self, wall_ns: int) -> None:
        """Let the wall clock jump, as a clock does that is set; nothing else moves."""
        self._wall_ns = wall_ns

    def reboot(self) -> None:
        """Start the next boot: a new boot id, and the boot clock from zero."""
        self._boots += 1
        self._boot_ns = 0

    @staticmethod
    def _check(ns: int) -> None:
        if ns < 0:
            raise ValueError(f"advance by {ns} ns: time does not run backwards; use set_wall() for a wall clock jump")


class MemorySink:
    """A transport that keeps what it is sent and answers as told; ``status`` may be changed at any time."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.requests: list[tuple[str, bytes]] = []

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:  # noqa: ARG002
        """Keep the (decompressed) body when ``status`` is a success."""
        if 200 <= self.status < 300:
            self.requests.append((url, gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body))
        return Answer(self.status, error="" if self.status else "told to be unreachable")

    def get(self, url: str, headers: Mapping[str, str], timeout_s: float, bytes_max: int) -> Answer:  # noqa: ARG002
        """Know no document."""
        return Answer(404)

    def close(self) -> None:
        """Do nothing."""

    def metrics(self) -> list[Any]:
        """Return the ExportMetricsServiceRequests that arrived, parsed, in order."""
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as pb

        return [pb.ExportMetricsServiceRequest.FromString(b) for url, b in self.requests if url.endswith("/v1/metrics")]

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Return (attributes, protobuf point) of every point of one metric that arrived, in order."""
        found = []
        for request in self.metrics():
            for metric in (m for r in request.resource_metrics for scope in r.scope_metrics for m in scope.metrics):
                if metric.name == name:
                    points = getattr(metric, metric.WhichOneof("data")).data_points
                    found += [({pair.key: _plain(pair.value) for pair in point.attributes}, point) for point in points]
        return found

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Return (event name, attributes) of every event that arrived, in order."""
        records = [x for log in self.logs() for r in log.resource_logs for s in r.scope_logs for x in s.log_records]
        return [(record.event_name, {pair.key: _plain(pair.value) for pair in record.attributes}) for record in records]

    def logs(self) -> list[Any]:
        """Return the ExportLogsServiceRequests that arrived, parsed, in order."""
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as pb

        return [pb.ExportLogsServiceRequest.FromString(b) for url, b in self.requests if url.endswith("/v1/logs")]


def connect(monitor: Monitor, transport: Transport) -> None:
    """Let a Monitor send through ``transport`` instead of its own HTTP connection."""
    _engine(monitor).sender.transport = transport


def attach_host(monitor: Monitor, root: str | os.PathLike[str]) -> None:
    """Let a Monitor read its host below ``root``, a directory with ``proc`` and ``sys`` in it, instead of ``/``.

    On a manual clock the host is read in ``step``, once a second of that clock at most.
    """
    engine = _engine(monitor)
    engine.host = Host(engine.config, engine.clock, Tree(root))


def kill(monitor: Monitor, exception: BaseException | None = None) -> None:
    """End a Monitor as if its process died: no goodbye, what was only in memory is gone, locks are free.

    With ``exception`` the death is that of an uncaught exception, which the interpreter's hook has seen.
    """
    engine = _engine(monitor)
    if exception is not None:
        engine.exception_ends_program(exception)
    engine.abandon()


def _engine(monitor: Monitor) -> Engine:
    engine = monitor._engine  # noqa: SLF001 - this module is the Monitor's own back door
    if engine is None:
        raise ValueError("this Monitor is disabled: it has nothing to connect or kill")
    return engine


def _plain(value: Any) -> Any:
    """Return an OTLP value as a Python one."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None

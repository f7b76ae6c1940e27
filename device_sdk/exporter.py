"""Disk buffering for any OpenTelemetry program: exporters that keep data through outages, restarts and power cuts.

``SpoolBuffer`` is a directory and a sender; ``SpoolMetricExporter`` and ``SpoolLogRecordExporter`` put requests into it
and return at once. Requests are sent in the background, byte for byte as they were encoded, until the endpoint takes
them. Nothing is merged: what these requests mean is the program's own business. Needs no ``Monitor``::

    buffer = SpoolBuffer("/var/lib/app/otel", endpoint="http://collector:4318")
    reader = PeriodicExportingMetricReader(SpoolMetricExporter(buffer))
    processor = BatchLogRecordProcessor(SpoolLogRecordExporter(buffer))
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, MetricExportResult, MetricsData

from device_sdk.clock import SystemClock
from device_sdk.config import resolve
from device_sdk.errors import guard, log_rationed
from device_sdk.ledger import Ledger
from device_sdk.lifecycle.accounts import Accounts
from device_sdk.lifecycle.state import StateDir
from device_sdk.sending.sender import Sender
from device_sdk.sending.transport import HttpTransport
from device_sdk.spool import LOGS, METRICS, Priority, Reports, Spool

_ROUND_S: Final = 60.0
_buffers: weakref.WeakSet[SpoolBuffer] = weakref.WeakSet()


class Target(Protocol):
    """Where encoded requests go."""

    def accept(self, kind: int, payload: bytes) -> bool:
        """Queue one request; say whether it is kept."""
        ...

    def flush(self, timeout_s: float) -> bool:
        """Send what is queued; say whether all of it was taken."""
        ...


class SpoolBuffer:
    """Keeps OTLP requests in ``directory`` until ``endpoint`` has taken them; one buffer a directory.

    ``endpoint``, ``token`` and limits may come from the environment, as for ``Monitor``: ``FLEETPULSE_DEVICE_*`` and
    ``OTEL_EXPORTER_OTLP_*``. ``durable`` (the default) syncs every request before ``export`` returns; otherwise they
    wait in memory and go to disk when the endpoint does not answer. Raises ``ConfigError`` for a setting that cannot
    work, ``StateDirError`` when another buffer or Monitor holds the directory; a directory that cannot be used only
    costs the disk. A forked child has a buffer of its own, in memory.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        endpoint: str | None = None,
        token: str | None = None,
        durable: bool = True,
    ) -> None:
        self._config = resolve(
            endpoint=endpoint, token=token, state_dir=directory, spool="durable" if durable else "memory"
        )
        self._state = _open_state(Path(directory))
        self._closed = False
        self._start(self._state.path)
        _buffers.add(self)
        atexit.register(_close_at_exit, weakref.ref(self))

    def _start(self, directory: Path | None) -> None:
        clock, config, ledger = SystemClock(), self._config, Ledger()
        self._ledger = ledger
        self._accounts = Accounts(directory, ledger)
        reports = Reports(
            lost=lambda kind, reason, count: ledger.lost(kind == METRICS, reason, count),
            segments_corrupt=ledger.segment_corrupt,
        )
        self._spool = Spool(
            directory / "spool" if directory is not None else None,
            config.limits,
            durable=config.durable,
            reports=reports,
            boot_ns=clock.boot_ns,
            boot=bytes.fromhex(clock.boot_id().replace("-", "")[:16].rjust(16, "0")),
        )
        self._accounts.resume(self._spool)
        transport = HttpTransport(certificate=config.certificate)
        self._sender = Sender(
            config, self._spool, ledger, transport=transport, envelope=bytes, on_progress=self._note_progress
        )
        self._stop, self._to_send = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._send_loop, name="device_sdk-buffer", daemon=True)
        self._thread.start()

    def accept(self, kind: int, payload: bytes) -> bool:
        """Queue one encoded request; say whether it is kept."""
        if self._closed:
            return False
        with guard("buffering an OTLP request"):
            self._spool.put(kind, payload, priority=Priority.HEALTH)
            if self._config.durable:
                self._spool.settle()
            self._to_send.set()
            return True
        return False

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Send what is queued and say whether all of it was taken within ``timeout_s``."""
        with guard("flushing the buffer"):
            return self._sender.send_all(timeout_s, wait=self._stop.wait)
        return False

    def usage(self) -> tuple[int, int]:
        """Return (bytes in memory, bytes on disk) that wait."""
        return self._spool.usage()

    def losses(self) -> dict[tuple[str, str], int]:
        """Return what will never arrive, over restarts too: counts by (metric name, reason) of the loss ledger."""
        return self._ledger.losses()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Try to send what is queued; what could not be sent stays on disk for the next start."""
        if self._closed:
            return True
        self._closed = True
        self._stop.set()
        self._to_send.set()
        deadline = time.monotonic() + timeout_s
        self._thread.join(min(1.0, timeout_s))
        sent = False
        with guard("closing the buffer"):
            sent = self._sender.send_all(deadline - time.monotonic(), wait=time.sleep, patient=False)
            self._spool.surrender()
            self._note_progress()
        self._sender.close()
        self._spool.close()
        self._accounts.close()
        self._state.release()
        return sent

    def after_fork_in_child(self) -> None:
        """Leave the directory to the parent; what the child exports waits in memory."""
        self._state.disown()
        self._spool.disown()
        self._accounts.close()
        if not self._closed:
            self._start(None)

    def _note_progress(self) -> None:
        self._accounts.note(self._spool)

    def _send_loop(self) -> None:
        stop, to_send = self._stop, self._to_send
        while not stop.is_set():
            to_send.wait(max(1.0, self._sender.resting_s()) if self._spool.waiting() else None)
            to_send.clear()
            if not stop.is_set():
                with guard("sending"):
                    self._sender.send_all(_ROUND_S, wait=stop.wait, patient=False)


class SpoolMetricExporter(MetricExporter):
    """A metric exporter that queues and returns; ``preferred_temporality`` and ``_aggregation`` as for any other."""

    def __init__(
        self,
        target: Target,
        preferred_temporality: dict[type, AggregationTemporality] | None = None,
        preferred_aggregation: dict[type, Any] | None = None,
    ) -> None:
        super().__init__(preferred_temporality, preferred_aggregation)
        self._target = target
        self._shut = False

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002 - queuing takes no time to speak of
        **_arguments: Any,
    ) -> MetricExportResult:
        """Queue one batch."""
        kept = not self._shut and self._target.accept(METRICS, encode_metrics(metrics_data).SerializeToString())
        return MetricExportResult.SUCCESS if kept else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Send what is queued; say whether all of it was taken."""
        return self._target.flush(timeout_millis / 1e3)

    def shutdown(self, timeout_millis: float = 30_000, **_arguments: Any) -> None:  # noqa: ARG002
        """Take nothing more; the buffer goes on until it is closed."""
        self._shut = True


class SpoolLogRecordExporter(LogRecordExporter):
    """A log exporter that queues and returns."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._shut = False

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Queue one batch."""
        kept = not self._shut and self._target.accept(LOGS, encode_logs(batch).SerializeToString())
        return LogRecordExportResult.SUCCESS if kept else LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is queued; say whether all of it was taken."""
        return self._target.flush(timeout_millis / 1e3)

    def shutdown(self) -> None:
        """Take nothing more; the buffer goes on until it is closed."""
        self._shut = True


def _open_state(directory: Path) -> StateDir:
    try:
        return StateDir.open(directory)
    except OSError as error:
        log_rationed(logging.WARNING, "%s: %s; requests wait in memory only", directory, error.strerror)
        return StateDir.memory()


def _close_at_exit(reference: weakref.ref[SpoolBuffer]) -> None:
    buffer = reference()
    if buffer is not None:
        with guard("closing the buffer at exit"):
            buffer.close()


def _after_fork_in_child() -> None:
    for buffer in list(_buffers):
        with guard("starting over in a forked child"):
            buffer.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

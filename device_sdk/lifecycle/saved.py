"""What a dead session's last note calls lost and is on disk all the same: written between two notes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from device_sdk.contract import metrics as m
from device_sdk.sending.stream import checksum_of
from device_sdk.spool import METRICS, Spool

_ALL_BYTES: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Saved:
    """Windows up to the last noted one, and finished runs, that are on disk beyond what was noted as safe."""

    windows: int = 0
    runs: int = 0


def saved_of(spool: Spool, instance_id: str, *, safe: int, last: int) -> Saved:
    """Return what the spool holds of a stream's windows after number ``safe``; ``last`` is the last noted window.

    The newest windows are read one by one, until one that was noted as safe.
    """
    stream = checksum_of(instance_id)
    windows = runs = 0
    for record in reversed(spool.head(METRICS, _ALL_BYTES)):
        if record.facts.stream != stream:
            continue
        payload = record.read()
        sequence, count, finished = _read(payload) if payload is not None else (safe, 0, 0)
        if sequence - count < safe:  # safe, or merged with such a one
            break
        windows += max(0, min(sequence, last) - (sequence - count))
        runs += finished
    return Saved(windows, runs)


def _read(payload: bytes) -> tuple[int, int, int]:
    """Return (number of its last base window, base windows, runs) of an encoded window."""
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

    request = metrics_service_pb2.ExportMetricsServiceRequest.FromString(payload)
    sequence, count, runs = -1, 0, 0
    for metric in request.resource_metrics[0].scope_metrics[0].metrics:
        if metric.name == m.WINDOW_SEQUENCE.name:
            sequence = metric.gauge.data_points[0].as_int
        elif metric.name == m.WINDOW_COUNT.name:
            count = metric.sum.data_points[0].as_int
        elif metric.name == m.INFERENCE_DURATION.name:
            runs = sum(point.count for point in metric.exponential_histogram.data_points)
    return sequence, count, runs

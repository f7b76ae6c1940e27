"""What the in-flight mark costs a run: two counters in private memory, and in a mapped file.

Prints ratios to one `Histogram.record` of OpenTelemetry with three attributes, measured in the same process; then the
longest of a million marks, in memory and in the file, while another thread syncs the file to the disk all the time.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from device_sdk.lifecycle.inflight import FILE_NAME, InflightMark
from device_sdk.signals.lane import Lane

ROUNDS = 7
CALLS = 200_000


def cpu_ns(function: Callable[[], object]) -> float:
    """Return CPU ns a call, the best of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        for _ in range(CALLS):
            function()
        best = min(best, (time.process_time_ns() - started) / CALLS)
    return best


def marking(lane: Lane) -> Callable[[], None]:
    """Return what the recorder's closure does around a run."""
    cells, begun, ended = lane.cells, 0, 0

    def mark() -> None:
        nonlocal begun, ended
        begun += 1
        cells[0] = begun
        ended += 1
        cells[1] = ended

    return mark


def record() -> Callable[[], None]:
    """Return one `Histogram.record` of OpenTelemetry with three attributes."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

    view = View(instrument_name="*", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider(metric_readers=[InMemoryMetricReader()], views=[view])
    histogram = provider.get_meter("benchmark").create_histogram("duration", "s")
    attributes = {"model": "digits", "version": "3", "phase": "steady"}
    return lambda: histogram.record(0.001234, attributes)


def longest_mark_ns(mark: Callable[[], None], path: Path) -> int:
    """Return the longest of a million marks while the file is synced to the disk all the time."""
    stop = threading.Event()

    def sync() -> None:
        descriptor = os.open(path, os.O_RDWR)
        while not stop.wait(0.01):
            os.fsync(descriptor)
        os.close(descriptor)

    thread = threading.Thread(target=sync)
    thread.start()
    longest = 0
    for _ in range(1_000_000):
        started = time.perf_counter_ns()
        mark()
        longest = max(longest, time.perf_counter_ns() - started)
    stop.set()
    thread.join()
    return longest


def main() -> None:
    """Print the table."""
    baseline = cpu_ns(record())
    empty = cpu_ns(lambda: None)
    with tempfile.TemporaryDirectory() as folder:
        mark = InflightMark(Path(folder), str(uuid.uuid4()))
        lane = mark.opener(model="digits", version="3", runtime="onnxruntime", provider="CPUExecutionProvider")()
        rows = [("private memory", cpu_ns(marking(Lane())) - empty), ("mapped file", cpu_ns(marking(lane)) - empty)]
        print(f"{'two counters of a run':<24}{'CPU ns':>10}{'of Histogram.record':>22}")
        for name, cost in rows:
            print(f"{name:<24}{cost:>10.0f}{cost / baseline:>22.4f}")
        print(f"{'Histogram.record':<24}{baseline:>10.0f}{1.0:>22.4f}")
        file = Path(folder) / FILE_NAME
        private, mapped = (longest_mark_ns(marking(one), file) for one in (Lane(), lane))
        print(
            f"longest of 1,000,000 marks while the file is synced: {private / 1e6:.2f} ms in private memory, ", end=""
        )
        print(f"{mapped / 1e6:.2f} ms in the mapped file")
        mark.detach()


if __name__ == "__main__":
    main()

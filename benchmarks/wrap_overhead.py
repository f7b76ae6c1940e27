"""What ``Monitor.wrap`` adds to one inference, beside OpenTelemetry instruments that record the same.

Five ways to run the same session of the digits model, in interleaved blocks of one process: bare ``run()``; wrapped,
latency and counts only; wrapped, all signals (latency, samples, confidence, entropy, margin, class, three input
statistics); the same on a manual clock (as the simulator runs it, no threads); and bare ``run()`` plus OpenTelemetry
SDK instruments recording latency, confidence, entropy, margin and class. Figures are CPU time (``process_time``, so
the background fold of the wrapped ways is inside them), the median over blocks. The last part times closing a window.

Run: ``.venv/bin/python benchmarks/wrap_overhead.py [--rounds 15] [--calls 3000]``
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from device_sdk import Feature, Monitor, Signals
from device_sdk.testing import ManualClock, MemorySink, connect

MODEL = Path(__file__).resolve().parents[1] / "simulator" / "models" / "digits.onnx"
START_NS = 1_700_000_000_000_000_000
FEATURES = (
    Feature("mean", kind="mean", center=0.305, unit=0.034),
    Feature("std", kind="std", center=0.374, unit=0.023),
    Feature("dark_share", kind="dark_share", low=0.19, center=0.579, unit=0.046),
)

Run = Callable[[Any, dict[str, Any]], Any]


def with_opentelemetry(session: Any) -> Run:
    """Return a run that records with the OpenTelemetry SDK what the wrapper records of the output and the latency."""
    provider = MeterProvider(
        metric_readers=[InMemoryMetricReader()],
        views=[View(instrument_name="edge.inference.duration", aggregation=ExponentialBucketHistogramAggregation())],
    )
    meter = provider.get_meter("device_sdk")
    duration = meter.create_histogram("edge.inference.duration", "s")
    shares = [meter.create_histogram(f"edge.output.{name}", "1") for name in ("confidence", "entropy", "margin")]
    predictions = meter.create_counter("edge.output.predictions")
    names = {"edge.model.name": "digits", "edge.model.version": "1", "edge.provider.name": "CPUExecutionProvider"}
    inner = session.run
    at = probabilities_at(session)

    def run(output_names: Any, feed: dict[str, Any]) -> Any:
        started = time.perf_counter_ns()
        result = inner(output_names, feed)
        duration.record((time.perf_counter_ns() - started) / 1e9, names)
        row = result[at][0]
        top = int(row.argmax())
        best, second = np.partition(row, -2)[[-1, -2]]
        shares[0].record(float(best), names)
        shares[1].record(float(-(row * np.log(np.maximum(row, 1e-30))).sum() / np.log(len(row))), names)
        shares[2].record(float(best - second), names)
        predictions.add(1, {**names, "edge.class.name": str(top)})
        return result

    return run


def probabilities_at(session: Any) -> int:
    """Return the position of the 2-D float output."""
    for position, output in enumerate(session.get_outputs()):
        if output.type == "tensor(float)" and len(output.shape) == 2:
            return position
    raise SystemExit(f"{MODEL}: no 2-D float output; is this the digits model?")


def cpu_us(run: Run, feeds: list[dict[str, Any]]) -> float:
    """Return CPU microseconds a call."""
    started = time.process_time_ns()
    for feed in feeds:
        run(None, feed)
    return (time.process_time_ns() - started) / len(feeds) / 1000


def window_cost_us(session: Any, directory: Path, feeds: list[dict[str, Any]], windows: int = 300) -> float:
    """Return CPU microseconds of ``step`` that folds nine runs and closes one window."""
    clock = ManualClock(START_NS)
    monitor = Monitor(endpoint="http://127.0.0.1:9", state_dir=directory, window_s=900, clock=clock)
    connect(monitor, MemorySink())
    run = monitor.wrap(session, model="digits", version="1", signals=Signals(features=FEATURES)).run
    spent = []
    for _ in range(windows):
        for feed in feeds[:9]:
            run(None, feed)
        clock.advance(900_000_000_000)
        started = time.process_time_ns()
        monitor.step()
        spent.append(time.process_time_ns() - started)
    monitor.close(0)
    return statistics.median(spent) / 1000


def main() -> int:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=3000)
    chosen = parser.parse_args()
    if not MODEL.is_file():
        print(f"{MODEL}: missing; the figure is defined on this model", file=sys.stderr)
        return 1
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])
    shape = [extent if isinstance(extent, int) else 1 for extent in session.get_inputs()[0].shape]
    name, rng = session.get_inputs()[0].name, np.random.default_rng(1)
    feeds = [{name: rng.random(shape, dtype=np.float32)} for _ in range(chosen.calls)]
    with tempfile.TemporaryDirectory() as folder:
        root, everything = Path(folder), Signals(features=FEATURES)
        quiet = {"endpoint": "http://127.0.0.1:9"}
        latency = Monitor(**quiet, state_dir=root / "a", signals=Signals(output="none"))
        full = Monitor(**quiet, state_dir=root / "b", signals=everything)
        manual = Monitor(**quiet, state_dir=root / "c", signals=everything, clock=ManualClock(START_NS))
        for monitor in (latency, full, manual):
            connect(monitor, MemorySink())
        narrow = Signals(output="none", features=())
        ways: dict[str, Run] = {
            "bare run()": session.run,
            "wrapped, latency only": latency.wrap(session, "digits", "1", signals=narrow).run,
            "wrapped, all signals": full.wrap(session, "digits", "1").run,
            "wrapped, all, manual clock": manual.wrap(session, "digits", "1").run,
            "OpenTelemetry instruments": with_opentelemetry(session),
        }
        figures: dict[str, list[float]] = {way: [] for way in ways}
        for round_number in range(chosen.rounds + 1):
            for way, run in ways.items():
                cost = cpu_us(run, feeds)
                if round_number:  # the first round warms up
                    figures[way].append(cost)
        window_us = window_cost_us(session, root / "w", feeds)
        for monitor in (latency, full, manual):
            monitor.close(0)
    report(figures, window_us)
    return 0


def report(figures: dict[str, list[float]], window_us: float) -> None:
    """Print CPU time a call, what a way adds to the bare run (medians of paired blocks), and the ratios."""
    bare = figures["bare run()"]
    added = {
        way: statistics.median(cost - base for cost, base in zip(costs, bare, strict=True))
        for way, costs in figures.items()
    }
    print(f"{'':28} {'CPU us':>8} {'added':>8} {'of bare':>8} {'of OpenTelemetry':>17}")
    for way, costs in figures.items():
        share = added[way] / statistics.median(bare)
        other = added[way] / added["OpenTelemetry instruments"]
        print(f"{way:28} {statistics.median(costs):8.2f} {added[way]:8.2f} {share:8.1%} {other:17.3f}")
    print(f"closing a window of 9 runs and 3 features: {window_us:.0f} us CPU")


if __name__ == "__main__":
    sys.exit(main())

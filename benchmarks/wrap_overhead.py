"""What ``Monitor.wrap`` adds to one inference of the digits model, and what OpenTelemetry instruments would add.

Every figure is a ratio inside one run of this program. Ways to run the same session take turns in blocks: bare
``run()``; wrapped, latency and counts only; wrapped, all signals (latency, samples, confidence, entropy, margin, class
and three input statistics) of every run, which ``overhead_budget=1`` asks for; wrapped as it comes, with adaptive
sampling; and bare ``run()`` plus OpenTelemetry SDK instruments for the same signals: latency, confidence, entropy,
margin and the three statistics as exponential or explicit histograms, the class as a counter. The OpenTelemetry way
computes the same numbers with numpy, one row at a time, for there is nothing that could batch them. It does not count
samples.

A cost is the CPU time of the calling thread (``thread_time``; the median over paired blocks in random order) plus that
of the Monitor's own threads, so the fold is inside. What these threads do when nothing runs (once a second they look at
the host) is measured first, taken off, and printed as a share of a core. The wrapped session hands ONNX Runtime the
names of all outputs where the caller gives None; that saves what the bare call pays to make that list, and is part of
the figure. With names given, the last line tells.

Run: ``.venv/bin/python benchmarks/wrap_overhead.py [--rounds 12]``
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
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)

from device_sdk import Feature, Monitor, Signals
from device_sdk.contract.buckets import U1_BOUNDS
from device_sdk.testing import MemorySink, connect

MODEL = Path(__file__).resolve().parents[1] / "simulator" / "models" / "digits.onnx"
FEATURES = (
    Feature("mean", kind="mean", center=0.305, unit=0.034),
    Feature("std", kind="std", center=0.374, unit=0.023),
    Feature("dark_share", kind="dark_share", low=0.19, center=0.579, unit=0.046),
)
NAMES = {"edge.model.name": "digits", "edge.model.version": "1", "edge.provider.name": "CPUExecutionProvider"}
SHARES = ("confidence", "entropy", "margin")
BARE, LATENCY, FULL = "bare run()", "wrapped, latency only", "wrapped, all signals, every run"
ADAPTIVE, OTHER = "wrapped, adaptive sampling", "OpenTelemetry instruments"
WARM_UP, TAIL_ROUNDS, IDLE_S = 3, 7, 5.0
LONG = 60  # blocks of half a second and more: in shorter ones the fold of every second would weigh too much
LENGTHS = {FULL: 20, OTHER: 4}
QUIET = {"endpoint": "http://127.0.0.1:9"}

Run = Callable[[Any, dict[str, Any]], Any]


def opentelemetry_meter() -> Any:
    """Return a meter whose histograms are exponential, those of shares explicit with the bounds of the contract."""
    explicit = [
        View(instrument_name=f"edge.output.{name}", aggregation=ExplicitBucketHistogramAggregation(U1_BOUNDS))
        for name in SHARES
    ]
    exponential = [
        View(instrument_name=name, aggregation=ExponentialBucketHistogramAggregation())
        for name in ("edge.inference.duration", "edge.input.*")
    ]
    provider = MeterProvider(metric_readers=[InMemoryMetricReader()], views=[*explicit, *exponential])
    return provider.get_meter("device_sdk")


def with_opentelemetry(session: Any) -> Run:
    """Return a run that records with the OpenTelemetry SDK what the wrapper records."""
    meter = opentelemetry_meter()
    duration = meter.create_histogram("edge.inference.duration", "s")
    shares = [meter.create_histogram(f"edge.output.{name}", "1") for name in SHARES]
    inputs = [meter.create_histogram(f"edge.input.{feature.name}", "1") for feature in FEATURES]
    predictions = meter.create_counter("edge.output.predictions")
    inner, at, name = session.run, probabilities_at(session), session.get_inputs()[0].name
    clock = time.perf_counter_ns

    def run(output_names: Any, feed: dict[str, Any]) -> Any:
        started = clock()
        result = inner(output_names, feed)
        duration.record((clock() - started) / 1e9, NAMES)
        row, sample = result[at][0], feed[name][0]
        top = int(row.argmax())
        best, second = np.partition(row, -2)[[-1, -2]]
        shares[0].record(float(best), NAMES)
        shares[1].record(float(-(row * np.log(np.maximum(row, 1e-30))).sum() / np.log(len(row))), NAMES)
        shares[2].record(float(best - second), NAMES)
        predictions.add(1, {**NAMES, "edge.class.name": str(top)})
        inputs[0].record(float(sample.mean()), NAMES)
        inputs[1].record(float(sample.std()), NAMES)
        inputs[2].record(float((sample <= 0.19).mean()), NAMES)
        return result

    return run


def probabilities_at(session: Any) -> int:
    """Return the position of the 2-D float output."""
    for position, output in enumerate(session.get_outputs()):
        if output.type == "tensor(float)" and len(output.shape) == 2:
            return position
    raise SystemExit(f"{MODEL}: no 2-D float output; is this the digits model?")


def one_record_us(calls: int) -> float:
    """Return CPU microseconds of one ``Histogram.record`` of OpenTelemetry: exponential, three attributes."""
    duration = opentelemetry_meter().create_histogram("edge.inference.duration", "s")
    values = np.random.default_rng(2).lognormal(-11, 0.2, calls).tolist()
    started = time.process_time_ns()
    for value in values:
        duration.record(value, NAMES)
    return (time.process_time_ns() - started) / calls / 1000


def cpu_us(run: Run, feeds: list[dict[str, Any]], names: Any) -> float:
    """Return CPU microseconds of this thread a call."""
    started = time.thread_time_ns()
    for feed in feeds:
        run(names, feed)
    return (time.thread_time_ns() - started) / len(feeds) / 1000


def threads_us(monitor: Monitor) -> float:
    """Return CPU microseconds that a Monitor's own threads have used."""
    idents = [thread.ident for thread in monitor._engine._workers._threads if thread.ident]  # noqa: SLF001
    return sum(time.clock_gettime_ns(time.pthread_getcpuclockid(ident)) for ident in idents) / 1000


def tail_us(run: Run, feeds: list[dict[str, Any]]) -> float:
    """Return the 99.9th percentile of the wall time of back-to-back calls."""
    clock, took = time.perf_counter_ns, []
    for feed in feeds:
        started = clock()
        run(None, feed)
        took.append(clock() - started)
    return float(np.quantile(took, 0.999)) / 1000


def session_of(path: Path) -> Any:
    """Return a session of one thread on the processor."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main() -> int:
    """Measure and print one table, then the figures against their targets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    chosen = parser.parse_args()
    if not MODEL.is_file():
        print(f"{MODEL}: missing; the figure is defined on this model", file=sys.stderr)
        return 1
    session = session_of(MODEL)
    name, rng = session.get_inputs()[0].name, np.random.default_rng(1)
    feeds = [{name: rng.random((1, 64), dtype=np.float32)} for _ in range(2000)]
    with tempfile.TemporaryDirectory() as folder:
        root, everything = Path(folder), Signals(features=FEATURES)
        latency = Monitor(**QUIET, state_dir=root / "a", signals=everything)
        full = Monitor(**QUIET, state_dir=root / "b", signals=everything, overhead_budget=1)
        adaptive = Monitor(**QUIET, state_dir=root / "c", signals=everything)
        monitors = {LATENCY: latency, FULL: full, ADAPTIVE: adaptive}
        for monitor in monitors.values():
            connect(monitor, MemorySink())
        latency._engine.govern("off")  # noqa: SLF001 - counts and latency only
        ways: dict[str, Run] = {BARE: session.run, OTHER: with_opentelemetry(session)}
        ways |= {way: monitor.wrap(session, "digits", "1").run for way, monitor in monitors.items()}
        measured = Measured(ways, monitors)
        measured.take(chosen.rounds, feeds, [output.name for output in session.get_outputs()])
        stride = adaptive._engine.models.recorders[0].sampling.stride  # noqa: SLF001 - to say it
        for monitor in monitors.values():
            monitor.close(0)
    measured.report(stride)
    return 0


class Measured:
    """Costs of each way, in paired blocks."""

    def __init__(self, ways: dict[str, Run], monitors: dict[str, Monitor]) -> None:
        self.ways = ways
        self.monitors = monitors
        self.cpu: dict[str, list[float]] = {way: [] for way in ways}
        self.named: dict[str, list[float]] = {way: [] for way in ways}
        self.tails: dict[str, list[float]] = {way: [] for way in (BARE, FULL, ADAPTIVE)}
        self.record: list[float] = []
        self.idle_share = 0.0
        self.behind = dict.fromkeys(ways, 0.0)

    def take(self, rounds: int, feeds: list[dict[str, Any]], names: list[str]) -> None:
        """Run every way in every round, in random order; the first rounds only warm up."""
        order, random = list(self.ways), np.random.default_rng(3)
        idle = self.idle(feeds)
        before, began = {}, 0.0
        for number in range(-WARM_UP, rounds):
            if number == 0:
                before = {way: threads_us(monitor) for way, monitor in self.monitors.items()}
                began = time.perf_counter()
            record = one_record_us(len(feeds))
            random.shuffle(order)
            costs = {way: cpu_us(self.ways[way], feeds * LENGTHS.get(way, LONG), None) for way in order}
            named = {way: cpu_us(self.ways[way], feeds * 20, names) for way in (BARE, ADAPTIVE)}
            if number >= 0:
                self.record.append(record)
                for way in order:
                    self.cpu[way].append(costs[way])
                for way, cost in named.items():
                    self.named[way].append(cost)
        time.sleep(1.1)  # the last fold
        for way, monitor in self.monitors.items():
            calls = rounds * len(feeds) * (LENGTHS.get(way, LONG) + 20 * (way == ADAPTIVE))
            spent = threads_us(monitor) - before[way] - idle[way] * (time.perf_counter() - began)
            self.behind[way] = spent / calls
        self.idle_share = statistics.median(idle.values()) / 1e6
        for _ in range(TAIL_ROUNDS):
            for way in self.tails:
                self.tails[way].append(tail_us(self.ways[way], feeds * 12))

    def idle(self, feeds: list[dict[str, Any]]) -> dict[str, float]:
        """Return CPU microseconds a second of each Monitor's threads while nothing runs."""
        for way in self.monitors:
            self.ways[way](None, feeds[0])
        time.sleep(1.5)
        before = {way: threads_us(monitor) for way, monitor in self.monitors.items()}
        time.sleep(IDLE_S)
        return {way: (threads_us(monitor) - before[way]) / IDLE_S for way, monitor in self.monitors.items()}

    def added(self, way: str, costs: dict[str, list[float]]) -> float:
        """Return what a way adds to the bare run: the median of paired differences, and its threads."""
        pairs = zip(costs[way], costs[BARE], strict=True)
        return statistics.median(mine - bare for mine, bare in pairs) + self.behind[way]

    def report(self, stride: int) -> None:
        """Print CPU time a call, what a way adds to the bare run, and the ratios with their targets."""
        bare_us = statistics.median(self.cpu[BARE])
        print(f"{'':32} {'caller us':>10} {'threads us':>11} {'added':>8} {'of bare':>8}")
        for way, costs in self.cpu.items():
            added = self.added(way, self.cpu)
            mine = statistics.median(costs)
            print(f"{way:32} {mine:10.2f} {self.behind[way]:11.2f} {added:8.2f} {added / bare_us:8.1%}")
        record_us = statistics.median(self.record)
        print(f"{'one Histogram.record':32} {record_us:10.2f}")
        print(f"adaptive sampling copied 1 run in {stride} at the end")
        print("p99.9 of wall us:", {way: round(statistics.median(tail), 1) for way, tail in self.tails.items()}, "\n")
        worst = {
            way: statistics.median(mine / bare for mine, bare in zip(tails, self.tails[BARE], strict=True))
            for way, tails in self.tails.items()
        }
        target("latency only / one Histogram.record", self.added(LATENCY, self.cpu) / record_us, 1 / 10)
        target("all signals / OpenTelemetry", self.added(FULL, self.cpu) / self.added(OTHER, self.cpu), 1 / 15)
        target("adaptive sampling / run()", self.added(ADAPTIVE, self.cpu) / bare_us, 0.05)
        target("p99.9 adaptive / p99.9 bare", worst[ADAPTIVE], 3)
        share = self.added(ADAPTIVE, self.named) / statistics.median(self.named[BARE])
        print("for information:")
        print(f"  the threads of a Monitor while nothing runs use {self.idle_share:.2%} of a core")
        print(f"  p99.9 all signals of every run / p99.9 bare {worst[FULL]:.2f} (within the budget it is never so)")
        print(f"  adaptive sampling / run() with output names given {share:.3f}")


def target(what: str, ratio: float, most: float) -> None:
    """Print one figure and whether it meets its target."""
    print(f"{what:40} {ratio:8.4f}  target <= {most:.4f}  {'PASS' if ratio <= most else 'FAIL'}")


if __name__ == "__main__":
    sys.exit(main())

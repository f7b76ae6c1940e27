"""What a window costs: CPU to build and send it, and its bytes, beside OpenTelemetry and beside a whylogs profile.

One model with three input columns and three classes; 30,000 samples in a window of 300 s, which make 30 series.
OpenTelemetry's side has as many, of the same kinds, bounds and attributes where they tell of the model and counters
for the rest: ``collect()`` into delta data and its own encoder, without compressing or sending. Ours includes the
allow-list, encoding, gzip, the spool in memory, and an HTTP POST over a kept connection to a server in another process
(runs are folded before: that is a run's cost). Times are CPU, medians, alternating.

The whylogs figure needs whylogs 1.6.4, which lives in an environment of its own, for it needs numpy below 2. Without it
the size that was measured so on 2026-11-25 is used::

    python -m venv .venv-peers && .venv-peers/bin/pip install -r benchmarks/requirements-peers.txt
    .venv-peers/bin/python benchmarks/window_cost.py --whylogs-profile profile.bin
    .venv/bin/python benchmarks/window_cost.py --peer profile.bin

Run: ``.venv/bin/python benchmarks/window_cost.py [--rounds 60] [--peer FILE]``
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RUNS = 30_000
COLUMNS, CLASSES = 3, 3
OWN = 17
START_NS = 1_700_000_000_000_000_000
WINDOW_S = 300
SINK = """
import http.server, socketserver, sys
class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
print(server.server_port, flush=True)
server.serve_forever()
"""


def data() -> tuple[Any, Any]:
    """Return inputs (runs, columns), float32 and not negative, and class probabilities (runs, classes)."""
    rng = np.random.default_rng(7)
    rows = rng.lognormal(1.0, 0.3, (RUNS, COLUMNS)).astype(np.float32)
    return rows, rng.dirichlet(np.full(CLASSES, 0.4), RUNS).astype(np.float32)


class Model:
    """A session that answers with the next row of probabilities; it needs no time of its own."""

    def __init__(self, answers: Any) -> None:
        self._answers = answers
        self._at = 0

    def run(self, _names: Any, feed: dict[str, Any], _options: Any = None) -> list[Any]:
        """Answer as many samples as there are."""
        at, count = self._at, len(feed["x"])
        self._at = (at + count) % len(self._answers)
        return [self._answers[at : at + count]]

    def get_inputs(self) -> list[Any]:
        """Describe the input."""
        return [_Tensor("x", COLUMNS)]

    def get_outputs(self) -> list[Any]:
        """Describe the output."""
        return [_Tensor("p", CLASSES)]

    def get_providers(self) -> list[str]:
        """Name the provider."""
        return ["CPUExecutionProvider"]

    def get_modelmeta(self) -> Any:
        """Have a version."""
        return _Tensor("meta", 0)


class _Tensor:
    def __init__(self, name: str, width: int) -> None:
        self.name = name
        self.shape = ["batch", width]
        self.type = "tensor(float)"
        self.version = 3


def ours(folder: Path, url: str) -> Any:
    """Return a monitor on a manual clock and a function that fills a window."""
    from device_sdk import Feature, Monitor, Signals
    from device_sdk.testing import ManualClock

    clock = ManualClock(START_NS)
    features = tuple(Feature(f"x{i}", column=i, center=2.8, unit=0.9) for i in range(COLUMNS))
    monitor = Monitor(url, state_dir=folder, window_s=WINDOW_S, clock=clock, signals=Signals(features=features))
    rows, answers = data()
    session = monitor.wrap(Model(answers), model="vision", version="3")

    def fill() -> None:
        for first in range(0, RUNS, 60):
            session.run(None, {"x": rows[first : first + 60]})
        monitor._engine.fold()  # noqa: SLF001 - what a run costs is another figure

    return monitor, clock, fill


def theirs() -> tuple[Any, Any]:
    """Return (fill, collect and encode) of the same series with the OpenTelemetry SDK."""
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
    from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
    from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
    from opentelemetry.sdk.metrics.view import (
        ExplicitBucketHistogramAggregation,
        ExponentialBucketHistogramAggregation,
        View,
    )

    from device_sdk.contract.buckets import U1_BOUNDS

    delta = AggregationTemporality.DELTA
    reader = InMemoryMetricReader(preferred_temporality={Counter: delta, Histogram: delta})
    shares = ("confidence", "entropy", "margin")
    views = [
        View(instrument_name=f"edge.output.{name}", aggregation=ExplicitBucketHistogramAggregation(U1_BOUNDS))
        for name in shares
    ]
    views += [
        View(instrument_name=name, aggregation=ExponentialBucketHistogramAggregation(max_size=160))
        for name in ("edge.inference.duration", "edge.input.value")
    ]
    meter = MeterProvider(metric_readers=[reader], views=views).get_meter("device_sdk")
    duration = meter.create_histogram("edge.inference.duration", "s")
    value = meter.create_histogram("edge.input.value", "1")
    observed = meter.create_counter("edge.input.observations", "{observation}")
    outputs = [meter.create_histogram(f"edge.output.{name}", "1") for name in shares]
    predicted = meter.create_counter("edge.output.predictions", "{prediction}")
    counters = [meter.create_counter(f"edge.own.{i}") for i in range(OWN)]
    model = {"edge.model.name": "vision", "edge.model.version": "3"}
    run = {**model, "edge.runtime.name": "onnxruntime", "edge.runtime.version": "1", "edge.provider.name": "CPU"}
    rows, answers = data()
    ordered = np.sort(answers, axis=1)
    taken = {
        "confidence": ordered[:, -1],
        "entropy": -(answers * np.log(np.maximum(answers, 1e-30))).sum(axis=1) / np.log(CLASSES),
        "margin": ordered[:, -1] - ordered[:, -2],
    }

    def fill(count: int) -> None:
        for at in range(count):  # enough of the values to have their buckets; more would only cost time
            duration.record(0.002 * (1 + at % 7 / 10), {**run, "edge.inference.phase": "steady"})
            for column in range(COLUMNS):
                feature = {**model, "edge.feature.name": f"x{column}", "edge.feature.grid": "c=2.8;u=0.9"}
                value.record(float(rows[at, column]), feature)
                observed.add(1, {**model, "edge.feature.name": f"x{column}", "edge.feature.state": "ok"})
            for histogram, name in zip(outputs, shares, strict=True):
                histogram.record(float(np.clip(taken[name][at], 0, 1)), {**run, "edge.output.name": "p"})
            predicted.add(1, {**run, "edge.output.name": "p", "edge.class.name": str(int(answers[at].argmax()))})
            for counter in counters:
                counter.add(1)

    def collect() -> bytes:
        return bytes(encode_metrics(reader.get_metrics_data()).SerializeToString())

    return fill, collect


def series_of(body: bytes) -> int:
    """Return how many points a request has."""
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

    request = metrics_service_pb2.ExportMetricsServiceRequest.FromString(body)
    metrics = [m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics]
    return sum(len(getattr(metric, metric.WhichOneof("data")).data_points) for metric in metrics)


def whylogs_profile(path: Path) -> int:
    """Write a whylogs profile of the same data; only where whylogs is installed."""
    import pandas as pd
    import whylogs

    rows, answers = data()
    frame = pd.DataFrame({f"x{i}": rows[:, i] for i in range(COLUMNS)})
    frame["latency"] = np.random.default_rng(9).lognormal(-6, 0.2, RUNS)
    frame["confidence"] = answers.max(axis=1)
    frame["class"] = answers.argmax(axis=1).astype(str)
    path.write_bytes(whylogs.log(frame).view().serialize())
    print(f"whylogs {whylogs.__version__}: {path.stat().st_size} bytes, {len(frame.columns)} columns, {RUNS} rows")
    return 0


def measure(rounds: int, url: str, folder: Path) -> tuple[list[tuple[float, float]], list[float], bytes, int]:
    """Return CPU us of (building, sending) ours and of OpenTelemetry's, one of ours, and how many series theirs has."""
    from device_sdk.testing import MemorySink, connect

    monitor, clock, fill = ours(folder / "a", url)
    other_fill, collect = theirs()
    mine, other, encoded = [], [], b""
    for number in range(rounds + 3):
        fill()
        other_fill(400)
        clock.advance(WINDOW_S * 1_000_000_000)
        started = time.process_time_ns()
        monitor.step()
        built = time.process_time_ns()
        sent = monitor.flush(10)
        middle = time.process_time_ns()
        encoded = collect()
        ended = time.process_time_ns()
        if not sent:
            raise SystemExit(f"{url}: the benchmark's own server did not take the window")
        if number >= 3:
            mine.append(((built - started) / 1000, (middle - built) / 1000))
            other.append((ended - middle) / 1000)
    monitor.close(0)
    shown, clock, fill = ours(folder / "b", url)
    sink = MemorySink()
    connect(shown, sink)
    fill()
    clock.advance(WINDOW_S * 1_000_000_000)
    shown.step()
    shown.flush(10)
    shown.close(0)
    body = next(body for address, body in sink.requests if address.endswith("/v1/metrics"))
    return mine, other, body, series_of(encoded)


def main() -> int:
    """Measure and print the figures against their targets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--peer", type=Path, help="a whylogs profile written with --whylogs-profile")
    parser.add_argument("--whylogs-profile", type=Path, help="write the peer's profile of the same data, and exit")
    chosen = parser.parse_args()
    if chosen.whylogs_profile:
        return whylogs_profile(chosen.whylogs_profile)
    server = subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline()) if server.stdout else 0
        with tempfile.TemporaryDirectory() as folder:
            mine, other, body, their_series = measure(chosen.rounds, f"http://127.0.0.1:{port}", Path(folder))
    finally:
        server.terminate()
        server.wait()
    packed = len(gzip.compress(body, 6))
    build_us, send_us = (statistics.median(part) for part in zip(*mine, strict=True))
    other_us = statistics.median(other)
    print(f"our window: {series_of(body)} series, {len(body)} bytes, {packed} with gzip")
    print(f"build {build_us:.0f} us, compress and send {send_us:.0f} us CPU")
    print(f"OpenTelemetry: {their_series} series; collect and encode {other_us:.0f} us\n")
    target("build and send / collect and encode", (build_us + send_us) / other_us, 1 / 4)
    target("  build alone / collect and encode", build_us / other_us, 1 / 4)
    target("bytes of a 300 s window, gzip", packed, 3000)
    size = chosen.peer.stat().st_size if chosen.peer else PEER_BYTES
    print(f"whylogs profile: {size} bytes ({'measured: ' + str(chosen.peer) if chosen.peer else PEER_NOTE})")
    target("window / whylogs profile", packed / size, 1 / 100)
    return 0


def target(what: str, ratio: float, most: float) -> None:
    """Print one figure and whether it meets its target."""
    print(f"{what:40} {ratio:10.4f}  target <= {most:.4f}  {'PASS' if ratio <= most else 'FAIL'}")


PEER_BYTES = 118_099
PEER_NOTE = "recorded, whylogs 1.6.4"

if __name__ == "__main__":
    sys.exit(main())

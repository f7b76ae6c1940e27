"""What a window costs: CPU to build and send it, and its bytes, beside OpenTelemetry and beside a whylogs profile.

A model with three classes and 3 or 20 input columns, each declared as a feature; 30,000 samples in a window of 300 s.
With 3 columns that makes the 30 series of the target, with 20 columns 64.

**CPU.** OpenTelemetry's side holds exactly the series of our window: names, kinds, attributes, bounds, scales, and a
value in every bucket that ours uses. Its figure is ``collect()`` into delta data and its own encoder: it neither
compresses nor sends. Ours is everything from the end of a window to the receiver's answer: taking the aggregates, the
allow-list, encoding, the session mark and the loss ledger on disk, the spool in memory, gzip, an HTTP POST over a kept
connection, and the second mark. Runs are folded before (a run's cost is another figure); the server is another process
and not counted. CPU time of the process, medians, alternating; both sides find the caches as the device's work left
them.

**Bytes.** The window is counted as it is sent, with gzip. "The same data" for whylogs is one row for each inference and
one column for each number that the window summarises: the columns, latency, confidence, entropy, margin and class.
whylogs writes its profiles without compression; both forms are printed. It needs numpy below 2 and so an environment of
its own; without it the sizes that were measured so on 2026-11-25 are used::

    python -m venv .venv-peers && .venv-peers/bin/pip install -r benchmarks/requirements-peers.txt
    .venv-peers/bin/python benchmarks/window_cost.py --whylogs

Run: ``.venv/bin/python benchmarks/window_cost.py [--rounds 40]``
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
CLASSES = 3
WHYLOGS_BYTES = {3: (165_032, 95_150), 20: (563_932, 299_427)}
"""By columns: bytes of whylogs 1.6.4's profile as it writes it, and with gzip."""
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


def data(columns: int) -> tuple[Any, Any]:
    """Return inputs (runs, columns), float32 and not negative, and class probabilities (runs, classes)."""
    rng = np.random.default_rng(7)
    rows = rng.lognormal(1.0, 0.3, (RUNS, columns)).astype(np.float32)
    return rows, rng.dirichlet(np.full(CLASSES, 0.4), RUNS).astype(np.float32)


class Model:
    """A session that answers with the next row of probabilities; it needs no time of its own."""

    def __init__(self, columns: int, answers: Any) -> None:
        self._columns = columns
        self._answers = answers
        self._at = 0

    def run(self, _names: Any, feed: dict[str, Any], _options: Any = None) -> list[Any]:
        """Answer as many samples as there are."""
        at, count = self._at, len(feed["x"])
        self._at = (at + count) % len(self._answers)
        return [self._answers[at : at + count]]

    def get_inputs(self) -> list[Any]:
        """Describe the input."""
        return [_Tensor("x", self._columns)]

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


def ours(folder: Path, url: str, columns: int) -> Any:
    """Return a monitor on a manual clock and a function that fills a window."""
    from device_sdk import Feature, Monitor, Signals
    from device_sdk.testing import ManualClock

    clock = ManualClock(START_NS)
    features = tuple(Feature(f"x{i}", column=i, center=2.8, unit=0.9) for i in range(columns))
    monitor = Monitor(url, state_dir=folder, window_s=WINDOW_S, clock=clock, signals=Signals(features=features))
    rows, answers = data(columns)
    session = monitor.wrap(Model(columns, answers), model="vision", version="3")

    def fill() -> None:
        for first in range(0, RUNS, 60):
            session.run(None, {"x": rows[first : first + 60]})
        monitor._engine.fold()  # noqa: SLF001 - what a run costs is another figure

    return monitor, clock, fill


def theirs(body: bytes) -> tuple[Any, Any]:
    """Return (fill, collect and encode) of the series in one of our windows, with the OpenTelemetry SDK.

    Names, kinds, attributes, bounds and scales are those of the window, and every bucket that it uses is recorded into.
    """
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
    from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
    from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
    from opentelemetry.sdk.metrics.view import (
        ExplicitBucketHistogramAggregation,
        ExponentialBucketHistogramAggregation,
        View,
    )

    from device_sdk.contract import BY_NAME, Kind

    views = []
    for name, row in BY_NAME.items():
        if row.kind is Kind.EXPLICIT:
            views.append(View(instrument_name=name, aggregation=ExplicitBucketHistogramAggregation(row.bounds)))
        elif row.kind is Kind.EXPONENTIAL:
            aggregation = ExponentialBucketHistogramAggregation(max_size=160, max_scale=row.max_scale or 20)
            views.append(View(instrument_name=name, aggregation=aggregation))
    delta = AggregationTemporality.DELTA
    reader = InMemoryMetricReader(preferred_temporality={Counter: delta, Histogram: delta})
    meter = MeterProvider(metric_readers=[reader], views=views).get_meter("device_sdk")
    makers = {
        Kind.EXPONENTIAL: meter.create_histogram,
        Kind.EXPLICIT: meter.create_histogram,
        Kind.COUNTER: meter.create_counter,
        Kind.UP_DOWN: meter.create_up_down_counter,
        Kind.GAUGE: meter.create_gauge,
    }
    writes: list[tuple[Any, dict[str, Any], list[float]]] = []
    for metric in metrics_of(body):
        row = BY_NAME[metric.name]
        instrument = makers[row.kind](metric.name, row.unit)
        write = getattr(instrument, "record", None) or getattr(instrument, "add", None) or instrument.set
        for point in getattr(metric, metric.WhichOneof("data")).data_points:
            attributes = {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in point.attributes}
            writes.append((write, attributes, values_of(point)))

    def fill() -> None:
        for write, attributes, values in writes:
            for value in values:
                write(value, attributes)

    def collect() -> bytes:
        return bytes(encode_metrics(reader.get_metrics_data()).SerializeToString())

    return fill, collect


def values_of(point: Any) -> list[float]:
    """Return values that make a point like this one: one for each bucket that is used, or its number."""
    if hasattr(point, "explicit_bounds"):
        bounds = [*point.explicit_bounds, point.explicit_bounds[-1] + 1]
        return [bound for bound, count in zip(bounds, point.bucket_counts, strict=True) if count]
    if not hasattr(point, "positive"):
        return [getattr(point, point.WhichOneof("value"))]
    base = 2.0**2.0**-point.scale  # side by side above 1, for these histograms take no negative values
    used = sum(1 for side in (point.positive, point.negative) for count in side.bucket_counts if count)
    return ([0.0] if point.zero_count else []) + [base ** (at + 0.5) for at in range(used)]


def metrics_of(body: bytes) -> list[Any]:
    """Return the metrics of a request."""
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

    request = metrics_service_pb2.ExportMetricsServiceRequest.FromString(body)
    return [m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics]


def series_of(body: bytes) -> int:
    """Return how many points a request has."""
    return sum(len(getattr(metric, metric.WhichOneof("data")).data_points) for metric in metrics_of(body))


def whylogs_profiles() -> int:
    """Print the sizes of whylogs' profiles of the same data; only where whylogs is installed."""
    import pandas as pd
    import whylogs

    for columns in WHYLOGS_BYTES:
        rows, answers = data(columns)
        ordered = np.sort(answers, axis=1)
        frame = pd.DataFrame({f"x{i}": rows[:, i] for i in range(columns)})
        frame["latency"] = np.random.default_rng(9).lognormal(-6, 0.2, RUNS)
        frame["confidence"] = ordered[:, -1]
        frame["entropy"] = -(answers * np.log(np.maximum(answers, 1e-30))).sum(axis=1) / np.log(CLASSES)
        frame["margin"] = ordered[:, -1] - ordered[:, -2]
        frame["class"] = answers.argmax(axis=1).astype(str)
        profile = whylogs.log(frame).view().serialize()
        sizes = len(profile), len(gzip.compress(profile, 6))
        print(f"whylogs {whylogs.__version__}, {len(frame.columns)} columns, {RUNS} rows: {columns}: {sizes}")
    return 0


def steady_window(folder: Path, columns: int) -> bytes:
    """Return the request that carries the third window, when starting is over."""
    from device_sdk.testing import MemorySink, connect

    monitor, clock, fill = ours(folder, "http://127.0.0.1:9", columns)
    sink = MemorySink()
    connect(monitor, sink)
    for _ in range(3):
        fill()
        clock.advance(WINDOW_S * 1_000_000_000)
        monitor.step()
        monitor.flush(10)
    monitor.close(0)
    return [bytes(body) for address, body in sink.requests if address.endswith("/v1/metrics")][2]


def measure(rounds: int, url: str, folder: Path, columns: int, body: bytes) -> tuple[float, float, float, bytes]:
    """Return median CPU us of building ours, of sending it and of OpenTelemetry's, and one encoding of theirs."""
    monitor, clock, fill = ours(folder, url, columns)
    other_fill, collect = theirs(body)
    spent, encoded = [], b""
    for number in range(rounds + 3):
        other_fill()
        fill()
        clock.advance(WINDOW_S * 1_000_000_000)
        started = time.process_time_ns()
        monitor.step()
        built = time.process_time_ns()
        sent = monitor.flush(10)
        ended = time.process_time_ns()
        if not sent:
            raise SystemExit(f"{url}: the benchmark's own server did not take the window")
        fill()  # leave the caches to their side as to ours
        begun = time.process_time_ns()
        encoded = collect()
        collected = time.process_time_ns()
        if number >= 3:
            spent.append((built - started, ended - built, collected - begun))
    monitor.close(0)
    build, send, other = (statistics.median(part) / 1000 for part in zip(*spent, strict=True))
    return build, send, other, encoded


def report(rounds: int, url: str, folder: Path, columns: int) -> None:
    """Measure and print one shape of window."""
    from device_sdk.sending.sender import compressed

    body = steady_window(folder / "a", columns)
    build, send, other, encoded = measure(rounds, url, folder / "b", columns, body)
    packed = len(compressed(body))
    print(f"{columns} columns: ours {series_of(body)} series, {len(body)} bytes, {packed} as sent with gzip")
    print(f"  build {build:.0f} us, compress and send {send:.0f} us CPU")
    print(f"  OpenTelemetry, {series_of(encoded)} series: collect and encode {other:.0f} us CPU")
    target("build and send / collect and encode", (build + send) / other, 1 / 4)
    target("  build alone / collect and encode", build / other, 1 / 4)
    if columns == min(WHYLOGS_BYTES):
        target("bytes of a window of 30 series, gzip", packed, 3000)
    plain, zipped = WHYLOGS_BYTES[columns]
    print(f"  whylogs profile of {columns + 5} columns: {plain} bytes, {zipped} with gzip (recorded, 1.6.4)")
    target("window as sent / whylogs as written", packed / plain, 1 / 100)
    target("window as sent / whylogs with gzip", packed / zipped, 1 / 100)


def main() -> int:
    """Measure and print the figures against their targets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--whylogs", action="store_true", help="print the sizes of whylogs' profiles, and exit")
    chosen = parser.parse_args()
    if chosen.whylogs:
        return whylogs_profiles()
    server = subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline()) if server.stdout else 0
        for columns in WHYLOGS_BYTES:
            with tempfile.TemporaryDirectory() as folder:
                report(chosen.rounds, f"http://127.0.0.1:{port}", Path(folder), columns)
    finally:
        server.terminate()
        server.wait()
    return 0


def target(what: str, ratio: float, most: float) -> None:
    """Print one figure and whether it meets its target."""
    print(f"  {what:40} {ratio:10.4f}  target <= {most:.4f}  {'PASS' if ratio <= most else 'FAIL'}")


if __name__ == "__main__":
    sys.exit(main())

"""What the gate between aggregates and encoder costs a window, beside encoding the same window.

Thirty series as a model with ten features and ten classes makes them: through the closed schema alone, with a minimum
and a clip, and, where OpenDP is installed, as one randomised report of each distribution. Figures are CPU time, the
median over rounds; the ratios are of one run.

Run: ``.venv/bin/python benchmarks/privacy_gate.py [--rounds 400]``
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from pathlib import Path

from device_sdk.contract import attributes as a
from device_sdk.contract.buckets import U1_BOUNDS
from device_sdk.ledger import Ledger
from device_sdk.points import AttributePairs, ExplicitHistogram, ExponentialHistogram, Points, Side
from device_sdk.privacy import Gate, Policy
from device_sdk.sending.otlp import Encoder

START_NS = 1_700_000_000_000_000_000
MODEL: AttributePairs = ((a.MODEL_NAME, "digits"), (a.MODEL_VERSION, "3"))
RUN: AttributePairs = (*MODEL, (a.RUNTIME_NAME, "onnxruntime"), (a.PROVIDER_NAME, "CPUExecutionProvider"))


def window() -> Points:
    """Return the points of one window: 30 series."""
    points = Points()
    latency = ExponentialHistogram(60, 4, 0, 0.0, Side(-180, [1] * 60), Side(), 0.06, 0.0004, 0.02)
    points.add("edge.inference.duration", latency, (*RUN, (a.INFERENCE_PHASE, "steady")))
    points.add("edge.inference.samples", 60, RUN)
    points.add("edge.signal.samples", 60, MODEL)
    for number in range(10):
        named = (*MODEL, (a.FEATURE_NAME, f"feature {number}"))
        value = ExponentialHistogram(60, 3, 0, 0.02, Side(-10, [2] * 15), Side(-10, [2] * 15))
        points.add("edge.input.value", value, (*named, (a.FEATURE_GRID, "c=0.5;u=0.25")))
    for name in ("confidence", "entropy", "margin"):
        share = ExplicitHistogram(60, U1_BOUNDS, [2] * 30 + [0] * 4)
        points.add(f"edge.output.{name}", share, (*RUN, (a.OUTPUT_NAME, "p")))
    for number in range(10):
        points.add("edge.output.predictions", 6, (*RUN, (a.OUTPUT_NAME, "p"), (a.CLASS_NAME, str(number))))
    points.add("edge.session.time", 60.0)
    points.add("edge.spool.usage", 12_000, ((a.SPOOL_MEDIUM, "memory"),))
    points.add("edge.window.sequence", 7)
    points.add("edge.window.count", 1)
    return points


def main() -> int:
    """Measure and print one line a step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=400)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "closed schema": Gate(),
            "minimum and clip": Gate(Policy(min_count=10, clip=40)),
        }
        if importlib.util.find_spec("opendp") is not None:
            randomised = Policy(epsilon=1.0, epsilon_day=1e9)
            ways["randomised reports"] = Gate(randomised, folder=Path(folder), now_ns=lambda: START_NS)
            ways["randomised reports"].declare("digits", "3", {"": [str(number) for number in range(10)]})
        encoder = Encoder({a.SERVICE_NAME: "bench"})
        spent: dict[str, list[int]] = {way: [] for way in (*ways, "encoding")}
        for number in range(rounds + 20):
            for way, gate in ways.items():
                points = window()
                started = time.thread_time_ns()
                gate.window(points, Ledger())
                spent[way].append(time.thread_time_ns() - started)
            points = window()
            started = time.thread_time_ns()
            encoder.window(points, START_NS, START_NS + 1)
            spent["encoding"].append(time.thread_time_ns() - started)
            if number == 20:  # the first rounds fill the caches
                spent = {way: [] for way in spent}
    median_us = {way: statistics.median(costs) / 1000 for way, costs in spent.items()}
    print(f"window of {window().count} series, CPU us and ratio to encoding it")
    for way, cost_us in median_us.items():
        print(f"{way:20} {cost_us:8.1f} {cost_us / median_us['encoding']:8.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the gate between aggregates and encoder costs a window, beside encoding the same window.

Thirty series as a model with ten features and ten classes makes them. Figures are CPU time, the median over rounds; the
ratio is of one run.

Run: ``.venv/bin/python benchmarks/privacy_gate.py [--rounds 400]``
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from device_sdk.contract import attributes as a
from device_sdk.contract.buckets import U1_BOUNDS
from device_sdk.ledger import Ledger
from device_sdk.points import AttributePairs, ExplicitHistogram, ExponentialHistogram, Points, Side
from device_sdk.privacy import Gate
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
    gate, ledger, encoder = Gate(), Ledger(), Encoder({a.SERVICE_NAME: "bench"})
    gating, encoding = [], []
    for number in range(rounds + 20):
        points = window()
        started = time.thread_time_ns()
        admitted = gate.window(points, ledger)
        passed = time.thread_time_ns()
        encoder.window(admitted, START_NS, START_NS + 1)
        done = time.thread_time_ns()
        if number >= 20:  # the first rounds fill the caches
            gating.append(passed - started)
            encoding.append(done - passed)
    gate_us, encode_us = statistics.median(gating) / 1000, statistics.median(encoding) / 1000
    print(f"window of {window().count} series: gate {gate_us:.1f} us, encoding {encode_us:.1f} us CPU")
    print(f"gate / encoding: {gate_us / encode_us:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

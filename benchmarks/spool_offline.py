"""A month off line: how much disk the spool takes, and whether every count arrives when the network is back.

A Monitor on a manual clock observes the digits model for ``--days`` of one-minute windows without a collector, in the
disk space given by ``--megabytes``. A few inferences are run in every window, of different digits, so that all series
live; the sender tries in vain once an hour. Then the program starts again, the collector is there, and what arrives is
compared with what was made: runs, samples, predictions and windows, each to the unit.

Run: ``.venv/bin/python benchmarks/spool_offline.py [--days 30] [--megabytes 5] [--runs 3]``
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from device_sdk import Feature, Monitor, Signals
from device_sdk.testing import ManualClock, MemorySink, connect

MODEL = Path(__file__).resolve().parents[1] / "simulator" / "models" / "digits.onnx"
START_NS = 1_700_000_000_000_000_000
MINUTE_NS = 60_000_000_000
FEATURES = (
    Feature("mean", kind="mean", center=0.305, unit=0.034),
    Feature("std", kind="std", center=0.374, unit=0.023),
    Feature("dark_share", kind="dark_share", low=0.19, center=0.579, unit=0.046),
)


def arrived(sink: MemorySink) -> tuple[Counter[str], list[int], int]:
    """Return (totals by metric, base windows inside each window that arrived, most series in one)."""
    totals: Counter[str] = Counter()
    windows, series = [], 0
    for request in sink.metrics():
        for resource in request.resource_metrics:
            points = 0
            for metric in resource.scope_metrics[0].metrics:
                data = getattr(metric, metric.WhichOneof("data"))
                points += len(data.data_points)
                for point in data.data_points:
                    if metric.name == "edge.inference.duration":
                        totals["runs"] += point.count
                    elif metric.name == "edge.inference.samples":
                        totals["samples"] += point.as_int
                    elif metric.name == "edge.output.predictions":
                        totals["predictions"] += point.as_int
                    elif metric.name == "edge.output.confidence":
                        totals["confidences"] += point.count
                    elif metric.name == "edge.window.count":
                        totals["windows"] += point.as_int
                        windows.append(point.as_int)
                    elif metric.name == "edge.loss.windows":
                        totals["lost"] += point.as_int
            series = max(series, points)
    return totals, windows, series


def disk_bytes(directory: Path) -> int:
    """Return the size of all files of the spool."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def away(days: float, megabytes: float, runs: int, folder: str) -> dict[str, Any]:
    """Live without a collector, then deliver; return the figures."""
    os.environ["FLEETPULSE_DEVICE_SPOOL_BYTES"] = str(round(megabytes * 1e6))
    clock, sink = ManualClock(START_NS), MemorySink(status=0)
    monitor = Monitor(
        endpoint="http://127.0.0.1:9",
        state_dir=folder,
        clock=clock,
        signals=Signals(features=FEATURES),
        spool="durable",
    )
    connect(monitor, sink)
    session = monitor.wrap(onnxruntime.InferenceSession(MODEL), model="digits", version="1")
    images = np.random.default_rng(1).uniform(0, 16, (64, 1, 64)).astype(np.float32)
    made, peak, windows = 0, 0, round(days * 1440)
    cpu = time.process_time()
    for minute in range(windows):
        for _ in range(runs):
            session.run(None, {"image": images[made % 64]})
            clock.advance(1_000_000)
            made += 1
        clock.advance(MINUTE_NS - runs * 1_000_000)
        monitor.step()
        if minute % 60 == 59:
            monitor.flush(0.01)
            peak = max(peak, disk_bytes(Path(folder) / "spool"))
    cpu = time.process_time() - cpu
    monitor.close(0)
    monitor = Monitor(endpoint="http://127.0.0.1:9", state_dir=folder, clock=clock)
    sink = MemorySink()
    connect(monitor, sink)
    delivered = monitor.flush(120)
    totals, inside, series = arrived(sink)
    monitor.close(0)
    return {
        "made": made, "windows": windows, "peak": peak, "cpu": cpu, "delivered": delivered, "totals": totals,
        "inside": inside, "series": series,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--megabytes", type=float, default=5)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        got = away(chosen.days, chosen.megabytes, chosen.runs, folder)
    totals, inside = got["totals"], sorted(got["inside"])
    print(
        f"{chosen.days:g} days off line, {got['windows']} windows of up to {got['series']} series, {got['made']} runs"
    )
    print(f"disk, most            {got['peak'] / 1e6:8.2f} MB")
    print(f"CPU of everything     {got['cpu'] / got['windows'] * 1e3:8.2f} ms a window")
    print(f"windows that arrived  {len(inside):8d}, each of {inside[len(inside) // 2]} (median), {inside[-1]} at most")
    lost = {
        name: got[of] - totals[name]
        for name, of in (("runs", "made"), ("samples", "made"), ("predictions", "made"), ("windows", "windows"))
    }
    print("lost counts           " + ", ".join(f"{name} {count}" for name, count in lost.items()))
    fine = got["delivered"] and not any(lost.values()) and not totals["lost"] and got["peak"] <= chosen.megabytes * 1e6
    print("holds" if fine else "DOES NOT HOLD")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())

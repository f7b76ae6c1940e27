"""Processes killed at random moments: what arrived and what was counted as lost is, to the unit, what was measured."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sdk_kit import attributes_of, events, points

from device_sdk import Monitor
from device_sdk.contract import attributes as a

NOWHERE = "http://127.0.0.1:9"
PROGRAM = """
import mmap, sys, time
from device_sdk import Monitor
endpoint, state, tally, spool = sys.argv[1:]
with open(tally, "r+b") as file:
    counted = memoryview(mmap.mmap(file.fileno(), 8)).cast("q")
monitor = Monitor(endpoint, state_dir=state, window_s=0.05, spool=spool)
print("ready", flush=True)
while True:
    for _ in range(20):
        with monitor.measure("m"):
            pass
        counted[0] += 1
    time.sleep(0.002)
"""


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return 150 if request.config.getoption("--long") else 3


def killed_after(seconds: float, endpoint: str, state: Path, spool: str) -> int:
    """Let a program infer, kill it, and return how many runs it had counted by itself."""
    tally = state.parent / "tally"
    tally.write_bytes(bytes(8))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "FLEETPULSE_"))}
    command = [sys.executable, "-c", PROGRAM, endpoint, str(state), str(tally), spool]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == "ready\n"
        time.sleep(seconds)  # the moment of death is the very thing that varies
        it.send_signal(signal.SIGKILL)
        assert it.wait() == -signal.SIGKILL
    (counted,) = struct.unpack("q", tally.read_bytes())
    return int(counted)


def windows_of(collector: Any, instance_id: str) -> dict[int, tuple[int, int]]:
    """Return {number of the last base window: (base windows, runs)} of what arrived of one stream."""
    found = {}
    for request in collector.metrics():
        for window in request.resource_metrics:
            if attributes_of(window.resource.attributes)[a.SERVICE_INSTANCE_ID] == instance_id:
                metrics = {metric.name: metric for metric in window.scope_metrics[0].metrics}
                if "edge.window.sequence" in metrics:  # not the envelope
                    durations = metrics.get("edge.inference.duration")
                    runs = sum(p.count for p in durations.exponential_histogram.data_points) if durations else 0
                    count = metrics["edge.window.count"].sum.data_points[0].as_int
                    found[metrics["edge.window.sequence"].gauge.data_points[0].as_int] = (count, runs)
    return found


@pytest.mark.parametrize("spool", ["memory", "durable"])
@pytest.mark.parametrize("reached", [True, False], ids=["collector there", "collector away"])
def test_what_a_kill_loses_is_counted_to_the_unit(
    collector: Any, tmp_path: Path, rounds: int, spool: str, reached: bool
) -> None:
    random_s = random.Random(f"{spool}{reached}")
    for number in range(rounds):
        state = tmp_path / str(number) / "state"
        state.parent.mkdir()
        endpoint = collector.url if reached else NOWHERE
        counted = killed_after(random_s.uniform(0.05, 0.6), endpoint, state, spool)
        monitor = Monitor(collector.url, state_dir=state, window_s=3600)
        assert monitor.flush(20)
        monitor.close()
        (end,) = [
            (at, resource)
            for name, at, (_, resource) in events(collector.logs())
            if name == "session.end" and at[a.SESSION_END_REASON] == "unknown"
        ]
        arrived = windows_of(collector, end[1][a.SERVICE_INSTANCE_ID])
        lost = {name: p.as_int for name, _, p in points(collector.metrics()) if name.startswith("edge.loss.")}
        last = end[0].get(a.SESSION_LAST_SEQUENCE, -1)
        got = sum(count for count, _ in arrived.values())
        runs = sum(runs for _, runs in arrived.values())
        beyond = max(arrived, default=-1) - last  # closed between two notes
        twice = got - max(0, beyond) + lost.get("edge.loss.windows", 0) - (last + 1)
        surplus = runs + lost.get("edge.loss.runs", 0) - counted
        if twice:  # arrived, but the process died before it had the answer: at least once means counted as lost too
            assert spool == "memory"
            assert reached
            assert 0 <= surplus <= 1 + sum(runs for _, runs in arrived.values())
        else:
            assert surplus in (0, 1), (arrived, lost, counted, last)  # 1: had ended, and was not yet counted by itself
        collector.requests.clear()

"""Processes of a running stack are killed at random moments; what devices counted is what the query API answers."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from device_sdk import Monitor
from device_sdk.testing import ManualClock

MODEL = Path(__file__).parents[2] / "simulator" / "models" / "digits.onnx"
DEVICES = 6
WINDOWS = 3
RUNS = 7
START_NS = 1_795_000_000_000_000_000
UP = [sys.executable, "-m", "fleetpulse", "up", "--otlp-port", "0", "--api-port", "0", "--no-dashboard"]


@pytest.fixture
def rounds(request) -> int:
    return 60 if request.config.getoption("--long") else 4


class Device:
    """A real Monitor around a real session, driven by hand; counts its own runs."""

    def __init__(self, number: int, endpoint: str, folder: Path) -> None:
        self.clock = ManualClock(START_NS)
        self.monitor = Monitor(
            endpoint=endpoint, state_dir=folder / str(number), clock=self.clock, device_id=f"device-{number}"
        )
        self.session = self.monitor.wrap(onnxruntime.InferenceSession(MODEL), model="digits", version="1")
        self.image = np.random.default_rng(number).uniform(0, 16, (1, 64)).astype(np.float32)
        self.runs = 0

    def live(self) -> None:
        for _ in range(WINDOWS):
            for _ in range(RUNS):
                self.session.run(None, {"image": self.image})
                self.runs += 1
            self.clock.advance(60_000_000_000)
            self.monitor.step()

    def deliver(self, timeout_s: float) -> bool:
        return self.monitor.flush(timeout_s)


def _children(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            if int(status[1]) == parent and b"fleetpulse.child" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _counts(api: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    cursor = ""
    while True:
        url = f"{api}/api/v1/metrics/edge.inference.duration/points?limit=10000&cursor={cursor}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            page = json.loads(answer.read())
        for item in page["items"]:
            counts[item["device_id"]] = counts.get(item["device_id"], 0) + item["count"]
        cursor = page["next"]
        if not cursor:
            return counts


@pytest.mark.timeout(1800)
def test_counts_stay_equal_while_workers_and_store_are_killed(tmp_path, rounds):
    dice = random.Random(1)
    stack = subprocess.Popen([*UP, "--data", str(tmp_path / "data")], stdout=subprocess.PIPE, text=True)
    try:
        urls = dict(word.split("=", 1) for word in stack.stdout.readline().split()[1:])
        devices = [Device(number, urls["otlp"], tmp_path / "devices") for number in range(DEVICES)]
        for _ in range(rounds):
            for device in devices:
                device.live()
            victims = _children(stack.pid)
            for device in devices:
                device.deliver(0.5)
                if victims and dice.random() < 0.3:
                    os.kill(victims.pop(dice.randrange(len(victims))), signal.SIGKILL)
        deadline = time.monotonic() + 60
        expected = {f"device-{number}": device.runs for number, device in enumerate(devices)}
        while True:
            try:
                delivered = [device.deliver(5) for device in devices]
                counts = _counts(urls["api"])
                if all(delivered) and counts == expected:
                    break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            assert time.monotonic() < deadline, (counts, expected)
            time.sleep(0.2)
        for device in devices:
            device.monitor.close()
        assert _counts(urls["api"]) == expected
    finally:
        stack.send_signal(signal.SIGTERM)
        stack.communicate(timeout=60)

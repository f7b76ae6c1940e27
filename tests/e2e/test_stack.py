"""The whole stack as processes: real SDK, real model, real HTTP, real DuckDB file; ends as an operator would end it."""

import json
import os
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
from device_sdk.contract.attributes import ClockSource
from device_sdk.testing import ManualClock

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "simulator" / "models" / "digits.onnx"
UP = [sys.executable, "-m", "fleetpulse", "up", "--otlp-port", "0", "--api-port", "0", "--dashboard-port", "0"]


class Stack:
    """One `fleetpulse up` process."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self.data = data
        command = [*UP, "--data", str(data), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            pytest.fail(f"not ready: {line} {self.process.stderr.read()}")
        self.urls = dict(word.split("=", 1) for word in line.split()[1:])

    def get(self, path: str):
        with urllib.request.urlopen(f"{self.urls['api']}/api/v1/{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def wait_for(self, path: str, enough, timeout_s: float = 15.0):
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self.get(path)
            if enough(answer):
                return answer
            assert time.monotonic() < deadline, answer
            time.sleep(0.05)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture
def stack(tmp_path):
    running = Stack(tmp_path / "data", "--no-dashboard")
    yield running
    if running.process.poll() is None:
        running.stop()


def _infer(endpoint: str, state_dir: Path, runs: int) -> str:
    """Run real inferences through the SDK and return the device's id."""
    monitor = Monitor(endpoint=endpoint, state_dir=state_dir, resource={"edge.device.tier": "cam-v2"})
    session = monitor.wrap(onnxruntime.InferenceSession(MODEL), model="digits", version="1")
    name = session.get_inputs()[0].name
    image = np.random.default_rng(1).uniform(0, 16, (1, 64)).astype(np.float32)
    for _ in range(runs):
        session.run(None, {name: image})
    assert monitor.flush(20)
    monitor.close()
    return "cam-v2"


def _runs(points) -> int:
    return sum(item["count"] for item in points["items"])


def test_what_a_device_counted_is_what_the_query_api_answers(stack, tmp_path):
    _infer(stack.urls["otlp"], tmp_path / "device", 250)
    points = stack.wait_for("metrics/edge.inference.duration/points", lambda answer: _runs(answer) >= 250)
    assert _runs(points) == 250
    assert {item["resource"]["edge.device.tier"] for item in points["items"]} == {"cam-v2"}
    devices = stack.get("devices")["items"]
    assert len(devices) == 1
    assert devices[0]["completeness"] == 1.0
    quantiles = stack.get("metrics/edge.inference.duration/quantiles?q=0.5,0.99&by=edge.device.tier")["items"]
    assert len(quantiles) == 1


def _run_windows(clock: ManualClock, endpoint: str, state_dir: Path, windows: int, runs: int) -> Monitor:
    """Run a real model for some 10-minute windows on a clock that nobody set."""
    monitor = Monitor(endpoint=endpoint, state_dir=state_dir, clock=clock, window_s=600, device_id="cam")
    session = monitor.wrap(onnxruntime.InferenceSession(MODEL), model="digits", version="1")
    image = np.zeros((1, 64), np.float32)
    for _ in range(windows):
        for _ in range(runs):
            session.run(None, {session.get_inputs()[0].name: image})
        clock.advance(600 * 10**9)
        monitor.step()
    return monitor


def test_a_device_that_boots_in_1970_counts_in_the_hours_in_which_it_ran(stack, tmp_path):
    second = 10**9
    clock = ManualClock(5 * second, source=ClockSource.NONE)
    offline = _run_windows(clock, "http://127.0.0.1:9", tmp_path / "device", windows=3, runs=5)
    offline.close(0)  # nobody answers: what it counted stays in the spool
    clock.reboot()
    clock.set_wall(5 * second)
    online = _run_windows(clock, stack.urls["otlp"], tmp_path / "device", windows=12, runs=7)
    before_ns = time.time_ns()
    assert online.flush(20)
    after_ns = time.time_ns()
    online.close(5)
    stack.wait_for("metrics/edge.inference.duration/points", lambda answer: _runs(answer) == 99)
    device = stack.wait_for("devices/cam", lambda answer: len(answer["clocks"]) == 2)
    sent_ns = 5 * second + 7200 * second
    assert before_ns - sent_ns <= device["clock"]["offset_ns"] <= after_ns - sent_ns
    assert sorted(item["quality"] for item in device["clocks"]) == ["bounded", "estimated"]
    assert device["first_seen_ns"] == pytest.approx(after_ns - 9000 * second, abs=20 * second)
    running = json.loads((stack.data / "run.json").read_text())
    request = urllib.request.Request(
        f"{stack.urls['api']}/api/v1/admin/jobs/run",
        data=b"{}",
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {running['operate_token']}"},
    )
    urllib.request.urlopen(request, timeout=60).close()
    hours = stack.get("distributions/edge.inference.duration")["items"]
    assert sum(item["n"] for item in hours) == 99
    hour = 3600 * second
    assert {item["hour_ns"] for item in hours} <= {after_ns // hour * hour - back * hour for back in range(4)}
    lately = stack.get(f"metrics/edge.inference.duration/quantiles?from={after_ns - 7000 * second}")["items"]
    assert [item["count"] for item in lately] == [84]
    raw = stack.get("metrics/edge.inference.duration/points")["items"]
    assert max(item["time_ns"] for item in raw) == sent_ns


def test_settings_of_a_cohort_reach_its_device_and_the_server_hears_that_they_are_in_force(stack, tmp_path):
    command = [
        sys.executable,
        "-m",
        "fleetpulse",
        "devices",
        "settings",
        "set",
        "tier=cam-v2",
        "--data",
        str(stack.data),
    ]
    said = subprocess.run(
        [*command, "--window-s", "120"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    clock = ManualClock(time.time_ns())
    monitor = Monitor(
        endpoint=stack.urls["otlp"], state_dir=tmp_path / "device", clock=clock, device_id="cam",
        resource={"edge.device.tier": "cam-v2"},
    )  # fmt: skip
    for seconds in (60, 60, 120):
        clock.advance(seconds * 10**9)
        assert monitor.step() == 1
        assert monitor.flush(20)
    monitor.close(5)
    stack.wait_for("devices", lambda answer: answer["items"])
    device = stack.wait_for("devices/cam", lambda answer: answer["settings"]["applied"] is not None)
    settings = device["settings"]
    assert settings["id"] == said.split()[0] == settings["applied"]["edge.settings.version"]
    assert settings["applied"]["edge.window.length"] == 120
    assert settings["selector"] == {"tier": "cam-v2"}
    windows = stack.get("metrics/edge.session.time/points?device=cam")["items"]
    assert [(item["time_ns"] - item["start_ns"]) // 10**9 for item in windows] == [60, 60, 120]
    assert len({item["resource"]["edge.settings.id"] for item in windows}) == 2


def test_sigterm_ends_it_cleanly_and_the_data_are_there_at_the_next_start(stack, tmp_path):
    _infer(stack.urls["otlp"], tmp_path / "device", 40)
    assert stack.stop() == 0
    again = Stack(stack.data, "--no-dashboard")
    try:
        points = again.wait_for("metrics/edge.inference.duration/points", lambda answer: _runs(answer) >= 40)
        assert _runs(points) == 40
    finally:
        assert again.stop() == 0


def test_the_store_killed_outright_is_started_again_and_nothing_acknowledged_is_lost(stack, tmp_path):
    _infer(stack.urls["otlp"], tmp_path / "one", 30)
    store = _child_of(stack.process.pid, '"store"')
    os.kill(store, signal.SIGKILL)
    _infer(stack.urls["otlp"], tmp_path / "two", 30)
    deadline = time.monotonic() + 30
    while True:
        try:
            answer = stack.get("metrics/edge.inference.duration/points")
            if _runs(answer) == 60:
                break
        except (urllib.error.URLError, ConnectionError):
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _child_of(parent: int, needle: str) -> int:
    for pid in Path("/proc").glob("[0-9]*"):
        try:
            status = (pid / "stat").read_text().rsplit(")", 1)[1].split()
            if int(status[1]) == parent and needle in (pid / "cmdline").read_text():
                return int(pid.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    pytest.fail(f"no child of {parent} has {needle} in its command line")


def _failing(*arguments: str) -> str:
    done = subprocess.run([*UP, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_directory_already_held_is_refused_with_the_holder_s_pid(stack):
    assert f"held by process {stack.process.pid}" in _failing("--data", str(stack.data), "--no-dashboard")


def test_a_port_in_use_is_refused_with_the_option_to_change(stack, tmp_path):
    port = stack.urls["otlp"].rsplit(":", 1)[1]
    said = _failing("--data", str(tmp_path / "other"), "--no-dashboard", "--otlp-port", port)
    assert "--otlp-port" in said


def test_without_the_pages_libraries_it_serves_everything_else_and_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['streamlit'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    running = Stack(tmp_path / "data")
    assert running.urls["dashboard"] == "off"
    assert running.get("devices")["items"] == []
    running.process.send_signal(signal.SIGTERM)
    said = running.process.communicate(timeout=60)[1]
    assert "pip install '.[dashboards]'" in said
    assert running.process.returncode == 0


def test_a_grpc_port_is_answered_with_what_to_use_instead(tmp_path):
    running = Stack(tmp_path / "data", "--no-dashboard", "--grpc-port", "4317")
    running.process.send_signal(signal.SIGTERM)
    _, said = running.process.communicate(timeout=60)
    assert "serves OTLP over HTTP only" in said


def test_listening_beyond_loopback_without_a_token_is_refused(tmp_path):
    assert "fleetpulse token create" in _failing("--data", str(tmp_path / "data"), "--host", "0.0.0.0")


def test_a_broken_slo_file_is_one_clear_message(tmp_path):
    (tmp_path / "config" / "slos").mkdir(parents=True)
    (tmp_path / "config" / "slos" / "bad.yaml").write_text(
        "apiVersion: openslo/v1\nkind: SLO\nspec: {objektives: []}\n"
    )
    said = _failing("--data", str(tmp_path / "data"), "--no-dashboard", "--config", str(tmp_path / "config"))
    assert "bad.yaml" in said


def test_a_broken_rule_file_is_one_clear_message(tmp_path):
    (tmp_path / "config" / "rules").mkdir(parents=True)
    (tmp_path / "config" / "rules" / "bad.yaml").write_text("name: x\nkind: slo\nwenn: []\n")
    said = _failing("--data", str(tmp_path / "data"), "--no-dashboard", "--config", str(tmp_path / "config"))
    assert "bad.yaml" in said

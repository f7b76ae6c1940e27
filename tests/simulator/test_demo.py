import dataclasses
import io
import sys

import pytest
from rich.console import Console

from collector.errors import StackError
from fleetpulse.demo import DemoOptions, run_demo, stack_command
from simulator.scenarios import HOUR, default_scenario

END = 1_790_000_000_000_000_000 // HOUR * HOUR
TIER, FIRMWARE = "edge.device.tier", "edge.firmware.version"


def right_alerts(scenario):
    where = {
        "crash": ("crash_loop", {TIER: "edge-mini", FIRMWARE: "2.1.0"}),
        "latency": ("slo_fast_burn_page", {"edge.model.version": "2"}),
        "silent": ("silent_devices", {TIER: "cam-v1"}),
    }
    for fault in scenario.faults:
        if fault.name in where:
            rule, cohort = where[fault.name]
            yield {
                "id": fault.name, "rule": rule, "cohort": cohort, "state": "firing", "since_ns": fault.onset_ns + HOUR,
                "devices": 1, "evidence": {"name": "digits-latency"},
            }  # fmt: skip


def run(stack, tmp_path, **more):
    options = DemoOptions(
        leave=True, devices=6, days=3, seed=1, data=str(tmp_path), otlp_url=stack.url, api_url=stack.url, workers=1,
        end_ns=END, **more,
    )  # fmt: skip
    text = io.StringIO()
    code = run_demo(options, Console(file=text, width=200))
    return code, text.getvalue()


@pytest.fixture
def stack(stack_server, monkeypatch):
    """The stand-in stack, and a scenario whose windows are long, so that a test takes seconds."""

    def long_windows(*arguments, **more):
        scenario = default_scenario(*arguments, **more)
        return dataclasses.replace(scenario, history_window_s=21_600, recent_window_s=3_600)

    monkeypatch.setattr("fleetpulse.demo.default_scenario", long_windows)
    stack_server.alerts = list(right_alerts(default_scenario(6, 3, 1, end_ns=END)))
    return stack_server


def test_the_demo_ends_with_zero_when_all_is_found_nothing_false_and_counts_are_equal(stack, tmp_path):
    code, text = run(stack, tmp_path)
    assert code == 0, text
    assert "yes, all" in text
    assert "1 h 00 min" in text
    assert text.count("found") == 3
    assert {path for path, _ in stack.bodies if "admin" in path} == {"/api/v1/admin/drain", "/api/v1/admin/jobs/run"}


def test_a_missed_fault_a_false_alert_and_a_lost_point_each_give_one(stack, tmp_path):
    crash = stack.alerts.pop(0)
    false = {**crash, "id": "x", "cohort": {TIER: "gateway"}, "rule": "drift"}
    stack.alerts.append(false)
    stack.lost = 1
    code, text = run(stack, tmp_path)
    assert code == 1
    assert "missed" in text
    assert "false alert: drift (tier gateway)" in text
    assert "edge.window.count: the device counted" in text


def test_a_stack_that_does_not_start_is_told_with_its_own_words(tmp_path):
    script = "import sys; print('port 4318 is in use', file=sys.stderr); sys.exit(3)"
    options = DemoOptions(leave=True, data=str(tmp_path), stack_command=(sys.executable, "-c", script))
    with pytest.raises(StackError, match=r"(?s)ended with 3.*port 4318 is in use"):
        run_demo(options, Console(file=io.StringIO()))


def test_a_demo_that_ends_by_itself_takes_free_ports_and_one_that_stays_the_usual_ones(tmp_path):
    leaving = stack_command(DemoOptions(leave=True), tmp_path)
    assert leaving[leaving.index("--otlp-port") + 1] == leaving[leaving.index("--api-port") + 1] == "0"
    assert "--otlp-port" not in stack_command(DemoOptions(), tmp_path)

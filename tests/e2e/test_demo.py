"""The demo as its user runs it: a small fleet, every fault found, nothing false, every count equal."""

import subprocess
import sys

import pytest


@pytest.mark.longest
@pytest.mark.timeout(900)
def test_a_small_fleet_shows_every_fault_and_no_false_alert_with_equal_counts(tmp_path):
    command = [sys.executable, "-m", "fleetpulse", "demo", "--exit", "--devices", "24", "--seed", "1"]
    done = subprocess.run(
        [*command, "--data", str(tmp_path / "demo")], capture_output=True, text=True, timeout=880, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "yes, all" in done.stdout

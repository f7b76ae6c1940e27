import dataclasses

import pytest

from simulator.device import Connection
from simulator.fleet import Fleet
from simulator.models import SimulatorError
from simulator.scenarios import HOUR, default_scenario
from simulator.truth import COUNTED_METRICS, mismatches

END = 1_790_000_000_000_000_000 // HOUR * HOUR


def test_worker_processes_move_in_lockstep_and_lose_nothing(capture, tmp_path):
    run = dataclasses.replace(default_scenario(6, 3, 2, end_ns=END), magika_runs_per_hour=0.0)
    with Fleet(run, Connection(capture.url, tmp_path), workers=2) as fleet:
        first = fleet.run_slice(run.start_ns + 3 * HOUR)
        second = fleet.run_slice(run.start_ns + 6 * HOUR)
        assert first.windows == second.windows == 6 * 12
        assert first.undelivered == second.undelivered == 0
        assert mismatches(fleet.truth(), capture.sums(), COUNTED_METRICS) == []
        truth = fleet.finish()
    assert set(truth) == {plan.device_id for plan in run.plans}
    assert mismatches(truth, capture.sums(), COUNTED_METRICS) == []


def test_a_failing_device_stops_the_fleet_with_its_own_words(tmp_path):
    run = default_scenario(6, 3, 2, end_ns=END)
    file = tmp_path / "file"
    file.write_text("not a directory")
    with (
        Fleet(run, Connection("http://127.0.0.1:9", file), workers=1) as fleet,
        pytest.raises(SimulatorError, match="simulated device failed"),
    ):
        fleet.run_slice(run.start_ns + HOUR)

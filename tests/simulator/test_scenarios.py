import pytest

from simulator.faults import FaultKind
from simulator.scenarios import DAY, HOUR, default_scenario, healthy_cohorts, slice_ends

END = 1_790_000_000_000_000_000 // HOUR * HOUR


def test_the_same_seed_gives_the_same_scenario_and_another_seed_another():
    assert default_scenario(30, 16, 5, end_ns=END) == default_scenario(30, 16, 5, end_ns=END)
    assert default_scenario(30, 16, 5, end_ns=END).plans != default_scenario(30, 16, 6, end_ns=END).plans


@pytest.mark.parametrize("devices", [6, 20, 37, 100, 250])
def test_faulty_groups_never_overlap_and_every_fault_has_devices(devices):
    scenario = default_scenario(devices, 16, 1, end_ns=END)
    members = [device for fault in scenario.faults for device in fault.device_ids]
    assert len(scenario.plans) == devices == len({plan.device_id for plan in scenario.plans})
    assert len(members) == len(set(members))
    assert {fault.kind for fault in scenario.faults} == set(FaultKind)
    assert all(fault.device_ids for fault in scenario.faults)


@pytest.mark.parametrize("devices", [20, 40, 100])
def test_the_demos_fleet_has_enough_devices_for_its_verdicts(devices):
    scenario = default_scenario(devices, 16, 1, end_ns=END)
    counts = {fault.kind: len(fault.device_ids) for fault in scenario.faults}
    assert counts[FaultKind.INPUT_DRIFT] >= 8
    assert counts[FaultKind.CRASH_LOOP] >= 2
    assert counts[FaultKind.LATENCY_REGRESSION] >= 3
    assert counts[FaultKind.SILENT] >= 2
    assert len(healthy_cohorts(scenario)) >= 4


def test_no_healthy_cohort_holds_a_faulty_device():
    scenario = default_scenario(100, 16, 1, end_ns=END)
    faulty = {device for fault in scenario.faults for device in fault.device_ids}
    healthy = {(row.tier, row.firmware, row.version) for row in healthy_cohorts(scenario) if row.model == "digits"}
    for plan in scenario.plans:
        if plan.device_id in faulty:
            key = (plan.tier.name, plan.firmware_at(scenario.end_ns), plan.digits_version_at(scenario.end_ns))
            assert key not in healthy


def test_every_fault_begins_after_fourteen_reference_days_and_leaves_time_to_be_found():
    scenario = default_scenario(100, 16, 1, end_ns=END)
    for fault in scenario.faults:
        assert scenario.start_ns + 14 * DAY <= fault.onset_ns <= scenario.end_ns - DAY
    offline = next(fault for fault in scenario.faults if fault.kind is FaultKind.OFFLINE)
    assert offline.end_ns is not None
    assert offline.end_ns - offline.onset_ns == 30 * HOUR
    assert offline.end_ns < scenario.end_ns


def test_drift_is_required_only_when_a_reference_can_exist():
    def required(days):
        faults = default_scenario(100, days, 1, end_ns=END).faults
        return next(fault.required for fault in faults if fault.kind is FaultKind.INPUT_DRIFT)

    assert required(16)
    assert not required(15)


def test_slices_cover_the_whole_history_and_end_with_it():
    scenario = default_scenario(6, 3, 1, end_ns=END)
    ends = slice_ends(scenario, 7)
    assert ends == sorted(set(ends))
    assert ends[0] == scenario.start_ns + 7 * HOUR
    assert ends[-1] == scenario.end_ns


@pytest.mark.parametrize(("devices", "days", "word"), [(5, 16, "--devices 6"), (6, 2, "--days 3")])
def test_too_small_a_fleet_or_history_says_what_to_pass(devices, days, word):
    with pytest.raises(ValueError, match=word):
        default_scenario(devices, days, 1, end_ns=END)

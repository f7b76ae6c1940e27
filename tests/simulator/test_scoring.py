import pytest

from simulator.faults import FaultKind
from simulator.scenarios import HOUR, default_scenario
from simulator.scoring import alert_fact, score

END = 1_790_000_000_000_000_000 // HOUR * HOUR
TIER, FIRMWARE = "edge.device.tier", "edge.firmware.version"


@pytest.fixture(scope="module")
def scenario():
    return default_scenario(100, 16, 1, end_ns=END)


def fault(scenario, kind):
    return next(fault for fault in scenario.faults if fault.kind is kind)


def alert(rule, cohort, since_ns, **more):
    return {"id": f"{rule}-{cohort}-{since_ns}", "rule": rule, "cohort": cohort, "since_ns": since_ns, **more}


def found(scenario, *alerts):
    scores = score(scenario, alerts)
    return {row.fault.kind for row in scores.faults if row.found}, scores


def test_without_alerts_every_required_fault_is_missed(scenario):
    seen, scores = found(scenario)
    assert not seen
    assert not scores.passed
    assert {row.fault.kind for row in scores.faults if row.missed} == set(FaultKind)


def test_the_right_alerts_find_every_fault_and_nothing_is_false(scenario):
    drift, crash = fault(scenario, FaultKind.INPUT_DRIFT), fault(scenario, FaultKind.CRASH_LOOP)
    latency, silent = fault(scenario, FaultKind.LATENCY_REGRESSION), fault(scenario, FaultKind.SILENT)
    away = fault(scenario, FaultKind.OFFLINE)
    seen, scores = found(
        scenario,
        alert("drift", {TIER: "cam-v2"}, drift.onset_ns + 3 * HOUR, evidence={"model": "digits", "version": "1"}),
        alert("crash_loop", {TIER: "edge-mini", FIRMWARE: "2.1.0"}, crash.onset_ns + HOUR),
        alert("slo_fast_burn_page", {}, latency.onset_ns + HOUR, evidence={"slo": "digits-latency"}),
        alert("silent_devices", {TIER: "cam-v1"}, silent.onset_ns + 4 * HOUR),
        alert("silent_devices", {TIER: "gateway"}, away.onset_ns + 4 * HOUR),
    )
    assert seen == {fault.kind for fault in scenario.faults}
    assert scores.passed
    assert next(row.delay_ns for row in scores.faults if row.fault is drift) == 3 * HOUR


def test_an_alert_before_its_faults_onset_is_false(scenario):
    drift = fault(scenario, FaultKind.INPUT_DRIFT)
    seen, scores = found(scenario, alert("drift", {TIER: "cam-v2"}, drift.onset_ns - HOUR))
    assert FaultKind.INPUT_DRIFT not in seen
    assert len(scores.false_alerts) == 1


@pytest.mark.parametrize(
    ("rule", "cohort"),
    [
        ("drift", {TIER: "cam-v1"}),
        ("crash_loop", {FIRMWARE: "2.0.4"}),
        ("slo_latency", {"edge.model.name": "digits", "edge.model.version": "1"}),
        ("inference-failures", {}),
    ],
)
def test_an_alert_about_a_healthy_part_or_of_another_kind_is_false(scenario, rule, cohort):
    _, scores = found(scenario, alert(rule, cohort, scenario.end_ns - HOUR))
    assert len(scores.false_alerts) == 1
    assert not scores.passed


def test_a_false_alert_counts_for_the_healthy_cohorts_it_covers(scenario):
    _, scores = found(scenario, alert("drift", {TIER: "gateway"}, scenario.end_ns - HOUR))
    hit = {row.cohort.tier for row in scores.cohorts if row.false_alerts}
    assert hit == {"gateway"}


def test_a_fleet_wide_alert_counts_for_a_fault_of_its_kind(scenario):
    crash = fault(scenario, FaultKind.CRASH_LOOP)
    seen, scores = found(scenario, alert("crash_free_missed", {}, crash.onset_ns + 2 * HOUR))
    assert seen == {FaultKind.CRASH_LOOP}
    assert not scores.false_alerts


def test_silence_while_a_group_is_away_is_that_fault(scenario):
    away = fault(scenario, FaultKind.OFFLINE)
    seen, scores = found(scenario, alert("silent_devices", {TIER: "gateway"}, away.onset_ns + 4 * HOUR))
    assert seen == {FaultKind.OFFLINE}
    assert not scores.false_alerts


def test_silence_long_after_the_group_returned_is_false(scenario):
    away = fault(scenario, FaultKind.OFFLINE)
    _, scores = found(scenario, alert("silent_devices", {TIER: "gateway"}, away.end_ns + 10 * HOUR))
    assert len(scores.false_alerts) == 1


def test_an_alert_that_names_mostly_healthy_devices_is_false_even_beside_a_fault(scenario):
    silent = fault(scenario, FaultKind.SILENT)
    since = silent.onset_ns + 4 * HOUR
    healthy = [plan.device_id for plan in scenario.plans if plan.night is not None]
    right = alert("silent_devices", {}, since, evidence={"device_ids": [*silent.device_ids]})
    wrong = alert("silent_devices", {}, since + 1, evidence={"device_ids": [*silent.device_ids, *healthy]})
    other = alert("silent_devices", {}, since + 2, evidence={"device_ids": healthy})
    seen, scores = found(scenario, right, wrong, other)
    assert FaultKind.SILENT in seen
    assert {row.since_ns for row in scores.false_alerts} == {since + 1, since + 2}


def test_the_same_alert_in_list_and_history_counts_once_with_its_earliest_time(scenario):
    drift = fault(scenario, FaultKind.INPUT_DRIFT)
    first = {"id": "a", "rule": "drift", "cohort": {TIER: "cam-v2"}, "since_ns": drift.onset_ns + 2 * HOUR}
    later = {**first, "since_ns": drift.onset_ns + 9 * HOUR, "state": "resolved"}
    row = next(row for row in score(scenario, [later, first]).faults if row.fault is drift)
    assert len(row.alerts) == 1
    assert row.delay_ns == 2 * HOUR


def test_model_and_version_are_read_from_the_alert_or_its_evidence():
    fact = alert_fact(
        {"id": "x", "rule": "r", "cohort": {}, "since_ns": "12", "model": "digits", "devices": ["a", "b"]}
    )
    assert fact.cohort == {"edge.model.name": "digits"}
    assert (fact.since_ns, fact.devices) == (12, 2)
    assert alert_fact({"evidence": {"version": "2"}}).cohort == {"edge.model.version": "2"}

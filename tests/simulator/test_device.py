import dataclasses

import pytest

from simulator.device import Connection, Device
from simulator.fleet import DeviceGroup
from simulator.scenarios import HOUR, SECOND, default_scenario
from simulator.truth import COUNTED_METRICS, mismatches
from simulator.world import World

END = 1_790_000_000_000_000_000 // HOUR * HOUR
MINUTE = 60 * SECOND


def scenario(devices=6, **more):
    return dataclasses.replace(default_scenario(devices, 3, 1, end_ns=END), magika_runs_per_hour=0.2, **more)


def group(run, capture, tmp_path, name="state"):
    return DeviceGroup(run, Connection(capture.url, tmp_path / name), range(len(run.plans)))


def run_alone(run, index, capture, tmp_path, until_ns, since_ns=None):
    """Run one device from ``since_ns`` on and deliver at the end."""
    run = dataclasses.replace(run, start_ns=since_ns or run.start_ns)
    device = Device(run, run.plans[index], World(run), Connection(capture.url, tmp_path / "state"))
    device.run_until(until_ns)
    device.flush()
    return device


def index_of(run, want):
    return next(plan.index for plan in run.plans if want(plan))


def ends(capture):
    return [
        {pair.key: pair.value for pair in record.attributes}
        for _, record in capture.logs()
        if record.event_name == "session.end"
    ]


def test_what_devices_counted_is_what_arrived_per_device_and_metric(capture, tmp_path):
    run = scenario()
    run = dataclasses.replace(run, start_ns=run.recent_ns - 2 * HOUR)
    fleet = group(run, capture, tmp_path)
    for hour in (1, 2, 3):
        activity, _ = fleet.run_slice(run.start_ns + hour * HOUR)
        assert activity.undelivered == 0
    assert mismatches(fleet.truth(), capture.sums(), COUNTED_METRICS) == []
    assert sum(counts["edge.inference.duration"] for counts in fleet.truth().values()) > 200
    fleet.close()
    assert mismatches(fleet.truth(), capture.sums(), COUNTED_METRICS) == []


def test_the_same_seed_sends_the_same_measurements(tmp_path, capture):
    def histograms(name):
        capture.bodies.clear()
        run = scenario()
        fleet = group(run, capture, tmp_path, name)
        fleet.run_slice(run.start_ns + 2 * HOUR)
        fleet.close()
        skipped = {"edge.sdk.time", "edge.export.size", "edge.clock.offset", "edge.spool.usage", "process.cpu.time",
                   "process.memory.usage"}  # fmt: skip
        return sorted(
            (attributes["device.id"], name, point.start_time_unix_nano, point.SerializeToString(deterministic=True))
            for attributes, name, point in capture.points()
            if name not in skipped
        )

    assert histograms("one") == histograms("two")


def test_a_group_off_line_returns_with_everything(capture, tmp_path):
    run = scenario()
    index = index_of(run, lambda plan: plan.offline is not None)
    away, back = run.plans[index].offline
    device = run_alone(run, index, capture, tmp_path, away + 3 * HOUR, since_ns=run.recent_ns)
    assert max(point.time_unix_nano for _, name, point in capture.points() if name == "edge.session.time") == away
    device.run_until(back + 10 * MINUTE)
    device.flush()
    assert mismatches({device.plan.device_id: device.tally.closed}, capture.sums(), COUNTED_METRICS) == []
    assert device.tally.closed["edge.session.time"] == (back + 10 * MINUTE - run.recent_ns) / SECOND
    device.close()


def test_crash_looping_firmware_loses_only_its_open_windows_and_says_unexpected(capture, tmp_path):
    run = scenario()
    index = index_of(run, lambda plan: plan.crash_from_ns is not None)
    onset = run.plans[index].crash_from_ns
    device = run_alone(run, index, capture, tmp_path, onset + 6 * HOUR, since_ns=onset - HOUR)
    crashes = device.take_activity().crashes
    assert 8 <= crashes <= 18
    unexpected = [end for end in ends(capture) if not end["edge.session.end.expected"].bool_value]
    assert len(unexpected) in {crashes, crashes - 1}
    assert mismatches({device.plan.device_id: device.tally.closed}, capture.sums(), COUNTED_METRICS) == []
    firmware = {attributes["edge.firmware.version"] for attributes, _, _ in capture.points()}
    assert firmware == {"2.0.4", "2.1.0"}
    device.close()


def test_a_device_that_is_switched_off_at_night_ends_as_expected(capture, tmp_path):
    run = scenario(devices=20)
    index = index_of(run, lambda plan: plan.night is not None)
    device = run_alone(run, index, capture, tmp_path, run.start_ns + 23 * HOUR)
    reasons = {end["edge.session.end.reason"].string_value for end in ends(capture)}
    assert reasons == {"low_power"}
    local = [(run.start_ns // HOUR + hour + run.plans[index].utc_offset_h) % 24 for hour in range(23)]
    awake_h = sum(6 <= hour < 22 for hour in local)
    assert device.tally.closed["edge.session.time"] == awake_h * 3600
    assert mismatches({device.plan.device_id: device.tally.closed}, capture.sums(), COUNTED_METRICS) == []
    device.close()


def test_a_silent_device_sends_nothing_after_its_time(capture, tmp_path):
    run = scenario()
    index = index_of(run, lambda plan: plan.silent_from_ns is not None)
    silent = run.plans[index].silent_from_ns
    device = run_alone(run, index, capture, tmp_path, silent + 5 * HOUR, since_ns=silent - HOUR)
    newest = max(point.time_unix_nano for _, name, point in capture.points() if name == "edge.session.time")
    assert silent - 15 * MINUTE <= newest <= silent
    assert device.tally.closed["edge.session.time"] == 3600


def test_version_two_is_slower_and_only_on_its_rings(capture, tmp_path):
    run = scenario()
    index = index_of(run, lambda plan: plan.model_2_from_ns is not None)
    device = run_alone(run, index, capture, tmp_path, run.recent_ns + 12 * HOUR, since_ns=run.recent_ns - 12 * HOUR)
    totals = {}
    for _, name, point in capture.points():
        if name == "edge.inference.duration":
            attributes = {pair.key: pair.value.string_value for pair in point.attributes}
            if "error.type" not in attributes:
                seen = totals.setdefault(attributes["edge.model.version"], [0.0, 0])
                seen[0] += point.sum
                seen[1] += point.count
    means = {version: total / count for version, (total, count) in totals.items()}
    assert set(means) == {"1", "2"}
    assert 2.2 < means["2"] / means["1"] < 3.6
    device.close()


def test_windows_are_shorter_in_the_last_two_days(capture, tmp_path):
    run = scenario()
    index = index_of(run, lambda plan: plan.tier.name == "gateway")
    device = run_alone(run, index, capture, tmp_path, run.recent_ns + HOUR, since_ns=run.recent_ns - HOUR)
    lengths = [
        (point.time_unix_nano - point.start_time_unix_nano) / SECOND
        for _, name, point in capture.points()
        if name == "edge.session.time"
    ]
    assert [length for length in lengths if length >= 1] == [900] * 4 + [300] * 12
    device.close()


@pytest.mark.parametrize("stops", [1, 5])
def test_how_time_is_sliced_does_not_change_how_long_sessions_were(stops, capture, tmp_path):
    run = scenario()
    fleet = group(run, capture, tmp_path)
    for stop in range(1, stops + 1):
        fleet.run_slice(run.start_ns + stop * 5 * HOUR // stops)
    seconds = {counts["edge.session.time"] for counts in fleet.truth().values()}
    assert seconds == {5 * 3600}
    fleet.close()

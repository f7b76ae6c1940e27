"""Crash-free verdicts from a real store's roll-ups."""

from __future__ import annotations

import pytest
from judgement_kit import DAY, HOUR, MINUTE, T0, Batch, Clock, Device, fleet, opened, rows_of

from analytics import crash_free_job
from analytics.options import AnalyticsOptions
from analytics.slis import roll_up
from collector.storage.base import DirtyHour

OPTIONS = AnalyticsOptions()
HUB = '{"edge.device.tier":"hub"}'
CAM = '{"edge.device.tier":"cam"}'
OLD, NEW = '{"edge.firmware.version":"1.0.0"}', '{"edge.firmware.version":"1.4.2"}'


@pytest.fixture
def place(tmp_path):
    store = opened(tmp_path, Clock(T0 + 3 * DAY))
    yield store, tmp_path
    store.close()


def judged(place, batch: Batch, from_h: float, until_h: float):
    store, path = place
    batch.put(store, path / "segments")
    roll_up(store, OPTIONS, T0 + int(until_h * HOUR), 1)
    return crash_free_job.run(store, OPTIONS, T0 + int(from_h * HOUR), T0 + int(until_h * HOUR), 1)


def hours(batch: Batch, devices: list[Device], count: int) -> Batch:
    for device in devices:
        for hour in range(count):
            batch.window(device, T0 + hour * HOUR, T0 + (hour + 1) * HOUR, starts=1 if hour == 0 else 0)
    return batch


def test_a_slot_with_an_unexpected_end_is_bad_and_an_expected_end_is_not(place):
    devices = fleet(4, tiers=("hub",))
    batch = hours(Batch(T0 + DAY), devices, 24)
    batch.session_end(devices[0], T0 + 5 * HOUR + MINUTE, reason="native_crash")
    batch.session_end(devices[0], T0 + 5 * HOUR + 2 * MINUTE, reason="oom_kill")
    batch.session_end(devices[1], T0 + 7 * HOUR + MINUTE, reason="update", expected=True)
    rows = {row["name"]: row for row in rows_of(judged(place, batch, 23, 24), cohort="{}")}
    time, sessions, devices_row = (rows[f"crash_free_{name}"] for name in ("time", "sessions", "devices"))
    assert time["value"] == pytest.approx(95 / 96)
    assert (time["n"], time["devices"], time["target"]) == (96, 4, 0.995)
    assert time["detail"]["crashes"] == 2
    assert time["detail"]["crashing_devices"] == ["dev-000"]
    assert time["detail"]["reasons"] == {"native_crash": 1, "oom_kill": 1}
    assert time["low"] < time["value"] < time["high"]
    # device 0: two ends of one start known in the window, the others one session each
    assert sessions["value"] == pytest.approx(3 / 5)
    assert devices_row["value"] == 0.75


def test_too_few_hours_are_insufficient_and_say_how_many_more(place):
    rows = rows_of(judged(place, hours(Batch(T0 + DAY), fleet(4), 24), 23, 24), name="crash_free_time", cohort="{}")
    assert [(row["verdict"], row["reason"]) for row in rows] == [("insufficient", "evidence")]
    assert rows[0]["detail"]["hours_needed"] == pytest.approx(597.65 - 96, abs=0.01)


def test_enough_good_hours_meet_the_target(place):
    rows = rows_of(judged(place, hours(Batch(T0 + DAY), fleet(26, tiers=("hub",)), 24), 23, 24), name="crash_free_time")
    both = '{"edge.device.tier":"hub","edge.firmware.version":"1.0.0"}'
    assert {row["cohort"]: row["verdict"] for row in rows} == dict.fromkeys(("{}", HUB, OLD, both), "met")


def test_the_fleet_is_never_good_while_a_class_is_bad(place):
    cams = [Device(f"cam-{i}", "cam") for i in range(10)]
    hubs = [Device(f"hub-{i:03d}", "hub") for i in range(190)]
    batch = hours(hours(Batch(T0 + 5 * HOUR), cams, 5), hubs, 5)
    for device in cams[:5]:
        batch.session_end(device, T0 + HOUR + MINUTE)
    rows = {row["cohort"]: row for row in rows_of(judged(place, batch, 4, 5), name="crash_free_time")}
    assert rows[CAM]["verdict"] == "missed"
    assert rows[HUB]["verdict"] == "met"
    assert rows["{}"]["value"] == pytest.approx(0.995)
    assert (rows["{}"]["verdict"], rows["{}"]["reason"]) == ("missed", "class")
    assert rows["{}"]["detail"]["worst_class"]["cohort"] == {"edge.device.tier": "cam"}


@pytest.mark.parametrize(
    ("looping", "verdict", "reason"), [(0, "met", ""), (1, "insufficient", "one_device"), (2, "missed", "")]
)
def test_crash_loops_are_counted_by_firmware(place, looping, verdict, reason):
    new = [Device(f"new-{i}", "hub", "1.4.2") for i in range(5)]
    batch = hours(hours(Batch(T0 + 12 * HOUR), fleet(5), 12), new, 12)
    for device in new[:looping]:
        for minute in (0, 40, 80):
            batch.session_end(device, T0 + 8 * HOUR + (minute + 1) * MINUTE)
    batch.session_end(new[4], T0 + 8 * HOUR + MINUTE)
    table = judged(place, batch, 8, 18)
    at = {row["at_ns"]: row for row in rows_of(table, name="crash_loop", cohort=NEW)}
    row = at[T0 + 11 * HOUR]
    assert (row["verdict"], row["reason"], row["value"], row["devices"]) == (verdict, reason, looping, looping)
    assert row["detail"]["looping_devices"] == [device.name for device in new[:looping]]
    # six hours after the last end the loop is over
    assert at[T0 + 16 * HOUR]["verdict"] == "met"
    assert {row["verdict"] for row in rows_of(table, name="crash_loop", cohort=OLD)} == {"met"}


def test_a_device_that_repeats_its_crash_widens_the_interval(place):
    devices = fleet(30, tiers=("hub",))
    batch = hours(Batch(T0 + DAY), devices, 24)
    for hour in range(12):
        batch.session_end(devices[0], T0 + hour * HOUR + MINUTE)
    row = rows_of(judged(place, batch, 23, 24), name="crash_free_time", cohort="{}")[0]
    assert row["value"] == pytest.approx(1 - 12 / 720)
    assert row["detail"]["deff"] > 5
    assert row["high"] > 0.995, "one device's twelve crashes do not prove that the fleet misses its target"


def test_the_history_of_a_crashing_device_counts_on_quiet_days(place):
    devices = fleet(30, tiers=("hub",))
    batch = hours(Batch(T0 + 2 * DAY), devices, 48)
    for hour in range(12):
        batch.session_end(devices[0], T0 + hour * HOUR + MINUTE)
    row = rows_of(judged(place, batch, 47, 48), name="crash_free_time", cohort="{}")[0]
    assert (row["detail"]["crashes"], row["value"]) == (0, 1.0)
    assert row["detail"]["deff"] > 3
    assert row["verdict"] == "insufficient"


def test_nothing_observed_is_no_data_for_the_fleet(place):
    rows = rows_of(judged(place, Batch(T0 + HOUR), 0, 2))
    assert [(row["name"], row["verdict"], row["value"]) for row in rows] == [("crash_free_time", "no_data", None)] * 2


def test_a_crash_in_an_hour_without_a_heartbeat_is_not_lost(place):
    batch = hours(Batch(T0 + 3 * HOUR), fleet(2), 2)
    batch.session_end(Device("dev-000", "cam-v1"), T0 + 2 * HOUR + MINUTE)
    row = rows_of(judged(place, batch, 2, 3), name="crash_free_devices", cohort="{}")[0]
    assert row["value"] == 0.5


def test_verdicts_do_not_depend_on_what_else_is_judged_with_them(place):
    devices = fleet(8)
    batch = hours(Batch(T0 + 2 * DAY), devices, 48)
    for hour in (3, 9, 30, 31, 32):
        batch.session_end(devices[hour % 3], T0 + hour * HOUR + MINUTE)
    whole = judged(place, batch, 0, 48)
    store, _ = place
    last = crash_free_job.run(store, OPTIONS, T0 + 40 * HOUR, T0 + 48 * HOUR, 1)
    expected = [row for row in rows_of(whole) if row["at_ns"] > T0 + 40 * HOUR]
    assert sorted(rows_of(last), key=str) == sorted(expected, key=str)
    assert isinstance(store.dirty_hours(), list)
    assert DirtyHour(T0, 1) not in store.dirty_hours()

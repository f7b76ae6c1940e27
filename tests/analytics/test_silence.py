"""Silence against a device's own habits."""

from __future__ import annotations

import polars as pl
from judgement_kit import DAY, HOUR, MINUTE, T0

from analytics.silence import Habits, known_at, runs, spells, with_goodbyes

HABITS = Habits(3 * HOUR, 24 * HOUR, 2.0, 14 * DAY)


def windows(**devices: list[tuple[float, float]]) -> pl.DataFrame:
    """15-minute windows over spans in hours since T0."""
    found = []
    for device, spans in devices.items():
        for begin, end in spans:
            step = T0 + int(begin * HOUR)
            while step < T0 + int(end * HOUR):
                found.append((device, step, step + 15 * MINUTE))
                step += 15 * MINUTE
    return pl.DataFrame(found, schema=["device_id", "start_ns", "time_ns"], orient="row")


def silent_hours(frame: pl.DataFrame, until: float) -> list[tuple[str, float, float]]:
    return [
        (spell.device_id, (spell.begin_ns - 1 - T0) / HOUR, min((spell.end_ns - T0) / HOUR, until))
        for spell in spells(runs(frame), HABITS)
    ]


def test_runs_join_windows_that_follow_each_other():
    found = runs(windows(a=[(0, 5), (8, 9)]))
    assert found.height == 2
    assert (found.row(0)[2] - T0, found.row(0)[3] - T0) == (15 * MINUTE, 5 * HOUR)


def test_a_device_without_gaps_is_silent_after_three_hours():
    assert silent_hours(windows(a=[(0, 10)]), 48) == [("a", 13.0, 48)]


def test_a_device_that_sleeps_every_night_is_silent_only_after_twice_its_night():
    nights = [(24 * day + 8, 24 * day + 18) for day in range(5)]
    frame = windows(a=nights)
    # the first night is longer than anything known of it: silent after 3 h, until the first window of the day ends
    assert silent_hours(frame, 400) == [("a", 21.0, 32.25), ("a", 114 + 28, 400)]


def test_a_device_that_said_goodbye_has_a_day_before_it_is_silent():
    found = runs(windows(a=[(0, 10)], b=[(0, 10)]))
    ends = pl.DataFrame({"device_id": ["a"], "hour_ns": [T0 + 9 * HOUR]})
    began = {spell.device_id: (spell.begin_ns - 1 - T0) / HOUR for spell in spells(with_goodbyes(found, ends), HABITS)}
    assert began == {"a": 34.0, "b": 13.0}


def test_a_first_night_after_a_goodbye_is_no_silence():
    found = runs(windows(a=[(0, 10), (20, 30)]))
    ends = pl.DataFrame({"device_id": ["a"], "hour_ns": [T0 + 9 * HOUR]})
    assert [(spell.heard_ns - T0) / HOUR for spell in spells(with_goodbyes(found, ends), HABITS)] == [30.0]


def test_an_old_gap_is_forgotten_after_the_lookback():
    frame = windows(a=[(0, 1), (31, 31 + 15 * 24)])
    assert silent_hours(frame, 500)[-1] == ("a", 31 + 15 * 24 + 3, 500)


def test_a_device_unheard_for_the_lookback_is_neither_silent_nor_known():
    frame = windows(a=[(0, 1)], b=[(0, 400)])
    spell = next(one for one in spells(runs(frame), HABITS) if one.device_id == "a")
    assert spell.end_ns == T0 + HOUR + 14 * DAY
    at = [T0, T0 + HOUR, T0 + 14 * DAY, T0 + 14 * DAY + 2 * HOUR]
    assert known_at(runs(frame), HABITS, at).tolist() == [0, 2, 2, 1]


def test_no_windows_are_no_silence():
    empty = runs(windows(a=[]))
    assert spells(empty, HABITS) == []
    assert known_at(empty, HABITS, [T0]).tolist() == [0]


def test_a_window_without_a_start_is_a_point():
    frame = pl.DataFrame({"device_id": ["a", "a"], "start_ns": [0, 0], "time_ns": [T0, T0 + 10 * HOUR]})
    assert [(spell.begin_ns - 1 - T0) / HOUR for spell in spells(runs(frame), HABITS)] == [3.0, 30.0]

from __future__ import annotations

from typing import Any

from dashboards import rows


def verdict(**over: Any) -> rows.Verdict:
    item = {
        "kind": "kpi",
        "name": "x",
        "verdict": "met",
        "at_ns": 10,
        "cohort": {},
        "window": {"start_ns": 1, "end_ns": 10},
    }
    return rows.verdict_of({**item, **over})


def test_a_row_keeps_its_numbers_and_names_whatever_the_list_calls_it() -> None:
    row = rows.verdict_of({"signal": "input:mean", "value": 0.4, "n": 12, "devices": 3, "verdict": "drift"}, "drift")
    assert (row.name, row.kind, row.value, row.n, row.devices, row.level) == (
        "input:mean",
        "drift",
        0.4,
        12.0,
        3,
        "bad",
    )


def test_numbers_json_cannot_carry_become_no_number() -> None:
    row = verdict(value="NaN", low="-Infinity", high=None, n="Infinity")
    assert (row.value, row.low, row.high, row.n) == (None, None, None, 0.0)


def test_nothing_without_a_verdict_is_ever_green() -> None:
    for word in ("insufficient", "no_data", "too_few_events", "", "a word of a later version"):
        assert verdict(verdict=word).level == "none"


def test_a_missing_target_is_not_called_too_little_data() -> None:
    row = verdict(verdict="insufficient", reason="no_target", value=3.0)
    assert row.word == "no_target"
    assert not row.blind
    assert verdict(verdict="insufficient", reason="devices").blind


def test_a_retired_version_is_not_the_present_but_silence_always_is() -> None:
    hour = 3600 * 10**9
    old, new = verdict(at_ns=10 * hour), verdict(at_ns=20 * hour)
    silent = verdict(kind="silence", at_ns=1 * hour)
    assert rows.current([old, new, silent]) == [new, silent]


def test_detail_numbers_are_read_along_a_path_and_missing_steps_are_none() -> None:
    row = verdict(detail={"burn": {"1h": 14.5, "5m": "NaN"}, "sr": None})
    assert row.number("burn", "1h") == 14.5
    assert row.number("burn", "5m") is None
    assert row.number("sr", "onset_ns") is None
    assert row.number("nothing") is None


def test_a_cohort_is_named_by_its_values() -> None:
    row = verdict(cohort={"edge.device.tier": "cam-v2", "edge.firmware.version": "2.2.0", "edge.label.shop": "7"})
    assert row.where == "cam-v2 · firmware 2.2.0 · shop 7"
    assert (row.tier, row.firmware, row.fleet) == ("cam-v2", "2.2.0", False)


def test_an_empty_object_is_read_without_an_error() -> None:
    assert rows.alert_of({}).where == "fleet"
    assert rows.device_of({"resource": "not json {"}).resource == {}
    assert rows.verdict_of({}).verdict == "no_data"


def test_each_boot_of_a_device_is_drawn_at_the_time_its_own_clock_makes_right() -> None:
    device = {
        "clock": {"offset_ns": 500, "quality": "estimated"},
        "clocks": [
            {"boot_id": "b2", "offset_ns": 500},
            {"boot_id": "b1", "offset_ns": 0},
            {"boot_id": "i0", "offset_ns": -40},
        ],
    }
    assert rows.device_of(device).clock_offset_ns == 500
    assert rows.device_of({}).clock_offset_ns == 0
    offsets = rows.offsets_of(device)
    assert offsets == {"b2": 500, "i0": -40}
    assert rows.offsets_of({}) == {}
    late = {"resource": {"edge.boot.id": "b2", "service.instance.id": "i0"}, "start_ns": 0, "time_ns": 60, "count": 3}
    right = {"resource": {"edge.boot.id": "b1"}, "start_ns": 550, "time_ns": 560}
    bootless = {"resource": {"service.instance.id": "i0"}, "start_ns": 590, "time_ns": 600}
    outside = {"resource": {"edge.boot.id": "b1"}, "time_ns": 60}
    assert rows.on_event_time([late, right, bootless, outside], offsets, 550, 600) == (
        {**late, "time_ns": 560},
        right,
        {**bootless, "start_ns": 550, "time_ns": 560},
    )


def test_the_own_times_of_a_device_that_are_asked_for_are_disjoint() -> None:
    assert rows.raw_spans(1000, 1100, []) == [(1000, 1100)]
    assert rows.raw_spans(1000, 1100, [900, 940, -50]) == [(60, 200), (1000, 1150)]


def test_what_needs_a_look_comes_first() -> None:
    ok, bad, blind = verdict(), verdict(verdict="missed", value=2.0, target=1.0), verdict(verdict="insufficient")
    worse = verdict(verdict="missed", value=9.0, target=1.0)
    assert rows.worst([ok, blind, bad, worse]) == [worse, bad, blind, ok]

"""Devices whose clocks are wrong: event time is one anchor a boot plus the boot clock, whatever the wall clock does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sdk_kit import SECOND, START_NS, attributes_of, points

from device_sdk.contract import attributes as a
from device_sdk.contract.attributes import ClockSource
from device_sdk.testing import ManualClock, kill

YEAR = 365 * 86_400 * SECOND
MINUTE = 60 * SECOND


def windows(world: Any) -> list[tuple[int, int]]:
    """Return (start, end) of the windows that arrived, in order."""
    world.sent()
    found = []
    for request in world.sink.metrics():
        for window in request.resource_metrics:
            for metric in window.scope_metrics[0].metrics:
                if metric.name == "edge.window.sequence":
                    (point,) = metric.gauge.data_points
                    found.append((point.start_time_unix_nano, point.time_unix_nano))
    return found


def offsets(world: Any) -> list[tuple[float, str]]:
    return [
        (point.as_double, at[a.CLOCK_SOURCE])
        for name, at, point in points(world.sink.metrics())
        if name == "edge.clock.offset"
    ]


def test_a_device_that_starts_in_1970_goes_on_in_1970_and_says_by_how_much_it_is_wrong(bench: Any) -> None:
    clock = ManualClock(5 * SECOND, source=ClockSource.NONE)
    world = bench(clock=clock)
    world.window()
    clock.set_wall(START_NS)  # the time server was reached
    clock.source = ClockSource.NTP
    world.window()
    assert windows(world) == [(5 * SECOND, 65 * SECOND), (65 * SECOND, 125 * SECOND)]
    assert offsets(world)[-1] == (pytest.approx((START_NS - 65 * SECOND) / 1e9), "ntp")


@pytest.mark.parametrize("jumps", [(YEAR, -2 * YEAR), (-YEAR, YEAR), (-START_NS, START_NS), (3600 * SECOND, 0)])
def test_jumps_of_the_wall_clock_move_no_event_and_no_duration(bench: Any, jumps: tuple[int, int]) -> None:
    world = bench()
    for jump in jumps:
        world.window()
        world.clock.set_wall(world.clock.wall_ns() + jump)
    world.window()
    expected = [(START_NS + n * MINUTE, START_NS + (n + 1) * MINUTE) for n in range(3)]
    assert windows(world) == expected
    assert offsets(world)[-1][0] == pytest.approx(sum(jumps) / 1e9)
    world.clock.set_wall(0)
    world.monitor.close()
    (end,) = [(at, record) for name, at, (record, _) in _events(world) if name == "session.end"]
    assert (end[0][a.SESSION_DURATION], end[1].time_unix_nano) == (180.0, START_NS + 3 * MINUTE)


def _events(world: Any) -> list[Any]:
    from sdk_kit import events

    return events(world.sink.logs())


def test_an_anchor_chosen_while_the_clock_was_wrong_holds_for_the_boot_and_no_longer(bench: Any) -> None:
    clock = ManualClock(1000 * SECOND)
    first = bench(clock=clock)
    first.window()
    kill(first.monitor)
    clock.set_wall(START_NS)
    second = bench(clock=clock)  # same boot: the same time line
    second.window()
    assert windows(second) == [(1060 * SECOND, 1120 * SECOND)]
    kill(second.monitor)
    clock.advance(MINUTE)
    clock.reboot()
    third = bench(clock=clock)
    third.window()
    now = START_NS + 2 * MINUTE
    assert windows(third) == [(now, now + MINUTE)]
    (end,) = [(at, record) for name, at, (record, _) in third.events() if name == "session.end"]
    # told on the time line of the dead session, and observed on that of the one that found it
    assert (end[0][a.SESSION_END_REASON], end[0][a.SESSION_DURATION]) == ("power_loss", 60.0)
    assert (end[1].time_unix_nano, end[1].observed_time_unix_nano) == (1120 * SECOND, now)


def test_a_boot_in_the_future_and_one_in_the_past_are_two_time_lines(bench: Any) -> None:
    clock = ManualClock(START_NS + 10 * YEAR)
    first = bench(clock=clock)
    first.window()
    update = first.monitor.update("firmware", "1", "2", phase="boot")
    kill(first.monitor)
    clock.reboot()
    clock.set_wall(START_NS)
    later = bench(clock=clock, resource={"edge.firmware.version": "2"})
    told = {name: (at, record) for name, at, (record, _) in later.events()}
    assert told["session.end"][0][a.SESSION_DURATION] == 60.0
    at, record = told["edge.update.succeeded"]
    assert (at[a.UPDATE_ID], record.time_unix_nano) == (update.id, START_NS)
    assert a.UPDATE_DURATION not in at  # it would be minus ten years


def test_a_device_asleep_with_a_wrong_clock_is_told_by_the_boot_clock(bench: Any) -> None:
    world = bench()
    world.clock.advance(30 * SECOND)
    world.clock.suspend(3600 * SECOND)
    world.clock.set_wall(0)
    world.clock.advance(30 * SECOND)
    assert world.monitor.step() == 1
    assert windows(world) == [(START_NS, START_NS + 3660 * SECOND)]


@pytest.mark.parametrize("anchor", [-(10**30), -1, 10**30, 2**63])
def test_a_recorded_anchor_that_no_clock_can_have_is_chosen_anew(bench: Any, tmp_path: Path, anchor: int) -> None:
    bench().monitor.close(0)
    file = tmp_path / "state" / "boot.json"
    stored = json.loads(file.read_text())
    file.write_text(json.dumps(stored | {"anchor_ns": anchor}))
    world = bench()
    world.window()
    assert windows(world)[-1] == (START_NS, START_NS + MINUTE)
    resource = attributes_of(world.sink.metrics()[-1].resource_metrics[0].resource.attributes)
    assert resource[a.BOOT_ID] == stored["id"]

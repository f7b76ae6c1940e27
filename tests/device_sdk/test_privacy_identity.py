"""A rotating identity: another device to the server at the same instants everywhere, and nothing that links the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sdk_kit import SECOND, START_NS, attributes_of

from device_sdk import Signals
from device_sdk.contract import attributes as a
from device_sdk.ledger import Ledger
from device_sdk.lifecycle.state import StateDir
from device_sdk.points import Points
from device_sdk.privacy import Gate, Policy
from device_sdk.testing import ManualClock, kill

HOUR = 3600
TURN_NS = (START_NS // (HOUR * SECOND) + 1) * HOUR * SECOND
"""The first full hour after the tests' start."""
IDENTITY = (a.INSTALLATION_ID, a.BOOT_ID, a.SERVICE_INSTANCE_ID)


def streams(world: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return (resource, points by metric) of every window in the order sent, envelopes apart."""
    assert world.monitor.flush(5)
    found = []
    for request in world.sink.metrics():
        for resource in request.resource_metrics:
            metrics = {}
            for metric in resource.scope_metrics[0].metrics:
                metrics[metric.name] = list(getattr(metric, metric.WhichOneof("data")).data_points)
            if "edge.window.sequence" in metrics:
                found.append((attributes_of_resource(resource), metrics))
    return found


def attributes_of_resource(resource: Any) -> dict[str, Any]:
    return attributes_of(resource.resource.attributes)


def past_the_turn(world: Any, digits: Any = None) -> None:
    """Run windows up to the turn, over it, and beyond."""
    session = world.monitor.wrap(digits, model="m", version="1", signals=Signals()) if digits is not None else None
    row = np.zeros((1, 64), dtype=np.float32)
    while world.clock.wall_ns() < TURN_NS + 300 * SECOND:
        if session is not None:
            session.run(None, {"x": row})
        world.clock.advance(60 * SECOND)
        world.monitor.step()


def test_at_a_turn_every_name_changes_and_the_stream_starts_anew(bench: Any, digits: Any) -> None:
    world = bench(identity_rotation_s=HOUR)
    past_the_turn(world, digits)
    windows = streams(world)
    before = [entry for entry in windows if entry[1]["edge.session.time"][0].time_unix_nano <= TURN_NS]
    after = windows[len(before) :]
    assert before
    assert after
    for key in IDENTITY:
        old, new = {resource[key] for resource, _ in before}, {resource[key] for resource, _ in after}
        assert len(old) == len(new) == 1
        assert not old & new
    assert {resource[a.IDENTITY_ROTATION] for resource, _ in windows} == {HOUR}
    assert a.DEVICE_ID not in windows[0][0]
    for part in (before, after):
        numbers = [metrics["edge.window.sequence"][0].as_int for _, metrics in part]
        assert numbers == list(range(len(part)))
    assert before[-1][1]["edge.session.time"][0].time_unix_nano == TURN_NS  # the same instant on every device
    assert after[0][1]["edge.session.time"][0].start_time_unix_nano == TURN_NS


def test_counts_go_on_over_a_turn_to_the_unit_and_no_time_is_lost(bench: Any, digits: Any) -> None:
    world = bench(identity_rotation_s=HOUR)
    past_the_turn(world, digits)
    windows = streams(world)
    ran = sum(point.count for _, metrics in windows for point in metrics.get("edge.inference.duration", []))
    steps = -(-(TURN_NS + 300 * SECOND - START_NS) // (60 * SECOND))
    last = windows[-1][1]["edge.session.time"][0].time_unix_nano
    observed = sum(metrics["edge.session.time"][0].as_double for _, metrics in windows)
    assert observed == pytest.approx((last - START_NS) / SECOND)
    session = world.monitor._engine
    held = session.fold() + session.models.total_runs() - ran
    assert ran + held == steps
    starts = sum(p.as_int for _, metrics in windows for p in metrics.get("edge.session.starts", []))
    ends = sum(p.as_int for _, metrics in windows for p in metrics.get("edge.session.ends", []))
    assert (starts, ends) == (2, 1)


def test_no_event_or_point_links_the_two(bench: Any) -> None:
    world = bench(identity_rotation_s=HOUR)
    past_the_turn(world)
    events = sorted(world.events(), key=lambda event: (event[2][0].time_unix_nano, event[0]))
    assert [name for name, _, _ in events] == ["session.start", "session.end", "session.start"]
    (_, first, (_, old)), (_, end, (record, ended)), (_, second, (_, new)) = events
    assert old == ended
    assert end[a.SESSION_END_REASON] == "exit"
    assert end[a.SESSION_END_EXPECTED] is True
    assert record.time_unix_nano == TURN_NS
    for attributes in (first, second):
        assert a.SESSION_PREVIOUS_ID not in attributes
        assert a.BOOT_SEQUENCE not in attributes
    assert first[a.SESSION_ID] != second[a.SESSION_ID]
    assert second[a.EVENT_SEQUENCE] == 0
    names = {str(old[key]) for key in IDENTITY} | {first[a.SESSION_ID]}
    told = str(second) + str(new)
    assert not [name for name in names if name in told]


def test_a_restart_within_a_period_is_the_same_device_and_after_it_another(tmp_path: Path, bench: Any) -> None:
    first = bench(identity_rotation_s=HOUR)
    first.window()
    ((one, _),) = streams(first)
    first.monitor.close(5)
    again = bench(identity_rotation_s=HOUR)
    again.window()
    ((same, _),) = streams(again)
    assert (one[a.INSTALLATION_ID], one[a.BOOT_ID]) == (same[a.INSTALLATION_ID], same[a.BOOT_ID])
    start = [attributes for name, attributes, _ in again.events() if name == "session.start"]
    assert a.SESSION_PREVIOUS_ID in start[-1]
    again.monitor.close(5)
    again.clock.advance(HOUR * SECOND)
    later = bench(identity_rotation_s=HOUR)
    later.window()
    ((other, _),) = streams(later)
    assert other[a.INSTALLATION_ID] != one[a.INSTALLATION_ID]
    assert other[a.BOOT_ID] != one[a.BOOT_ID]
    start = [attributes for name, attributes, _ in later.events() if name == "session.start"]
    assert a.SESSION_PREVIOUS_ID not in start[-1]
    secret = StateDir(tmp_path / "state", None).installation()
    assert secret.installation_id not in (one[a.INSTALLATION_ID], other[a.INSTALLATION_ID])


def test_what_waits_in_the_spool_keeps_the_identity_it_was_made_under(bench: Any) -> None:
    world = bench(identity_rotation_s=HOUR)
    world.sink.status = 0
    past_the_turn(world)
    world.sink.status = 200
    world.monitor._engine.sender._resting_until_s = 0.0
    windows = streams(world)
    names = [resource[a.INSTALLATION_ID] for resource, _ in windows]
    turned = sum(metrics["edge.session.time"][0].time_unix_nano <= TURN_NS for _, metrics in windows)
    assert len(set(names[:turned])) == len(set(names[turned:])) == 1
    assert names[0] != names[-1]


def test_a_death_after_a_turn_is_told_of_the_new_identity_alone(bench: Any) -> None:
    world = bench(identity_rotation_s=HOUR, spool="durable")
    past_the_turn(world)
    last = streams(world)[-1][0]
    world.monitor.flush(5)
    kill(world.monitor)
    again = bench(identity_rotation_s=HOUR)
    ends = [(at, resource) for name, at, (_, resource) in again.events() if name == "session.end"]
    ((_, resource),) = ends
    assert resource[a.INSTALLATION_ID] == last[a.INSTALLATION_ID]
    assert resource[a.SERVICE_INSTANCE_ID] == last[a.SERVICE_INSTANCE_ID]


def test_a_long_sleep_is_one_turn(bench: Any) -> None:
    world = bench(identity_rotation_s=HOUR)
    world.window()
    world.clock.suspend(30 * HOUR * SECOND)
    world.monitor.step()
    world.clock.advance(120 * SECOND)
    world.monitor.step()
    windows = streams(world)
    assert len({resource[a.INSTALLATION_ID] for resource, _ in windows}) == 2
    (start,) = {metrics["edge.session.time"][0].start_time_unix_nano for _, metrics in windows[2:3]}
    assert start % (HOUR * SECOND) == 0


def test_two_devices_turn_at_the_same_instant_and_share_no_name(tmp_path: Path, bench: Any) -> None:
    ends = []
    names = set()
    for number in range(2):
        clock = ManualClock(START_NS + 7 * number * SECOND, boot_id=f"boot-{number}")
        world = bench(identity_rotation_s=HOUR, state_dir=tmp_path / f"s{number}", clock=clock)
        past_the_turn(world)
        windows = streams(world)
        ends.append([m["edge.session.time"][0].time_unix_nano for _, m in windows if TURN_NS in _span(m)])
        names |= {resource[a.INSTALLATION_ID] for resource, _ in windows}
    assert ends[0][0] == ends[1][0] == TURN_NS
    assert len(names) == 4


def _span(metrics: dict[str, Any]) -> tuple[int, int]:
    point = metrics["edge.session.time"][0]
    return point.start_time_unix_nano, point.time_unix_nano


def test_without_rotation_the_identity_stays(bench: Any) -> None:
    world = bench()
    past_the_turn(world)
    windows = streams(world)
    assert len({resource[a.INSTALLATION_ID] for resource, _ in windows}) == 1
    assert a.IDENTITY_ROTATION not in windows[0][0]
    assert world.events()[0][1][a.BOOT_SEQUENCE] == 0


def test_uptimes_which_would_link_exactly_are_not_sent_while_the_identity_rotates() -> None:
    points = Points()
    points.add("process.uptime", 12345.678)
    points.add("system.uptime", 23456.789)
    points.add("process.memory.usage", 1)
    ledger = Ledger()
    assert set(Gate(Policy(rotation_s=HOUR)).window(points, ledger).by_metric) == {"process.memory.usage"}
    assert len(Gate().window(points, ledger).by_metric) == 3

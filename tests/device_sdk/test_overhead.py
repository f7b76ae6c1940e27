"""The SDK's account of its own time, and the steps it takes when that is above the budget."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdk_kit import points

from device_sdk import Feature, Monitor, Signals, overhead
from device_sdk.contract import attributes as a
from device_sdk.contract.attributes import SdkLevel, SignalLevel
from device_sdk.ledger import Ledger
from device_sdk.overhead import CALM_MAX, CALM_MIN, OVER_MAX, PERIOD_NS, Ladder, Overhead, counting_cost_ns
from device_sdk.points import Points
from device_sdk.testing import MemorySink, connect

SECOND = 1_000_000_000
BUSY = {"wall_ns": 10 * SECOND, "run_ns": 10 * SECOND, "rest_ns": 0.0}
OVER = {**BUSY, "tensors_ns": 0.6 * SECOND}
CALM = {**BUSY, "tensors_ns": 0.4 * SECOND}


def steps_of(ladder: Ladder, period: dict[str, float], count: int) -> list[int]:
    taken = []
    for _ in range(count):
        ladder.judge(**period)
        taken.append(ladder.step)
    return taken


class TestTheLadder:
    """Steps down, steps up, and how long it waits in between."""

    def test_goes_down_a_step_for_two_periods_above_the_budget_and_stays_at_the_last(self) -> None:
        assert steps_of(Ladder(0.05), OVER, 12) == [0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4]

    def test_one_bad_period_alone_changes_nothing(self) -> None:
        ladder = Ladder(0.05)
        for _ in range(20):
            assert steps_of(ladder, OVER, 1) + steps_of(ladder, CALM, 1) == [0, 0]

    def test_goes_up_again_step_by_step(self) -> None:
        ladder = Ladder(0.05)
        assert steps_of(ladder, OVER, 2 * OVER_MAX)[-1] == 2
        taken = steps_of(ladder, CALM, 2 * CALM_MIN)
        assert (taken[CALM_MIN - 2], taken[CALM_MIN - 1], taken[-1]) == (2, 1, 0)

    def test_waits_twice_as_long_after_every_relapse_and_at_most_an_hour(self) -> None:
        ladder, waits = Ladder(0.05), []
        steps_of(ladder, OVER, OVER_MAX)
        for _ in range(8):
            waited = 0
            while ladder.step:
                ladder.judge(**CALM)
                waited += 1
            waits.append(waited)
            steps_of(ladder, OVER, OVER_MAX)
        assert waits == [6, 12, 24, 48, 96, 192, CALM_MAX, CALM_MAX]

    def test_forgets_relapses_after_a_calm_hour(self) -> None:
        ladder = Ladder(0.05)
        for _ in range(3):
            steps_of(ladder, OVER, OVER_MAX)
            while ladder.step:
                ladder.judge(**CALM)
        steps_of(ladder, CALM, CALM_MAX + 1)
        steps_of(ladder, OVER, OVER_MAX)
        assert steps_of(ladder, CALM, CALM_MIN)[-1] == 0

    def test_a_share_of_a_core_that_nobody_feels_is_no_reason(self) -> None:
        rare = {"wall_ns": 10 * SECOND, "run_ns": 1e6, "tensors_ns": 0.09 * SECOND, "rest_ns": 0.0}
        assert steps_of(Ladder(0.05), rare, 10) == [0] * 10

    def test_time_that_fewer_tensors_would_not_save_leaves_them_a_fifth_of_the_budget(self) -> None:
        counting = {"wall_ns": 10 * SECOND, "run_ns": 100 * SECOND, "rest_ns": 50 * SECOND}
        assert steps_of(Ladder(0.05), {**counting, "tensors_ns": 0.99 * SECOND}, 4) == [0] * 4
        assert steps_of(Ladder(0.05), {**counting, "tensors_ns": 1.01 * SECOND}, 4) == [0, 1, 1, 2]

    @given(st.lists(st.booleans(), max_size=300))
    def test_moves_one_step_at_a_time_within_its_bounds(self, over: list[bool]) -> None:
        ladder = Ladder(0.05)
        for bad in over:
            before = ladder.step
            changed = ladder.judge(**(OVER if bad else CALM))
            assert 0 <= ladder.step <= 4
            assert abs(ladder.step - before) == int(changed)
            assert ladder.step <= before or bad


def seconds(ledger: Ledger) -> dict[str, float]:
    found = Points()
    ledger.emit(found)
    return {str(dict(at).popitem()[1]): value for metric in found.by_metric.values() for at, value in metric}  # type: ignore[misc]


def test_every_second_at_a_step_is_reported_under_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_sdk.errors._guarding.next_log_s", 0.0)
    caplog.set_level(logging.INFO)
    account, ledger, now = Overhead(0.05, 0), Ledger(), 0
    sampling = account.sampling()
    totals: dict[str, float] = {}
    for period in range(30):
        now += PERIOD_NS
        sampling.used(1000, PERIOD_NS, copy_ns=0)
        account.folded(SECOND if period < 6 else 0, now, ledger)
        for word, value in seconds(ledger).items():
            totals[word] = totals.get(word, 0) + value
    levels = {word: totals[word] for word in map(str, SdkLevel) if word in totals}
    # down at the ends of periods 2, 4, 6; up at 12, 18 and 24: 20 s, 20 s, 60 s; then 60 s each on the way up
    assert levels == {"thinned": 80.0, "sparse": 80.0, "outputs": 60.0}
    assert totals["fold"] == pytest.approx(6.0)
    assert totals["record"] == pytest.approx(30 * 1000 * counting_cost_ns() / 1e9, rel=1e-3)
    assert account.level is None
    assert "overhead_budget 5.0 %" in caplog.text
    assert caplog.text.count("tensor signals are now") == 1  # one line a minute, whatever happens


def test_steps_reach_sessions_old_and_new_and_what_is_asked_from_outside_still_holds() -> None:
    account, ledger, now = Overhead(0.05, 0), Ledger(), 0
    old = account.sampling()
    account.govern(SignalLevel.OUTPUTS, 3)
    for _ in range(2):
        now += PERIOD_NS
        old.used(1, PERIOD_NS, copy_ns=SECOND)
        account.folded(0, now, ledger)
    new = account.sampling()
    for sampling in (old, new):
        assert (sampling.level, sampling.stride) == (SignalLevel.OUTPUTS, 12)


def test_counting_costs_well_below_ten_microseconds_and_is_measured_once() -> None:
    assert 10 < counting_cost_ns() < 10_000
    assert counting_cost_ns() == counting_cost_ns()


def test_a_monitor_above_its_budget_degrades_and_loses_no_count(
    tmp_path: Path, digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overhead, "PERIOD_NS", 1)
    monkeypatch.setattr(overhead, "CORE_SHARE_MIN", 0.0)
    monkeypatch.setattr(overhead, "CALM_MIN", 10**9)
    wide = Signals(features=tuple(Feature(f"f{column}", column=column) for column in range(64)))
    monitor = Monitor("http://127.0.0.1:9", state_dir=tmp_path, window_s=3600, signals=wide, overhead_budget=0.001)
    sink = MemorySink()
    connect(monitor, sink)
    try:
        engine = monitor._engine
        assert engine is not None
        wrapped = monitor.wrap(digits)
        row = np.random.default_rng(1).random((1, 64), dtype=np.float32)
        runs = 0
        while engine._overhead.level is not SdkLevel.OFF:
            for _ in range(100):
                wrapped.run(None, {"x": row})
            runs += 100
            engine.fold()
            assert runs < 200_000, "never degraded"
        for _ in range(1000):
            wrapped.run(None, {"x": row})
        engine.fold()
        assert monitor.flush(10)
    finally:
        monitor.close(0)
    sent = points(sink.metrics())
    counted = sum(point.count for name, _, point in sent if name == "edge.inference.duration")
    assert counted == runs + 1000
    told = {at[a.SDK_LEVEL] for name, at, _ in sent if name == "edge.sdk.degraded.time"}
    assert "off" in told
    assert {at[a.SDK_ACTIVITY] for name, at, _ in sent if name == "edge.sdk.time"} >= {"record", "fold", "export"}

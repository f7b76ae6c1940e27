"""One simulated device: its life on a manual clock, through the real SDK, with real models.

A device runs window by window: at a window's start it makes its runs (each moves the clock by the simulated hardware's
latency), then time passes to the window's end and ``Monitor.step()`` closes it. Sessions start and end as planned.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from device_sdk import Monitor
from device_sdk.contract import attributes as a
from device_sdk.testing import ManualClock, kill
from simulator.models import (
    MAGIKA_VERSION,
    SimulatedSession,
    digits_session,
    digits_signals,
    magika_inputs,
    magika_path,
    magika_signals,
    open_session,
)
from simulator.scenarios import HOUR, MAGIKA_LATENCY_S, SECOND, DevicePlan, Scenario
from simulator.truth import Tally
from simulator.world import World

FLUSH_TIMEOUT_S: Final = 30.0
DIGITS_FEATURES: Final = len(digits_signals("1").features)
MAGIKA_FEATURES: Final = 2


@dataclass(frozen=True, slots=True)
class Connection:
    """Where devices send to, with which token, and where their state directories live."""

    endpoint: str
    state_dir: Path
    token: str | None = None


@dataclass(slots=True)
class Activity:
    """What a device did since it was last asked."""

    runs: int = 0
    magika_runs: int = 0
    windows: int = 0
    failures: int = 0
    crashes: int = 0
    undelivered: int = 0

    def add(self, other: Activity) -> None:
        """Add another device's activity."""
        self.runs += other.runs
        self.magika_runs += other.magika_runs
        self.windows += other.windows
        self.failures += other.failures
        self.crashes += other.crashes
        self.undelivered += other.undelivered


class Device:
    """A device at an instant of its life; ``run_until`` moves it on, ``flush`` delivers what it has closed.

    Not thread-safe: one thread at a time may run or flush it.
    """

    def __init__(self, scenario: Scenario, plan: DevicePlan, world: World, connection: Connection) -> None:
        self.plan = plan
        self.tally = Tally()
        self.activity = Activity()
        self._scenario = scenario
        self._world = world
        self._connection = connection
        self._clock = ManualClock(scenario.start_ns, boot_id=f"{plan.index:08d}-0000-4000-8000-{scenario.seed:012d}")
        self._now = scenario.start_ns
        self._monitor: Monitor | None = None
        self._digits: Any = None
        self._digits_hardware: SimulatedSession | None = None
        self._magika: Any = None
        self._magika_hardware: SimulatedSession | None = None
        self._window_end = 0
        self._window_s = scenario.history_window_s
        self._crash_at: int | None = None
        self._gone = False
        self._rng = np.random.default_rng([scenario.seed, 4, plan.index])

    # --- sessions -------------------------------------------------------------------------------------------------

    def _start_session(self) -> None:
        now, plan, connection = self._now, self.plan, self._connection
        self._window_s = self._scenario.window_s_at(now)
        state_dir = connection.state_dir / plan.device_id
        state_dir.mkdir(parents=True, exist_ok=True)
        crash_loops = plan.crash_from_ns is not None and now >= plan.crash_from_ns
        version = plan.digits_version_at(now)
        monitor = Monitor(
            endpoint=connection.endpoint,
            token=connection.token,
            state_dir=state_dir,
            window_s=self._window_s,
            device_id=plan.device_id,
            resource={
                a.SERVICE_NAME: "edge-app",
                a.TIER: plan.tier.name,
                a.REGION: plan.region,
                a.RING: plan.ring,
                a.FIRMWARE_VERSION: plan.firmware_at(now),
            },
            spool="durable" if crash_loops else "memory",
            signals={"digits": digits_signals(version), "magika": magika_signals()},
            clock=self._clock,
        )
        self._monitor = monitor
        self._digits_hardware = SimulatedSession(digits_session(version), self._clock)
        self._digits = monitor.wrap(self._digits_hardware, model="digits", version=version)
        if plan.runs_magika:
            self._magika_hardware = SimulatedSession(open_session(magika_path()), self._clock)
            self._magika = monitor.wrap(self._magika_hardware, model="magika", version=MAGIKA_VERSION)
        self.tally.started()
        self._window_end = now + self._window_s * SECOND
        if crash_loops:
            low, high = self._scenario.sizes.crash_after_s
            self._crash_at = now + int(self._rng.integers(int(low), int(high) + 1)) * SECOND

    def _close_window(self, start_ns: int) -> None:
        self.tally.close_window((self._now - start_ns) // SECOND)
        self.activity.windows += 1

    def _end_session(self, reason: str) -> None:
        """End the session cleanly; what came since the last window's end is a window of its own."""
        if self._monitor is None:
            return
        self._monitor.session_end(reason)
        if not self._monitor.close(FLUSH_TIMEOUT_S):
            self.activity.undelivered += 1
        self._monitor = None
        start = self._window_end - self._window_s * SECOND
        if self._now > start:
            self._close_window(start)

    def _crash(self) -> None:
        """Reset the board without goodbye, start ``restart_s`` later: the open window is lost, the spool is not."""
        if self._monitor is None:
            return
        kill(self._monitor)
        self._monitor = None
        self._crash_at = None
        self.tally.lose_open_window()
        self.activity.crashes += 1
        self._clock.reboot()
        self._pass_to(self._now + int(self._scenario.sizes.restart_s * SECOND))

    # --- time -----------------------------------------------------------------------------------------------------

    def _pass_to(self, instant_ns: int) -> None:
        """Let the device's time pass to ``instant_ns`` (never back)."""
        ahead = instant_ns - self._clock.wall_ns()
        if ahead > 0:
            self._clock.advance(ahead)
        self._now = max(self._now, instant_ns)

    def _asleep_at(self, at_ns: int) -> bool:
        if self.plan.night is None:
            return False
        local_h = (at_ns // HOUR + self.plan.utc_offset_h) % 24
        begin, end = self.plan.night
        return begin <= local_h or local_h < end if begin > end else begin <= local_h < end

    def _changes(self) -> Iterator[int]:
        """Yield the coming instants at which something other than a window's end happens."""
        plan, now = self.plan, self._now
        update = plan.update[:1] if plan.update else ()
        for instant in (self._scenario.recent_ns, *update, *(plan.offline or ()), plan.silent_from_ns):
            if instant is not None and instant > now:
                yield instant
        if self._crash_at is not None:
            yield self._crash_at
        if plan.night is not None:
            hour = now - now % HOUR + HOUR
            asleep = self._asleep_at(now)
            while self._asleep_at(hour) == asleep:
                hour += HOUR
            yield hour

    def run_until(self, until_ns: int) -> None:
        """Live until ``until_ns``: all windows that end by then are closed, one may stay open."""
        while not self._gone and self._now < until_ns:
            if self._monitor is None:
                if self._asleep_at(self._now):
                    wake = min(self._changes())
                    if wake > until_ns:
                        self._pass_to(until_ns)
                        return
                    self._pass_to(wake)
                    continue
                self._start_session()
            change = min(self._changes(), default=until_ns + 1)
            self._run_windows(min(until_ns, change))
            if change > until_ns:
                return
            self._pass_to(change)
            self._apply_change()

    def _apply_change(self) -> None:
        now, plan = self._now, self.plan
        if plan.silent_from_ns is not None and now >= plan.silent_from_ns:
            if self._monitor is not None:
                self._deliver(self._monitor)
                kill(self._monitor)
            self._monitor = None
            self._gone = True
            self.tally.lose_open_window()
        elif self._crash_at is not None and now >= self._crash_at:
            self._crash()
        elif plan.offline is not None and now in plan.offline:
            # slices are an economy of the simulation: a device would have sent every window until it lost its network
            if self._monitor is not None and not self._monitor.flush(FLUSH_TIMEOUT_S):
                self.activity.undelivered += 1
        elif self._asleep_at(now):
            self._end_session("low_power")
        else:
            self._end_session("update")

    # --- windows --------------------------------------------------------------------------------------------------

    def _run_windows(self, until_ns: int) -> None:
        """Run every window that ends by ``until_ns``, and the runs of one that begins before and ends after it."""
        step = self._window_s * SECOND
        first = self._window_end - step
        if self._now > first:  # the open window's runs were made when it began
            if self._window_end > until_ns:
                return
            self._finish_window()
            first = self._window_end - step
        starts = np.arange(first, until_ns, step, dtype=np.int64)
        if not len(starts):
            return
        counts = self._rng.poisson(self._scenario.runs_at(int(starts[0])), len(starts))
        runs = int(counts.sum())
        feeds = self._world.images(self.plan, np.repeat(starts, counts), self._rng)
        assert self._digits_hardware is not None
        self._digits_hardware.load(self._latencies(runs))
        bad = self._rng.random(runs) < self._scenario.sizes.bad_frame_rate
        at = 0
        for count in counts.tolist():
            self._run_digits(feeds[at : at + count], bad[at : at + count])
            at += count
            self._run_magika()
            if self._window_end > until_ns:
                self._now += 1  # marks the open window's runs as made; the clock is already past it
                return
            self._finish_window()

    def _finish_window(self) -> None:
        start = self._window_end - self._window_s * SECOND
        self._pass_to(self._window_end)
        assert self._monitor is not None
        self._monitor.step()
        self._close_window(start)
        self._window_end += self._window_s * SECOND

    def _latencies(self, n: int) -> list[int]:
        tier, sizes = self.plan.tier, self._scenario.sizes
        median, sigma = tier.latency_s, tier.sigma
        if self.plan.digits_version_at(self._now) == "2":
            median, sigma = median * sizes.latency_factor, sizes.latency_sigma
        drawn = self._rng.lognormal(np.log(median), sigma, n) * SECOND
        latencies: list[int] = drawn.astype(np.int64).tolist()
        return latencies

    def _run_digits(self, rows: np.ndarray[Any, Any], bad: np.ndarray[Any, Any]) -> None:
        run = self._digits.run
        n = len(rows)
        if bad.any():
            for i in range(n):
                if bad[i]:
                    with contextlib.suppress(Exception):
                        run(None, {"image": rows[i : i + 1, :32]})
                    self.tally.failed(1)
                    self.activity.failures += 1
                else:
                    run(None, {"image": rows[i : i + 1]})
                    self.tally.run(1, DIGITS_FEATURES)
        else:
            for i in range(n):
                run(None, {"image": rows[i : i + 1]})
            self.tally.runs(n, n, DIGITS_FEATURES)
        self.activity.runs += n

    def _run_magika(self) -> None:
        if self._magika is None:
            return
        per_window = self._scenario.magika_runs_per_hour * self._window_s / 3600.0
        if self._rng.random() >= per_window:
            return
        assert self._magika_hardware is not None
        inputs = magika_inputs()
        row = int(self._rng.integers(0, len(inputs)))
        self._magika_hardware.load([int(self._rng.lognormal(np.log(MAGIKA_LATENCY_S), 0.25) * SECOND)])
        self._magika.run(None, {"bytes": inputs[row : row + 1]})
        self.tally.run(1, MAGIKA_FEATURES)
        self.activity.magika_runs += 1

    # --- delivery -------------------------------------------------------------------------------------------------

    def _deliver(self, monitor: Monitor) -> bool:
        return not self.plan.online_at(self._now) or monitor.flush(FLUSH_TIMEOUT_S)

    def flush(self) -> None:
        """Deliver every closed window; a device that is off line keeps them."""
        if self._monitor is not None and not self._deliver(self._monitor):
            self.activity.undelivered += 1

    def take_activity(self) -> Activity:
        """Return what it did since the last call."""
        activity, self.activity = self.activity, Activity()
        return activity

    def close(self) -> None:
        """End a running session cleanly and deliver (the simulation stops)."""
        if self._monitor is not None:
            self._end_session("exit")

"""Self-tests that stand: run now, after every update, and on a schedule; each result is counted and told as events."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from device_sdk.contract import events as e
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import SelftestTrigger
from device_sdk.contract.events import Event, Severity
from device_sdk.errors import guard, swallow
from device_sdk.locks import SafeLock
from device_sdk.points import AttributePairs, EventAttributes, Points
from device_sdk.runtimes.adapter import Predict
from device_sdk.selftest.golden import Golden
from device_sdk.selftest.run import (
    PreProcess,
    SelftestResult,
    check_attributes,
    event_attributes,
    run_golden,
)

EVERY_S_MIN: Final = 60.0
"""Shortest interval of a scheduled self-test, seconds: it costs the host as much as the samples it runs."""

Tell = Callable[[Event, EventAttributes, int | None], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under test: the attributes of its runs, what makes it run once, and whether the host still has it."""

    run: Callable[[], AttributePairs]
    predictor: Callable[[], Predict]
    alive: Callable[[], bool] = lambda: True


@dataclass(slots=True, eq=False)
class Standing:
    """A self-test to be repeated; ``due_ns`` is on the stream clock."""

    subject: Subject
    golden: Golden
    preprocess: PreProcess | None
    every_ns: int
    due_ns: int


class Selftests:
    """The self-tests of one Monitor. ``tell`` queues an event, ``now_ns`` is the stream clock."""

    def __init__(self, tell: Tell, now_ns: Callable[[], int], *, threaded: bool) -> None:
        self._tell = tell
        self._now_ns = now_ns
        self._threaded = threaded
        self._lock = SafeLock()
        self._standing: list[Standing] = []
        self._counts: Counter[AttributePairs] = Counter()
        self._asked: list[tuple[Standing, SelftestTrigger]] = []
        self._running = False

    def perform(
        self, subject: Subject, golden: Golden, preprocess: PreProcess | None, trigger: SelftestTrigger
    ) -> SelftestResult:
        """Run one self-test on this thread and tell of it."""
        run = subject.run()
        today = dt.datetime.fromtimestamp(self._now_ns() / 1e9, dt.UTC).date()
        result = run_golden(golden, subject.predictor, trigger=trigger, today=today, preprocess=preprocess)
        for output in result.outputs:
            with self._lock:
                self._counts[(*run, *check_attributes(output, trigger))] += 1
            severity = None if output.accepted else int(Severity.ERROR)
            self._tell(e.SELFTEST_COMPLETED, [*run, *event_attributes(output, trigger)], severity)
        return result

    def perform_and_stand(
        self, subject: Subject, golden: Golden, preprocess: PreProcess | None, every_s: float | None
    ) -> SelftestResult:
        """Run a self-test now, and again after each update and every ``every_s`` seconds when given."""
        with self._lock:
            first = all(one.subject.run() != subject.run() for one in self._standing)
        self._stand(subject, golden, preprocess, every_s)
        return self.perform(subject, golden, preprocess, SelftestTrigger.LOAD if first else SelftestTrigger.MANUAL)

    def _stand(self, subject: Subject, golden: Golden, preprocess: PreProcess | None, every_s: float | None) -> None:
        every_ns = round(every_s * 1e9) if every_s else 0
        fresh = Standing(subject, golden, preprocess, every_ns, self._now_ns() + every_ns)
        with self._lock:
            self._standing = [one for one in self._standing if one.subject.run() != subject.run()] + [fresh]

    def run_due(self) -> None:
        """Run what is due by the schedule: on a thread of its own, or here with a manual clock."""
        now = self._now_ns()
        with self._lock:
            self._standing = [one for one in self._standing if one.subject.alive()]
            due = [one for one in self._standing if one.every_ns and one.due_ns <= now]
            for one in due:
                one.due_ns = now + one.every_ns
        self._run(due, SelftestTrigger.SCHEDULE)

    def run_after_update(self) -> None:
        """Run every standing self-test because something was updated."""
        with self._lock:
            standing = list(self._standing)
        self._run(standing, SelftestTrigger.UPDATE)

    def _run(self, chosen: list[Standing], trigger: SelftestTrigger) -> None:
        with self._lock:
            self._asked += [(one, trigger) for one in chosen if (one, trigger) not in self._asked]
            if self._running or not self._asked:
                return  # who runs takes these too: what an update asks for must not be lost to a schedule
            self._running = True
        if not self._threaded:
            self._run_asked()
            return
        try:
            threading.Thread(target=self._run_asked, name="device_sdk-selftest", daemon=True).start()
        except RuntimeError as error:  # no thread to be had, or the interpreter ends: what is asked waits for the next
            self._running = False
            swallow("starting a self-test", error)

    def _run_asked(self) -> None:
        while (asked := self._next()) is not None:
            one, trigger = asked
            with guard("running a self-test"):
                if one.subject.alive():
                    self.perform(one.subject, one.golden, one.preprocess, trigger)

    def _next(self) -> tuple[Standing, SelftestTrigger] | None:
        with self._lock:
            self._running = bool(self._asked)
            return self._asked.pop(0) if self._asked else None

    def emit(self, points: Points) -> None:
        """Add this window's counts and start anew."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        for attributes, count in counts.items():
            points.add(m.SELFTEST_CHECKS.name, count, attributes)


def untold() -> Selftests:
    """Return self-tests that tell nobody: those of a Monitor that is off."""
    return Selftests(lambda _event, _attributes, _severity: None, time.time_ns, threaded=False)

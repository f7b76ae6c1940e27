"""The clockwork of judgement: roll up what changed, run each job over the instants that are due, call the alerts.

Judgement runs on event time. A tick is harmless to miss or double: where a job stands is a row in the store, what late
data changed is judged again from the oldest changed hour, and rows equal to the stored ones are not written again.
This module is the only importer of apscheduler.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from apscheduler.schedulers.background import BackgroundScheduler

from analytics import daycache, progress, rows, runner, slis
from analytics.job import Job
from analytics.jobs import JOBS
from analytics.options import DAY_NS, HOUR_NS, SECOND_NS, AnalyticsOptions
from collector.storage.base import Store

log: Final = logging.getLogger(__name__)

After = Callable[[int, int], None]
"""Called with (from_ns, horizon_ns) after the jobs: verdicts of these instants are new, or were restated."""

CATCH_UP_NS: Final = 35 * DAY_NS
"""How far back a run judges at most: the retention of the roll-ups. A device whose clock says 1970 must not make it
visit half a century of instants."""


@dataclass(slots=True)
class Counters:
    """What the scheduler did since it was made; shown on /metrics."""

    runs: int = 0
    job_runs: int = 0
    job_failures: dict[str, int] = field(default_factory=dict)
    after_failures: int = 0
    tick_failures: int = 0
    verdicts_written: int = 0
    hours_rolled_up: int = 0


class Scheduler:
    """Runs ``jobs`` over a store; thread-safe, one run at a time.

    ``after`` are called in order once the jobs are done. ``compute`` says where the mathematics runs; by default in
    place, or in a child when ``options.compute_child``.
    """

    def __init__(
        self,
        store: Store,
        options: AnalyticsOptions,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        after: Sequence[After] = (),
        compute: runner.Runner | None = None,
        jobs: Sequence[Job] = JOBS,
    ) -> None:
        """Check the SLO and target files now, so that a broken one stops the start: raises ``ConfigError``."""
        slis.check_config(options)
        self._store = store
        self._options = options
        self._clock_ns = clock_ns
        self._after = tuple(after)
        self._jobs = tuple(jobs)
        self._compute = compute or (
            runner.ChildRunner(options.compute_memory_bytes) if options.compute_child else runner.InlineRunner()
        )
        self._days = {job.name: daycache.DayCache() for job in self._jobs}
        self._lock = threading.Lock()
        self._background: BackgroundScheduler | None = None
        self._restate: dict[str, int] = {}
        self._started_jobs: set[str] = set()
        self._closed_hours_ns = 0
        self._first_ns: int | None = None
        self.counters = Counters()

    def start(self) -> None:
        """Begin to tick every ``options.tick_s`` seconds in a background thread; harmless when started."""
        if self._background is not None:
            return
        background = BackgroundScheduler(timezone=UTC)
        background.add_job(
            self.tick, "interval", seconds=self._options.tick_s, id="tick", max_instances=1, coalesce=True,
            misfire_grace_time=None,
        )  # fmt: skip
        background.start()
        self._background = background

    def stop(self) -> None:
        """Stop ticking and wait for a run under way; idempotent."""
        if self._background is not None:
            self._background.shutdown(wait=True)
            self._background = None
        with self._lock:
            self._compute.close()

    def tick(self) -> None:
        """Run when something is due; never raises: what goes wrong is logged and counted."""
        try:
            with self._lock:
                if self._due():
                    self._run(None)
        except Exception:
            self.counters.tick_failures += 1
            log.exception("scheduler tick failed; the next one tries again in %s s", self._options.tick_s)

    def run_until(self, until_ns: int | None = None) -> dict[str, int]:
        """Roll up and judge everything up to ``until_ns`` (event time; None: as far as the fleet's data is complete).

        Returns ``{"horizon_ns", "hours", "rows", "failed"}``; horizon 0 means that the store holds no data yet.
        """
        with self._lock:
            return self._run(until_ns)

    def _done(self) -> dict[str, int | None]:
        """Return up to which instant each job is done."""
        return {job.name: progress.until_ns(self._store, job.name) for job in self._jobs}

    def _horizon(self, done: Mapping[str, int | None], until_ns: int | None) -> int | None:
        """Return how far to judge.

        It never goes back: where only a device with old hours reports, what they change was judged already.
        """
        horizon = progress.horizon_ns(self._store, self._options, self._clock_ns(), until_ns)
        if horizon is None:
            return None
        return max([horizon, *(at for name, at in done.items() if at and name not in progress.WALL_CLOCK_JOBS)])

    def _due(self) -> bool:
        """Return whether a new grid instant is complete, or late data changed a closed hour a while ago."""
        done = self._done()
        horizon = self._horizon(done, None)
        if horizon is None:
            return False
        if self._restate or any(self._instant_due(job, done[job.name], horizon) for job in self._jobs):
            return True
        open_hour = horizon // HOUR_NS * HOUR_NS
        late = any(hour.hour_ns < open_hour for hour in self._store.dirty_hours())
        waited = self._clock_ns() - self._closed_hours_ns >= int(self._options.restate_s * SECOND_NS)
        return late and waited

    def _instant_due(self, job: Job, done: int | None, horizon: int) -> bool:
        return done is None or len(job.instants(done, self._reach(job, done, horizon, None))) > 0

    def _reach(self, job: Job, done: int | None, horizon: int, until_ns: int | None) -> int:
        """Return up to where a job judges: the horizon; by the wall clock, where only silence tells."""
        if job.name in progress.WALL_CLOCK_JOBS:
            horizon = max(horizon, done or 0)
            if until_ns is None:
                horizon = max(horizon, progress.wall_horizon_ns(self._store, self._options, self._clock_ns()))
        return horizon

    def _run(self, until_ns: int | None) -> dict[str, int]:
        now_ns = self._clock_ns()
        self.counters.runs += 1
        done = self._done()
        horizon = self._horizon(done, until_ns)
        if horizon is None:
            return {"horizon_ns": 0, "hours": 0, "rows": 0, "failed": 0}
        hours = slis.roll_up(self._store, self._options, horizon, now_ns)
        self._closed_hours_ns = now_ns
        self.counters.hours_rolled_up += len(hours)
        # hours beyond the reach of any judgement (a clock in 1970 that is corrected only later) change no verdict
        oldest = min((hour for hour in hours if hour > horizon - CATCH_UP_NS), default=None)
        written = failed = 0
        before = [at for name, at in done.items() if at is not None and name not in progress.WALL_CLOCK_JOBS]
        changed_from, changed_until = max(before, default=horizon), horizon
        for job in self._jobs:
            from_ns = self._from_ns(job, done[job.name], oldest, horizon)
            reach = self._reach(job, done[job.name], horizon, until_ns)
            if from_ns is None or not job.instants(from_ns, reach):
                continue
            changed_until = max(changed_until, reach)
            try:
                n, oldest_ns = self._run_job(job, from_ns, reach)
                written += n
                if oldest_ns is not None:
                    changed_from = min(changed_from, oldest_ns - progress.SLOT_NS)
                self._restate.pop(job.name, None)
            except Exception as error:
                log.exception("job %s failed over (%d, %d]; the others go on, it runs again", job.name, from_ns, reach)
                failed += 1
                self._job_failed(job, from_ns, reach, error)
        self.counters.verdicts_written += written
        self._call_after(changed_from, changed_until)
        return {"horizon_ns": horizon, "hours": len(hours), "rows": written, "failed": failed}

    def _from_ns(self, job: Job, done: int | None, oldest: int | None, horizon: int) -> int | None:
        """Return after which instant a job must judge: its progress, or earlier where hours were restated."""
        candidates = [value for value in (done, oldest, self._restate.get(job.name)) if value is not None]
        if job.name not in self._started_jobs:
            if self._first_ns is None:
                self._first_ns = progress.first_ns(self._store, horizon, CATCH_UP_NS)
            if self._first_ns is None:
                return None
            # a process that died between roll-up and judgement left hours clean that were never judged
            overlap = int(self._options.overlap_hours * HOUR_NS)
            candidates.append(self._first_ns if done is None else max(done - overlap, self._first_ns))
        self._started_jobs.add(job.name)
        return max(min(candidates), horizon - CATCH_UP_NS) if candidates else None

    def _run_job(self, job: Job, from_ns: int, until_ns: int) -> tuple[int, int | None]:
        """Judge the instants of (from, until] in batches, each with its own progress row.

        Returns how many rows were new or changed, and the oldest instant among them (None when none was).
        """
        written = 0
        oldest_ns: int | None = None
        instants = job.instants(from_ns, until_ns)
        for start in range(0, len(instants), self._options.batch_instants):
            batch = instants[start : start + self._options.batch_instants]
            begin_ns, end_ns = (from_ns if start == 0 else instants[start - 1]), batch[-1]
            started = self._clock_ns()
            clock = time.perf_counter_ns()
            with runner.using(self._compute), daycache.using(self._days[job.name]):
                table = job.run(self._store, self._options, begin_ns, end_ns, started)
            stored = self._store.query("verdicts_between", {"kind": job.name, "from_ns": begin_ns, "to_ns": end_ns})
            table = rows.changed(table, stored, started)
            if table.num_rows:
                self._store.append("verdicts", table)
                first_ns = int(pc.min(table.column("at_ns")).as_py())
                oldest_ns = first_ns if oldest_ns is None else min(oldest_ns, first_ns)
            self._ledger(job.name, begin_ns, end_ns, started, time.perf_counter_ns() - clock, table.num_rows, "ok", "")
            self.counters.job_runs += 1
            written += int(table.num_rows)
        return written, oldest_ns

    def _job_failed(self, job: Job, from_ns: int, until_ns: int, error: Exception) -> None:
        self.counters.job_failures[job.name] = self.counters.job_failures.get(job.name, 0) + 1
        self._restate[job.name] = min(from_ns, self._restate.get(job.name, from_ns))
        self._days[job.name].forget()
        detail = f"{type(error).__name__}: {error}"[:500]
        try:
            self._ledger(job.name, from_ns, until_ns, self._clock_ns(), 0, 0, "failed", detail)
        except Exception:
            log.exception("the failure of job %s could not be recorded", job.name)

    def _ledger(
        self,
        job: str,
        from_ns: int,
        until_ns: int,
        started_ns: int,
        took_ns: int,
        n: int,
        outcome: str,
        detail: str,
    ) -> None:
        row = {
            "job": [job], "from_ns": [from_ns], "until_ns": [until_ns], "started_ns": [started_ns],
            "duration_ns": [took_ns], "rows_written": [n], "outcome": [outcome], "detail": [detail],
        }  # fmt: skip
        self._store.append("job_runs", pa.table(row, schema=progress.JOB_RUNS))

    def _call_after(self, from_ns: int, horizon: int) -> None:
        for callback in self._after:
            try:
                callback(from_ns, horizon)
            except Exception:
                self.counters.after_failures += 1
                log.exception("what follows judgement failed over (%d, %d]", from_ns, horizon)

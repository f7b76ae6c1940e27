"""Alerts of one installation: verdicts from the store through rules into states, the ledger and notices.

Commit order of a call: ledger entries, then states, then progress. A process that dies in between repeats the span on
the next call: ids are deterministic, so what is there already is not written again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from alerts.evaluate import Change, Machine
from alerts.ledger import LedgerEntry
from alerts.notify.base import Notifier
from alerts.options import AlertOptions
from alerts.pipeline import Pipeline
from alerts.reading import Past, read_past
from alerts.rules import effective_rules
from alerts.schema import Rule
from alerts.state import GRID_NS, Action
from alerts.verdict import Verdict, verdicts_of
from alerts.writing import notice_of, refresh_row, state_row, transition_entry
from collector.storage.base import Parameter, Store
from collector.storage.rows import ALERT_LEDGER, ALERT_STATES, JOB_RUNS

logger = logging.getLogger(__name__)

JOB: Final = "alerts"
HOUR_NS: Final = 3_600_000_000_000
LOOKBACK_NS: Final = 400 * 24 * HOUR_NS
"""How far back a first call goes at most; verdicts are kept for 13 months."""
CADENCE_NS: Final[Mapping[str, int]] = {"slo": 300_000_000_000, "silence": 300_000_000_000}
"""Step of a kind's grid; an hour where not named. A job done up to T has nothing to say before T + this."""

NOTICED: Final = frozenset({Action.FIRING, Action.RESOLVED})


def build_notifiers(options: AlertOptions, clock_ns: Callable[[], int]) -> tuple[Notifier, ...]:
    """Return the configured receivers; raises ``ConfigError`` for one that cannot be used."""
    from alerts.notify.webhook import Webhook

    found: list[Notifier] = [
        Webhook(webhook, timeout_s=options.send_timeout_s, clock_ns=clock_ns) for webhook in options.webhooks
    ]
    if options.apprise_urls:
        from alerts.notify.apprise import AppriseReceiver  # a fifth of a second that most starts need not pay

        found += [AppriseReceiver(url) for url in options.apprise_urls]
    return tuple(found)


class AlertService:
    """Turns verdicts into alerts. ``evaluate`` is what the scheduler calls after each judgement; thread-safe.

    Raises ``ConfigError`` at construction for a broken rule file or receiver.
    """

    def __init__(
        self,
        store: Store,
        options: AlertOptions,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._options = options
        self._clock_ns = clock_ns
        self._sleep = sleep
        self.rules: tuple[Rule, ...] = effective_rules(options.rules_dir)
        self._notifiers = build_notifiers(options, clock_ns)
        self._lock = threading.Lock()
        self._machine: Machine | None = None
        self._pipeline = Pipeline(self._notifiers, options, sleep=sleep)
        self._until_ns: dict[str, int] = {}
        self._known: set[str] = set()
        self._stored_ns: Mapping[str, int] = {}
        self._written_ns = 0
        self.counts: Counter[str] = Counter()

    def evaluate(self, from_ns: int, until_ns: int) -> None:
        """Judge everything after ``from_ns`` (or after what was judged before) up to ``until_ns``; send notices.

        What was judged is never judged again: verdicts restated before that change no alert.
        """
        with self._lock:
            try:
                machine = self._loaded(max(from_ns, until_ns - LOOKBACK_NS))
                self._catch_up(machine, until_ns)
            except BaseException:
                self._machine = None  # the store knows what was committed; read it back next time
                raise
            self._deliver()

    def close(self) -> None:
        """Close the receivers."""
        self._pipeline.close()

    def metrics(self) -> Mapping[str, int]:
        """Return counters since the start: verdicts read, transitions, notices by outcome; alerts alive now."""
        alive = Counter(
            str(live.episode.phase) for live in (self._machine.live.values() if self._machine else ()) if live.episode
        )
        return {
            **self.counts,
            **self._pipeline.counts,
            "alerts_pending": alive["pending"],
            "alerts_firing": alive["firing"],
            "notices_outstanding": self._pipeline.outstanding,
        }

    def _loaded(self, from_ns: int) -> Machine:
        if self._machine is not None:
            return self._machine
        past: Past = read_past(self._store, {rule.name: rule for rule in self.rules})
        self._machine = Machine(self.rules, past.live, past.echoes)
        start_ns = past.progress_ns or from_ns
        self._until_ns = {kind: max(start_ns, past.kinds.get(kind, 0)) for kind in self._machine.kinds}
        self._known, self._stored_ns = past.entry_ids, past.stored_ns
        self._written_ns = max(self._written_ns, past.written_ns)
        self._pipeline = Pipeline(self._notifiers, self._options, sleep=self._sleep)
        self._pipeline.resume(past.notices, past.ledger)
        return self._machine

    def _catch_up(self, machine: Machine, until_ns: int) -> None:
        goals = {kind: max(done, self._reach(kind, until_ns)) for kind, done in self._until_ns.items()}
        begin_ns = min(self._until_ns.values(), default=until_ns)
        while begin_ns < max(goals.values(), default=0):
            end_ns = begin_ns + self._options.chunk_hours * HOUR_NS
            targets = {kind: max(done, min(goals[kind], end_ns)) for kind, done in self._until_ns.items()}
            if targets != self._until_ns:
                self._judge(machine, targets)
            begin_ns = end_ns

    def _reach(self, kind: str, until_ns: int) -> int:
        """Return how far a kind's verdicts are complete: its job's progress and the empty step after it."""
        progress = self._store.query("job_progress", {"job": kind}).to_pylist()
        done = progress[0]["until_ns"] if progress else None
        if done is None:
            return until_ns
        return min(until_ns, (int(done) + CADENCE_NS.get(kind, HOUR_NS) - 1) // GRID_NS * GRID_NS)

    def _judge(self, machine: Machine, targets: Mapping[str, int]) -> None:
        started_ns, clock = self._now_ns(), time.perf_counter_ns()
        begin_ns = min(self._until_ns.values())
        rows = sorted(self._read(targets), key=lambda row: (row.at_ns, row.kind, row.key))
        changes = [change for change in machine.advance(rows, targets) if not self._is_repeat(change)]
        states = [state_row(change, self._options) for change in changes]
        entries = [transition_entry(change, row) for change, row in zip(changes, states, strict=True)]
        fresh = [found.id not in self._known for found in entries]
        states += [refresh_row(live, self._options) for live in machine.live.values() if live.seen]
        for live in machine.live.values():
            live.seen = False
        self._append_ledger(entries)
        self._append("alert_states", ALERT_STATES, [row.row(self._now_ns()) for row in states])
        self._append_progress(begin_ns, min(targets.values()), started_ns, time.perf_counter_ns() - clock, len(states))
        self._until_ns = dict(targets)
        self._count(rows, changes)
        for change, row, is_new in zip(changes, states, fresh, strict=False):
            if is_new and change.step.action in NOTICED:
                self._pipeline.offer(notice_of(row, str(change.step.action), change.step.at_ns, change.step.reason))

    def _is_repeat(self, change: Change) -> bool:
        """Return whether an earlier process committed this change, its ledger entry and its state row both."""
        return transition_entry(change).id in self._known and self._stored_ns.get(change.id, -1) >= change.step.at_ns

    def _read(self, targets: Mapping[str, int]) -> Iterator[Verdict]:
        for kind, to_ns in targets.items():
            if to_ns > self._until_ns[kind]:
                span: dict[str, Parameter] = {"kind": kind, "from_ns": self._until_ns[kind], "to_ns": to_ns}
                table = self._store.query("verdicts_between", span)
                columns = {name: table.column(name).to_pylist() for name in table.column_names}
                yield from verdicts_of(columns, frozenset({kind}))

    def _deliver(self) -> None:
        self._append_ledger(self._pipeline.run(self._clock_ns()))

    def _count(self, rows: Sequence[Verdict], changes: Sequence[Change]) -> None:
        self.counts["verdicts"] += len(rows)
        self.counts.update(str(change.step.action) for change in changes)

    def _append_ledger(self, entries: Iterable[LedgerEntry]) -> None:
        new = [found for found in entries if found.id not in self._known]
        self._append("alert_ledger", ALERT_LEDGER, [found.row(self._now_ns()) for found in new])
        self._known.update(found.id for found in new)

    def _append(self, table: str, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            self._store.append(table, pa.Table.from_pylist(list(rows), schema=schema))

    def _append_progress(self, from_ns: int, until_ns: int, started_ns: int, duration_ns: int, written: int) -> None:
        row = {
            "job": JOB,
            "from_ns": from_ns,
            "until_ns": until_ns,
            "started_ns": started_ns,
            "duration_ns": duration_ns,
            "rows_written": written,
            "outcome": "ok",
            "detail": "",
        }
        self._append("job_runs", JOB_RUNS, [row])

    def _now_ns(self) -> int:
        """Return the wall clock, strictly rising, also over restarts: an alert's newest written row counts."""
        self._written_ns = max(self._written_ns + 1, self._clock_ns())
        return self._written_ns

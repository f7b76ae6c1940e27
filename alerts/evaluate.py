"""Verdict rows through rules into state changes, in event time. Pure: rows in, changes out; no clock, no store.

``Machine`` holds what is alive between calls. Cost follows the rows that matter and the alerts that live, not the
product of instants and rules: a false row of an alert that is not alive is looked at once and forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from graphlib import TopologicalSorter
from typing import Any, Final, NamedTuple

from alerts.ledger import alert_id, canonical
from alerts.schema import INDEFINITE, Rule, When
from alerts.state import (
    Action,
    Condition,
    Episode,
    Member,
    Phase,
    Signal,
    Step,
    Timing,
    condition,
    next_due,
    observe,
    on_grid,
    onset,
    step,
)
from alerts.verdict import Dims, Verdict, cohort_json, dims, overlap

LINGER_NS: Final = 3_600_000_000_000
"""How long a resolved alert still explains the rows around it: its bad events stay in their windows."""
CATALOG_AGE_NS: Final = 7_200_000_000_000
"""Age up to which a row of another cohort may be named as the worst one."""

NEVER_NS: Final = 2**63 - 1

_UNKNOWN: Final = object()


class Key(NamedTuple):
    """What one alert is about; fields that the rule does not group by are ''."""

    name: str
    model: str
    version: str
    cohort: str

    @property
    def text(self) -> str:
        """Return canonical JSON."""
        return canonical(self._asdict())


@dataclass(slots=True)
class Live:
    """One alert that is pending or firing. ``rows`` holds the newest true row of each member."""

    rule: Rule
    key: Key
    limits: Dims
    timing: Timing
    members: dict[str, Member] = field(default_factory=dict)
    rows: dict[str, Verdict] = field(default_factory=dict)
    episode: Episode | None = None
    due_ns: int = NEVER_NS
    stepped_ns: int = 0
    as_of_ns: int = 0
    touched: bool = False
    seen: bool = False
    evidence: dict[str, Any] = field(default_factory=dict)
    summary: str = ""
    devices: int = 0

    @property
    def id(self) -> str:
        """Return the alert's deterministic id; only of one that has an episode."""
        assert self.episode is not None
        return alert_id(self.rule.name, self.key.text, self.episode.onset_ns)

    def ranked(self) -> list[Verdict]:
        """Return the rows behind the alert, worst first: those that are true now, else the last that were."""
        now = [row for key, row in self.rows.items() if self.members[key].value]
        return sorted(now or self.rows.values(), key=lambda row: (-row.effect, row.key))

    @property
    def device_ids(self) -> frozenset[str]:
        """Return the devices that the rows name."""
        named = {device for row in self.rows.values() for device in row.device_ids}
        return frozenset(named or self.evidence.get("device_ids", ()))


@dataclass(frozen=True, slots=True)
class Echo:
    """A resolved alert that still explains others until ``until_ns``."""

    id: str
    rule: str
    key: Key
    limits: Dims
    device_ids: frozenset[str]
    until_ns: int


@dataclass(frozen=True, slots=True)
class Change:
    """A state change of one alert: what happened, the episode (its last state when it ended), the rows behind it."""

    live: Live
    id: str
    step: Step
    episode: Episode
    rows: tuple[Verdict, ...]
    worst: tuple[Verdict, ...]


def signal(rule: Rule, row: Verdict) -> Signal:
    """Return what a row says about the rule's condition."""
    if row.verdict in INDEFINITE:
        return Signal.HOLD
    found = Signal.TRUE if rule.when.is_empty else _holds(rule.when, row)
    if found is Signal.TRUE and row.affected < rule.min_devices:
        found = Signal.FALSE
    if found is Signal.FALSE and not rule.keep_while.is_empty and _holds(rule.keep_while, row) is Signal.TRUE:
        return Signal.KEEP
    return found


def _holds(when: When, row: Verdict) -> Signal:
    if when.verdict and row.verdict not in when.verdict:
        return Signal.FALSE
    for path, wanted in when.detail.items():
        value = _at(row.detail, path)
        if value is _UNKNOWN:
            return Signal.HOLD
        if value != wanted or isinstance(value, bool) != isinstance(wanted, bool):
            return Signal.FALSE
    return Signal.TRUE


def _at(detail: Mapping[str, Any], path: str) -> object:
    """Return the value at a dotted path: None when the leaf is missing, unknown when a part above it is null."""
    node: Any = detail
    *parents, leaf = path.split(".")
    for part in parents:
        node = node.get(part)
        if not isinstance(node, Mapping):
            return _UNKNOWN
    return node.get(leaf)


def new_live(rule: Rule, key: Key, limits: Dims) -> Live:
    """Return an alert that is not alive yet. Whole-fleet rows wait ``specific_first`` longer, for a cohort's row."""
    timing = rule.timing
    if not limits:
        timing = replace(timing, for_ns=timing.for_ns + rule.specific_first)
    return Live(rule, key, limits, timing)


def key_of(rule: Rule, row: Verdict) -> Key:
    """Return the alert that a row belongs to under a rule."""
    by = rule.group_by
    return Key(
        row.name if "name" in by else "",
        row.model if "model" in by else "",
        row.version if "version" in by else "",
        cohort_json(row.cohort.items()) if "cohort" in by else "{}",
    )


def ranks(rules: Sequence[Rule]) -> dict[str, int]:
    """Return the order in which rules step at one instant: those that inhibit before those they inhibit."""
    names = {rule.name for rule in rules}
    graph = {rule.name: {entry.rule for entry in rule.inhibited_by} & names for rule in rules}
    return {name: rank for rank, name in enumerate(TopologicalSorter(graph).static_order())}


class Machine:
    """All alerts alive under a set of rules.

    Every kind of verdict has its own progress: a job that lags or fails holds up nobody else's alerts, and silence,
    which is judged against the wall clock, may run ahead of the data.
    """

    def __init__(self, rules: Sequence[Rule], live: Iterable[Live] = (), echoes: Iterable[Echo] = ()) -> None:
        self.rules = {rule.name: rule for rule in rules}
        self.kinds = tuple(sorted({rule.kind for rule in rules}))
        self.live: dict[tuple[str, Key], Live] = {(entry.rule.name, entry.key): entry for entry in live}
        self._echoes = list(echoes)
        self._ranks = ranks(rules)
        self._matching: dict[tuple[str, str], tuple[tuple[Rule, Key], ...]] = {}
        self._catalog: dict[tuple[str, str], dict[str, Verdict]] = {}
        for entry in self.live.values():
            self._plan(entry, entry.as_of_ns)

    def advance(self, rows: Sequence[Verdict], until_ns: Mapping[str, int]) -> list[Change]:
        """Take in rows (ordered by instant, each later than its kind's progress) and return the changes.

        ``until_ns`` is the new progress of each kind; timers up to it act at their own instant, between rows too.
        """
        changes: list[Change] = []
        index = 0
        while True:
            dues = [due for entry in self.live.values() if (due := self._due(entry)) <= until_ns[entry.rule.kind]]
            if index < len(rows):
                dues.append(rows[index].at_ns)
            if not dues:
                break
            at_ns = min(dues)
            while index < len(rows) and rows[index].at_ns <= at_ns:
                self._take(rows[index])
                index += 1
            changes += self._step_all(at_ns, until_ns)
        for change in changes:
            change.live.as_of_ns = until_ns[change.live.rule.kind]
        for entry in self.live.values():
            entry.as_of_ns = until_ns[entry.rule.kind]
        oldest = min(until_ns.values(), default=0)
        self._echoes = [echo for echo in self._echoes if echo.until_ns > oldest]
        return changes

    def _due(self, entry: Live) -> int:
        """Return when time alone may change an alert: its own timers, or the end of what suppresses it."""
        dues = [entry.due_ns]
        if entry.episode is not None and entry.episode.suppressed_by:
            dues += [echo.until_ns for echo in self._echoes if echo.until_ns > entry.stepped_ns]
        return min(dues)

    def _take(self, row: Verdict) -> None:
        self._catalog.setdefault((row.kind, row.name), {})[row.key] = row
        for rule, key in self._watched(row):
            said = signal(rule, row)
            entry = self.live.get((rule.name, key))
            if entry is None:
                if said is not Signal.TRUE:
                    continue
                entry = new_live(rule, key, _limits(rule, row))
                self.live[rule.name, key] = entry
            entry.touched = entry.seen = True
            member = observe(entry.members.get(row.key), said, row.at_ns, row.onset_ns(rule.min_devices))
            if member is not None:
                entry.members[row.key] = member
            if member is not None and member.value and not member.held:
                entry.rows[row.key] = row

    def _watched(self, row: Verdict) -> tuple[tuple[Rule, Key], ...]:
        """Return the rules that look at a row and the alert it belongs to under each."""
        memo = (row.kind, row.key)
        if memo not in self._matching:
            self._matching[memo] = tuple(
                (rule, key_of(rule, row))
                for rule in self.rules.values()
                if rule.kind == row.kind and rule.matches(row.name, row.cohort)
            )
        return self._matching[memo]

    def _step_all(self, at_ns: int, until_ns: Mapping[str, int]) -> list[Change]:
        def needs_step(entry: Live) -> bool:
            return entry.touched or self._due(entry) <= min(at_ns, until_ns[entry.rule.kind])

        def order(entry: Live) -> tuple[int, int, float, Key]:
            worst = max((row.effect for row in entry.rows.values()), default=0.0)
            return self._ranks[entry.rule.name], -len(entry.limits), -worst, entry.key

        changes: list[Change] = []
        for entry in sorted(filter(needs_step, self.live.values()), key=order):
            changes += self._step_one(entry, at_ns)
        return changes

    def _step_one(self, entry: Live, at_ns: int) -> list[Change]:
        entry.touched = False
        before = entry.episode
        now = condition(entry.members.values(), at_ns, entry.timing)
        may_fire = now is Condition.TRUE and (before is None or before.phase is Phase.PENDING)
        after, steps = step(
            before,
            at_ns,
            now,
            entry.timing,
            onset_ns=before.onset_ns if before else onset(entry.members.values(), at_ns),
            blocker=self._blocker(entry, at_ns) if may_fire else "",
        )
        entry.episode = after or before
        changes: list[Change] = []
        for done in steps:
            assert entry.episode is not None
            rows = tuple(entry.ranked())
            changes.append(Change(entry, entry.id, done, entry.episode, rows, self._worst(rows, at_ns)))
            if done.action is Action.RESOLVED:
                self._echoes.append(echo_of(entry, entry.id, at_ns))
        entry.episode = after
        if after is None:
            del self.live[entry.rule.name, entry.key]
        else:
            self._plan(entry, at_ns)
        return changes

    def _plan(self, entry: Live, at_ns: int) -> None:
        assert entry.episode is not None
        due_ns = next_due(entry.episode, entry.members.values(), at_ns, entry.timing)
        entry.due_ns = NEVER_NS if due_ns is None else due_ns
        entry.stepped_ns = at_ns

    def _blocker(self, entry: Live, at_ns: int) -> str:
        """Return why this alert should not fire while others do, '' when nothing explains it."""
        firing = [
            Echo(other.id, other.rule.name, other.key, other.limits, other.device_ids, NEVER_NS)
            for other in self.live.values()
            if other is not entry and other.episode is not None and other.episode.phase is Phase.FIRING
        ]
        for other in (*firing, *self._echoes):
            reason = _explains(other, entry)
            if reason and at_ns < other.until_ns:
                return f"{reason}:{other.id}"
        return ""

    def _worst(self, rows: Sequence[Verdict], at_ns: int) -> tuple[Verdict, ...]:
        """Return the worst rows of narrower cohorts than the alert's own first row, of the same kind and name."""
        if not rows:
            return ()
        mine = rows[0].dims
        others = self._catalog.get((rows[0].kind, rows[0].name), {}).values()
        narrower = [
            row
            for row in others
            if mine < row.dims
            and row.at_ns > at_ns - CATALOG_AGE_NS
            and row.verdict not in INDEFINITE
            and row.effect > 0
        ]
        return tuple(sorted(narrower, key=lambda row: (-row.effect, row.key))[:3])


def echo_of(entry: Live, alert: str, resolved_ns: int) -> Echo:
    """Return what a resolved alert goes on explaining, and until when."""
    until_ns = on_grid(resolved_ns + max(LINGER_NS, entry.rule.resolve_after))
    return Echo(alert, entry.rule.name, entry.key, entry.limits, entry.device_ids, until_ns)


def _limits(rule: Rule, row: Verdict) -> Dims:
    by = rule.group_by
    return dims(
        row.cohort if "cohort" in by else {},
        row.model if "model" in by else "",
        row.version if "version" in by else "",
    )


def _explains(other: Echo, entry: Live) -> str:
    """Return in what way a firing alert explains another: '' when it does not."""
    rule = entry.rule
    if other.rule == rule.name and other.key.name == entry.key.name:
        if rule.most_specific and entry.limits < other.limits:
            return "more_specific"
        mine = entry.device_ids
        shared = len(mine & other.device_ids) / len(mine) if mine else 0.0
        if rule.shared_devices < 1.0 and shared >= rule.shared_devices and overlap(other.limits, entry.limits):
            return "same_devices"
    for by in rule.inhibited_by:
        if (
            by.rule == other.rule
            and any(fnmatchcase(entry.key.name, pattern) for pattern in by.names)
            and all(getattr(other.key, part) == getattr(entry.key, part) for part in by.same)
            and overlap(other.limits, entry.limits)
        ):
            return f"inhibited:{other.rule}"
    return ""

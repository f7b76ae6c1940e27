"""The alert state machine of one rule and one thing it watches. Pure: no clock, no store, no rule files.

``inactive -> pending -> firing -> resolved`` in event time. A verdict that cannot tell (``no_data``, ``insufficient``,
``too_few_events``) neither fires nor resolves anything: the last definite verdict stands, held, until it is older than
``hold_max_ns``. Every instant at which something may happen is either a verdict's or a ``next_due`` one, so that the
outcome does not depend on how a span of time is cut into calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

GRID_NS: Final = 300_000_000_000
"""Step of the event-time grid: timers that end between two grid instants act at the next one."""


class Signal(StrEnum):
    """What one verdict row says about a rule's condition."""

    TRUE = "true"
    FALSE = "false"
    HOLD = "hold"  # cannot tell
    KEEP = "keep"  # too weak to start an alert, strong enough to keep one


class Condition(StrEnum):
    """What all verdict rows of one alert say together."""

    TRUE = "true"
    FALSE = "false"
    HOLD = "hold"
    NONE = "none"  # nothing definite for longer than ``hold_max_ns``


class Phase(StrEnum):
    """Where an episode stands."""

    PENDING = "pending"
    FIRING = "firing"


class Action(StrEnum):
    """What a step did; the words of the ledger."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"
    CLEARED = "cleared"  # was pending, never fired
    SUPPRESSED = "suppressed"


@dataclass(frozen=True, slots=True)
class Timing:
    """A rule's spans in ns. ``sparse`` says that rows come only on change, so that silence is not loss of data."""

    for_ns: int = 0
    resolve_after_ns: int = 0
    hold_max_ns: int = 86_400_000_000_000
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """The newest verdict of one key of an alert: its last definite value, and whether the newest row could tell."""

    value: bool
    held: bool
    definite_ns: int
    true_ns: int = 0
    onset_ns: int = 0


@dataclass(frozen=True, slots=True)
class Episode:
    """One stretch of trouble, from the first true verdict to the end."""

    phase: Phase
    onset_ns: int
    true_since_ns: int
    firing_ns: int = 0
    clear_since_ns: int = 0
    suppressed_by: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did at ``at_ns``."""

    action: Action
    at_ns: int
    reason: str = ""


def on_grid(at_ns: int) -> int:
    """Return the first grid instant at or after ``at_ns``."""
    return -(-at_ns // GRID_NS) * GRID_NS


def observe(member: Member | None, signal: Signal, at_ns: int, onset_ns: int = 0) -> Member | None:
    """Return the member after a verdict row at ``at_ns``; ``onset_ns`` is the row's own estimate, 0 when none."""
    if signal is Signal.HOLD:
        return None if member is None else replace(member, held=True)
    keeps = signal is Signal.KEEP and member is not None and member.value
    value = signal is Signal.TRUE or keeps
    if not value:
        return Member(value=False, held=False, definite_ns=at_ns)
    was = member if member is not None and member.value else None
    return Member(
        value=True,
        held=False,
        definite_ns=at_ns,
        true_ns=was.true_ns if was else at_ns,
        onset_ns=was.onset_ns if was and was.onset_ns else onset_ns,
    )


def is_expired(member: Member, at_ns: int, timing: Timing) -> bool:
    """Return whether the member's last definite verdict is too old to stand for anything."""
    if timing.sparse and not member.held:
        return False
    return at_ns >= on_grid(member.definite_ns + timing.hold_max_ns)


def condition(members: Iterable[Member], at_ns: int, timing: Timing) -> Condition:
    """Return what the members say together: one fresh true is true, one fresh false is false unless a true is held."""
    known = [member for member in members if not is_expired(member, at_ns, timing)]
    if any(member.value and not member.held for member in known):
        return Condition.TRUE
    if any(member.value for member in known):
        return Condition.HOLD
    if any(not member.held for member in known):
        return Condition.FALSE
    return Condition.HOLD if known else Condition.NONE


def onset(members: Iterable[Member], at_ns: int) -> int:
    """Return when the trouble began: the earliest estimate, else the earliest first true verdict."""
    begun = [member.onset_ns or member.true_ns for member in members if member.value]
    return min(begun, default=at_ns)


def step(
    episode: Episode | None, at_ns: int, now: Condition, timing: Timing, *, onset_ns: int, blocker: str = ""
) -> tuple[Episode | None, tuple[Step, ...]]:
    """Advance one alert to ``at_ns``; ``blocker`` names what suppresses it, '' = nothing.

    Returns the episode after the step (None = inactive) and what happened. A firing alert is never suppressed again:
    who was told of it is also told of its end.
    """
    if episode is None:
        if now is not Condition.TRUE:
            return None, ()
        begun = Episode(Phase.PENDING, onset_ns, at_ns)
        after, steps = _pending(begun, at_ns, now, timing, blocker)
        if steps and steps[0].action is Action.FIRING:
            return after, steps
        return after, (Step(Action.PENDING, at_ns), *steps)
    if episode.phase is Phase.PENDING:
        return _pending(episode, at_ns, now, timing, blocker)
    return _firing(episode, at_ns, now, timing)


def _pending(
    episode: Episode, at_ns: int, now: Condition, timing: Timing, blocker: str
) -> tuple[Episode | None, tuple[Step, ...]]:
    if now is Condition.NONE:
        return None, (Step(Action.CLEARED, at_ns, "no_data"),)
    if now is Condition.HOLD:
        return episode, ()
    if now is Condition.FALSE:
        if not episode.suppressed_by:
            return None, (Step(Action.CLEARED, at_ns, "condition false"),)
        since = episode.clear_since_ns or at_ns
        if at_ns >= on_grid(since + timing.resolve_after_ns):
            return None, (Step(Action.CLEARED, at_ns, "condition false"),)
        return replace(episode, clear_since_ns=since), ()
    if episode.clear_since_ns:
        episode = replace(episode, true_since_ns=at_ns, clear_since_ns=0)
    if at_ns < on_grid(episode.true_since_ns + timing.for_ns):
        return episode, ()
    if blocker:
        if episode.suppressed_by:
            return replace(episode, suppressed_by=blocker), ()
        return replace(episode, suppressed_by=blocker), (Step(Action.SUPPRESSED, at_ns, blocker),)
    return replace(episode, phase=Phase.FIRING, firing_ns=at_ns, suppressed_by=""), (Step(Action.FIRING, at_ns),)


def _firing(episode: Episode, at_ns: int, now: Condition, timing: Timing) -> tuple[Episode | None, tuple[Step, ...]]:
    if now is Condition.NONE:
        return None, (Step(Action.RESOLVED, at_ns, "no_data"),)
    if now is Condition.HOLD:
        return episode, ()
    if now is Condition.TRUE:
        return replace(episode, clear_since_ns=0), ()
    since = episode.clear_since_ns or at_ns
    if at_ns >= on_grid(since + timing.resolve_after_ns):
        return None, (Step(Action.RESOLVED, at_ns, "condition false"),)
    return replace(episode, clear_since_ns=since), ()


def next_due(episode: Episode, members: Iterable[Member], after_ns: int, timing: Timing) -> int | None:
    """Return the next instant after ``after_ns`` at which time alone may change this alert, None when there is none."""
    dues = [on_grid(member.definite_ns + timing.hold_max_ns) for member in members if member.held or not timing.sparse]
    if episode.phase is Phase.PENDING:
        dues.append(on_grid(episode.true_since_ns + timing.for_ns))
    if episode.clear_since_ns:
        dues.append(on_grid(episode.clear_since_ns + timing.resolve_after_ns))
    later = [due for due in dues if due > after_ns]
    return min(later, default=None)

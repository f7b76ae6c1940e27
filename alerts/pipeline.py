"""From state changes to notices: a list of stages, each takes the deliveries that are left and records what it decides.

A delivery is one notice for one receiver. What no stage settles stays outstanding for the next round; every decision
is a ledger entry. After a restart the outstanding ones are rebuilt from the ledger alone.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from alerts.ledger import LedgerEntry, entry
from alerts.notify.base import Notice, Notifier, Outcome, Retry, Sent
from alerts.options import AlertOptions

logger = logging.getLogger(__name__)

SENT: Final = "notice_sent"
FAILED: Final = "notice_failed"
SKIPPED: Final = "notice_skipped"
WAITING: Final = "notice_waiting"
BACKOFF_S: Final = (0.5, 2.0, 5.0)
NO_RECEIVER: Final = "none"


@dataclass(slots=True)
class Delivery:
    """One notice for one receiver; ``rounds`` counts the calls in which sending was tried.

    ``noted`` says that the ledger knows of it: what it does not know of is lost when the process dies.
    """

    notice: Notice
    receiver: str
    rounds: int = 0
    noted: bool = False

    @property
    def alert_id(self) -> str:
        """Return the alert that the notice is about."""
        return str(self.notice.alert["id"])


@dataclass(slots=True)
class Round:
    """What one run of the stages shares: wall time, what was told before, and the entries written so far.

    ``told`` holds (alert, receiver) whose firing was sent; ``waiting`` those whose firing is still outstanding.
    """

    now_ns: int
    told: set[tuple[str, str]]
    waiting: set[tuple[str, str]]
    entries: list[LedgerEntry] = field(default_factory=list)

    def record(self, delivery: Delivery, action: str, **detail: Any) -> None:
        """Write down what became of a delivery."""
        notice = delivery.notice
        full = {"notice": notice.id, "state": notice.state, "receiver": delivery.receiver, **detail}
        told = (notice.id, delivery.receiver, delivery.rounds)
        self.entries.append(entry(delivery.alert_id, action, notice.at_ns, full, *told))


class Stage(Protocol):
    """One decision about deliveries; returns those it leaves to the next stage."""

    def __call__(self, batch: Sequence[Delivery], round_: Round) -> list[Delivery]:
        """Decide, record, pass on."""
        ...


@dataclass(frozen=True, slots=True)
class HistoryStage:
    """Skips what is older than ``after_ns`` of wall clock when it is first looked at: replayed history wakes nobody."""

    after_ns: int
    notify_history: bool

    def __call__(self, batch: Sequence[Delivery], round_: Round) -> list[Delivery]:
        """Leave what is recent, or was tried before."""
        if self.notify_history:
            return list(batch)
        kept = []
        for delivery in batch:
            if delivery.rounds or delivery.notice.at_ns >= round_.now_ns - self.after_ns:
                kept.append(delivery)
            else:
                round_.record(delivery, SKIPPED, reason="history")
        return kept


@dataclass(frozen=True, slots=True)
class ReceiverStage:
    """Skips what has no receiver: none is configured, or it was taken away since."""

    labels: frozenset[str]

    def __call__(self, batch: Sequence[Delivery], round_: Round) -> list[Delivery]:
        """Leave what somebody can receive."""
        kept = []
        for delivery in batch:
            if delivery.receiver in self.labels:
                kept.append(delivery)
            else:
                round_.record(delivery, SKIPPED, reason="no_receiver")
        return kept


class OrderStage:
    """Tells a receiver of an end only when it was told of the beginning, and after it."""

    def __call__(self, batch: Sequence[Delivery], round_: Round) -> list[Delivery]:
        """Leave firings, and ends whose firing went through (or may go through in this very round)."""
        kept = []
        for delivery in batch:
            pair = (delivery.alert_id, delivery.receiver)
            if delivery.notice.state == "firing" or pair in round_.told or pair in round_.waiting:
                kept.append(delivery)
            else:
                round_.record(delivery, SKIPPED, reason="firing_not_sent")
        return kept


@dataclass(frozen=True, slots=True)
class SendStage:
    """Sends, with back-off inside the call, bounded by attempts, rounds and a budget of wall time for all."""

    notifiers: Mapping[str, Notifier]
    options: AlertOptions
    sleep: Callable[[float], None]
    monotonic: Callable[[], float]

    def __call__(self, batch: Sequence[Delivery], round_: Round) -> list[Delivery]:
        """Return what is still outstanding: failed for now, waiting for its firing, or out of budget."""
        deadline = self.monotonic() + self.options.send_budget_s
        left: list[Delivery] = []
        for delivery in batch:
            pair = (delivery.alert_id, delivery.receiver)
            if delivery.notice.state != "firing" and pair not in round_.told:
                if pair in round_.waiting:
                    left.append(self._wait(delivery, round_, "firing_first"))
                else:
                    round_.record(delivery, SKIPPED, reason="firing_not_sent")
                continue
            if self.monotonic() >= deadline:
                left.append(self._wait(delivery, round_, "budget"))
                continue
            outcome = self._try(delivery, deadline)
            delivery.rounds += 1
            if self._settle(delivery, outcome, round_):
                round_.waiting.discard(pair)
            else:
                left.append(delivery)
        return left

    def _wait(self, delivery: Delivery, round_: Round, reason: str) -> Delivery:
        """Return a delivery that was not tried, noted once: others' decisions about its notice do not settle it."""
        if not delivery.noted:
            round_.record(delivery, WAITING, reason=reason, round=delivery.rounds)
            delivery.noted = True
        return delivery

    def _settle(self, delivery: Delivery, outcome: Outcome, round_: Round) -> bool:
        """Record an outcome; return whether the delivery is done with."""
        pair = (delivery.alert_id, delivery.receiver)
        if isinstance(outcome, Sent):
            round_.record(delivery, SENT, round=delivery.rounds)
            (round_.told.add if delivery.notice.state == "firing" else round_.told.discard)(pair)
            return True
        again = isinstance(outcome, Retry) and delivery.rounds < self.options.notice_rounds
        round_.record(delivery, FAILED, error=outcome.reason, round=delivery.rounds, will_retry=again)
        delivery.noted = True
        logger.warning("notice not sent to %s: %s", delivery.receiver, outcome.reason)
        return not again

    def _try(self, delivery: Delivery, deadline: float) -> Outcome:
        notifier = self.notifiers[delivery.receiver]
        outcome: Outcome = Retry("not tried")
        for attempt in range(self.options.send_attempts):
            try:
                outcome = notifier.send(delivery.notice)
            except Exception as error:
                # A receiver's library must never stop judgement; it counts as a failed send, in the ledger.
                logger.exception("receiver %s raised", delivery.receiver)
                return Retry(f"{type(error).__name__} in the receiver")
            if not isinstance(outcome, Retry) or attempt + 1 == self.options.send_attempts:
                break
            pause = max(outcome.after_s or 0.0, BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)])
            if self.monotonic() + pause >= deadline:
                break
            self.sleep(pause)
        return outcome


class Pipeline:
    """The outstanding deliveries and the stages they pass."""

    def __init__(
        self,
        notifiers: Iterable[Notifier],
        options: AlertOptions,
        *,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifiers = {notifier.label: notifier for notifier in notifiers}
        self._stages: tuple[Stage, ...] = (
            HistoryStage(int(options.history_after_s * 1_000_000_000), options.notify_history),
            ReceiverStage(frozenset(self._notifiers)),
            OrderStage(),
            SendStage(self._notifiers, options, sleep, monotonic),
        )
        self._outstanding: list[Delivery] = []
        self._told: set[tuple[str, str]] = set()
        self.counts: Counter[str] = Counter()

    def offer(self, notice: Notice) -> None:
        """Take in a notice for every receiver."""
        for label in self._notifiers or (NO_RECEIVER,):
            self._outstanding.append(Delivery(notice, label))

    def resume(self, notices: Sequence[Notice], ledger: Iterable[Mapping[str, Any]]) -> None:
        """Rebuild what is outstanding from notices that should have gone out and the ledger's notice entries.

        ``ledger`` holds entries in the order they were written, ``detail`` parsed. A notice that nobody ever decided
        about is offered to all; one that waits, or failed and may be tried again, goes to that receiver only.
        """
        open_rounds: dict[tuple[str, str], int] = {}
        decided: set[str] = set()
        for row in ledger:
            if row["action"] not in {SENT, FAILED, SKIPPED, WAITING}:
                continue
            detail = row["detail"]
            pair = (str(detail["notice"]), str(detail["receiver"]))
            decided.add(pair[0])
            open_rounds.pop(pair, None)
            if row["action"] == WAITING or (row["action"] == FAILED and detail.get("will_retry")):
                open_rounds[pair] = int(detail["round"])
            if row["action"] == SENT:
                change = self._told.add if detail["state"] == "firing" else self._told.discard
                change((str(row["alert_id"]), pair[1]))
        for notice in notices:
            if notice.id not in decided:
                self.offer(notice)
            for (found, receiver), rounds in open_rounds.items():
                if found == notice.id:
                    self._outstanding.append(Delivery(notice, receiver, rounds, noted=True))

    def run(self, now_ns: int) -> list[LedgerEntry]:
        """Pass everything outstanding through the stages; return the ledger entries of what was decided."""
        waiting = {(d.alert_id, d.receiver) for d in self._outstanding if d.notice.state == "firing"}
        round_ = Round(now_ns, self._told, waiting)
        batch = self._outstanding
        for stage in self._stages:
            batch = stage(batch, round_)
            if not isinstance(stage, SendStage):
                kept = {(d.alert_id, d.receiver) for d in batch if d.notice.state == "firing"}
                round_.waiting &= kept
        self._outstanding = list(batch)
        self.counts.update(written.action for written in round_.entries)
        return round_.entries

    @property
    def outstanding(self) -> int:
        """Return how many deliveries wait for the next round."""
        return len(self._outstanding)

    def close(self) -> None:
        """Close every receiver."""
        for notifier in self._notifiers.values():
            notifier.close()

"""Changes into rows and notices. Pure: what is stored and sent is decided here, where it goes is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from alerts.evaluate import Change, Live
from alerts.facts import evidence
from alerts.ledger import LedgerEntry, StateRow, digest, entry, entry_id
from alerts.memory import MEMORY, remember
from alerts.message import compose, page_url, runbook_url, summary
from alerts.notify.base import Notice
from alerts.options import AlertOptions
from alerts.state import Action, Episode, Phase
from alerts.verdict import cohort_json

STATES: Final[Mapping[Action, str]] = {
    Action.PENDING: "pending",
    Action.SUPPRESSED: "pending",
    Action.FIRING: "firing",
    Action.RESOLVED: "resolved",
    Action.CLEARED: "inactive",
}
"""The state an alert is in after each action; a suppressed one stays pending, one that never fired ends inactive."""

TOLD: Final = ("rule", "severity", "cohort", "summary", "onset_ns", "since_ns", "devices", "page_url", "runbook_url")


def state_row(change: Change, options: AlertOptions) -> StateRow:
    """Return the state row of a change; the alert's facts are taken from the rows behind it while there are any."""
    live = change.live
    ended = change.step.action in {Action.RESOLVED, Action.CLEARED}
    if change.rows:
        worst = live.evidence.get("worst", []) if ended else None
        live.evidence = evidence(change.rows, change.worst)
        live.evidence |= {} if worst is None else {"worst": worst}
        live.devices = int(live.evidence["affected"])
    if change.rows and not (ended and live.summary):
        live.summary = summary(live.rule, live.evidence, live.limits, change.episode.onset_ns)
    return _row(
        live, change.id, STATES[change.step.action], change.step.at_ns, change.episode, options, change.step.reason
    )


def refresh_row(live: Live, options: AlertOptions) -> StateRow:
    """Return the newest state of a live alert that did not change its state but its facts or its memory.

    Facts are the present ones, also of an alert that is held back; the summary stays what was told when it fired.
    """
    assert live.episode is not None
    rows = live.ranked()
    if rows and live.episode.phase in {Phase.FIRING, Phase.PENDING} and not live.episode.clear_since_ns:
        worst = live.evidence.get("worst", [])
        live.evidence = {**evidence(rows), "worst": worst}
        live.devices = int(live.evidence["affected"])
    return _row(live, live.id, str(live.episode.phase), live.as_of_ns, live.episode, options, "")


def _row(
    live: Live, alert: str, state: str, at_ns: int, episode: Episode, options: AlertOptions, reason: str
) -> StateRow:
    facts: dict[str, Any] = {**live.evidence, MEMORY: remember(live)}
    facts["suppressed_by"] = episode.suppressed_by
    facts["state_reason"] = reason
    return StateRow(
        alert=alert,
        rule=live.rule.name,
        severity=live.rule.severity,
        state=state,
        at_ns=at_ns,
        onset_ns=episode.onset_ns,
        since_ns=episode.firing_ns or episode.true_since_ns,
        cohort=cohort_json(live.limits),
        summary=live.summary,
        devices=live.devices,
        evidence=facts,
        page_url=page_url(live.rule, live.limits, options.dashboard_url),
        runbook_url=runbook_url(live.rule, options.runbooks_url, options.dashboard_url),
    )


def transition_entry(change: Change, row: StateRow | None = None) -> LedgerEntry:
    """Return the ledger entry of a change; with its row it holds all that the notice says."""
    detail: dict[str, Any] = {"reason": change.step.reason, "rule": change.live.rule.name}
    if row is not None:
        detail |= {name: getattr(row, name) for name in TOLD}
        detail["cohort"] = json.loads(row.cohort)
        detail["evidence"] = {key: value for key, value in row.evidence.items() if key != MEMORY}
    return entry(change.id, str(change.step.action), change.step.at_ns, detail)


def notice_of(row: StateRow, action: str, at_ns: int, reason: str) -> Notice:
    """Return the notice of a state row."""
    facts = {key: value for key, value in row.evidence.items() if key != MEMORY}
    told = {name: getattr(row, name) for name in TOLD}
    return _notice(row.alert, action, at_ns, reason, {**told, "cohort": json.loads(row.cohort), "evidence": facts})


def notice_from_ledger(row: Mapping[str, Any]) -> Notice:
    """Return the notice of a ledger entry (``detail`` parsed): the same that was made when the entry was."""
    detail = row["detail"]
    return _notice(row["alert_id"], row["action"], int(row["at_ns"]), detail["reason"], detail)


def _notice(alert: str, action: str, at_ns: int, reason: str, told: Mapping[str, Any]) -> Notice:
    facts = told["evidence"]
    message = compose(
        state=action,
        severity=told["severity"],
        rule=told["rule"],
        sentence=told["summary"],
        facts=facts if "kind" in facts else {},
        cohort=told["cohort"],
        onset_ns=told["onset_ns"],
        since_ns=told["since_ns"],
        at_ns=at_ns,
        page=told["page_url"],
        runbook=told["runbook_url"],
        alert_id=alert,
        reason=reason,
    )
    shape = {"id": alert, "state": action, **{name: told[name] for name in TOLD}, "evidence": facts}
    return Notice(digest("notice", entry_id(alert, action, at_ns)), action, at_ns, shape, message)

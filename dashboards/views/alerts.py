"""The alerts page: what fires, since when, and what was done about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import streamlit as st

from dashboards import cards, charts, findings, formats, markup, pictures, series
from dashboards.formats import DAY_NS
from dashboards.markup import Cell
from dashboards.rows import Alert
from dashboards.scope import Scope
from dashboards.views.parts import evidence, firing_items

ACTIONS = {
    "pending": "condition seen",
    "firing": "began to fire",
    "resolved": "resolved",
    "notice_sent": "notice sent",
    "notice_failed": "notice failed",
    "notice_skipped": "notice not sent",
    "suppressed": "held back",
    "cleared": "went away",
}
LEDGER_MAX = 40
LANES_MAX = 14


def draw(scope: Scope) -> None:
    """Draw the page: sentence, what fires and what waits, the time line of alerts, the ledger."""
    states, ledger = scope.reader.together(
        scope.reader.alerts, partial(scope.reader.ledger, scope.from_ns, scope.anchor_ns)
    )
    states = [alert for alert in states if scope.admits_alert(alert)]
    ledger = [row for row in ledger if scope.admits_alert(row)]
    firing = sorted(
        (alert for alert in states if alert.state == "firing"),
        key=lambda alert: (alert.severity != "page", alert.since_ns),
    )
    pending = [alert for alert in states if alert.state == "pending"]
    cards.opening(*_sentence(scope, firing, pending, ledger))
    left, right = st.columns([1.3, 1])
    with (
        left,
        cards.card(
            "alerts-firing",
            f"{formats.plural(len(firing), 'alert')} {'fires' if len(firing) == 1 else 'fire'}"
            if firing
            else "No alert fires",
            "Age, what, where, number of devices; pages first, the oldest first",
        ),
    ):
        cards.html(
            firing_items(scope, firing, full=True)
            if firing
            else markup.quiet("Rules are evaluated on every judged instant, in order.")
        )
    with right:
        _waiting(scope, pending)
        _evidence(firing)
    _lanes(scope, states, ledger)
    _ledger(scope, ledger)


def _sentence(
    scope: Scope, firing: Sequence[Alert], pending: Sequence[Alert], ledger: Sequence[Alert]
) -> tuple[str, str, str]:
    resolved = sum(row.action == "resolved" for row in ledger)
    failed = sum(row.action == "notice_failed" for row in ledger)
    second = (
        f"{formats.plural(resolved, 'alert')} resolved in {scope.range_words}, {formats.number(len(pending))} pending."
    )
    if failed:
        second += f" {formats.plural(failed, 'notice')} could not be delivered."
    if not firing:
        return ("warn" if failed else "ok"), "No alert fires.", second
    pages = [alert for alert in firing if alert.severity == "page"]
    head = max(pages or firing, key=lambda alert: alert.since_ns)
    count = (
        f"{formats.sentence(formats.counted(len(pages), 'page'))} "
        f"and {formats.counted(len(firing) - len(pages), 'ticket')}"
    )
    verb = "fires" if len(firing) == 1 else "fire"
    return (
        ("bad" if pages else "warn"),
        f"{count} {verb}; the newest: {findings.alert_words(scope, head)}.",
        second,
    )


def _waiting(scope: Scope, pending: Sequence[Alert]) -> None:
    title = (
        f"{formats.plural(len(pending), 'alert')} {'waits' if len(pending) == 1 else 'wait'} to be sure"
        if pending
        else "Nothing is about to fire"
    )
    with cards.card("alerts-pending", title, "The condition holds, but not yet for as long as the rule asks"):
        cards.html(
            firing_items(scope, pending[:6])
            if pending
            else markup.quiet("No rule's condition holds without having fired.")
        )


def _evidence(firing: Sequence[Alert]) -> None:
    rows = [alert for alert in firing if evidence(alert)]
    if not rows:
        return
    header = [("Rule", False), ("Where", False), ("Number", True), ("Devices", True)]
    body = [
        (
            [
                Cell(alert.rule.replace("_", " ")),
                Cell(alert.where),
                Cell(evidence(alert), numeric=True),
                Cell(formats.number(alert.devices), numeric=True),
            ],
            False,
        )
        for alert in rows[:8]
    ]
    with cards.card(
        "alerts-evidence",
        "What each alert stands on",
        "The number its rule saw when it last looked, against the target",
    ):
        cards.html(markup.table(header, body))


def _lanes(scope: Scope, states: Sequence[Alert], ledger: Sequence[Alert]) -> None:
    """Draw every alert of the range as a bar from onset to its end; rules repeat per cohort."""
    ends = {row.id: row.at_ns for row in ledger if row.action == "resolved"}
    shown = [alert for alert in states if alert.state != "pending" and (alert.state == "firing" or alert.id in ends)]
    shown = sorted(shown, key=lambda alert: -alert.since_ns)[:LANES_MAX]
    if not shown:
        return
    labels = {alert.id: f"{alert.rule.replace('_', ' ')} · {alert.where}" for alert in shown}
    names = tuple(dict.fromkeys(labels[alert.id] for alert in shown))
    marks: series.Marks = series.extent(scope.from_ns, scope.anchor_ns)
    for alert in shown:
        stop = ends.get(alert.id, scope.anchor_ns)
        start = max(alert.onset_ns or alert.since_ns, scope.from_ns)
        tone = "ref" if alert.state != "firing" else "bad" if alert.severity == "page" else "warn"
        tip = (
            f"{labels[alert.id]} · {scope.clock(alert.onset_ns)} to "
            f"{scope.clock(stop) if alert.id in ends else 'now'} · {alert.summary}"
        )
        marks.append(
            {"layer": "span", "series": labels[alert.id], "t": start / 1e6, "t2": stop / 1e6, "tone": tone, "tip": tip}
        )
    days = Counter(formats.day(alert.since_ns, scope.zone) for alert in shown)
    busiest, count = days.most_common(1)[0]
    title = f"{formats.plural(len(shown), 'alert')} in {scope.range_words}" + (
        f", most on {busiest} ({count})" if scope.span_ns > DAY_NS and count > 1 else ""
    )
    with cards.card("alerts-lanes", title, "From onset to end. Red: page, amber: ticket, grey: resolved"):
        cards.chart(
            "alerts-lanes-chart", pictures.lanes(names, time_format=scope.time_format), charts.frame(marks), title
        )


def _note(note: str) -> str:
    """Write why: "inhibited:crash_loop:<id>" -> "inhibited by crash loop"; ids are left out."""
    parts = [part.replace("_", " ") for part in note.split(":") if part and not (len(part) >= 16 and part.isalnum())]
    return " by ".join(parts[:2])


def _ledger(scope: Scope, ledger: Sequence[Alert]) -> None:
    newest = sorted(ledger, key=lambda row: -row.at_ns)[:LEDGER_MAX]
    header = [
        ("When", False),
        ("What happened", False),
        ("Rule", False),
        ("Where", False),
        ("Summary", False),
        ("", False),
    ]
    body = [
        (
            [
                Cell(scope.clock(row.at_ns)),
                Cell(ACTIONS.get(row.action, row.action.replace("_", " ")), small=_note(row.note)),
                Cell(row.rule.replace("_", " ")),
                Cell(row.where if row.rule else ""),
                Cell(row.summary.split("; ", 1)[0]),
                Cell(word=row.severity) if row.severity else Cell(),
            ],
            False,
        )
        for row in newest
    ]
    tail = f", the newest {len(newest)} shown" if len(ledger) > len(newest) else ""
    with cards.card(
        "alerts-ledger",
        f"{formats.plural(len(ledger), 'ledger entry', 'ledger entries')} in {scope.range_words}{tail}",
        "Append-only: what was seen, sent, and not sent",
    ):
        cards.html(markup.table(header, body) if body else markup.quiet("Nothing happened to any alert in this range."))

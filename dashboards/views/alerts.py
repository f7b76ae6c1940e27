"""The alerts page: what fires, since when, and what was done about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import streamlit as st

from dashboards import cards, charts, findings, formats, markup, naming, pictures, series
from dashboards.formats import DAY_NS
from dashboards.markup import Cell
from dashboards.rows import Alert
from dashboards.scope import Scope
from dashboards.views.parts import firing_items, held_back

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
ORDER = {name: place for place, name in enumerate(ACTIONS)}
LEDGER_MAX = 40
LANES_MAX = 14
WAITING_MAX = 8


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
            "Age, what and where, the number now; pages first, the oldest first",
        ),
    ):
        cards.html(
            firing_items(scope, firing, full=True)
            if firing
            else markup.quiet("Rules are evaluated on every judged instant, in order.")
        )
    with right:
        _waiting(scope, pending)
    _lanes(scope, states, ledger)
    _ledger(scope, ledger)


def _sentence(
    scope: Scope, firing: Sequence[Alert], pending: Sequence[Alert], ledger: Sequence[Alert]
) -> tuple[str, str, str]:
    resolved = sum(row.action == "resolved" for row in ledger)
    failed = sum(row.action == "notice_failed" for row in ledger)
    second = (
        f"{formats.plural(resolved, 'alert')} resolved in {scope.range_words}, "
        f"{_pending_words(pending) or 'none is about to fire'}."
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


def _pending_words(pending: Sequence[Alert]) -> str:
    """Count those another alert holds back and those that only wait for their time, '' without any."""
    held = sum(bool(held_back(alert)) for alert in pending)
    waiting = len(pending) - held
    parts = [f"{formats.number(held)} {'is' if held == 1 else 'are'} held back"] if held else []
    parts += [f"{formats.number(waiting)} {'waits' if waiting == 1 else 'wait'} to be sure"] if waiting else []
    return ", ".join(parts)


def _waiting(scope: Scope, pending: Sequence[Alert]) -> None:
    """Show what holds without having fired: what waits for its time first, then what another alert already tells."""
    ordered = sorted(pending, key=lambda alert: (bool(held_back(alert)), -alert.since_ns))
    rest = len(ordered) - WAITING_MAX
    subtitle = "The condition holds: held back when another alert tells of the same cause, else not yet long enough"
    subtitle += f"; the first {WAITING_MAX} shown" if rest > 0 else ""
    with cards.card("alerts-pending", _pending_words(pending) or "Nothing is about to fire", subtitle):
        cards.html(
            firing_items(scope, ordered[:WAITING_MAX])
            if pending
            else markup.quiet("No rule's condition holds without having fired.")
        )


def _lanes(scope: Scope, states: Sequence[Alert], ledger: Sequence[Alert]) -> None:
    """Draw every alert of the range as a bar from onset to its end; rules repeat per cohort."""
    ends = {row.id: row.at_ns for row in ledger if row.action == "resolved"}
    shown = [alert for alert in states if alert.state != "pending" and (alert.state == "firing" or alert.id in ends)]
    shown = sorted(shown, key=lambda alert: -alert.since_ns)[:LANES_MAX]
    if not shown:
        return
    labels = {alert.id: f"{naming.rule_name(alert.rule)} · {alert.where}" for alert in shown}
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
    title = f"{formats.plural(len(shown), 'alert')} open in {scope.range_words}" + (
        f", most began on {busiest} ({count})" if scope.span_ns > DAY_NS and count > 1 else ""
    )
    with cards.card("alerts-lanes", title, "From onset to end. Red: page, amber: ticket, grey: resolved"):
        cards.chart(
            "alerts-lanes-chart", pictures.lanes(names, time_format=scope.time_format), charts.frame(marks), title
        )


def _ledger(scope: Scope, ledger: Sequence[Alert]) -> None:
    """Draw the ledger, newest first: what happened to one alert at one instant is one line."""
    steps: dict[tuple[str, int], list[Alert]] = {}
    for row in sorted(ledger, key=lambda row: (-row.at_ns, ORDER.get(row.action, len(ORDER)))):
        steps.setdefault((row.id, row.at_ns), []).append(row)
    header = [("When", False), ("Alert", False), ("Rule", False), ("What happened", False), ("", False)]
    body = [_step(scope, rows) for rows in list(steps.values())[:LEDGER_MAX]]
    tail = f", the newest {len(body)} shown" if len(steps) > len(body) else ""
    with cards.card(
        "alerts-ledger",
        f"{formats.plural(len(steps), 'event')} in {scope.range_words}{tail}",
        "From the append-only ledger: what was seen, sent, and not sent",
    ):
        cards.html(markup.table(header, body) if body else markup.quiet("Nothing happened to any alert in this range."))


def _step(scope: Scope, rows: Sequence[Alert]) -> tuple[list[Cell], bool]:
    head = rows[0]
    done = [ACTIONS.get(row.action, row.action.replace("_", " ")) for row in rows]
    why = "; ".join(words for row in rows if (words := naming.note_words(row.note)))
    cells = [
        Cell(scope.clock(head.at_ns), nowrap=True),
        Cell(formats.sentence(findings.alert_words(scope, head, since=False)) if head.rule else head.summary),
        Cell(naming.rule_name(head.rule), nowrap=True),
        Cell(", ".join(done), small=why),
        Cell(word=head.severity) if head.severity else Cell(),
    ]
    return cells, False

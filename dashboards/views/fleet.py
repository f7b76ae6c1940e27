"""The fleet page: whether anybody has to act."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from dashboards import cards, charts, findings, formats, markup, naming, series
from dashboards.formats import HOUR_NS
from dashboards.markup import Item, Tile
from dashboards.rows import Alert, Verdict, worst
from dashboards.scope import Scope
from dashboards.views.parts import firing_items, held_back, latency_grid, percentile_chart, reporting_count

CHANGES = frozenset({"firing", "resolved"})


def draw(scope: Scope) -> None:
    """Draw the page: sentence, tiles, what fires, and the three pictures behind them."""
    reader = scope.reader
    history = _history(scope)
    drift = [row for row in reader.verdicts("drift") if scope.admits(row)]
    slos = reader.verdicts("slo")
    states = [alert for alert in reader.alerts() if scope.admits_alert(alert)]
    firing = sorted(
        (alert for alert in states if alert.state == "firing"),
        key=lambda alert: (alert.severity != "page", -alert.since_ns),
    )
    judged = [row for row in scope.kpis("kpi", "latency", "crash_free") if row.level in ("ok", "bad")]
    headline = findings.scoped_or_fleet(scope, judged)[0]
    missed = worst(row for row in headline if row.level == "bad")
    cards.opening(*findings.fleet_sentence(scope, firing, missed, len(headline)))
    cards.html(markup.tiles([*_kpi_tiles(scope, history), *_other_tiles(scope, drift, slos, firing)]))
    left, right = st.columns([1.65, 1])
    with left:
        percentile_chart(scope, "fleet-latency", findings.headline_latency(scope), states, height=320)
    with right:
        _alerts(scope, firing, states)
    one, two, three = st.columns(3)
    with one:
        _reporting(scope, history)
    with two:
        _changes(scope)
    with three:
        latency_grid(scope, "fleet-grid")


def _history(scope: Scope) -> list[Verdict]:
    """Read the histories behind the sparklines and the reporting chart (rows of the scope)."""
    names = (
        "crash_free_time",
        "crash_free_sessions",
        "crash_free_devices",
        "inference_failure_rate",
        "telemetry_completeness",
        "devices_reporting",
        "latency_p95",
    )
    model = {"latency_p95": scope.model}
    calls = [partial(scope.history, "kpis", name=name, tier=scope.tier, model=model.get(name, "")) for name in names]
    return [row for found in scope.reader.together(*calls) for row in found]


def _trend(history: Sequence[Verdict], like: Verdict) -> tuple[float | None, ...]:
    same = [
        row
        for row in history
        if (row.name, row.model, row.version, row.cohort) == (like.name, like.model, like.version, like.cohort)
    ]
    return tuple(row.value for row in same[-60:])


def _kpi_tiles(scope: Scope, history: Sequence[Verdict]) -> list[Tile]:
    tiles = []
    for name in ("crash_free_time", "crash_free_sessions", "crash_free_devices"):
        tiles += _ratio_tile(scope, name, "stability", history)
    row = findings.headline_latency(scope)
    if row is not None:
        for quantile in ("p50", "p95", "p99"):
            value = row.value if quantile == "p95" else row.number(quantile)
            number, unit = formats.seconds(value)
            main = quantile == "p95"
            if quantile == "p99" and row.n < findings.P99_RUNS:
                value, number, unit = None, formats.DASH, ""
            foot = findings.foot(row) if main else f"{row.subject}, {formats.plural(row.n, 'run')}"
            tiles.append(
                Tile(
                    f"latency_{quantile}",
                    f"Latency {quantile}",
                    number,
                    unit,
                    row.word if main else "",
                    foot,
                    value,
                    _trend(history, row) if main else (),
                    markup.link("latency", **scope.query(model=row.model)),
                    f"{row.subject}: {foot}",
                )
            )
    for name in ("inference_failure_rate", "devices_reporting", "telemetry_completeness"):
        tiles += _ratio_tile(scope, name, "latency" if name.startswith("inference") else "devices", history)
    return tiles


def _ratio_tile(scope: Scope, name: str, page: str, history: Sequence[Verdict]) -> list[Tile]:
    rows, note = findings.scoped_or_fleet(scope, [row for row in scope.latest if row.name == name])
    if not rows:
        return []
    row = rows[0]
    label = formats.sentence(naming.kpi_name(name))
    value, unit, foot = formats.share(row.value), "%", findings.foot(row, note)
    if name == "devices_reporting" and row.n:
        value, unit = formats.number(reporting_count(row)), f"/{formats.number(row.n)}"
        foot = " · ".join(part for part in (formats.percent(row.value), findings.target(row), note) if part)
    if row.value is None:
        value, unit = formats.DASH, ""
    return [
        Tile(
            name,
            label,
            value,
            unit,
            row.word,
            foot,
            row.value,
            _trend(history, row),
            markup.link(page, **scope.query()),
        )
    ]


def _other_tiles(
    scope: Scope, drift: Sequence[Verdict], slos: Sequence[Verdict], firing: Sequence[Alert]
) -> list[Tile]:
    tiles = [_drift_tile(scope, drift)] if drift else []
    whole = [row for row in slos if not row.version and scope.admits_model(row.model)]
    mine, note = findings.scoped_or_fleet(scope, whole)
    budgets = [(left, row) for row in mine if (left := row.number("budget_left")) is not None]
    if budgets:
        left, row = min(budgets, key=lambda pair: pair[0])
        link = markup.link("slo", **scope.query())
        shown, unit = (formats.share(left), "%") if left > 0 else ("spent", "")
        foot = row.name if left > 0 else f"{row.name}, {naming.budget_words(left)}"
        foot += f" · {note}" if note else ""
        tiles.append(Tile("budget_left", "Budget left", shown, unit, row.word, foot, left, (), link))
    pages = sum(alert.severity == "page" for alert in firing)
    word = "firing" if pages else "ticket" if firing else "met"
    tickets = len(firing) - pages
    kinds = [formats.plural(count, noun) for count, noun in ((pages, "page"), (tickets, "ticket")) if count]
    foot = ", ".join(kinds) or "every rule is quiet"
    link = markup.link("alerts", **scope.query())
    count = float(len(firing))
    tiles.append(Tile("alerts_firing", "Alerts firing", formats.number(count), "", word, foot, count, (), link))
    return tiles


def _drift_tile(scope: Scope, drift: Sequence[Verdict]) -> Tile:
    bad = float(sum(row.level == "bad" for row in drift))
    known = sum(row.level != "none" for row in drift)
    word = "drift" if bad else "met" if known else "insufficient"
    foot = "every signal judged"
    if known < len(drift):
        foot = f"{formats.plural(len(drift) - known, 'signal')} with too little data"
    link = markup.link("drift", **scope.query())
    return Tile(
        "drifted_signals", "Drifted signals", formats.number(bad), f"of {len(drift)}", word, foot, bad, (), link
    )


def _alerts(scope: Scope, firing: Sequence[Alert], states: Sequence[Alert]) -> None:
    held = sum(bool(held_back(alert)) for alert in states)
    pending = sum(alert.state == "pending" for alert in states) - held
    title = (
        f"{formats.plural(len(firing), 'alert')} {'fires' if len(firing) == 1 else 'fire'}"
        if firing
        else "No alert fires"
    )
    if pending:
        title += f", {formats.number(pending)} pending"
    if held:
        title += f", {formats.number(held)} held back"
    with cards.card("fleet-alerts", title):
        if firing:
            cards.html(firing_items(scope, firing[:5]))
        else:
            cards.html(markup.quiet("Rules are evaluated on every judged instant; the Alerts page has the history."))


def _reporting(scope: Scope, history: Sequence[Verdict]) -> None:
    rows = [row for row in history if row.name == "devices_reporting"]
    rows = findings.scoped_or_fleet(scope, rows)[0]
    if not rows:
        with cards.card("fleet-reporting", "No device count in this range"):
            cards.html(markup.quiet("The count appears after the first judged hour."))
        return
    newest, low = rows[-1], min(rows, key=_count)
    title = f"{formats.number(_count(newest))} of {formats.plural(newest.n, 'device')} report"
    if _count(low) < 0.9 * _count(newest):
        title += f"; a dip to {formats.number(_count(low))} at {scope.clock(low.at_ns)}"
    elif _count(newest) < newest.n:
        away = newest.n - _count(newest)
        title += f"; {formats.number(away)} {'was' if away == 1 else 'were'} not heard of for a day"
    with cards.card("fleet-reporting", title, "Devices heard of in the 24 h before each point; dashed: devices known"):
        step = series.spaced(rows)
        holes = series.gaps(rows, scope.from_ns, scope.anchor_ns, _count)
        marks = series.line(
            rows, _count, holes=holes, tip=lambda row: f"{scope.clock(row.at_ns)} · {_count(row):,.0f} of {row.n:,.0f}"
        )
        marks += series.hole_marks(holes, scope.span_ns) + series.goal(newest.n, "", scope.from_ns)
        marks += series.extent(scope.from_ns, scope.anchor_ns + step // 2)
        shape = charts.Timeline(time_format=scope.time_format, area=True, height=190)
        cards.chart("fleet-reporting-chart", charts.timeline(shape), charts.frame(marks), title)


def _count(row: Verdict) -> float:
    return float(reporting_count(row))


def _changes(scope: Scope) -> None:
    ledger = [row for row in scope.reader.ledger(scope.from_ns, scope.anchor_ns) if row.action in CHANGES]
    ledger = [row for row in ledger if scope.admits_alert(row)]
    firsts = sorted(_first_seen(scope), key=lambda item: -item[0])[:2]
    title = f"{formats.plural(len(ledger) + len(firsts), 'change')} in {scope.range_words}"
    entries = [(at, Item(scope.clock(at), what, "first data of this version")) for at, what in firsts]
    for row in sorted(ledger, key=lambda row: -row.at_ns)[:5]:
        what = formats.sentence(findings.alert_words(scope, row, since=False))
        entries.append((row.at_ns, Item(scope.clock(row.at_ns), what, "", row.action)))
    with cards.card("fleet-changes", title if entries else f"Nothing changed in {scope.range_words}"):
        ordered = [item for _, item in sorted(entries, key=lambda pair: -pair[0])][:6]
        cards.html(markup.items(ordered) if ordered else markup.quiet("No alert began or ended, no version appeared."))


def _first_seen(scope: Scope) -> list[tuple[int, str]]:
    """Return versions whose first latency row lies inside the range (not at its start)."""
    first: dict[str, int] = {}
    for row in scope.history("kpis", name="latency_p95", model=scope.model, tier=scope.tier):
        first.setdefault(row.subject, row.at_ns)
    return [(at, subject) for subject, at in first.items() if at > scope.from_ns + 2 * HOUR_NS]

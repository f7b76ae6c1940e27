"""The SLO page: when the budget runs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from dashboards import cards, charts, findings, formats, markup, series
from dashboards.formats import DAY_NS, NS
from dashboards.markup import Cell
from dashboards.naming import budget_words, slo_name
from dashboards.rows import Verdict
from dashboards.scope import Scope

GRID_NS = 300 * NS
DEVICES_MAX = 12
WINDOW_NS = 30 * DAY_NS
"""Budget period of a row that does not carry its window."""
URGENT = ("fast_burn", "rising", "recovering", "on_pace", "too_few_events", "no_data")


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a budget is empty at the present pace, at the earliest and at the latest, UTC epoch ns; 0 = never."""

    empty_ns: int = 0
    early_ns: int = 0
    late_ns: int = 0


def forecast(row: Verdict) -> Forecast:
    """Read the forecast judged with the row: at the last day's pace, with the ends of its 80 % interval.

    A slow end that is never reached is cut at one window from now.
    """
    empty = row.instant("forecast", "empty_ns")
    if empty <= row.at_ns:
        return Forecast()
    early = row.instant("forecast", "earliest_ns") or empty
    late = row.instant("forecast", "latest_ns") or row.at_ns + window_of(row)
    return Forecast(empty, early, max(late, empty))


def window_of(row: Verdict) -> int:
    """Return the budget period in ns, the window the row is judged over."""
    return row.end_ns - row.start_ns or WINDOW_NS


def draw(scope: Scope) -> None:
    """Draw the page: sentence, burn-down of the chosen SLO, table of burn by window, burn rates and who is behind."""
    rows = scope.reader.verdicts("slo")
    mine = _ranked([row for row in findings.scoped(scope, rows) if not row.version or scope.model])
    head = forecast(mine[0]) if mine else Forecast()
    cards.opening(*findings.slo_sentence(scope, mine, head.empty_ns, head.early_ns, head.late_ns))
    if not mine:
        cards.html(
            markup.state(
                "No SLO has been evaluated",
                "SLOs are OpenSLO files; write one and check it:",
                (("Check your SLO files.", "fleetpulse slo check"),),
            )
        )
        return
    chosen = _chosen(mine)
    history = scope.history(
        "slo", grid_ns=GRID_NS, name=chosen.name, tier=scope.tier, model=chosen.model, version=chosen.version
    )
    history = [
        row for row in history if (row.cohort, row.model, row.version) == (chosen.cohort, chosen.model, chosen.version)
    ]
    left, right = st.columns([1.65, 1])
    with left:
        _burn_down(scope, chosen, history)
    with right:
        _behind(scope, rows, chosen)
    _table(scope, mine)
    _rates(scope, chosen, history)


def _ranked(rows: Sequence[Verdict]) -> list[Verdict]:
    """Sort by urgency of the burn word, then by the budget left."""

    def place(row: Verdict) -> tuple[int, float]:
        left = row.number("budget_left")
        return (URGENT.index(row.verdict) if row.verdict in URGENT else len(URGENT), 1.0 if left is None else left)

    return sorted(rows, key=place)


def _chosen(rows: Sequence[Verdict]) -> Verdict:
    """Let the reader choose an SLO; the address bar holds it, the most urgent is the default."""
    names = [slo_name(row) for row in rows]
    if len(names) == 1:
        return rows[0]
    picked = st.segmented_control(
        "SLO",
        names,
        default=names[0],
        required=True,
        key=f"slo-{len(names)}",
        label_visibility="collapsed",
        width="content",
    )
    return next((row for row in rows if slo_name(row) == picked), rows[0])


def _burn_down(scope: Scope, row: Verdict, history: Sequence[Verdict]) -> None:
    ahead = forecast(row)
    left = row.number("budget_left")
    known = [item for item in history if item.number("budget_left") is not None]
    if left is None or len(known) < 2:
        with cards.card("slo-burndown", f"{slo_name(row)}: no budget has been counted yet"):
            cards.html(markup.quiet(f"{findings.why_not(row)}. The line begins with the second evaluation."))
        return
    before = known[0].number("budget_left") or 0.0
    title = f"{slo_name(row)}: {formats.percent(left)} of the budget is left"
    if left <= 0:
        title = f"{slo_name(row)}: the budget is {'spent, ' if left > -1 else ''}{budget_words(left)}"
    if 0.02 < before - left <= 1:
        title += f", {formats.percent(before - left, 0)} went in {scope.range_words}"
    if ahead.empty_ns:
        title += (
            f"; empty on {formats.day(ahead.empty_ns, scope.zone)} "
            f"{scope.clock(ahead.empty_ns).split()[-1]} at this pace"
        )
    window = window_of(row)
    stop = min(max(ahead.empty_ns, scope.anchor_ns), scope.anchor_ns + scope.span_ns)
    holes = series.gaps(known, scope.from_ns, scope.anchor_ns, lambda item: item.number("budget_left"))
    marks = series.line(
        known,
        lambda item: item.number("budget_left"),
        holes=holes,
        tip=lambda item: f"{scope.clock(item.at_ns)} · {formats.percent(item.number('budget_left'))} left",
    )
    marks += series.hole_marks(holes, scope.span_ns)
    marks += _ahead(scope, row, ahead, left, stop)
    even = [(scope.from_ns, before), (stop, before - (stop - scope.from_ns) / window)]
    if before > 0:
        marks += [{"layer": "even", "series": "even", "t": at / 1e6, "y": max(0.0, value)} for at, value in even]
        marks += series.end([{"t": stop / 1e6, "y": max(0.0, even[1][1])}], "even")
    marks += series.extent(scope.from_ns, stop, 0.0, min(1.0, max(before, left) * 1.1))
    subtitle = f"Budget left over time, of {formats.duration(window)}; under zero it is overspent."
    subtitle += " Dashed blue: the last day's pace with its 80 % interval." if ahead.empty_ns else ""
    subtitle += " Dashed grey: even spending." if before > 0 else ""
    with cards.card("slo-burndown", title, subtitle):
        spec = charts.timeline(
            charts.Timeline(time_format=_wide(scope, stop), value_format=",.0%", area=True, height=300)
        )
        cards.chart("slo-burndown-chart", spec, charts.frame(marks), title)


def _wide(scope: Scope, stop: int) -> str:
    return (
        "%H:%M"
        if stop - scope.from_ns <= 1.5 * DAY_NS
        else "%-d %b %H:%M"
        if stop - scope.from_ns <= 4 * DAY_NS
        else "%-d %b"
    )


def _ahead(scope: Scope, row: Verdict, ahead: Forecast, left: float, stop: int) -> series.Marks:
    """Draw the forecast and its fan up to ``stop``, and the instant the budget is empty when that is in the picture."""
    if not ahead.empty_ns:
        return []

    def at(empty_ns: int, when: int) -> float:
        return max(0.0, left * (1 - (when - row.at_ns) / max(1, empty_ns - row.at_ns)))

    points = sorted(
        {
            row.at_ns,
            *(moment for moment in (ahead.early_ns, ahead.empty_ns, ahead.late_ns) if row.at_ns < moment < stop),
            stop,
        }
    )
    marks: series.Marks = []
    for point in points:
        marks.append({"layer": "forecast", "t": point / 1e6, "y": at(ahead.empty_ns, point)})
        marks.append(
            {
                "layer": "fan",
                "series": "fan",
                "t": point / 1e6,
                "lo": at(ahead.early_ns, point),
                "hi": at(ahead.late_ns, point),
            }
        )
    if ahead.empty_ns <= stop:
        marks += series.marker(ahead.empty_ns, f"empty {scope.clock(ahead.empty_ns)}", scope.from_ns, stop)
    return marks


def _behind(scope: Scope, rows: Sequence[Verdict], chosen: Verdict) -> None:
    """Show which tiers spend the budget, with the devices that hold the bad events."""
    same = [
        row
        for row in rows
        if row.name == chosen.name and (row.model, row.version) == (chosen.model, chosen.version) and row.tier
    ]
    same = sorted(same, key=lambda row: (row.level == "none", -(row.number("burn", "1h") or 0.0)))
    if not same:
        with cards.card("slo-behind", "No tier is judged on its own"):
            cards.html(markup.quiet("This SLO is judged for all tiers together."))
            _devices(scope, chosen)
        return
    bad = [row for row in same if row.level in ("bad", "warn")]
    title = (
        f"{formats.listing([row.tier for row in bad])} {'burns' if len(bad) == 1 else 'burn'} the budget"
        if bad
        else "No tier burns faster than even"
    )
    with cards.card("slo-behind", title, "Burn over the last hour by tier; 1 spends the budget exactly in its window"):
        cards.html(
            markup.bars(
                (
                    row.tier,
                    row.number("burn", "1h") or 0.0 if row.level != "none" else 0.0,
                    f"{formats.number(row.number('burn', '1h'))}×" if row.level != "none" else findings.why_not(row),
                    "bad" if row.level == "bad" else "",
                )
                for row in same
            )
        )
        _devices(scope, chosen)


def _devices(scope: Scope, row: Verdict) -> None:
    """Link the devices that hold the most bad events."""
    devices = row.detail.get("bad_devices")
    if not isinstance(devices, list) or not devices:
        return
    links = [(str(name), markup.link("devices", **scope.query(device=str(name)))) for name in devices[:DEVICES_MAX]]
    count = formats.plural(len(devices), "device")
    some = f"{count} {'holds' if len(devices) == 1 else 'hold'} the bad events"
    cards.html(markup.head("", f"{some}:" if len(devices) <= DEVICES_MAX else f"{some}, the worst {DEVICES_MAX}:"))
    cards.html(markup.links(links))


def _table(scope: Scope, rows: Sequence[Verdict]) -> None:
    header = [
        ("SLO", False),
        ("objective", True),
        ("budget left", True),
        ("1h / 5m", True),
        ("6h / 30m", True),
        ("1d / 2h", True),
        ("3d / 6h", True),
        ("empty in", True),
        ("", False),
    ]
    body = []
    for row in rows:
        ahead = forecast(row)
        pairs = [("1h", "5m"), ("6h", "30m"), ("1d", "2h"), ("3d", "6h_")]
        burns = [f"{formats.number(row.number('burn', a))} / {formats.number(row.number('burn', b))}" for a, b in pairs]
        objective = row.number("objective") or row.target
        body.append(
            (
                [
                    Cell(slo_name(row)),
                    Cell(formats.goal(objective), numeric=True),
                    Cell(_left(row), numeric=True),
                    *(Cell(text, numeric=True) for text in burns),
                    Cell(
                        _empty_words(scope, row, ahead),
                        numeric=True,
                    ),
                    Cell(word=row.word, small=findings.why_not(row) if row.blind else ""),
                ],
                False,
            )
        )
    bad = sum(row.level in ("bad", "warn") for row in rows)
    title = (
        f"{formats.number(bad)} of {formats.plural(len(rows), 'SLO')} {'burns' if bad == 1 else 'burn'} too fast"
        if bad
        else f"All {formats.plural(len(rows), 'SLO')} are on pace or too small to judge"
    )
    with cards.card(
        "slo-table",
        title,
        (
            "Burn by long / short window: fast burn when both are over, recovering "
            "when only the long one is, rising when only the short one is"
        ),
    ):
        cards.html(markup.table(header, body))


def _left(row: Verdict) -> str:
    left = row.number("budget_left")
    return formats.DASH if left is None else formats.percent(left) if left > 0 else budget_words(left)


def _empty_words(scope: Scope, row: Verdict, ahead: Forecast) -> str:
    left = row.number("budget_left")
    if left is not None and left <= 0:
        return "spent"
    return formats.duration(ahead.empty_ns - scope.anchor_ns) if ahead.empty_ns else "not at this pace"


def _rates(scope: Scope, row: Verdict, history: Sequence[Verdict]) -> None:
    hot = [item for item in history if (item.number("burn", "1h") or 0.0) > 14.4]
    known = [item for item in history if item.number("burn", "1h") is not None]
    if len(known) < 2:
        return
    long = "all" if len(hot) == len(known) else formats.duration(len(hot) * series.spaced(known))
    title = (
        f"{slo_name(row)} burned over 14.4 for {long} of {scope.range_words}"
        if hot
        else f"{slo_name(row)} never burned over 14.4 in {scope.range_words}"
    )
    holes = series.gaps(known, scope.from_ns, scope.anchor_ns, lambda item: item.number("burn", "1h"))
    fast = series.line(
        known,
        lambda item: item.number("burn", "1h"),
        holes=holes,
        tip=lambda item: f"{scope.clock(item.at_ns)} · 1 h burn {formats.number(item.number('burn', '1h'))}",
    )
    slow = series.line(known, lambda item: item.number("burn", "6h"), layer="side", series="6h", holes=holes)
    top = max((mark["y"] for mark in fast if mark["y"] is not None), default=1.0)
    marks = [
        *fast,
        *slow,
        *series.apart(series.end(fast, "1 h", "cur") + series.end(slow, "6 h"), 0.0, max(top, 16.0), 0.1),
    ]
    marks += (
        series.hole_marks(holes, scope.span_ns)
        + series.goal(14.4, "pages at 14.4", scope.from_ns)
        + series.extent(scope.from_ns, scope.anchor_ns)
    )
    with cards.card("slo-rates", title, "Burn rate over the last 1 h (blue) and 6 h (grey)"):
        cards.chart(
            "slo-rates-chart",
            charts.timeline(charts.Timeline(time_format=scope.time_format, height=170)),
            charts.frame(marks),
            title,
        )

"""Cards that more than one page shows: percentiles over time, the tier x model grid, the list of what fires."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from urllib.parse import parse_qsl, urlsplit

from dashboards import cards, charts, findings, formats, markup, naming, series
from dashboards.markup import Cell, Item
from dashboards.rows import Alert, Verdict, real
from dashboards.scope import Scope
from dashboards.views import runbook

PAGES = frozenset({"latency", "drift", "stability", "slo", "devices", "alerts"})


def reporting_count(row: Verdict) -> int:
    """Return how many devices report, from the share of those known."""
    return round((row.value or 0.0) * row.n)


def page_of(alert: Alert) -> str:
    """Return the relative address of the page an alert links to, filters included; '' when it links elsewhere."""
    parts = urlsplit(alert.page_url)
    tail = parts.path.rstrip("/").rsplit("/", 1)[-1]
    return markup.link(tail, **dict(parse_qsl(parts.query))) if tail in PAGES else ""


def runbook_of(alert: Alert) -> str:
    """Return where an alert's runbook is read: the page of this dashboard when it has it, else an outside address."""
    parts = urlsplit(alert.runbook_url)
    name = dict(parse_qsl(parts.query)).get("name") or parts.path.rsplit("/", 1)[-1].removesuffix(".md")
    if name in runbook.runbooks():
        return markup.link("runbook", name=name)
    return markup.safe_url(alert.runbook_url)


def evidence(alert: Alert) -> str:
    """Write the number an alert stands on now, in the unit of its kind; '' when it says no more than the sentence."""
    found = alert.evidence
    value, target = real(found.get("value")), real(found.get("target"))
    kind, name = found.get("kind"), str(found.get("name", ""))
    if value is None or name == "crash_loop":
        return ""
    if kind == "silence":
        known = real(found.get("n")) or (alert.devices / value if value else 0.0)
        return f"{formats.percent(value)} of {formats.number(round(known))}" if known else formats.percent(value)
    if kind == "drift":
        return f"distance {formats.number(value)}" + (f", matters from {formats.number(target)}" if target else "")
    if kind == "latency":
        write = findings.milliseconds
        return f"{write(value)}, target {write(target)}" if target is not None else write(value)
    if kind in ("slo", "crash_free", "kpi"):
        good = f"{formats.percent(value)} good" if kind == "slo" else formats.percent(value)
        return f"{good}, {'objective' if kind == 'slo' else 'target'} {formats.goal(target)}" if target else good
    return formats.number(value)


def held_back(alert: Alert) -> str:
    """Return why a pending alert is held back (its note), '' when it only waits for its time."""
    return str(alert.evidence.get("suppressed_by") or "") if alert.state == "pending" else ""


def firing_items(scope: Scope, alerts: Sequence[Alert], *, full: bool = False) -> str:
    """Draw alerts as a list: age, what and where, the number now, page and runbook; ``full`` adds the sentence."""
    entries = []
    for alert in alerts:
        parts = [f"since {scope.clock(alert.onset_ns)}"]
        parts.append(formats.plural(alert.devices, "device") if alert.devices else "")
        # a pending alert's number is the one it was first seen with, not the present one
        parts.append(naming.note_words(held_back(alert)) if alert.state == "pending" else evidence(alert))
        short = " · ".join(part for part in parts if part)
        links = (("look", page_of(alert)), ("runbook", runbook_of(alert)))
        word = alert.severity if alert.state == "firing" else "held_back" if held_back(alert) else alert.state
        what = formats.sentence(findings.alert_words(scope, alert, since=False))
        more = f"When it fired: {alert.summary}" if full else ""
        entries.append(Item(scope.age(alert.since_ns), what, short, word, links, more))
    return markup.items(entries)


def percentile_chart(
    scope: Scope, key: str, row: Verdict | None, states: Sequence[Alert], *, height: int = 250
) -> None:
    """Draw p50, p95 and p99 of the row's model version over the range, with target and the newest alert's onset."""
    if row is None:
        with cards.card(key, "No percentile has enough devices behind it"):
            cards.html(markup.quiet("Percentiles appear after the first full hour with enough devices."))
        return
    history = findings.scoped(scope, scope.history("kpis", name="latency_p95", model=row.model, tier=scope.tier))
    rows = [item for item in history if item.version == row.version]
    former = _former(history, row)

    def milli(name: str, item: Verdict) -> float | None:
        value = item.value if name == "p95" else item.number(name)
        if item.n < (findings.P99_RUNS if name == "p99" else findings.P95_RUNS):
            return None
        return None if value is None else value * 1e3

    def tip(name: str, item: Verdict) -> str:
        return f"{scope.clock(item.at_ns)} · {name} {formats.number(milli(name, item))} ms"

    p95 = [milli("p95", item) for item in rows]
    title = findings.latency_title(row, [v and v / 1e3 for v in p95], [item.number("p50") for item in rows], former)
    place = scope.tier or "all tiers"
    subtitle = f"Run time of {row.subject} on {place}, hourly. Band: 95 % interval of p95."
    holes = series.gaps(rows, scope.from_ns, scope.anchor_ns, lambda item: milli("p95", item))
    if holes:
        subtitle += " Grey: no data."
    marks: series.Marks = []
    ends: series.Marks = []
    for name in ("p50", "p99", "p95"):
        layer = "line" if name == "p95" else "side"
        found = series.line(rows, partial(milli, name), layer=layer, series=name, holes=holes, tip=partial(tip, name))
        marks += found
        ends += series.end(found, name, "cur" if name == "p95" else "ref")
    if former:
        before = series.line(former, lambda item: milli("p95", item), layer="reference", series="former", holes=holes)
        marks += before
        ends += series.end(before, f"p95 of {former[0].version}")
        subtitle += f" Dashed grey: p95 of {former[0].subject}."
    top = max([mark["y"] for mark in marks if mark.get("y") is not None], default=1.0)
    top = max(top, (row.target or 0.0) * 1e3)
    marks += series.band(
        rows, lambda item: item.low and item.low * 1e3, lambda item: item.high and item.high * 1e3, holes=holes
    )
    marks += series.hole_marks(holes, scope.span_ns) + series.apart(ends, 0.0, top)
    if row.target is not None:
        marks += series.goal(row.target * 1e3, f"target {findings.milliseconds(row.target)}", scope.from_ns)
    alert = series.newest(
        [a for a in states if "latency" in f"{a.rule} {a.evidence.get('name')}"], scope.from_ns, scope.anchor_ns
    )
    if alert is not None:
        marks += series.marker(alert.onset_ns, f"alert: {scope.clock(alert.onset_ns)}", scope.from_ns, scope.anchor_ns)
    marks += series.extent(scope.from_ns, scope.anchor_ns)
    with cards.card(key, title, subtitle):
        spec = charts.timeline(charts.Timeline(unit="ms", time_format=scope.time_format, height=height))
        cards.chart(f"{key}-chart", spec, charts.frame(marks), title)


def _former(history: Sequence[Verdict], row: Verdict) -> list[Verdict]:
    """Return the history of the version before the row's (the one with most runs), empty when there is none."""
    runs: dict[str, float] = {}
    for item in history:
        if item.version != row.version and item.value is not None:
            runs[item.version] = runs.get(item.version, 0.0) + item.n
    if not runs:
        return []
    version = max(runs, key=lambda name: runs[name])
    return [item for item in history if item.version == version]


def latency_grid(scope: Scope, key: str) -> None:
    """Draw p95 by tier and model version against the target; hatched where too few devices report."""
    rows = [row for row in scope.kpis("latency", name="latency_p95") if row.tier and len(row.cohort) == 1]
    tiers = sorted({row.tier for row in rows})
    subjects = sorted({row.subject for row in rows})
    bad = [row for row in rows if row.level == "bad"]
    blind = [row for row in rows if row.blind]
    if bad:
        title = (
            f"{formats.listing(sorted({row.tier for row in bad}))} "
            f"{'is' if len({row.tier for row in bad}) == 1 else 'are'} "
            f"slow with {formats.listing(sorted({row.subject for row in bad}))}"
        )
    else:
        title = (
            "No tier is slower than its target" if any(row.level == "ok" for row in rows) else "p95 by tier and model"
        )
    if blind:
        places = sorted({row.tier for row in blind})
        title += f"; {formats.listing(places)} {'has' if len(places) == 1 else 'have'} too few devices to say"
    by_place = {(row.tier, row.subject): row for row in rows}
    body = [(tier, [_grid_cell(by_place.get((tier, subject))) for subject in subjects]) for tier in tiers]
    with cards.card(
        key,
        title if rows else "No tier has latency yet",
        "p95 in ms against its target, newest hour; hatched: too few runs or devices",
    ):
        cards.html(
            markup.grid("", subjects, body) if rows else markup.quiet("The grid fills with the first judged hour.")
        )


def _grid_cell(row: Verdict | None) -> Cell:
    if row is None:
        return Cell(formats.DASH, hatch=False)
    if row.value is None or row.blind:
        return Cell(f"n = {formats.number(row.devices)}" if row.devices else "no data", hatch=True)
    if row.n < findings.P95_RUNS:
        return Cell(formats.plural(row.n, "run"), hatch=True)
    number = f"{row.value * 1e3:.1f}" if row.value < 0.1 else f"{row.value * 1e3:,.0f}"
    over = 0.0 if not row.target else max(0.0, row.value / row.target - 0.8) / 0.6
    return Cell(
        f"{number} ■" if row.level == "bad" else number,
        heat=over if row.level == "bad" else min(over, 0.3),
        numeric=True,
    )

"""The latency page: who is slow, and whether it is a new mode or everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from dashboards import cards, charts, findings, formats, histograms, markup, pictures, series
from dashboards.formats import HOUR_NS
from dashboards.markup import Cell
from dashboards.rows import Verdict, worst
from dashboards.scope import Scope
from dashboards.views.parts import latency_grid, percentile_chart

METRIC = "edge.inference.duration"
FOREST_MAX = 12


def draw(scope: Scope) -> None:
    """Draw the page: sentence, heat map beside the worst cohorts, percentiles beside the grid, the whole table."""
    rows = scope.kpis("latency", name="latency_p95")
    cards.opening(*findings.latency_sentence(scope, rows))
    if not rows:
        cards.html(markup.state("No latency yet", "Percentiles appear after the first full hour of inferences."))
        return
    headline = findings.headline_latency(scope)
    left, right = st.columns([1.65, 1])
    with left:
        _heat(scope, headline or rows[0])
    with right:
        _worst(rows)
    left, right = st.columns([1.65, 1])
    with left:
        percentile_chart(scope, "latency-lines", headline, scope.reader.alerts())
    with right:
        latency_grid(scope, "latency-grid")
    _table(scope, rows)


def _heat(scope: Scope, row: Verdict) -> None:
    tier = scope.tier or _slow_tier(scope, row)
    start = scope.from_ns // HOUR_NS * HOUR_NS
    answer = scope.reader.items(
        f"distributions/{METRIC}", from_=start, to=scope.anchor_ns, model=row.model, version=row.version, tier=tier
    )
    items = [item for item in answer.items if not tier or item.get("tier", tier) == tier]
    hours = histograms.merge(items)
    place = f"{row.subject} on {tier or 'all tiers'}"
    if not hours:
        with cards.card("latency-heat", f"No latency buckets of {place} in this range"):
            cards.html(markup.quiet("Choose a longer range, or another model."))
        return
    cell = next((item for item in scope.kpis("latency") if (item.subject, item.tier) == (row.subject, tier)), row)
    title = _heat_title(place, hours, cell.number("p50"))
    goal = f" {findings.milliseconds(row.target)}" if row.target is not None else ""
    subtitle = (
        f"Share of runs per bucket and hour, {place}. Stronger is more, grey is no data; "
        f"line: p95, dashed: target{goal}."
    )
    with cards.card("latency-heat", title, subtitle):
        marks = _heat_marks(scope, hours)
        if row.target is not None:
            marks.append({"layer": "target", "lo": row.target * 1e3})
        marks += series.extent(start, scope.anchor_ns)
        cards.chart("latency-heat-chart", pictures.heat(time_format=scope.time_format), charts.frame(marks), title)


def _slow_tier(scope: Scope, row: Verdict) -> str:
    cells = [item for item in scope.kpis("latency", name="latency_p95") if item.tier and item.subject == row.subject]
    return next((item.tier for item in worst(cells) if item.level == "bad"), "")


def _heat_title(place: str, hours: Mapping[int, Mapping[int, float]], p50: float | None) -> str:
    """Say whether the newest hours have a slow mode that the first hours did not."""
    ordered = sorted(hours)
    newest = _added(hours, ordered[-max(1, len(ordered) // 6) :])
    peaks = [bucket for bucket in newest if _is_peak(newest, bucket)]
    total = sum(newest.values())
    main = max(newest, key=lambda bucket: newest[bucket])
    slow = [bucket for bucket in peaks if bucket > main + 3]
    if slow:
        valley = min(range(main, slow[0] + 1), key=lambda bucket: newest.get(bucket, 0.0))
        share = sum(n for bucket, n in newest.items() if bucket > valley) / total
        middle = histograms.bounds(slow[0])
        return (
            f"{formats.percent(share, 0)} of runs form a second, slow mode "
            f"near {findings.milliseconds((middle[0] * middle[1]) ** 0.5)}"
        )
    p50 = histograms.quantile(newest, 0.5) if p50 is None else p50
    return f"One mode: half of the runs of {place} take less than {findings.milliseconds(p50)}"


def _added(hours: Mapping[int, Mapping[int, float]], chosen: Sequence[int]) -> dict[int, float]:
    total: dict[int, float] = {}
    for hour in chosen:
        for bucket, n in hours[hour].items():
            total[bucket] = total.get(bucket, 0.0) + n
    return total


def _is_peak(counts: Mapping[int, float], bucket: int) -> bool:
    """Say whether a bucket stands above both sides by a margin and holds at least 2 % of all."""
    here = counts[bucket]
    near = all(here >= counts.get(bucket + step, 0.0) for step in (-2, -1, 1, 2))
    below = min((counts.get(bucket - step, 0.0) for step in range(1, 6)), default=0.0)
    return near and here > 1.3 * below and here >= 0.02 * sum(counts.values())


def _heat_marks(scope: Scope, hours: Mapping[int, Mapping[int, float]]) -> series.Marks:
    group = max(1, -(-len(hours) // 96))
    marks: series.Marks = []
    ordered = sorted(hours)
    line: series.Marks = []
    previous = None
    for index in range(0, len(ordered), group):
        chosen = ordered[index : index + group]
        start, stop = chosen[0], chosen[-1] + HOUR_NS
        if previous is not None and start > previous:
            marks.append({"layer": "gap", "t": previous / 1e6, "t2": start / 1e6})
            line.append({"layer": "line", "t": previous / 1e6, "lo": None})
            if start - previous > scope.span_ns / 40:
                marks.append({"layer": "gapname", "t": (previous + start) / 2e6, "label": "no data"})
        previous = stop
        counts = _added(hours, chosen)
        marks += _column(scope, counts, start, stop)
        p95 = histograms.quantile(counts, 0.95)
        line.append({"layer": "line", "t": (start + stop) / 2e6, "lo": None if p95 is None else p95 * 1e3})
    known = [mark for mark in line if mark["lo"] is not None]
    end = [{"layer": "end", "t": (previous or 0) / 1e6, "lo": known[-1]["lo"], "label": "p95"}] if known else []
    return [*marks, *line, *end]


def _column(scope: Scope, counts: Mapping[int, float], start: int, stop: int) -> series.Marks:
    total = sum(counts.values()) or 1.0
    marks: series.Marks = []
    for bucket, n in counts.items():
        if n / total < 0.0005:
            continue
        low, high = (edge * 1e3 for edge in histograms.bounds(bucket))
        tip = (
            f"{scope.clock(start)} · {formats.number(low)}–{formats.number(high)} "
            f"ms · {formats.percent(n / total)} of {formats.number(total)}"
        )
        marks.append(
            {"layer": "cell", "t": start / 1e6, "t2": stop / 1e6, "lo": low, "hi": high, "y": n / total, "tip": tip}
        )
    return marks


def _worst(rows: Sequence[Verdict]) -> None:
    cells = [row for row in worst(rows) if row.tier and row.value is not None]
    cells = ([row for row in cells if row.target] or cells)[:FOREST_MAX]
    cells = sorted(cells, key=lambda row: -(row.value or 0.0) / (row.target or 1.0))
    if not cells:
        with cards.card("latency-worst", "No cohort has enough devices to be judged"):
            cards.html(markup.quiet("A cohort is a tier with a model version."))
        return
    head = cells[0]
    bad = sum(row.level == "bad" for row in cells)
    title = f"Worst: {head.subject} on {head.tier}" + (
        f"; {bad} over target" if bad > 1 else "" if bad else ", within its target"
    )
    with cards.card("latency-worst", title, "p95 as a multiple of its target, with 95 % interval; dashed: the target"):
        marks: series.Marks = []
        with_target = all(row.target for row in cells)
        for row in cells:
            unit = (row.target or 1.0) if with_target else 1e-3
            tone = row.level if row.level != "ok" else "ok"
            marks.append(
                {
                    "layer": "dot",
                    "series": f"{row.tier} · {row.subject}",
                    "y": (row.value or 0.0) / unit,
                    "lo": (row.low or row.value or 0.0) / unit,
                    "hi": (row.high or row.value or 0.0) / unit,
                    "tone": tone,
                    "label": f"{findings.milliseconds(row.value)}",
                    "tip": (
                        f"{row.where} · {row.subject} · {findings.milliseconds(row.value)} "
                        f"· {row.devices} devices · n {row.n:,.0f}"
                    ),
                }
            )
        marks += [{"layer": "target", "y": 1.0}, {"layer": "extent", "y": 0.0}] if with_target else []
        spec = pictures.forest(len(cells), unit="× target" if with_target else "ms", value_format=",.2~f", width=150)
        cards.chart("latency-worst-chart", spec, charts.frame(marks), title)


def _table(scope: Scope, rows: Sequence[Verdict]) -> None:
    header = [
        ("Cohort", False),
        ("Model", False),
        ("p50", True),
        ("p95", True),
        ("interval", True),
        ("p99", True),
        ("target", True),
        ("devices", True),
        ("runs", True),
        ("", False),
    ]
    body = []
    for row in worst(rows)[:40]:
        enough = row.n >= findings.P95_RUNS
        cells = [
            Cell(row.where if row.cohort else "all tiers"),
            Cell(row.subject, href=markup.link("latency", **scope.query(model=row.model))),
            Cell(findings.milliseconds(row.number("p50")) if enough else formats.DASH, numeric=True),
            Cell(findings.milliseconds(row.value) if enough else formats.DASH, numeric=True),
            Cell(findings.interval(row) if enough else formats.DASH, numeric=True),
            Cell(
                findings.milliseconds(row.number("p99")) if row.n >= findings.P99_RUNS else formats.DASH, numeric=True
            ),
            Cell(findings.milliseconds(row.target), numeric=True),
            Cell(formats.number(row.devices), numeric=True),
            Cell(formats.number(row.n), numeric=True),
            Cell(word=row.word, small=findings.why_not(row) if row.blind else ""),
        ]
        body.append((cells, False))
    title = f"{formats.plural(len(rows), 'row')}, what needs a look first, then the farthest from its target"
    with cards.card(
        "latency-table",
        title,
        f"Newest hour; p50 and p95 from {findings.P95_RUNS} runs on, p99 from {findings.P99_RUNS}",
    ):
        cards.html(markup.table(header, body))

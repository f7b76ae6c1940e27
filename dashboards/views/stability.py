"""The stability page: whether more devices crash, and on what."""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st

from dashboards import cards, charts, findings, formats, markup, naming, series
from dashboards.markup import Cell, Tile
from dashboards.rows import Verdict, worst
from dashboards.scope import Scope

NAMES = ("crash_free_time", "crash_free_sessions", "crash_free_devices")
FAR = 2.5
"""A firmware that loses this many times more than the fleet is named under the title instead of flattening its line."""
MEANINGS = {
    "crash_free_time": "good device-time over observed device-time",
    "crash_free_sessions": "sessions that did not end in a crash",
    "crash_free_devices": "devices without a crash",
}


def draw(scope: Scope) -> None:
    """Draw the page: sentence, three figures, the line over days beside reasons, the firmware grid beside loops."""
    rows = scope.reader.verdicts("crash-free")
    mine = {name: next(iter(findings.scoped(scope, [row for row in rows if row.name == name])), None) for name in NAMES}
    three = [row for row in mine.values() if row is not None]
    cells = [
        row
        for row in rows
        if row.name == "crash_free_time" and row.firmware and (not scope.tier or row.tier == scope.tier)
    ]
    loops = [row for row in worst(rows) if row.name == "crash_loop" and row.level == "bad" and scope.admits(row)]
    suspect = _suspect(cells)
    if loops:
        suspect = next((row for row in cells if row.cohort == loops[0].cohort), suspect)
    judged = mine["crash_free_time"]
    cards.opening(*findings.stability_sentence(three, suspect, judged, next(iter(loops), None)))
    if not three:
        cards.html(
            markup.state(
                "No session has been judged yet",
                "Crash-free figures need an hour of device time; a slot is one hour of event time.",
            )
        )
        return
    history = [row for name in NAMES for row in scope.history("crash-free", name=name, tier=scope.tier)]
    cards.html(markup.tiles((_tile(row, history) for row in three), wide=True))
    left, right = st.columns([1.65, 1])
    with left:
        _line(scope, mine["crash_free_time"] or three[0], history, suspect)
    with right:
        _reasons(mine["crash_free_time"] or three[0])
    left, right = st.columns([1.65, 1])
    with left:
        _grid(cells)
    with right:
        _loops(scope, rows, suspect)


def _suspect(cells: Sequence[Verdict]) -> Verdict | None:
    """Return the firmware to name: across tiers first when it is bad there, else its worst tier."""
    across = [row for row in worst(row for row in cells if not row.tier) if row.level == "bad"]
    inside = [row for row in worst(row for row in cells if row.tier) if row.level == "bad"]
    return next(iter(across or inside), None)


def _same(history: Sequence[Verdict], row: Verdict) -> list[Verdict]:
    return [item for item in history if item.name == row.name and item.cohort == row.cohort]


def _tile(row: Verdict, history: Sequence[Verdict]) -> Tile:
    trend = tuple(item.value for item in _same(history, row)[-60:])
    foot = " · ".join(
        part for part in (findings.foot(row), f"n {formats.number(row.n)}" if row.value is not None else "") if part
    )
    unit = "%" if row.value is not None else ""
    return Tile(
        row.name,
        formats.sentence(naming.kpi_name(row.name)),
        formats.share(row.value),
        unit,
        row.word,
        foot,
        row.value,
        trend,
        hint=MEANINGS[row.name],
    )


def floor_of(values: Sequence[float]) -> float:
    """Return a round value below the lowest one, where an axis of ratios near 1 may start."""
    loss = max(1e-6, 1 - min(values))
    step = 10.0 ** math.floor(math.log10(loss) + 1e-9)
    return max(0.0, 1 - math.ceil(loss / step * 1.05) * step)


def _line(scope: Scope, row: Verdict, history: Sequence[Verdict], suspect: Verdict | None) -> None:
    rows = _same(history, row)
    known = [item for item in rows if item.value is not None]
    if len(known) < 2:
        with cards.card("stability-line", "Too few verdicts in this range for a line"):
            cards.html(markup.quiet("Choose a longer range."))
        return
    values = [value for item in known for value in (item.low, item.value, row.target) if value is not None]
    other: list[Verdict] = []
    if suspect is not None:
        other = scope.history("crash-free", name=row.name, tier=suspect.tier)
        other = [item for item in other if item.cohort == suspect.cohort and item.value is not None]
    lowest = min([item.value for item in other if item.value is not None], default=1.0)
    beside = 1 - lowest < FAR * max(1e-6, 1 - min(values))
    bottom = floor_of([*values, lowest] if beside else values)
    before, after = findings.edges([item.value for item in known])[0], row.value
    lost = (1 - (after or 0)) / max(1e-9, 1 - (before or 0))
    title = f"Crash-free time holds at {formats.percent(after)}"
    if lost > 1.3:
        title = f"Crash-free time fell from {formats.percent(before)} to {formats.percent(after)}"
    elif lost < 0.7:
        title = f"Crash-free time recovered from {formats.percent(before)} to {formats.percent(after)}"
    subtitle = (
        f"Over the 24 h before each point, {scope.tier or 'whole fleet'}, "
        f"with 95 % interval. Axis from {formats.percent(bottom)}."
    )
    holes = series.gaps(rows, scope.from_ns, scope.anchor_ns, lambda item: item.value)
    marks = series.line(
        known,
        lambda item: item.value,
        holes=holes,
        tip=lambda item: f"{scope.clock(item.at_ns)} · {formats.percent(item.value)}",
    )
    marks += series.band(known, lambda item: item.low, lambda item: item.high, holes=holes)
    marks += series.hole_marks(holes, scope.span_ns) + series.extent(scope.from_ns, scope.anchor_ns, bottom, 1.0)
    if row.target is not None:
        marks += series.goal(row.target, f"target {formats.goal(row.target)}", scope.from_ns, under=True)
    if suspect is not None and other and not beside:
        subtitle += f" Firmware {suspect.firmware} is below the axis, at {formats.percent(other[-1].value)}."
    elif suspect is not None and other:
        found = series.line(other, lambda item: item.value, layer="reference", series="suspect")
        marks += found + series.end(found, f"firmware {suspect.firmware}")
        subtitle += f" Dashed: firmware {suspect.firmware}."
    with cards.card("stability-line", title, subtitle):
        spec = charts.timeline(
            charts.Timeline(time_format=scope.time_format, zero=False, value_format=".4~%", height=240)
        )
        cards.chart("stability-line-chart", spec, charts.frame(marks), title)


def _reasons(row: Verdict) -> None:
    found = row.detail.get("reasons") or row.detail.get("signatures") or {}
    counts = (
        {str(key): float(value) for key, value in found.items() if isinstance(value, (int, float))}
        if isinstance(found, dict)
        else {}
    )
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    if not ordered:
        with cards.card("stability-reasons", "No crash in the last 24 h"):
            cards.html(markup.quiet("Expected ends (exit, update, reboot, low power) never count."))
        return
    name, count = ordered[0]
    title = (
        f"{formats.percent(count / total, 0) + ' of' if count < total else 'All'} "
        f"{formats.plural(total, 'crash', 'crashes')} ended in {name.replace('_', ' ')}"
        if total > 1
        else f"The one crash ended in {name.replace('_', ' ')}"
    )
    with cards.card(
        "stability-reasons",
        title,
        "Unexpected ends of the last 24 h by reason; updates and planned reboots do not count",
    ):
        cards.html(
            markup.bars(
                (reason.replace("_", " "), n, formats.number(n), "bad" if n == count and row.level == "bad" else "")
                for reason, n in ordered[:9]
            )
        )


def _grid(cells: Sequence[Verdict]) -> None:
    firmwares = sorted({row.firmware for row in cells})
    tiers = sorted({row.tier for row in cells})
    bad = sorted({row.firmware for row in cells if row.level == "bad"})
    title = (
        f"Firmware {formats.listing(bad)} {'is' if len(bad) == 1 else 'are'} under target"
        if bad
        else "No firmware is under target on any tier"
    )
    body = []
    for firmware in firmwares:
        line = []
        for tier in tiers:
            row = next((item for item in cells if item.firmware == firmware and item.tier == tier), None)
            line.append(_grid_cell(row))
        body.append((firmware, line))
    with cards.card(
        "stability-grid",
        title if cells else "No firmware has been judged",
        "Crash-free time in %, firmware × tier, last 24 h; hatched: too little data",
    ):
        names = [tier or "all tiers" for tier in tiers]
        cards.html(
            markup.grid("Firmware", names, body)
            if cells
            else markup.quiet("Devices report their firmware as edge.firmware.version.")
        )


def _grid_cell(row: Verdict | None) -> Cell:
    if row is None:
        return Cell(formats.DASH)
    if row.value is None or row.blind:
        return Cell(f"n = {formats.number(row.devices)}", hatch=True)
    heat = 0.0
    if row.level == "bad" and row.target is not None:
        heat = 0.45 + 0.1 * (1 - row.value) / max(1e-9, 1 - row.target)
    return Cell(f"{formats.share(row.value, 2)}{' ■' if row.level == 'bad' else ''}", heat=heat, numeric=True)


def _loops(scope: Scope, rows: Sequence[Verdict], suspect: Verdict | None) -> None:
    names: dict[str, str] = {}
    for row in rows:
        found = row.detail.get("looping_devices") or row.detail.get("crashing_devices")
        if isinstance(found, list) and (suspect is None or row.cohort == suspect.cohort) and scope.admits(row):
            names |= {str(name): row.where for name in found}
    devices = sorted(names)
    if not devices:
        with cards.card("stability-loops", "No device crashes again and again"):
            cards.html(markup.quiet("A device is listed when it crashed in the last 24 h."))
        return
    shown = devices[:12]
    title = f"{formats.plural(len(devices), 'device')} crashed in the last 24 h" + (
        f", on firmware {suspect.firmware}" if suspect else ""
    )
    with cards.card("stability-loops", title, "Open one to see its sessions and crashes on one time axis"):
        body = [
            ([Cell(name, href=markup.link("devices", **scope.query(device=name))), Cell(names[name])], False)
            for name in shown
        ]
        cards.html(markup.table([("Device", False), ("Where", False)], body))

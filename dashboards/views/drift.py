"""The drift page: what moved, more than chance, and who moved it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from html import escape

import streamlit as st

from dashboards import cards, charts, findings, formats, histograms, markup, naming, pictures, series
from dashboards.markup import Cell
from dashboards.rows import Verdict, reals
from dashboards.scope import Scope

FOREST_MAX = 18
SMALL_MAX = 6
TABLE_MAX = 12
TONES = {"drift": "bad", "sensor_fault": "fault", "mix_shift": "mix", "insufficient": "none", "no_data": "none"}


def draw(scope: Scope) -> None:
    """Draw the page: sentence, ranked signals, the chosen one's distributions, onset and tiers, the table."""
    rows = [row for row in scope.reader.verdicts("drift") if scope.admits(row)]
    ranked = _ranked(rows)
    provisional = [row for row in rows if _is_provisional(row)]
    cards.opening(*findings.drift_sentence(rows, _onset_words(ranked, scope.zone), bool(provisional)))
    if provisional:
        cards.html(_provisional_note(scope, provisional))
    if not rows:
        cards.html(
            markup.state(
                "No reference to compare with yet",
                (
                    "After 24 hours of data the page shows a provisional "
                    "verdict; drift alerts begin when 14 days of reference exist. "
                    "A reference can also come from a golden data set:"
                ),
                (
                    (
                        "Build it from data the model was trained on.",
                        "fleetpulse baseline build digits.onnx golden.npz",
                    ),
                ),
            )
        )
        return
    chosen = _chosen(ranked)
    left, right = st.columns([1, 1.25])
    with left:
        _forest(ranked, chosen)
    with right:
        _picture(scope, chosen)
        _onset(scope, chosen)
    _tiers(rows, chosen)
    _table(scope, rows)


def _is_provisional(row: Verdict) -> bool:
    reference = row.detail.get("reference")
    return row.reason == "provisional" or (isinstance(reference, dict) and bool(reference.get("provisional")))


def _ranked(rows: Sequence[Verdict]) -> list[Verdict]:
    """Return rows as the forest shows them: actionable first, then mix shifts, then by distance."""
    order = {"bad": 0, "warn": 1, "ok": 2, "none": 3}
    return sorted(rows, key=lambda row: (order[row.level], -(row.value or 0.0)))


def _label(row: Verdict, rows: Sequence[Verdict]) -> str:
    """Name a signal, with tier and model when several are shown."""
    parts = [naming.signal_name(row.name)]
    if len({item.tier for item in rows}) > 1:
        parts.append(row.where if row.cohort else "fleet")
    if len({item.subject for item in rows}) > 1:
        several = len({item.version for item in rows if item.model == row.model}) > 1
        parts.append(row.subject if several else row.model)
    return " · ".join(parts)


def _onset_words(ranked: Sequence[Verdict], zone: tzinfo) -> str:
    onsets = [value for row in ranked if row.level == "bad" and (value := row.instant("sr", "onset_ns"))]
    return formats.day(min(onsets), zone) if onsets else ""


def _provisional_note(scope: Scope, rows: Sequence[Verdict]) -> str:
    begins = [value for row in rows if (value := row.instant("alerts_from_ns"))]
    when = f"on {formats.day(min(begins), scope.zone)}" if begins else "when 14 days of reference exist"
    first = [value for row in rows if (value := row.instant("reference", "start_ns"))]
    since = f" The reference starts on {formats.day(min(first), scope.zone)}." if first else ""
    about = formats.listing(sorted({row.subject for row in rows}))
    return markup.banner(
        f"Provisional verdicts for {about}.",
        f"Drift alerts begin {when}; until then these rows warn nobody.{since}",
        "warn",
    )


def _key(row: Verdict) -> str:
    return f"{row.name}|{row.model}|{row.version}|{row.tier}"


def _chosen(ranked: Sequence[Verdict]) -> Verdict:
    """Let the reader choose a signal; the address bar holds its label, the worst is the default."""
    by_key = {_key(row): row for row in ranked}
    labels = {_key(row): _label(row, ranked) for row in ranked}
    picked = st.session_state.pop("drift-picked", None)
    if picked in by_key:
        st.session_state["signal"] = picked
    key = st.selectbox(
        "Signal",
        list(by_key),
        format_func=lambda name: labels.get(name, name),
        key="signal",
        bind="query-params",
        label_visibility="collapsed",
        width=360,
    )
    return by_key.get(key or "", ranked[0])


def _forest(ranked: Sequence[Verdict], chosen: Verdict) -> None:
    shown = list(ranked[:FOREST_MAX])
    if chosen not in shown:
        shown[-1] = chosen
    head = shown[0]
    floor = next((row.target for row in shown if row.target), None)
    ratio = (
        f", {head.value / floor:.1f} times the smallest effect that matters"
        if floor and head.value and head.level == "bad"
        else ""
    )
    title = f"{formats.sentence(naming.signal_name(head.name))} moved most: {formats.number(head.value)}{ratio}"
    if head.level == "ok":
        title = f"Nothing moved beyond chance; the largest distance is {formats.number(head.value)}"
    if head.level == "none":
        title = "Every signal has too little data to judge"
    rest = f" The {len(ranked) - len(shown)} quietest are in the table." if len(ranked) > len(shown) else ""
    subtitle = f"Distance to reference with 95 % interval. Grey bar: too small to matter. Click a mark to see it.{rest}"
    labels = {_label(row, ranked): _key(row) for row in shown}
    marks: series.Marks = []
    for row in shown:
        word = markup.CHIPS.get(row.verdict, ("", "", row.verdict))[2]
        marks.append(
            {
                "layer": "dot",
                "series": _label(row, ranked),
                "y": row.value,
                "lo": row.low if row.low is not None else row.value,
                "hi": row.high if row.high is not None else row.value,
                "t": 0.0,
                "t2": row.target or 0.0,
                "tone": TONES.get(row.verdict, "ok"),
                "label": "" if row.verdict == "ok" else word,
                "tip": (
                    f"{_label(row, ranked)} · {formats.number(row.value)} · {word} "
                    f"· {row.devices} devices · q {formats.number(row.number('q'))}"
                ),
            }
        )

    def pick() -> None:
        state = st.session_state.get("drift-forest-chart") or {}
        points = (state.get("selection") or {}).get("pick") or []
        if points and points[0].get("series") in labels:
            st.session_state["drift-picked"] = labels[points[0]["series"]]

    with cards.card("drift-forest", title, subtitle):
        spec = pictures.forest(
            len(shown), unit="distance in standard deviations (class mix: share moved)", value_format=".2~f", width=190
        )
        cards.chart("drift-forest-chart", spec, charts.frame(marks), title, pick=pick)


def _reference_words(scope: Scope, row: Verdict) -> str:
    start, end = row.instant("reference", "start_ns"), row.instant("reference", "end_ns")
    reference = row.detail.get("reference")
    source = str(reference.get("source", "")) if isinstance(reference, dict) else ""
    span = f", {formats.day(start, scope.zone)} to {formats.day(end, scope.zone)}" if start and end else ""
    return f"{source or 'pinned'}{span}"


def _picture(scope: Scope, row: Verdict) -> None:
    name = naming.signal_name(row.name)
    place = f"{row.subject} on {row.where}"
    labels = row.detail.get("labels")
    marks, step, over, (where, height) = histograms.picture_marks(row)
    if not marks:
        with cards.card("drift-picture", f"No distribution of {name} to draw", place):
            cards.html(markup.quiet("The judged window held no bucket of this signal."))
        return
    title = (
        f"{formats.sentence(name)}: {formats.percent(over, 0)} of the mass moved, most of it to {formats.number(where)}"
    )
    if labels:
        _classes(scope, row, [str(item) for item in labels])
        return
    if row.level == "ok":
        title = f"{formats.sentence(name)} looks like its reference"
    if row.level == "none":
        title = f"{formats.sentence(name)}: {formats.percent(over, 0)} of the mass differs, too little data to judge"
    even = histograms.evenly(row)
    what = "Share of observations" if even else "Where observations lie (area is share)"
    subtitle = (
        f"{what}, {place}. Blue: now. Dashed grey: reference ("
        f"{_reference_words(scope, row)}). Orange: more than reference."
    )
    if row.level == "bad":
        marks.append({"layer": "morename", "t": where, "y": height, "label": f"+{formats.percent(over, 0)}"})
    with cards.card("drift-picture", title, subtitle):
        cards.chart(
            "drift-picture-chart", pictures.densities(height=230, step=step, labels=even), charts.frame(marks), title
        )


def _classes(scope: Scope, row: Verdict, labels: Sequence[str]) -> None:
    """Draw categorical shares: now against reference by class, the most changed first."""
    reference, current = reals(row.detail.get("reference_share")), reals(row.detail.get("current_share"))
    pairs = [
        (labels[index] if index < len(labels) else f"class {index}", ref or 0.0, cur or 0.0)
        for index, (ref, cur) in enumerate(zip(reference, current, strict=False))
    ]
    pairs.sort(key=lambda pair: -abs(pair[2] - pair[1]))
    name, ref, cur = pairs[0]
    title = f"Class {name} went from {formats.percent(ref)} to {formats.percent(cur)} of predictions"
    with cards.card(
        "drift-picture",
        title,
        f"Share of predictions, {row.subject} on {row.where}; reference {_reference_words(scope, row)}",
    ):
        cards.html(
            markup.bars(
                (
                    f"{name}",
                    cur,
                    f"{formats.percent(cur)} now · {formats.percent(ref)} before",
                    "more" if cur > ref * 1.1 and row.level == "bad" else "",
                )
                for name, ref, cur in pairs[:9]
            )
        )


def _onset(scope: Scope, row: Verdict) -> None:
    name = naming.signal_name(row.name)
    rows = scope.history("drift", name=row.name, model=row.model, version=row.version, tier=row.tier)
    rows = [item for item in rows if _key(item) == _key(row) and item.cohort == row.cohort]
    onset = row.instant("sr", "onset_ns")
    alarm = bool((row.detail.get("sr") or {}).get("alarm")) if isinstance(row.detail.get("sr"), dict) else False
    # the detector names its likeliest onset even where nothing moved: only a shift that is judged one began
    onset = onset if alarm or row.level == "bad" else 0
    if onset:
        title = f"It began on {formats.day(onset, scope.zone)}" + (
            " and the detector has alarmed" if alarm else "; the detector has not alarmed"
        )
        if onset < scope.from_ns:
            title += " (before this range)"
    else:
        title = (
            f"No onset: the sequential detector sees no lasting shift of {name}"
            if row.detail.get("sr")
            else "No detector yet: the reference is too short"
        )
    with cards.card("drift-onset", title, f"Distance of {name} by hour with 95 % interval; grey: too small to matter"):
        if len(rows) < 2:
            cards.html(markup.quiet("Fewer than two verdicts in this range; choose a longer one."))
            return
        holes = series.gaps(rows, scope.from_ns, scope.anchor_ns, lambda item: item.value)
        marks = series.line(
            rows,
            lambda item: item.value,
            holes=holes,
            tip=lambda item: f"{scope.clock(item.at_ns)} · {formats.number(item.value)}",
        )
        marks += series.band(rows, lambda item: item.low, lambda item: item.high, holes=holes)
        marks += series.hole_marks(holes, scope.span_ns) + series.extent(scope.from_ns, scope.anchor_ns)
        if row.target:
            marks += [
                {"layer": "noise", "t": at / 1e6, "lo": 0.0, "hi": row.target}
                for at in (scope.from_ns, scope.anchor_ns)
            ]
        if onset:
            marks += series.marker(onset, f"onset {scope.clock(onset)}", scope.from_ns, scope.anchor_ns)
        shape = charts.Timeline(time_format=scope.time_format, height=190, value_format=".2~f")
        cards.chart("drift-onset-chart", charts.timeline(shape), charts.frame(marks), title)


def _tiers(rows: Sequence[Verdict], chosen: Verdict) -> None:
    """Draw the chosen signal once per tier on the same bins, to see whether one tier moved or all of them."""
    same = [row for row in rows if (row.name, row.model, row.version) == (chosen.name, chosen.model, chosen.version)]
    same = sorted(same, key=lambda row: row.where)[:SMALL_MAX]
    if len(same) < 2 or chosen.detail.get("labels"):
        return
    bad = [row.where for row in same if row.level == "bad"]
    name = naming.signal_name(chosen.name)
    title = (
        f"Only {formats.listing(bad)} moved"
        if bad and len(bad) < len(same)
        else f"{formats.sentence(name)} on every tier"
        if not bad
        else f"Every tier moved on {name}"
    )
    with cards.card("drift-tiers", title, f"{formats.sentence(name)} of {chosen.subject} by tier, reference dashed"):
        for column, row in zip(st.columns(len(same)), same, strict=True):
            with column:
                marks, step, _, _ = histograms.picture_marks(row)
                spread = "" if row.low is None or row.high is None else f" ± {formats.number((row.high - row.low) / 2)}"
                text = f"{formats.number(row.value)}{spread}" if row.level != "none" else findings.why_not(row)
                cards.html(f'<div class="fp-small"><b>{escape(row.where)}</b>{markup.chip(row.verdict, text)}</div>')
                if marks:
                    spec = pictures.densities(height=86, step=step, ticks=3, labels=False)
                    cards.chart(
                        f"drift-tier-{row.where}", spec, charts.frame(marks), f"{name} on {row.where}: {row.verdict}"
                    )


def _table(scope: Scope, rows: Sequence[Verdict]) -> None:
    header = [
        ("Signal", False),
        ("Where", False),
        ("Model", False),
        ("distance", True),
        ("interval", True),
        ("PSI", True),
        ("JS", True),
        ("KS", True),
        ("q", True),
        ("mix share", True),
        ("devices", True),
        ("", False),
    ]
    body = [(_table_row(scope, row, rows), False) for row in _ranked(rows)]
    with cards.card(
        "drift-table",
        f"{formats.plural(len(rows), 'signal')} by what needs a look",
        "Verdicts of the last 24 hours; alerts come only from the sequential detector",
    ):
        cards.html(markup.table(header, body[:TABLE_MAX]))
        if len(body) > TABLE_MAX:
            with st.expander(f"The other {formats.plural(len(body) - TABLE_MAX, 'signal')}", key="drift-rest"):
                cards.html(markup.table(header, body[TABLE_MAX:]))


def _table_row(scope: Scope, row: Verdict, rows: Sequence[Verdict]) -> list[Cell]:
    number = row.number
    matters = row.value is not None and row.value >= (row.target or 0.0)
    span = formats.DASH if row.low is None else f"{formats.number(row.low)}–{formats.number(row.high)}"
    return [
        Cell(naming.signal_name(row.name), href=markup.link("drift", **scope.query(signal=_label(row, rows)))),
        Cell(row.where),
        Cell(row.subject),
        Cell(formats.number(row.value), numeric=True),
        Cell(span, numeric=True),
        Cell(formats.number(number("psi")), numeric=True),
        Cell(formats.number(number("js")), numeric=True),
        Cell(formats.number(number("ks")), numeric=True),
        Cell(formats.number(number("q")), numeric=True),
        # a share of a distance too small to matter says nothing (and can be far over 100 %)
        Cell(formats.percent(number("mix_share")) if matters else formats.DASH, numeric=True),
        Cell(formats.number(number("m") or row.devices), numeric=True),
        Cell(
            word=row.word,
            small=findings.why_not(row) if row.blind else "provisional" if _is_provisional(row) else "",
        ),
    ]

"""The devices page: which ones are silent or behind, and what happened to one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

import polars as pl
import streamlit as st

from dashboards import cards, charts, formats, markup, pictures, series
from dashboards.formats import HOUR_NS, NS
from dashboards.rows import Device, Verdict, mapping, offsets_of, on_event_time, raw_spans, real
from dashboards.scope import Scope
from device_sdk.contract import attributes as a
from device_sdk.contract import metrics

AWAY_NS = 3 * HOUR_NS
"""A device not heard of for this long is away; whether that is unusual for it (silent) is judged by the collector."""
JUST_NOW_NS = 600 * NS
"""Two windows: a device heard of that lately is simply there."""
BEHIND = 0.95
ROW_PX, ROWS_SHOWN = 32, 12
COLUMNS = {a.TIER: "tier", a.REGION: "region", a.RING: "ring", a.FIRMWARE_VERSION: "firmware", a.SERVICE_VERSION: "app"}
BOOTS_MAX = 16
"""Boots with a wrong clock whose own times are asked for, the newest ones; those that overlap are asked for as one."""
LANES = ("windows", "sessions", "crashes", "updates", "other")


def draw(scope: Scope) -> None:
    """Draw the page: sentence, one device's time line when one is chosen, the list with search."""
    found = [
        device
        for device in scope.reader.devices(tier=scope.tier)
        if not scope.tier or device.attribute(a.TIER) == scope.tier
    ]
    judged = [row for row in scope.named("silent_devices") if not scope.tier or row.tier == scope.tier]
    names = {str(name) for row in judged for name in row.detail.get("silent") or ()}
    silent = [device for device in found if device.id in names]
    behind = [device for device in found if device.completeness is not None and device.completeness < BEHIND]
    cards.opening(*_sentence(scope, found, judged, behind))
    if not found:
        return
    by_id = {device.id: device for device in found}
    picked = st.session_state.pop("device-picked", None)
    if picked in by_id:
        st.session_state["device"] = picked
    ordered = sorted(by_id, key=lambda name: (name not in names, -_missing(by_id[name]), name))
    chosen = st.selectbox(
        "Device",
        ordered,
        index=None,
        placeholder="Search a device",
        key="device",
        bind="query-params",
        label_visibility="collapsed",
        width=360,
    )
    if chosen in by_id:
        _detail(scope, by_id[chosen])
    _list(scope, ordered, by_id, silent)
    left, right = st.columns(2)
    with left:
        _versions(found)
    with right:
        _silence(found, silent)


def _missing(device: Device) -> float:
    return 1 - (1.0 if device.completeness is None else device.completeness)


def _sentence(
    scope: Scope, found: Sequence[Device], judged: Sequence[Verdict], behind: Sequence[Device]
) -> tuple[str, str, str]:
    if not found:
        return "none", "No device is known here.", "A device appears with its first window."
    whole = sorted(device.completeness for device in found if device.completeness is not None)
    off = sum(scope.anchor_ns - device.last_ns > AWAY_NS for device in found)
    silent = sum(row.devices for row in judged)
    second = f"{formats.plural(len(found), 'device')} known"
    if whole:
        middle = whole[len(whole) // 2]
        share = "every window" if middle >= 1 else f"at least {formats.percent(middle)} of their windows"
        second += f"; half of them delivered {share}"
    second += f", {formats.number(len(behind))} under {formats.percent(BEHIND)}" if behind else ""
    second += (
        (
            f". {formats.number(off)} quiet for over {formats.duration(AWAY_NS)}: "
            f"{formats.number(silent)} never paused so long before, the others do."
        )
        if off
        else "."
    )
    bad = [row for row in judged if row.devices]
    if not bad:
        return "ok", "No device is silent that should report.", second
    count = sum(row.devices for row in bad)
    since = [value for row in bad if (value := row.instant("since_ns"))]
    where = formats.listing([row.where for row in bad])
    heard = f"; nothing was heard since {scope.clock(min(since))}" if since else ""
    return "warn", f"{formats.plural(count, 'device')} fell silent on {where}{heard}.", second


def _ago(scope: Scope, device: Device) -> str:
    away = scope.anchor_ns - device.last_ns
    return "now" if away < JUST_NOW_NS else f"{formats.duration(away)} ago"


def _last(scope: Scope, device: Device) -> str:
    ago = _ago(scope, device)
    return f"at {scope.clock(device.last_ns)}" + (f", {ago}" if ago != "now" else "")


def _list(scope: Scope, names: Sequence[str], by_id: Mapping[str, Device], silent: Sequence[Device]) -> None:
    quiet = {device.id for device in silent}
    devices = [by_id[name] for name in names]
    frame = pl.DataFrame(
        {
            "device": [device.id for device in devices],
            "state": ["▲ silent" if device.id in quiet else "" for device in devices],
            "last seen": [_ago(scope, device) for device in devices],
            "completeness": [device.completeness for device in devices],
            **{name: [device.attribute(key) for device in devices] for key, name in COLUMNS.items()},
            "first seen": [formats.day(device.first_ns, scope.zone) for device in devices],
        }
    )
    frame = frame.drop([name for name in COLUMNS.values() if not any(frame[name])])
    title = f"{formats.plural(len(devices), 'device')}, the ones that need a look first"

    def pick() -> None:
        state = st.session_state.get("device-list") or {}
        chosen = (state.get("selection") or {}).get("rows") or []
        if chosen:
            st.session_state["device-picked"] = devices[chosen[0]].id

    with cards.card(
        "devices-list",
        title,
        "Select a row to see its time line. Completeness: windows that arrived of those due until it was last seen",
    ):
        st.dataframe(
            frame,
            height=ROW_PX * (min(ROWS_SHOWN, len(devices)) + 1) + 2,
            row_height=ROW_PX,
            hide_index=True,
            key="device-list",
            on_select=pick,
            selection_mode="single-row",
            column_config={
                "completeness": st.column_config.ProgressColumn(min_value=0.0, max_value=1.0, format="percent")
            },
        )


def _versions(found: Sequence[Device]) -> None:
    counts: dict[str, int] = {}
    for device in found:
        version = device.attribute(a.FIRMWARE_VERSION) or "unknown"
        counts[version] = counts.get(version, 0) + 1
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    name, count = ordered[0]
    title = (
        f"{formats.percent(count / len(found), 0)} run firmware {name}"
        if name != "unknown"
        else "Most devices do not say their firmware"
    )
    with cards.card("devices-versions", title, "Devices by firmware version"):
        cards.html(markup.bars((version, float(n), formats.number(n), "") for version, n in ordered[:8]))


def _silence(found: Sequence[Device], silent: Sequence[Device]) -> None:
    tiers = sorted({device.attribute(a.TIER) or "no tier" for device in found})
    late = {tier: sum((device.attribute(a.TIER) or "no tier") == tier for device in silent) for tier in tiers}
    known = {tier: sum((device.attribute(a.TIER) or "no tier") == tier for device in found) for tier in tiers}
    head = max(tiers, key=lambda tier: late[tier])
    title = (
        f"{head} has the most silent devices, {late[head]} of {known[head]}"
        if silent
        else "No tier has a silent device"
    )
    with cards.card("devices-silence", title, "Quiet for longer than they ever were in two weeks, by tier"):
        cards.html(
            markup.bars(
                (
                    tier,
                    float(late[tier]),
                    f"{late[tier]} of {known[tier]}",
                    "bad" if late[tier] > 0.1 * known[tier] else "more" if late[tier] else "",
                )
                for tier in tiers
            )
        )


def _detail(scope: Scope, device: Device) -> None:
    logs, points = _told(scope, device)
    crashes = [log for log in logs if _is_crash(log)]
    title = (
        f"{device.id}: {formats.plural(len(crashes), 'crash', 'crashes') if crashes else 'no crash'} "
        f"in {scope.range_words}, last seen {_last(scope, device)}"
    )
    with cards.card(
        "device-detail",
        title,
        "One time axis: windows received, sessions, crashes, updates, other events; below, mean run time of its models",
    ):
        facts = [(name, text) for key, name in COLUMNS.items() if (text := device.attribute(key))]
        facts += [
            ("completeness", formats.percent(device.completeness)),
            ("first seen", scope.clock(device.first_ns)),
            ("last seen", scope.clock(device.last_ns)),
        ]
        if device.clock_offset_ns:
            sign = "+" if device.clock_offset_ns > 0 else "-"
            facts.append(("clock corrected by", f"{sign}{formats.duration(abs(device.clock_offset_ns))}"))
        cards.html(markup.facts(facts))
        marks = _lane_marks(scope, logs, points)
        cards.chart("device-lanes", pictures.lanes(LANES, time_format=scope.time_format), charts.frame(marks), title)
        _run_time(scope, points)


def _told(scope: Scope, device: Device) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the range's events and run times of a device, each at the time that the clock of its own boot makes it."""
    reader = scope.reader
    offsets = offsets_of(next(iter(reader.items(f"devices/{quote(device.id, safe='')}").items), {}))
    spans = raw_spans(scope.from_ns, scope.anchor_ns, list(offsets.values())[:BOOTS_MAX])
    name = metrics.INFERENCE_DURATION.name
    asked: list[dict[str, object]] = [{"from_": start, "to": stop, "device": device.id} for start, stop in spans]
    answers = reader.together(
        *(partial(reader.items, "events", **window) for window in asked),
        *(partial(reader.metric, name, "points", **window) for window in asked),
    )
    found: list[list[Mapping[str, Any]]] = []
    for parts in (answers[: len(asked)], answers[len(asked) :]):
        items = (mapping(item) for answer in parts for item in answer.items)
        found.append(list(on_event_time(items, offsets, scope.from_ns, scope.anchor_ns)))
    return found[0], found[1]


def _is_crash(log: Mapping[str, Any]) -> bool:
    name = str(log.get("event_name"))
    attributes = mapping(log.get("attributes"))
    return name.endswith("app.crash") or (
        name.endswith("session.end") and attributes.get(a.SESSION_END_EXPECTED) is False
    )


def _lane_marks(scope: Scope, logs: Sequence[Mapping[str, Any]], points: Sequence[Mapping[str, Any]]) -> series.Marks:
    marks: series.Marks = series.extent(scope.from_ns, scope.anchor_ns)
    spans = sorted({(int(item.get("start_ns") or 0), int(item.get("time_ns") or 0)) for item in points})
    for start, stop in _joined([span for span in spans if span[0] < span[1]]):
        tip = f"windows from {scope.clock(start)} to {scope.clock(stop)}"
        marks.append(
            {"layer": "span", "series": "windows", "t": start / 1e6, "t2": stop / 1e6, "tone": "cur", "tip": tip}
        )
    for log in logs:
        name = str(log.get("event_name"))
        lane = "crashes" if _is_crash(log) else "updates" if "update" in name else "other"
        lane = "sessions" if lane == "other" and name.startswith("session.") else lane
        tone = {"crashes": "bad", "updates": "mix"}.get(lane, "ref")
        reason = str(mapping(log.get("attributes")).get(a.SESSION_END_REASON, ""))
        at = int(log.get("time_ns") or 0)
        marks.append(
            {
                "layer": "dot",
                "series": lane,
                "t": at / 1e6,
                "tone": tone,
                "tip": f"{scope.clock(at)} · {name} {reason}".strip(),
            }
        )
    return marks


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join windows that touch, so that a gap is seen as one."""
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and start <= joined[-1][1] + NS:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined


def _run_time(scope: Scope, points: Sequence[Mapping[str, Any]]) -> None:
    """Draw the mean run time by hour and model (sum over count of the windows that ended in the hour)."""
    totals: dict[tuple[str, int], tuple[float, float]] = {}
    for item in points:
        attributes = mapping(item.get("attributes"))
        count, total = real(item.get("count")), real(item.get("sum"))
        if count and total is not None and a.ERROR_TYPE not in attributes:
            key = (str(attributes.get(a.MODEL_NAME, "model")), (int(item.get("time_ns") or 0) - 1) // HOUR_NS * HOUR_NS)
            before = totals.get(key, (0.0, 0.0))
            totals[key] = (before[0] + total, before[1] + count)
    if not totals:
        cards.html(markup.quiet("No inference in this range."))
        return
    marks: series.Marks = []
    models = sorted({model for model, _ in totals})
    for index, model in enumerate(models[:3]):
        hours = sorted(hour for name, hour in totals if name == model)
        layer = "line" if index == 0 else "side"
        found: series.Marks = []
        for previous, hour in zip([hours[0], *hours], hours, strict=False):
            if hour - previous > HOUR_NS:
                found.append({"layer": layer, "series": model, "t": previous / 1e6 + 1, "y": None})
            total, count = totals[(model, hour)]
            mean = total / count * 1e3
            found.append(
                {
                    "layer": layer,
                    "series": model,
                    "t": (hour + HOUR_NS) / 1e6,
                    "y": mean,
                    "tip": f"{scope.clock(hour + HOUR_NS)} · {model} {formats.number(mean)} ms",
                }
            )
        marks += found + series.end(found, model, "cur" if index == 0 else "ref")
    marks += series.extent(scope.from_ns, scope.anchor_ns)
    cards.html(markup.head("", f"Mean run time of {formats.listing(models)}, ms"))
    spec = charts.timeline(charts.Timeline(unit="ms", time_format=scope.time_format, height=130))
    cards.chart("device-run-time", spec, charts.frame(marks), "Mean run time by hour")

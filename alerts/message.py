"""What a person reads: one sentence, the facts, the links. Pure; golden files hold every packaged rule's text.

The sentence says what, where, since when, how many devices and how sure; it must do at three in the morning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from alerts.facts import affected_text, burn_windows, interval_text, signals_text, sure_text, value_text
from alerts.numbers import cohort_words, duration, moment, number, percent, where
from alerts.schema import Rule
from alerts.verdict import CRASH_LOOP, Dims, is_number
from device_sdk.contract import attributes as a

SHORT_LENGTH_MAX: Final = 200
LINK_FILTERS: Final = {
    a.MODEL_NAME: "model",
    a.MODEL_VERSION: "version",
    a.TIER: "tier",
    a.REGION: "region",
    a.RING: "ring",
    a.FIRMWARE_VERSION: "firmware",
}
"""Cohort attributes as the dashboard's pages name their filters."""


@dataclass(frozen=True, slots=True)
class Message:
    """A notice's words. ``short`` fits a lock screen (at most ``SHORT_LENGTH_MAX`` characters)."""

    subject: str
    sentence: str
    facts: tuple[tuple[str, str], ...]
    text: str
    short: str


def summary(rule: Rule, facts: Mapping[str, Any], limits: Dims, onset_ns: int) -> str:
    """Return the one sentence of an alert: the rule's template, filled."""
    fields = {
        "affected": affected_text(facts),
        "burn": _burn(facts),
        "count": str(facts["contributor_count"]),
        "interval": interval_text(facts) or "no interval",
        "model": str(facts["model"]),
        "name": _name(facts),
        "signals": signals_text(facts),
        "since": moment(onset_ns),
        "sure": sure_text(facts),
        "target": value_text(facts, facts["target"]),
        "value": value_text(facts, facts["value"]),
        "version": str(facts["version"]),
        "where": _where(facts, limits),
    }
    return rule.summary.format(**fields)


def page_url(rule: Rule, limits: Dims, dashboard_url: str) -> str:
    """Return the dashboard page of a rule with the alert's filters."""
    path = "" if rule.page == "fleet" else rule.page
    values = dict(limits)
    query = {filter_: values[key] for key, filter_ in LINK_FILTERS.items() if values.get(key)}
    return f"{dashboard_url.rstrip('/')}/{path}" + (f"?{urlencode(query)}" if query else "")


def runbook_url(rule: Rule, runbooks_url: str, dashboard_url: str) -> str:
    """Return where a rule's runbook is read: its own address, a site of runbooks, else the dashboard's page."""
    if rule.runbook.startswith(("https://", "http://")):
        return rule.runbook
    if runbooks_url:
        return f"{runbooks_url.rstrip('/')}/{rule.runbook}.md"
    return f"{dashboard_url.rstrip('/')}/runbook?name={rule.runbook}"


def compose(
    *,
    state: str,
    severity: str,
    rule: str,
    sentence: str,
    facts: Mapping[str, Any],
    cohort: Mapping[str, str],
    onset_ns: int,
    since_ns: int,
    at_ns: int,
    page: str,
    runbook: str,
    alert_id: str,
    reason: str = "",
) -> Message:
    """Return the words of a notice of ``state`` (firing or resolved) as of event time ``at_ns``."""
    place = where(cohort.items())
    head = f"{severity.upper()}" if state == "firing" else "RESOLVED"
    subject = f"[{head}] {rule} {place}: {_headline(facts)}" if facts else f"[{head}] {rule} {place}"
    said = sentence if state == "firing" else _over(sentence, onset_ns, at_ns, reason)
    rows = _facts(facts, onset_ns, since_ns, at_ns, state)
    lines = [said, "", *(f"{label}: {text}" for label, text in rows), *_signals(facts), *_worst(facts)]
    lines += ["", f"Dashboard: {page}", f"Runbook: {runbook}", f"Alert: {alert_id} ({rule}, {severity}, {state})"]
    short = f"[{head}] {said}"
    if len(short) > SHORT_LENGTH_MAX:
        short = short[: SHORT_LENGTH_MAX - 1].rsplit(" ", 1)[0] + "…"
    return Message(subject, said, rows, "\n".join(lines) + "\n", short)


def _name(facts: Mapping[str, Any]) -> str:
    """Return the verdict's name as people say it: SLOs and signals as they are called, KPIs in words."""
    name = str(facts["name"])
    return name if facts["kind"] in {"slo", "drift"} else name.replace("crash_free", "crash-free").replace("_", " ")


def _where(facts: Mapping[str, Any], limits: Dims) -> str:
    place = where(limits)
    worst = facts.get("worst") or []
    if not worst:
        return place
    entry = worst[0]
    model = " ".join(filter(None, (entry["model"], entry["version"])))
    words = ", ".join(filter(None, (model if (a.MODEL_NAME, entry["model"]) not in limits else "", _narrow(entry))))
    return f"{place} (worst: {words})" if words else place


def _narrow(entry: Mapping[str, Any]) -> str:
    return cohort_words(entry["cohort"])


def _burn(facts: Mapping[str, Any]) -> str:
    pair = burn_windows(facts)
    if pair is None:
        return "too fast"
    long, long_burn, short, short_burn = pair
    return f"{number(long_burn)} times too fast over {long} ({number(short_burn)} over {short})"


def _headline(facts: Mapping[str, Any]) -> str:
    kind, name = facts["kind"], facts["name"]
    if kind == "slo":
        pair = burn_windows(facts)
        return f"{name} burns {number(pair[1])} x" if pair else f"{name} burns too fast"
    if kind == "drift":
        return signals_text(facts)
    if kind == "silence":
        return f"{affected_text(facts)} silent"
    words = _name(facts)
    if name == CRASH_LOOP:
        return affected_text(facts)
    value = value_text(facts, facts["value"])
    target = f", target {value_text(facts, facts['target'])}" if is_number(facts["target"]) else ""
    return f"{words} {value}{target}"


def _over(sentence: str, onset_ns: int, at_ns: int, reason: str) -> str:
    if reason == "no_data":
        return (
            f"Closed at {moment(at_ns)} without knowing: for too long no verdict could tell whether it goes on. "
            f"It was: {sentence}"
        )
    return f"Over since {moment(at_ns)}, after {duration(at_ns - onset_ns)}. It was: {sentence}"


def _facts(
    facts: Mapping[str, Any], onset_ns: int, since_ns: int, at_ns: int, state: str
) -> tuple[tuple[str, str], ...]:
    rows: list[tuple[str, str]] = []
    if facts:
        rows += _value_fact(facts)
        rows += _slo_facts(facts) if facts["kind"] == "slo" else _crash_facts(facts)
        rows.append(("Devices", affected_text(facts)))
        if facts["device_ids"]:
            named = facts["device_ids"]
            rows.append(("Which", ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")))
        if facts["kind"] not in {"silence", "slo"} and facts["name"] != CRASH_LOOP:
            rows.append(("Evidence", f"n = {number(round(facts['n']))}"))
        if is_number(facts["completeness"]):
            rows.append(("Telemetry complete", percent(facts["completeness"])))
        window = facts["window"]
        if window["end_ns"] > window["start_ns"] and facts["kind"] != "slo":
            rows.append(("Window", f"{moment(window['start_ns'])} to {moment(window['end_ns'])}"))
    rows.append(("Began", moment(onset_ns)))
    delay = f", {duration(since_ns - onset_ns)} after it began" if since_ns > onset_ns else ", at once"
    rows.append(("Alert since", moment(since_ns) + delay))
    if state == "resolved":
        rows.append(("Resolved", moment(at_ns)))
    return tuple(rows)


def _value_fact(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    if facts["name"] == CRASH_LOOP:
        return []  # the count of devices says it
    kind, interval, target = facts["kind"], interval_text(facts), facts["target"]
    text = value_text(facts, facts["value"])
    text += f" (95 % interval {interval})" if interval else ""
    text += f", {'floor' if kind == 'drift' else 'target'} {value_text(facts, target)}" if is_number(target) else ""
    window = facts["window"]
    label = f"Good over {duration(window['end_ns'] - window['start_ns'])}" if kind == "slo" else "Value"
    return [("Share silent" if kind == "silence" else label, text)]


def _slo_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("Burn", _burn(facts))]
    detail = facts["detail"]
    left, forecast = detail.get("budget_left"), detail.get("forecast") or {}
    if is_number(detail.get("bad")) and is_number(detail.get("total")):
        long = str(detail.get("window")).partition("/")[0]
        rows.append(("Bad events", f"{number(round(detail['bad']))} of {number(round(detail['total']))} in {long}"))
    if is_number(left):
        rows.append(("Budget left", "none, overspent" if left <= 0 else percent(left)))
    if is_number(forecast.get("empty_ns")) and is_number(left) and left > 0:
        rows.append(("Budget empty", f"{moment(int(forecast['empty_ns']))} at this pace"))
    return rows


def _crash_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    if facts["kind"] != "crash_free":
        return []
    detail = facts["detail"]
    crashes, hours = detail.get("crashes", detail.get("ends")), detail.get("device_hours")
    rows = []
    if is_number(crashes):
        rows.append(("Crashes", f"{number(crashes)}" + (f" in {number(round(hours))} device-hours" if hours else "")))
    reasons = sorted((detail.get("reasons") or {}).items(), key=lambda item: (-item[1], item[0]))
    if reasons:
        rows.append(("Reasons", ", ".join(f"{name} {count}" for name, count in reasons[:4])))
    return rows


def _signals(facts: Mapping[str, Any]) -> Sequence[str]:
    entries = facts.get("contributors", ()) if facts else ()
    if len(entries) < 2:
        return ()
    more = facts["contributor_count"] - len(entries)
    lines = ["", "Signals, strongest first:" if facts["kind"] == "drift" else "Figures, worst first:"]
    for entry in entries:
        shown = {"kind": facts["kind"], **entry}
        lines.append(f"  {entry['name']}  {value_text(shown, entry['value'])}")
    return [*lines, f"  and {more} more"] if more > 0 else lines


def _worst(facts: Mapping[str, Any]) -> Sequence[str]:
    entries = facts.get("worst", ()) if facts else ()
    if not entries:
        return ()
    lines = ["", "Worst inside:"]
    for entry in entries:
        model = " ".join(filter(None, (entry["model"], entry["version"])))
        place = ", ".join(filter(None, (model, _narrow(entry)))) or "fleet"
        value = f"burns {number(entry['effect'])} x" if facts["kind"] == "slo" else value_text(facts, entry["value"])
        lines.append(f"  {place}  {value}")
    return lines

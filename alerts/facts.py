"""The evidence of an alert: the facts of the worst row, what contributes, how sure it is. Pure.

Evidence is JSON-able, is stored with every state, and is all that a notice is written from: a notice sent after a
restart says what it would have said before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from alerts.numbers import listing, number, percent, seconds
from alerts.verdict import CRASH_LOOP, DEVICES_NAMED_MAX, Verdict, is_number

CONTRIBUTORS_MAX: Final = 20
DETAIL_KEPT: Final[Mapping[str, tuple[str, ...]]] = {
    "slo": ("burn", "severity", "objective", "budget_left", "forecast", "window", "threshold", "bad", "total"),
    "drift": ("unit", "p", "q", "psi", "js", "ks", "tvd", "shift_sd", "neff", "mix_share", "sr", "reference"),
    "crash_free": ("crashes", "device_hours", "reasons", "ends", "deff", "worst_class"),
    "silence": ("since_ns",),
    "kpi": (),
    "latency": ("p50", "p95", "p99"),
}
"""Small fields of ``detail`` that evidence keeps, by kind."""
EVIDENCE_RATIO_MAX: Final = 1000.0
"""Beyond this the detector's evidence is only said to be larger."""


def clean(value: Any) -> Any:
    """Return a copy that is JSON: NaN and infinities become None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return value


def evidence(rows: Sequence[Verdict], worst: Sequence[Verdict] = ()) -> dict[str, Any]:
    """Return the evidence of rows ranked worst first; {} for no rows. ``worst`` are rows of narrower cohorts."""
    if not rows:
        return {}
    lead = rows[0]
    named = dict.fromkeys(device for row in rows for device in row.device_ids)
    found: dict[str, Any] = {
        "kind": lead.kind,
        "name": lead.name,
        "model": lead.model,
        "version": lead.version,
        "cohort": dict(lead.cohort),
        "at_ns": lead.at_ns,
        "verdict": lead.verdict,
        "reason": lead.reason,
        "value": lead.value,
        "low": lead.low,
        "high": lead.high,
        "target": lead.target,
        "n": lead.n,
        "affected": max(row.affected for row in rows),
        "known": lead.known,
        "completeness": lead.completeness,
        "window": {"start_ns": lead.window_start_ns, "end_ns": lead.window_end_ns},
        "device_ids": list(named)[:CONTRIBUTORS_MAX],
        "contributors": [_contributor(row) for row in rows[:CONTRIBUTORS_MAX]],
        "contributor_count": len(rows),
        "worst": [_contributor(row) for row in worst],
        "detail": {key: lead.detail[key] for key in DETAIL_KEPT[lead.kind] if key in lead.detail},
    }
    cleaned: dict[str, Any] = clean(found)
    return cleaned


def _contributor(row: Verdict) -> dict[str, Any]:
    return {
        "name": row.name,
        "model": row.model,
        "version": row.version,
        "cohort": dict(row.cohort),
        "value": row.value,
        "effect": row.effect,
        "verdict": row.verdict,
        "unit": row.detail.get("unit"),
    }


def value_text(facts: Mapping[str, Any], value: object) -> str:
    """Write a value in the unit of its kind; ``unknown`` when it is missing. ``facts``: evidence or a contributor."""
    if not is_number(value):
        return "unknown"
    kind, name = facts["kind"], str(facts["name"])
    if kind == "latency":
        return seconds(value)
    if kind == "drift":
        unit = facts.get("unit") or facts.get("detail", {}).get("unit")
        return f"{percent(value)} of outputs moved" if unit == "tvd" else f"{number(value)} sd"
    if name == CRASH_LOOP or not 0 <= value <= 1:
        return number(value)
    return percent(value)


def signals_text(facts: Mapping[str, Any]) -> str:
    """Write the contributing signals, worst first: ``input:mean 0.62 sd, classes 31.00 % and 4 more``."""
    parts = [f"{entry['name']} {_short_value(facts['kind'], entry)}" for entry in facts.get("contributors", ())]
    more = facts.get("contributor_count", len(parts)) - 3
    return listing(parts[:3] if more <= 0 else [*parts[:3], f"{more} more"])


def _short_value(kind: str, entry: Mapping[str, Any]) -> str:
    return value_text({"kind": kind, **entry}, entry["value"]).removesuffix(" of outputs moved")


def burn_windows(facts: Mapping[str, Any]) -> tuple[str, float, str, float] | None:
    """Return (long window, burn, short window, burn) of the pair that decided, None when it is not there."""
    detail = facts.get("detail", {})
    burn = detail.get("burn") or {}
    long, _, short = str(detail.get("window") or "").partition("/")
    # A short window that is also another pair's long one has its burn under its name with a "_".
    fast, brief = burn.get(long), burn.get(f"{short}_", burn.get(short))
    return (long, float(fast), short, float(brief)) if is_number(fast) and is_number(brief) else None


def sure_text(facts: Mapping[str, Any]) -> str:
    """Write how sure the alert is, from what its kind can prove."""
    kind = facts["kind"]
    if kind == "drift":
        return _drift_sure(facts)
    if kind == "slo":
        threshold = facts.get("detail", {}).get("threshold")
        limit = f"{number(threshold)} times the even pace" if is_number(threshold) else "the threshold"
        return f"sure: both windows burn over {limit}, the long one at 95 % confidence even without the worst device"
    if kind == "silence":
        return "sure: each has been quiet for over 3 h and twice its longest gap of 14 days"
    if facts["name"] == CRASH_LOOP:
        return "sure: counted from reported session ends, not estimated"
    interval = interval_text(facts)
    if facts["reason"] == "class":
        return "sure of its worst device class, whose 95 % interval excludes the target"
    return f"sure: the 95 % interval {interval} excludes the target" if interval else "one look, no interval"


def _drift_sure(facts: Mapping[str, Any]) -> str:
    detector = facts.get("detail", {}).get("sr") or {}
    e, threshold = detector.get("e"), detector.get("threshold")
    if not (is_number(e) and is_number(threshold) and threshold > 0):
        return "sure: the sequential detector alarms"
    ratio = e / threshold
    times = f"over {number(EVIDENCE_RATIO_MAX)}" if ratio > EVIDENCE_RATIO_MAX else number(ratio)
    return f"sure: the evidence is {times} times what an alarm needs, however often one looks"


def interval_text(facts: Mapping[str, Any]) -> str:
    """Write the interval as ``95.10 % to 96.40 %``, '' when there is none."""
    if not (is_number(facts.get("low")) and is_number(facts.get("high"))):
        return ""
    return f"{value_text(facts, facts['low'])} to {value_text(facts, facts['high'])}"


def affected_text(facts: Mapping[str, Any]) -> str:
    """Write how many devices, of how many when that is known."""
    affected, known = int(facts["affected"]), int(facts["known"])
    noun = "device" if affected == 1 else "devices"
    if facts["kind"] == "drift":
        return f"{affected:,} {noun} compared with themselves before"
    named_only = facts["kind"] == "crash_free" and facts["name"] != CRASH_LOOP
    least = "at least " if named_only and affected >= DEVICES_NAMED_MAX else ""
    return f"{least}{affected:,} of {known:,} devices" if known > affected else f"{least}{affected:,} {noun}"

"""The fixed shapes of the query API, made from rows of named queries."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

_CACHED: Final = 4096
_WORDS: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}

Row = Mapping[str, Any]


def number(value: float | None) -> float | str | None:
    """Return a number as JSON can carry it: NaN and infinities become the strings that OTLP/JSON uses."""
    if value is None or isinstance(value, int) or math.isfinite(value):
        return value
    return _WORDS.get(value, "NaN")


@lru_cache(_CACHED)
def _parsed(text: str) -> Any:
    return clean(json.loads(text))


def parsed(text: str | None) -> Any:
    """Return stored JSON; {} for none. The result is shared: do not change it."""
    return _parsed(text) if text else {}


def clean(value: Any) -> Any:
    """Return ``value`` without numbers that JSON cannot carry."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    return value


def _buckets(row: Row, side: str) -> dict[str, Any]:
    return {"offset": row[f"{side}_offset"] or 0, "counts": row[f"{side}_counts"]}


def point(row: Row) -> dict[str, Any]:
    """Return one datapoint exactly as stored."""
    kind = row["kind"]
    shape: dict[str, Any] = {
        "metric": row["metric"],
        "kind": kind,
        "unit": row["unit"],
        "temporality": row["temporality"],
        "monotonic": row["monotonic"],
        "device_id": row["device_id"],
        "resource": parsed(row["resource"]),
        "scope": {"name": row["scope_name"], "version": row["scope_version"]},
        "attributes": parsed(row["attributes"]),
        "start_ns": row["start_ns"],
        "time_ns": row["time_ns"],
        "received_ns": row["received_ns"],
    }
    if row["no_recorded_value"]:
        return {**shape, "value": None, "no_recorded_value": True}
    if kind in ("gauge", "sum"):
        whole = row["value_int"]
        return {**shape, "value": whole if whole is not None else number(row["value_double"])}
    shape["count"] = row["count"]
    for name in ("sum", "min", "max"):
        shape[name] = number(row[name])
    if kind == "histogram":
        shape["bounds"] = [number(bound) for bound in row["bounds"]]
        shape["counts"] = row["counts"]
    elif kind == "exponential_histogram":
        shape["scale"] = row["scale"]
        shape["zero_count"] = row["zero_count"]
        shape["zero_threshold"] = row["zero_threshold"]
        shape["positive"] = _buckets(row, "positive")
        shape["negative"] = _buckets(row, "negative")
    else:
        shape["quantiles"] = [
            {"q": number(q), "value": number(value)}
            for q, value in zip(row["quantiles"], row["quantile_values"], strict=True)
        ]
    return shape


def log(row: Row) -> dict[str, Any]:
    """Return one log record."""
    return {
        "time_ns": row["time_ns"],
        "observed_ns": row["observed_ns"],
        "received_ns": row["received_ns"],
        "device_id": row["device_id"],
        "event_name": row["event_name"],
        "severity_number": row["severity_number"],
        "severity_text": row["severity_text"],
        "body": row["body"],
        "trace_id": row["trace_id"],
        "span_id": row["span_id"],
        "attributes": parsed(row["attributes"]),
        "resource": parsed(row["resource"]),
    }


def device(row: Row) -> dict[str, Any]:
    """Return one device; completeness is windows received over windows due, null when it does not number them."""
    due = row["windows_due"]
    return {
        "device_id": row["device_id"],
        "first_seen_ns": row["first_seen_ns"],
        "last_seen_ns": row["last_seen_ns"],
        "resource": parsed(row["resource"]),
        "completeness": min(row["windows_received"] / due, 1.0) if due > 0 else None,
        "windows": {"received": row["windows_received"], "due": due},
        "cohort": parsed(row["cohort"]),
        "streams": row["streams"],
        "clock": {"offset_ns": row["clock_offset_ns"], "quality": row["clock_quality"]},
    }


_NAME_OF: Final = {"drift": "signal", "slo": "slo"}


def verdict(row: Row) -> dict[str, Any]:
    """Return one verdict row; its name stands under ``kpi``, ``signal`` or ``slo`` and under ``name``."""
    n = row["n"]
    return {
        "kind": row["kind"],
        "name": row["name"],
        _NAME_OF.get(row["kind"], "kpi"): row["name"],
        "model": row["model"],
        "version": row["version"],
        "cohort": parsed(row["cohort"]),
        "value": number(row["value"]),
        "low": number(row["low"]),
        "high": number(row["high"]),
        "n": int(n) if math.isfinite(n) and n == int(n) else number(n),
        "devices": row["devices"],
        "target": number(row["target"]),
        "verdict": row["verdict"],
        "reason": row["reason"],
        "completeness": number(row["completeness"]),
        "at_ns": row["at_ns"],
        "window": {"start_ns": row["window_start_ns"], "end_ns": row["window_end_ns"]},
        "detail": parsed(row["detail"]),
    }


def alert(row: Row) -> dict[str, Any]:
    """Return the newest state of one alert."""
    return {
        "id": row["alert_id"],
        "rule": row["rule"],
        "state": row["state"],
        "severity": row["severity"],
        "cohort": parsed(row["cohort"]),
        "summary": row["summary"],
        "onset_ns": row["onset_ns"],
        "since_ns": row["since_ns"],
        "devices": row["devices"],
        "evidence": parsed(row["evidence"]),
        "page_url": row["page_url"],
        "runbook_url": row["runbook_url"],
        "at_ns": row["at_ns"],
    }


def ledger_entry(row: Row) -> dict[str, Any]:
    """Return one entry of the alert ledger with the alert it is about (as it is now)."""
    return {
        **alert(row),
        "entry_id": row["entry_id"],
        "action": row["action"],
        "detail": _detail(row["detail"]),
        "time_ns": row["at_ns"],
        "written_ns": row["written_ns"],
    }


def _detail(text: str) -> Any:
    """Return a ledger entry's detail: JSON where it is JSON, else the text."""
    try:
        return parsed(text)
    except ValueError:
        return text


SIDES: Final = {-1: "negative", 0: "zero", 1: "positive", 2: "explicit"}


def distribution(row: Row) -> dict[str, Any]:
    """Return one bucket of a cohort's hour."""
    return {
        "hour_ns": row["hour_ns"],
        "tier": row["tier"],
        "cohort": parsed(row["cohort"]),
        "model": row["model"],
        "version": row["version"],
        "attributes": parsed(row["attributes"]),
        "side": SIDES[row["side"]],
        "scale": row["scale"],
        "bucket_index": row["bucket_index"],
        "n": row["n"],
    }

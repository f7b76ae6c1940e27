"""Accepting baselines on a running store: the body of ``POST /api/v1/admin/baselines``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from analytics.baseline import FIELD, GOLDEN
from analytics.drift_read import pin_field
from analytics.golden import from_payload
from analytics.signals import HOUR_NS
from collector.storage.base import Store

_FIELD_KEYS: Final = ("model", "version", "from_ns", "to_ns")


def baselines_handler(store: Store, clock_ns: Callable[[], int]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the admin handler.

    ``{"source": "field", "model", "version", "from_ns", "to_ns", "observed_model"?, "observed_version"?}`` pins a
    window of the fleet's own data (whole hours, of the observed version when given);
    ``{"source": "golden", "tables": {...}}`` stores what ``analytics.golden.to_payload`` made. The handler answers
    ``{"baseline_id", "source", "window": {...}, ...}`` and raises ``ValueError`` for what it cannot use.
    """

    def handle(body: Mapping[str, Any]) -> dict[str, Any]:
        source = body.get("source", FIELD)
        if source == FIELD:
            return _field(store, body, clock_ns())
        if source == GOLDEN:
            return _golden(store, body)
        raise ValueError(f"baseline source {source!r} is not known; use {FIELD!r} or {GOLDEN!r}")

    return handle


def _field(store: Store, body: Mapping[str, Any], now_ns: int) -> dict[str, Any]:
    missing = [name for name in _FIELD_KEYS if body.get(name) in (None, "")]
    if missing:
        raise ValueError(f"a field baseline needs {', '.join(missing)} too; times are epoch ns")
    key = (str(body["model"]), str(body["version"]))
    observed = (str(body.get("observed_model") or key[0]), str(body.get("observed_version") or key[1]))
    start_ns, end_ns = (_whole_hour(body, name) for name in ("from_ns", "to_ns"))
    if end_ns <= start_ns:
        raise ValueError(f"the window [{start_ns}, {end_ns}) holds no whole hour; give to_ns later than from_ns")
    known = {(row["model"], row["version"]): row for row in store.query("models").to_pylist()}
    devices = int(known[observed]["devices"]) if observed in known else 0
    head = pin_field(store, key, start_ns, end_ns, devices=devices, now_ns=now_ns, observed=observed)
    if head is None:
        seen = ", ".join(f"{model} {version}" for model, version in sorted(known)) or "none"
        raise ValueError(
            f"no signal of {observed[0]} {observed[1]} between {start_ns} and {end_ns} (epoch ns); "
            f"choose a window with data (model versions with data: {seen})"
        )
    return {
        "baseline_id": head.baseline_id,
        "source": FIELD,
        "model": head.model,
        "version": head.version,
        "observed": list(observed),
        "window": {"start_ns": head.start_ns, "end_ns": head.end_ns},
    }


def _whole_hour(body: Mapping[str, Any], name: str) -> int:
    value = body[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}={value!r} is not an integer of epoch ns")
    return value // HOUR_NS * HOUR_NS


def _golden(store: Store, body: Mapping[str, Any]) -> dict[str, Any]:
    payload = body.get("tables")
    if not isinstance(payload, Mapping):
        raise ValueError('a golden baseline needs "tables": the rows that `fleetpulse baseline build` made')
    tables = from_payload(payload)
    head = tables["baselines"].to_pylist()[0]
    if head["source"] != GOLDEN:
        raise ValueError(f"the head row says source {head['source']!r}; only {GOLDEN!r} tables may be sent")
    for name, table in tables.items():
        store.append(name, table)
    return {
        "baseline_id": head["baseline_id"],
        "source": GOLDEN,
        "model": head["model"],
        "version": head["version"],
        "window": {"start_ns": head["window_start_ns"], "end_ns": head["window_end_ns"]},
        "signals": tables["baseline_bins"].column("signal").to_pylist(),
    }

"""Reading for drift: signal rows of a stretch of hours, and references stored, pinned or provisional."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from analytics.baseline import (
    DAY_NS,
    FIELD,
    GOLDEN,
    Reference,
    StoredBaseline,
    baseline_id,
    build_field,
    from_tables,
    to_tables,
)
from analytics.drift_counts import Chunk, ModelVersion
from analytics.signals import HOUR_NS, SIGNAL_METRICS, SignalRows, signal_rows
from collector.storage.base import Parameter, Store
from device_sdk.contract.metrics import INFERENCE_DURATION

_ROWS_AT_ONCE: Final = 1_000_000
_ROWS_PER_DEVICE_HOUR: Final = 4


def read_chunks(
    store: Store, from_ns: int, to_ns: int, devices: int, model: str = "", version: str = ""
) -> Iterator[Chunk]:
    """Yield the signal rows of [from, to) in time order, few enough at once for memory whatever the fleet's size."""
    step_h = int(np.clip(_ROWS_AT_ONCE // max(devices * _ROWS_PER_DEVICE_HOUR, 1), 1, 24 * 35))
    for first_ns in range(from_ns, to_ns, step_h * HOUR_NS):
        end_ns = min(first_ns + step_h * HOUR_NS, to_ns)
        rows: dict[ModelVersion, list[SignalRows]] = {}
        for metric in SIGNAL_METRICS:
            table = store.query(
                "device_hours",
                {"metric": metric, "from_ns": first_ns, "to_ns": end_ns, "model": model, "version": version},
            )
            for one in signal_rows(metric, table):
                rows.setdefault((one.model, one.version), []).append(one)
        yield Chunk(first_ns, (end_ns - first_ns) // HOUR_NS, rows)


def steady_first_ns(store: Store, key: ModelVersion, first_ns: int, until_ns: int, days: int) -> int:
    """Return the hour from which a model version counts as present.

    That is its first hour, unless the ``days`` from there hold data on fewer than half of them: then a device with a
    wild clock came first, and the next hour with data after that window is tried.
    """
    while first_ns + days * DAY_NS < until_ns:
        end_ns = first_ns + days * DAY_NS
        if len({hour // DAY_NS for hour in _hours_with_data(store, key, first_ns, end_ns)}) >= days / 2:
            break
        later = _hours_with_data(store, key, end_ns, until_ns)
        if not later:
            break
        first_ns = min(later)
    return first_ns


def _hours_with_data(store: Store, key: ModelVersion, from_ns: int, to_ns: int) -> set[int]:
    model, version = key
    params: dict[str, Parameter] = {"metric": INFERENCE_DURATION.name, "from_ns": from_ns, "to_ns": to_ns}
    params |= {"model": model, "version": version}
    return set(store.query("device_hours", params).column("hour_ns").to_pylist())


def stored_baselines(store: Store, model: str, version: str) -> list[StoredBaseline]:
    """Return the baselines of a model version, newest written first, each once."""
    table = store.query("baselines", {"model": model, "version": version})
    rows = sorted(table.to_pylist(), key=lambda row: -int(row["written_ns"]))
    unique = {row["baseline_id"]: row for row in reversed(rows) if row["model"] == model and row["version"] == version}
    return [
        StoredBaseline(
            baseline_id=row["baseline_id"],
            model=row["model"],
            version=row["version"],
            source=row["source"],
            start_ns=int(row["window_start_ns"]),
            end_ns=int(row["window_end_ns"]),
            written_ns=int(row["written_ns"]),
        )
        for row in sorted(unique.values(), key=lambda row: -int(row["written_ns"]))
    ]


def load(store: Store, head: StoredBaseline) -> Reference:
    """Return a stored baseline with its bins and devices."""
    params = {"baseline_id": head.baseline_id}
    return from_tables(head, store.query("baseline_bins", params), store.query("baseline_devices", params))


def provisional(store: Store, key: ModelVersion, first_ns: int, hours: int, devices: int) -> Reference:
    """Return the reference of a model version's first hours, in memory only."""
    return _build(store, key, key, first_ns, first_ns + hours * HOUR_NS, devices, provisional=True)


def pin_field(
    store: Store,
    key: ModelVersion,
    start_ns: int,
    end_ns: int,
    *,
    devices: int,
    now_ns: int,
    observed: ModelVersion | None = None,
    detail: dict[str, Any] | None = None,
) -> StoredBaseline | None:
    """Build the field baseline of [start, end) for ``key`` and append it; a double run writes equal rows.

    ``observed`` is the model version whose data are used (the previous release), default ``key`` itself. Returns None,
    and writes nothing, when the window holds no signal at all.
    """
    reference = _build(store, key, observed or key, start_ns, end_ns, devices, provisional=False)
    if not reference.signals:
        return None
    note = {"observed": list(observed or key), "streams": reference.streams, **(detail or {})}
    for table, rows in to_tables(reference, note, now_ns).items():
        store.append(table, rows)
    return StoredBaseline(reference.baseline_id, key[0], key[1], FIELD, reference.start_ns, reference.end_ns, now_ns)


def _build(
    store: Store,
    key: ModelVersion,
    observed: ModelVersion,
    start_ns: int,
    end_ns: int,
    devices: int,
    *,
    provisional: bool,
) -> Reference:
    small = devices * _ROWS_PER_DEVICE_HOUR * (end_ns - start_ns) // HOUR_NS <= 2 * _ROWS_AT_ONCE
    kept = list(read_chunks(store, start_ns, end_ns, devices, *observed)) if small else None

    def again() -> Iterator[tuple[int, int, list[SignalRows]]]:
        for chunk in kept if kept is not None else read_chunks(store, start_ns, end_ns, devices, *observed):
            yield chunk.first_ns, chunk.hours, chunk.rows.get(observed, [])

    return build_field(again, model=key[0], version=key[1], start_ns=start_ns, end_ns=end_ns, provisional=provisional)


def choose(baselines: list[StoredBaseline], at_ns: int, reference_days: int) -> StoredBaseline | None:
    """Return the field baseline that judges ``at_ns``: its window is over; whole ones first, then newest written."""
    usable = [one for one in baselines if one.source == FIELD and one.end_ns < at_ns]
    whole = [one for one in usable if one.end_ns - one.start_ns >= reference_days * DAY_NS]
    return next(iter(whole or usable), None)


def golden(baselines: list[StoredBaseline]) -> StoredBaseline | None:
    """Return the newest golden baseline, or None."""
    return next((one for one in baselines if one.source == GOLDEN), None)


def pinned_id(key: ModelVersion, start_ns: int, end_ns: int) -> str:
    """Return the id the automatic reference of a window has."""
    return baseline_id(key[0], key[1], FIELD, start_ns, end_ns)

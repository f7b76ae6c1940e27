"""A real DuckDB store filled with the telemetry of a small fleet, as segments: one window a device and hour."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from collector.storage import open_store
from collector.storage.rows import SEGMENT_TABLES
from collector.storage.segment_file import write_segment
from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.buckets import U1_BOUNDS

HOUR = 3_600_000_000_000
START = 1_760_000_000_000_000_000 // (24 * HOUR) * (24 * HOUR)
GRID = "c=10;u=2"


@dataclass(frozen=True)
class Drift:
    """From hour ``onset`` on, the input of a tier moves by ``shift`` grid units (= sd inside a device and hour)."""

    tier: str
    onset: int
    shift: float
    until: int = 10**9


@dataclass(frozen=True)
class StoreFleet:
    """Devices by tier, hours of history, and what happens."""

    tiers: tuple[tuple[str, int], ...] = (("cam-v1", 14), ("cam-v2", 12))
    hours: int = 17 * 24
    rows: int = 24
    model: str = "digits"
    version: str = "3"
    drift: Drift | None = None
    seed: int = 7
    begin: int = 0
    epoch: int = START


def key(*parts: str) -> bytes:
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=16).digest()


def exponential(values: np.ndarray, scale: int = 3) -> tuple[int, list[int], int, list[int], int]:
    """Return (positive offset, counts, negative offset, counts, zero count) of values on their grid."""
    zero = int(np.sum(np.abs(values) <= 0.02))
    sides = []
    for sign in (1.0, -1.0):
        side = values[sign * values > 0.02] * sign
        index = np.ceil(np.log2(side) * 2**scale).astype(int) - 1
        low = int(index.min()) if index.size else 0
        sides.append((low, np.bincount(index - low).tolist() if index.size else []))
    return sides[0][0], sides[0][1], sides[1][0], sides[1][1], zero


def build(data_dir: Path, *fleets: StoreFleet):
    """Return a store that holds the fleets' raw points and roll-ups."""
    return store_of(data_dir, [tables(fleet) for fleet in fleets], max(fleet.hours for fleet in fleets))


def store_of(data_dir: Path, segments: list[dict[str, pa.Table]], hours: int):
    """Return a store of these segments, rolled up."""
    store = open_store(data_dir, clock_ns=lambda: START + hours * HOUR)
    (data_dir / "segments").mkdir(parents=True)
    paths = [data_dir / "segments" / f"{i:020d}-test-00000001.seg" for i in range(len(segments))]
    for path, one in zip(paths, segments, strict=True):
        write_segment(path, one)
    store.put(paths)
    store.recompute(store.dirty_hours(), (), 1)
    return store


def tables(fleet: StoreFleet) -> dict[str, pa.Table]:
    """Return the segment tables of the whole history."""
    identity = {a.MODEL_NAME: fleet.model, a.MODEL_VERSION: fleet.version}
    series = {
        "value": (m.INPUT_VALUE, {**identity, a.FEATURE_NAME: "mean", a.FEATURE_GRID: GRID}),
        "confidence": (m.OUTPUT_CONFIDENCE, {**identity, a.OUTPUT_NAME: "p"}),
        "duration": (m.INFERENCE_DURATION, identity),
        **{f"class-{c}": (m.OUTPUT_PREDICTIONS, {**identity, a.CLASS_NAME: c}) for c in ("cat", "dog", "owl")},
    }
    received = START + fleet.hours * HOUR
    columns: dict[str, list] = {name: [] for name in SEGMENT_TABLES["points"].names}
    devices = [(f"{tier}-{i:02d}", tier) for tier, count in fleet.tiers for i in range(count)]
    rng = np.random.default_rng(fleet.seed)
    for device, tier in devices:
        _device(rng, fleet, columns, device, tier, received)
    points = pa.table(columns, schema=SEGMENT_TABLES["points"])
    windows = (
        points.select(["stream", "start_ns", "time_ns", "received_ns"])
        .group_by(["stream", "start_ns", "time_ns", "received_ns"])
        .aggregate([])
    )
    none = pa.nulls(windows.num_rows, pa.int64())
    for name in ("sequence", "window_count", "window_points"):
        windows = windows.append_column(name, none)
    result = {
        "series": [_series(fleet, name, one, attributes) for name, (one, attributes) in series.items()],
        "resources": [{"resource": key("r", d), "attributes": "{}"} for d, _ in devices],
        "cohorts": [
            {"cohort": key("c", t), "attributes": json.dumps({a.TIER: t}), "tier": t, "region": "", "ring": "",
             "firmware": ""}
            for t, _ in fleet.tiers
        ],
        "streams": [
            {"stream": key("s", d), "device_id": d, "instance_id": d, "boot_id": "", "resource": key("r", d),
             "cohort": key("c", t), "first_received_ns": received}
            for d, t in devices
        ],
    }  # fmt: skip
    built = {name: pa.Table.from_pylist(rows, schema=SEGMENT_TABLES[name]) for name, rows in result.items()}
    return {**built, "points": points, "windows": windows.select(SEGMENT_TABLES["windows"].names).cast(
        SEGMENT_TABLES["windows"])}  # fmt: skip


def _series(fleet: StoreFleet, name: str, one: m.Instrument, attributes: dict[str, str]) -> dict:
    counter = one.kind is m.Kind.COUNTER
    return {
        "series": key(name, fleet.version),
        "metric": one.name,
        "kind": "sum" if counter else str(one.kind),
        "unit": one.unit,
        "temporality": "delta",
        "monotonic": counter,
        "scope_name": "device_sdk",
        "scope_version": "",
        "attributes": json.dumps(attributes, sort_keys=True),
        "bounds": list(one.bounds),
        "model": fleet.model,
        "version": fleet.version,
    }


def _device(rng, fleet: StoreFleet, columns: dict[str, list], device: str, tier: str, received: int) -> None:
    """Append the points of one device: on in 12 to 24 hours of the day, brighter at noon, with its own offset."""
    own = np.random.default_rng(list(device.encode()))
    offset, chance = own.normal(0, 0.4), own.uniform(0.5, 1.0)
    for hour in np.flatnonzero(rng.random(fleet.hours) < chance).tolist():
        if hour < fleet.begin:
            continue
        level = offset + 0.5 * np.sin(2 * np.pi * hour / 24)
        if fleet.drift and tier == fleet.drift.tier and fleet.drift.onset <= hour < fleet.drift.until:
            level += fleet.drift.shift
        n = fleet.rows
        start, end = fleet.epoch + hour * HOUR, fleet.epoch + (hour + 1) * HOUR
        base = {
            "stream": key("s", device), "resource": key("r", device), "cohort": key("c", tier),
            "start_ns": start, "time_ns": end, "received_ns": received, "no_recorded_value": False,
        }  # fmt: skip
        po, pc, no, nc, zero = exponential(rng.normal(level, 1.0, n))
        confidence = 1.0 / (1.0 + np.exp(-rng.normal(2.0 + offset, 1.0, n)))
        counts = np.bincount(np.searchsorted(U1_BOUNDS, confidence), minlength=len(U1_BOUNDS) + 1).tolist()
        exp = {"scale": 3, "zero_threshold": 0.02, "positive_offset": po, "positive_counts": pc,
               "negative_offset": no, "negative_counts": nc, "zero_count": zero, "count": n}  # fmt: skip
        plain = {"scale": 3, "zero_threshold": 0.0, "positive_offset": 0, "positive_counts": [n],
                 "negative_offset": 0, "negative_counts": [], "zero_count": 0, "count": n}  # fmt: skip
        rows = [("value", exp), ("duration", plain), ("confidence", {"counts": counts, "count": n})]
        rows += [
            (f"class-{c}", {"value_int": k})
            for c, k in zip(("cat", "dog", "owl"), rng.multinomial(n, [0.5, 0.3, 0.2]).tolist(), strict=True)
        ]
        for name, values in rows:
            row = {**base, "series": key(name, fleet.version), **values}
            for column, cells in columns.items():
                cells.append(row.get(column, [] if column in _LISTS else None))


_LISTS = ("positive_counts", "negative_counts", "counts", "quantiles", "quantile_values")

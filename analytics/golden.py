"""Golden references: a data set run through the SDK, its windows decoded like any device's, counted on pinned bins.

The caller runs the data set (``fleetpulse baseline build``) and hands over the decoded tables; here they take the
shape of ``device_hours`` and become a reference without devices, and the grids that its ``.signals.toml`` pins. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from analytics.baseline import GOLDEN, Reference, build_golden
from analytics.signals import HOUR_NS, SIGNAL_METRICS, signal_rows
from collector.storage.rows import APPEND_TABLES

BASELINE_TABLES: Final = ("baseline_bins", "baseline_devices", "baselines")
"""Tables of a baseline in the order in which they are written: the head last, so that a torn write is no baseline."""


def device_hours_of(segment: Mapping[str, pa.Table], metric: str) -> pa.Table:
    """Return decoded points of one metric (tables ``points`` and ``series`` of a segment) as ``device_hours`` rows."""
    series = {row["series"]: row for row in segment["series"].to_pylist() if row["metric"] == metric}
    rows = []
    for point in segment["points"].to_pylist():
        known = series.get(point["series"])
        if known is None or point["no_recorded_value"]:
            continue
        number = point["value_double"] if point["value_double"] is not None else point["value_int"]
        rows.append(
            {
                "hour_ns": (point["time_ns"] - 1) // HOUR_NS * HOUR_NS,
                "device_id": GOLDEN,
                "tier": "",
                "model": known["model"],
                "version": known["version"],
                "attributes": known["attributes"],
                "value": float(number or 0.0),
                "scale": point["scale"] or 0,
                "zero_count": point["zero_count"] or 0,
                "positive_offset": point["positive_offset"] or 0,
                "positive_counts": point["positive_counts"],
                "negative_offset": point["negative_offset"] or 0,
                "negative_counts": point["negative_counts"],
                "counts": point["counts"],
                "bounds": known["bounds"],
            }
        )
    return pa.Table.from_pylist(rows, schema=_SHAPE)


_SHAPE: Final = pa.schema(
    [
        ("hour_ns", pa.int64()), ("device_id", pa.string()), ("tier", pa.string()), ("model", pa.string()),
        ("version", pa.string()), ("attributes", pa.string()), ("value", pa.float64()), ("scale", pa.int16()),
        ("zero_count", pa.int64()), ("positive_offset", pa.int32()), ("positive_counts", pa.list_(pa.int64())),
        ("negative_offset", pa.int32()), ("negative_counts", pa.list_(pa.int64())),
        ("counts", pa.list_(pa.int64())), ("bounds", pa.list_(pa.float64())),
    ]
)  # fmt: skip


def golden_reference(segment: Mapping[str, pa.Table], model: str, version: str) -> Reference:
    """Return the golden reference of a model version from decoded SDK output.

    Raises ``ValueError`` when the output holds no signal of that model version.
    """
    rows = [
        one
        for metric in SIGNAL_METRICS
        for one in signal_rows(metric, device_hours_of(segment, metric))
        if (one.model, one.version) == (model, version)
    ]
    if not rows:
        seen = sorted({(row["model"], row["version"]) for row in segment["series"].to_pylist() if row["model"]})
        raise ValueError(
            f"the run recorded no signal of model {model!r} version {version!r} (models seen: {seen}); "
            "check the names given to wrap() and that the data set has rows"
        )
    times = segment["points"].column("time_ns").to_pylist()
    starts = segment["points"].column("start_ns").to_pylist()
    return build_golden(rows, model=model, version=version, start_ns=min(starts), end_ns=max(times))


def grids(reference: Reference) -> dict[str, tuple[float, float]]:
    """Return (centre, unit) of each input feature and of ``output:value``: the grid to pin, mean and sd.

    Rounded to three digits: a grid is a name as much as a number, and equal data sets should give equal grids.
    """
    result = {}
    for name, signal in reference.signals.items():
        if (name.startswith("input:") or name == "output:value") and signal.bins.spread > 0:
            unit = float(f"{signal.bins.spread:.3g}")
            result[name] = (float(f"{round(signal.bins.center / unit, 2) * unit:.6g}"), unit)
    return result


def to_payload(tables: Mapping[str, pa.Table]) -> dict[str, Any]:
    """Return baseline tables as JSON types: what ``POST /api/v1/admin/baselines`` takes under ``tables``."""
    return {name: tables[name].to_pylist() for name in BASELINE_TABLES}


def from_payload(payload: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Return the tables of ``to_payload``; raises ``ValueError`` that names the table when they do not fit."""
    tables = {}
    for name in BASELINE_TABLES:
        rows = payload.get(name)
        if not isinstance(rows, list):
            raise ValueError(f"baseline table {name!r} is missing; send the rows of {', '.join(BASELINE_TABLES)}")
        try:
            tables[name] = pa.Table.from_pylist(rows, schema=APPEND_TABLES[name])
            tables[name].validate(full=True)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise ValueError(f"baseline table {name!r} does not fit its schema: {error}") from error
        for column in APPEND_TABLES[name]:
            if not column.nullable and tables[name].column(column.name).null_count:
                raise ValueError(f"baseline table {name!r}: column {column.name!r} is missing in some rows")
    if tables["baselines"].num_rows != 1:
        raise ValueError(f"a baseline has exactly one head row, got {tables['baselines'].num_rows}")
    return tables

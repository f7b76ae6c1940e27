"""Job ``latency``: p50, p95 and p99 of inference by model version, for the fleet and by device class, every hour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl
import pyarrow as pa

from analytics import grids, rows, runner
from analytics.job import Job
from analytics.latency import merge_frame, quantiles
from analytics.options import HOUR_NS, AnalyticsOptions
from analytics.targets import Target, load_targets, target_for
from collector.storage.base import Parameter, Store
from device_sdk.contract import attributes as a
from device_sdk.contract.metrics import INFERENCE_DURATION

QUANTILES: Final = (0.5, 0.95, 0.99)
NAMES: Final = ("latency_p50", "latency_p95", "latency_p99")
NEEDED: Final = 20
"""Runs below which a 95 % quantile is the slowest run and nothing more: 1 / (1 - 0.95)."""

_CELLS: Final = ("hour_ns", "tier", "model", "version", "attributes", "side", "scale", "bucket_index", "n")
_DEVICES: Final = ("hour_ns", "device_id", "tier", "model", "version", "attributes", "count")
_KEYS: Final = ("hour_ns", "model", "version")


def _succeeded(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of runs that succeeded: a failed run's time says nothing about speed."""
    failed = f'"{a.ERROR_TYPE}":'
    return frame.filter(~pl.col("attributes").str.contains(failed, literal=True))


def _verdict(n: int, low: float, high: float, target: float | None) -> tuple[str, str]:
    """Return verdict and reason; the bucket that holds the quantile must lie wholly on one side of the target."""
    if n < NEEDED:
        return "insufficient", "evidence"
    if target is None:
        return "insufficient", "no_target"
    if low >= target:
        return "missed", ""
    if high <= target:
        return "met", ""
    return "insufficient", "resolution"


def _detail(frame: pl.DataFrame) -> tuple[dict[str, Any], Any, int] | None:
    histogram = merge_frame(frame)
    if histogram is None:
        return None
    found = quantiles(histogram, QUANTILES)
    detail = {f"p{round(item.q * 100)}": item.value for item in found}
    bounds = {f"p{round(item.q * 100)}": [item.low, item.high] for item in found}
    return {**detail, "bounds": bounds, "error": histogram.error, "scale": histogram.scale}, found, histogram.total


def compute(
    cells: pa.Table, devices: pa.Table, instants: Sequence[int], targets: Sequence[Target], now_ns: int
) -> pa.Table:
    """Return the verdicts of ``instants`` from ``distribution_hours`` and ``device_hours`` rows of durations."""
    found = rows.VerdictRows("latency", now_ns)
    wanted = {at_ns - HOUR_NS for at_ns in instants}
    buckets = _succeeded(grids.to_frame(cells, _CELLS)).filter(pl.col("model") != "")
    heard = _succeeded(grids.to_frame(devices, _DEVICES)).filter(pl.col("count") > 0)
    for by_tier in (True, False):
        keys = [*_KEYS, "tier"] if by_tier else list(_KEYS)
        counted = heard.group_by(keys).agg(pl.col("device_id").n_unique().alias("devices"))
        known = {tuple(row[:-1]): int(row[-1]) for row in counted.select([*keys, "devices"]).rows()}
        for key, part in sorted(buckets.partition_by(keys, as_dict=True).items()):
            hour_ns, model, version = key[:3]
            tier = str(key[3]) if by_tier else ""
            judged = _detail(part) if hour_ns in wanted and (tier or not by_tier) else None
            if judged is None:
                continue
            detail, values, n = judged
            at_ns = int(hour_ns) + HOUR_NS
            goals = [target_for(targets, name, model=model, version=version, tier=tier) for name in NAMES]
            shown = {name: goal for name, goal in zip(NAMES, goals, strict=True) if goal is not None}
            p95 = values[1]
            verdict, reason = _verdict(n, p95.low, p95.high, goals[1])
            found.add(
                at_ns=at_ns, name=NAMES[1], model=model, version=version,
                cohort=rows.cohort_of({a.TIER: tier}) if tier else rows.FLEET, value=p95.value, low=p95.low,
                high=p95.high, n=n, devices=known.get(tuple(key), 0), target=goals[1], verdict=verdict, reason=reason,
                window_ns=(at_ns - HOUR_NS, at_ns), detail={**detail, "targets": shown},
            )  # fmt: skip
    return found.table()


def run(store: Store, options: AnalyticsOptions, from_ns: int, until_ns: int, now_ns: int) -> pa.Table:
    """Judge every hour of (from, until]."""
    instants = list(JOB.instants(from_ns, until_ns))
    if not instants:
        return rows.empty()
    span: dict[str, Parameter] = {
        "metric": INFERENCE_DURATION.name, "from_ns": instants[0] - HOUR_NS, "to_ns": instants[-1],
        "model": "", "version": "",
    }  # fmt: skip
    cells = store.query("distribution_hours", span).select(list(_CELLS))
    devices = store.query("device_hours", span).select(list(_DEVICES))
    return runner.call(compute, cells, devices, instants, load_targets(options), now_ns)


JOB: Final = Job("latency", HOUR_NS, run)

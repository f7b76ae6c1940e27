"""Job ``kpi``: inference failures, completeness of telemetry, and devices reporting, every hour over the last day."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from analytics import grids, rows, runner
from analytics.grids import HourGrid
from analytics.job import Job
from analytics.options import DAY_NS, HOUR_NS, AnalyticsOptions
from analytics.stability import Estimate, design_effect, device_sums, judge, rolling
from analytics.targets import Target, load_targets, target_for
from collector.errors import UnknownQueryError
from collector.storage.base import Store
from device_sdk.contract import attributes as a
from device_sdk.contract.metrics import INFERENCE_DURATION

log: Final = logging.getLogger(__name__)

FAILURES: Final = "inference_failure_rate"
COMPLETENESS: Final = "telemetry_completeness"
REPORTING: Final = "devices_reporting"
FAILURE_HOURS: Final = 24
KNOWN_DAYS: Final = 7
"""A device that was heard within a week is one that should report."""

_RUNS: Final = ("hour_ns", "device_id", "tier", "model", "version", "attributes", "count")
_SEQUENCES: Final = ("device_id", "stream", "tier", "time_ns", "sequence", "window_count")
_EMPTY_SEQUENCES: Final = pa.schema(
    [
        ("device_id", pa.string()), ("stream", pa.string()), ("tier", pa.string()), ("time_ns", pa.int64()),
        ("sequence", pa.int64()), ("window_count", pa.int64()),
    ]
)  # fmt: skip


def _add(
    found: rows.VerdictRows, estimate: Estimate, name: str, at_ns: int, hours: int, devices: int,
    target: float | None, detail: dict[str, Any], *, cohort: str = rows.FLEET, model: str = "", version: str = "",
) -> None:  # fmt: skip
    if estimate.needed is not None and estimate.n_effective < estimate.needed:
        detail = {**detail, "needed": estimate.needed, "more_needed": estimate.needed - estimate.n_effective}
    found.add(
        at_ns=at_ns, name=name, verdict=estimate.verdict, reason=estimate.reason, value=estimate.value,
        low=estimate.low, high=estimate.high, n=estimate.n, devices=devices, target=target,
        window_ns=(at_ns - hours * HOUR_NS, at_ns), detail={**detail, "n_effective": estimate.n_effective},
        cohort=cohort, model=model, version=version,
    )  # fmt: skip


def _failure_selections(frame: pl.DataFrame) -> list[tuple[pl.DataFrame, dict[str, str], str]]:
    """Return (rows, row identity, tier) of the fleet, each device class and each version of a model."""
    chosen: list[tuple[pl.DataFrame, dict[str, str], str]] = [(frame, {}, "")]
    chosen += [
        (group.select(frame), {"cohort": group.cohort}, group.tier)
        for group in grids.groups_of(frame.with_columns(pl.lit("").alias("firmware")), firmware=False)
        if group.tier
    ]
    for model, version in frame.select("model", "version").unique().sort("model", "version").rows():
        if model:
            part = frame.filter((pl.col("model") == model) & (pl.col("version") == version))
            chosen.append((part, {"model": model, "version": version}, ""))
    return chosen


def failures(
    found: rows.VerdictRows, runs: pa.Table, instants: Sequence[int], options: AnalyticsOptions,
    targets: Sequence[Target],
) -> None:  # fmt: skip
    """Add the share of runs that ended in an error over the last day, devices as clusters."""
    frame = grids.to_frame(runs, _RUNS).filter(pl.col("count") > 0)
    base_ns = instants[0] - FAILURE_HOURS * HOUR_NS
    grid = HourGrid(base_ns, (instants[-1] - base_ns) // HOUR_NS)
    failed = pl.col("attributes").str.contains(f'"{a.ERROR_TYPE}":', literal=True)
    frame = grid.inside(frame).with_columns(pl.when(failed).then(pl.col("count")).otherwise(0).alias("failed"))
    columns = np.array([grid.column(at_ns) for at_ns in instants])
    for part, where, tier in _failure_selections(frame):
        names, total = grid.matrix(part, "device_id", "count")
        bad = rolling(grid.filled(part, names, "device_id", "failed"), FAILURE_HOURS)[:, columns]
        size = rolling(total, FAILURE_HOURS)[:, columns]
        sums = device_sums(bad, size)
        deff = design_effect(sums, 1.0, np.zeros(len(instants)))
        selector = {key: value for key, value in where.items() if key != "cohort"}
        target = target_for(targets, FAILURES, tier=tier, **selector)
        for position, at_ns in enumerate(instants):
            n = float(sums.h[position])
            if n <= 0 and where:
                continue
            estimate = judge(
                float(sums.k[position]), n, float(deff[position]), target, confidence=options.confidence,
                lower_is_better=True,
            )  # fmt: skip
            worst = np.argsort(-bad[:, position], kind="stable")[:20]
            detail = {
                "failed": int(sums.k[position]),
                "deff": float(deff[position]),
                "failing_devices": [names[i] for i in worst if bad[i, position] > 0],
            }
            _add(found, estimate, FAILURES, at_ns, FAILURE_HOURS, int(sums.devices[position]), target, detail, **where)


def _hour_cells(sequences: pa.Table) -> pl.DataFrame:
    """Return, by stream and hour, the base windows received and the span of their numbers."""
    frame = grids.to_frame(sequences, _SEQUENCES).filter(pl.col("sequence").is_not_null())
    count = pl.col("window_count").fill_null(1)
    return frame.group_by(
        ((pl.col("time_ns") - 1) // HOUR_NS * HOUR_NS).alias("hour_ns"), "device_id", "stream", "tier"
    ).agg(
        count.sum().alias("received"),
        (pl.col("sequence") - count + 1).min().alias("first"),
        pl.col("sequence").max().alias("last"),
    )


def completeness(
    found: rows.VerdictRows, sequences: pa.Table, instants: Sequence[int], options: AnalyticsOptions,
    targets: Sequence[Target],
) -> None:  # fmt: skip
    """Add the base windows received over those due by their sequence numbers, by device class.

    Due are the numbers between the first and last heard of each stream in the window: what was lost at the end of a
    stream shows as a device that does not report, not here.
    """
    cells = _hour_cells(sequences)
    hours = options.completeness_hours
    for at_ns in instants:
        inside = cells.filter((pl.col("hour_ns") >= at_ns - hours * HOUR_NS) & (pl.col("hour_ns") < at_ns))
        streams = inside.group_by("stream", "device_id", "tier").agg(
            pl.col("received").sum(), (pl.col("last").max() - pl.col("first").min() + 1).alias("due")
        )
        streams = streams.with_columns(pl.min_horizontal("received", "due"))
        for group in grids.groups_of(streams.with_columns(pl.lit("").alias("firmware")), firmware=False):
            part = group.select(streams)
            received, due = int(part.get_column("received").sum()), int(part.get_column("due").sum())
            devices = part.get_column("device_id").n_unique()
            by_device = part.group_by("device_id").agg(pl.col("due").sum(), pl.col("received").sum()).sort("device_id")
            size = by_device.get_column("due").to_numpy().astype(np.int64).reshape(-1, 1)
            bad = size - by_device.get_column("received").to_numpy().astype(np.int64).reshape(-1, 1)
            deff = float(design_effect(device_sums(bad, size), 1.0, np.zeros(1))[0])
            target = target_for(targets, COMPLETENESS, tier=group.tier)
            estimate = judge(received, due, deff, target, confidence=options.confidence)
            detail = {"received": received, "due": due, "deff": deff}
            _add(found, estimate, COMPLETENESS, at_ns, hours, devices, target, detail, cohort=group.cohort)


def reporting(
    found: rows.VerdictRows, heard: pa.Table, instants: Sequence[int], options: AnalyticsOptions,
    targets: Sequence[Target],
) -> None:  # fmt: skip
    """Add the devices heard over the last day among those heard within a week, by device class."""
    frame = grids.to_frame(heard, ("device_id", "tier", "hour_ns"))
    hours = options.completeness_hours
    for at_ns in instants:
        known = frame.filter((pl.col("hour_ns") >= at_ns - KNOWN_DAYS * DAY_NS) & (pl.col("hour_ns") < at_ns))
        # a device that changed its class is one device, of the class it has now
        newest = known.sort("hour_ns", "tier").group_by("device_id").last()
        for group in grids.groups_of(newest.with_columns(pl.lit("").alias("firmware")), firmware=False):
            part = group.select(newest)
            silent = part.filter(pl.col("hour_ns") < at_ns - hours * HOUR_NS).get_column("device_id").sort()
            n = part.height
            target = target_for(targets, REPORTING, tier=group.tier)
            estimate = judge(n - len(silent), n, 1.0, target, confidence=options.confidence)
            detail = {"known": n, "unheard": silent.to_list()[:20]}
            _add(found, estimate, REPORTING, at_ns, hours, n, target, detail, cohort=group.cohort)


def compute(
    runs: pa.Table, sequences: pa.Table, heard: pa.Table, instants: Sequence[int], options: AnalyticsOptions,
    targets: Sequence[Target], now_ns: int,
) -> pa.Table:  # fmt: skip
    """Return the verdicts of ``instants`` from run counts, window numbers and the hours in which devices were heard."""
    found = rows.VerdictRows("kpi", now_ns)
    failures(found, runs, instants, options, targets)
    completeness(found, sequences, instants, options, targets)
    reporting(found, heard, instants, options, targets)
    return found.table()


def _sequences(store: Store, from_ns: int, to_ns: int) -> pa.Table:
    try:
        table = store.query("window_sequences", {"from_ns": from_ns, "to_ns": to_ns})
    except UnknownQueryError:
        log.debug("this store cannot tell window numbers (query window_sequences): completeness stays no_data")
        return _EMPTY_SEQUENCES.empty_table()
    return table.select(list(_SEQUENCES))


def _heard(store: Store, from_ns: int, to_ns: int) -> pa.Table:
    """Return (device_id, tier, hour_ns) of the hours in which a window of the device ended."""
    sessions = store.query("session_hours", {"from_ns": from_ns, "to_ns": to_ns})
    frame = grids.to_frame(sessions, ("device_id", "tier", "hour_ns", "observed_s"))
    heard: pa.Table = frame.filter(pl.col("observed_s") > 0).select("device_id", "tier", "hour_ns").unique().to_arrow()
    return heard


def run(store: Store, options: AnalyticsOptions, from_ns: int, until_ns: int, now_ns: int) -> pa.Table:
    """Judge every hour of (from, until]."""
    instants = list(JOB.instants(from_ns, until_ns))
    if not instants:
        return rows.empty()
    runs = store.query(
        "device_hours",
        {
            "metric": INFERENCE_DURATION.name, "from_ns": instants[0] - FAILURE_HOURS * HOUR_NS,
            "to_ns": instants[-1], "model": "", "version": "",
        },
    )  # fmt: skip
    sequences = _sequences(store, instants[0] - options.completeness_hours * HOUR_NS + 1, instants[-1] + 1)
    heard = _heard(store, instants[0] - KNOWN_DAYS * DAY_NS, instants[-1])
    return runner.call(
        compute, runs.select(list(_RUNS)), sequences, heard, instants, options, load_targets(options), now_ns
    )


JOB: Final = Job("kpi", HOUR_NS, run)

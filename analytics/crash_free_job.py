"""Job ``crash_free``: crash-free device-time, sessions and devices, and firmware whose devices crash in loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from analytics import grids, rows, runner
from analytics.grids import Group, HourGrid
from analytics.job import Job
from analytics.options import DAY_NS, HOUR_NS, AnalyticsOptions
from analytics.stability import (
    INSUFFICIENT,
    MET,
    MISSED,
    DeviceSums,
    Estimate,
    Ints,
    Reals,
    design_effect,
    device_sums,
    intraclass_correlation,
    judge,
    rolling,
)  # fmt: skip
from analytics.targets import Target, load_targets, target_for
from collector.storage.base import Store

HISTORY_DAYS: Final = 30
"""Days that the devices' history, and with it the design effect of quiet weeks, is estimated over."""

LIST_MAX: Final = 20
"""Most devices that a row names."""

_COLUMNS: Final = ("hour_ns", "device_id", "tier", "firmware", "observed_s", "starts", "expected_ends",
                   "unexpected_ends")  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Cohort:
    """One cohort's matrices (devices x hours): seconds observed and bad, crashes, sessions begun and ended."""

    names: list[str]
    observed: Ints
    bad: Ints
    crashes: Ints
    starts: Ints
    ends: Ints


@dataclass(frozen=True, slots=True)
class _Ratio:
    """One crash-free ratio at every instant: sums over devices, trials, good trials, design effect."""

    name: str
    sums: DeviceSums
    n: Reals
    good: Reals
    deff: Reals


def _cohort(frame: pl.DataFrame, grid: HourGrid) -> _Cohort:
    names, seconds = grid.matrix(frame, "device_id", "observed")
    crashes = grid.filled(frame, names, "device_id", "unexpected_ends")
    ends = crashes + grid.filled(frame, names, "device_id", "expected_ends")
    starts = grid.filled(frame, names, "device_id", "starts")
    # an hour known only by its crash was lived in: it counts a second, never nothing
    observed = np.maximum(seconds, (crashes > 0).astype(np.int64))
    return _Cohort(names, observed, np.where(crashes > 0, observed, 0), crashes, starts, ends)


def _history(bad: Ints, size: Ints, grid: HourGrid, instants: Sequence[int], unit: float) -> Reals:
    """Return the intraclass correlation of the 30 days before each instant's day (0 on the first day)."""
    total_bad = np.concatenate([np.zeros((len(bad), 1), np.int64), np.cumsum(bad, axis=1)], axis=1)
    total = np.concatenate([np.zeros((len(size), 1), np.int64), np.cumsum(size, axis=1)], axis=1)
    known: dict[int, float] = {}
    values = np.zeros(len(instants))
    for position, at_ns in enumerate(instants):
        day = at_ns // DAY_NS
        if day not in known:
            end = min(max((day * DAY_NS - grid.base_ns) // HOUR_NS, 0), grid.hours)
            start = max(end - HISTORY_DAYS * 24, 0)
            known[day] = intraclass_correlation(
                (total_bad[:, end] - total_bad[:, start]) / unit, (total[:, end] - total[:, start]) / unit
            )
        values[position] = known[day]
    return values


def _ratios(cohort: _Cohort, grid: HourGrid, instants: Sequence[int], window_hours: int) -> list[_Ratio]:
    """Return device-time, sessions and devices over the window that ends at each instant."""
    columns = np.array([grid.column(at_ns) for at_ns in instants])
    observed, bad, crashes, starts, ends = (
        rolling(matrix, window_hours)[:, columns]
        for matrix in (cohort.observed, cohort.bad, cohort.crashes, cohort.starts, cohort.ends)
    )
    seen = observed > 0
    sessions = np.maximum(np.maximum(starts, ends), seen.astype(np.int64))
    hours = device_sums(bad, observed)
    units = device_sums(crashes, sessions)
    devices = device_sums((crashes > 0).astype(np.int64), seen.astype(np.int64))
    per_hour = np.maximum(np.maximum(cohort.starts, cohort.ends), (cohort.observed > 0).astype(np.int64))
    ones = np.ones(len(instants))
    deff_hours = design_effect(hours, 3600.0, _history(cohort.bad, cohort.observed, grid, instants, 3600.0))
    deff_units = design_effect(units, 1.0, _history(cohort.crashes, per_hour, grid, instants, 1.0))
    return [
        _Ratio("crash_free_time", hours, hours.h / 3600, (hours.h - hours.k) / 3600, deff_hours),
        _Ratio("crash_free_sessions", units, units.h.astype(float), (units.h - units.k).astype(float), deff_units),
        _Ratio("crash_free_devices", devices, devices.h.astype(float), (devices.h - devices.k).astype(float), ones),
    ]


def _worst(names: Sequence[str], counts: Ints, least: int) -> list[str]:
    """Return the devices with at least ``least``, the worst first, at most ``LIST_MAX``."""
    order = np.lexsort((np.arange(len(counts)), -counts))[:LIST_MAX]
    return [names[position] for position in order if counts[position] >= least]


class _Reasons:
    """Unexpected ends by reason, over the window that ends at an instant."""

    def __init__(self, frame: pl.DataFrame, grid: HourGrid) -> None:
        self._names, matrix = grid.matrix(frame, "reason", "n")
        self._total = np.concatenate([np.zeros((len(matrix), 1), np.int64), np.cumsum(matrix, axis=1)], axis=1)

    def at(self, column: int, window: int) -> dict[str, int]:
        counts = self._total[:, column + 1] - self._total[:, max(column + 1 - window, 0)]
        return {name: int(count) for name, count in zip(self._names, counts, strict=True) if count}


def _reason_hours(events: pa.Table) -> pl.DataFrame:
    """Return (hour_ns, tier, firmware, reason, n) of unexpected session ends."""
    frame = grids.to_frame(events, ("time_ns", "event_name", "reason", "expected", "tier", "firmware"))
    frame = frame.filter((pl.col("event_name") == "session.end") & ~pl.col("expected"))
    return frame.select(
        ((pl.col("time_ns") - 1) // HOUR_NS * HOUR_NS).alias("hour_ns"),
        "tier",
        "firmware",
        pl.when(pl.col("reason") == "").then(pl.lit("unknown")).otherwise(pl.col("reason")).alias("reason"),
        pl.lit(1, dtype=pl.Int64).alias("n"),
    )


@dataclass(frozen=True, slots=True)
class _Context:
    grid: HourGrid
    instants: Sequence[int]
    options: AnalyticsOptions
    targets: Sequence[Target]


def _row(
    found: rows.VerdictRows, context: _Context, group: Group, ratio: _Ratio, position: int, extra: dict[str, Any],
    worst: dict[str, Any] | None,
) -> Estimate:  # fmt: skip
    at_ns, options = context.instants[position], context.options
    target = target_for(context.targets, ratio.name, tier=group.tier, firmware=group.firmware)
    deff = float(ratio.deff[position])
    estimate = judge(float(ratio.good[position]), float(ratio.n[position]), deff, target, confidence=options.confidence)
    detail = {**extra, "deff": deff, "n_effective": estimate.n_effective}
    if estimate.needed is not None and estimate.n_effective < estimate.needed:
        detail["needed"] = estimate.needed
        detail["hours_needed" if ratio.name == "crash_free_time" else "more_needed"] = (
            estimate.needed - estimate.n_effective
        ) * max(deff, 1.0)
    verdict, reason = estimate.verdict, estimate.reason
    if worst is not None:
        detail["worst_class"] = worst
        if worst["verdict"] == MISSED and verdict in (MET, INSUFFICIENT):
            # device class first: a fleet-wide figure is never good while a class of enough devices is bad
            verdict, reason = MISSED, "class"
    found.add(
        at_ns=at_ns, name=ratio.name, cohort=group.cohort, verdict=verdict, reason=reason, value=estimate.value,
        low=estimate.low, high=estimate.high, n=estimate.n, devices=int(ratio.sums.devices[position]), target=target,
        window_ns=(at_ns - options.crash_window_hours * HOUR_NS, at_ns), detail=detail,
    )  # fmt: skip
    return estimate


def _loop_rows(found: rows.VerdictRows, context: _Context, group: Group, cohort: _Cohort) -> None:
    """Add the ``crash_loop`` rows of one firmware: devices with many unexpected ends within a few hours."""
    options = context.options
    crashes = rolling(cohort.crashes, options.crash_loop_hours)
    observed = rolling(cohort.observed, options.crash_loop_hours)
    for at_ns in context.instants:
        column = context.grid.column(at_ns)
        known = int((observed[:, column] > 0).sum())
        if not known:
            continue
        looping = int((crashes[:, column] >= options.crash_loop_ends).sum())
        verdict, reason = MET, ""
        if looping >= options.crash_loop_devices:
            verdict = MISSED
        elif looping:
            verdict, reason = INSUFFICIENT, "one_device"
        found.add(
            at_ns=at_ns, name="crash_loop", cohort=group.cohort, verdict=verdict, reason=reason, value=looping,
            n=known, devices=looping, target=0.0,
            window_ns=(at_ns - options.crash_loop_hours * HOUR_NS, at_ns),
            detail={
                "looping_devices": _worst(cohort.names, crashes[:, column], options.crash_loop_ends),
                "observed_devices": known,
                "ends": int(crashes[:, column].sum()),
            },
        )  # fmt: skip


def _judge_group(
    found: rows.VerdictRows, context: _Context, group: Group, cohort: _Cohort, reasons: _Reasons,
    worst: dict[tuple[str, int], dict[str, Any]],
) -> None:  # fmt: skip
    window, options = context.options.crash_window_hours, context.options
    ratios = _ratios(cohort, context.grid, context.instants, window)
    crashes = rolling(cohort.crashes, window)
    for position, at_ns in enumerate(context.instants):
        if not ratios[0].sums.devices[position]:
            if group == Group():
                window_ns = (at_ns - window * HOUR_NS, at_ns)
                found.add(at_ns=at_ns, name="crash_free_time", verdict="no_data", window_ns=window_ns)
            continue
        column = context.grid.column(at_ns)
        total = int(crashes[:, column].sum())
        extra: dict[str, Any] = {"crashes": total, "device_hours": float(ratios[0].n[position])}
        if total:
            extra["crashing_devices"] = _worst(cohort.names, crashes[:, column], 1)
            extra["looping_devices"] = _worst(cohort.names, crashes[:, column], options.crash_loop_ends)
            extra["reasons"] = reasons.at(column, window)
        for ratio in ratios:
            fleet = group == Group()
            shown = worst.get((ratio.name, position)) if fleet else None
            estimate = _row(found, context, group, ratio, position, extra, shown)
            if group.tier and not group.firmware and estimate.value is not None:
                known = worst.get((ratio.name, position))
                if known is None or _badness(estimate.verdict, estimate.value) < _badness(
                    known["verdict"], known["value"]
                ):
                    worst[ratio.name, position] = {
                        "cohort": {grids.TIER: group.tier}, "value": estimate.value, "verdict": estimate.verdict,
                    }  # fmt: skip


def _badness(verdict: str, value: float) -> tuple[int, float]:
    return (0 if verdict == MISSED else 1, value)


def compute(
    hours: pa.Table, events: pa.Table, instants: Sequence[int], options: AnalyticsOptions, targets: Sequence[Target],
    now_ns: int,
) -> pa.Table:  # fmt: skip
    """Return the verdicts of ``instants`` from ``session_hours`` and ``session_events`` rows that cover the history."""
    found = rows.VerdictRows("crash_free", now_ns)
    base_ns = (instants[0] - (HISTORY_DAYS + 1) * DAY_NS) // HOUR_NS * HOUR_NS
    grid = HourGrid(base_ns, (instants[-1] - base_ns) // HOUR_NS)
    frame = grid.inside(grids.to_frame(hours, _COLUMNS)).with_columns(
        pl.col("observed_s").fill_nan(0).ceil().cast(pl.Int64).alias("observed")
    )
    reason_hours = grid.inside(_reason_hours(events))
    context = _Context(grid, instants, options, targets)
    worst: dict[tuple[str, int], dict[str, Any]] = {}
    for group in grids.groups_of(frame):
        cohort = _cohort(group.select(frame), grid)
        _judge_group(found, context, group, cohort, _Reasons(group.select(reason_hours), grid), worst)
        if group.firmware and not group.tier:
            _loop_rows(found, context, group, cohort)
    return found.table()


def run(store: Store, options: AnalyticsOptions, from_ns: int, until_ns: int, now_ns: int) -> pa.Table:
    """Judge every hour of (from, until]."""
    instants = list(JOB.instants(from_ns, until_ns))
    if not instants:
        return rows.empty()
    start_ns = instants[0] - (HISTORY_DAYS + 1) * DAY_NS
    hours = store.query("session_hours", {"from_ns": start_ns, "to_ns": until_ns})
    events_ns = instants[0] - options.crash_window_hours * HOUR_NS
    events = store.query("session_events", {"from_ns": events_ns, "to_ns": until_ns + 1})
    targets = load_targets(options)
    return runner.call(compute, hours.select(list(_COLUMNS)), events, instants, options, targets, now_ns)


JOB: Final = Job("crash_free", HOUR_NS, run)

"""Job ``silence``: which devices of a class fell silent, whenever that changes and once an hour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from analytics import daycache, grids, rows, runner
from analytics.job import Job
from analytics.options import DAY_NS, HOUR_NS, MINUTE_NS, AnalyticsOptions
from analytics.silence import RUN_SCHEMA, Habits, Spell, known_at, runs, spells, with_goodbyes
from collector.storage.base import Store
from device_sdk.contract import attributes as a

GRID_NS: Final = 5 * MINUTE_NS
LIST_MAX: Final = 20
NAME: Final = "silent_devices"
LOOKBACKS: Final = 3
"""How many lookbacks are read: one to the last window, one over its gaps, one to see where the first gap began."""

_SCHEMA: Final = {**RUN_SCHEMA, "tier": pl.String}


def habits_of(options: AnalyticsOptions) -> Habits:
    """Return the rule that the options describe."""
    return Habits(
        int(options.silence_floor_hours * HOUR_NS),
        int(options.silence_rest_hours * HOUR_NS),
        options.silence_factor,
        options.silence_lookback_days * DAY_NS,
    )


def _load(store: Store, start_ns: int, end_ns: int) -> pl.DataFrame:
    """Return the runs of (start, end] with each device's class."""
    span = {"from_ns": start_ns + 1, "to_ns": end_ns + 1}
    windows = grids.to_frame(store.query("device_windows", span), ("device_id", "start_ns", "time_ns"))
    if windows.is_empty():
        return pl.DataFrame(schema=dict(_SCHEMA))
    hours = store.query("session_hours", {"from_ns": start_ns // HOUR_NS * HOUR_NS, "to_ns": end_ns})
    known = grids.to_frame(hours, ("device_id", "tier", "hour_ns", "expected_ends")).sort("hour_ns")
    tiers = known.group_by("device_id").last()
    found = with_goodbyes(runs(windows), known.filter(pl.col("expected_ends") > 0))
    joined = found.join(tiers.select("device_id", "tier"), on="device_id", how="left")
    return joined.with_columns(pl.col("tier").fill_null("")).select(
        [pl.col(name).cast(kind) for name, kind in _SCHEMA.items()]
    )


def _class_rows(
    found: rows.VerdictRows, tier: str, silent: Sequence[Spell], known: np.ndarray, instants: Sequence[int],
    habits: Habits,
) -> None:  # fmt: skip
    """Add a row at each instant at which the silent devices of a class differ from the instant before."""
    grid = np.asarray(instants, dtype=np.int64)
    begins = -(-np.array([spell.begin_ns for spell in silent], dtype=np.int64) // GRID_NS) * GRID_NS
    ends = -(-np.array([spell.end_ns for spell in silent], dtype=np.int64) // GRID_NS) * GRID_NS
    real = ends > begins
    changes = set(begins[real].tolist()) | set(ends[real].tolist())
    cohort = rows.cohort_of({a.TIER: tier}) if tier else rows.FLEET
    for position, at_ns in enumerate(instants):
        appeared = known[position] > 0 and position > 0 and known[position - 1] == 0
        if not (at_ns in changes or at_ns % HOUR_NS == 0 or appeared):
            continue
        now = np.flatnonzero(real & (begins <= grid[position]) & (ends > grid[position]))
        if not known[position] and not len(now):
            continue
        # the longest silent first: a list cut at 20 keeps those that matter
        devices = sorted((silent[int(i)] for i in now), key=lambda spell: (spell.heard_ns, spell.device_id))
        n = int(known[position])
        found.add(
            at_ns=at_ns, name=NAME, cohort=cohort, value=len(devices) / n if n else None, n=n, devices=len(devices),
            verdict="missed" if devices else "met", target=0.0, window_ns=(at_ns - habits.lookback_ns, at_ns),
            detail={
                "silent": [spell.device_id for spell in devices[:LIST_MAX]],
                "since_ns": min((spell.heard_ns for spell in devices), default=None),
                "last_heard_ns": [spell.heard_ns for spell in devices[:LIST_MAX]],
            },
        )  # fmt: skip


def compute(found_runs: pl.DataFrame, instants: Sequence[int], habits: Habits, now_ns: int) -> pa.Table:
    """Return the verdicts of ``instants`` from runs of windows that reach back three times the lookback."""
    found = rows.VerdictRows("silence", now_ns)
    newest = found_runs.sort("end_ns").group_by("device_id").agg(pl.col("tier").filter(pl.col("tier") != "").last())
    classed = found_runs.drop("tier").join(newest, on="device_id").with_columns(pl.col("tier").fill_null(""))
    # one instant more, so that a class that appears with the first one is seen to appear
    for tier in classed.get_column("tier").unique().sort().to_list():
        part = classed.filter(pl.col("tier") == tier)
        at = [instants[0] - GRID_NS, *instants]
        rows_before = rows.VerdictRows("silence", now_ns)
        _class_rows(rows_before, tier, spells(part, habits), known_at(part, habits, at), at, habits)
        found.extend(rows_before, after_ns=instants[0] - 1)
    return found.table()


def run(store: Store, options: AnalyticsOptions, from_ns: int, until_ns: int, now_ns: int) -> pa.Table:
    """Judge every 5-minute instant of (from, until]."""
    instants = list(JOB.instants(from_ns, until_ns))
    if not instants:
        return rows.empty()
    habits = habits_of(options)
    start_ns = (instants[0] - LOOKBACKS * habits.lookback_ns) // DAY_NS * DAY_NS
    frame = daycache.read(
        "silence", start_ns, from_ns, instants[-1], lambda begin_ns, end_ns: _load(store, begin_ns, end_ns)
    )
    return runner.call(compute, frame, instants, habits, now_ns)


JOB: Final = Job("silence", GRID_NS, run)

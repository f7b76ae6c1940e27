"""How far judgement may go and where each job stands, read from the store."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from analytics.options import HOUR_NS, MINUTE_NS, SECOND_NS, AnalyticsOptions
from collector.storage.base import Store
from collector.storage.rows import JOB_RUNS

__all__ = ["JOB_RUNS", "SLOT_NS", "WALL_CLOCK_JOBS", "first_ns", "horizon_ns", "until_ns", "wall_horizon_ns"]

SLOT_NS: Final = 5 * MINUTE_NS
"""The finest grid of judgement: an SLI slot."""

WALL_CLOCK_JOBS: Final = frozenset({"silence"})
"""Jobs that go on when no data comes: that nobody speaks can only be seen against the wall clock."""

LIVE_NS: Final = HOUR_NS
"""Data is live, not a replay of history, when its newest event was less than this old as it arrived."""


def _value(table: pa.Table, column: str) -> Any:
    """Return the first row's value, None for no row."""
    return table.column(column)[0].as_py() if table.num_rows else None


def horizon_ns(store: Store, options: AnalyticsOptions, now_ns: int, until_ns: int | None) -> int | None:
    """Return the last instant that may be judged (event time, on the grid), None when the store holds no data.

    Without ``until_ns``: the fleet's watermark, or everything that had arrived a grace ago, whichever is later. Never
    beyond the newest data.
    """
    mark = store.query("watermark", {"quantile": options.watermark_quantile})
    newest, watermark = _value(mark, "max_time_ns"), _value(mark, "watermark_ns")
    if newest is None:
        return None
    if until_ns is None:
        grace_ns = int(options.wall_grace_s * SECOND_NS)
        settled = _value(store.query("max_time_received_before", {"received_ns": now_ns - grace_ns}), "max_time_ns")
        until_ns = max(watermark or 0, settled or 0)
    horizon = min(until_ns, newest) // SLOT_NS * SLOT_NS
    return int(horizon) if horizon > 0 else None


def wall_horizon_ns(store: Store, options: AnalyticsOptions, now_ns: int) -> int:
    """Return the last instant that silence may be judged at by the wall clock, 0 when it may not.

    That is so once nothing at all has arrived for a grace, although what came last was live: while anything arrives,
    event time goes on by itself, and a fleet that is just sending its backlog must not be called silent.
    """
    mark = store.query("watermark", {"quantile": options.watermark_quantile})
    newest, received = _value(mark, "max_time_ns"), _value(mark, "max_received_ns")
    quiet_ns = now_ns - int(options.wall_grace_s * SECOND_NS)
    if newest is None or received is None or received > quiet_ns or abs(received - newest) > LIVE_NS:
        return 0
    return int(quiet_ns // SLOT_NS * SLOT_NS)


def until_ns(store: Store, job: str) -> int | None:
    """Return the instant up to which a job is done, None when it never was."""
    value = _value(store.query("job_progress", {"job": job}), "until_ns")
    return None if value is None else int(value)


def first_ns(store: Store, at_ns: int, lookback_ns: int) -> int | None:
    """Return the hour of the oldest data that a first run judges, None when there is none."""
    table = store.query("device_activity", {"at_ns": at_ns, "lookback_ns": lookback_ns})
    firsts = [value for value in table.column("first_ns").to_pylist() if value is not None]
    if not firsts:
        return None
    return max(int(min(firsts)), at_ns - lookback_ns) // HOUR_NS * HOUR_NS

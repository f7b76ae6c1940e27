# ruff: noqa: S608  (what is interpolated into SQL here are constants of this package; values are parameters)
"""What is kept how long, and the freezing of arrival days that makes dropping raw points safe.

An arrival day freezes one day before its raw points go: until then the first copies of the day before are whole, so
every recompute sees all copies it must judge (research/clickhouse.md section 3, five rules).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import duckdb

from collector.storage.clocks import hour_of, on_event_time
from collector.storage.put import DAY_NS, SPREAD_NS

_ARRIVED: Final = "received_ns >= $cut and received_ns < $new_cut"
_UNROLLED: Final = f"""
select count(*) from (
    select time_ns from {on_event_time("points", "true", also=_ARRIVED)} union all
    select time_ns from {on_event_time("logs", "event_name = 'session.end'", also=_ARRIVED)}) p
where {hour_of("p.time_ns")} in (select hour_ns from dirty)"""


@dataclass(frozen=True, slots=True)
class Retention:
    """Days each kind of row is kept: raw by arrival, roll-ups by arrival day, the rest by when it was written."""

    raw_days: int = 4
    ledger_days: int = 45
    log_days: int = 90
    device_hour_days: int = 35
    roll_up_days: int = 400
    judgement_days: int = 400
    outcome_days: int = 90

    def __post_init__(self) -> None:
        if self.raw_days < 2:
            raise ValueError(f"raw_days is {self.raw_days}; copies are judged for a day, so keep raw points 2 or more")
        if self.ledger_days < self.raw_days:
            raise ValueError(f"ledger_days is {self.ledger_days}, less than raw_days {self.raw_days}")


def unfrozen_ns(connection: duckdb.DuckDBPyConnection) -> int:
    """Return the first instant of the first arrival day that is not frozen."""
    newest = connection.execute("select max(arrival_day) from arrival_days").fetchall()[0][0]
    return 0 if newest is None else (int(newest) + 1) * DAY_NS


def expire(connection: duckdb.DuckDBPyConnection, now_ns: int, keep: Retention) -> int:
    """Freeze, then drop, inside the caller's transaction; return the rows dropped.

    Nothing is frozen while one of its hours still waits for a roll-up.
    """
    today = now_ns // DAY_NS
    dropped = _freeze_and_drop_raw(connection, today, now_ns, keep)
    by_time = (
        ("windows", "received_ns", keep.ledger_days),
        ("logs", "received_ns", keep.log_days),
        ("ingest_outcomes", "at_ns", keep.outcome_days),
        ("verdicts", "written_ns", keep.judgement_days),
        ("alert_states", "written_ns", keep.judgement_days),
        ("alert_ledger", "written_ns", keep.judgement_days),
    )
    for table, column, days in by_time:
        dropped += _delete(connection, f"delete from {table} where {column} < $before", now_ns - days * DAY_NS)
    by_day = (
        ("device_hours", keep.device_hour_days),
        ("sli_bad_devices", keep.device_hour_days),
        ("distribution_hours", keep.roll_up_days),
        ("session_hours", keep.roll_up_days),
        ("sli_minutes", keep.roll_up_days),
        ("contributions", keep.roll_up_days),
    )
    for table, days in by_day:
        dropped += _delete(connection, f"delete from {table} where arrival_day < $before", today - days)
    return dropped


def _freeze_and_drop_raw(connection: duckdb.DuckDBPyConnection, today: int, now_ns: int, keep: Retention) -> int:
    cut = unfrozen_ns(connection)
    freeze_before = today - keep.raw_days + SPREAD_NS // DAY_NS
    new_cut = freeze_before * DAY_NS
    if new_cut > cut:
        waiting = connection.execute(_UNROLLED, {"cut": cut, "new_cut": new_cut}).fetchall()[0][0]
        if waiting:
            return 0
        connection.execute(
            "insert into arrival_days (arrival_day, state, at_ns) values ($day, 'frozen', $at)",
            {"day": freeze_before - 1, "at": now_ns},
        )
    frozen = unfrozen_ns(connection) - SPREAD_NS
    return _delete(
        connection, "delete from points where received_ns < $before", min((today - keep.raw_days) * DAY_NS, frozen)
    )


def _delete(connection: duckdb.DuckDBPyConnection, sql: str, before: int) -> int:
    row = connection.execute(sql, {"before": before}).fetchall()
    return int(row[0][0]) if row else 0

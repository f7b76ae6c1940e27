# ruff: noqa: S608  (what is interpolated into SQL here are constants of this package; values are parameters)
"""Storing segments exactly once: dictionaries, ledger, points, logs and dirty hours in one transaction.

A point's key is (stream, series, start, time), a log's is its uid; the first copy stored wins. The ledger row of a
window (stream, start, time) tells in one look whether a copy can exist at all, so new windows skip the search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from collector.storage import boots, clocks, rows

DAY_NS: Final = 86_400_000_000_000
HOUR_NS: Final = 3_600_000_000_000
SPREAD_NS: Final = DAY_NS
"""A copy that arrives later than this after its window was first seen is dropped: its twin may be gone from raw."""

_POINT_COLUMNS: Final = ", ".join(rows.POINTS.names)
_LOG_COLUMNS: Final = ", ".join(rows.LOGS.names)
_VALUE_COLUMNS: Final = [
    "no_recorded_value", "value_int", "value_double", "count", "sum", "min", "max", "scale", "zero_count",
    "zero_threshold", "positive_offset", "positive_counts", "negative_offset", "negative_counts", "counts",
    "quantiles", "quantile_values",
]  # fmt: skip
_DIFFERS: Final = "(" + " or ".join(f"a.{name} is distinct from b.{name}" for name in _VALUE_COLUMNS) + ")"

_DICTIONARIES: Final = {"series": "series", "resources": "resource", "cohorts": "cohort", "streams": "stream"}

_WINDOWS: Final = """
create or replace temp table t_windows as
select stream, start_ns, time_ns, min(received_ns) as received_ns,
       max(case when sequence between 0 and 9007199254740992 then sequence end) as sequence,
       max(case when window_count between 1 and 1000000000 then window_count end) as window_count,
       max(case when window_points between 0 and 1000000000 then window_points end) as window_points
from b_windows group by stream, start_ns, time_ns"""
_KNOWN: Final = """
create or replace temp table t_known as
select w.stream, w.start_ns, w.time_ns, w.received_ns, w.sequence is null and t.sequence is not null as unnumbered
from windows w join t_windows t on w.stream = t.stream and w.start_ns = t.start_ns and w.time_ns = t.time_ns
where w.time_ns between $low and $high"""
_NEW_WINDOWS: Final = """
insert into windows (stream, start_ns, time_ns, received_ns, sequence, window_count, window_points)
select * from t_windows t where not exists (
    select 1 from t_known k where k.stream = t.stream and k.start_ns = t.start_ns and k.time_ns = t.time_ns)"""
_NUMBER_WINDOWS: Final = """
update windows set sequence = t.sequence, window_count = t.window_count, window_points = t.window_points
from t_windows t
where windows.stream = t.stream and windows.start_ns = t.start_ns and windows.time_ns = t.time_ns
  and windows.sequence is null and t.sequence is not null and windows.time_ns between $low and $high"""

_TWINS: Final = """
select count(*) from (
    select 1 from b_points group by stream, series, start_ns, time_ns having count(*) > 1)"""
_JUDGED: Final = """
create or replace temp table t_judged as
select p.i, p.received_ns - coalesce(k.received_ns, t.received_ns, p.received_ns) > $spread as late,
       k.stream is not null as known, row_number() over w as rank, first_value(p.i) over w as winner
from b_points p
left join t_windows t on t.stream = p.stream and t.start_ns = p.start_ns and t.time_ns = p.time_ns
left join t_known k on k.stream = p.stream and k.start_ns = p.start_ns and k.time_ns = p.time_ns
window w as (partition by p.stream, p.series, p.start_ns, p.time_ns order by p.received_ns, p.i)"""
_STORED: Final = f"""
create or replace temp table t_stored as
select b.i, {_DIFFERS} as conflict
from t_judged j join b_points b on b.i = j.i
join points a on a.stream = b.stream and a.series = b.series and a.start_ns = b.start_ns and a.time_ns = b.time_ns
where j.known and a.time_ns between $low and $high"""
_FATE: Final = f"""
create or replace temp table t_fate as
select b.i, b.stream, case
    when j.late then 'late'
    when s.i is not null then case when s.conflict then 'conflict' else 'duplicate' end
    when j.rank > 1 then case when {_DIFFERS} then 'conflict' else 'duplicate' end
    else 'new' end as fate
from t_judged j join b_points b on b.i = j.i join b_points a on a.i = j.winner left join t_stored s on s.i = j.i"""

_NEW_LOGS: Final = f"""
create or replace temp table t_logs as
select {_LOG_COLUMNS} from b_logs l where not exists (select 1 from logs x where x.uid = l.uid)
qualify row_number() over (partition by uid order by received_ns, i) = 1"""
_DIRTY: Final = f"""
insert into dirty
select distinct {clocks.hour_of(clocks.moved("b.time_ns", "coalesce(x.offset_ns, 0)"))}, $now
from <rows> b left join shifted x on x.stream = b.stream where b.time_ns < {clocks.JUDGEABLE_NS}"""

KNOWN_MAX: Final = 1_000_000
"""Most ids of a dictionary that are remembered; beyond, remembering starts anew."""


class KnownIds:
    """Dictionary ids that are certainly stored: every segment repeats its rows, so nearly all of a batch's are.

    Not thread-safe; used under the store's write lock. An id counts as stored only once ``committed`` was called.
    """

    def __init__(self) -> None:
        self._known: dict[str, pa.Array] = {}
        self._pending: dict[str, pa.Array] = {}

    def unknown(self, table: str, rows_: pa.Table) -> pa.Table:
        """Return the rows of dictionary ``table`` whose ids are not known yet, and remember them for the commit."""
        ids = rows_.column(_DICTIONARIES[table])
        known = self._known.get(table)
        if known is not None:
            rows_ = rows_.filter(pc.invert(pc.is_in(ids, value_set=known)))
            ids = rows_.column(_DICTIONARIES[table])
        if rows_.num_rows:
            self._pending[table] = pc.unique(ids)
        return rows_

    def committed(self) -> None:
        """Take what the last batch stored as known."""
        for table, ids in self._pending.items():
            known = self._known.get(table)
            whole = ids if known is None else pa.concat_arrays([known, ids])
            self._known[table] = whole if len(whole) <= KNOWN_MAX else ids
        self._pending = {}

    def rolled_back(self) -> None:
        """Forget what the last batch would have stored."""
        self._pending = {}


@dataclass(slots=True)
class Counts:
    """What became of one batch."""

    points: int = 0
    duplicates: int = 0
    conflicts: int = 0
    late: int = 0
    logs: int = 0
    duplicate_logs: int = 0


def _numbered(table: pa.Table) -> pa.Table:
    return table.append_column("i", pa.array(range(table.num_rows), pa.int64()))


def restamped(table: pa.Table, before_ns: int, now_ns: int) -> pa.Table:
    """Return ``table`` with every arrival before ``before_ns`` moved to ``now_ns``.

    Arrival days before it are frozen. What was acknowledged then but reaches the store only now arrives today.
    """
    column = table.column("received_ns")
    if not table.num_rows or pc.min(column).as_py() >= before_ns:
        return table
    moved = pc.if_else(pc.less(column, before_ns), pa.scalar(now_ns, pa.int64()), column)
    return table.set_column(table.schema.get_field_index("received_ns"), table.schema.field("received_ns"), moved)


def _count(connection: duckdb.DuckDBPyConnection, sql: str, params: Mapping[str, int] | None = None) -> int:
    row = connection.execute(sql, params).fetchall()[0]
    return int(row[0])


def put_tables(
    connection: duckdb.DuckDBPyConnection,
    tables: Mapping[str, pa.Table],
    known: KnownIds,
    *,
    unfrozen_ns: int,
    now_ns: int,
) -> Counts:
    """Store the tables of some segments inside the caller's transaction; return what became of each row.

    ``unfrozen_ns`` is the first instant of the first arrival day that is not frozen; ``now_ns`` marks dirty hours.
    """
    counts = Counts()
    tables = {name: known.unknown(name, table) if name in _DICTIONARIES else table for name, table in tables.items()}
    registered = []
    try:
        for name, table in tables.items():
            source = table
            if "received_ns" in table.schema.names:
                source = restamped(table, unfrozen_ns, now_ns)
            if name in ("points", "logs"):
                source = _numbered(source)
            connection.register(f"b_{name}", source)
            registered.append(f"b_{name}")
        _put_dictionaries(connection, tables)
        devices = set(clocks.learn(connection, tables["points"], now_ns))
        if devices:
            clocks.restate(connection, bounded=False, since_ns=unfrozen_ns - SPREAD_NS, now_ns=now_ns)
        if tables["points"].num_rows or tables["windows"].num_rows:
            _put_points(connection, tables, counts, now_ns)
        if tables["logs"].num_rows:
            _put_logs(connection, tables["logs"].num_rows, counts, now_ns)
            devices.update(boots.number(connection))
        devices.update(tables["streams"].column("device_id").to_pylist())
        if boots.place(connection, sorted(devices), now_ns):
            clocks.restate(connection, bounded=True, since_ns=unfrozen_ns - SPREAD_NS, now_ns=now_ns)
    finally:
        for name in registered:
            connection.unregister(name)
    return counts


def _put_dictionaries(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, pa.Table]) -> None:
    for table, key in _DICTIONARIES.items():
        if not tables[table].num_rows:
            continue
        order = "first_received_ns" if table == "streams" else key
        names = ", ".join(rows.SEGMENT_TABLES[table].names)
        connection.execute(
            f"insert into {table} ({names}) select {names} from b_{table} b "
            f"where not exists (select 1 from {table} x where x.{key} = b.{key}) "
            f"qualify row_number() over (partition by {key} order by {order}) = 1"
        )


def _put_points(
    connection: duckdb.DuckDBPyConnection, tables: Mapping[str, pa.Table], counts: Counts, now_ns: int
) -> None:
    total = tables["points"].num_rows
    times = [pc.min_max(tables[name].column("time_ns")).as_py() for name in ("windows", "points")]
    span = {
        "low": min(bound["min"] for bound in times if bound["min"] is not None),
        "high": max(bound["max"] for bound in times if bound["max"] is not None),
    }
    connection.execute(_WINDOWS)
    connection.execute(_KNOWN, span)
    known, unnumbered = connection.execute(
        "select count(*), count(*) filter (where unnumbered) from t_known"
    ).fetchall()[0]
    connection.execute(_NEW_WINDOWS)
    if unnumbered:
        connection.execute(_NUMBER_WINDOWS, span)
    if not total:
        return
    if not known and not _count(connection, _TWINS) and not _spreads(tables["points"]):
        connection.execute(f"insert into points ({_POINT_COLUMNS}) select {_POINT_COLUMNS} from b_points")
        connection.execute(_DIRTY.replace("<rows>", "b_points"), {"now": now_ns})
        counts.points += total
        return
    _put_suspicious(connection, span, counts, now_ns)


def _spreads(points: pa.Table) -> bool:
    """Return whether the batch itself spans more than the time in which copies of a window are taken."""
    bounds = pc.min_max(points.column("received_ns")).as_py()
    return bool(bounds["max"] - bounds["min"] > SPREAD_NS)


def _put_suspicious(
    connection: duckdb.DuckDBPyConnection, span: Mapping[str, int], counts: Counts, now_ns: int
) -> None:
    """Store a batch that may hold copies: judge each point first."""
    connection.execute(_JUDGED, {"spread": SPREAD_NS})
    connection.execute(_STORED, span)
    connection.execute(_FATE)
    connection.execute(
        f"insert into points ({_POINT_COLUMNS}) "
        f"select {_POINT_COLUMNS} from b_points b semi join (select i from t_fate where fate = 'new') f on f.i = b.i"
    )
    new = "(select * from b_points where i in (select i from t_fate where fate = 'new'))"
    connection.execute(_DIRTY.replace("<rows>", new), {"now": now_ns})
    connection.execute(
        "insert into ingest_outcomes (at_ns, stream, reason, n) "
        "select $now, stream, fate, count(*) from t_fate where fate <> 'new' group by stream, fate",
        {"now": now_ns},
    )
    for fate, number in connection.execute("select fate, count(*) from t_fate group by fate").fetchall():
        if fate == "new":
            counts.points += number
        elif fate == "late":
            counts.late += number
        elif fate == "conflict":
            counts.conflicts += number
        else:
            counts.duplicates += number


def _put_logs(connection: duckdb.DuckDBPyConnection, total: int, counts: Counts, now_ns: int) -> None:
    connection.execute(_NEW_LOGS)
    new = _count(connection, "select count(*) from t_logs")
    counts.logs += new
    counts.duplicate_logs += total - new
    if new:
        connection.execute(f"insert into logs ({_LOG_COLUMNS}) select {_LOG_COLUMNS} from t_logs")
        ends = "(select * from t_logs where event_name = 'session.end')"
        connection.execute(_DIRTY.replace("<rows>", ends), {"now": now_ns})
    if total > new:
        connection.execute(
            "insert into ingest_outcomes (at_ns, stream, reason, n) "
            "select $now, b.stream, 'duplicate_log', b.n - coalesce(t.n, 0) "
            "from (select stream, count(*) as n from b_logs group by stream) b "
            "left join (select stream, count(*) as n from t_logs group by stream) t on t.stream = b.stream "
            "where b.n > coalesce(t.n, 0)",
            {"now": now_ns},
        )

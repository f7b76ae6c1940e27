# ruff: noqa: S608  (what is interpolated into SQL here are constants of this package; values are parameters)
"""Roll-ups of whole hours from deduplicated raw points: nothing is ever added, so nothing is added twice.

A contribution is keyed (event hour, arrival day, generation). An hour is always recomputed for all arrival days that
are not frozen, in one transaction, and replaces what they held before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from collector.storage import sli
from collector.storage.base import SliSpec
from collector.storage.clocks import hour_of, on_event_time
from collector.storage.fold import (
    Buckets,
    Ints,
    Lists,
    common_scale,
    exploded,
    fold_buckets,
    group_ids,
    ints,
    lists,
    totals,
)
from collector.storage.put import DAY_NS, HOUR_NS
from device_sdk.contract import metrics as m

DEVICE_HOUR_METRICS: Final = tuple(
    instrument.name
    for instrument in (
        m.INFERENCE_DURATION, m.INFERENCE_SAMPLES, m.INPUT_VALUE, m.INPUT_OBSERVATIONS, m.OUTPUT_CONFIDENCE,
        m.OUTPUT_ENTROPY, m.OUTPUT_MARGIN, m.OUTPUT_PREDICTIONS, m.OUTPUT_VALUE,
    )
)  # fmt: skip
"""Metrics rolled up by device and hour; the histograms among them by cohort, too."""

CHUNK_POINTS: Final = 300_000
"""Histogram points folded at once: about 250 MB of arrays."""

WIDTH_MAX: Final = 1024
"""Most buckets a side of a device's hour holds; at scale 4 they span a factor of 2**64."""

COUNT_MAX: Final = 2**44
VALUE_MAX: Final = 1e15
SCALE_MIN, SCALE_MAX = -20, 40
"""A point beyond these is nonsense. It is stored and shown, but must not overflow what its fleet is judged by."""

_TABLES: Final = ("device_hours", "distribution_hours", "session_hours", "sli_minutes", "sli_bad_devices")
HOUR_OF: Final = hour_of("p.time_ns")
DAY_OF: Final = f"cast((p.received_ns - p.received_ns % {DAY_NS}) / {DAY_NS} as integer)"

_SPAN: Final = "<t> > $low and <t> <= $high"
POINTS: Final = on_event_time("points", _SPAN, also="received_ns >= $cut", shifted="r_shifted")
LOGS: Final = on_event_time("logs", _SPAN, also="received_ns >= $cut", shifted="r_shifted")
_SHIFTED: Final = "create or replace temp table r_shifted as select stream, offset_ns from shifted"

_METRIC_LIST: Final = ", ".join(f"'{name}'" for name in DEVICE_HOUR_METRICS)
_SERIES: Final = f"""
create or replace temp table r_series as
select rowid as sid, series, kind in ('histogram', 'exponential_histogram') as bucketed
from series where temporality = 'delta' and metric in ({_METRIC_LIST})"""
_STREAMS: Final = """
create or replace temp table r_streams as
select stream, device_id, min(rowid) over (partition by device_id) as did from streams"""
_COHORTS: Final = "create or replace temp table r_cohorts as select rowid as cid, cohort from cohorts"
_DEVICES: Final = "create or replace temp table r_devices as select distinct did, device_id from r_streams"
_PARTS: Final = f"""
create or replace temp table r_parts as
select {HOUR_OF} as hour_ns, {DAY_OF} as arrival_day, count(*) as n
from {POINTS} p where {HOUR_OF} in (select hour_ns from r_hours)
group by 1, 2
union all
select {HOUR_OF}, {DAY_OF}, 0 from {LOGS} p where {HOUR_OF} in (select hour_ns from r_hours)
group by 1, 2"""

_FROM: Final = f"""
from {POINTS} p
join r_series s on s.series = p.series
join r_streams st on st.stream = p.stream
join r_cohorts c on c.cohort = p.cohort
where not p.no_recorded_value and {HOUR_OF} in (select hour_ns from r_hours)
  and coalesce(p.count, 0) <= {COUNT_MAX} and coalesce(p.scale, 0) between {SCALE_MIN} and {SCALE_MAX}"""
_NUMBERS: Final = f"""
insert into device_hours
select x.hour_ns, x.arrival_day, $gen, d.device_id, c.cohort, s.series, x.value, 0, 0, 0, 0, [], 0, [], []
from (
    select {HOUR_OF} as hour_ns, {DAY_OF} as arrival_day, st.did, c.cid, s.sid,
           sum(coalesce(p.value_double, p.value_int)) as value
    {_FROM} and not s.bucketed and abs(coalesce(p.value_double, p.value_int)) <= {VALUE_MAX}
    group by 1, 2, 3, 4, 5) x
join r_devices d on d.did = x.did join r_cohorts c on c.cid = x.cid join r_series s on s.sid = x.sid"""
_HISTOGRAMS: Final = f"""
select {HOUR_OF} as hour_ns, {DAY_OF} as arrival_day, st.did, c.cid, s.sid, p.count, coalesce(p.scale, 0) as scale,
       coalesce(p.zero_count, 0) as zero_count, coalesce(p.positive_offset, 0) as positive_offset, p.positive_counts,
       coalesce(p.negative_offset, 0) as negative_offset, p.negative_counts, p.counts
{_FROM} and s.bucketed"""
_INSERT_DEVICE_HOURS: Final = """
insert into device_hours
select x.hour_ns, x.arrival_day, $gen, d.device_id, c.cohort, s.series, 0, x.count, x.scale, x.zero_count,
       x.positive_offset, x.positive_counts, x.negative_offset, x.negative_counts, x.counts
from b_folded x
join r_devices d on d.did = x.did join r_cohorts c on c.cid = x.cid join r_series s on s.sid = x.sid"""
_INSERT_DISTRIBUTIONS: Final = """
insert into distribution_hours
select x.hour_ns, x.arrival_day, $gen, c.cohort, s.series, x.side, x.scale, x.bucket_index, x.n
from b_exploded x join r_cohorts c on c.cid = x.cid join r_series s on s.sid = x.sid"""

_EXPECTED: Final = """json_extract_string(p.attributes, '$."edge.session.end.expected"') = 'true'"""
_SESSION_VALUE: Final = "coalesce(p.value_double, p.value_int)"
_SESSIONS: Final = f"""
insert into session_hours
select hour_ns, arrival_day, $gen, device_id, cohort, sum(observed_s), cast(sum(starts) as bigint),
       cast(sum(expected_ends) as bigint), cast(sum(unexpected_ends) as bigint)
from (
    select {HOUR_OF} as hour_ns, {DAY_OF} as arrival_day, st.device_id, p.cohort,
           case when s.metric = '{m.SESSION_TIME.name}' then {_SESSION_VALUE} else 0 end as observed_s,
           case when s.metric = '{m.SESSION_STARTS.name}' then {_SESSION_VALUE} else 0 end as starts,
           0 as expected_ends, 0 as unexpected_ends
    from {POINTS} p join series s on s.series = p.series join r_streams st on st.stream = p.stream
    where s.metric in ('{m.SESSION_TIME.name}', '{m.SESSION_STARTS.name}') and s.temporality = 'delta'
      and not p.no_recorded_value and {HOUR_OF} in (select hour_ns from r_hours) and {_SESSION_VALUE} between 0 and 1e9
    union all
    select {HOUR_OF}, {DAY_OF}, st.device_id, p.cohort, 0, 0,
           case when {_EXPECTED} then 1 else 0 end, case when {_EXPECTED} then 0 else 1 end
    from {LOGS} p join r_streams st on st.stream = p.stream
    where p.event_name = 'session.end' and {HOUR_OF} in (select hour_ns from r_hours)
) x group by hour_ns, arrival_day, device_id, cohort"""


def recompute(
    connection: duckdb.DuckDBPyConnection, hours: Sequence[int], slis: Sequence[SliSpec], gen: int, *, unfrozen_ns: int
) -> int:
    """Roll ``hours`` (starts, ns) up inside the caller's transaction; return the rows written."""
    connection.register("b_hours", pa.table({"hour_ns": pa.array(sorted(set(hours)), pa.int64())}))
    try:
        connection.execute("create or replace temp table r_hours as select hour_ns from b_hours")
    finally:
        connection.unregister("b_hours")
    span = {"low": min(hours), "high": max(hours) + HOUR_NS, "cut": unfrozen_ns}
    for statement in (_SERIES, _STREAMS, _COHORTS, _DEVICES, _SHIFTED):
        connection.execute(statement)
    connection.execute(_PARTS, span)
    gen = max(gen, _newest_generation(connection) + 1)
    cut_day = {"cut_day": unfrozen_ns // DAY_NS}
    for table in (*_TABLES, "contributions"):
        connection.execute(
            f"delete from {table} where hour_ns in (select hour_ns from r_hours) and arrival_day >= $cut_day", cut_day
        )
    written = _run(connection, _NUMBERS, {**span, "gen": gen})
    written += _histograms(connection, span, gen)
    written += _run(connection, _SESSIONS, {**span, "gen": gen})
    written += sli.recompute(connection, slis, span, gen)
    connection.execute(
        "insert into contributions select distinct hour_ns, arrival_day, $gen from r_parts", {"gen": gen}
    )
    connection.execute("delete from dirty where hour_ns in (select hour_ns from r_hours)")
    return written


def _newest_generation(connection: duckdb.DuckDBPyConnection) -> int:
    row = connection.execute(
        "select coalesce(max(gen), -1) from contributions where hour_ns in (select hour_ns from r_hours)"
    ).fetchall()
    return int(row[0][0])


def _run(connection: duckdb.DuckDBPyConnection, sql: str, params: dict[str, int]) -> int:
    return int(connection.execute(sql, params).fetchall()[0][0])


def _chunks(connection: duckdb.DuckDBPyConnection) -> Iterator[list[int]]:
    """Yield the hours in groups of about ``CHUNK_POINTS`` points, so that memory stays bounded."""
    chunk: list[int] = []
    points = 0
    for hour_ns, n in connection.execute(
        "select hour_ns, sum(n) from r_parts group by hour_ns having sum(n) > 0 order by hour_ns"
    ).fetchall():
        chunk.append(int(hour_ns))
        points += int(n)
        if points >= CHUNK_POINTS:
            yield chunk
            chunk, points = [], 0
    if chunk:
        yield chunk


def _histograms(connection: duckdb.DuckDBPyConnection, span: dict[str, int], gen: int) -> int:
    """Fold histogram points into device_hours, and those into distribution_hours."""
    written = 0
    for chunk in _chunks(connection):
        bounds = {"low": chunk[0], "high": chunk[-1] + HOUR_NS, "cut": span["cut"]}
        raw = connection.execute(_HISTOGRAMS, bounds).to_arrow_table()
        if not raw.num_rows:
            continue
        folded, cells = fold_points(raw)
        for name, table, sql in (
            ("b_folded", folded, _INSERT_DEVICE_HOURS), ("b_exploded", cells, _INSERT_DISTRIBUTIONS),
        ):  # fmt: skip
            connection.register(name, table)
            try:
                written += _run(connection, sql, {"gen": gen})
            finally:
                connection.unregister(name)
    return written


def fold_points(raw: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return (device_hours rows, distribution_hours rows) of histogram points keyed by small integers.

    Exponential histograms of one device and hour come to the lowest scale among them; a cohort keeps its scales apart,
    so that one coarse device does not blur the others.
    """
    keys = {name: ints(raw.column(name)) for name in ("hour_ns", "arrival_day", "did", "cid", "sid")}
    group, first = group_ids(*keys.values())
    groups = len(first)
    scale = ints(raw.column("scale"))
    sides = [
        (ints(raw.column(f"{side}_offset")), lists(raw.column(f"{side}_counts"))) for side in ("positive", "negative")
    ]
    target = common_scale(group, groups, scale, sides, WIDTH_MAX)
    shift = scale - target[group]
    positive, negative = (fold_buckets(group, groups, shift, offset, counts) for offset, counts in sides)
    explicit = _from_zero(fold_buckets(group, groups, shift * 0, shift * 0, lists(raw.column("counts"))))
    zero = totals(group, groups, ints(raw.column("zero_count")))
    folded = pa.table(
        {
            **{name: key[first] for name, key in keys.items()},
            "count": totals(group, groups, ints(raw.column("count"))),
            "scale": target,
            "zero_count": zero,
            "positive_offset": positive.offset,
            "positive_counts": positive.counts.to_arrow(),
            "negative_offset": negative.offset,
            "negative_counts": negative.counts.to_arrow(),
            "counts": explicit.to_arrow(),
        }
    )
    cohort_keys = [keys[name][first] for name in ("hour_ns", "arrival_day", "cid", "sid")]
    cells = _cohort_cells(
        cohort_keys, target, [(1, positive), (-1, negative), (2, Buckets(np.zeros(groups, np.int64), explicit))], zero
    )
    return folded, cells


def _from_zero(buckets: Buckets) -> Lists:
    """Return explicit buckets as lists that begin at bucket 0 again (folding trims empty ends)."""
    lengths = buckets.counts.lengths
    widths = np.where(lengths > 0, lengths + buckets.offset, 0)
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(widths, out=starts[1:])
    flat = np.zeros(int(starts[-1]), np.int64)
    group, index, n = exploded(buckets)
    flat[starts[group] + index] = n
    return Lists(starts, flat)


def _cohort_cells(keys: list[Ints], scale: Ints, sides: list[tuple[int, Buckets]], zero: Ints) -> pa.Table:
    """Return one row for each (hour, arrival day, cohort, series, side, scale, bucket) with its count."""
    cohort, first = group_ids(*keys, scale)
    parts: list[tuple[int, Ints, Ints, Ints]] = []
    for side, buckets in sides:
        device, index, n = exploded(buckets)
        cell, at = group_ids(cohort[device], index)
        parts.append((side, cohort[device][at], index[at], totals(cell, len(at), n)))
    zeros = totals(cohort, len(first), zero)
    at = np.flatnonzero(zeros)
    parts.append((0, at, at * 0, zeros[at]))
    group = np.concatenate([part[1] for part in parts])
    origin = first[group]
    return pa.table(
        {
            "hour_ns": keys[0][origin],
            "arrival_day": keys[1][origin],
            "cid": keys[2][origin],
            "sid": keys[3][origin],
            "side": np.concatenate([np.full(len(part[1]), part[0], np.int64) for part in parts]),
            "scale": scale[origin],
            "bucket_index": np.concatenate([part[2] for part in parts]),
            "n": np.concatenate([part[3] for part in parts]),
        }
    )

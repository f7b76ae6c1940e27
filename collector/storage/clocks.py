# ruff: noqa: S608  (what is interpolated into SQL here are constants of this package; values are parameters)
"""Device clocks: what the envelopes of a boot say about it, and event time = raw time + offset of the boot.

Every attempt to send ends with an envelope: a point ``edge.clock.offset`` whose time is the device's clock at sending
and whose value is wall clock minus that clock. A wall clock that is disciplined (source ntp) is believed; of any other
only the pair sent / received counts: what arrives was sent before, so the offset is at most received - sent, and the
least of several is the best estimate. One offset holds for a whole boot, streams of the past included. Raw times stay
as they are; a better estimate is one more row, and marks the hours it moves data out of and into as dirty.
"""

from __future__ import annotations

from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from device_sdk.contract.attributes import CLOCK_SOURCE, ClockSource
from device_sdk.contract.metrics import CLOCK_OFFSET

TOLERANCE_NS: Final = 5_000_000_000
"""Offsets and changes of offsets up to this are left alone: a twelfth of a window, far less than a slot or an hour."""
AHEAD_NS: Final = 60_000_000_000
"""A disciplined clock that is ahead of the envelope's arrival by more is not believed: nothing arrives before it is
sent."""
JUDGEABLE_NS: Final = 4_000_000_000_000_000_000
"""Times beyond the year 2096 are stored but never judged, and are kept out of sums that could overflow."""

HOUR_NS: Final = 3_600_000_000_000
_SECONDS_MAX: Final = JUDGEABLE_NS // 10**9


def hour_of(time: str) -> str:
    """Return the SQL of the hour (its start) that holds the time ``time``; an hour's end belongs to it."""
    return f"({time} - 1) - ((({time} - 1) % {HOUR_NS}) + {HOUR_NS}) % {HOUR_NS}"


def moved(time: str, offset: str) -> str:
    """Return the SQL of a corrected time; a time of 0 is absent and stays so."""
    return f"case when {time} = 0 then 0 else least({time}, {JUDGEABLE_NS}) + {offset} end"


def on_event_time(table: str, where: str, *, also: str = "true", shifted: str = "shifted") -> str:
    """Return a sub-query with the rows of ``points``, ``windows`` or ``logs`` whose event time fulfils ``where``.

    ``where`` names the event time ``<t>``; ``also`` are conditions on other columns. The rows' ``time_ns`` and
    ``start_ns`` are event time. Streams with a right clock are read as if nothing else existed, so that the engine can
    skip what ``where`` excludes.
    """
    replaced = f"{moved('r.time_ns', 'x.offset_ns')} as time_ns"
    if table != "logs":
        replaced += f", {moved('r.start_ns', 'x.offset_ns')} as start_ns"
    corrected = moved("r.time_ns", "x.offset_ns")
    return (
        f"(select * from {table} where {where.replace('<t>', 'time_ns')} and {also} "
        f"and stream not in (select stream from {shifted}) "
        f"union all select r.* replace ({replaced}) "
        f"from (select * from {table} where {also} and stream in (select stream from {shifted})) r "
        f"join {shifted} x on x.stream = r.stream where {where.replace('<t>', corrected)})"
    )


_ENVELOPE_SERIES: Final = f"""
select series, json_extract_string(attributes, '$."{CLOCK_SOURCE}"') as source
from series where metric = '{CLOCK_OFFSET.name}'"""
_READINGS: Final = f"""
create or replace temp table t_readings as
select device_id, boot, time_ns, received_ns, received_ns - time_ns as delay_ns,
       case when believed then cast(round(seconds * 1e9) as bigint) end as told_ns
from (
    select b.device_id, b.boot, p.time_ns, p.received_ns, p.seconds,
           e.source = '{ClockSource.NTP}' and isfinite(p.seconds) and abs(p.seconds) < {_SECONDS_MAX}
           and p.time_ns + p.seconds * 1e9 <= p.received_ns + {AHEAD_NS} as believed
    from (select stream, series, time_ns, received_ns, coalesce(value_double, value_int) as seconds
          from b_envelopes where not no_recorded_value) p
    join ({_ENVELOPE_SERIES}) e on e.series = p.series
    join boots b on b.stream = p.stream
    where b.boot <> '' and p.time_ns < {JUDGEABLE_NS} and p.seconds is not null)"""
# Of a disciplined clock the newest reading counts, of any other the least delay ever seen.
_ESTIMATES: Final = f"""
create or replace temp table t_estimates as
select x.*, case when abs(measured_ns) > {TOLERANCE_NS} then measured_ns else 0 end as offset_ns
from (
    select r.device_id, r.boot, k.offset_ns as known_offset_ns, k.measured_ns as known_ns, k.quality as known_quality,
           case when r.told_ns is not null then r.told_ns
                when k.quality = 'estimated' then least(r.delay_ns, k.measured_ns) else r.delay_ns end as measured_ns,
           case when r.told_ns is not null then 'synced' else 'estimated' end as quality, r.sent_ns, r.received_ns
    from (
        select device_id, boot, max_by(told_ns, time_ns) filter (where told_ns is not null) as told_ns,
               min(delay_ns) as delay_ns, max(time_ns) as sent_ns, max(received_ns) as received_ns
        from t_readings group by device_id, boot
    ) r left join (
        select * from clocks where (device_id, boot) in (select (device_id, boot) from t_readings)
        qualify row_number() over (partition by device_id, boot order by written_ns desc) = 1
    ) k on k.device_id = r.device_id and k.boot = r.boot
    where k.quality is null or k.quality <> 'synced' or (r.told_ns is not null and r.sent_ns > k.sent_ns)
) x
where known_ns is null or quality <> known_quality or abs(measured_ns - known_ns) > {TOLERANCE_NS}"""
_RECORD: Final = """
insert into clocks (device_id, boot, offset_ns, measured_ns, quality, sent_ns, received_ns, written_ns)
select device_id, boot, offset_ns, measured_ns, quality, sent_ns, received_ns, $now from t_estimates"""
_MOVES: Final = """
create or replace temp table t_moves as
select b.stream, coalesce(k.offset_ns, 0) as before_ns, n.offset_ns as after_ns
from (select * from clocks where written_ns = $now and (quality = 'bounded') = $bounded) n
join boots b on b.device_id = n.device_id and b.boot = n.boot
left join (
    select * from clocks
    where written_ns < $now and (device_id, boot) in (select (device_id, boot) from clocks where written_ns = $now)
    qualify row_number() over (partition by device_id, boot order by written_ns desc) = 1
) k on k.device_id = n.device_id and k.boot = n.boot
where coalesce(k.offset_ns, 0) <> n.offset_ns"""
_RESTATE: Final = f"""
insert into dirty
select distinct hour_ns, $now from (
    select {hour_of(moved("w.time_ns", "o.offset_ns"))} as hour_ns
    from (
        select stream, time_ns from windows where received_ns >= $since and time_ns < {JUDGEABLE_NS}
        union all
        select stream, time_ns from logs
        where received_ns >= $since and event_name = 'session.end' and time_ns < {JUDGEABLE_NS}
    ) w join (
        select stream, before_ns as offset_ns from t_moves union all select stream, after_ns from t_moves
    ) o on o.stream = w.stream)"""


def learn(connection: duckdb.DuckDBPyConnection, points: pa.Table, now_ns: int) -> list[str]:
    """Record what the envelopes among ``points`` say about their boots' clocks; return the devices it changes.

    Runs inside the caller's transaction; ``points`` carry their true arrival.
    """
    known = connection.execute(f"select series from ({_ENVELOPE_SERIES})").to_arrow_table().column("series")
    if not len(known):
        return []
    series = points.column("series")
    envelopes = points.filter(pc.is_in(series, value_set=known.combine_chunks().cast(series.type)))
    if not envelopes.num_rows:
        return []
    connection.register("b_envelopes", envelopes)
    try:
        connection.execute(_READINGS)
    finally:
        connection.unregister("b_envelopes")
    connection.execute(_ESTIMATES)
    connection.execute(_RECORD, {"now": now_ns})
    return [row[0] for row in connection.execute("select distinct device_id from t_estimates").fetchall()]


def restate(connection: duckdb.DuckDBPyConnection, *, bounded: bool, since_ns: int, now_ns: int) -> None:
    """Mark as dirty the hours that the corrections written at ``now_ns`` move stored data out of and into.

    ``bounded``: those of quality bounded, else the measured ones. What arrived before ``since_ns`` is final and stays
    where it was judged.
    """
    connection.execute(_MOVES, {"now": now_ns, "bounded": bounded})
    if connection.execute("select count(*) from t_moves").fetchall()[0][0]:
        connection.execute(_RESTATE, {"since": since_ns, "now": now_ns})

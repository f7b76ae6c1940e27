# ruff: noqa: S608  (what is interpolated into SQL here are constants of this package; values are parameters)
"""Named queries over roll-ups and the window ledger: what jobs judge."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from collector.storage.clocks import on_event_time
from collector.storage.fold import common_scale, fold_buckets, group_ids, ints, lists, totals
from collector.storage.named import ANY, INT, STR, NamedQuery, Param
from collector.storage.put import DAY_NS
from collector.storage.rollup import WIDTH_MAX
from device_sdk.contract import metrics as m

_COHORT: Final = "c.attributes as cohort, c.tier, c.region, c.ring, c.firmware"
_LIVE: Final = """
live as (
    select hour_ns, arrival_day, max(gen) as gen, count(*) over (partition by hour_ns) as parts
    from contributions where hour_ns >= $from_ns and hour_ns < $to_ns group by hour_ns, arrival_day)"""
_LIVE_SLOTS: Final = """
live as (
    select hour_ns, arrival_day, max(gen) as gen
    from contributions where hour_ns + 3600000000000 >= $from_ns and hour_ns < $to_ns
    group by hour_ns, arrival_day)"""
_ON_LIVE: Final = "on l.hour_ns = d.hour_ns and l.arrival_day = d.arrival_day and l.gen = d.gen"
_SERIES: Final = """
picked as (
    select rowid as sid, series, attributes, model, version, bounds from series
    where metric = $metric and ($model = '' or model = $model) and ($version = '' or version = $version))"""
_TIMELY: Final = f"time_ns <= received_ns + {DAY_NS}"
"""Leaves out windows from the future: one device with a wild clock must not carry the fleet's judgement ahead."""
_ALL_WINDOWS: Final = on_event_time("windows", "true")

_DEVICE_HOURS: Final = f"""
with {_LIVE}, {_SERIES}
select d.hour_ns, d.device_id, {_COHORT}, s.model, s.version, s.attributes, d.value, d.count,
       d.scale, d.zero_count, d.positive_offset, d.positive_counts, d.negative_offset, d.negative_counts, d.counts,
       s.bounds, l.parts, c.rowid as cid, s.sid
from device_hours d
join live l {_ON_LIVE}
join picked s on s.series = d.series
join cohorts c on c.cohort = d.cohort
where d.hour_ns >= $from_ns and d.hour_ns < $to_ns
order by d.hour_ns, d.device_id"""


def merge_days(table: pa.Table) -> pa.Table:
    """Return device hours with one row a (hour, device, cohort, series), summing what came on several days."""
    parts = table.column("parts")
    if not table.num_rows or pc.max(parts).as_py() == 1:
        return table.drop_columns(["parts", "cid", "sid"])
    device = ints(table.column("device_id").combine_chunks().dictionary_encode().indices)
    keys = [ints(table.column("hour_ns")), device, ints(table.column("cid")), ints(table.column("sid"))]
    group, first = group_ids(*keys)
    groups = len(first)
    scale = ints(table.column("scale"))
    sides = {
        side: (ints(table.column(f"{side}_offset")), lists(table.column(f"{side}_counts")))
        for side in ("positive", "negative")
    }
    target = common_scale(group, groups, scale, list(sides.values()), WIDTH_MAX)
    shift = scale - target[group]
    merged = table.take(pa.array(first)).drop_columns(["parts", "cid", "sid"])
    value = np.zeros(groups, np.float64)
    np.add.at(value, group, table.column("value").to_numpy())
    replaced: dict[str, pa.Array] = {"value": pa.array(value), "scale": pa.array(target, pa.int16())}
    for name in ("count", "zero_count"):
        replaced[name] = pa.array(totals(group, groups, ints(table.column(name))))
    for side, (offset, counts) in sides.items():
        buckets = fold_buckets(group, groups, shift, offset, counts)
        replaced[f"{side}_offset"] = pa.array(buckets.offset, pa.int32())
        replaced[f"{side}_counts"] = buckets.counts.to_arrow()
    explicit = fold_buckets(group, groups, shift * 0, shift * 0, lists(table.column("counts")))
    replaced["counts"] = pa.array(
        [
            [0] * int(offset) + explicit.counts.values[start:end].tolist() if end > start else []
            for offset, start, end in zip(
                explicit.offset, explicit.counts.starts[:-1], explicit.counts.starts[1:], strict=True
            )
        ],
        pa.list_(pa.int64()),
    )
    for name, column in replaced.items():
        merged = merged.set_column(merged.schema.get_field_index(name), name, column)
    return merged


_DISTRIBUTION_HOURS: Final = f"""
with {_LIVE}, {_SERIES}
select d.hour_ns, {_COHORT}, s.model, s.version, s.attributes, d.side, d.scale, d.bucket_index,
       cast(sum(d.n) as bigint) as n, any_value(s.bounds) as bounds
from distribution_hours d
join live l {_ON_LIVE}
join picked s on s.series = d.series
join cohorts c on c.cohort = d.cohort
where d.hour_ns >= $from_ns and d.hour_ns < $to_ns
group by d.hour_ns, c.attributes, c.tier, c.region, c.ring, c.firmware, s.model, s.version, s.attributes,
         d.side, d.scale, d.bucket_index
order by d.hour_ns"""
_SESSION_HOURS: Final = f"""
with {_LIVE}
select d.hour_ns, d.device_id, {_COHORT}, sum(d.observed_s) as observed_s, cast(sum(d.starts) as bigint) as starts,
       cast(sum(d.expected_ends) as bigint) as expected_ends, cast(sum(d.unexpected_ends) as bigint) as unexpected_ends
from session_hours d join live l {_ON_LIVE} join cohorts c on c.cohort = d.cohort
where d.hour_ns >= $from_ns and d.hour_ns < $to_ns
group by d.hour_ns, d.device_id, c.attributes, c.tier, c.region, c.ring, c.firmware
order by d.hour_ns, d.device_id"""
_SLI_SLOTS: Final = f"""
with {_LIVE_SLOTS}
select d.slot_ns, {_COHORT}, sum(d.good) as good, sum(d.total) as total, cast(max(d.devices) as bigint) as devices
from sli_minutes d join live l {_ON_LIVE} join cohorts c on c.cohort = d.cohort
where d.slo = $slo and d.slot_ns > $from_ns and d.slot_ns <= $to_ns
group by d.slot_ns, c.attributes, c.tier, c.region, c.ring, c.firmware
order by d.slot_ns"""
_SLI_BAD: Final = f"""
with {_LIVE_SLOTS}
select d.slot_ns, {_COHORT}, d.device_id, sum(d.bad) as bad
from sli_bad_devices d join live l {_ON_LIVE} join cohorts c on c.cohort = d.cohort
where d.slo = $slo and d.slot_ns > $from_ns and d.slot_ns <= $to_ns
group by d.slot_ns, c.attributes, c.tier, c.region, c.ring, c.firmware, d.device_id
order by d.slot_ns"""
_MODELS: Final = f"""
select s.model, s.version, min(d.hour_ns) as first_ns, max(d.hour_ns) + 3600000000000 as last_ns,
       count(distinct d.device_id) as devices
from device_hours d
join (select hour_ns, arrival_day, max(gen) as gen from contributions group by hour_ns, arrival_day) l {_ON_LIVE}
join (select series, model, version from series where metric = '{m.INFERENCE_DURATION.name}') s on s.series = d.series
group by s.model, s.version order by s.model, s.version"""

_WATERMARK: Final = f"""
with newest as (
    select s.device_id, max(w.time_ns) as last_ns, max(w.received_ns) as received_ns
    from {_ALL_WINDOWS} w join streams s on s.stream = w.stream where {_TIMELY}
    group by s.device_id
), top as (select max(last_ns) as max_time_ns, max(received_ns) as max_received_ns from newest)
select top.max_time_ns, cast(quantile_disc(n.last_ns, least(greatest($quantile, 0), 1)) as bigint) as watermark_ns,
       count(*) as devices, top.max_received_ns
from newest n, top where n.last_ns > top.max_time_ns - {DAY_NS}
group by top.max_time_ns, top.max_received_ns"""
_MAX_TIME: Final = f"""
select max(time_ns) as max_time_ns from {on_event_time("windows", "true", also="received_ns < $received_ns")} w
where {_TIMELY}"""
_ACTIVITY: Final = f"""
with spans as (
    select distinct s.device_id, w.start_ns, w.time_ns
    from {on_event_time("windows", "<t> <= $at_ns and <t> > $at_ns - $lookback_ns")} w
    join streams s on s.stream = w.stream
), gaps as (
    select device_id, time_ns, lag(time_ns, 1, -1) over (partition by device_id order by time_ns) as before_ns,
           start_ns from spans
), longest as (
    select device_id, min(time_ns) as first_ns, max(time_ns) as last_ns,
           max(case when before_ns < 0 then 0 when start_ns <= 0 then time_ns - before_ns
                    else greatest(start_ns, before_ns) - before_ns end) as longest_gap_ns
    from gaps group by device_id
), newest as (
    select device_id, cohort from streams
    qualify row_number() over (partition by device_id order by first_received_ns desc, stream) = 1
)
select g.device_id, {_COHORT}, g.first_ns, g.last_ns, g.longest_gap_ns
from longest g join newest n on n.device_id = g.device_id join cohorts c on c.cohort = n.cohort
order by g.device_id"""
_WINDOWS: Final = f"""
select distinct s.device_id, w.start_ns, w.time_ns
from {on_event_time("windows", "<t> >= $from_ns and <t> < $to_ns")} w join streams s on s.stream = w.stream
order by s.device_id, w.time_ns, w.start_ns"""
_SEQUENCES: Final = f"""
select s.device_id, lower(hex(w.stream)) as stream, {_COHORT}, w.start_ns, w.time_ns, w.sequence, w.window_count
from {on_event_time("windows", "<t> > $from_ns and <t> <= $to_ns", also="sequence is not null")} w
join streams s on s.stream = w.stream join cohorts c on c.cohort = s.cohort
order by s.device_id, w.stream, w.time_ns"""
_ENDS: Final = "event_name in ('session.end', 'app.crash')"
_EVENTS: Final = f"""
select l.time_ns, s.device_id, l.event_name,
       coalesce(json_extract_string(l.attributes, '$."edge.session.end.reason"'), '') as reason,
       coalesce(json_extract_string(l.attributes, '$."edge.session.end.expected"') = 'true', false) as expected,
       {_COHORT}, l.attributes
from {on_event_time("logs", "<t> >= $from_ns and <t> < $to_ns", also=_ENDS)} l
join streams s on s.stream = l.stream join cohorts c on c.cohort = l.cohort
order by l.time_ns, l.uid"""

_METRIC_SPAN: Final = {"metric": STR, "from_ns": INT, "to_ns": INT, "model": ANY, "version": ANY}
_SPAN: Final = {"from_ns": INT, "to_ns": INT}

ROLLUP_QUERIES: Final[dict[str, NamedQuery]] = {
    "dirty_hours": NamedQuery(
        "select hour_ns, max(marked_ns) as marked_ns from dirty group by hour_ns order by hour_ns"
    ),
    "device_hours": NamedQuery(_DEVICE_HOURS, _METRIC_SPAN, merge_days),
    "distribution_hours": NamedQuery(_DISTRIBUTION_HOURS, _METRIC_SPAN),
    "session_hours": NamedQuery(_SESSION_HOURS, _SPAN),
    "sli_slots": NamedQuery(_SLI_SLOTS, {"slo": STR, **_SPAN}),
    "sli_bad_devices": NamedQuery(_SLI_BAD, {"slo": STR, **_SPAN}),
    "models": NamedQuery(_MODELS),
    "watermark": NamedQuery(_WATERMARK, {"quantile": Param("float", 0.1)}),
    "max_time_received_before": NamedQuery(_MAX_TIME, {"received_ns": INT}),
    "device_activity": NamedQuery(_ACTIVITY, {"at_ns": INT, "lookback_ns": INT}),
    "device_windows": NamedQuery(_WINDOWS, _SPAN),
    "window_sequences": NamedQuery(_SEQUENCES, _SPAN),
    "session_events": NamedQuery(_EVENTS, _SPAN),
}

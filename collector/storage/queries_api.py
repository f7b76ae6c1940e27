# ruff: noqa: S608  (what is interpolated into SQL here are constants of this package; values are parameters)
"""Named queries behind the query API: points as stored, logs, devices, metrics.

Pages are found by key, never by number: a page begins after the last row of the one before.
"""

from __future__ import annotations

from typing import Final

from collector.storage.clocks import moved, on_event_time
from collector.storage.named import ANY, INT, STR, NamedQuery, Param
from collector.storage.rollup import COUNT_MAX

_LEAST: Final = -(2**63)
_FROM: Final = Param("int", _LEAST)
_TO: Final = Param("int", 2**63 - 1)
_AFTER_NS: Final = Param("int", _LEAST)

_METRICS: Final = """
select s.metric as name, s.kind, s.unit, s.temporality, s.monotonic, cast(coalesce(sum(p.n), 0) as bigint) as points,
       count(*) as series
from series s left join (select series, count(*) as n from points group by series) p on p.series = s.series
where s.metric >= $after_metric
group by s.metric, s.kind, s.unit, s.temporality, s.monotonic
order by s.metric, s.kind, s.unit, s.temporality nulls first, s.monotonic nulls first"""

_POINTS: Final = """
with page as (
    select p.rowid as row_id, p.time_ns, p.series, p.stream, p.start_ns
    from points p
    where p.series in (select series from series where metric = $metric)
      and ($device = '' or p.stream in (select stream from streams where device_id = $device))
      and p.time_ns >= $from_ns and (p.time_ns < $to_ns or $to_ns = 9223372036854775807) and p.time_ns >= $after_ns
      and (p.time_ns > $after_ns
           or (lower(hex(p.series)), lower(hex(p.stream)), p.start_ns)
              > ($after_series, $after_stream, $after_start_ns))
    order by p.time_ns, p.series, p.stream, p.start_ns limit $limit
)
select s.metric, s.kind, s.unit, s.temporality, s.monotonic, st.device_id, r.attributes as resource,
       s.scope_name, s.scope_version, s.attributes, p.start_ns, p.time_ns, p.received_ns, p.no_recorded_value,
       p.value_int, p.value_double, p.count, p.sum, p.min, p.max, s.bounds, p.counts, p.scale, p.zero_count,
       p.zero_threshold, p.positive_offset, p.positive_counts, p.negative_offset, p.negative_counts,
       p.quantiles, p.quantile_values, lower(hex(p.series)) as series, lower(hex(p.stream)) as stream
from points p
join page on page.row_id = p.rowid
join series s on s.series = p.series
join streams st on st.stream = p.stream
join resources r on r.resource = p.resource
order by p.time_ns, p.series, p.stream, p.start_ns"""

_RAW_COLUMNS: Final = f"""
select s.sid, r.rowid as rid, st.rowid as stid, s.kind, coalesce(s.temporality, '') as temporality,
       p.start_ns, p.time_ns, coalesce(p.count, 0) as count, coalesce(p.sum, 0) as sum, p.sum is null as no_sum,
       coalesce(p.scale, 0) as scale, coalesce(p.zero_count, 0) as zero_count,
       coalesce(p.zero_threshold, 0) as zero_threshold, coalesce(p.positive_offset, 0) as positive_offset,
       p.positive_counts, coalesce(p.negative_offset, 0) as negative_offset, p.negative_counts, p.counts
from <points> p
join (select rowid as sid, series, kind, temporality from series
      where metric = $metric and kind in ('histogram', 'exponential_histogram')) s on s.series = p.series
join streams st on st.stream = p.stream
join resources r on r.resource = p.resource
where not p.no_recorded_value and ($device = '' or st.device_id = $device) and coalesce(p.count, 0) <= {COUNT_MAX}"""
_PICKED: Final = "series in (select series from series where metric = $metric)"
_RAW_HISTOGRAMS: Final = _RAW_COLUMNS.replace(
    "<points>",
    on_event_time("points", "<t> >= $from_ns and (<t> < $to_ns or $to_ns = 9223372036854775807)", also=_PICKED),
)
# The last point of each cumulative stream before the range: what the first one inside it is measured against.
_RAW_BEFORE: Final = f"""{_RAW_COLUMNS.replace("<points>", on_event_time("points", "<t> < $from_ns", also=_PICKED))}
and s.temporality = 'cumulative'
qualify row_number() over (partition by p.series, p.stream order by p.time_ns desc, p.start_ns desc) = 1"""
_RAW_SERIES: Final = """
select rowid as sid, metric, kind, unit, coalesce(temporality, '') as temporality, attributes, bounds
from series where metric = $metric"""
_RAW_RESOURCES: Final = "select rowid as rid, attributes from resources"

_LOGS: Final = """
select l.uid, l.time_ns, l.observed_ns, l.received_ns, s.device_id, l.event_name, l.severity_number, l.severity_text,
       l.body, l.trace_id, l.span_id, l.attributes, r.attributes as resource
from logs l join streams s on s.stream = l.stream join resources r on r.resource = l.resource
where ($device = '' or s.device_id = $device) and ($event_name = '' or l.event_name = $event_name)
  and l.time_ns >= $from_ns and (l.time_ns < $to_ns or $to_ns = 9223372036854775807)
  and (l.time_ns > $after_ns or (l.time_ns = $after_ns and l.uid > $after_uid))
order by l.time_ns, l.uid limit $limit"""

# A stream numbers its base windows from 0; one that began before the ledger's horizon counts from its oldest row.
_DEVICES: Final = f"""
with seen as (
    select stream, min(time_ns) as first_ns, max(time_ns) as last_ns,
           cast(coalesce(sum(coalesce(window_count, 1)) filter (where sequence is not null), 0) as bigint) as received,
           max(sequence) as newest, min(sequence - coalesce(window_count, 1) + 1) as oldest
    from windows group by stream
    union all
    select stream, min(time_ns), max(time_ns), 0, null, null from logs group by stream
), by_stream as (
    select st.device_id, st.stream, min({moved("x.first_ns", "coalesce(o.offset_ns, 0)")}) as first_ns,
           max({moved("x.last_ns", "coalesce(o.offset_ns, 0)")}) as last_ns, sum(x.received) as received,
           max(x.newest) + 1 - case when min(st.first_received_ns) < $horizon_ns then min(x.oldest) else 0 end as due
    from seen x join streams st on st.stream = x.stream left join shifted o on o.stream = x.stream
    where st.device_id > $after_device and ($device = '' or st.device_id = $device)
    group by st.device_id, st.stream
), newest as (
    select st.device_id, st.resource, st.cohort, k.offset_ns, k.quality
    from streams st join by_stream x on x.stream = st.stream join boots o on o.stream = st.stream
    left join newest_clocks k on k.device_id = o.device_id and k.boot = o.boot
    qualify row_number() over (
        partition by st.device_id order by st.first_received_ns desc, x.last_ns desc, st.stream) = 1
)
select b.device_id, min(b.first_ns) as first_seen_ns, max(b.last_ns) as last_seen_ns,
       any_value(r.attributes) as resource,
       cast(sum(b.received) as bigint) as windows_received, cast(coalesce(sum(b.due), 0) as bigint) as windows_due,
       any_value(c.attributes) as cohort, any_value(c.tier) as tier, any_value(c.region) as region,
       any_value(c.ring) as ring, any_value(c.firmware) as firmware, count(*) as streams,
       coalesce(any_value(n.offset_ns), 0) as clock_offset_ns, coalesce(any_value(n.quality), 'none') as clock_quality
from by_stream b join newest n on n.device_id = b.device_id
join resources r on r.resource = n.resource join cohorts c on c.cohort = n.cohort
group by b.device_id order by b.device_id limit $limit"""

_CLOCKS: Final = """
select boot as boot_id, offset_ns, measured_ns, quality, sent_ns, received_ns, written_ns
from newest_clocks where device_id = $device order by written_ns desc, boot limit 100"""
_OUTCOMES: Final = "select reason, cast(sum(n) as bigint) as n from ingest_outcomes group by reason order by reason"
_TOTALS: Final = """
select (select count(*) from points) as points, (select count(*) from logs) as logs,
       (select count(*) from windows) as windows, (select count(distinct device_id) from streams) as devices"""

API_QUERIES: Final[dict[str, NamedQuery]] = {
    "metrics": NamedQuery(_METRICS, {"after_metric": ANY}),
    "points": NamedQuery(
        _POINTS,
        {
            "metric": STR,
            "device": ANY,
            "from_ns": _FROM,
            "to_ns": _TO,
            "after_ns": _AFTER_NS,
            "after_series": ANY,
            "after_stream": ANY,
            "after_start_ns": _AFTER_NS,
            "limit": Param("int", 1000),
        },
    ),
    "raw_distribution": NamedQuery(_RAW_HISTOGRAMS, {"metric": STR, "device": ANY, "from_ns": _FROM, "to_ns": _TO}),
    "raw_distribution_before": NamedQuery(_RAW_BEFORE, {"metric": STR, "device": ANY, "from_ns": INT}),
    "raw_series": NamedQuery(_RAW_SERIES, {"metric": STR}),
    "raw_resources": NamedQuery(_RAW_RESOURCES),
    "logs": NamedQuery(
        _LOGS,
        {
            "device": ANY,
            "event_name": ANY,
            "from_ns": _FROM,
            "to_ns": _TO,
            "after_ns": _AFTER_NS,
            "after_uid": ANY,
            "limit": Param("int", 1000),
        },
    ),
    "devices": NamedQuery(
        _DEVICES,
        {"device": ANY, "after_device": ANY, "horizon_ns": Param("int", _LEAST), "limit": Param("int", 1000)},
    ),
    "clocks": NamedQuery(_CLOCKS, {"device": STR}),
    "ingest_outcomes": NamedQuery(_OUTCOMES),
    "totals": NamedQuery(_TOTALS),
    "alive": NamedQuery("select count(*) as n from schema_migrations"),
}

# ruff: noqa: S608  (what is interpolated into SQL here are constants of this package; values are parameters)
"""Service level indicators counted from raw points, in events, by 5-minute slot, cohort and (where bad) device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import duckdb

from collector.storage.base import SliSpec
from collector.storage.clocks import hour_of, on_event_time
from collector.storage.put import DAY_NS, HOUR_NS

SLOT_NS: Final = 300_000_000_000
_HOUR_OF: Final = hour_of("p.time_ns")
_POINTS: Final = on_event_time("points", "<t> > $low and <t> <= $high", also="received_ns >= $cut", shifted="r_shifted")
_SLOT_OF: Final = f"(p.time_ns - 1) - (((p.time_ns - 1) % {SLOT_NS}) + {SLOT_NS}) % {SLOT_NS} + {SLOT_NS}"
_DAY_OF: Final = f"cast((p.received_ns - p.received_ns % {DAY_NS}) / {DAY_NS} as integer)"

_PARTS: Final = """
create or replace temp table r_sli (
    hour_ns bigint, arrival_day integer, slot_ns bigint, cohort blob, slo varchar, device_id varchar,
    good double, total double)"""
_SERIES: Final = """
create or replace temp table r_sli_series as
select series, kind, json_extract_string(attributes, '$."error.type"') is not null as failed,
       len(list_filter(bounds, lambda b: b < $threshold)) as below, bounds
from series
where metric = $metric and temporality = 'delta' and ($model = '' or model = $model)
  and ($version = '' or version = $version)"""

# A histogram's observations at or below the threshold: whole buckets, then the share of the one that holds it,
# by its place on a logarithmic scale (exponential buckets) or a linear one (explicit).
_EXPONENTIAL_GOOD: Final = """
coalesce(p.zero_count, 0) + coalesce(list_sum(p.negative_counts), 0)
+ coalesce(list_sum(p.positive_counts[1:greatest(x.whole, 0)]), 0)
+ case when x.whole >= 0 and x.whole < len(p.positive_counts)
       then x.share * p.positive_counts[x.whole + 1] else 0 end"""
_EXPLICIT_GOOD: Final = """
coalesce(list_sum(p.counts[1:s.below]), 0)
+ case when s.below < len(s.bounds) and s.below < len(p.counts) then
      p.counts[s.below + 1] * case
          when s.below = 0 then case when s.bounds[1] > 0 then greatest($threshold, 0) / s.bounds[1] else 0 end
          else ($threshold - s.bounds[s.below]) / (s.bounds[s.below + 1] - s.bounds[s.below]) end
  else 0 end"""
_EVENTS: Final = "coalesce(p.count, p.value_int, p.value_double, 0)"
_COUNT: Final = f"""
insert into r_sli
select {_HOUR_OF}, {_DAY_OF}, {_SLOT_OF}, p.cohort, $slo, st.device_id, sum(<good>), sum({_EVENTS})
from (
    select p.*, ceil($log2 * pow(2, coalesce(p.scale, 0))) - 1 as idx
    from {_POINTS} p
    where not p.no_recorded_value
      and p.series in (select series from r_sli_series)
      and {_HOUR_OF} in (select hour_ns from r_hours)
      and coalesce(p.scale, 0) between -20 and 40 and {_EVENTS} between 0 and {2**44}) p
join r_sli_series s on s.series = p.series
join r_streams st on st.stream = p.stream,
lateral (select cast(p.idx - coalesce(p.positive_offset, 0) as bigint) as whole,
                $log2 * pow(2, coalesce(p.scale, 0)) - p.idx as share) x
group by 1, 2, 3, 4, 5, 6"""
_LATENCY: Final = f"""case when s.failed then 0 when s.kind = 'exponential_histogram' then {_EXPONENTIAL_GOOD}
when s.kind = 'histogram' then {_EXPLICIT_GOOD} else {_EVENTS} end"""
_FAILURE: Final = f"case when s.failed then 0 else {_EVENTS} end"

# A device's hour is bad as a whole, whatever day its crash became known on. Hours that frozen days counted as good are
# taken back on the day of the news: contributions add up.
_CRASH_FREE: Final = f"""
insert into r_sli
with live as (
    select s.* from session_hours s
    join (select hour_ns, arrival_day, max(gen) as gen from contributions
          where hour_ns in (select hour_ns from r_hours) group by hour_ns, arrival_day) l
      on l.hour_ns = s.hour_ns and l.arrival_day = s.arrival_day and l.gen = s.gen
    where s.arrival_day < $cut_day
    union all
    select s.* from session_hours s where s.hour_ns in (select hour_ns from r_hours) and s.arrival_day >= $cut_day
), fate as (
    select hour_ns, device_id, max(unexpected_ends) > 0 as crashed,
           coalesce(max(unexpected_ends) filter (where arrival_day < $cut_day), 0) > 0 as crashed_before,
           min(arrival_day) filter (where arrival_day >= $cut_day and unexpected_ends > 0) as news_day
    from live group by hour_ns, device_id
)
select l.hour_ns, case when l.arrival_day < $cut_day then f.news_day else l.arrival_day end, l.hour_ns + {HOUR_NS},
       l.cohort, $slo, l.device_id,
       case when l.arrival_day < $cut_day then -l.observed_s / 3600 when f.crashed then 0 else l.observed_s / 3600 end,
       case when l.arrival_day < $cut_day then 0 else l.observed_s / 3600 end
from live l join fate f on f.hour_ns = l.hour_ns and f.device_id = l.device_id
where l.arrival_day >= $cut_day or (f.news_day is not null and not f.crashed_before)"""

_MINUTES: Final = """
insert into sli_minutes
select hour_ns, arrival_day, $gen, slot_ns, cohort, slo, sum(good), sum(total), count(distinct device_id)
from r_sli group by hour_ns, arrival_day, slot_ns, cohort, slo"""
_BAD: Final = """
insert into sli_bad_devices
select hour_ns, arrival_day, $gen, slot_ns, cohort, slo, device_id, sum(total) - sum(good)
from r_sli group by hour_ns, arrival_day, slot_ns, cohort, slo, device_id having sum(total) - sum(good) > 1e-9"""


def recompute(connection: duckdb.DuckDBPyConnection, slis: Sequence[SliSpec], span: dict[str, int], gen: int) -> int:
    """Count every indicator for the hours of ``r_hours`` inside the caller's transaction; return rows written.

    ``span`` holds ``low`` and ``high`` (ns, of the hours) and ``cut`` (ns, first unfrozen arrival). Raises
    ``ValueError`` for an indicator of unknown kind or a latency indicator without a positive threshold.
    """
    if not slis:
        return 0
    connection.execute(_PARTS)
    for spec in slis:
        if spec.kind == "crash_free":
            connection.execute(_CRASH_FREE, {"slo": spec.slo, "cut_day": span["cut"] // DAY_NS})
        else:
            _count_events(connection, spec, span)
    written = 0
    for sql in (_MINUTES, _BAD):
        written += int(connection.execute(sql, {"gen": gen}).fetchall()[0][0])
    return written


def _count_events(connection: duckdb.DuckDBPyConnection, spec: SliSpec, span: dict[str, int]) -> None:
    if spec.kind not in ("latency", "failure"):
        raise ValueError(f"SLO {spec.slo!r}: kind {spec.kind!r} is not one of latency, failure, crash_free")
    threshold = spec.threshold
    if spec.kind == "latency" and (threshold is None or not math.isfinite(threshold) or threshold <= 0):
        raise ValueError(f"SLO {spec.slo!r}: a latency indicator needs a threshold above 0 seconds, not {threshold}")
    limit = threshold if spec.kind == "latency" and threshold is not None else 1.0
    select = {"metric": spec.metric, "model": spec.model, "version": spec.version, "threshold": limit}
    connection.execute(_SERIES, select)
    good = _LATENCY if spec.kind == "latency" else _FAILURE
    params: dict[str, int | float | str] = {**span, "slo": spec.slo, "log2": math.log2(limit)}
    if spec.kind == "latency":
        params["threshold"] = limit
    connection.execute(_COUNT.replace("<good>", good), params)

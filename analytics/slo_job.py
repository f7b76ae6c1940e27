"""Job ``slo``: error-budget burn of every SLO, by fleet and device class, and by model version for inference SLOs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from analytics import daycache, grids, rows, runner, slo, windows
from analytics.job import Job
from analytics.openslo import TIMESLICES
from analytics.options import DAY_NS, HOUR_NS, SECOND_NS, AnalyticsOptions
from analytics.slis import Stream, current_streams
from analytics.slo import MICRO, SLOT_NS, Guard, Offenders, PairBurn, Series, State
from analytics.stability import wilson
from collector.storage.base import Store
from device_sdk.contract import attributes as a

CRASH_SLOT_NS: Final = HOUR_NS
"""Crash-free events are whole device-hours: no window can be shorter."""

WINDOW_QUANTILE: Final = 0.95
"""Share of telemetry windows that a burn window must be able to hold; one device that merged a day off line into one
window must not widen everybody's."""

FORECAST_NAMES: Final = ("1d", "6h")
"""Long windows whose burn the forecast follows, the first one present."""


def telemetry_windows(store: Store, instants: Sequence[int]) -> dict[int, int]:
    """Return, by hour start, the length (ns) of telemetry windows that ended in the hour before (95 % quantile).

    Hours without windows are left out: there the caller falls back to ``options.telemetry_window_s``.
    """
    found: dict[int, int] = {}
    start_ns = (instants[0] - 1) // HOUR_NS * HOUR_NS - HOUR_NS
    while start_ns <= instants[-1]:
        end_ns = start_ns + DAY_NS
        table = store.query("device_windows", {"from_ns": start_ns + 1, "to_ns": end_ns + 1})
        frame = grids.to_frame(table, ("start_ns", "time_ns")).filter(pl.col("start_ns") > 0)
        lengths = (
            frame.group_by(((pl.col("time_ns") - 1) // HOUR_NS * HOUR_NS).alias("hour_ns"))
            .agg((pl.col("time_ns") - pl.col("start_ns")).quantile(WINDOW_QUANTILE, "higher").alias("length"))
            .sort("hour_ns")
        )
        found |= {int(hour) + HOUR_NS: int(length) for hour, length in lengths.rows() if length > 0}
        start_ns = end_ns
    return found


def shortest_windows(
    stream: Stream, lengths: dict[int, int], options: AnalyticsOptions, instants: Sequence[int]
) -> slo.Ints:
    """Return the least sensible burn window (ns) at each instant: the telemetry's, an hour for crash-free SLOs."""
    fallback = int(options.telemetry_window_s * SECOND_NS)
    floor = CRASH_SLOT_NS if stream.slo.kind == "crash_free" else SLOT_NS
    floor = max(floor, stream.slo.slice_ns)
    values = [max(lengths.get((at_ns - 1) // HOUR_NS * HOUR_NS, fallback), floor) for at_ns in instants]
    return np.array(values, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Judged:
    """All that one (stream, cohort) gives rows from."""

    stream: Stream
    cohort: str
    instants: Sequence[int]
    series: Series
    ends: slo.Ints
    pairs: list[PairBurn]
    names: tuple[str, ...]
    shortest: slo.Ints
    reporting: slo.Ints


def _series(frame: pl.DataFrame, base_ns: int, count: int) -> tuple[Series, slo.Ints]:
    """Return the slots as a dense series, with the devices that reported in each."""
    good, total, devices = (np.zeros(count, np.int64) for _ in range(3))
    if frame.height:
        slot = (frame.get_column("slot_ns").to_numpy() - base_ns) // SLOT_NS - 1
        np.add.at(good, slot, slo.micro(frame.get_column("good").to_numpy()))
        np.add.at(total, slot, slo.micro(frame.get_column("total").to_numpy()))
        np.add.at(devices, slot, frame.get_column("devices").to_numpy())
    return Series(base_ns, np.clip(total - good, 0, total), total), devices


def _offenders(frame: pl.DataFrame, base_ns: int) -> Offenders:
    names = frame.get_column("device_id").unique().sort().to_list() if frame.height else []
    index = {name: position for position, name in enumerate(names)}
    device = np.array([index[name] for name in frame.get_column("device_id").to_list()], dtype=np.int64)
    slot = ((frame.get_column("slot_ns").to_numpy() - base_ns) // SLOT_NS - 1).astype(np.int64)
    return Offenders(slot, device, slo.micro(frame.get_column("bad").to_numpy()), tuple(names))


def _judge(
    stream: Stream, cohort: str, slots: pl.DataFrame, bad: pl.DataFrame, instants: Sequence[int], shortest: slo.Ints,
    guard: Guard,
) -> _Judged:  # fmt: skip
    objective = stream.slo
    base_ns = instants[0] - objective.period_ns
    if objective.method == TIMESLICES:
        # a slice that reaches into the period counts whole, whichever instant a batch begins with
        base_ns = base_ns // objective.slice_ns * objective.slice_ns
    count = (instants[-1] - base_ns) // SLOT_NS
    inside = (pl.col("slot_ns") > base_ns) & (pl.col("slot_ns") <= instants[-1])
    slots, bad = slots.filter(inside), bad.filter(inside)
    series, reporting = _series(slots, base_ns, count)
    offenders = _offenders(bad, base_ns)
    rest = None
    if objective.method == TIMESLICES:
        assert objective.slice_target is not None
        series, offenders, rest = slo.time_slices(series, offenders, objective.slice_ns, objective.slice_target)
    ends = np.array([series.index(at_ns) for at_ns in instants], dtype=np.int64)
    pairs = [
        slo.pair_burn(series, ends, window, 1 - objective.objective, shortest, guard, offenders, rest)
        for window in windows.burn_windows(objective.period_ns)
    ]
    return _Judged(stream, cohort, instants, series, ends, pairs, offenders.names, shortest, reporting)


def burn_names(pairs: Sequence[PairBurn]) -> list[tuple[str, str]]:
    """Return the names under which each pair's burns stand in ``detail.burn``.

    A short window whose name is already taken by a long one gets a ``_``: ``6h_`` is the short window of ``3d``.
    """
    taken: set[str] = set()
    names = []
    for pair in pairs:
        long = pair.window.long_name
        taken.add(long)
        short = pair.window.short_name
        while short in taken:
            short += "_"
        taken.add(short)
        names.append((long, short))
    return names


def _forecast(judged: _Judged, position: int, left: float, allowed: float) -> dict[str, Any] | None:
    """Return when the budget is empty at the last day's pace, with the span its 80 % interval allows."""
    period_ns = judged.stream.slo.period_ns
    pair = next((p for name in FORECAST_NAMES for p in judged.pairs if p.window.long_name == name), judged.pairs[0])
    total = float(pair.long_total[position]) / MICRO
    bad = float(pair.long_bad[position]) / MICRO
    if total <= 0 or math.isnan(left):
        return None
    empty = slo.time_left_ns(left, bad / total / allowed, period_ns)
    if empty is None:
        return None
    at_ns = judged.instants[position]
    low, high = wilson(bad, total, 0.8)
    early, late = (slo.time_left_ns(left, share / allowed, period_ns) for share in (high, low))
    return {
        "empty_ns": at_ns + empty,
        "earliest_ns": None if early is None else at_ns + early,
        "latest_ns": None if late is None else at_ns + late,
    }


def _explained(judged: _Judged, found: State, position: int) -> tuple[dict[str, Any], int]:
    """Return what the deciding pair adds to the detail, and how many devices are affected."""
    if found.pair is None:
        return {}, 0
    pair = judged.pairs[found.pair]
    at = int(np.searchsorted(pair.described, position))
    focus = pair.focus
    named = [judged.names[i] for i, n in zip(focus.top[at], focus.top_bad[at], strict=True) if i >= 0 and n > 0]
    detail: dict[str, Any] = {
        "window": pair.window.name,
        "threshold": float(pair.window.burn),
        "bad": float(pair.long_bad[position]) / MICRO,
        "total": float(pair.long_total[position]) / MICRO,
        "worst_device_bad": float(focus.worst[at]) / MICRO,
        "bad_devices": named,
    }
    return detail, int(focus.devices[at])


def _rows(found: rows.VerdictRows, judged: _Judged) -> None:
    objective = judged.stream.slo
    allowed = 1 - objective.objective
    target = float(objective.objective)
    quiet = slo.quiet(judged.pairs)
    budget = slo.budget(judged.series, judged.ends, objective.period_ns, allowed)
    names = burn_names(judged.pairs)
    burns = [
        (name, slo.burn(bad, total, allowed).tolist())
        for pair, (long, short) in zip(judged.pairs, names, strict=True)
        for name, bad, total in (
            (long, pair.long_bad, pair.long_total), (short, pair.short_bad, pair.short_total)
        )
    ]  # fmt: skip
    hour = np.concatenate([np.zeros(12, np.int64), judged.reporting])
    recent = np.lib.stride_tricks.sliding_window_view(hour, 12).max(axis=1)
    for position, at_ns in enumerate(judged.instants):
        end = judged.ends[position]
        if not budget.total[position]:
            continue
        state = State(slo.ON_PACE, None) if quiet[position] else slo.state(judged.pairs, position)
        more, affected = _explained(judged, state, position)
        severity = None
        if state.verdict == slo.FAST_BURN and state.pair is not None:
            severity = judged.pairs[state.pair].window.severity
        left = float(budget.left[position])
        bad, total = float(budget.bad[position]) / MICRO, float(budget.total[position]) / MICRO
        low, high = wilson(total - bad, total)
        detail: dict[str, Any] = {
            "burn": {name: values[position] for name, values in burns},
            "severity": severity,
            "budget_left": left,
            "window_ns": objective.period_ns,
            "shortest_ns": int(judged.shortest[position]),
            "forecast": _forecast(judged, position, left, float(allowed)),
            "objective": target,
            "kind": objective.kind,
            "reporting": int(recent[end]),
            "bad_devices": [],
            **more,
        }
        found.add(
            at_ns=at_ns, name=objective.name, cohort=judged.cohort, model=judged.stream.model,
            version=judged.stream.version, verdict=state.verdict, value=(total - bad) / total if total else None,
            low=low if total else None, high=high if total else None, n=total, devices=affected, target=target,
            window_ns=(at_ns - objective.period_ns, at_ns), detail=detail,
        )  # fmt: skip


def compute(
    stream: Stream, all_slots: pl.DataFrame, all_bad: pl.DataFrame, instants: Sequence[int], shortest: slo.Ints,
    options: AnalyticsOptions, now_ns: int,
) -> pa.Table:  # fmt: skip
    """Return the verdicts of one indicator at ``instants`` (ascending, on the 5-minute grid).

    ``all_slots`` holds (slot_ns, tier, good, total, devices), ``all_bad`` (slot_ns, tier, device_id, bad).

    ``shortest``: the least sensible burn window at each instant, ns. An SLO as written is judged for the fleet and for
    each device class, one narrowed to a model's version for the fleet.
    """
    found = rows.VerdictRows("slo", now_ns)
    guard = Guard(devices=options.guard_devices, alpha=options.guard_alpha)
    if all_slots.is_empty():
        return found.table()
    narrowed = stream.sli != stream.slo.name
    tiers = [] if narrowed else [tier for tier in all_slots.get_column("tier").unique().sort().to_list() if tier]
    for tier in ["", *tiers]:
        chosen, guilty = all_slots, all_bad
        if tier:
            chosen, guilty = chosen.filter(pl.col("tier") == tier), guilty.filter(pl.col("tier") == tier)
        cohort = rows.cohort_of({a.TIER: tier}) if tier else rows.FLEET
        _rows(found, _judge(stream, cohort, chosen, guilty, instants, shortest, guard))
    return found.table()


_SUMMED: Final = {
    "sli_slots": (("slot_ns", "tier"), ("good", "total", "devices")),
    "sli_bad_devices": (("slot_ns", "tier", "device_id"), ("bad",)),
}


def _read(store: Store, query: str, sli: str, start_ns: int, settled_ns: int, until_ns: int) -> pl.DataFrame:
    """Return an indicator's slots of (start, until], summed over cohorts to device classes."""
    keys, values = _SUMMED[query]

    def load(begin_ns: int, end_ns: int) -> pl.DataFrame:
        table = store.query(query, {"slo": sli, "from_ns": begin_ns, "to_ns": end_ns})
        return grids.to_frame(table, (*keys, *values)).group_by(keys).agg(pl.col(values).sum()).sort(keys)

    return daycache.read(f"{query}|{sli}", start_ns, settled_ns, until_ns, load, "slot_ns")


def run(store: Store, options: AnalyticsOptions, from_ns: int, until_ns: int, now_ns: int) -> pa.Table:
    """Judge every 5-minute instant of (from, until]."""
    instants = list(JOB.instants(from_ns, until_ns))
    if not instants:
        return rows.empty()
    lengths = telemetry_windows(store, instants)
    tables = []
    for stream in current_streams(store, options):
        start_ns = (instants[0] - stream.slo.period_ns) // DAY_NS * DAY_NS
        slots, bad = (_read(store, query, stream.sli, start_ns, from_ns, instants[-1]) for query in _SUMMED)
        shortest = shortest_windows(stream, lengths, options, instants)
        tables.append(
            runner.call(
                compute,
                stream,
                slots,
                bad,
                instants,
                shortest,
                options,
                now_ns,
            )
        )
    return pa.concat_tables(tables) if tables else rows.empty()


JOB: Final = Job("slo", SLOT_NS, run)

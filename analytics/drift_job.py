"""The drift job: every hour, every signal of every model version and device tier against its reference.

Which reference judges T is a function of T: a stored field baseline whose window is over; else the first 14 days of
the model version, pinned in the store the first time an instant after them is judged; before that, from 24 hours on,
its first 24 hours (*provisional*: hourly until the third day, then every six hours; a table, never an alert).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from analytics import drift_read as read
from analytics.baseline import DAY_NS, Reference, StoredBaseline
from analytics.drift_counts import Chunk, stream_counts
from analytics.drift_judge import DriftSettings, Judged, judge_signal
from analytics.drift_rows import add_rows, add_unreferenced
from analytics.drift_skew import skew_by_tier
from analytics.job import Job
from analytics.options import AnalyticsOptions
from analytics.rows import VerdictRows
from analytics.runner import call
from analytics.sequential import STARTS_HOURS
from analytics.signals import HOUR_NS
from collector.storage.base import Store

SKEW_EVERY_NS: Final = 6 * HOUR_NS
_HOURLY_FOR_NS: Final = 3 * DAY_NS
_PROVISIONAL_EVERY_NS: Final = 6 * HOUR_NS
_WINDOW_NS: Final = DAY_NS
_SPAN_HOURS: Final = 72


@dataclass(frozen=True, slots=True)
class _ModelVersion:
    key: tuple[str, str]
    first_ns: int
    last_ns: int
    devices: int
    baselines: list[StoredBaseline]


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """Instants of one model version that one reference judges; None: there is none yet."""

    model: _ModelVersion
    instants: list[int]
    head: StoredBaseline | None
    provisional: bool

    @property
    def from_ns(self) -> int:
        """Return the first hour these instants need."""
        lookback_h = 24 if self.provisional or self.head is None else STARTS_HOURS
        return max(self.instants[0] - lookback_h * HOUR_NS, self.model.first_ns)


def run_drift(store: Store, options: AnalyticsOptions, from_ns: int, until_ns: int, now_ns: int) -> pa.Table:
    """Return the drift verdicts of every hour in (from, until]; pins the automatic references that fall due.

    A long catch-up is judged in spans of three days, so that memory does not grow with its length.
    """
    rows = VerdictRows("drift", now_ns)
    instants = JOB.instants(from_ns, until_ns)
    for i in range(0, len(instants), _SPAN_HOURS):
        _judge_span(store, options, instants[i : i + _SPAN_HOURS], now_ns, rows)
    return rows.table()


def _judge_span(store: Store, options: AnalyticsOptions, instants: range, now_ns: int, rows: VerdictRows) -> None:
    plans = [plan for model in _models(store, instants) for plan in _plans(store, options, model, instants, now_ns)]
    if not plans:
        return
    first_ns, last_ns = min(plan.from_ns for plan in plans), max(plan.instants[-1] for plan in plans)
    devices = sum({plan.model.key: plan.model.devices for plan in plans}.values())
    chunks = list(read.read_chunks(store, first_ns, last_ns, devices))
    for plan in plans:
        mine = [chunk for chunk in chunks if chunk.first_ns + chunk.hours * HOUR_NS > plan.from_ns]
        _judge_plan(store, options, plan, mine, rows)


def _models(store: Store, instants: range) -> Iterator[_ModelVersion]:
    """Yield the model versions with data in the day before one of the instants."""
    if not instants:
        return
    for row in store.query("models").sort_by([("model", "ascending"), ("version", "ascending")]).to_pylist():
        first_ns, last_ns = int(row["first_ns"]) // HOUR_NS * HOUR_NS, int(row["last_ns"])
        if not row["model"] or first_ns >= instants[-1] or last_ns + _WINDOW_NS < instants[0]:
            continue
        key = (row["model"], row["version"])
        yield _ModelVersion(key, first_ns, last_ns, int(row["devices"]), read.stored_baselines(store, *key))


def _plans(
    store: Store, options: AnalyticsOptions, model: _ModelVersion, instants: range, now_ns: int
) -> Iterator[_Plan]:
    """Group the instants of a model version by the reference that judges them."""
    newest = instants[-1]
    if newest > model.first_ns + options.reference_days * DAY_NS and _whole(model.baselines, newest, options) is None:
        first_ns = read.steady_first_ns(store, model.key, model.first_ns, newest, options.reference_days)
        model = replace(model, first_ns=first_ns)
    pinned_end = model.first_ns + options.reference_days * DAY_NS
    live = [t for t in instants if model.first_ns < t <= model.last_ns + _WINDOW_NS]
    baselines = model.baselines
    if any(t > pinned_end and _whole(baselines, t, options) is None for t in live):
        identity = read.pinned_id(model.key, model.first_ns, pinned_end)
        if all(one.baseline_id != identity for one in baselines):
            pinned = read.pin_field(
                store, model.key, model.first_ns, pinned_end, devices=model.devices, now_ns=now_ns,
                detail={"automatic": True},
            )  # fmt: skip
            baselines = [*baselines, *([pinned] if pinned else [])]
    groups: dict[tuple[str, bool], _Plan] = {}
    for t in live:
        head = read.choose(baselines, t, options.reference_days)
        provisional = head is None and t > model.first_ns + options.provisional_hours * HOUR_NS
        if provisional and not _on_provisional_grid(t, model.first_ns):
            continue
        name = (head.baseline_id if head else "", provisional)
        groups.setdefault(name, _Plan(model, [], head, provisional)).instants.append(t)
    yield from groups.values()


def _whole(baselines: list[StoredBaseline], at_ns: int, options: AnalyticsOptions) -> StoredBaseline | None:
    head = read.choose(baselines, at_ns, options.reference_days)
    return head if head and head.end_ns - head.start_ns >= options.reference_days * DAY_NS else None


def _on_provisional_grid(at_ns: int, first_ns: int) -> bool:
    """Say whether a provisional table is made at T: a function of T alone, so that a second run agrees."""
    return at_ns - first_ns <= _HOURLY_FOR_NS or at_ns % _PROVISIONAL_EVERY_NS == 0


def _judge_plan(store: Store, options: AnalyticsOptions, plan: _Plan, chunks: list[Chunk], rows: VerdictRows) -> None:
    model = plan.model
    reference = _reference(store, options, plan)
    alerts_from_ns = model.first_ns + options.reference_days * DAY_NS
    if reference is not None and not reference.provisional:
        alerts_from_ns = reference.end_ns
    known = frozenset(reference.signals) if reference else frozenset[str]()
    golden = read.golden(model.baselines)
    skews = {}
    if golden is not None:
        at = [t for t in plan.instants if t % SKEW_EVERY_NS == 0]
        skews = skew_by_tier(read.load(store, golden), chunks, model.key, at)
    if reference is not None:
        settings = DriftSettings(
            options.drift_delta, options.drift_alpha, options.drift_floor, options.look_horizon_days * 24
        )
        judged: list[Judged] = []
        for name, signal in reference.signals.items():
            current = stream_counts(chunks, model.key, signal.bins, zip(signal.devices, signal.tiers, strict=True))
            judged += call(judge_signal, reference, name, current, plan.instants, settings)
        add_rows(rows, reference, judged, skews, options, alerts_from_ns)
    add_unreferenced(rows, model.key, chunks, plan.instants, known, skews, alerts_from_ns)


def _reference(store: Store, options: AnalyticsOptions, plan: _Plan) -> Reference | None:
    """Return the plan's reference; a stored one shorter than the reference days counts as provisional."""
    model = plan.model
    if plan.provisional:
        return read.provisional(store, model.key, model.first_ns, options.provisional_hours, model.devices)
    if plan.head is None:
        return None
    reference = read.load(store, plan.head)
    short = plan.head.end_ns - plan.head.start_ns < options.reference_days * DAY_NS
    return reference.as_provisional() if short else reference


JOB: Final = Job("drift", HOUR_NS, run_drift)
"""Drift on the hourly grid."""

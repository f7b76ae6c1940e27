"""From counts to judgements: every instant of one signal of one model version, all tiers, in a few array operations.

``StreamCounts`` is a dense hours x devices x bins block on the reference's pinned bins. A current window is 24 hours
ending at T, never reaching back into the reference window; each device is matched with itself at the same hours of
the day, so that day and night cannot look like drift. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analytics.baseline import DAY_HOURS, Reference, SignalReference, TierScale, hour_of_day
from analytics.drift import DriftTest, Look, matched_test
from analytics.drift_counts import StreamCounts
from analytics.mix import composition_share, reweighting
from analytics.sequential import STARTS_HOURS, Alarm, hourly_shift, log_threshold, shiryaev_roberts
from analytics.signals import CATEGORICAL, HOUR_NS

Reals = NDArray[np.float64]

WINDOW_HOURS: Final = 24


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """What judging needs of the options: detector null ``delta`` (sd), ``alpha`` over ``looks`` hours, ``floor``."""

    delta: float
    alpha: float
    floor: float
    looks: int


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One stream (signal x tier) at one instant, before the table's multiplicity is known."""

    at_ns: int
    window_ns: tuple[int, int]
    signal: str
    tier: str
    scale: TierScale
    reason: str
    test: DriftTest | None
    mix_share: float
    mix_effect: float
    mix_p: float
    alarm: Alarm | None
    onset_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class _Tier:
    """One tier's part of the block, with running sums over hours so that any window is a difference of two rows."""

    reference: Reals
    n0: Reals
    p0: Reals
    counts: Reals
    all_sum: Reals
    matched_sum: Reals
    expected_sum: Reals
    inverse_sum: Reals


def judge_signal(
    reference: Reference, name: str, current: StreamCounts, instants: Sequence[int], settings: DriftSettings
) -> list[Judged]:
    """Judge one signal at each instant (epoch ns, on the hour, inside the block), every tier of reference or data."""
    signal = reference.signals[name]
    tiers = np.array(current.tiers, dtype=np.str_)
    padded = np.zeros((DAY_HOURS, len(current.tiers), signal.bins.size))
    padded[:, : len(signal.devices)] = signal.counts
    threshold = log_threshold(settings.alpha, settings.looks, reference.streams)
    judged: list[Judged] = []
    for tier in sorted({*current.tiers, *signal.scales}):
        mine = np.flatnonzero(tiers == tier)
        scale = signal.scales.get(tier, TierScale(signal.bins.center, signal.bins.spread, ()))
        part = _tier_part(padded[:, mine], current.counts[:, mine], current.first_ns)
        alarms = _alarms(reference, signal, scale, part, current.first_ns, instants, settings.delta, threshold)
        judged.extend(
            _judge(reference, signal, tier, scale, part, current.first_ns, at_ns, alarms, settings)
            for at_ns in instants
        )
    return judged


def _tier_part(reference: Reals, counts: Reals, first_ns: int) -> _Tier:
    hod = hour_of_day(first_ns + np.arange(counts.shape[0], dtype=np.int64) * HOUR_NS)
    n0 = reference.sum(axis=2)
    p0 = reference / np.maximum(n0, 1e-300)[:, :, None]
    known = n0[hod] > 0
    n1 = counts.sum(axis=2) * known
    expected = n1[:, :, None] * p0[hod]
    inverse = np.where(known, n1**2 / np.where(known, n0[hod], 1.0), 0.0)
    return _Tier(
        reference=reference,
        n0=n0,
        p0=p0,
        counts=counts,
        all_sum=_running(counts),
        matched_sum=_running(counts * known[:, :, None]),
        expected_sum=_running(expected),
        inverse_sum=_running(inverse),
    )


def _running(values: Reals) -> Reals:
    return np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])


def _judge(
    reference: Reference,
    signal: SignalReference,
    tier: str,
    scale: TierScale,
    part: _Tier,
    first_ns: int,
    at_ns: int,
    alarms: dict[int, tuple[Alarm, int]],
    settings: DriftSettings,
) -> Judged:
    start_ns = max(at_ns - WINDOW_HOURS * HOUR_NS, reference.end_ns)
    # A release judged by its predecessor's reference has no hours before its own first one: the block begins there.
    a, b = max((start_ns - first_ns) // HOUR_NS, 0), (at_ns - first_ns) // HOUR_NS
    share, effect, p, test = float("nan"), float("nan"), float("nan"), None
    reason = "" if signal.bins.resolved and signal.bins.size > 1 else "resolution"
    everything = part.all_sum[b] - part.all_sum[a]
    if everything.sum() < 0.5:
        reason = "no_data"
    elif not reason:
        test = _test(signal, scale, part, a, b, reference.streams)
        reason = test.reason
        share, effect, p = _mix(signal, scale, part, a, b, settings.floor, reason)
    alarm, onset_ns = (None, 0) if reason else alarms.get(at_ns, (None, 0))
    return Judged(at_ns, (start_ns, at_ns), signal.bins.signal, tier, scale, reason, test, share, effect, p, alarm,
                  onset_ns)  # fmt: skip


def _test(signal: SignalReference, scale: TierScale, part: _Tier, a: int, b: int, family: int) -> DriftTest:
    matched = part.matched_sum[b] - part.matched_sum[a]
    expected = part.expected_sum[b] - part.expected_sum[a]
    inverse = part.inverse_sum[b] - part.inverse_sum[a]
    n1 = matched.sum(axis=1)
    present = np.flatnonzero((n1 >= 0.5) & (inverse > 0))
    n = n1[present]
    # The reference's own noise with its hours of day mixed like the current window's: 1/n0 = Σ (n1_h/n1)²/n0_h.
    look = Look(n**2 / inverse[present], n, expected[present] / n[:, None], matched[present] / n[:, None])
    categorical = signal.bins.kind == CATEGORICAL
    return matched_test(look, signal.bins.scores, scale.spread, categorical=categorical, family=family)


def _mix(
    signal: SignalReference, scale: TierScale, part: _Tier, a: int, b: int, floor: float, reason: str
) -> tuple[float, float, float]:
    """Return (composition share, effect and p of the reporting mix); the latter only for a testable whole day.

    Part of a day would compare a device's day with another's night.
    """
    everything = part.all_sum[b] - part.all_sum[a]
    matched = part.matched_sum[b] - part.matched_sum[a]
    expected = part.expected_sum[b] - part.expected_sum[a]
    n0, n1, n = part.reference.sum(axis=(0, 2)), everything.sum(axis=1), matched.sum(axis=1)
    overall = part.reference.sum(axis=0) / np.maximum(n0, 1e-300)[:, None]
    p0 = np.where(n[:, None] > 0, expected / np.maximum(n, 1e-300)[:, None], overall)
    p1 = everything / np.maximum(n1, 1e-300)[:, None]
    share = composition_share(n0, n1, p0, p1)
    if reason or b - a < WINDOW_HOURS:
        return share, float("nan"), float("nan")
    step = None if signal.bins.kind == CATEGORICAL else np.diff(signal.bins.scores) / scale.spread
    effect, p = reweighting(n0, n1, p0, step, floor)
    return share, effect, p


def _alarms(
    reference: Reference,
    signal: SignalReference,
    scale: TierScale,
    part: _Tier,
    first_ns: int,
    instants: Sequence[int],
    delta: float,
    threshold: float,
) -> dict[int, tuple[Alarm, int]]:
    """Return (alarm, onset ns) by instant; none without k1. Hours of the reference window are never judged."""
    if reference.provisional or not scale.k1 or not instants or not signal.bins.resolved:
        return {}
    last = (instants[-1] - first_ns) // HOUR_NS
    first = max((reference.end_ns - first_ns) // HOUR_NS, (instants[0] - first_ns) // HOUR_NS - STARTS_HOURS, 0)
    if first >= last or part.counts.shape[1] == 0:
        return {}
    begin_ns = first_ns + first * HOUR_NS
    scores = signal.bins.standard_scores(scale.spread)
    hod = hour_of_day(begin_ns + np.arange(last - first, dtype=np.int64) * HOUR_NS)
    n1 = part.counts[first:last].sum(axis=2)
    mean0 = np.moveaxis(part.p0 @ scores.T, 2, 0)[:, hod]
    mean1 = np.moveaxis(part.counts[first:last] @ scores.T, 2, 0) / np.maximum(n1, 1e-300)
    hours = hourly_shift(mean0, np.where(n1 > 0, mean1, 0.0), part.n0[hod], n1)
    earliest = max(instants[0], begin_ns + HOUR_NS)
    run = shiryaev_roberts(
        hours,
        delta=delta,
        k1=np.array(scale.k1),
        threshold=threshold,
        judged=(instants[-1] - earliest) // HOUR_NS + 1,
    )
    at = [begin_ns + (last - first - len(run) + i + 1) * HOUR_NS for i in range(len(run))]
    return {t: (alarm, begin_ns + alarm.onset * HOUR_NS) for t, alarm in zip(at, run, strict=True)}

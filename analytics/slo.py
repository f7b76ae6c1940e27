"""Error-budget burn on 5-minute slots: multi-window alerting with guards for small fleets.

Burn = share of bad events over a window / share that the objective allows. A pair of windows fires while the burn over
both exceeds its threshold (Google SRE Workbook, chapter 5). Small fleets need more: a single crash of 50 devices would
page. So a pair that fires must still hold without its worst device, from two devices, by the exact binomial bound; one
that does not is ``too_few_events``. Events are counted in whole millionths, and a comparison that floating point could
flip is made in exact arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from analytics.windows import BurnWindow

Ints: TypeAlias = npt.NDArray[np.int64]
Reals: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

SLOT_NS: Final = 300_000_000_000
MICRO: Final = 1_000_000
TOP: Final = 20
"""Most devices named beside a burn."""

DEVICE_CHUNK: Final = 512
INTERVAL_CHUNK: Final = 4096


def micro(events: npt.ArrayLike) -> Ints:
    """Return event counts in whole millionths; a histogram's share below a threshold is not a whole event."""
    return np.rint(np.asarray(events, dtype=np.float64) * MICRO).astype(np.int64)


def exceeds(bad: Ints, total: Ints, limit: Fraction) -> Bools:
    """Return where ``bad / total > limit``, exactly; never where total is 0.

    Only comparisons within 1e-9 of the limit need whole-number arithmetic; the others are decided in floating point.
    """
    bound = total.astype(np.float64) * float(limit)
    difference = bad.astype(np.float64) - bound
    over: Bools = (difference > 0) & (total > 0)
    for position in np.flatnonzero(np.abs(difference) <= 1e-9 * np.maximum(bound, 1.0)):
        above = int(bad[position]) * limit.denominator > limit.numerator * int(total[position])
        over[position] = above and total[position] > 0
    return over


@dataclass(frozen=True, slots=True)
class Series:
    """Bad and all events (millionths) of consecutive slots; slot i ends at ``base_ns + (i + 1) x 5 min``."""

    base_ns: int
    bad: Ints
    total: Ints

    def index(self, at_ns: int) -> int:
        """Return how many slots end at or before ``at_ns``."""
        return min(max((at_ns - self.base_ns) // SLOT_NS, 0), len(self.total))


@dataclass(frozen=True, slots=True)
class Offenders:
    """Sparse bad events by device: (slot index, device index, millionths)."""

    slot: Ints
    device: Ints
    bad: Ints
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorstDevices:
    """For each interval: the worst device's bad events, the devices with any, and the worst devices' indices."""

    worst: Ints
    devices: Ints
    top: Ints
    top_bad: Ints


def worst_devices(offenders: Offenders, slots: int, starts: Ints, ends: Ints) -> WorstDevices:
    """Return the worst devices of intervals [starts, ends) of slots; memory is bounded by devices in chunks."""
    count = len(starts)
    worst, devices = np.zeros(count, np.int64), np.zeros(count, np.int64)
    top, top_bad = np.full((count, TOP), -1, np.int64), np.zeros((count, TOP), np.int64)
    for first in range(0, len(offenders.names), DEVICE_CHUNK):
        size = min(DEVICE_CHUNK, len(offenders.names) - first)
        chosen = (offenders.device >= first) & (offenders.device < first + size)
        total = np.zeros((size, slots + 1), np.int64)
        np.add.at(total, (offenders.device[chosen] - first, offenders.slot[chosen] + 1), offenders.bad[chosen])
        np.cumsum(total, axis=1, out=total)
        for begin in range(0, count, INTERVAL_CHUNK):
            part = slice(begin, min(begin + INTERVAL_CHUNK, count))
            sums = total[:, ends[part]] - total[:, starts[part]]
            worst[part] = np.maximum(worst[part], sums.max(axis=0))
            devices[part] += (sums > 0).sum(axis=0)
            best = np.argsort(-sums, axis=0, kind="stable")[:TOP].T
            merged = np.concatenate([top_bad[part], np.take_along_axis(sums.T, best, axis=1)], axis=1)
            names = np.concatenate([top[part], best + first], axis=1)
            order = np.argsort(-merged, axis=1, kind="stable")[:, :TOP]
            top_bad[part] = np.take_along_axis(merged, order, axis=1)
            top[part] = np.take_along_axis(names, order, axis=1)
    return WorstDevices(worst, devices, top, top_bad)


@dataclass(frozen=True, slots=True)
class Guard:
    """When a firing pair is believed.

    At least ``events`` bad events must be left without the worst device's, from at least ``devices`` devices in all,
    and so many be improbable (<= ``alpha``) at a burn of just the threshold.
    """

    devices: int = 2
    events: int = 2
    alpha: float = 0.05


def guard_holds(guard: Guard, rest: Ints, devices: Ints, total: Ints, limit: Fraction) -> Bools:
    """Return where the guard holds; ``rest`` and ``total`` in millionths, ``limit`` = burn x (1 - objective).

    A part of an event counts as none on the bad side and as a whole one in the sample: the cautious way on both.
    """
    events = rest // MICRO
    sample = -(-total // MICRO)
    tail = stats.binom.sf(events - 1, np.maximum(sample, 1), min(float(limit), 1.0))
    held: Bools = (events >= guard.events) & (devices >= guard.devices) & (tail <= guard.alpha)
    return held


@dataclass(frozen=True, slots=True)
class PairBurn:
    """One pair of windows at every instant: counts (millionths), what exceeds, and whether the guard holds.

    ``focus`` says whose devices are described: the long window while it is over, else the short one.
    """

    window: BurnWindow
    long_bad: Ints
    long_total: Ints
    short_bad: Ints
    short_total: Ints
    long_over: Bools
    short_over: Bools
    held: Bools
    described: Ints
    focus: WorstDevices


def _sums(cumulated: Ints, ends: Ints, widths: Ints) -> Ints:
    result: Ints = cumulated[ends] - cumulated[np.maximum(ends - widths, 0)]
    return result


def _cumulated(values: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])


def widths(window_ns: int, shortest_ns: Ints) -> Ints:
    """Return a window's width in slots at each instant: never shorter than the telemetry windows it must hold."""
    return np.maximum(-(-shortest_ns // SLOT_NS), window_ns // SLOT_NS)


def pair_burn(
    series: Series, ends: Ints, window: BurnWindow, allowed: Fraction, shortest_ns: Ints, guard: Guard,
    offenders: Offenders, rest: Ints | None = None,
) -> PairBurn:  # fmt: skip
    """Return one pair's burn at the instants whose slot counts are ``ends``.

    ``allowed`` = 1 - objective. ``rest`` (time slices): bad slices that stay bad without their worst device, by slot;
    else the worst device's events are taken off the long window's.
    """
    bad, total = _cumulated(series.bad), _cumulated(series.total)
    long, short = widths(window.long_ns, shortest_ns), widths(window.short_ns, shortest_ns)
    limit = window.burn * allowed
    long_bad, long_total = _sums(bad, ends, long), _sums(total, ends, long)
    short_bad, short_total = _sums(bad, ends, short), _sums(total, ends, short)
    long_over, short_over = exceeds(long_bad, long_total, limit), exceeds(short_bad, short_total, limit)
    described = np.flatnonzero(long_over | short_over)
    width = np.where(long_over, long, short)[described]
    focus = worst_devices(offenders, len(series.total), np.maximum(ends[described] - width, 0), ends[described])
    held = np.zeros(len(ends), np.bool_)
    left = long_bad[described] - focus.worst if rest is None else _sums(_cumulated(rest), ends[described], width)
    both = (long_over & short_over)[described]
    passed = guard_holds(guard, left, focus.devices, long_total[described], limit)
    held[described] = both & passed
    return PairBurn(window, long_bad, long_total, short_bad, short_total, long_over, short_over, held, described, focus)


FAST_BURN: Final = "fast_burn"
RECOVERING: Final = "recovering"
RISING: Final = "rising"
ON_PACE: Final = "on_pace"
TOO_FEW: Final = "too_few_events"
NO_DATA: Final = "no_data"


@dataclass(frozen=True, slots=True)
class State:
    """What the pairs say together at one instant; ``pair`` is the index of the one that decides, None on pace."""

    verdict: str
    pair: int | None


def state(pairs: Sequence[PairBurn], position: int) -> State:
    """Return the state at one instant: guarded fire first, then refused fire, recovering, rising, on pace.

    ``no_data`` when the longest paging window is empty: nothing could fire then.
    """
    paging = [pair for pair in pairs if pair.window.severity == "page"] or list(pairs)
    if max(pair.long_total[position] for pair in paging) <= 0:
        return State(NO_DATA, None)
    both = [bool(pair.long_over[position] and pair.short_over[position]) for pair in pairs]
    for index, pair in enumerate(pairs):
        if pair.held[position]:
            return State(FAST_BURN, index)
    for index in range(len(pairs)):
        if both[index]:
            return State(TOO_FEW, index)
    for index, pair in enumerate(pairs):
        if pair.long_over[position]:
            return State(RECOVERING, index)
    for index, pair in enumerate(pairs):
        if pair.short_over[position]:
            return State(RISING, index)
    return State(ON_PACE, None)


def quiet(pairs: Sequence[PairBurn]) -> Bools:
    """Return the instants at which no window of any pair is over and the paging windows hold data: on pace."""
    over = np.zeros(len(pairs[0].long_bad), np.bool_)
    filled = np.zeros(len(over), np.bool_)
    for pair in pairs:
        over |= pair.long_over | pair.short_over
        if pair.window.severity == "page":
            filled |= pair.long_total > 0
    return ~over & filled


def burn(bad: Ints, total: Ints, allowed: Fraction) -> Reals:
    """Return burn rates, NaN where there are no events (the caller writes null)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rate: Reals = np.where(total > 0, bad / np.where(total > 0, total, 1) / float(allowed), math.nan)
    return rate


@dataclass(frozen=True, slots=True)
class Budget:
    """The error budget over the SLO's period: events (millionths), share left (negative once overspent)."""

    bad: Ints
    total: Ints
    left: Reals


def budget(series: Series, ends: Ints, period_ns: int, allowed: Fraction) -> Budget:
    """Return the rolling budget at each instant; ``left`` is NaN without events."""
    width = np.full(len(ends), period_ns // SLOT_NS, np.int64)
    bad, total = _sums(_cumulated(series.bad), ends, width), _sums(_cumulated(series.total), ends, width)
    return Budget(bad, total, 1 - burn(bad, total, allowed))


def time_left_ns(left: float, rate: float, period_ns: int) -> int | None:
    """Return how long a budget share lasts at a burn rate; 0 when spent, None when it outlasts the period."""
    if math.isnan(left) or math.isnan(rate):
        return None
    if left <= 0:
        return 0
    if rate <= 0 or left / rate >= 1:
        return None
    return int(left / rate * period_ns)


def time_slices(
    series: Series, offenders: Offenders, slice_ns: int, target: Fraction
) -> tuple[Series, Offenders, Ints]:  # fmt: skip
    """Return (series, offenders, rest) in whole time slices: one event a slice with data, standing at its last slot.

    A slice is bad when more than ``1 - target`` of its events are; ``rest`` marks slices that stay bad without the
    events of their own worst device. Slices are aligned to the epoch.
    """
    count = len(series.total)
    ends = series.base_ns + (np.arange(count, dtype=np.int64) + 1) * SLOT_NS
    slot_of = (-(-ends // slice_ns) * slice_ns - series.base_ns) // SLOT_NS - 1
    inside = slot_of < count
    bad, total = np.zeros(count, np.int64), np.zeros(count, np.int64)
    np.add.at(bad, slot_of[inside], series.bad[inside])
    np.add.at(total, slot_of[inside], series.total[inside])
    is_bad = exceeds(bad, total, 1 - target)
    keep = inside[offenders.slot] if len(offenders.slot) else np.zeros(0, np.bool_)
    slot, device = slot_of[offenders.slot[keep]], offenders.device[keep]
    cells, at = np.unique(np.stack([slot, device]), axis=1, return_inverse=True)
    amount = np.zeros(cells.shape[1], np.int64)
    np.add.at(amount, at.ravel(), offenders.bad[keep])
    worst = np.zeros(count, np.int64)
    np.maximum.at(worst, cells[0], amount)
    rest = exceeds(bad - worst, total, 1 - target) & is_bad
    guilty = is_bad[cells[0]]
    named = Offenders(cells[0][guilty], cells[1][guilty], np.full(int(guilty.sum()), MICRO, np.int64), offenders.names)
    sliced = Series(series.base_ns, is_bad.astype(np.int64) * MICRO, (total > 0).astype(np.int64) * MICRO)
    return sliced, named, rest.astype(np.int64) * MICRO

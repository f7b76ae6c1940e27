"""The alert detector: minimum-effect Shiryaev-Roberts on hourly matched shifts, valid under any number of looks.

A table is judged once; an alert is looked at every hour for ever. The detector sums evidence over hours, keeps the
smallest shift worth waking for (``delta``) inside its null, so that shocks common to a healthy fleet do not alarm, and
bounds the chance of any alarm within the horizon by ``alpha`` (E[R_h] <= h, Doob; Shin, Ramdas and Rinaldo 2023).
It is recomputed from the last 96 hours each time: no state is kept. Formulae and what they are worth:
docs/statistics.md. Pure functions over arrays; everything in log space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analytics.drift import WOBBLE

Reals = NDArray[np.float64]

LAMBDAS: Final = (0.5, 1.0, 2.0, 3.0)
STARTS_HOURS: Final = 96
"""A drift may have begun at most this many hours ago; older evidence is forgotten."""

MIN_HOUR_DEVICES: Final = 5
RECENT_HOURS: Final = 6


@dataclass(frozen=True, slots=True, eq=False)
class HourlyShift:
    """Matched mean shift of each score and hour, in reference sd, and its uncentred standard error.

    Arrays are scores x hours; NaN where fewer than ``MIN_HOUR_DEVICES`` devices can be matched: no look, no evidence.
    """

    shift: Reals
    se: Reals
    devices: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Alarm:
    """The detector at one hour. ``onset`` is the index of the hour where the evidence most likely began.

    ``log_e`` may be compared with ``log_threshold``; ``crossed`` says it is beyond, ``alarm`` that it is and that the
    last hours still show the shift (a drift that ended stops alarming before its evidence is forgotten). ``score`` is
    the index of the score that carries the evidence, ``shift`` its mean since the onset, in reference sd.
    """

    log_e: float
    log_threshold: float
    crossed: bool
    alarm: bool
    onset: int
    score: int
    shift: float
    hours: int


def hourly_shift(mean0: Reals, mean1: Reals, n0: Reals, n1: Reals) -> HourlyShift:
    """Return the matched shift of each hour.

    Arrays are hours x devices (``mean*``: scores x hours x devices, in reference sd); a device counts in an hour
    when both counts are positive. se_h = sqrt(Σ_d D_d²), not centred: it errs on the safe side under a shift and makes
    exp(λz − λ²/2) an e-value for symmetric D_d without a Gaussian assumption (de la Peña 1999).
    """
    both = (n0 > 0) & (n1 > 0)
    h = np.where(both, 1.0 / (1.0 / np.where(both, n0, 1.0) + 1.0 / np.where(both, n1, 1.0) + WOBBLE), 0.0)
    total = h.sum(axis=1, keepdims=True)
    w = np.divide(h, total, out=np.zeros_like(h), where=total > 0)
    d = w * np.where(both, mean1 - mean0, 0.0)
    devices = both.sum(axis=1)
    enough = devices >= MIN_HOUR_DEVICES
    shift = np.where(enough, d.sum(axis=2), np.nan)
    se = np.where(enough, np.sqrt(np.sum(d * d, axis=2)), np.nan)
    return HourlyShift(shift, se, devices)


def variance_inflation(hours: HourlyShift) -> Reals:
    """Return k1 of each score: max(1, sd of z) over the healthy hours of the reference, each day left out of its own.

    It widens the detector's standard error by what device noise does not explain: weather, traffic, weak references.
    """
    usable = np.isfinite(hours.shift) & (hours.se > 0)
    z = np.divide(hours.shift, hours.se, out=np.zeros_like(hours.shift), where=usable)
    count = usable.sum(axis=1)
    mean = np.divide(z.sum(axis=1), count, out=np.zeros(len(z)), where=count > 0)
    squares = np.where(usable, (z - mean[:, None]) ** 2, 0.0).sum(axis=1)
    variance = np.divide(squares, count - 1, out=np.ones(len(z)), where=count > 1)
    return np.asarray(np.maximum(1.0, np.sqrt(variance)), dtype=np.float64)


def log_e_values(hours: HourlyShift, delta: float, k1: Reals) -> Reals:
    """Return log e of each component (2 signs x 4 λ x scores) and hour: λ(±s − δ)/(k1·se) − λ²/2; 0 without a look."""
    lam = np.asarray(LAMBDAS)[None, :, None, None]
    sign = np.asarray((1.0, -1.0))[:, None, None, None]
    usable = np.isfinite(hours.shift) & (hours.se > 0)
    scale = np.where(usable, k1[:, None] * np.where(usable, hours.se, 1.0), 1.0)
    s = np.where(usable, hours.shift, 0.0)
    values = lam * (sign * s - delta) / scale - lam * lam / 2.0
    return np.asarray(np.where(usable, values, 0.0), dtype=np.float64).reshape(-1, hours.shift.shape[1])


def log_threshold(alpha: float, looks: int, streams: int) -> float:
    """Return log(H·m/α): no alarm in H looks at m streams of a healthy model version with probability 1 − α."""
    return float(np.log(max(looks, 1)) + np.log(max(streams, 1)) - np.log(alpha))


def shiryaev_roberts(hours: HourlyShift, *, delta: float, k1: Reals, threshold: float, judged: int) -> list[Alarm]:
    """Run the detector and return its state at each of the last ``judged`` hours.

    R_h = (1 + R_{h−1})·e_h for each component, limited to starts within 96 hours; E_h is the mean over components and
    an alarm stands while log E_h >= ``threshold``.
    """
    log_e = log_e_values(hours, delta, k1)
    components, n = log_e.shape
    judged = min(judged, n)
    if judged <= 0 or components == 0:
        return []
    path = np.concatenate([np.zeros((components, 1)), np.cumsum(log_e, axis=1)], axis=1)
    starts = np.concatenate([np.full((components, STARTS_HOURS - 1), -np.inf), -path[:, :-1]], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(starts, STARTS_HOURS, axis=1)[:, n - judged :]
    products = windows + path[:, n - judged + 1 :, None]
    total = special.logsumexp(products, axis=(0, 2)) - np.log(components)
    best_start = np.argmax(special.logsumexp(products, axis=0), axis=1)
    component = np.argmax(special.logsumexp(products, axis=2), axis=0)
    alarms = []
    scores = hours.shift.shape[0]
    for i in range(judged):
        hour = n - judged + i
        onset = hour - STARTS_HOURS + 1 + int(best_start[i])
        score = int(component[i]) % scores
        sign = 1.0 if component[i] < components // 2 else -1.0
        alarms.append(_alarm(hours, float(total[i]), threshold, hour, onset, score, sign, delta))
    return alarms


def _alarm(
    hours: HourlyShift, log_e: float, threshold: float, hour: int, onset: int, score: int, sign: float, delta: float
) -> Alarm:
    crossed = log_e >= threshold
    since = _mean_shift(hours, score, onset, hour + 1)
    recent = _mean_shift(hours, score, max(onset, hour + 1 - RECENT_HOURS), hour + 1)
    return Alarm(
        log_e=log_e,
        log_threshold=threshold,
        crossed=crossed,
        alarm=crossed and sign * recent > delta / 2.0,
        onset=onset,
        score=score,
        shift=since,
        hours=int(np.isfinite(hours.shift[score, onset : hour + 1]).sum()),
    )


def _mean_shift(hours: HourlyShift, score: int, start: int, end: int) -> float:
    """Return the plain mean of the shift over the hours [start, end) that were looked at; 0 without any.

    Not weighted by 1/se²: an uncentred se grows with the shift and would favour the hours without it.
    """
    s, se = hours.shift[score, start:end], hours.se[score, start:end]
    usable = np.isfinite(s) & (se > 0)
    if not usable.any():
        return 0.0
    return float(np.mean(s[usable]))

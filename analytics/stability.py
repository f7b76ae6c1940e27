"""Crash-free arithmetic: intervals on the effective sample size, and how much evidence a target needs.

Telemetry of a fleet is clustered: one bad device repeats its crash. Plain Wilson intervals then cover 39-96 % instead
of 95 %; Wilson on n/deff with a history floor covers 93-99 %. Counts come in as integers, so that the same data give
the same row whatever else was read with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

Ints: TypeAlias = npt.NDArray[np.int64]
Reals: TypeAlias = npt.NDArray[np.float64]

MET: Final = "met"
MISSED: Final = "missed"
INSUFFICIENT: Final = "insufficient"
NO_DATA: Final = "no_data"


@cache
def normal_quantile(confidence: float) -> float:
    """Return z of a two-sided interval: 1.96 for 0.95."""
    return float(stats.norm.ppf(0.5 + confidence / 2))


def wilson(good: float, n: float, confidence: float = 0.95, deff: float = 1.0) -> tuple[float, float]:
    """Return Wilson's interval of ``good / n`` on the effective sample n / max(deff, 1); (0, 1) without data."""
    if n <= 0:
        return 0.0, 1.0
    share = min(max(good / n, 0.0), 1.0)
    size = n / max(deff, 1.0)
    z2 = normal_quantile(confidence) ** 2
    centre = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = math.sqrt(share * (1 - share) * z2 / size + z2 * z2 / (4 * size * size)) / (1 + z2 / size)
    # at the ends the formula is exact in mathematics and off by an ulp in floating point
    low = 0.0 if share == 0 else max(centre - half, 0.0)
    high = 1.0 if share == 1 else min(centre + half, 1.0)
    return low, high


def evidence_needed(target: float, alpha: float = 0.05) -> float:
    """Return the fault-free effective sample that shows ``target`` at 1 - alpha: ln(alpha) / ln(target).

    2995 for 99.9 %, 598 for 99.5 %, 299 for 99 %.
    """
    if not 0 < target < 1:
        raise ValueError(f"a target of {target!r} cannot be shown by any sample; use a ratio between 0 and 1")
    return math.log(alpha) / math.log(target)


@dataclass(frozen=True, slots=True)
class DeviceSums:
    """Sums over devices at each instant: bad k, size h, and their products; ``devices`` counts those with h > 0."""

    k: Ints
    h: Ints
    kk: Reals
    kh: Reals
    hh: Reals
    devices: Ints


def device_sums(bad: Ints, size: Ints) -> DeviceSums:
    """Return the sums over devices of (devices x instants) matrices of integers.

    Products are summed in double precision: below 2**53 that is exact, so order does not matter.
    """
    k, h = bad.astype(np.float64), size.astype(np.float64)
    return DeviceSums(
        k=bad.sum(axis=0),
        h=size.sum(axis=0),
        kk=(k * k).sum(axis=0),
        kh=(k * h).sum(axis=0),
        hh=(h * h).sum(axis=0),
        devices=(size > 0).sum(axis=0).astype(np.int64),
    )


def design_effect(sums: DeviceSums, unit: float, icc: Reals) -> Reals:
    """Return the design effect at each instant: max(1, v_lin / v_binomial, 1 + icc (sum h^2 / sum h - 1)).

    ``unit`` is the size of one trial in the units of h (3600 when h is in seconds and a trial is a device-hour). v_lin
    = D/(D-1) sum (k_d - p h_d)^2 / n^2 is the variance linearised over devices; ``icc`` is the intraclass correlation
    of the devices' history, all there is to go by while nothing crashed.
    """
    h = sums.h / unit
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(sums.h > 0, sums.k / np.maximum(sums.h, 1), 0.0)
        squares = np.maximum(sums.kk - 2 * p * sums.kh + p * p * sums.hh, 0.0) / unit**2
        d = sums.devices
        v_lin = np.where(d > 1, d / np.maximum(d - 1, 1), 1.0) * squares / np.maximum(h, 1e-9) ** 2
        v_binomial = p * (1 - p) / np.maximum(h, 1e-9)
        now = np.where(v_binomial > 0, v_lin / np.where(v_binomial > 0, v_binomial, 1.0), 1.0)
        mean_size = np.where(sums.h > 0, sums.hh / np.maximum(sums.h, 1) / unit, 1.0)
    effect: Reals = np.maximum(np.maximum(now, 1 + icc * np.maximum(mean_size - 1, 0.0)), 1.0)
    return effect


def intraclass_correlation(bad: Reals, size: Reals) -> float:
    """Return the ANOVA estimate of how alike one device's trials are, 0..1, from its bad and all trials in history.

    0 when nothing can be said: fewer than two devices, no bad trial, or no second trial of any device.
    """
    keep = size > 0
    k, h = np.minimum(bad[keep], size[keep]), size[keep]
    devices, total = len(h), float(h.sum())
    if devices < 2 or k.sum() <= 0 or total <= devices:
        return 0.0
    p = k.sum() / total
    shares = k / h
    between = float((h * (shares - p) ** 2).sum()) / (devices - 1)
    within = float((h * shares * (1 - shares)).sum()) / (total - devices)
    size0 = (total - float((h * h).sum()) / total) / (devices - 1)
    denominator = between + (size0 - 1) * within
    if denominator <= 0:
        return 0.0
    return round(min(max((between - within) / denominator, 0.0), 1.0), 9)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A ratio with its interval and verdict; ``needed`` is the effective sample that the target asks for."""

    value: float | None
    low: float | None
    high: float | None
    n: float
    n_effective: float
    needed: float | None
    verdict: str
    reason: str


def judge(
    good: float, n: float, deff: float, target: float | None, *, confidence: float = 0.95, lower_is_better: bool = False
) -> Estimate:
    """Return the estimate of the ratio ``good / n`` and what it says about ``target``.

    missed: the interval excludes the target on the bad side. insufficient: fewer effective trials than the target needs
    even if all were good (reason ``evidence``), or value on the bad side but the interval holds the target (reason
    ``interval``), or no target (``no_target``). met: enough evidence and the value reaches the target. With
    ``lower_is_better`` the ratio counts bad events and must stay at or below the target.
    """
    if n <= 0:
        return Estimate(None, None, None, 0.0, 0.0, None, NO_DATA, "")
    low, high = wilson(good, n, confidence, deff)
    value, size = min(max(good / n, 0.0), 1.0), n / max(deff, 1.0)
    if target is None:
        return Estimate(value, low, high, n, size, None, INSUFFICIENT, "no_target")
    needed = evidence_needed(1 - target if lower_is_better else target)
    beyond = low > target if lower_is_better else high < target
    reached = value <= target if lower_is_better else value >= target
    if beyond:
        verdict, reason = MISSED, ""
    elif size < needed:
        verdict, reason = INSUFFICIENT, "evidence"
    elif reached:
        verdict, reason = MET, ""
    else:
        verdict, reason = INSUFFICIENT, "interval"
    return Estimate(value, low, high, n, size, needed, verdict, reason)


def rolling(matrix: Ints, window: int) -> Ints:
    """Return sums over the last ``window`` columns, at each column, of a (rows x columns) matrix."""
    total = np.concatenate([np.zeros((matrix.shape[0], 1), dtype=np.int64), np.cumsum(matrix, axis=1)], axis=1)
    columns = matrix.shape[1]
    ends = np.arange(1, columns + 1)
    return np.asarray(total[:, ends] - total[:, np.maximum(ends - window, 0)], dtype=np.int64)

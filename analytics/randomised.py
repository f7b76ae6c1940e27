"""The way back from counts that were randomised on the device: unbiased estimates and what they are worth.

k-ary randomised response reports the true one of k categories with probability p = e^epsilon / (e^epsilon + k - 1) and
each other one with q = 1 / (e^epsilon + k - 1) (Warner, "Randomized response", JASA 60, 1965; Kairouz, Bonawitz and
Ramage, "Discrete distribution estimation under local privacy", ICML 2016). Of n observations, n_i of them in category
i, c_i are reported in i with mean n_i p + (n - n_i) q. The channel's inverse is therefore

    n_i^ = (c_i - n q) / (p - q)

unbiased for the true count, and since the reports are independent with known chances,

    Var(n_i^) = [n_i p (1 - p) + (n - n_i) q (1 - q)] / (p - q)^2
    Cov(n_i^, n_j^) = -[(n_i + n_j) p q + (n - n_i - n_j) q^2] / (p - q)^2

given the true counts (for rare categories the variance per observation is (k - 2 + e^epsilon) / (e^epsilon - 1)^2:
Wang, Blocki, Li and Jha, USENIX Security 2017). Both are linear in the true counts, so putting the estimates in gives
unbiased estimates of them. They are the noise of the mechanism alone: a share of a population has its sampling variance
besides.

Counts of one series of many devices and windows may be added first: the formulae hold for sums, as long as epsilon and
k are the same. Estimates may be negative and are left so: clipping them at zero would bias every sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Channel:
    """The chances of one report: ``truthful`` for the true category, ``other`` for each of the rest."""

    truthful: float
    other: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """True counts by category as estimated, ``variance`` of each, and ``covariance`` (k x k) of all."""

    counts: NDArray[np.float64]
    variance: NDArray[np.float64]
    covariance: NDArray[np.float64]


def channel(categories: int, epsilon: float) -> Channel:
    """Return the chances of k-ary randomised response; raise ``ValueError`` for k < 2 or epsilon <= 0."""
    if categories < 2:
        raise ValueError(f"{categories} categories: randomised response needs at least 2")
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"epsilon {epsilon!r}: must be finite and above 0")
    other = 1 / (math.exp(epsilon) + categories - 1)
    return Channel(truthful=1 - (categories - 1) * other, other=other)


def unbiased(reported: Sequence[int], epsilon: float, categories: int | None = None) -> Estimate:
    """Return what ``reported`` counts (one a category, absent categories as 0) say of the true ones.

    ``categories`` is ``edge.privacy.categories`` of the points; ``reported`` may leave out categories that nobody
    reported, which then stand at the end. Raise ``ValueError`` for negative counts or more counts than categories.
    """
    k = len(reported) if categories is None else categories
    if len(reported) > k:
        raise ValueError(f"{len(reported)} counts of {k} categories: some are of another vocabulary")
    counts = np.zeros(k)
    counts[: len(reported)] = reported
    if (counts < 0).any() or not np.isfinite(counts).all():
        raise ValueError("reported counts are whole numbers from 0")
    chances = channel(k, epsilon)
    p, q = chances.truthful, chances.other
    gain, total = p - q, float(counts.sum())
    estimated = (counts - total * q) / gain
    pairs = estimated[:, None] + estimated[None, :]
    covariance = -(pairs * p * q + (total - pairs) * q * q) / gain**2
    variance = (estimated * p * (1 - p) + (total - estimated) * q * (1 - q)) / gain**2
    np.fill_diagonal(covariance, variance)
    return Estimate(estimated, variance, covariance)

"""Simulated fleets for the statistics tests: device offsets, volumes, wobble, day and night, common shocks.

Shifts are in units of the sd inside a device and hour. Everything comes from the generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from analytics.drift import Look


@dataclass(frozen=True)
class Fleet:
    """A fleet of the table test: D devices, about n current rows each, four times as many in the reference."""

    devices: int = 100
    rows: int = 100
    offset_sd: float = 0.5
    volume_sd: float = 1.0
    wobble_sd: float = 0.1
    reporting: float = 1.0
    biased_reporting: bool = False
    bins: int = 20


def pinned_edges(bins: int, sd: float) -> np.ndarray:
    """Return the quantiles of the pooled reference N(0, sd²)."""
    return special.ndtri(np.arange(1, bins) / bins) * sd


def bin_scores(bins: int, sd: float) -> np.ndarray:
    """Return the mean of N(0, sd²) inside each quantile bin."""
    cut = np.concatenate([[-np.inf], special.ndtri(np.arange(1, bins) / bins), [np.inf]])
    density = np.exp(-0.5 * np.where(np.isfinite(cut), cut, 0.0) ** 2) / np.sqrt(2 * np.pi)
    density[~np.isfinite(cut)] = 0.0
    return -np.diff(density) * bins * sd


def shares(rng, mean, n, edges):
    """Return (counts, shares) of n_d draws of N(mean_d, 1) on the bins."""
    cdf = special.ndtr(edges[None, :] - mean[:, None])
    p = np.diff(np.hstack([np.zeros((mean.size, 1)), cdf, np.ones((mean.size, 1))]), axis=1)
    counts = rng.multinomial(n, p).astype(float)
    return counts, counts / np.maximum(counts.sum(axis=1), 1)[:, None]


def look(rng: np.random.Generator, fleet: Fleet, shift: float = 0.0) -> tuple[Look, np.ndarray, float]:
    """Return one matched look, the bin scores and the marginal sd."""
    d = fleet.devices
    marginal = float(np.sqrt(1 + fleet.offset_sd**2 + fleet.wobble_sd**2))
    edges = pinned_edges(fleet.bins, marginal)
    offset = rng.normal(0, fleet.offset_sd, d)
    volume = np.exp(rng.normal(-(fleet.volume_sd**2) / 2, fleet.volume_sd, d))
    n0 = np.maximum(1, rng.poisson(4 * fleet.rows * volume))
    n1 = np.maximum(1, rng.poisson(fleet.rows * volume))
    if fleet.biased_reporting:
        chance = fleet.reporting * np.exp(offset) / np.mean(np.exp(offset))
    else:
        chance = np.full(d, fleet.reporting)
    present = rng.random(d) < chance
    _, p0 = shares(rng, offset + rng.normal(0, fleet.wobble_sd, d), n0, edges)
    _, p1 = shares(rng, offset + rng.normal(0, fleet.wobble_sd, d) + shift, n1, edges)
    matched = Look(n0[present].astype(float), n1[present].astype(float), p0[present], p1[present])
    return matched, bin_scores(fleet.bins, marginal), marginal


@dataclass(frozen=True)
class HourlyFleet:
    """A fleet of the alert detector, as hourly means: 14 reference days by hour of day, then ``hours`` judged."""

    devices: int = 40
    rows: int = 20
    hours: int = 24 * 30
    reference_days: int = 14
    reporting: float = 0.5
    wobble_sd: float = 0.1
    day_night: float = 0.5
    shock_sd: float = 0.0
    shock_ar: float = 0.9


def hourly(rng: np.random.Generator, fleet: HourlyFleet, shift: float = 0.0, onset: int = 0):
    """Return (n0 by hour of day, mean0 by hour of day, n1, mean1, reference n, reference mean): hours x devices."""
    d, total = fleet.devices, fleet.reference_days * 24 + fleet.hours
    hour = np.arange(total)
    shock = np.zeros(total)
    if fleet.shock_sd > 0:
        noise = rng.normal(0, fleet.shock_sd * np.sqrt(1 - fleet.shock_ar**2), total)
        shock[0] = rng.normal(0, fleet.shock_sd)
        for t in range(1, total):
            shock[t] = fleet.shock_ar * shock[t - 1] + noise[t]
    level = fleet.day_night * np.sin(2 * np.pi * hour / 24) + shock
    level[fleet.reference_days * 24 + onset :] += shift
    n = rng.poisson(fleet.rows, (total, d)) * (rng.random((total, d)) < fleet.reporting)
    offset = rng.normal(0, 0.5, d)
    mean = offset + level[:, None] + rng.normal(0, fleet.wobble_sd, (total, d))
    mean = mean + rng.normal(0, 1, (total, d)) / np.sqrt(np.maximum(n, 1))
    mean = np.where(n > 0, mean, 0.0)
    split = fleet.reference_days * 24
    days = n[:split].reshape(fleet.reference_days, 24, d)
    n0 = days.sum(axis=0).astype(float)
    sums = (n[:split] * mean[:split]).reshape(fleet.reference_days, 24, d).sum(axis=0)
    mean0 = sums / np.maximum(n0, 1)
    return n0, mean0, n[split:].astype(float), mean[split:], n[:split].astype(float), mean[:split]

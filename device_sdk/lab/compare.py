"""Hold a bench against a stored one: a regression is a change for the worse that noise does not explain. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from device_sdk.lab.measure import QUANTILES, Measured

RESAMPLES: Final = 2000
MEMORY_SHARE: Final = 0.10
MEMORY_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Change:
    """One figure now and then: ``ratio`` is now over then, with its 95 % interval where blocks give one."""

    name: str
    now: float
    then: float
    low: float | None
    high: float | None
    worse: bool

    @property
    def ratio(self) -> float:
        """Now over then."""
        return self.now / self.then if self.then else float("inf") if self.now else 1.0


def compare(now: Measured, then: Measured, tolerance: float) -> list[Change]:
    """Return the changes of latency, memory and energy.

    A quantile is worse when the lower end of the 95 % bootstrap interval of the ratio of the blocks' medians is above
    1 + ``tolerance``. Memory is worse by more than 10 % and 8 MiB. Energy is worse when the intervals (value and error)
    lie more than ``tolerance`` apart.
    """
    changes = []
    for name in QUANTILES:
        low, high = interval(now.blocks[name], then.blocks[name])
        changes.append(Change(name, now.quantiles[name], then.quantiles[name], low, high, low > 1 + tolerance))
    if now.memory_peak_bytes is not None and then.memory_peak_bytes:
        grown = now.memory_peak_bytes - then.memory_peak_bytes
        worse = grown > MEMORY_BYTES and grown > MEMORY_SHARE * then.memory_peak_bytes
        changes.append(Change("memory peak", now.memory_peak_bytes, then.memory_peak_bytes, None, None, worse))
    if now.energy_j is not None and then.energy_j is not None:
        least, most = now.energy_j - (now.energy_error_j or 0), then.energy_j + (then.energy_error_j or 0)
        worse = least > most * (1 + tolerance)
        changes.append(Change("energy", now.energy_j, then.energy_j, None, None, worse))
    return changes


def interval(now: Sequence[float], then: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of median(now) / median(then), blocks resampled (seeded)."""
    rng = np.random.default_rng(20261125)
    ours, theirs = np.asarray(now), np.asarray(then)
    tops = np.median(rng.choice(ours, (RESAMPLES, len(ours))), axis=1)
    bottoms = np.median(rng.choice(theirs, (RESAMPLES, len(theirs))), axis=1)
    low, high = np.quantile(tops / np.maximum(bottoms, 1e-12), [0.025, 0.975])
    return float(low), float(high)

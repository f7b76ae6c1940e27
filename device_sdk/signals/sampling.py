"""Which runs have their tensors copied: all of them, unless that would cost more than the budget or the level forbids.

Runs and durations are counted in every case. The number of runs left out between two copied ones is drawn evenly from
``0 .. 2 * stride - 2``: a fixed stride would see one of two cameras that take turns, and never the other.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from device_sdk.contract.attributes import SignalLevel
from device_sdk.contract.settings import LEVELS

STRIDE_MAX: Final = 1024
"""Largest stride that is chosen; a cheaper one is never needed above 0.1 us a run."""
SAMPLES_PER_S: Final = 50.0
"""A model that runs seldom costs nothing: below this many copied runs a second the budget thins no further."""
TENSOR_SHARE_MIN: Final = 0.2
"""Share of the budget that tensor signals may use even where counting alone takes all of it."""
COUNTING_NS: Final = 300.0
"""Cost of timing and counting one run, until it was measured on this machine."""
LOOK_RUN_NS: Final = 10_000
"""From this run time on (10 us) the first number of every answer is looked at: less than 1 % of the run."""
_TENSORS_NS: Final = 5_000.0
IDLE_GAP: Final = 1023
"""Runs between two looks at whether there is something to copy again."""
_SMOOTHING: Final = 0.3


def lower_of(one: SignalLevel, other: SignalLevel) -> SignalLevel:
    """Return the level that copies less."""
    return min(one, other, key=LEVELS.index)


@dataclass(frozen=True, slots=True)
class Usage:
    """What the runs of one session were since the last account: how many, the time in them, the time of copying."""

    runs: int
    run_ns: int
    copy_ns: int


class Sampling:
    """The choice of one recorder. ``budget`` is a share of run time; None (a simulated device) leaves out nothing.

    Read on the caller's thread without a lock; written by the fold and by ``limit``.
    """

    def __init__(self, budget: float | None) -> None:
        self.level = SignalLevel.FULL
        self.stride = 1
        self.looks = True
        self._budget = budget
        self._minimum = 1
        self._times = 1
        self._chosen = 1
        self._runs = self._spent_in_runs_ns = self._copied_ns = 0
        self._run_ns = self._tensors_ns = 0.0
        self._random = random.Random(None if budget is not None else 1).random

    def limit(self, level: SignalLevel, every: int, times: int = 1) -> None:
        """Copy at most what ``level`` allows, of at most one run in ``every`` (>= 1), and ``times`` as few (>= 1)."""
        self.level, self._minimum, self._times = level, every, times
        self.stride = max(self._minimum, self._chosen) * self._times

    def used(self, runs: int, run_ns: int, copy_ns: int) -> None:
        """Take in how many runs there were, and the time in them and of copying their tensors."""
        self._runs += runs
        self._spent_in_runs_ns += run_ns
        self._copied_ns += copy_ns

    def take_usage(self) -> Usage:
        """Return what was used since the last call."""
        usage = Usage(self._runs, self._spent_in_runs_ns, self._copied_ns)
        self._runs = self._spent_in_runs_ns = self._copied_ns = 0
        return usage

    def gap(self) -> int:
        """Return how many runs to leave out before the next one is copied."""
        if self.level is SignalLevel.OFF:
            return IDLE_GAP
        return 0 if self.stride == 1 else int(self._random() * (2 * self.stride - 1))

    def answer_broken(self) -> None:
        """Look at every answer from now on: one was NaN or empty, and how many are is a count."""
        self.looks = True

    def observe(self, run_ns: float, tensors_ns: float | None, runs_per_s: float) -> None:
        """Choose the stride anew from a typical run, the cost of one run's tensors (None: unknown), and the rate."""
        if self._budget is None:
            return
        self._run_ns = _smoothed(self._run_ns, run_ns)
        if tensors_ns is not None:
            self._tensors_ns = _smoothed(self._tensors_ns, tensors_ns)
        allowed_ns = allowance(self._budget * self._run_ns, COUNTING_NS)
        wanted = min((self._tensors_ns or _TENSORS_NS) / max(allowed_ns, 1e-3), runs_per_s / SAMPLES_PER_S)
        if not self._chosen / 2 < wanted <= self._chosen:  # powers of two, so that noise does not move the choice
            self._chosen = min(STRIDE_MAX, 1 << max(0, int(wanted - 1e-9)).bit_length()) if wanted > 1 else 1
        self.stride = max(self._minimum, self._chosen) * self._times
        self.looks = self.looks and self._run_ns >= LOOK_RUN_NS


def allowance(budget: float, counting: float) -> float:
    """Return what tensor signals may cost: what counting leaves of the budget, and at least a fifth of it."""
    return max(budget - counting, TENSOR_SHARE_MIN * budget)


def _smoothed(old: float, new: float) -> float:
    return new if not old else old + _SMOOTHING * (new - old)

"""A budget of bytes a day: what may be spent refills evenly, at most one day's worth is saved up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

_DAY_NS: Final = 86_400_000_000_000


class Budget:
    """A token bucket of ``bytes_per_day`` (None: no limit). Spending may overdraw it once; the debt is paid first."""

    def __init__(self, bytes_per_day: float | None, now_ns: Callable[[], int]) -> None:
        self._per_day = bytes_per_day
        self._now_ns = now_ns
        self._left = bytes_per_day or 0.0
        self._at_ns = now_ns()

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return self._per_day is not None

    def spend(self, size: int) -> None:
        """Take ``size`` bytes out."""
        self._left -= size

    def left(self) -> float:
        """Return how many bytes may be spent now; 0 or below: none."""
        if self._per_day is None:
            return math.inf
        self._refill()
        return self._left

    def resume(self, left: float) -> None:
        """Go on with what an earlier process had left, so that a restart refills nothing."""
        if self._per_day is not None and math.isfinite(left):
            self._left = min(left, self._per_day)

    def wait_s(self) -> float:
        """Return the seconds until something may be spent again."""
        missing = 1 - self.left()
        return 0.0 if self._per_day is None or missing <= 0 else missing / self._per_day * 86_400

    def _refill(self) -> None:
        now = self._now_ns()
        elapsed, self._at_ns = max(0, now - self._at_ns), now
        if self._per_day is not None:
            self._left = min(self._per_day, self._left + self._per_day * elapsed / _DAY_NS)

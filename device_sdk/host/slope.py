"""How fast memory grows with work: a robust line through (inference time, resident memory)."""

from __future__ import annotations

from typing import Final

import numpy as np

POINTS_MIN: Final = 16
POINTS_MAX: Final = 64
SPAN_MIN_S: Final = 60.0
FIRST_STEP_S: Final = 1.0


class MemorySlope:
    """Theil-Sen: the median of the slopes between all pairs of points.

    Points are taken at even steps of accumulated inference time, from 1 s on; when there are 64 every second one is
    dropped and the step doubles, so they always cover the whole session in fixed room. Nothing is told below 16 points
    or 60 s of inference. Up to 29 % of the points may be anything (a cache that fills, a garbage collection) without
    moving the answer far.
    """

    def __init__(self) -> None:
        self._points: list[tuple[float, float]] = []
        self._step_s = FIRST_STEP_S
        self._told: float | None = None

    def add(self, inference_s: float, resident_bytes: int) -> None:
        """Offer one reading, taken after ``inference_s`` seconds of inference in this session."""
        if inference_s < self._step_s or (self._points and inference_s - self._points[-1][0] < self._step_s):
            return
        self._points.append((inference_s, float(resident_bytes)))
        self._told = None
        if len(self._points) >= POINTS_MAX:
            del self._points[::2]
            self._step_s *= 2

    def bytes_per_hour(self) -> float | None:
        """Return bytes per hour of inference, None as long as there is too little to go by."""
        if len(self._points) < POINTS_MIN or self._points[-1][0] - self._points[0][0] < SPAN_MIN_S:
            return None
        if self._told is None:
            x, y = np.array(self._points).T
            first, second = np.triu_indices(len(x), 1)
            self._told = float(np.median((y[second] - y[first]) / (x[second] - x[first]))) * 3600.0
        return self._told

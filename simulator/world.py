"""What simulated cameras see: real digit images under each device's exposure, the time of day, and a little noise.

A device's gain at an instant is its own exposure x the day's course x a wobble of that device and hour x a shock common
to the whole fleet. One per cent of gain moves an image's mean by 0.09 of its standard deviation, so the wobble (sd
1 %) stays near 0.1 and the common shock (AR(0.9), sd 0.15 %) far below 0.1: the fleet is healthy in the sense of the
drift detector (effects below 0.1 sd are not worth waking for). The drift fault multiplies the gain of its tier.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from simulator.models import digits_images
from simulator.scenarios import HOUR, DevicePlan, Scenario

DAY_AMPLITUDE: Final = 0.03
WOBBLE_SD: Final = 0.01
COMMON_SD: Final = 0.0015
COMMON_MEMORY: Final = 0.9
SHOT_SD: Final = 0.05
"""Spread of the gain from one image to the next (auto-exposure hunting)."""


class World:
    """The light of one scenario; deterministic by its seed, and the same in every process."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        hours = (scenario.end_ns - scenario.start_ns) // HOUR + 24 * 31
        rng = np.random.default_rng([scenario.seed, 2])
        draws = rng.normal(0.0, COMMON_SD * np.sqrt(1.0 - COMMON_MEMORY**2), int(hours))
        common = np.empty(int(hours))
        level = 0.0
        for hour, draw in enumerate(draws):
            level = COMMON_MEMORY * level + float(draw)
            common[hour] = level
        self._common = common
        self._wobble: dict[int, npt.NDArray[np.float64]] = {}

    def gains(self, plan: DevicePlan, instants_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the device's gain at each instant."""
        hour = np.minimum((instants_ns - self._scenario.start_ns) // HOUR, len(self._common) - 1)
        wobble = self._wobble.get(plan.index)
        if wobble is None:
            rng = np.random.default_rng([self._scenario.seed, 3, plan.index])
            wobble = rng.normal(0.0, WOBBLE_SD, len(self._common))
            self._wobble[plan.index] = wobble
        local_h = (instants_ns / HOUR + plan.utc_offset_h) % 24.0
        daylight = 1.0 + DAY_AMPLITUDE * np.cos((local_h - 13.0) * (2.0 * np.pi / 24.0))
        gain = plan.exposure * daylight * (1.0 + wobble[hour]) * (1.0 + self._common[hour])
        if plan.dark_from_ns is not None:
            gain = np.where(instants_ns >= plan.dark_from_ns, gain * (1.0 - self._scenario.sizes.exposure_loss), gain)
        return np.asarray(gain, dtype=np.float64)

    def images(
        self, plan: DevicePlan, instants_ns: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        """Return one real image per instant, (n, 64) float32 in 0..1, as the device's camera gives it."""
        pool = digits_images()
        picked = pool[rng.integers(0, len(pool), len(instants_ns))]
        gain = self.gains(plan, instants_ns) * rng.normal(1.0, SHOT_SD, len(instants_ns))
        shown: npt.NDArray[np.float32] = np.clip(picked * gain.astype(np.float32)[:, None], 0.0, 1.0)
        return shown

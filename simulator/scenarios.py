"""Scenarios: which devices there are, what each lives through, and which faults are injected, all from one seed.

``default_scenario`` is the demo's: four tiers, six firmware versions, four roll-out rings, three regions. Faulty groups
do not overlap, so each alert has at most one right explanation. All instants are UTC epoch nanoseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from device_sdk.contract import attributes as a
from simulator.faults import Fault, FaultKind, FaultSizes

SECOND: Final = 1_000_000_000
HOUR: Final = 3600 * SECOND
DAY: Final = 24 * HOUR
REFERENCE_DAYS: Final = 14
RECENT_DAYS: Final = 2
VERDICT_DEVICES: Final = 20
"""From this many devices on every group has what its verdict needs: 8 to compare, 2 silent, 2 that crash."""
REGIONS: Final[Mapping[str, int]] = {"eu-west": 1, "us-east": -5, "ap-south": 5}
"""Regions and the hours of their local clock ahead of UTC."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A device class: ``latency_s`` is the median of a digits run on its hardware, ``sigma`` its log-normal spread."""

    name: str
    latency_s: float
    sigma: float


TIERS: Final[Mapping[str, Tier]] = {
    tier.name: tier
    for tier in (
        Tier("cam-v1", 0.014, 0.25),
        Tier("cam-v2", 0.008, 0.25),
        Tier("edge-mini", 0.018, 0.22),
        Tier("gateway", 0.004, 0.30),
    )
}
MAGIKA_LATENCY_S: Final = 0.045


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """One device: what it is, and the instants at which something happens to it (None = never).

    ``exposure`` is its camera's gain; ``night`` = (from, to) local hours in which it is switched off cleanly;
    ``update`` = (instant, new firmware); ``crash_from_ns`` starts a crash loop; during ``offline`` = (from, to) nothing
    reaches the network; from ``silent_from_ns`` on it is gone for good.
    """

    index: int
    device_id: str
    tier: Tier
    firmware: str
    region: str
    ring: str
    exposure: float
    runs_magika: bool = False
    night: tuple[int, int] | None = None
    model_2_from_ns: int | None = None
    update: tuple[int, str] | None = None
    crash_from_ns: int | None = None
    dark_from_ns: int | None = None
    offline: tuple[int, int] | None = None
    silent_from_ns: int | None = None

    @property
    def utc_offset_h(self) -> int:
        """Return the hours its local clock is ahead of UTC."""
        return REGIONS[self.region]

    def firmware_at(self, at_ns: int) -> str:
        """Return the firmware it runs at ``at_ns``."""
        return self.update[1] if self.update is not None and at_ns >= self.update[0] else self.firmware

    def digits_version_at(self, at_ns: int) -> str:
        """Return the version of the digits model it runs at ``at_ns``."""
        return "2" if self.model_2_from_ns is not None and at_ns >= self.model_2_from_ns else "1"

    def online_at(self, at_ns: int) -> bool:
        """Return whether it reaches the network at ``at_ns``."""
        return self.offline is None or not self.offline[0] <= at_ns < self.offline[1]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet's history from ``start_ns`` to ``end_ns`` (then it may go on live).

    Windows last ``history_window_s`` until ``recent_ns`` and ``recent_window_s`` from there on; devices then make
    ``runs_per_window`` and ``recent_runs_per_window`` digits runs in each, about.
    """

    seed: int
    start_ns: int
    recent_ns: int
    end_ns: int
    plans: tuple[DevicePlan, ...]
    faults: tuple[Fault, ...]
    sizes: FaultSizes = field(default_factory=FaultSizes)
    history_window_s: int = 900
    recent_window_s: int = 300
    runs_per_window: float = 7.0
    recent_runs_per_window: float = 2.7
    magika_runs_per_hour: float = 0.75

    def window_s_at(self, at_ns: int) -> int:
        """Return the length of windows of a session that starts at ``at_ns``."""
        return self.recent_window_s if at_ns >= self.recent_ns else self.history_window_s

    def runs_at(self, at_ns: int) -> float:
        """Return the mean number of digits runs a window at ``at_ns``."""
        return self.recent_runs_per_window if at_ns >= self.recent_ns else self.runs_per_window


@dataclass(frozen=True, slots=True)
class HealthyCohort:
    """A part of the fleet that no fault touches, where every alert is false."""

    tier: str
    firmware: str
    model: str
    version: str
    devices: int

    @property
    def label(self) -> str:
        """Return how tables name it."""
        return f"{self.tier} · firmware {self.firmware} · {self.model} {self.version}"


def _share(devices: int, share: float, least: int) -> int:
    return max(least, int(devices * share))


def _plans(devices: int, seed: int, recent_ns: int, sizes: FaultSizes) -> tuple[DevicePlan, ...]:
    """Return the plans of ``devices`` devices; groups keep their shares, and at least what a verdict needs."""
    if devices < 6:
        raise ValueError(f"{devices} devices: the scenario's groups need at least 6; pass --devices 6 or more")
    rng = np.random.default_rng([seed, 1])
    enough = devices >= VERDICT_DEVICES
    cam_v2 = _share(devices, 0.30, 8 if enough else 1)
    mini = _share(devices, 0.22, 4 if enough else 2)
    gateway = _share(devices, 0.13, 2 if enough else 1)
    cam_v1 = devices - cam_v2 - mini - gateway
    crash_ns, dark_ns = recent_ns + 12 * HOUR, recent_ns + 6 * HOUR
    off = (recent_ns + 3 * HOUR, recent_ns + 3 * HOUR + int(sizes.offline_s * SECOND))
    plans: list[DevicePlan] = []

    def add(tier: str, firmware: str, ring: str, **more: object) -> None:
        index = len(plans)
        region = tuple(REGIONS)[index % len(REGIONS)]
        exposure = float(np.clip(rng.normal(1.0, 0.03), 0.92, 1.08))
        plans.append(
            DevicePlan(index, f"{tier}-{index:04d}", TIERS[tier], firmware, region, ring, exposure, **more)  # type: ignore[arg-type]
        )

    silent = _share(devices, 0.03, 2 if enough else 1)
    version_2 = max(1, cam_v1 // 2)
    for i in range(cam_v1):
        if i < version_2:
            add("cam-v1", "1.8.2", "r3" if i % 3 == 2 else "r2", model_2_from_ns=recent_ns)
        elif i < version_2 + silent:
            add("cam-v1", "1.8.1", "r1", silent_from_ns=recent_ns + 20 * HOUR)
        else:
            add("cam-v1", "1.8.1" if i % 4 == 0 else "1.8.2", "r0" if i % 5 == 0 else "r1")
    for i in range(cam_v2):
        add("cam-v2", "3.0.1", "r0" if i % 6 == 0 else "r1", dark_from_ns=dark_ns)
    crashing = max(1, round(mini * 0.4))
    for i in range(mini):
        if i < crashing:
            add("edge-mini", "2.0.4", "r0", update=(crash_ns, "2.1.0"), crash_from_ns=crash_ns)
        else:
            add("edge-mini", "2.0.4", "r1", night=(22, 6) if i % 2 else None)
    away = max(1, gateway // 3)
    for i in range(gateway):
        if i < away:
            add("gateway", "5.1.3", "r1", offline=off)
        else:
            add("gateway", "5.2.0", "r0" if i % 4 == 0 else "r1", runs_magika=i < away + max(1, round(gateway * 0.6)))
    return tuple(plans)


def _values(
    plans: Sequence[DevicePlan], firmware: Sequence[str], model: str = "", version: str = ""
) -> dict[str, frozenset[str]]:
    """Return the attribute values an alert about these devices may name."""
    values = {
        a.TIER: frozenset(plan.tier.name for plan in plans),
        a.FIRMWARE_VERSION: frozenset(firmware),
        a.RING: frozenset(plan.ring for plan in plans),
        a.REGION: frozenset(plan.region for plan in plans),
    }
    if model:
        values[a.MODEL_NAME] = frozenset({model})
        values[a.MODEL_VERSION] = frozenset({version})
    return values


def _faults(plans: tuple[DevicePlan, ...], recent_ns: int, sizes: FaultSizes, drift_ready: bool) -> tuple[Fault, ...]:
    """Return the faults that the plans contain, with what is expected to find each."""
    dark = [plan for plan in plans if plan.dark_from_ns is not None]
    crash = [plan for plan in plans if plan.crash_from_ns is not None]
    slow = [plan for plan in plans if plan.model_2_from_ns is not None]
    away = [plan for plan in plans if plan.offline is not None]
    gone = [plan for plan in plans if plan.silent_from_ns is not None]

    def ids(group: Sequence[DevicePlan]) -> tuple[str, ...]:
        return tuple(plan.device_id for plan in group)

    def first(instants: Sequence[int | None]) -> int:
        return min(instant for instant in instants if instant is not None)

    return (
        Fault("drift", FaultKind.INPUT_DRIFT, first([p.dark_from_ns for p in dark]), ids(dark),
              "tier cam-v2: images darker", "drift alert on cam-v2",
              _values(dark, ("3.0.1",), "digits", "1"), required=drift_ready, size=sizes.exposure_loss),
        Fault("crash", FaultKind.CRASH_LOOP, first([p.crash_from_ns for p in crash]), ids(crash),
              "edge-mini with firmware 2.1.0", "crash-free alert on 2.1.0", _values(crash, ("2.1.0",))),
        Fault("latency", FaultKind.LATENCY_REGRESSION, recent_ns, ids(slow),
              "digits version 2 (rings r2, r3)", "latency SLO burn on digits 2",
              _values(slow, ("1.8.2",), "digits", "2"), size=sizes.latency_factor),
        Fault("offline", FaultKind.OFFLINE, away[0].offline[0] if away[0].offline else recent_ns, ids(away),
              "gateways with firmware 5.1.3", "silence at most; counts arrive", _values(away, ("5.1.3",)),
              end_ns=away[0].offline[1] if away[0].offline else None, required=len(away) > 1),
        Fault("silent", FaultKind.SILENT, first([p.silent_from_ns for p in gone]), ids(gone),
              f"{len(gone)} cam-v1 devices", "silence alert on cam-v1", _values(gone, ("1.8.1",))),
    )  # fmt: skip


def default_scenario(
    devices: int = 100, days: int = 16, seed: int = 1, *, end_ns: int, sizes: FaultSizes | None = None
) -> Scenario:
    """Return the demo's scenario: ``days`` days up to ``end_ns`` (epoch ns, whole hours), faults in the last two.

    Drift alerts need 14 reference days, so with fewer than 16 days the drift fault is injected but not required.
    Raises ValueError for fewer than 6 devices or 3 days.
    """
    if days < RECENT_DAYS + 1:
        raise ValueError(f"{days} days: faults fill the last {RECENT_DAYS}, so pass --days {RECENT_DAYS + 1} or more")
    sizes = sizes or FaultSizes()
    end_ns -= end_ns % HOUR
    recent_ns = end_ns - RECENT_DAYS * DAY
    plans = _plans(devices, seed, recent_ns, sizes)
    faults = _faults(plans, recent_ns, sizes, drift_ready=days >= REFERENCE_DAYS + RECENT_DAYS)
    return Scenario(seed, end_ns - days * DAY, recent_ns, end_ns, plans, faults, sizes)


def healthy_cohorts(scenario: Scenario) -> tuple[HealthyCohort, ...]:
    """Return every tier x firmware x model version of which no device has a fault, with its number of devices."""
    touched: set[tuple[str, str, str, str]] = set()
    counts: dict[tuple[str, str, str, str], int] = {}
    faulty = {device_id for fault in scenario.faults for device_id in fault.device_ids}
    for plan in scenario.plans:
        firmware = plan.firmware_at(scenario.end_ns)
        models = [("digits", plan.digits_version_at(scenario.end_ns))]
        if plan.runs_magika:
            models.append(("magika", "standard_v3_3"))
        for model, version in models:
            key = (plan.tier.name, firmware, model, version)
            counts[key] = counts.get(key, 0) + 1
            if plan.device_id in faulty:
                touched.add(key)
    return tuple(HealthyCohort(*key, devices=n) for key, n in sorted(counts.items()) if key not in touched)


def slice_ends(scenario: Scenario, hours: float = 6.0) -> list[int]:
    """Return the instants at which the fleet stops together and delivers, the last being ``end_ns``."""
    step = int(hours * HOUR)
    n = math.ceil((scenario.end_ns - scenario.start_ns) / step)
    return [min(scenario.end_ns, scenario.start_ns + (i + 1) * step) for i in range(n)]

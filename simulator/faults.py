"""The faults a scenario injects, and which alert is expected to find each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class FaultKind(StrEnum):
    """What goes wrong."""

    INPUT_DRIFT = "input drift"
    CRASH_LOOP = "crash-looping firmware"
    LATENCY_REGRESSION = "latency regression"
    OFFLINE = "off line, returns with backlog"
    SILENT = "falls silent for good"


EXPLAINS: Mapping[FaultKind, tuple[str, ...]] = {
    FaultKind.INPUT_DRIFT: ("drift",),
    FaultKind.CRASH_LOOP: ("crash", "stability"),
    FaultKind.LATENCY_REGRESSION: ("latency", "slow"),
    FaultKind.OFFLINE: ("silen", "report", "complet", "offline"),
    FaultKind.SILENT: ("silen", "report", "complet", "offline"),
}
"""Words in a rule's name by which its alerts may be the consequence of a fault of this kind."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One injected fault.

    ``values`` holds, for each cohort attribute (resource and model attributes), the values that the faulty part of the
    fleet has: an alert is about this fault only if every attribute of its cohort agrees. ``required`` faults must be
    found; the others (groups of one device, which no rule is about) may raise an alert, and that alert is not false.
    """

    name: str
    kind: FaultKind
    onset_ns: int
    device_ids: tuple[str, ...]
    where: str
    expect: str
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    end_ns: int | None = None
    required: bool = True
    size: float = 0.0

    def active(self, at_ns: int) -> bool:
        """Return whether the fault is present at ``at_ns``."""
        return self.onset_ns <= at_ns and (self.end_ns is None or at_ns < self.end_ns)


@dataclass(frozen=True, slots=True)
class FaultSizes:
    """How bad each fault is.

    ``exposure_loss`` darkens images by that share: 0.09 moves their mean by 0.8 standard deviations. Crashes come every
    ``crash_after_s`` seconds of a session (uniform). ``latency_factor`` and ``latency_sigma`` replace the tier's median
    (multiplied) and log-normal sigma: p95 rises about 3.6 times.
    """

    exposure_loss: float = 0.09
    crash_after_s: tuple[float, float] = (1200.0, 2400.0)
    restart_s: float = 45.0
    latency_factor: float = 2.6
    latency_sigma: float = 0.45
    offline_s: float = 30 * 3600.0
    bad_frame_rate: float = 1 / 2000

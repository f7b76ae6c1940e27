"""What all readers of the host share: their shape, and the board on which one leaves what another needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from device_sdk.contract.attributes import EnergySource, ThrottleCause
from device_sdk.points import AttributePairs, Points

SECOND_NS: Final = 1_000_000_000
EVERY_ROUND: Final = 0
SELDOM_NS: Final = 10 * SECOND_NS
"""How often what is slow to read or slow to change is read: batteries answer over a bus, disks fill in hours."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a model ran between two rounds: time in runs, summed over threads, and the longest of them."""

    busy_ns: int = 0
    slowest_ns: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(self.busy_ns + other.busy_ns, max(self.slowest_ns, other.slowest_ns))


@dataclass(frozen=True, slots=True)
class Metered:
    """Energy of the metered rails over one interval, with the half-width that reading it leaves open."""

    seconds: float
    joules: float
    error_j: float
    source: EnergySource


@dataclass(slots=True)
class Board:
    """The last readings, each written by one reader and read by those after it in the round."""

    loads: dict[AttributePairs, Load] = field(default_factory=dict)
    cpu_s: float | None = None
    machine_cpu_s: float | None = None
    resident_bytes: int | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    metered: list[Metered] = field(default_factory=list)
    cpu_limited: bool = False
    accelerator_throttles: frozenset[ThrottleCause] = frozenset()

    @property
    def busy_ns(self) -> int:
        """Time in runs since the last round, all models together."""
        return sum(load.busy_ns for load in self.loads.values())


class Reader(Protocol):
    """Reads one corner of the host. ``sample`` runs in the background, ``emit`` when a window closes."""

    every_ns: int

    def sample(self, now_ns: int, elapsed_ns: int | None, board: Board) -> None:
        """Read; ``elapsed_ns`` is awake time since the last sample, None for the first and after a suspension."""
        ...

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        ...

"""Clocks of the processor's groups of cores, and how far the kernel lets them go at this moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.host.reader import EVERY_ROUND, Board
from device_sdk.host.tree import Tree
from device_sdk.points import Points

GROUPS_MAX: Final = 8
_LOWERED: Final = 0.99


@dataclass(slots=True)
class _Group:
    """Policies of equal top speed, spoken for by the first; speeds in kHz as the kernel has them."""

    directory: str
    top_khz: int
    highest_limit_khz: int = 0
    speed_khz: int | None = None
    limit_khz: int | None = None


class CpuFrequencyReader:
    """Reads the first policy of each group of cores (cores of equal top speed), at most 8 groups."""

    every_ns = EVERY_ROUND

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._groups: dict[str, _Group] = {}
        seen: set[int] = set()
        for directory in tree.find("sys/devices/system/cpu/cpufreq/policy*"):
            top = tree.integer(f"{directory}/cpuinfo_max_freq")
            if top is not None and top > 0 and top not in seen and len(seen) < GROUPS_MAX:
                seen.add(top)
                self._groups[directory.rpartition("/")[2]] = _Group(directory, top)

    @property
    def names(self) -> list[str]:
        """The groups that are read, by their first policy."""
        return list(self._groups)

    def sample(self, now_ns: int, elapsed_ns: int | None, board: Board) -> None:  # noqa: ARG002
        """Read clocks and limits; a limit below the highest of this session is a lowered one.

        Not below the hardware's top: a power mode that somebody chose is no throttling.
        """
        board.cpu_limited = False
        for group in self._groups.values():
            group.speed_khz = _positive(self._tree.integer(f"{group.directory}/scaling_cur_freq"))
            group.limit_khz = _positive(self._tree.integer(f"{group.directory}/scaling_max_freq"))
            if group.limit_khz is not None:
                group.highest_limit_khz = max(group.highest_limit_khz, group.limit_khz)
                board.cpu_limited |= group.limit_khz < _LOWERED * group.highest_limit_khz

    def emit(self, points: Points) -> None:
        """Add the last readings."""
        for name, group in self._groups.items():
            identity = (a.HW_ID, name)
            points.add(m.CPU_SPEED_LIMIT.name, group.top_khz * 1000, (identity, (a.HW_LIMIT_TYPE, "max")))
            if group.speed_khz is not None:
                points.add(m.CPU_SPEED.name, group.speed_khz * 1000, (identity,))
            if group.limit_khz is not None:
                limit = (identity, (a.HW_LIMIT_TYPE, "throttled"))
                points.add(m.CPU_SPEED_LIMIT.name, group.limit_khz * 1000, limit)


def _positive(value: int | None) -> int | None:
    return value if value is not None and value > 0 else None

"""The machine as a whole: CPU time by mode, memory, time since boot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.host.process import TICKS_A_SECOND
from device_sdk.host.reader import EVERY_ROUND, Board
from device_sdk.host.tree import Tree, integer_of
from device_sdk.points import Points

_STAT: Final = "proc/stat"
_MEMINFO: Final = "proc/meminfo"
_MODES: Final = ("user", "nice", "system", "idle", "iowait", "interrupt", "interrupt", "steal")
"""Columns of the kernel's ``cpu`` line in OpenTelemetry's words; guest time is inside user and nice."""
_IDLE: Final = frozenset({"idle", "iowait", "steal"})


class SystemReader:
    """Reads ``/proc/stat`` and ``/proc/meminfo``."""

    every_ns = EVERY_ROUND

    def __init__(self, tree: Tree, boot_ns: Callable[[], int]) -> None:
        self._tree = tree
        self._boot_ns = boot_ns
        self._has_stat, self._has_memory = tree.readable(_STAT), tree.readable(_MEMINFO)
        self._before = self._read_columns()
        self._spent: dict[str, float] = {}
        self._busy_s = 0.0

    def sample(self, now_ns: int, elapsed_ns: int | None, board: Board) -> None:  # noqa: ARG002
        """Add up CPU time by mode; a column that went backwards (idle does at times) counts nothing."""
        columns = self._read_columns()
        if columns is None:
            return
        for mode, now, before in zip(_MODES, columns, self._before or columns, strict=False):
            seconds = max(0, now - before) / TICKS_A_SECOND
            self._spent[mode] = self._spent.get(mode, 0.0) + seconds
            if mode not in _IDLE:
                self._busy_s += seconds
        self._before = columns
        board.machine_cpu_s = self._busy_s

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        for mode, seconds in self._spent.items():
            points.add(m.SYSTEM_CPU_TIME.name, seconds, ((a.CPU_MODE, mode),))
        self._spent = {}
        limit, available = self._read_memory()
        points.add(m.SYSTEM_MEMORY_LIMIT.name, limit)
        points.add(m.SYSTEM_MEMORY_AVAILABLE.name, available)
        points.add(m.SYSTEM_UPTIME.name, self._boot_ns() / 1e9)

    def _read_columns(self) -> list[int] | None:
        text = self._tree.text(_STAT, 512) if self._has_stat else None
        line = (text or "").partition("\n")[0].split()
        columns = [integer_of(word) for word in line[1 : len(_MODES) + 1]]
        if len(columns) < 4 or line[0] != "cpu" or any(column is None or column < 0 for column in columns):
            return None
        return [column or 0 for column in columns]

    def _read_memory(self) -> tuple[int | None, int | None]:
        found: dict[str, int] = {}
        text = self._tree.text(_MEMINFO, 512) if self._has_memory else None
        for line in (text or "").splitlines():
            words = line.split()
            kilobytes = integer_of(words[1]) if len(words) == 3 and words[2] == "kB" else None
            if kilobytes is not None and kilobytes >= 0:
                found[words[0]] = kilobytes * 1024
        return found.get("MemTotal:"), found.get("MemAvailable:")

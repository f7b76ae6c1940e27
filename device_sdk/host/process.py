"""The host process's own use of CPU, memory and disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.host.reader import EVERY_ROUND, Board
from device_sdk.host.slope import MemorySlope
from device_sdk.host.tree import Tree, integer_of
from device_sdk.points import Points

_STAT: Final = "proc/self/stat"
_STATM: Final = "proc/self/statm"
_IO: Final = "proc/self/io"
_USER, _SYSTEM, _STARTED = 11, 12, 19  # fields of stat behind the command's name, counted from 0

TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class ProcessReader:
    """CPU time by mode, resident memory with its peak and its slope, bytes read and written, and age."""

    every_ns = EVERY_ROUND

    def __init__(self, tree: Tree, boot_ns: Callable[[], int]) -> None:
        self._tree = tree
        self._boot_ns = boot_ns
        self._has_stat, self._has_statm, self._has_io = map(tree.readable, (_STAT, _STATM, _IO))
        self._started_s: float | None = None
        self._cpu = self._read_cpu()
        self._io = self._read_io()
        self._peak: int | None = None
        self._inference_s = 0.0
        self._slope = MemorySlope()

    def sample(self, now_ns: int, elapsed_ns: int | None, board: Board) -> None:  # noqa: ARG002
        """Leave CPU seconds and resident bytes on the board; follow memory's peak and slope."""
        board.cpu_s = sum(self._read_cpu())
        board.resident_bytes = resident = self._read_resident()
        self._inference_s += board.busy_ns / 1e9
        if resident is not None:
            self._peak = max(self._peak or 0, resident)
            self._slope.add(self._inference_s, resident)

    def emit(self, points: Points) -> None:
        """Add this window's points; reads once more, so that a window ends with what it used."""
        cpu, io, resident = self._read_cpu(), self._read_io(), self._read_resident()
        for mode, now, before in zip(("user", "system"), cpu, self._cpu, strict=True):
            points.add(m.PROCESS_CPU_TIME.name, max(0.0, now - before), ((a.CPU_MODE, mode),))
        self._cpu = cpu
        if resident is not None:
            points.add(m.PROCESS_MEMORY.name, resident)
            points.add(m.PROCESS_MEMORY_PEAK.name, max(self._peak or 0, resident))
        self._peak = None
        points.add(m.PROCESS_MEMORY_SLOPE.name, self._slope.bytes_per_hour())
        if io is not None and self._io is not None:
            for direction, now_bytes, before_bytes in zip(("read", "write"), io, self._io, strict=True):
                points.add(
                    m.PROCESS_DISK_IO.name, max(0, now_bytes - before_bytes), ((a.DISK_IO_DIRECTION, direction),)
                )
        self._io = io
        if self._started_s is not None:
            points.add(m.PROCESS_UPTIME.name, max(0.0, self._boot_ns() / 1e9 - self._started_s))

    def _read_cpu(self) -> tuple[float, float]:
        """Return (user, system) CPU seconds so far."""
        text = self._tree.text(_STAT) if self._has_stat else None
        fields = text.rpartition(")")[2].split() if text else []
        numbers = [integer_of(field) for field in fields[: _STARTED + 1]]
        if len(numbers) <= _STARTED:
            times = os.times()
            return times.user, times.system
        user, system, started = numbers[_USER], numbers[_SYSTEM], numbers[_STARTED]
        if started is not None:
            self._started_s = started / TICKS_A_SECOND
        return (user or 0) / TICKS_A_SECOND, (system or 0) / TICKS_A_SECOND

    def _read_resident(self) -> int | None:
        text = self._tree.text(_STATM) if self._has_statm else None
        fields = (text or "").split()
        pages = integer_of(fields[1]) if len(fields) > 1 else None
        return pages * PAGE_BYTES if pages is not None and pages >= 0 else None

    def _read_io(self) -> tuple[int, int] | None:
        """Return (read, written) bytes so far, of the disk and not of the page cache."""
        text = self._tree.text(_IO) if self._has_io else None
        values = dict(line.split(": ", 1) for line in (text or "").splitlines() if ": " in line)
        read, written = integer_of(values.get("read_bytes")), integer_of(values.get("write_bytes"))
        return (read, written) if read is not None and written is not None else None

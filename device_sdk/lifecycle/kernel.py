"""What the kernel tells of deaths: out-of-memory kills counted by cgroup and machine, and why the machine started anew.

All of it is read from ``/proc`` and ``/sys``; where a file does not exist the answer is ``UNREADABLE`` or False.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_sdk.lifecycle.inflight import UNREADABLE

_WATCHDOG_RESET: Final = 0x20
"""WDIOF_CARDRESET of the kernel's watchdog interface: the card last reset the machine."""
_FILES: Final = {"2": ("memory.events", "memory.max"), "1": ("memory.oom_control", "memory.limit_in_bytes")}
"""By version of the cgroups: the file with the counter ``oom_kill``, the file with the limit."""
_NO_LIMIT: Final = 1 << 60
_LARGE_SHARE: Final = 0.25
_NEAR_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class MemoryState:
    """Memory of the process and the counters of out-of-memory kills; ``UNREADABLE`` where there is none."""

    resident_bytes: int = 0
    limit_bytes: int = 0
    group_kills: int = UNREADABLE
    machine_kills: int = UNREADABLE


class KernelReader:
    """Reads one process's view; ``root`` is where ``proc`` and ``sys`` are."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc, self._sys = root / "proc", root / "sys"
        self.group, self._limit = self._memory_group()
        self._page_bytes = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

    def resident_bytes(self) -> int:
        """Return the resident memory of this process, 0 when unknown."""
        fields = _text(self._proc / "self" / "statm").split()
        return int(fields[1]) * self._page_bytes if len(fields) > 1 and fields[1].isdigit() else 0

    def memory(self) -> MemoryState:
        """Return memory and kill counters now."""
        total = _number(r"^MemTotal:\s+(\d+) kB", _text(self._proc / "meminfo"))
        limits = [total * 1024] if total > 0 else []
        group_limit = _number(r"^(\d+)$", _text(self._limit)) if self._limit is not None else UNREADABLE
        if 0 < group_limit < _NO_LIMIT:
            limits.append(group_limit)
        machine = _number(r"^oom_kill (\d+)", _text(self._proc / "vmstat"))
        return MemoryState(self.resident_bytes(), min(limits, default=0), self.kills_in(self.group), machine)

    def kills_in(self, group: str) -> int:
        """Return how many processes of a memory cgroup were killed so far, ``UNREADABLE`` when it is not there."""
        version, name = group[:1], group[1:]
        folder = self._folder(version, name, own=group == self.group) if group else None
        return _number(r"^oom_kill (\d+)", _text(folder / _FILES[version][0])) if folder is not None else UNREADABLE

    def watchdog_reset(self) -> bool:
        """Say whether a hardware watchdog made the machine start anew."""
        for status in sorted(self._sys.glob("class/watchdog/watchdog*/bootstatus")):
            text = _text(status).strip()
            try:
                if int(text, 0) & _WATCHDOG_RESET:
                    return True
            except ValueError:
                continue
        return False

    def _memory_group(self) -> tuple[str, Path | None]:
        """Return (version and name, file with the limit) of this process's memory cgroup, version 2 before 1."""
        lines = [line.split(":", 2) for line in _text(self._proc / "self" / "cgroup").splitlines()]
        groups = {parts[1]: parts[2] for parts in lines if len(parts) == 3}
        for version, name in (("2", groups.get("")), ("1", groups.get("memory"))):
            folder = self._folder(version, name, own=True) if name else None
            if name and folder is not None:
                return version + name, folder / _FILES[version][1]
        return "", None

    def _folder(self, version: str, name: str, *, own: bool) -> Path | None:
        """Return the folder of a cgroup; inside a container the mount itself is the own group, by a longer name."""
        base = self._sys / "fs" / "cgroup"
        mount = base if version == "2" else base / "memory"
        for folder in (mount / name.lstrip("/"), mount)[: 1 + own]:
            if (folder / _FILES[version][0]).exists():
                return folder
        return None


def killed_for_memory(before: MemoryState, now: MemoryState) -> bool:
    """Say whether a process that was ``before`` at its last sign of life was killed for lack of memory.

    ``now`` has the counters of that process's cgroup and machine. One of: its own cgroup counts more such kills than
    then; or the machine does, and the process held a quarter of the memory it may use; or nobody counts them, and it
    held nine tenths.
    """
    if before.group_kills != UNREADABLE and now.group_kills > before.group_kills:
        return True
    share = before.resident_bytes / before.limit_bytes if before.limit_bytes > 0 else 0.0
    if before.machine_kills != UNREADABLE and now.machine_kills != UNREADABLE:
        return now.machine_kills > before.machine_kills and share >= _LARGE_SHARE
    return share >= _NEAR_SHARE


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found.group(1)) if found else UNREADABLE

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
        self.group, self._kills, self._limit = self._memory_group()
        self._page_bytes = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

    def resident_bytes(self) -> int:
        """Return the resident memory of this process, 0 when unknown."""
        fields = _text(self._proc / "self" / "statm").split()
        return int(fields[1]) * self._page_bytes if len(fields) > 1 else 0

    def memory(self) -> MemoryState:
        """Return memory and kill counters now."""
        total = _number(r"^MemTotal:\s+(\d+) kB", _text(self._proc / "meminfo"))
        limits = [total * 1024] if total > 0 else []
        group_limit = _number(r"^(\d+)$", _text(self._limit)) if self._limit is not None else UNREADABLE
        if 0 < group_limit < _NO_LIMIT:
            limits.append(group_limit)
        kills = _number(r"^oom_kill (\d+)", _text(self._kills)) if self._kills is not None else UNREADABLE
        machine = _number(r"^oom_kill (\d+)", _text(self._proc / "vmstat"))
        return MemoryState(self.resident_bytes(), min(limits, default=0), kills, machine)

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

    def _memory_group(self) -> tuple[str, Path | None, Path | None]:
        """Return (name, file with ``oom_kill``, file with the limit) of the memory cgroup, version 2 before 1."""
        base = self._sys / "fs" / "cgroup"
        groups = dict(
            line.split(":", 2)[1:] for line in _text(self._proc / "self" / "cgroup").splitlines() if ":" in line
        )
        for name, mount, kills, limit in (
            (groups.get(""), base, "memory.events", "memory.max"),
            (groups.get("memory"), base / "memory", "memory.oom_control", "memory.limit_in_bytes"),
        ):
            if name is None:
                continue
            for folder in (mount / name.lstrip("/"), mount):  # inside a container the mount itself is the group
                if (folder / kills).exists():
                    return name, folder / kills, folder / limit
        return "", None, None


def killed_for_memory(before: MemoryState, now: MemoryState, *, same_group: bool) -> bool:
    """Say whether a process that was ``before`` at its last sign of life was killed for lack of memory.

    One of: its own cgroup counts more such kills than then; or the machine does, and the process held a quarter of the
    memory it may use; or nobody counts them, and it held nine tenths.
    """
    if same_group and before.group_kills != UNREADABLE and now.group_kills > before.group_kills:
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

"""The host process's own use of CPU and memory, from what the system offers cheaply."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_STATM: Final = Path("/proc/self/statm")


class HostReader:
    """Reads CPU seconds since the last reading, and resident memory."""

    def __init__(self) -> None:
        times = os.times()
        self._user, self._system = times.user, times.system
        self._page_bytes = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

    def cpu_seconds(self) -> tuple[float, float]:
        """Return (user, system) CPU seconds of this process since the last call."""
        times = os.times()
        spent = max(0.0, times.user - self._user), max(0.0, times.system - self._system)
        self._user, self._system = times.user, times.system
        return spent

    def resident_bytes(self) -> int | None:
        """Return resident memory in bytes, None where the system has no /proc."""
        try:
            return int(_STATM.read_bytes().split()[1]) * self._page_bytes
        except (OSError, IndexError, ValueError):
            return None

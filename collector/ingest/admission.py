"""Whether a request may come in: memory held by bodies, undrained segments, free disk.

Refusing early with "later" is honest: the device keeps what it has not handed over. An acknowledged batch is never
given up to make room.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from collector.storage.segment_file import COMPLETE_SUFFIX


@dataclass(frozen=True, slots=True)
class Limits:
    """High-water marks in bytes."""

    inflight_bytes_max: int
    backlog_bytes_max: int
    free_bytes_min: int


class Admission:
    """Judges by figures that ``measure`` refreshes; cheap to ask for every request."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self._directory = directory
        self._limits = limits
        self.inflight_bytes = 0
        self.backlog_bytes = 0
        self.free_bytes = limits.free_bytes_min

    def measure(self) -> None:
        """Read the backlog and the free disk; raises ``OSError``. Blocking: call it off the event loop."""
        backlog = 0
        for path in self._directory.glob(f"*{COMPLETE_SUFFIX}"):
            try:
                backlog += path.stat().st_size
            except FileNotFoundError:  # the store drained it just now
                continue
        self.backlog_bytes = backlog
        self.free_bytes = shutil.disk_usage(self._directory).free

    def refusal(self) -> str:
        """Return why nothing can be taken now, '' when it can."""
        limits = self._limits
        if self.backlog_bytes > limits.backlog_bytes_max:
            return (
                f"{self.backlog_bytes} bytes of segments wait for the store, the limit is {limits.backlog_bytes_max}; "
                "send again later"
            )
        if self.free_bytes < limits.free_bytes_min:
            return (
                f"{self.free_bytes} bytes are free on the collector's disk, it needs {limits.free_bytes_min}; "
                "send again later"
            )
        return ""

    def hold(self, size: int) -> bool:
        """Count ``size`` bytes of a body as held; return False, counting nothing, when they do not fit."""
        if self.inflight_bytes + size > self._limits.inflight_bytes_max:
            return False
        self.inflight_bytes += size
        return True

    def release(self, size: int) -> None:
        """Give back what ``hold`` counted."""
        self.inflight_bytes -= size

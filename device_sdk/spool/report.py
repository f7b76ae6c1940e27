"""What a window tells of the spool: usage and limits by medium, age, flash wear, merges."""

from __future__ import annotations

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.points import Points
from device_sdk.spool.store import Spool


class SpoolReport:
    """Emits the points of one spool; counters since the last emission. The disk is mentioned once it was used."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._written = self._merged = 0
        self._used_disk = False

    def emit(self, points: Points) -> None:
        """Add this window's points."""
        spool = self._spool
        memory, disk = spool.usage()
        self._used_disk = self._used_disk or disk > 0
        limits = spool.limits
        for medium, used, limit in (("memory", memory, limits.memory_bytes), ("disk", disk, limits.disk_bytes)):
            if medium == "memory" or self._used_disk:
                points.add(m.SPOOL_USAGE.name, used, ((a.SPOOL_MEDIUM, medium),))
                points.add(m.SPOOL_LIMIT.name, limit, ((a.SPOOL_MEDIUM, medium),))
        points.add(m.SPOOL_AGE.name, spool.age_s())
        written, merged = spool.written_bytes, spool.merged_windows
        points.add(m.SPOOL_WRITTEN.name, (written - self._written) or None)
        points.add(m.SPOOL_MERGES.name, (merged - self._merged) or None)
        self._written, self._merged = written, merged

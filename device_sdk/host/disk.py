"""The file system that holds the state directory: a full one stops the spool, and usually the program too."""

from __future__ import annotations

import os
from pathlib import Path

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.host.reader import SELDOM_NS, Board
from device_sdk.points import Points


class DiskReader:
    """Asks the file system of ``directory``; says nothing while the directory is not there."""

    every_ns = SELDOM_NS

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._found: tuple[int, int, int] | None = None

    def sample(self, now_ns: int, elapsed_ns: int | None, board: Board) -> None:  # noqa: ARG002
        """Read sizes in bytes."""
        self._found = None
        if not hasattr(os, "statvfs"):
            return
        try:
            found = os.statvfs(self._directory)
        except OSError:
            return
        if found.f_blocks > 0:
            block = found.f_frsize or found.f_bsize
            self._found = (found.f_blocks * block, found.f_bfree * block, found.f_bavail * block)

    def emit(self, points: Points) -> None:
        """Add the last reading."""
        if self._found is None:
            return
        size, free, available = self._found
        states = {"used": size - free, "free": available, "reserved": free - available}
        for state, value in states.items():
            points.add(m.FILESYSTEM_USAGE.name, max(0, value), ((a.FILESYSTEM_STATE, state),))
        points.add(m.FILESYSTEM_LIMIT.name, size)

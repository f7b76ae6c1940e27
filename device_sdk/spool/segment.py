"""One file of the spool, and where the payload of a record stands in it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from device_sdk.spool.format import read_stored, unpack

_RENAMED_UNDER_US: Final = 4


class Segment:
    """One file of the spool and how many of its records still wait."""

    __slots__ = ("finished", "number", "offered", "path", "size", "waiting")

    def __init__(self, path: Path, number: int, size: int, *, finished: bool, offered: bool) -> None:
        self.path = path
        self.number = number
        self.size = size
        self.waiting = 0
        self.finished = finished
        self.offered = offered


class Place(NamedTuple):
    """Where the payload of a record stands."""

    segment: Segment
    offset: int
    stored: int
    compressed: bool
    check: int | None

    def read(self, size: int) -> bytes | None:
        """Return the payload of ``size`` bytes, None when the disk cannot give it any more."""
        for _ in range(_RENAMED_UNDER_US):
            path = self.segment.path
            try:
                with path.open("rb") as file:
                    return unpack(read_stored(file, self.offset, self.stored, self.check), self.compressed, size)
            except FileNotFoundError:
                if self.segment.path == path:
                    return None
            except OSError:
                return None
        return None

"""The files that a Linux kernel tells of itself in, below a root that tests may move to a recorded tree."""

from __future__ import annotations

import glob
import os
import re
from typing import Final

ROOT = "/"
READ_MAX: Final = 4096
"""Bytes read of a file unless told otherwise: a page, which is all that a sysfs attribute can hold."""

_DIGITS: Final = re.compile(r"(\d+)")


class Tree:
    """Reads small files below ``root``; whatever cannot be read or understood is None, never an exception."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = os.fspath(ROOT if root is None else root).rstrip("/") + "/"
        self.refused: list[str] = []
        """Files that discovery found and may not read, relative to the root."""

    def text(self, path: str, limit: int = READ_MAX) -> str | None:
        """Return the stripped text of ``path``, at most ``limit`` bytes of it."""
        try:
            descriptor = os.open(self.root + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError):
            return None
        try:
            return os.read(descriptor, limit).decode("utf-8", "replace").strip(" \t\r\n\0")
        except OSError:  # a sensor that sleeps, a device that went away, a directory
            return None
        finally:
            os.close(descriptor)

    def integer(self, path: str, base: int = 10) -> int | None:
        """Return the one integer that ``path`` holds."""
        return integer_of(self.text(path), base)

    def find(self, pattern: str) -> list[str]:
        """Return paths below the root that match a shell pattern, ``x2`` before ``x10``."""
        return sorted(glob.iglob(pattern, root_dir=self.root), key=_natural)  # noqa: PTH207 - pathlib's is ten times slower

    def readable(self, path: str) -> bool:
        """Say whether ``path`` is there and may be read; note it in ``refused`` when only the right is missing."""
        if os.access(self.root + path, os.R_OK):
            return True
        if os.access(self.root + path, os.F_OK):
            self.refused.append(path)
        return False


def integer_of(text: str | None, base: int = 10) -> int | None:
    """Return ``text`` as an integer of at most 64 bits, else None."""
    if text is None or len(text) > 24:
        return None
    try:
        value = int(text, base)
    except ValueError:
        return None
    return value if -(1 << 63) <= value < 1 << 64 else None


def _natural(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(path)]

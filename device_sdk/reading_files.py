"""Files that others may have put there: read only when they are files, and never more of them than is sensible."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path, most: int, *, cut: bool = False) -> bytes:
    """Return the bytes of a regular file; raise ``OSError`` for anything else, and for more than ``most`` bytes.

    A FIFO would stall the program for ever, a device or a damaged file of gigabytes would fill its memory. ``cut``
    takes the first ``most`` bytes instead.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        if status.st_size > most and not cut:
            raise OSError(errno.EFBIG, f"holds more than {most} bytes", str(path))
        return file.read(min(most, status.st_size))  # a buffer of the size that is asked for is made at once

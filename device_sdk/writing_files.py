"""Files that are replaced as a whole: a reader and a power cut find the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Put a file of these bytes in the place of ``path``, content and name on the medium; raise ``OSError``."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_names(path.parent)


def sync_names(directory: Path) -> None:
    """Bring the names in a directory to the medium where directories can be opened (POSIX); raise ``OSError``."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

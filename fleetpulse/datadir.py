"""The data directory: its lock, and ``run.json`` by which the command finds a running store."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from collector.errors import DataDirectoryError


@dataclass(frozen=True, slots=True)
class Running:
    """What a running stack tells the command: its process, addresses and the local operate token."""

    pid: int
    otlp_url: str
    api_url: str
    dashboard_url: str
    operate_token: str


class DataDirectory:
    """Holds DIR exclusively while a stack runs on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd: int | None = None

    def acquire(self) -> None:
        """Create the directory and take its lock; raises ``DataDirectoryError`` naming the holder's pid."""
        try:
            for folder in (self.path, self.path / "segments", self.path / "segments" / "bad", self.path / "workers"):
                folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirectoryError(
                f"{self.path}: cannot be used as a data directory: {error.strerror}; choose another with --data"
            ) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode().strip() or "unknown"
            os.close(fd)
            raise DataDirectoryError(
                f"{self.path}: held by process {holder}; stop it first or choose another directory with --data"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock_fd = fd

    def announce(self, running: Running) -> None:
        """Write ``run.json``, readable by its owner only."""
        temporary = self.path / "run.json.tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(asdict(running), file)
        temporary.replace(self.path / "run.json")

    def release(self) -> None:
        """Remove ``run.json`` and give the lock back; idempotent."""
        if self._lock_fd is None:
            return
        with contextlib.suppress(FileNotFoundError):
            (self.path / "run.json").unlink()
        os.close(self._lock_fd)
        self._lock_fd = None


def find_running(path: Path) -> Running | None:
    """Return the stack that runs on the directory, or None when nobody does."""
    try:
        running = Running(**json.loads((path / "run.json").read_text(encoding="utf-8")))
        os.kill(running.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return running

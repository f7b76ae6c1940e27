"""Locks for code that runs in somebody else's process: for signal handlers and forked children too."""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType


class SafeLock:
    """A lock that a signal handler may take while its own thread holds it, and that a forked child finds free."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Forget who holds it: in a forked child that thread does not exist."""
        self._lock = threading.RLock()


_all: weakref.WeakSet[SafeLock] = weakref.WeakSet()


def _renew_all() -> None:
    for lock in list(_all):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)

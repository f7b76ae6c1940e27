"""The end of a process that did not close its Monitor: at interpreter exit, and in workers of multiprocessing.

A worker that multiprocessing forked leaves by ``os._exit``: no ``atexit`` runs there, only multiprocessing's own
finalizers. These are forgotten in each new worker, so that one has to be registered there, after the fork.
"""

from __future__ import annotations

import atexit
import sys
import weakref
from collections.abc import Callable
from typing import Final, Protocol

from device_sdk.errors import guard

_TIMEOUT_S: Final = 5.0


class Closable(Protocol):
    """What is to be closed; held weakly."""

    def close(self, timeout_s: float) -> bool:
        """End within about ``timeout_s``; harmless when done twice."""
        ...


def close_at_exit(owner: Closable) -> None:
    """Have ``owner`` closed when the interpreter, or the worker that this process is, ends."""
    atexit.register(_closer(owner))
    _close_at_exit_of_worker(owner)


def close_at_exit_of_fork(owner: Closable) -> None:
    """In a forked child: have ``owner`` closed at its end, should multiprocessing be making a worker of it."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.register_after_fork(owner, _close_at_exit_of_worker)


def _close_at_exit_of_worker(owner: Closable) -> None:
    util, process = sys.modules.get("multiprocessing.util"), sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, _closer(owner), exitpriority=0)


def _closer(owner: Closable) -> Callable[[], None]:
    reference = weakref.ref(owner)

    def close() -> None:
        alive = reference()
        if alive is not None:
            with guard("closing at exit"):
                alive.close(_TIMEOUT_S)

    return close

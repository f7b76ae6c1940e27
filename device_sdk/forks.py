"""Forked children: whatever runs behind a Monitor starts over there, and keeps nothing of the parent's."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from device_sdk.errors import guard


class Forked(Protocol):
    """What must start over in a forked child."""

    def after_fork_in_child(self) -> None:
        """Forget all that is the parent's."""
        ...


_watched: weakref.WeakSet[Forked] = weakref.WeakSet()


def start_over_in_children(engine: Forked) -> None:
    """Call ``engine.after_fork_in_child`` in every child forked from here on, for as long as the engine lives."""
    _watched.add(engine)


def forget(engine: Forked) -> None:
    """Let forks pass the engine by; harmless when they did already."""
    _watched.discard(engine)


def _after_fork_in_child() -> None:
    for engine in list(_watched):
        with guard("starting over in a forked child"):
            engine.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

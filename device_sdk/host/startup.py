"""How long ago the machine and this process started, where that says something about a start-up."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from device_sdk.clock import Clock
from device_sdk.contract.attributes import StartupFrom

_STAT: Final = Path("/proc/self/stat")
_STARTTIME_FIELD: Final = 22
STARTUP_MAX_NS: Final = 3600 * 1_000_000_000
"""A model that first answers later than this was not part of the start of its process."""
BOOT_MAX_NS: Final = 600 * 1_000_000_000
"""A process that starts later than this after boot was not started by the boot."""


def process_started_ns(stat: Path = _STAT) -> int | None:
    """Return when this process started, in ns since boot; None where the system does not tell."""
    try:
        # the second field is the command's name in brackets and may hold anything, spaces and brackets too
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return int(fields[_STARTTIME_FIELD - 3]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


class Told(Protocol):
    """What takes the start-up times of a model."""

    model: str

    def started(self, times_ns: Mapping[StartupFrom, int]) -> None:
        """Take ns from process start and boot to the first answer."""
        ...


class Startup:
    """The start of this process, for the first answer of each of its models; a simulated device has none.

    ``first_of_boot`` says whether the program runs for the first time since the machine was booted: only then does the
    time since boot say how long its user waited. ``over`` is for forked children: they were not started.
    """

    def __init__(self, clock: Clock, *, first_of_boot: bool, stat: Path = _STAT) -> None:
        self._boot_ns = clock.boot_ns
        self._started_ns = process_started_ns(stat)
        self._by_boot = first_of_boot and self._started_ns is not None and 0 <= self._started_ns <= BOOT_MAX_NS
        self._answered: dict[str, object] = {}
        self.over = clock.manual

    def watch(self, model: Told) -> Callable[[], None]:
        """Return what a session of ``model`` calls at its first answer."""
        return functools.partial(self.answered, model)

    def answered(self, model: Told) -> None:
        """Note an answer of ``model``, on its caller's thread.

        Nothing is told of a further version or session of a model (that is an update, not a start), and where the times
        cannot be: a start in the future, or longer ago than a start takes.
        """
        first = object()
        if self.over or self._started_ns is None or self._answered.setdefault(model.model, first) is not first:
            return
        now = self._boot_ns()
        if not 0 <= now - self._started_ns <= STARTUP_MAX_NS:
            return
        times = {StartupFrom.PROCESS: now - self._started_ns}
        model.started(times | {StartupFrom.BOOT: now} if self._by_boot else times)

"""The three clocks an observation needs, behind one protocol so that tests and simulations can drive them.

``perf_ns`` measures runs and stops while the machine is suspended, ``boot_ns`` runs through suspension and never jumps,
``wall_ns`` is what the machine believes the time is. All integers, nanoseconds.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from device_sdk.contract.attributes import ClockSource

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_ADJTIMEX_TIMEX_BYTES = 512
_TIME_ERROR = 5


class Clock(Protocol):
    """Where the SDK takes its time from; ``manual`` clocks mean that no thread is started."""

    @property
    def manual(self) -> bool:
        """Whether the program drives this clock itself (then ``Monitor.step`` does the work of the threads)."""
        ...

    @property
    def source(self) -> ClockSource:
        """Who sets the wall clock."""
        ...

    def perf_ns(self) -> int:
        """Return nanoseconds of a steady clock that stops during suspension."""
        ...

    def boot_ns(self) -> int:
        """Return nanoseconds since boot, suspension included."""
        ...

    def wall_ns(self) -> int:
        """Return UTC epoch nanoseconds as the machine believes them."""
        ...

    def boot_id(self) -> str:
        """Return a text that is the same for one boot of the machine and differs for the next."""
        ...


class SystemClock:
    """The machine's own clocks; ``CLOCK_MONOTONIC`` stands in where ``CLOCK_BOOTTIME`` does not exist."""

    manual = False

    def __init__(self, source: ClockSource | None = None) -> None:
        self._source = source
        self._boot_clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)

    @property
    def source(self) -> ClockSource:
        """``ntp`` when the kernel says that its clock is disciplined now, else ``none``: it may become so any time."""
        if self._source is not None:
            return self._source
        return ClockSource.NTP if _kernel_clock_is_synchronised() else ClockSource.NONE

    perf_ns = staticmethod(time.perf_counter_ns)
    wall_ns = staticmethod(time.time_ns)

    def boot_ns(self) -> int:
        """Return nanoseconds since boot; without suspended time on systems that have no such clock."""
        if self._boot_clock is None:
            return time.monotonic_ns()
        return time.clock_gettime_ns(self._boot_clock)

    def boot_id(self) -> str:
        """Return the kernel's boot id, or where there is none a hash of the minute the machine booted in."""
        try:
            return _BOOT_ID.read_text().strip()
        except OSError:
            booted_minute = (time.time_ns() - self.boot_ns()) // 60_000_000_000
            return hashlib.sha256(str(booted_minute).encode()).hexdigest()[:32]


def _kernel_clock_is_synchronised() -> bool:
    """Ask the Linux kernel, read-only, whether some daemon disciplines its clock."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
        state = int(adjtimex(ctypes.create_string_buffer(_ADJTIMEX_TIMEX_BYTES)))
    except (OSError, AttributeError):
        return False
    return 0 <= state < _TIME_ERROR


class AwakeTime:
    """How long the program was awake, told in pieces that are windows."""

    def __init__(self, perf_ns: Callable[[], int]) -> None:
        self._perf_ns = perf_ns
        self._told_ns = perf_ns()

    def since_ns(self) -> int:
        """Return how long it was awake since the last piece."""
        return self._perf_ns() - self._told_ns

    def take(self, late_ns: int = 0) -> int:
        """Return the piece from the last one until ``late_ns`` ago."""
        until_ns = self._perf_ns() - late_ns
        piece_ns, self._told_ns = until_ns - self._told_ns, until_ns
        return piece_ns

    def skip(self, piece_ns: int) -> int:
        """Return a piece of a length that is known."""
        self._told_ns += piece_ns
        return piece_ns

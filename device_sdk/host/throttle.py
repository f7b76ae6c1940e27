"""How long the hardware ran below its speed, and why, put together from everything that tells."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import ThrottleCause
from device_sdk.host.reader import EVERY_ROUND, Board
from device_sdk.host.tree import Tree
from device_sdk.points import Points

Shares = dict[ThrottleCause, float]
Probe = Callable[[int], Shares]
"""Returns, for an interval of so many ns, the share of it that each cause held."""

_COOLS_BY_SLOWING: Final = re.compile(r"cpufreq|devfreq|processor|powerclamp|gpu|npu", re.IGNORECASE)
_COOLERS_MAX: Final = 16
_PACKAGES_MAX: Final = 8
_FIRMWARE: Final = "sys/devices/platform/soc/soc:firmware/get_throttled"
_UNDERVOLTED, _CAPPED, _THROTTLED, _SOFT_LIMIT = 1, 2, 4, 8


class ThrottleReader:
    """Counts seconds by cause. Of several sources that tell of one cause, the longest time counts, never the sum.

    A state that was found at a sample counts for the interval since the one before; Intel's counters tell exact time.
    """

    every_ns = EVERY_ROUND

    def __init__(self, tree: Tree) -> None:
        sources = (_cooling, _intel, _firmware, _voltage_alarm)
        self._probes: list[Probe] = [probe for source in sources for probe in source(tree)]
        self._seconds: dict[ThrottleCause, float] = {}

    def sample(self, now_ns: int, elapsed_ns: int | None, board: Board) -> None:  # noqa: ARG002
        """Ask every source about the interval that has passed."""
        shares: Shares = {}
        for probe in self._probes:
            _widen(shares, probe(elapsed_ns or 0))
        _widen(shares, dict.fromkeys(board.accelerator_throttles, 1.0))
        if board.cpu_limited and not shares:
            shares[ThrottleCause.OTHER] = 1.0
        if elapsed_ns is not None:
            for cause, share in shares.items():
                self._seconds[cause] = self._seconds.get(cause, 0.0) + share * elapsed_ns / 1e9

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew; a cause that has come up once is told as zero from then on."""
        for cause, seconds in self._seconds.items():
            points.add(m.THROTTLE_TIME.name, seconds, ((a.THROTTLE_CAUSE, str(cause)),))
            self._seconds[cause] = 0.0


def _widen(shares: Shares, more: Shares) -> None:
    for cause, share in more.items():
        if share > 0:
            shares[cause] = max(share, shares.get(cause, 0.0))


def _cooling(tree: Tree) -> list[Probe]:
    """Return a probe of the kernel's cooling devices that cool by slowing a processor down."""
    paths = [
        f"{directory}/cur_state"
        for directory in tree.find("sys/class/thermal/cooling_device*")
        if _COOLS_BY_SLOWING.search(tree.text(f"{directory}/type") or "") and tree.readable(f"{directory}/cur_state")
    ]
    # of a machine that has one for each of its many cores the first speak for all: they are bound to the same zone
    paths = paths[:_COOLERS_MAX]

    def probe(_elapsed_ns: int) -> Shares:
        slowed = any((tree.integer(path) or 0) > 0 for path in paths)
        return {ThrottleCause.THERMAL: 1.0} if slowed else {}

    return [probe] if paths else []


def _intel(tree: Tree) -> list[Probe]:
    """Return a probe for each package of the processor's own account of thermal throttling."""
    packages: dict[int | None, str] = {}
    for directory in tree.find("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"):
        package = tree.integer(directory.removesuffix("thermal_throttle") + "topology/physical_package_id")
        if len(packages) < _PACKAGES_MAX:
            packages.setdefault(package, directory)
    return [_package_probe(tree, directory) for directory in packages.values()]


def _package_probe(tree: Tree, directory: str) -> Probe:
    timed = tree.readable(f"{directory}/package_throttle_total_time_ms")
    path = f"{directory}/package_throttle_{'total_time_ms' if timed else 'count'}"
    before = tree.integer(path)

    def probe(elapsed_ns: int) -> Shares:
        nonlocal before
        earlier, before = before, tree.integer(path)
        if earlier is None or before is None or before <= earlier or not elapsed_ns:
            return {}
        share = min(1.0, (before - earlier) * 1e6 / elapsed_ns) if timed else 1.0
        return {ThrottleCause.THERMAL: share}

    return probe


def _firmware(tree: Tree) -> list[Probe]:
    """Return a probe of the Raspberry Pi firmware's flags."""

    def probe(_elapsed_ns: int) -> Shares:
        flags = tree.integer(_FIRMWARE, 16) or 0
        causes: Shares = {}
        if flags & _UNDERVOLTED:
            causes[ThrottleCause.UNDERVOLTAGE] = 1.0
        if flags & _SOFT_LIMIT or (flags & (_CAPPED | _THROTTLED) and not flags & _UNDERVOLTED):
            causes[ThrottleCause.THERMAL] = 1.0
        return causes

    return [probe] if tree.readable(_FIRMWARE) else []


def _voltage_alarm(tree: Tree) -> list[Probe]:
    """Return a probe of the Raspberry Pi's under-voltage alarm, which newer kernels have in place of the flags."""
    paths = [
        f"{directory}/in0_lcrit_alarm"
        for directory in tree.find("sys/class/hwmon/hwmon*")
        if tree.text(f"{directory}/name") == "rpi_volt" and tree.readable(f"{directory}/in0_lcrit_alarm")
    ]

    def probe(_elapsed_ns: int) -> Shares:
        return {ThrottleCause.UNDERVOLTAGE: 1.0} if any(tree.integer(path) == 1 for path in paths) else {}

    return [probe] if paths else []

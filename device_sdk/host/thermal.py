"""Temperatures: the kernel's thermal zones, and hwmon's sensors where no zone repeats them."""

from __future__ import annotations

import math
import re
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.host.names import distinct, hardware_name
from device_sdk.host.reader import EVERY_ROUND, Board
from device_sdk.host.tree import Tree
from device_sdk.points import Points

ZONES_MAX: Final = 7
"""With the NVIDIA GPUs' own sensor these fill the contract's eight series."""
_LOWEST_C: Final = -60.0
_HIGHEST_C: Final = 150.0
_HEART: Final = re.compile(r"cpu|gpu|npu|soc|pkg|package|tctl|tdie|tj|junction|edge|dla|cv\d|isp|bigcore|littlecore")
_CORE: Final = re.compile(r"core_\d+$")


class ThermalReader:
    """Follows at most 7 zones, chosen once: processors and accelerators first, then the hottest at that moment."""

    every_ns = EVERY_ROUND

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._zones = _chosen(tree)
        self._now: dict[str, float] = {}
        self._peak: dict[str, float] = {}

    @property
    def names(self) -> list[str]:
        """The zones that are followed."""
        return list(self._zones)

    def sample(self, now_ns: int, elapsed_ns: int | None, board: Board) -> None:  # noqa: ARG002
        """Read every zone; one that is asleep or talks nonsense is left out."""
        self._now = {}
        for name, path in self._zones.items():
            celsius = _celsius(self._tree, path)
            if celsius is not None:
                self._now[name] = celsius
                self._peak[name] = max(celsius, self._peak.get(name, celsius))
        board.temperature_c = max(self._now.values(), default=None)

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        for name, celsius in self._now.items():
            points.add(m.TEMPERATURE.name, celsius, ((a.HW_ID, name),))
        for name, celsius in self._peak.items():
            points.add(m.TEMPERATURE_PEAK.name, celsius, ((a.HW_ID, name),))
        self._peak = dict(self._now)


def _chosen(tree: Tree) -> dict[str, str]:
    found = [*_zones(tree), *_sensors(tree)]
    ranked = sorted(range(len(found)), key=lambda at: (_rank(found[at][0]), -_warmth(tree, found[at][1])))
    kept = sorted(ranked[:ZONES_MAX])
    chosen: dict[str, str] = {}
    for at in kept:
        name, path = found[at]
        chosen[distinct(name, chosen)] = path
    return chosen


def _zones(tree: Tree) -> list[tuple[str, str]]:
    directories = tree.find("sys/class/thermal/thermal_zone*")
    return [
        (hardware_name(tree.text(f"{directory}/type"), "zone"), f"{directory}/temp")
        for directory in directories
        if tree.readable(f"{directory}/temp")
    ]


def _sensors(tree: Tree) -> list[tuple[str, str]]:
    """Return hwmon's sensors; the kernel shows each thermal zone as one, under the zone's own name."""
    zones = {name for name, _ in _zones(tree)}
    found = []
    for path in tree.find("sys/class/hwmon/hwmon*/temp*_input"):
        device = hardware_name(tree.text(path.rpartition("/")[0] + "/name"), "sensor")
        if device in zones or not tree.readable(path):
            continue
        label = tree.text(path.replace("_input", "_label"))
        name = hardware_name(f"{device}_{label}" if label else device, device)
        found.append((name, path))
    return found


def _rank(name: str) -> int:
    if _CORE.search(name):  # one of many cores: the package's sensor speaks for them
        return 2
    return 0 if _HEART.search(name) else 1


def _warmth(tree: Tree, path: str) -> float:
    celsius = _celsius(tree, path)
    return celsius if celsius is not None else -math.inf


def _celsius(tree: Tree, path: str) -> float | None:
    """Return a plausible reading; drivers of absent sensors answer with absolute zero and the like."""
    thousandths = tree.integer(path)
    if thousandths is None or not _LOWEST_C < thousandths / 1000 < _HIGHEST_C:
        return None
    return thousandths / 1000

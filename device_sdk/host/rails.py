"""Power and energy of the machine's rails: RAPL's counters, and what hwmon's sensors measure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import EnergySource
from device_sdk.host.names import distinct, hardware_name
from device_sdk.host.reader import EVERY_ROUND, Board, Metered
from device_sdk.host.tree import Tree
from device_sdk.points import Points

RAILS_MAX: Final = 5
"""With two batteries and the GPUs' own meter these fill the contract's eight series."""
PLAUSIBLE_W: Final = 5000.0
_RAPL_STEP_S: Final = 0.001
"""A RAPL counter moves once a millisecond: at each end of an interval it may be that old."""
_POWERCAP: Final = "sys/class/powercap/"
_INA: Final = re.compile(r"^ina\d+")
_INPUT: Final = re.compile(r"(^|_)(v?in|mux)(_sys\w*)?$")


class Rail:
    """One thing that consumes power and can be asked how much: its last watts and volts, its joules in this window."""

    def __init__(self, tree: Tree, name: str, source: EnergySource) -> None:
        self.tree, self.name, self.source = tree, name, source
        self.watts: float | None = None
        self.volts: float | None = None
        self.joules: float | None = None

    def read(self, elapsed_ns: int | None) -> tuple[float, float] | None:
        """Return (joules, half-width of what reading leaves open) of the interval, None when it has none."""
        raise NotImplementedError


class CounterRail(Rail):
    """A counter of microjoules that starts over at ``range_uj``."""

    def __init__(self, tree: Tree, name: str, path: str, range_uj: int | None) -> None:
        super().__init__(tree, name, EnergySource.RAPL)
        self._path, self._range_uj = path, range_uj
        self._before: int | None = None

    def read(self, elapsed_ns: int | None) -> tuple[float, float] | None:
        """Difference the counter; a step back is one wrap, and what no machine can draw is a reset."""
        before, now = self._before, self.tree.integer(self._path)
        self._before = now
        self.watts = None
        if before is None or now is None or not elapsed_ns:
            return None
        spent_uj = now - before
        if spent_uj < 0 and self._range_uj:
            spent_uj += self._range_uj
        joules = spent_uj / 1e6
        watts = joules * 1e9 / elapsed_ns
        if not 0 <= watts <= PLAUSIBLE_W:
            return None
        self.watts = watts
        self.joules = (self.joules or 0.0) + joules
        return joules, 2 * _RAPL_STEP_S * watts


class PowerRail(Rail):
    """A sensor of power, or of voltage and current. Energy is the trapezoid between two readings, too rough to tell."""

    def __init__(self, tree: Tree, name: str, source: EnergySource, paths: tuple[str, ...]) -> None:
        super().__init__(tree, name, source)
        self._paths = paths

    def read(self, elapsed_ns: int | None) -> tuple[float, float] | None:
        """Read; the half-width is all of what power may have done between two different readings."""
        before = self.watts
        self.watts = self._read()
        if before is None or self.watts is None or not elapsed_ns:
            return None
        seconds = elapsed_ns / 1e9
        return (before + self.watts) / 2 * seconds, abs(self.watts - before) / 2 * seconds

    def _read(self) -> float | None:
        values = [self.tree.integer(path) for path in self._paths]
        watts = None
        if len(values) == 1 and values[0] is not None:
            watts = values[0] / 1e6
        elif len(values) == 2 and values[0] is not None and values[1] is not None:
            self.volts = values[0] / 1e3
            watts = self.volts * values[1] / 1e3
        return watts if watts is not None and 0 <= watts <= PLAUSIBLE_W else None


class RailsReader:
    """Reads at most 5 rails, and meters the machine with those that together stand for it.

    The meter is the input rail of INA sensors (all of them where none is the input), else RAPL's packages with their
    memory, else the only power sensor that hwmon has; of several it is not known which contain which.
    """

    every_ns = EVERY_ROUND

    def __init__(self, tree: Tree) -> None:
        ina, others = _sensors(tree)
        packages, parts = _rapl(tree)
        meter: Sequence[Rail] = [rail for rail in ina if _INPUT.search(rail.name)][:1] or ina or packages
        self.meter = meter or (others if len(others) == 1 else [])
        self.rails = _first([*self.meter, *ina, *packages, *parts, *others])

    def sample(self, now_ns: int, elapsed_ns: int | None, board: Board) -> None:  # noqa: ARG002
        """Read all rails; leave the meter's interval on the board when every part of the meter has one."""
        spent = {rail.name: rail.read(elapsed_ns) for rail in self.rails}
        if not self.meter:
            return
        watts = [rail.watts for rail in self.meter]
        board.power_w = sum(value or 0.0 for value in watts) if None not in watts else None
        intervals = [spent[rail.name] for rail in self.meter]
        whole = [interval for interval in intervals if interval is not None]
        if len(whole) == len(intervals) and elapsed_ns:
            joules, error_j = sum(each[0] for each in whole), sum(each[1] for each in whole)
            board.metered.append(Metered(elapsed_ns / 1e9, joules, error_j, self.meter[0].source))

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        for rail in self.rails:
            identity = ((a.HW_ID, rail.name), (a.HW_TYPE, _type_of(rail.name)))
            points.add(m.POWER.name, rail.watts, identity)
            points.add(m.VOLTAGE.name, rail.volts, identity[:1])
            points.add(m.ENERGY.name, rail.joules, identity)
            rail.joules = None if rail.joules is None else 0.0


def _first(rails: Iterable[Rail]) -> list[Rail]:
    """Return the first few, each once, and each with a name of its own."""
    kept: list[Rail] = []
    for rail in rails:
        if rail not in kept and len(kept) < RAILS_MAX:
            rail.name = distinct(rail.name, [other.name for other in kept])
            kept.append(rail)
    return kept


def _rapl(tree: Tree) -> tuple[list[Rail], list[Rail]]:
    """Return (packages and their memory, everything else): core and uncore are inside the package."""
    packages: list[Rail] = []
    parts: list[Rail] = []
    for directory in tree.find(_POWERCAP + "intel-rapl:*"):
        name = hardware_name(tree.text(f"{directory}/name"), "rail")
        if tree.readable(f"{directory}/energy_uj"):
            rail = CounterRail(tree, name, f"{directory}/energy_uj", tree.integer(f"{directory}/max_energy_range_uj"))
            (packages if name.startswith(("package", "dram")) else parts).append(rail)
    return packages, parts


def _sensors(tree: Tree) -> tuple[list[Rail], list[Rail]]:
    """Return hwmon's rails: (those of INA monitors, the others), batteries apart."""
    supplies = {hardware_name(path.rpartition("/")[2], "") for path in tree.find("sys/class/power_supply/*")}
    ina: list[Rail] = []
    others: list[Rail] = []
    for directory in tree.find("sys/class/hwmon/hwmon*"):
        device = hardware_name(tree.text(f"{directory}/name"), "sensor")
        if device in supplies:
            continue
        is_ina = _INA.match(device) is not None
        source = EnergySource.INA3221 if device.startswith("ina3221") else EnergySource.HWMON
        for label, paths in _inputs(tree, directory):
            if (label or "").upper() == "NC":  # not connected
                continue
            name = hardware_name(label if is_ina or not label else f"{device}_{label}", device)
            (ina if is_ina else others).append(PowerRail(tree, name, source, paths))
    return ina, others


def _inputs(tree: Tree, directory: str) -> list[tuple[str | None, tuple[str, ...]]]:
    """Return (label, files) of a device's power inputs, of its pairs of voltage and current where it has none."""
    found: list[tuple[str | None, tuple[str, ...]]] = []
    for kind in ("power[0-9]_input", "power[0-9]_average"):
        for path in tree.find(f"{directory}/{kind}"):
            if tree.readable(path) and not found:
                found.append((tree.text(f"{path.rpartition('_')[0]}_label"), (path,)))
    if found:
        return found
    for current in tree.find(f"{directory}/curr[0-9]_input"):
        voltage = current.replace("/curr", "/in")
        if tree.readable(voltage) and tree.readable(current):
            found.append((tree.text(voltage.replace("_input", "_label")), (voltage, current)))
    return found


def _type_of(name: str) -> str:
    """Return OpenTelemetry's word for what a rail feeds."""
    if "cpu" in name or name.startswith(("package", "core")):
        return "cpu"
    if "gpu" in name or name == "uncore":
        return "gpu"
    return "memory" if "ddr" in name or "dram" in name else "power_supply"

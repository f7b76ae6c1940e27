"""Batteries: charge, time left, voltage and, while they discharge, what the whole device draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import EnergySource
from device_sdk.host.names import distinct, hardware_name
from device_sdk.host.rails import PLAUSIBLE_W
from device_sdk.host.reader import SELDOM_NS, Board, Metered
from device_sdk.host.tree import Tree
from device_sdk.points import Points

BATTERIES_MAX: Final = 2
_SUPPLIES: Final = "sys/class/power_supply/*"


@dataclass(slots=True)
class _Battery:
    directory: str
    charge: float | None = None
    left_s: float | None = None
    volts: float | None = None
    watts: float | None = None
    discharging: bool = False


class BatteryReader:
    """Reads at most 2 batteries of the device itself; those of a mouse or a headset are left alone.

    With ``meters`` the discharging batteries are what the device's energy is measured by.
    """

    every_ns = SELDOM_NS

    def __init__(self, tree: Tree, *, meters: bool) -> None:
        self._tree = tree
        self._meters = meters
        self._batteries: dict[str, _Battery] = {}
        self._drawn_w: float | None = None
        for directory in tree.find(_SUPPLIES):
            kind, scope = tree.text(f"{directory}/type"), tree.text(f"{directory}/scope")
            if kind == "Battery" and scope != "Device" and len(self._batteries) < BATTERIES_MAX:
                name = distinct(hardware_name(directory.rpartition("/")[2], "battery"), self._batteries)
                self._batteries[name] = _Battery(directory)

    def sample(self, now_ns: int, elapsed_ns: int | None, board: Board) -> None:  # noqa: ARG002
        """Read all batteries."""
        for battery in self._batteries.values():
            self._read(battery)
        if not self._meters or not self._batteries:
            return
        before, self._drawn_w = self._drawn_w, self._drawn()
        board.power_w = self._drawn_w
        if before is not None and self._drawn_w is not None and elapsed_ns:
            seconds = elapsed_ns / 1e9
            joules, error_j = (before + self._drawn_w) / 2 * seconds, abs(self._drawn_w - before) / 2 * seconds
            board.metered.append(Metered(seconds, joules, error_j, EnergySource.BATTERY))

    def emit(self, points: Points) -> None:
        """Add the last readings."""
        for name, battery in self._batteries.items():
            identity = (a.HW_ID, name)
            points.add(m.BATTERY_CHARGE.name, battery.charge, (identity,))
            points.add(m.BATTERY_TIME_LEFT.name, battery.left_s, (identity,))
            points.add(m.VOLTAGE.name, battery.volts, (identity,))
            points.add(m.POWER.name, battery.watts, (identity, (a.HW_TYPE, "battery")))

    def _drawn(self) -> float | None:
        """Return what the device draws from its batteries, None while any is being charged or does not say."""
        watts = [battery.watts for battery in self._batteries.values() if battery.discharging]
        statuses = [self._tree.text(f"{battery.directory}/status") for battery in self._batteries.values()]
        if not watts or None in watts or "Charging" in statuses:
            return None
        return sum(value or 0.0 for value in watts)

    def _read(self, battery: _Battery) -> None:
        """Read one battery; files are in millionths, of watt-hours or of ampere-hours."""

        def millionths(name: str) -> float | None:
            value = self._tree.integer(f"{battery.directory}/{name}")
            return abs(value) / 1e6 if value is not None else None

        battery.volts = millionths("voltage_now")
        current, power = millionths("current_now"), millionths("power_now")
        if power is None and current is not None and battery.volts is not None:
            power = current * battery.volts
        battery.watts = power if power is not None and power <= PLAUSIBLE_W else None
        battery.discharging = self._tree.text(f"{battery.directory}/status") == "Discharging"
        battery.charge = self._charge(battery, millionths("energy_now"), millionths("energy_full"))
        battery.left_s = None
        if battery.discharging:
            stated = self._tree.integer(f"{battery.directory}/time_to_empty_now")
            energy, charge = millionths("energy_now"), millionths("charge_now")
            if stated is not None and stated >= 0:
                battery.left_s = float(stated)
            elif energy is not None and battery.watts:
                battery.left_s = energy / battery.watts * 3600
            elif charge is not None and current:
                battery.left_s = charge / current * 3600

    def _charge(self, battery: _Battery, now: float | None, full: float | None) -> float | None:
        percent = self._tree.integer(f"{battery.directory}/capacity")
        if percent is not None and 0 <= percent <= 100:
            return percent / 100
        return min(1.0, now / full) if now is not None and full else None

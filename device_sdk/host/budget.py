"""Declared budgets: how long each was kept and how long it was not."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import BudgetName, BudgetState
from device_sdk.errors import log_rationed
from device_sdk.host.reader import EVERY_ROUND, SECOND_NS, Board
from device_sdk.points import Points

_SAID_AFTER_NS = 60 * SECOND_NS


class BudgetReader:
    """Compares each interval between two samples with the budgets.

    ``cpu`` is cores used by the process (1.0 is one core), ``memory`` resident bytes, ``temperature`` the hottest zone
    in Celsius, ``power`` watts of the metered rails or the discharging battery, ``latency`` seconds of the interval's
    slowest run. An interval in which a quantity cannot be read, or in which nothing ran, counts neither way.
    """

    every_ns = EVERY_ROUND

    def __init__(self, budgets: Mapping[str, float]) -> None:
        self._budgets = {BudgetName(name): limit for name, limit in budgets.items()}
        self._seconds: dict[tuple[BudgetName, BudgetState], float] = {}
        self._unread_ns = dict.fromkeys(set(self._budgets) - {BudgetName.LATENCY}, 0)
        self._cpu_s: float | None = None

    def sample(self, now_ns: int, elapsed_ns: int | None, board: Board) -> None:  # noqa: ARG002
        """Count the interval that has passed."""
        cpu_before, self._cpu_s = self._cpu_s, board.cpu_s
        if not elapsed_ns:
            return
        seconds = elapsed_ns / 1e9
        cores = None if cpu_before is None or board.cpu_s is None else (board.cpu_s - cpu_before) / seconds
        slowest_ns = max((load.slowest_ns for load in board.loads.values()), default=0)
        readings: dict[BudgetName, float | None] = {
            BudgetName.CPU: cores,
            BudgetName.MEMORY: board.resident_bytes,
            BudgetName.TEMPERATURE: board.temperature_c,
            BudgetName.POWER: board.power_w,
            BudgetName.LATENCY: slowest_ns / 1e9 if slowest_ns else None,
        }
        for name, limit in self._budgets.items():
            value = readings[name]
            if value is None:
                self._miss(name, elapsed_ns)
                continue
            self._unread_ns.pop(name, None)
            key = (name, BudgetState.OVER if value > limit else BudgetState.WITHIN)
            self._seconds[key] = self._seconds.get(key, 0.0) + seconds

    def _miss(self, name: BudgetName, elapsed_ns: int) -> None:
        """Say once that a budget is declared for something that this device does not tell."""
        unread = self._unread_ns.get(name)
        if unread is None:
            return
        self._unread_ns[name] = unread + elapsed_ns
        if self._unread_ns[name] >= _SAID_AFTER_NS:
            del self._unread_ns[name]
            log_rationed(logging.WARNING, "budget %s: nothing readable here tells it, so it is not counted", name)

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        for (name, state), seconds in self._seconds.items():
            points.add(m.BUDGET_TIME.name, seconds, ((a.BUDGET_NAME, str(name)), (a.BUDGET_STATE, str(state))))
            self._seconds[name, state] = 0.0

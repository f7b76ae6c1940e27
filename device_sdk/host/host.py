"""All readers of one host: found once, sampled at a bounded rate in the background, told when a window closes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from device_sdk.clock import Clock
from device_sdk.config import Config
from device_sdk.errors import swallow
from device_sdk.host.accelerators import AcceleratorReader
from device_sdk.host.battery import BatteryReader
from device_sdk.host.budget import BudgetReader
from device_sdk.host.cpufreq import CpuFrequencyReader
from device_sdk.host.disk import DiskReader
from device_sdk.host.energy import InferenceEnergy
from device_sdk.host.facts import hardware_facts
from device_sdk.host.nvml import NvidiaReader
from device_sdk.host.process import ProcessReader
from device_sdk.host.rails import RailsReader
from device_sdk.host.reader import SECOND_NS, Board, Load, Reader
from device_sdk.host.system import SystemReader
from device_sdk.host.thermal import ThermalReader
from device_sdk.host.throttle import ThrottleReader
from device_sdk.host.tree import Tree
from device_sdk.points import AttributePairs, Points

ROUND_NS: Final = 950_000_000
"""Least time between two rounds: a loop that wakes once a second does one in each turn."""
COST_SHARE: Final = 100
"""A reader that took t rests for 100 t: no sensor, however slow its bus, takes more than 1 % of a thread's time."""
EMIT_WAIT_S: Final = 0.05
_SUSPENDED_NS: Final = SECOND_NS // 2


Loads = Mapping[AttributePairs, tuple[int, int]]


def with_hardware_facts(config: Config) -> Config:
    """Return settings whose resource begins with what the machine says of itself, so that the operator's word wins."""
    return replace(config, resource=(*hardware_facts(Tree()).items(), *config.resource))


@dataclass(slots=True)
class _Slot:
    reader: Reader
    due_ns: int = 0
    last_ns: int | None = None


class Host:
    """Samples and tells what the machine and this process use.

    ``machine`` false leaves the machine out: a forked child tells of itself alone, its parent tells of the rest.
    """

    def __init__(self, config: Config, clock: Clock, tree: Tree | None = None, *, machine: bool = True) -> None:
        self._config = config
        self._clock = clock
        self._tree = tree or Tree()
        self._machine = machine
        self._cost_ns: Callable[[], int] = clock.perf_ns if clock.manual else time.perf_counter_ns
        self._lock = threading.Lock()
        self.board = Board()
        self._slots = [_Slot(ProcessReader(self._tree, clock.boot_ns))]  # at once: its counts begin here
        self._discovered = False
        self._round_ns: int | None = None
        self._asleep_ns = clock.boot_ns() - clock.perf_ns()

    @property
    def readers(self) -> list[Reader]:
        """What is read, in order."""
        return [slot.reader for slot in self._slots]

    @property
    def refused(self) -> list[str]:
        """Files that were found and may not be read."""
        return list(self._tree.refused)

    # --- in the background --------------------------------------------------------------------------------------

    def turn(self, loads: Callable[[], Loads]) -> int:
        """Do a round if one is due; return what it cost, in ns of CPU time.

        ``loads`` returns (time in runs, longest run) of each model since it was last called. The caller holds no lock:
        a slow sensor must not hold up a thread that infers.
        """
        if self._round_ns is not None and self._clock.perf_ns() - self._round_ns < ROUND_NS:
            return 0
        started = time.thread_time_ns()
        self.sample({model: Load(*load) for model, load in loads().items()})
        return time.thread_time_ns() - started

    def sample(self, loads: Mapping[AttributePairs, Load]) -> None:
        """Read what is due; ``loads`` is what each model ran since the last round."""
        with self._lock:
            if not self._discovered:
                self._discovered = True
                self._discover()
            now = self._round_ns = self._clock.perf_ns()
            self.board.loads = dict(loads)
            self.board.metered.clear()
            self._note_suspension(now)
            for slot in list(self._slots):
                if now >= slot.due_ns:
                    self._read(slot, now)

    def _read(self, slot: _Slot, now: int) -> None:
        elapsed = None if slot.last_ns is None else now - slot.last_ns
        slot.last_ns = now
        started = self._cost_ns()
        try:
            slot.reader.sample(now, elapsed, self.board)
        except Exception as error:  # noqa: BLE001 - a sensor that breaks its reader must not stop the others
            self._drop(slot, error)
        cost = self._cost_ns() - started
        slot.due_ns = now + max(slot.reader.every_ns - SECOND_NS // 20, COST_SHARE * cost, 0)

    def _note_suspension(self, now: int) -> None:
        """After a sleep no interval is whole: counters may have been reset, and nobody saw what happened."""
        asleep = self._clock.boot_ns() - now
        if abs(asleep - self._asleep_ns) > _SUSPENDED_NS:
            for slot in self._slots:
                slot.last_ns = None
        self._asleep_ns = asleep

    def _drop(self, slot: _Slot, error: Exception) -> None:
        self._slots.remove(slot)
        swallow(f"reading the host ({type(slot.reader).__name__}, now left out)", error)

    def _discover(self) -> None:
        """Look once for everything there is; what is not there is never asked for again."""
        makers = [*(self._of_the_machine() if self._machine else []), *self._of_the_process()]
        for make in makers:
            try:
                self._slots.append(_Slot(make()))
            except Exception as error:  # noqa: BLE001 - as in a round: one corner of the host less
                swallow("looking for what the host tells", error)

    def _of_the_machine(self) -> list[Callable[[], Reader]]:
        tree, config = self._tree, self._config
        rails = RailsReader(tree)
        return [
            lambda: SystemReader(tree, self._clock.boot_ns),
            lambda: ThermalReader(tree),
            lambda: CpuFrequencyReader(tree),
            lambda: AcceleratorReader(tree),
            lambda: NvidiaReader(tree),
            lambda: rails,
            lambda: BatteryReader(tree, meters=not rails.meter),
            lambda: ThrottleReader(tree),
            lambda: DiskReader(config.state_dir),
            InferenceEnergy,
        ]

    def _of_the_process(self) -> list[Callable[[], Reader]]:
        budgets = dict(self._config.budgets)
        return [lambda: BudgetReader(budgets)] if budgets else []

    # --- when a window closes -----------------------------------------------------------------------------------

    def emit(self, points: Points) -> None:
        """Add this window's points; what a slow sensor keeps from being told now is told in the next window."""
        if not self._lock.acquire(timeout=EMIT_WAIT_S):
            return
        try:
            for slot in list(self._slots):
                try:
                    slot.reader.emit(points)
                except Exception as error:  # noqa: BLE001 - as in a round
                    self._drop(slot, error)
        finally:
            self._lock.release()

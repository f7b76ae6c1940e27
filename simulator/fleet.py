"""A fleet of simulated devices over worker processes that move in lockstep, slice by slice.

All devices stop at the end of each slice and deliver what they closed, so the fleet's watermark advances as it would in
real time. Workers are spawned, hold their devices' sessions and talk to the parent over a pipe.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from types import TracebackType
from typing import Any, Final, Self

from simulator.device import Activity, Connection, Device
from simulator.models import SimulatorError
from simulator.scenarios import Scenario
from simulator.world import World

SENDERS: Final = 4
"""Threads a worker delivers with: a sender mostly waits for the collector's disk."""


@dataclass(frozen=True, slots=True)
class SliceReport:
    """What the fleet did in one slice; ``elapsed_s`` is the slowest worker's."""

    until_ns: int
    runs: int
    magika_runs: int
    windows: int
    failures: int
    crashes: int
    undelivered: int
    elapsed_s: float


class DeviceGroup:
    """The devices of one process; ``Fleet`` drives several groups, tests drive one directly."""

    def __init__(self, scenario: Scenario, connection: Connection, indices: Sequence[int]) -> None:
        world = World(scenario)
        self.devices = [Device(scenario, scenario.plans[index], world, connection) for index in indices]
        self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="deliver")

    def run_slice(self, until_ns: int, *, flush: bool = True) -> tuple[Activity, float]:
        """Move every device to ``until_ns`` and deliver; return what they did and the seconds it took.

        A device delivers while the next one already runs. An exception of a device ends the slice: it is a bug.
        """
        started = time.perf_counter()
        deliveries: list[Future[None]] = []
        for device in self.devices:
            device.run_until(until_ns)
            if flush:
                deliveries.append(self._senders.submit(device.flush))
        for delivery in deliveries:
            delivery.result()
        total = Activity()
        for device in self.devices:
            total.add(device.take_activity())
        return total, time.perf_counter() - started

    def truth(self) -> dict[str, dict[str, int]]:
        """Return what each device counted in its closed windows: {device_id: {metric: sum}}."""
        return {device.plan.device_id: dict(device.tally.closed) for device in self.devices}

    def close(self) -> None:
        """End all sessions cleanly and stop the senders."""
        for future in [self._senders.submit(device.close) for device in self.devices]:
            future.result()
        self._senders.shutdown()


def _serve(pipe: Pipe, scenario: Scenario, connection: Connection, indices: Sequence[int]) -> None:
    """Answer the parent's commands until it says stop or its end of the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        group = DeviceGroup(scenario, connection, indices)
        gc.collect()
        gc.freeze()
        pipe.send(("ready", None))
        while True:
            command, argument = pipe.recv()
            if command == "slice":
                pipe.send(("done", group.run_slice(argument)))
            elif command == "truth":
                pipe.send(("done", group.truth()))
            else:
                group.close()
                pipe.send(("done", group.truth()))
                return
    except EOFError:
        return
    except Exception:  # noqa: BLE001 - the boundary of a process: the parent raises it
        pipe.send(("failed", traceback.format_exc()))


class Fleet:
    """A running fleet. Use as a context manager; leaving it kills workers that were not stopped by ``finish``."""

    def __init__(self, scenario: Scenario, connection: Connection, *, workers: int = 2) -> None:
        self.scenario = scenario
        self._connection = connection
        self._workers = max(1, min(workers, len(scenario.plans)))
        self._pipes: list[Pipe] = []
        self._processes: list[Any] = []

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        for worker in range(self._workers):
            mine, theirs = context.Pipe()
            indices = tuple(range(worker, len(self.scenario.plans), self._workers))
            process = context.Process(
                target=_serve,
                args=(theirs, self.scenario, self._connection, indices),
                name=f"simulator-{worker}",
                daemon=True,
            )
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)
        for pipe in self._pipes:
            self._answer(pipe)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(5.0)
            if process.is_alive():
                process.kill()
                process.join()

    def _answer(self, pipe: Pipe) -> Any:
        try:
            word, value = pipe.recv()
        except EOFError:
            raise SimulatorError("a simulator process ended unexpectedly; its standard error says why") from None
        if word == "failed":
            raise SimulatorError(f"a simulated device failed:\n{value}")
        return value

    def _ask(self, command: str, argument: object = None) -> list[Any]:
        for pipe in self._pipes:
            pipe.send((command, argument))
        return [self._answer(pipe) for pipe in self._pipes]

    def run_slice(self, until_ns: int) -> SliceReport:
        """Move the whole fleet to ``until_ns`` (epoch ns) and deliver; raises SimulatorError when a device fails."""
        total, slowest = Activity(), 0.0
        for activity, elapsed_s in self._ask("slice", until_ns):
            total.add(activity)
            slowest = max(slowest, elapsed_s)
        return SliceReport(
            until_ns, total.runs, total.magika_runs, total.windows, total.failures, total.crashes, total.undelivered,
            slowest,
        )  # fmt: skip

    def truth(self) -> dict[str, dict[str, int]]:
        """Return what each device counted in its closed windows: {device_id: {metric: sum}}."""
        return _merged(self._ask("truth"))

    def finish(self) -> dict[str, dict[str, int]]:
        """End every session cleanly, stop the workers, and return the final truth."""
        return _merged(self._ask("stop"))


def _merged(parts: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    return {device_id: dict(counts) for part in parts for device_id, counts in part.items()}

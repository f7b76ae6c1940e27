"""What reading the host costs, beside psutil reading the same things in the same process.

Three ways in interleaved blocks: one round of all of the SDK's readers on this machine; one round on a recorded tree of
a laptop with RAPL, battery, hwmon and eight cpufreq policies (more files than most devices have); and psutil asked for
the same figures on this machine (CPU times of process and machine, memory of both, bytes read and written, disk,
temperatures, clocks, battery). Figures are CPU time (``thread_time``), the median over blocks. A round runs once a
second, so a round of 1 ms is 0.1 % of a core. psutil's figures leave out what it cannot read: throttling, RAPL, rails,
accelerators.

Run: ``.venv/bin/python benchmarks/host_readers.py [--rounds 200] [--blocks 7]``
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from device_sdk.clock import SystemClock
from device_sdk.config import resolve
from device_sdk.host.host import Host
from device_sdk.host.reader import Reader
from device_sdk.host.tree import Tree
from device_sdk.points import Points

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "device_sdk"))

from host_kit import LAPTOP, Machine

SECOND_NS = 1_000_000_000


def every_reader(root: Path | None, state_dir: Path) -> tuple[list[Reader], Callable[[], None]]:
    """Return the readers of a host and a function that does one round of all of them, due or not."""
    config = resolve(state_dir=state_dir, budgets={"cpu": 1, "memory": 1e9, "temperature": 90}, environ={})
    host = Host(config, SystemClock(), Tree(root))
    host.sample({})
    board, readers = host.board, host.readers

    def round_() -> None:
        board.metered.clear()
        for reader in readers:
            reader.sample(time.perf_counter_ns(), SECOND_NS, board)

    return readers, round_


def with_psutil(state_dir: Path) -> Callable[[], None]:
    """Return a function that asks psutil for what it can tell of the same."""
    process = psutil.Process()

    def round_() -> None:
        process.cpu_times()
        process.memory_info()
        process.io_counters()
        psutil.cpu_times()
        psutil.virtual_memory()
        psutil.disk_usage(str(state_dir))
        psutil.sensors_temperatures()
        psutil.cpu_freq()
        psutil.sensors_battery()

    return round_


def cpu_us(round_: Callable[[], None], rounds: int) -> float:
    """Return CPU microseconds of one round."""
    started = time.thread_time_ns()
    for _ in range(rounds):
        round_()
    return (time.thread_time_ns() - started) / 1e3 / rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--blocks", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        readers, here = every_reader(None, state)
        laptop_readers, laptop = every_reader(Machine(state / "laptop", LAPTOP).root, state)
        ways = {"this machine": here, "recorded laptop": laptop, "psutil, this machine": with_psutil(state)}
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.blocks):
            for name, round_ in ways.items():
                taken[name].append(cpu_us(round_, arguments.rounds))
        cost = {name: statistics.median(blocks) for name, blocks in taken.items()}
        for name, microseconds in cost.items():
            print(f"{name:22} {microseconds:8.0f} us a round, {microseconds / 1e4:.3f} % of a core at one a second")
        print(f"psutil / SDK, this machine: {cost['psutil, this machine'] / cost['this machine']:.2f}")
        for label, which in (("this machine", readers), ("recorded laptop", laptop_readers)):
            points = Points()
            started = time.thread_time_ns()
            for reader in which:
                reader.emit(points)
            print(
                f"{label:22} {(time.thread_time_ns() - started) / 1e3:8.0f} us to tell {points.count} points a window"
            )


if __name__ == "__main__":
    main()

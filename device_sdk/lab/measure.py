"""Run an opened model in blocks and say what it took: quantiles of latency by block, memory, heat, energy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.contract import metrics as m
from device_sdk.host.host import Host
from device_sdk.host.reader import Load
from device_sdk.points import AttributePairs, Points

QUANTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
BLOCKS: Final = 20
CALLS_A_BLOCK_MIN: Final = 5
IDLE_S: Final = 30.0
"""Seconds of rest before the runs where a power meter is readable: the baseline of energy per inference."""
_HOST_ROUND_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What a bench found. Durations in seconds, memory in bytes, temperature in Celsius, energy in joules a run.

    ``blocks[name]`` are the quantile ``name`` of each block of runs: what a comparison takes its interval from.
    """

    calls: int
    seconds: float
    first_s: float
    quantiles: dict[str, float]
    blocks: dict[str, list[float]]
    cpu_s: float
    memory_bytes: int | None
    memory_peak_bytes: int | None
    temperature: float | None
    throttled_s: dict[str, float] = field(default_factory=dict)
    energy_j: float | None = None
    energy_error_j: float | None = None
    energy_source: str | None = None


def measure(
    call: Callable[[], object], host: Host, model: AttributePairs, *, seconds: float, idle_s: float = IDLE_S
) -> Measured:
    """Run ``call`` for about ``seconds``, in blocks of equal length; the first call is told apart."""
    _rest(host, min(idle_s, _HOST_ROUND_S))
    if host.board.power_w is not None:
        _rest(host, idle_s)
    started = time.perf_counter_ns()
    call()
    first_ns = time.perf_counter_ns() - started
    per_block = _calls_a_block(call, seconds)
    host.emit(Points())  # what was before the runs is none of theirs
    durations, cpu_s, took_s = _run_blocks(call, host, model, per_block, seconds)
    points = Points()
    host.emit(points)
    blocks = {name: [float(np.quantile(block, q)) for block in durations] for name, q in QUANTILES.items()}
    whole = np.concatenate(durations)
    energy, error, source = _energy(points, len(whole))
    return Measured(
        calls=len(whole),
        seconds=took_s,
        first_s=first_ns / 1e9,
        quantiles={name: float(np.quantile(whole, q)) for name, q in QUANTILES.items()},
        blocks=blocks,
        cpu_s=cpu_s / len(whole),
        memory_bytes=_only(points, m.PROCESS_MEMORY.name),
        memory_peak_bytes=_only(points, m.PROCESS_MEMORY_PEAK.name),
        temperature=_hottest(points),
        throttled_s={str(at[0][1]): float(value) for at, value in _values(points, m.THROTTLE_TIME.name) if value > 0},
        energy_j=energy,
        energy_error_j=error,
        energy_source=source,
    )


def _rest(host: Host, idle_s: float) -> None:
    deadline = time.monotonic() + idle_s
    host.sample({})
    while time.monotonic() < deadline:
        time.sleep(min(_HOST_ROUND_S, max(0.0, deadline - time.monotonic())))
        host.sample({})


def _calls_a_block(call: Callable[[], object], seconds: float) -> int:
    """Return how many calls fill one block, from a few that also warm up."""
    taken = 0
    started = time.perf_counter()
    while taken < CALLS_A_BLOCK_MIN or (time.perf_counter() - started < seconds / BLOCKS and taken < 10_000):
        call()
        taken += 1
    each = (time.perf_counter() - started) / taken
    return max(CALLS_A_BLOCK_MIN, math.ceil(seconds / BLOCKS / max(each, 1e-9)))


def _run_blocks(
    call: Callable[[], object], host: Host, model: AttributePairs, per_block: int, seconds: float
) -> tuple[list[NDArray[np.float64]], float, float]:
    """Return (seconds of each call of each block, CPU seconds, seconds); a slow model gets fewer blocks, at least 3."""
    clock = time.perf_counter_ns
    blocks: list[NDArray[np.float64]] = []
    cpu_started, started = time.process_time(), time.perf_counter()
    host_due = started + _HOST_ROUND_S
    busy_ns = slowest_ns = 0
    while len(blocks) < BLOCKS and (len(blocks) < 3 or time.perf_counter() - started < 2 * seconds):
        taken = []
        for _ in range(per_block):
            begun = clock()
            call()
            taken.append(clock() - begun)
        blocks.append(np.array(taken) / 1e9)
        busy_ns, slowest_ns = busy_ns + sum(taken), max(slowest_ns, *taken)
        if time.perf_counter() >= host_due:
            host.sample({model: Load(busy_ns, slowest_ns)})
            busy_ns = slowest_ns = 0
            host_due = time.perf_counter() + _HOST_ROUND_S
    cpu_s, took_s = time.process_time() - cpu_started, time.perf_counter() - started
    host.sample({model: Load(busy_ns, slowest_ns)})
    return blocks, cpu_s, took_s


def _values(points: Points, name: str) -> Sequence[tuple[AttributePairs, Any]]:
    return points.by_metric.get(name, [])


def _only(points: Points, name: str) -> int | None:
    values = _values(points, name)
    return int(values[0][1]) if values else None


def _hottest(points: Points) -> float | None:
    return max((float(value) for _, value in _values(points, m.TEMPERATURE_PEAK.name)), default=None)


def _energy(points: Points, calls: int) -> tuple[float | None, float | None, str | None]:
    energy = _values(points, m.INFERENCE_ENERGY.name)
    error: Mapping[AttributePairs, Any] = dict(_values(points, m.INFERENCE_ENERGY_ERROR.name))
    if not energy:
        return None, None, None
    attributes, joules = energy[0]
    return float(joules) / calls, float(error.get(attributes, 0.0)) / calls, str(attributes[-1][1])

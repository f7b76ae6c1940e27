"""Energy per model: what the machine drew while it inferred, less what it draws at rest.

For each metered interval with inference in it the excess over the idle baseline, ``joules - idle_w * seconds``, is
shared among the models by their time in runs. Idle intervals have no run in them and less than 5 % of a core used by
this process; the baseline is the median power of the last 120 of them, and nothing is told before there are 10. A run
that ends in an interval but began before it claims the intervals it began in, so an interval is called idle only when
16 later ones have not claimed it.

The half-width of each interval is summed linearly, as errors of one meter do not cancel: what reading leaves open,
plus the meter's accuracy times the excess, plus the idle baseline's half-width (from its 10 % to its 90 % quantile)
times the seconds, plus the excess times the share of CPU time that other programs used beyond what they use at rest.
It assumes that whatever else the machine does is the same in busy and in idle intervals, or shows as CPU time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import EnergySource
from device_sdk.host.reader import EVERY_ROUND, Board, Load, Metered
from device_sdk.points import AttributePairs, Points

ACCURACY: Final = {
    EnergySource.RAPL: 0.05,
    EnergySource.INA3221: 0.02,
    EnergySource.HWMON: 0.05,
    EnergySource.BATTERY: 0.10,
}
"""Assumed accuracy of each kind of meter, as a share of what it reads: typical of data sheets and of comparisons with
external meters, not measured on this device."""
IDLE_MIN: Final = 10
IDLE_KEPT: Final = 120
CLAIMABLE: Final = 16
MODELS_MAX: Final = 8
_IDLE_CORES: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Interval:
    metered: Metered
    own_cpu_s: float
    other_cpu_s: float


@dataclass(frozen=True, slots=True)
class _Baseline:
    watts: float
    half_width_w: float
    other_cores: float


class InferenceEnergy:
    """The estimator above; one for all models, because they share the meter."""

    every_ns = EVERY_ROUND

    def __init__(self) -> None:
        self._busy: dict[AttributePairs, Load] = {}
        self._recent: deque[_Interval] = deque()
        self._idle: deque[tuple[float, float]] = deque(maxlen=IDLE_KEPT)
        self._told: dict[tuple[AttributePairs, EnergySource], list[float]] = {}
        self._cpu: tuple[float, float] | None = None

    def sample(self, now_ns: int, elapsed_ns: int | None, board: Board) -> None:  # noqa: ARG002
        """Take what ran, and judge the interval when the meter has one."""
        if elapsed_ns is None:
            self._busy, self._cpu = {}, None
            self._recent.clear()
        if board.power_w is None:  # nothing is metered (a battery on its charger): what ran is nobody's
            self._busy = {}
            return
        for model, load in board.loads.items():
            if load.busy_ns:
                self._busy[model] = self._busy.get(model, Load()) + load
        for metered in board.metered:
            own, machine = board.cpu_s or 0.0, board.machine_cpu_s or 0.0
            before, self._cpu = self._cpu or (own, machine), (own, machine)
            own_cpu_s = max(0.0, own - before[0])
            self._judge(_Interval(metered, own_cpu_s, max(0.0, machine - before[1] - own_cpu_s)))

    def emit(self, points: Points) -> None:
        """Add this window's points; a sum below zero (noise about an idle device) waits for the next window."""
        for (model, source), told in self._told.items():
            if told[0] > 0:
                identity = (*model, (a.ENERGY_SOURCE, str(source)))
                points.add(m.INFERENCE_ENERGY.name, told[0], identity)
                points.add(m.INFERENCE_ENERGY_ERROR.name, told[1], identity)
                told[:] = [0.0, 0.0]

    def _judge(self, interval: _Interval) -> None:
        busy, self._busy = self._busy, {}
        if not busy:
            self._recent.append(interval)
            if len(self._recent) > CLAIMABLE:
                self._rest(self._recent.popleft())
            return
        intervals = [interval]
        began_s = max(load.slowest_ns for load in busy.values()) / 1e9 - interval.metered.seconds
        while began_s > 0 and self._recent:
            intervals.append(self._recent.pop())
            began_s -= intervals[-1].metered.seconds
        baseline = self._baseline()
        if baseline is not None:
            for each in intervals:
                self._attribute(each, busy, baseline)

    def _rest(self, interval: _Interval) -> None:
        seconds = interval.metered.seconds
        if interval.own_cpu_s < _IDLE_CORES * seconds:
            self._idle.append((interval.metered.joules / seconds, interval.other_cpu_s / seconds))

    def _baseline(self) -> _Baseline | None:
        count = len(self._idle)
        if count < IDLE_MIN:
            return None
        watts = sorted(power for power, _ in self._idle)
        cores = sorted(other for _, other in self._idle)
        half_width = (watts[(count - 1) * 9 // 10] - watts[(count - 1) // 10]) / 2
        return _Baseline(watts[count // 2], half_width, cores[count // 2])

    def _attribute(self, interval: _Interval, busy: dict[AttributePairs, Load], idle: _Baseline) -> None:
        metered = interval.metered
        excess_j = metered.joules - idle.watts * metered.seconds
        foreign_s = max(0.0, interval.other_cpu_s - idle.other_cores * metered.seconds)
        all_s = foreign_s + interval.own_cpu_s
        doubt = ACCURACY[metered.source] + (foreign_s / all_s if all_s > 0 else 0.0)
        error_j = metered.error_j + doubt * abs(excess_j) + idle.half_width_w * metered.seconds
        total_ns = sum(load.busy_ns for load in busy.values())
        for model, load in busy.items():
            told = self._told.setdefault((self._named(model, metered.source), metered.source), [0.0, 0.0])
            told[0] += excess_j * load.busy_ns / total_ns
            told[1] += error_j * load.busy_ns / total_ns

    def _named(self, model: AttributePairs, source: EnergySource) -> AttributePairs:
        """Return the model, or ``_OTHER`` when it would be a series too many."""
        if (model, source) in self._told or len(self._told) < MODELS_MAX - 1:
            return model
        return ((a.MODEL_NAME, a.OTHER), (a.MODEL_VERSION, a.OTHER))

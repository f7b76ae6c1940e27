"""What a device did, counted by the device itself and not by the SDK: the other side of "counts equal, to the unit".

A run counts once its window was closed; what an unfinished window held when the process was killed was never promised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from device_sdk.contract import metrics as m

COUNTED_METRICS: tuple[str, ...] = (
    m.INFERENCE_DURATION.name,
    m.INFERENCE_SAMPLES.name,
    m.INPUT_OBSERVATIONS.name,
    m.INPUT_VALUE.name,
    m.OUTPUT_CONFIDENCE.name,
    m.OUTPUT_PREDICTIONS.name,
    m.SESSION_TIME.name,
    m.SESSION_STARTS.name,
    m.WINDOW_COUNT.name,
)
"""Metrics whose sums the demo compares per device."""


@dataclass(slots=True)
class Tally:
    """Counts of one device: ``closed`` per metric, ``open`` those of the window that is still open."""

    closed: Counter[str] = field(default_factory=Counter)
    open: Counter[str] = field(default_factory=Counter)

    def run(self, rows: int, features: int, outputs: int = 1) -> None:
        """Count one successful run of ``rows`` samples with ``features`` declared features."""
        self.runs(1, rows, features, outputs)

    def runs(self, runs: int, rows: int, features: int, outputs: int = 1) -> None:
        """Count ``runs`` successful runs that carried ``rows`` samples together."""
        tally = self.open
        tally[m.INFERENCE_DURATION.name] += runs
        tally[m.INFERENCE_SAMPLES.name] += rows
        tally[m.INPUT_OBSERVATIONS.name] += rows * features
        tally[m.INPUT_VALUE.name] += rows * features
        tally[m.OUTPUT_CONFIDENCE.name] += rows * outputs
        tally[m.OUTPUT_PREDICTIONS.name] += rows * outputs

    def failed(self, rows: int) -> None:
        """Count one failed run of ``rows`` samples: latency and samples, no signals."""
        self.open[m.INFERENCE_DURATION.name] += 1
        self.open[m.INFERENCE_SAMPLES.name] += rows

    def started(self) -> None:
        """Count a session start."""
        self.open[m.SESSION_STARTS.name] += 1

    def close_window(self, seconds: int) -> None:
        """Count a closed window of ``seconds`` and everything it held."""
        self.open[m.SESSION_TIME.name] += seconds
        self.open[m.WINDOW_COUNT.name] += 1
        self.closed.update(self.open)
        self.open.clear()

    def lose_open_window(self) -> int:
        """Forget the open window (the process was killed); return how many runs were in it."""
        lost = self.open[m.INFERENCE_DURATION.name]
        self.open.clear()
        return lost


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One device and metric whose stored sum is not what the device counted."""

    device_id: str
    metric: str
    counted: float
    stored: float


def mismatches(
    counted: Mapping[str, Mapping[str, float]], stored: Mapping[str, Mapping[str, float]], metrics: Iterable[str]
) -> list[Mismatch]:
    """Return every (device, metric) of ``{device: {metric: sum}}`` that differs, seconds to the microsecond."""
    found = []
    for metric in metrics:
        for device_id in sorted({*counted, *stored}):
            mine = float(counted.get(device_id, {}).get(metric, 0))
            theirs = float(stored.get(device_id, {}).get(metric, 0))
            if abs(mine - theirs) > 1e-6 * max(1.0, abs(mine) * 1e-6):
                found.append(Mismatch(device_id, metric, mine, theirs))
    return found

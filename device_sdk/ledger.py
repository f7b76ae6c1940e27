"""The SDK's account of itself: what it lost, sent, refused and spent, kept by window and reported in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import EndReason, LossReason, SdkLevel
from device_sdk.locks import SafeLock
from device_sdk.points import Points

Losses = Mapping[tuple[str, str], int]
"""Counts of what will never arrive, by (metric name, reason)."""

LOSS_METRICS: Final = frozenset(
    row.name for row in (m.LOSS_WINDOWS, m.LOSS_EVENTS, m.LOSS_MEASUREMENTS, m.LOSS_RUNS, m.SPOOL_CORRUPT)
)
"""What is kept over a death until it is safely told."""


class Ledger:
    """Counts since the last window; thread-safe."""

    def __init__(self) -> None:
        self._lock = SafeLock()
        self._counts: Counter[tuple[str, tuple[tuple[str, str | bool], ...]]] = Counter()
        self._times_ns: Counter[tuple[str, tuple[str, str]]] = Counter()
        self._told: dict[tuple[str, str], int] = {}

    def lost(self, windows: bool, reason: LossReason, count: int) -> None:
        """Count windows (or events) that will never arrive."""
        self._add(m.LOSS_WINDOWS.name if windows else m.LOSS_EVENTS.name, count, (a.LOSS_REASON, str(reason)))

    def measurements_lost(self, reason: LossReason, count: int) -> None:
        """Count tensor measurements that were not folded or not taken."""
        self._add(m.LOSS_MEASUREMENTS.name, count, (a.LOSS_REASON, str(reason)))

    def runs_lost(self, reason: LossReason, count: int) -> None:
        """Count runs of a dead process that will never arrive."""
        self._add(m.LOSS_RUNS.name, count, (a.LOSS_REASON, str(reason)))

    def segment_corrupt(self, count: int) -> None:
        """Count damaged spool files that were set aside."""
        self._add(m.SPOOL_CORRUPT.name, count)

    def untold(self, losses: Losses) -> None:
        """Take back losses that a window was to tell which will itself never arrive."""
        for (metric, reason), count in losses.items():
            self._add(metric, count, *(((a.LOSS_REASON, reason),) if reason else ()))

    def losses(self) -> dict[tuple[str, str], int]:
        """Return the losses that no window tells of yet."""
        with self._lock:
            return _losses_of(self._counts)

    def told(self) -> dict[tuple[str, str], int]:
        """Return the losses that the last emitted window tells of."""
        return self._told

    def sent(self, kind: str, size: int, error: str) -> None:
        """Count bytes put on the network; ``error`` is empty when they were taken."""
        attributes: list[tuple[str, str | bool]] = [(a.EXPORT_KIND, kind)]
        if error:
            attributes.append((a.ERROR_TYPE, error))
        self._add(m.EXPORT_SIZE.name, size, *attributes)

    def refused(self, reason: str, count: int) -> None:
        """Count what the allow-list kept on the device."""
        self._add(m.PRIVACY_REFUSED.name, count, (a.PRIVACY_REASON, reason))

    def session_started(self) -> None:
        """Count the start of this session."""
        self._add(m.SESSION_STARTS.name, 1)

    def session_ended(self, reason: EndReason, *, expected: bool) -> None:
        """Count the end of a session, this one's or one that was found dead."""
        self._add(m.SESSION_ENDS.name, 1, (a.SESSION_END_REASON, str(reason)), (a.SESSION_END_EXPECTED, expected))

    def spent(self, activity: str, cpu_ns: int) -> None:
        """Add CPU time of the SDK itself."""
        with self._lock:
            self._times_ns[m.SDK_TIME.name, (a.SDK_ACTIVITY, activity)] += cpu_ns

    def degraded(self, level: SdkLevel, passed_ns: int) -> None:
        """Add time at a level of reduced tensor sampling."""
        with self._lock:
            self._times_ns[m.SDK_DEGRADED_TIME.name, (a.SDK_LEVEL, str(level))] += passed_ns

    def _add(self, metric: str, count: int, *attributes: tuple[str, str | bool]) -> None:
        if count > 0:
            with self._lock:
                self._counts[metric, attributes] += count

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        with self._lock:
            counts, times_ns = self._counts, self._times_ns
            self._counts, self._times_ns = Counter(), Counter()
            self._told = _losses_of(counts)
        for (metric, attributes), count in counts.items():
            points.add(metric, count, attributes)
        for (metric, attribute), ns in times_ns.items():
            points.add(metric, ns / 1e9, (attribute,))


def _losses_of(counts: Counter[tuple[str, tuple[tuple[str, str | bool], ...]]]) -> dict[tuple[str, str], int]:
    return {
        (metric, str(dict(attributes).get(a.LOSS_REASON, ""))): count
        for (metric, attributes), count in counts.items()
        if metric in LOSS_METRICS
    }

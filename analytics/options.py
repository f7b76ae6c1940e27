"""The settings of judgement, composed by ``fleetpulse.settings``; each field names its unit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS


@dataclass(frozen=True, slots=True)
class AnalyticsOptions:
    """How jobs judge. ``config_dir`` holds ``slos/`` and ``targets.yaml`` over the packaged defaults.

    Drift: ``drift_delta`` is the least shift (in sd of the reference) worth waking for, inside the detector's null;
    ``drift_floor`` and ``drift_page_floor`` are the table's effect floors. Stability: ``confidence`` of two-sided
    intervals. Burn: a burn window is never shorter than the longest telemetry window inside, ``telemetry_window_s``
    when that cannot be measured. ``wall_grace_s``: how long after T the wall clock closes an instant that the
    watermark has not. ``restate_s``: a tick judges again for late data no more often than this; ``overlap_hours``: what
    the first run of a process judges again. ``compute_child``: mathematics in a child of at most
    ``compute_memory_bytes``.
    """

    config_dir: Path | None = None
    drift_delta: float = 0.1
    drift_alpha: float = 0.05
    drift_floor: float = 0.05
    drift_page_floor: float = 0.1
    reference_days: int = 14
    provisional_hours: int = 24
    look_horizon_days: int = 30
    confidence: float = 0.95
    crash_window_hours: int = 24
    crash_loop_ends: int = 3
    crash_loop_hours: int = 6
    crash_loop_devices: int = 2
    completeness_hours: int = 24
    silence_floor_hours: float = 3.0
    silence_rest_hours: float = 24.0
    silence_factor: float = 2.0
    silence_lookback_days: int = 14
    guard_alpha: float = 0.05
    guard_devices: int = 2
    telemetry_window_s: float = 300.0
    watermark_quantile: float = 0.1
    wall_grace_s: float = 900.0
    tick_s: float = 10.0
    restate_s: float = 60.0
    overlap_hours: float = 24.0
    batch_instants: int = 4096
    compute_child: bool = False
    compute_memory_bytes: int = 4 * 1024**3

    @property
    def slo_dir(self) -> Path | None:
        """Return the operator's directory of SLO files, or None."""
        return None if self.config_dir is None else self.config_dir / "slos"

    @property
    def targets_path(self) -> Path | None:
        """Return the operator's ``targets.yaml``, or None."""
        return None if self.config_dir is None else self.config_dir / "targets.yaml"

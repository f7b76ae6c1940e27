"""What the spool and the sender may use: memory, disk, age, flash wear, bandwidth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Budgets of one spool. Bytes a day are token buckets that save up at most one day's worth; None is no limit."""

    memory_bytes: int = _MIB
    disk_bytes: int = 64 * _MIB
    age_ns: int = 90 * 86_400 * 1_000_000_000
    written_bytes_per_day: float | None = 256.0 * _MIB
    sent_bytes_per_day: float | None = None

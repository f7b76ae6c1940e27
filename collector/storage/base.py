"""The store's seam: the operations that every engine can do exactly once in effect.

No module outside ``collector.storage`` contains SQL: readers name a query and pass parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import pyarrow as pa

Parameter: TypeAlias = int | float | str | bool | bytes | Sequence[str] | Sequence[int] | None


@dataclass(frozen=True, slots=True)
class SliSpec:
    """How one service level indicator is counted from raw points, in events.

    ``kind`` is one of: ``latency`` (good = runs of ``metric`` no slower than ``threshold`` seconds, by interpolation
    inside a bucket), ``failure`` (good = runs without ``error.type``), ``crash_free`` (good = observed seconds of a
    device's hour without an unexpected end; counted in device-hours). ``model`` and ``version`` select; '' means any.
    """

    slo: str
    kind: str
    metric: str
    threshold: float | None = None
    model: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class PutResult:
    """What one ``put`` did: rows newly stored and rows recognised as copies."""

    segments: int
    points: int
    duplicate_points: int
    late_points: int
    logs: int
    duplicate_logs: int


@dataclass(frozen=True, slots=True)
class DirtyHour:
    """An hour of event time that got data at or before ``marked_ns`` and was not rolled up since."""

    hour_ns: int
    marked_ns: int


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """Size and state of the store."""

    engine: str
    engine_version: str
    schema_version: int
    size_bytes: int


class Store(Protocol):
    """One installation's data. Methods are thread-safe; writes happen in the caller's thread, one at a time."""

    def put(self, paths: Sequence[Path]) -> PutResult:
        """Store whole segments, idempotently; the first copy of a point or log wins."""
        ...

    def dirty_hours(self) -> list[DirtyHour]:
        """Return the hours waiting for ``recompute``, oldest first."""
        ...

    def recompute(self, hours: Sequence[DirtyHour], slis: Sequence[SliSpec], gen: int) -> int:
        """Roll the hours up anew for all unfrozen arrival days, switch readers to ``gen``, return the rows written."""
        ...

    def append(self, table: str, rows: pa.Table) -> None:
        """Append rows of one of ``rows.APPEND_TABLES``; raises ``ValueError`` when the schema differs."""
        ...

    def query(self, name: str, params: Mapping[str, Parameter] | None = None) -> pa.Table:
        """Run a named query; raises ``UnknownQueryError``, ``QueryTimeoutError``, ``ValueError`` for bad parameters."""
        ...

    def expire(self, now_ns: int) -> int:
        """Drop what is past its retention; return the rows dropped."""
        ...

    def health(self) -> StoreHealth:
        """Return size and state."""
        ...

    def close(self) -> None:
        """Close the engine; idempotent."""
        ...

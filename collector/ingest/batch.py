"""What decoding makes of one request, and the Arrow tables of several such batches."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from collector.storage.rows import SEGMENT_TABLES

Row: TypeAlias = "tuple[Any, ...]"
WindowKey: TypeAlias = "tuple[bytes, int, int]"
"""(stream, start_ns, time_ns)."""

_ARRAY_LETTERS: Final = {pa.int64(): "q", pa.float64(): "d"}
REPORTED_REASONS_MAX: Final = 8


@dataclass(slots=True)
class WindowFacts:
    """What a window says about itself; all null for clients that do not number their windows."""

    received_ns: int
    sequence: int | None = None
    window_count: int | None = None
    window_points: int | None = None

    def fill(self, other: WindowFacts) -> None:
        """Take from ``other`` what is not known here; the earlier arrival stays."""
        self.received_ns = min(self.received_ns, other.received_ns)
        self.sequence = other.sequence if self.sequence is None else self.sequence
        self.window_count = other.window_count if self.window_count is None else self.window_count
        self.window_points = other.window_points if self.window_points is None else self.window_points


@dataclass(slots=True)
class DecodedBatch:
    """One decoded request: rows in the column order of ``rows.SEGMENT_TABLES`` and exact counts.

    Dictionary rows are keyed by their id, which is also their first column. ``rejected`` counts the points or records
    that can never be stored, by reason; ``samples`` holds for each reason one message that shows a value.
    """

    received_ns: int
    series: dict[bytes, Row] = field(default_factory=dict)
    resources: dict[bytes, Row] = field(default_factory=dict)
    cohorts: dict[bytes, Row] = field(default_factory=dict)
    streams: dict[bytes, Row] = field(default_factory=dict)
    windows: dict[WindowKey, WindowFacts] = field(default_factory=dict)
    points: list[Row] = field(default_factory=list)
    logs: list[Row] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)
    exemplars_dropped: int = 0

    @property
    def accepted(self) -> int:
        """Return how many points and log records will be stored."""
        return len(self.points) + len(self.logs)

    @property
    def rejected_total(self) -> int:
        """Return how many points or log records were refused."""
        return sum(self.rejected.values())

    def reject(self, reason: str, sample: str, count: int = 1) -> None:
        """Count ``count`` refused items under ``reason``; ``sample`` is kept for the first of a reason."""
        self.rejected[reason] = self.rejected.get(reason, 0) + count
        self.samples.setdefault(reason, sample)

    def message(self) -> str:
        """Return the English sentence for ``partial_success.error_message``; empty when all was taken."""
        parts = [
            f"{count} x {reason}: {self.samples[reason]}"
            for reason, count in list(self.rejected.items())[:REPORTED_REASONS_MAX]
        ]
        if self.exemplars_dropped:
            parts.append(f"{self.exemplars_dropped} exemplars dropped: this collector keeps summaries only, by policy")
        return "; ".join(parts)


def to_tables(batches: Sequence[DecodedBatch]) -> dict[str, pa.Table]:
    """Return the segment tables of ``batches`` together; a dictionary row that several use is written once."""
    series: dict[bytes, Row] = {}
    resources: dict[bytes, Row] = {}
    cohorts: dict[bytes, Row] = {}
    streams: dict[bytes, Row] = {}
    windows: dict[WindowKey, WindowFacts] = {}
    for batch in batches:
        series.update(batch.series)
        resources.update(batch.resources)
        cohorts.update(batch.cohorts)
        for stream, row in batch.streams.items():
            streams.setdefault(stream, row)
        for key, facts in batch.windows.items():
            known = windows.setdefault(key, facts)
            if known is not facts:
                known.fill(facts)
    window_rows = [
        (*key, facts.received_ns, facts.sequence, facts.window_count, facts.window_points)
        for key, facts in windows.items()
    ]
    return {
        "series": _table("series", series.values()),
        "resources": _table("resources", resources.values()),
        "cohorts": _table("cohorts", cohorts.values()),
        "streams": _table("streams", streams.values()),
        "windows": _table("windows", window_rows),
        "points": _table("points", chain.from_iterable(batch.points for batch in batches)),
        "logs": _table("logs", chain.from_iterable(batch.logs for batch in batches)),
    }


def _table(name: str, rows: Iterable[Row]) -> pa.Table:
    schema = SEGMENT_TABLES[name]
    columns = list(zip(*rows, strict=True))
    if not columns:
        return schema.empty_table()
    arrays = [_array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Build one column; ids and lists by their buffers, which is several times faster than element by element."""
    if pa.types.is_fixed_size_binary(kind):
        return pa.FixedSizeBinaryArray.from_buffers(kind, len(values), [None, pa.py_buffer(b"".join(values))])
    if pa.types.is_list(kind):
        return _lists(values, kind)
    return pa.array(values, kind)


def _lists(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    letter = _ARRAY_LETTERS.get(kind.value_type)
    flat = chain.from_iterable(values)
    items = pa.array(list(flat), kind.value_type) if letter is None else pa.array(np.asarray(array(letter, list(flat))))
    offsets = np.fromiter(accumulate(map(len, values), initial=0), np.int32, len(values) + 1)
    return pa.ListArray.from_arrays(pa.array(offsets), items, type=kind)

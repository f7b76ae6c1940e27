"""From stored histograms to signals: which signal a row belongs to, and its counts on pinned bins.

``device_hours`` rows hold exponential histograms (input features and regression outputs, on a grid ``c=..;u=..``),
explicit histograms (confidence, entropy, margin) and class counters. Here each becomes the same thing: rows x buckets,
each bucket an interval of the signal's own unit (or a class), which ``PinnedBins`` then files. Nothing is rounded
when a bucket lies inside a bin; a bucket across an edge (a device that sends a coarser scale or another grid than the
reference) is shared out in proportion to its width. Pure; Arrow in, numpy out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.buckets import FEATURE_ZERO_THRESHOLD, U1_BOUNDS

Reals = NDArray[np.float64]
Ints = NDArray[np.int64]

SIGNAL_METRICS: Final = (
    m.INPUT_VALUE.name,
    m.OUTPUT_CONFIDENCE.name,
    m.OUTPUT_ENTROPY.name,
    m.OUTPUT_MARGIN.name,
    m.OUTPUT_PREDICTIONS.name,
    m.OUTPUT_VALUE.name,
)
"""Metrics that carry signals; several series of a device (runtime, provider, output) are added up."""

NUMERIC: Final = "numeric"
CATEGORICAL: Final = "categorical"
HOUR_NS: Final = 3_600_000_000_000

_CARRIED: Final = frozenset(
    {"device_id", "tier", "hour_ns", "value", "scale", "zero_count", "positive_offset", "positive_counts",
     "negative_offset", "negative_counts", "counts", "bounds"}
)  # fmt: skip
_OUTPUT_SIGNALS: Final = {
    m.OUTPUT_CONFIDENCE.name: "output:confidence",
    m.OUTPUT_ENTROPY.name: "output:entropy",
    m.OUTPUT_MARGIN.name: "output:margin",
    m.OUTPUT_VALUE.name: "output:value",
    m.OUTPUT_PREDICTIONS.name: "classes",
}


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """The source buckets of one signal: intervals ``(lo, hi]`` in the signal's unit, or class labels.

    ``resolution`` is the fineness of the layout a bucket belongs to (scale, or number of bounds: larger is finer),
    ``atom`` marks what may hold any share of the data: zero and explicit buckets.
    """

    lo: Reals
    hi: Reals
    resolution: Ints
    atom: NDArray[np.bool_]
    labels: tuple[str, ...] = ()

    @property
    def middle(self) -> Reals:
        """Return the middle of each bucket."""
        return 0.5 * (self.lo + self.hi)


@dataclass(frozen=True, slots=True, eq=False)
class SignalRows:
    """Rows of one signal of one model version: per row its device and tier (codes into names), hour, and buckets."""

    signal: str
    kind: str
    model: str
    version: str
    device_names: list[str]
    device: Ints
    tier_names: list[str]
    tier: Ints
    hours_ns: Ints
    buckets: Buckets
    entries: sparse.csr_matrix
    """rows x buckets, counts."""

    @property
    def mass(self) -> Reals:
        """Return the count in each bucket over all rows."""
        return np.asarray(self.entries.sum(axis=0), dtype=np.float64).ravel()


def parse_grid(text: str) -> tuple[float, float]:
    """Return (centre, unit) of an ``edge.feature.grid``; (0, 1) where it is absent or cannot be read."""
    centre, unit = 0.0, 1.0
    for part in text.split(";"):
        key, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            continue
        if key.strip() == "c" and math.isfinite(number):
            centre = number
        elif key.strip() == "u" and math.isfinite(number) and number > 0:
            unit = number
    return centre, unit


def signal_rows(metric: str, table: pa.Table) -> Iterator[SignalRows]:
    """Yield the signals of ``device_hours`` rows of one metric, one per model, version and signal, in that order."""
    if table.num_rows == 0:
        return
    parsed = _parsed_attributes(metric, table)
    names, name_code = np.unique(parsed.signal, return_inverse=True)
    models, model_code = _codes(table, "model")
    versions, version_code = _codes(table, "version")
    packed = (name_code.ravel()[parsed.code] * len(models) + model_code) * len(versions) + version_code
    unique, codes = np.unique(packed, return_inverse=True)
    # Lists are copied row by row below: carry only what buckets need.
    table = table.select([name for name in table.column_names if name in _CARRIED])
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(unique.size + 1))
    for i, key in enumerate(unique.tolist()):
        index = order[bounds[i] : bounds[i + 1]] if unique.size > 1 else np.arange(codes.size)
        rest, version = divmod(key, len(versions))
        signal, model = divmod(rest, len(models))
        rows = table.take(pa.array(index)) if unique.size > 1 else table
        part = parsed.code[index]
        buckets, entries = _buckets(metric, rows, parsed.grid[part], parsed.label[part])
        device_names, device = _codes(rows, "device_id")
        tier_names, tier = _codes(rows, "tier")
        yield SignalRows(
            signal=str(names[signal]),
            kind=CATEGORICAL if metric == m.OUTPUT_PREDICTIONS.name else NUMERIC,
            model=models[model],
            version=versions[version],
            device_names=device_names,
            device=device,
            tier_names=tier_names,
            tier=tier,
            hours_ns=_numbers(rows, "hour_ns"),
            buckets=buckets,
            entries=entries,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Attributes:
    """What the distinct attribute sets mean; ``code`` says which set each row has."""

    code: Ints
    signal: NDArray[np.str_]
    grid: NDArray[np.str_]
    label: NDArray[np.str_]


def _parsed_attributes(metric: str, table: pa.Table) -> _Attributes:
    encoded = _column(table, "attributes").cast(pa.string()).dictionary_encode()
    signals, grids, labels = [], [], []
    for text in encoded.dictionary.to_pylist():
        attributes: dict[str, Any] = json.loads(text) if text else {}
        feature = str(attributes.get(a.FEATURE_NAME, a.OTHER))
        signals.append(_OUTPUT_SIGNALS.get(metric, f"input:{feature}"))
        grids.append(str(attributes.get(a.FEATURE_GRID, "")))
        labels.append(str(attributes.get(a.CLASS_NAME, a.OTHER)))
    codes = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
    return _Attributes(codes, np.array(signals), np.array(grids), np.array(labels))


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _codes(table: pa.Table, name: str) -> tuple[list[str], Ints]:
    """Return (distinct values, code of each row) of a text column."""
    encoded = _column(table, name).cast(pa.string()).dictionary_encode()
    codes = np.asarray(encoded.indices.fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
    return [value or "" for value in encoded.dictionary.to_pylist()] or [""], codes


def _numbers(table: pa.Table, name: str) -> Ints:
    return np.asarray(_column(table, name).to_numpy(zero_copy_only=False), dtype=np.int64)


def _lists(table: pa.Table, name: str) -> tuple[Ints, Ints, Reals]:
    """Return (row, position in its list, value) of each element of a list column."""
    column = _column(table, name)
    lengths = np.asarray(column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
    values = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
    row = np.repeat(np.arange(lengths.size), lengths)
    position = np.arange(values.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return row, position, values


def _buckets(
    metric: str, rows: pa.Table, grid: NDArray[np.str_], label: NDArray[np.str_]
) -> tuple[Buckets, sparse.csr_matrix]:
    if metric == m.OUTPUT_PREDICTIONS.name:
        return _class_buckets(rows, label)
    if m.BY_NAME[metric].kind is m.Kind.EXPLICIT:
        return _explicit_buckets(rows)
    return _exponential_buckets(rows, grid)


def _class_buckets(rows: pa.Table, label: NDArray[np.str_]) -> tuple[Buckets, sparse.csr_matrix]:
    labels, codes = np.unique(label, return_inverse=True)
    value = np.asarray(_column(rows, "value").to_numpy(zero_copy_only=False), dtype=np.float64)
    position = np.arange(labels.size, dtype=np.float64)
    zeros = np.zeros(labels.size, dtype=np.int64)
    buckets = Buckets(position, position, zeros, np.ones(labels.size, dtype=np.bool_), tuple(labels.tolist()))
    return buckets, _sparse(np.arange(codes.size), codes.ravel(), np.maximum(value, 0.0), (codes.size, labels.size))


def _explicit_buckets(rows: pa.Table) -> tuple[Buckets, sparse.csr_matrix]:
    """Return the buckets of explicit histograms; rows with different bounds are different schemes."""
    row, position, value = _lists(rows, "counts")
    bound_row, bound_position, bound = _lists(rows, "bounds")
    # A weighted sum in a fixed order tells layouts apart without building a Python tuple per row.
    mark = np.bincount(bound_row, weights=(bound + 1.0) * np.sqrt(bound_position + 2.0), minlength=rows.num_rows)
    _, first, scheme = np.unique(mark, return_index=True, return_inverse=True)
    parts: list[tuple[Reals, Reals]] = []
    for at in first:
        bounds = bound[bound_row == at]
        parts.append(_explicit_intervals(bounds))
    sizes = np.array([part[0].size for part in parts], dtype=np.int64)
    base = np.cumsum(sizes) - sizes
    scheme = scheme.ravel()
    keep = position < sizes[scheme[row]]
    lo, hi = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    number = np.repeat(np.arange(sizes.size), sizes)
    buckets = Buckets(lo, hi, sizes[number], np.ones(lo.size, dtype=np.bool_))
    column = base[scheme[row]] + position
    return buckets, _sparse(row[keep], column[keep], value[keep], (rows.num_rows, lo.size))


def _explicit_intervals(bounds: Reals) -> tuple[Reals, Reals]:
    """Return (lo, hi) of each bucket; the open ends get 0 and 1 for shares, else the width of their neighbour."""
    if bounds.size == 0:
        return np.array([0.0]), np.array([1.0])
    share = np.array_equal(bounds, np.asarray(U1_BOUNDS))
    width = np.diff(bounds) if bounds.size > 1 else np.array([1.0])
    first = 0.0 if share else bounds[0] - width[0]
    last = 1.0 if share else bounds[-1] + width[-1]
    return np.concatenate([[first], bounds]), np.concatenate([bounds, [last]])


def _exponential_buckets(rows: pa.Table, grid: NDArray[np.str_]) -> tuple[Buckets, sparse.csr_matrix]:
    """Return the buckets of exponential histograms in the signal's unit; a scheme is a grid and a scale."""
    scale = _numbers(rows, "scale")
    zero = np.asarray(_column(rows, "zero_count").to_numpy(zero_copy_only=False), dtype=np.float64)
    grids, grid_code = np.unique(grid, return_inverse=True)
    packed, scheme = np.unique(grid_code.ravel() * 1000 + scale + 500, return_inverse=True)
    scheme = scheme.ravel()
    sides = [(*_lists(rows, f"{side}_counts"), _numbers(rows, f"{side}_offset"), sign) for side, sign in _SIDES]
    lo, hi, number, atom = [], [], [], []
    row_of, column_of, value_of = [np.arange(scale.size)], [np.zeros(scale.size, dtype=np.int64)], [zero]
    size = 0
    for k, code in enumerate(packed):
        centre, unit = parse_grid(str(grids[code // 1000]))
        width = np.exp2(-float(code % 1000 - 500))
        mine = scheme == k
        column_of[0][mine] = size
        lo.append(np.array([centre - unit * FEATURE_ZERO_THRESHOLD]))
        hi.append(np.array([centre + unit * FEATURE_ZERO_THRESHOLD]))
        atom.append(np.array([True]))
        number.append(1)
        size += 1
        for row, position, value, offset, sign in sides:
            entry = mine[row] & (value > 0)
            if not entry.any():
                continue
            index = offset[row[entry]] + position[entry]
            used, column = _used(index)
            inner, outer = (np.exp2(np.clip(i * width, -1020.0, 1020.0)) for i in (used, used + 1))
            # What lies nearer to zero than the threshold was counted as zero.
            inner = np.where(outer > FEATURE_ZERO_THRESHOLD, np.maximum(inner, FEATURE_ZERO_THRESHOLD), inner)
            near, far = centre + sign * unit * inner, centre + sign * unit * outer
            lo.append(np.minimum(near, far))
            hi.append(np.maximum(near, far))
            atom.append(np.zeros(used.size, dtype=np.bool_))
            row_of.append(row[entry])
            column_of.append(column + size)
            value_of.append(value[entry])
            number[-1] += used.size
            size += used.size
    resolution = np.repeat(packed % 1000 - 500, number)
    buckets = Buckets(np.concatenate(lo), np.concatenate(hi), resolution, np.concatenate(atom))
    entries = _sparse(np.concatenate(row_of), np.concatenate(column_of), np.concatenate(value_of), (scale.size, size))
    return buckets, entries


_SIDES: Final = (("positive", 1.0), ("negative", -1.0))


def _used(index: Ints) -> tuple[Ints, Ints]:
    """Return (bucket numbers, position of each entry among them); a wide range is compressed, a narrow one kept."""
    least, most = int(index.min()), int(index.max())
    if most - least < 4096:
        return np.arange(least, most + 1), index - least
    used, column = np.unique(index, return_inverse=True)
    return used, column.ravel()


def _sparse(row: Ints, column: Ints, value: Reals, shape: tuple[int, int]) -> sparse.csr_matrix:
    return sparse.csr_matrix((value, (row, column)), shape=shape)

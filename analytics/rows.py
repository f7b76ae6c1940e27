"""Building verdict rows: canonical keys, no NaN, and the comparison that makes a second run write nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from collector.storage.rows import VERDICTS

FLEET: Final = "{}"
"""The cohort that is every device."""

_PLAIN: Final = frozenset({str, int, bool, type(None)})
IDENTITY: Final = ("kind", "key", "at_ns")


def canonical(value: Mapping[str, Any]) -> str:
    """Return canonical JSON (sorted keys, no spaces); raises ``ValueError`` for NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def cohort_json(**dimensions: str) -> str:
    """Return the canonical cohort of contract attribute names and values, ``{}`` when there is none."""
    return canonical(dimensions)


def cohort_of(mapping: Mapping[str, str]) -> str:
    """Return the canonical JSON of a cohort whose keys are contract attribute names."""
    return canonical(mapping)


def key_of(name: str, cohort: str = FLEET, model: str = "", version: str = "") -> str:
    """Return the canonical identity of what is judged: name, model, version and cohort (canonical JSON)."""
    return canonical({"name": name, "model": model, "version": version, "cohort": json.loads(cohort)})


def finite(value: float | None, digits: int = 12) -> float | None:
    """Return ``value`` rounded to ``digits`` significant digits, None when it is missing, NaN or infinite.

    Rounding takes off the last bits, which depend on the order of a sum: the same data give the same row.
    """
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        return None
    if number == 0.0:
        return 0.0
    return float(f"{number:.{digits}g}")


def clean(value: Any) -> Any:
    """Return a JSON-ready copy: numpy scalars become Python's, floats 9 significant digits, NaN and inf None."""
    kind = type(value)
    if kind is float:
        return finite(value, 9)
    if kind is dict:
        return {str(key): clean(item) for key, item in value.items()}
    if kind in _PLAIN:
        return value
    if kind is list or kind is tuple:
        return [clean(item) for item in value]
    if hasattr(value, "item"):
        return clean(value.item())
    raise TypeError(f"verdict detail holds a {type(value).__name__}, {value!r}; use JSON types")


class VerdictRows:
    """Collects verdict rows of one kind, column by column, and returns them as a table of ``VERDICTS``."""

    def __init__(self, kind: str, written_ns: int) -> None:
        self._kind = kind
        self._written_ns = written_ns
        self._columns: dict[str, list[Any]] = {name: [] for name in VERDICTS.names}
        self._keys: dict[tuple[str, str, str, str], str] = {}

    def __len__(self) -> int:
        return len(self._columns["at_ns"])

    def add(
        self,
        *,
        at_ns: int,
        name: str,
        verdict: str,
        window_ns: tuple[int, int],
        cohort: str = FLEET,
        model: str = "",
        version: str = "",
        value: float | None = None,
        low: float | None = None,
        high: float | None = None,
        n: float = 0.0,
        devices: int = 0,
        target: float | None = None,
        reason: str = "",
        completeness: float | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one row; NaN and infinities become null, ``detail`` must be JSON-ready once ``clean``-ed."""
        identity = (name, cohort, model, version)
        key = self._keys.get(identity)
        if key is None:
            key = self._keys[identity] = key_of(name, cohort, model, version)
        columns = self._columns
        columns["kind"].append(self._kind)
        columns["at_ns"].append(int(at_ns))
        columns["key"].append(key)
        columns["name"].append(name)
        columns["model"].append(model)
        columns["version"].append(version)
        columns["cohort"].append(cohort)
        columns["value"].append(finite(value))
        columns["low"].append(finite(low))
        columns["high"].append(finite(high))
        columns["n"].append(finite(n) or 0.0)
        columns["devices"].append(int(devices))
        columns["target"].append(finite(target))
        columns["verdict"].append(verdict)
        columns["reason"].append(reason)
        columns["completeness"].append(finite(completeness))
        columns["window_start_ns"].append(int(window_ns[0]))
        columns["window_end_ns"].append(int(window_ns[1]))
        columns["detail"].append(canonical(clean(detail or {})))
        columns["written_ns"].append(self._written_ns)

    def extend(self, other: VerdictRows, after_ns: int) -> None:
        """Append the rows of ``other`` whose instant lies after ``after_ns``."""
        for position, at_ns in enumerate(other._columns["at_ns"]):
            if at_ns > after_ns:
                for name, column in other._columns.items():
                    self._columns[name].append(column[position])

    def table(self) -> pa.Table:
        """Return the rows, in the order they were added."""
        return pa.table(self._columns, schema=VERDICTS)


def empty() -> pa.Table:
    """Return no verdicts."""
    return VERDICTS.empty_table()


def _frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table.select(VERDICTS.names).cast(VERDICTS)))


def changed(rows: pa.Table, stored: pa.Table, written_ns: int) -> pa.Table:
    """Return what must be appended so that the newest row of each (kind, key, at_ns) is that of ``rows``.

    A row equal to the stored one (the writing time apart) is left out: running twice writes nothing. A stored row that
    ``rows`` no longer contains was taken back by late data: it is restated as ``no_data``, reason ``withdrawn``.
    ``stored`` must cover the same kinds and instants. All are written at ``written_ns``, or just after the newest
    stored row where the clock was set back: else the old row would win.
    """
    if stored.num_rows == 0:
        return rows
    written_ns = max(written_ns, int(pc.max(stored.column("written_ns")).as_py()) + 1)
    new, old = _frame(rows), _frame(stored)
    compared = [name for name in VERDICTS.names if name != "written_ns"]
    fresh = new.join(old.select(compared), on=compared, how="anti", nulls_equal=True)
    gone = old.join(new.select(IDENTITY), on=IDENTITY, how="anti").filter(pl.col("reason") != "withdrawn")
    gone = gone.with_columns(
        pl.lit(None, dtype=pl.Float64).alias("value"),
        pl.lit(None, dtype=pl.Float64).alias("low"),
        pl.lit(None, dtype=pl.Float64).alias("high"),
        pl.lit(0.0).alias("n"),
        pl.lit(0, dtype=pl.Int64).alias("devices"),
        pl.lit("no_data").alias("verdict"),
        pl.lit("withdrawn").alias("reason"),
        pl.lit("{}").alias("detail"),
    )
    both = pl.concat([fresh, gone]).with_columns(pl.lit(written_ns, dtype=pl.Int64).alias("written_ns"))
    result: pa.Table = both.to_arrow().cast(VERDICTS)
    return result

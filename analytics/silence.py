"""Devices that fell silent, against their own habits.

A device is silent at T when more than max(3 h, 2 x its longest gap of the fortnight before) has passed since its last
window ended: one that is switched off every night is not silent in the morning. A device that said goodbye (a session
ended as somebody asked) is given a day, so that its first night is not news either. A device unheard for a fortnight
is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from analytics.options import HOUR_NS, MINUTE_NS

RUN_GAP_NS: Final = 30 * MINUTE_NS
"""Windows whose ends are closer than this are one run: no silence fits between them."""

RUN_SCHEMA: Final = {
    "device_id": pl.String, "start_ns": pl.Int64, "first_end_ns": pl.Int64, "end_ns": pl.Int64, "goodbye": pl.Boolean,
}  # fmt: skip
"""A run of windows; ``goodbye`` says that a session ended as expected in the hour of the run's end."""


@dataclass(frozen=True, slots=True)
class Habits:
    """The rule, in ns: least silence, least silence after a goodbye, how far back; and a factor on the longest gap."""

    floor_ns: int
    rest_ns: int
    factor: float
    lookback_ns: int


@dataclass(frozen=True, slots=True)
class Spell:
    """One device is silent from ``begin_ns`` on and before ``end_ns``; it was last heard at ``heard_ns``."""

    device_id: str
    heard_ns: int
    begin_ns: int
    end_ns: int


def runs(windows: pl.DataFrame) -> pl.DataFrame:
    """Return the runs of (device_id, start_ns, time_ns) rows, no goodbyes yet; a window without start is a point."""
    if windows.is_empty():
        return pl.DataFrame(schema=RUN_SCHEMA)
    ordered = windows.sort("device_id", "time_ns").with_columns(
        pl.when(pl.col("start_ns") > 0).then(pl.col("start_ns")).otherwise(pl.col("time_ns")).alias("start_ns"),
        (pl.col("time_ns").diff().over("device_id").fill_null(RUN_GAP_NS + 1) > RUN_GAP_NS).alias("new"),
    )
    return (
        ordered.with_columns(pl.col("new").cum_sum().alias("run"))
        .group_by("run", maintain_order=True)
        .agg(
            pl.col("device_id").first(),
            pl.col("start_ns").first(),
            pl.col("time_ns").min().alias("first_end_ns"),
            pl.col("time_ns").max().alias("end_ns"),
        )
        .with_columns(pl.lit(False).alias("goodbye"))
        .select(list(RUN_SCHEMA))
    )


def with_goodbyes(found: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
    """Return the runs with ``goodbye`` set from (device_id, hour_ns) rows of hours that hold an expected end."""
    hour = ((pl.col("end_ns") - 1) // HOUR_NS * HOUR_NS).alias("hour_ns")
    known = ends.select("device_id", "hour_ns").unique().with_columns(pl.lit(True).alias("ended"))
    joined = found.with_columns(hour).join(known, on=["device_id", "hour_ns"], how="left")
    return joined.with_columns(pl.col("ended").fill_null(False).alias("goodbye")).drop("hour_ns", "ended")


def spells(found: pl.DataFrame, habits: Habits) -> list[Spell]:
    """Return the silences that follow runs, by device and time; those still open end where the device is forgotten."""
    if found.is_empty():
        return []
    ordered = found.sort("device_id", "first_end_ns").with_columns(
        pl.col("end_ns").shift(1).over("device_id").alias("before_ns"),
        pl.col("first_end_ns").shift(-1).over("device_id").alias("next_ns"),
    )
    gap = (pl.col("start_ns") - pl.col("before_ns")).clip(lower_bound=0).fill_null(0)
    # who was away for longer than anybody is remembered came back as a new device
    gap = pl.when(gap > habits.lookback_ns).then(0).otherwise(gap)
    ordered = ordered.with_columns(gap.alias("gap")).with_row_index("row")
    # a gap counts from the window that ended it; it is looked for at the end of the run, a fortnight back
    stamped = pl.concat(
        [
            ordered.select("row", "device_id", pl.col("first_end_ns").alias("at_ns"), "gap", last=False),
            ordered.select(
                "row", "device_id", pl.col("end_ns").alias("at_ns"), pl.lit(0, pl.Int64).alias("gap"), last=True
            ),
        ]
    ).sort("device_id", "at_ns", "last")
    longest = pl.col("gap").rolling_max_by("at_ns", window_size=f"{habits.lookback_ns}i").over("device_id")
    usual = stamped.with_columns(longest.alias("longest")).filter("last").select("row", "longest")
    least = pl.when(pl.col("goodbye")).then(habits.rest_ns).otherwise(habits.floor_ns)
    patience = pl.max_horizontal((pl.col("longest") * habits.factor).cast(pl.Int64), least)
    forgotten = pl.col("end_ns") + habits.lookback_ns
    table = (
        ordered.join(usual, on="row")
        .sort("row")
        .with_columns(
            (pl.col("end_ns") + patience + 1).alias("begin_ns"),
            pl.min_horizontal(pl.col("next_ns").fill_null(2**62), forgotten).alias("until_ns"),
        )
        .filter(pl.col("until_ns") > pl.col("begin_ns"))
    )
    return [Spell(*row) for row in table.select("device_id", "end_ns", "begin_ns", "until_ns").rows()]


def known_at(found: pl.DataFrame, habits: Habits, instants: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return how many devices had been heard within the lookback at each instant."""
    at = np.asarray(instants, dtype=np.int64)
    if found.is_empty():
        return np.zeros(len(at), np.int64)
    change = np.zeros(len(at) + 1, np.int64)
    ordered = found.sort("device_id", "first_end_ns").with_columns(
        pl.col("first_end_ns").shift(-1).over("device_id").fill_null(2**62).alias("next_ns")
    )
    begin = ordered.get_column("first_end_ns").to_numpy()
    forgotten = ordered.get_column("end_ns").to_numpy() + habits.lookback_ns
    end = np.minimum(ordered.get_column("next_ns").to_numpy(), forgotten)
    np.add.at(change, np.searchsorted(at, begin, side="left"), 1)
    np.add.at(change, np.searchsorted(at, np.maximum(end, begin), side="left"), -1)
    return np.cumsum(change)[:-1]

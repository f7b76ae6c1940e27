"""Frames to dense integer matrices on the hour grid, by cohort: what rolling windows are summed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from analytics.options import HOUR_NS
from analytics.rows import FLEET, cohort_of
from analytics.stability import Ints
from device_sdk.contract import attributes as a

FIRMWARE: Final = a.FIRMWARE_VERSION
TIER: Final = a.TIER


@dataclass(frozen=True, slots=True)
class Group:
    """One cohort to judge: the values that select its rows, '' meaning any."""

    tier: str = ""
    firmware: str = ""

    @property
    def cohort(self) -> str:
        """Return the canonical cohort JSON."""
        pairs = ((TIER, self.tier), (FIRMWARE, self.firmware))
        chosen = {key: value for key, value in pairs if value}
        return cohort_of(chosen) if chosen else FLEET

    def select(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of the cohort; the frame has the columns ``tier`` and ``firmware``."""
        if self.tier:
            frame = frame.filter(pl.col("tier") == self.tier)
        if self.firmware:
            frame = frame.filter(pl.col("firmware") == self.firmware)
        return frame


def groups_of(frame: pl.DataFrame, *, firmware: bool = True) -> list[Group]:
    """Return the tiers, firmware versions and their pairs that occur, the fleet last so that it can name its worst."""
    tiers = [value for value in frame.get_column("tier").unique().sort().to_list() if value]
    groups = [Group(tier=tier) for tier in tiers]
    if firmware:
        versions = [value for value in frame.get_column("firmware").unique().sort().to_list() if value]
        groups += [Group(firmware=version) for version in versions]
        pairs = frame.select("tier", "firmware").unique().sort("tier", "firmware").rows()
        groups += [Group(tier, version) for tier, version in pairs if tier and version]
    return [*groups, Group()]


def to_frame(table: pa.Table, columns: Sequence[str]) -> pl.DataFrame:
    """Return some columns of an Arrow table as a Polars frame."""
    return pl.DataFrame(pl.from_arrow(table.select(list(columns))))


@dataclass(frozen=True, slots=True)
class HourGrid:
    """The hours ``[base_ns, base_ns + hours x 1 h)`` as columns."""

    base_ns: int
    hours: int

    def column(self, at_ns: int) -> int:
        """Return the column of the hour that ends at ``at_ns``."""
        return (at_ns - self.base_ns) // HOUR_NS - 1

    def inside(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the rows whose ``hour_ns`` lies on the grid."""
        end_ns = self.base_ns + self.hours * HOUR_NS
        return frame.filter((pl.col("hour_ns") >= self.base_ns) & (pl.col("hour_ns") < end_ns))

    def matrix(self, frame: pl.DataFrame, rows: str, column: str) -> tuple[list[Any], Ints]:
        """Return (sorted values of ``rows``, matrix values x hours of the summed integer ``column``)."""
        names = frame.get_column(rows).unique().sort().to_list()
        return names, self.filled(frame, names, rows, column)

    def filled(self, frame: pl.DataFrame, names: Sequence[Any], rows: str, column: str) -> Ints:
        """Return the matrix of ``column`` for given row names."""
        matrix = np.zeros((len(names), self.hours), dtype=np.int64)
        if frame.height:
            index = {name: position for position, name in enumerate(names)}
            at = np.fromiter((index[name] for name in frame.get_column(rows).to_list()), np.int64, frame.height)
            hour = (frame.get_column("hour_ns").to_numpy() - self.base_ns) // HOUR_NS
            np.add.at(matrix, (at, hour), frame.get_column(column).to_numpy())
        return matrix

"""One row of the contract's metric table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

CONTRACT_VERSION: Final = 1
SCOPE_NAME: Final = "device_sdk"


class Kind(StrEnum):
    """How an instrument is aggregated and sent; counters and histograms in delta temporality."""

    EXPONENTIAL = "exponential_histogram"
    EXPLICIT = "histogram"
    COUNTER = "counter"
    UP_DOWN = "up_down_counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One row of the contract.

    ``series_max`` bounds the series of one process; ``summed`` says whether a histogram carries sum, min and max (never
    where a sum over one observation would be somebody's raw value); ``reserved`` rows are named but not sent yet.
    """

    name: str
    kind: Kind
    unit: str
    attributes: tuple[str, ...]
    meaning: str
    series_max: int
    max_scale: int | None = None
    bounds: tuple[float, ...] = ()
    summed: bool = False
    reserved: bool = False

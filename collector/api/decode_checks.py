"""What makes a data point impossible to store. Each check raises ``PointRefused``; the rest of the batch goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

INT64_MAX: Final = 2**63 - 1
_INDEX_END: Final = 2**31
_SCALES: Final = range(-(2**15), 2**15)
_SHOWN_NAME: Final = 120


class PointRefused(Exception):  # noqa: N818  # not an error of this program: one point cannot be stored
    """One point is impossible; carries the reason's stable word and a sentence with the value."""

    def __init__(self, reason: str, sample: str) -> None:
        super().__init__(reason, sample)
        self.reason = reason
        self.sample = sample


def shown(name: str) -> str:
    """Return a metric's name as a message quotes it."""
    return repr(name if len(name) <= _SHOWN_NAME else name[:_SHOWN_NAME] + "...")


def check_times(name: str, start_ns: int, time_ns: int) -> None:
    """Refuse a point without a time, beyond the year 2262, or that ends before it starts."""
    if not 0 < time_ns <= INT64_MAX:
        raise PointRefused(
            "time", f"{shown(name)}: time_unix_nano is {time_ns}; send nanoseconds since 1970, 1 to 2^63-1"
        )
    if start_ns > time_ns:
        raise PointRefused(
            "start_after_time", f"{shown(name)}: start_time_unix_nano {start_ns} is after time_unix_nano {time_ns}"
        )


def check_count(name: str, count: int, held: int) -> None:
    """Refuse a count beyond int64, or buckets that hold more than the count.

    Fewer is possible: an observation that is NaN has no bucket.
    """
    if count > INT64_MAX:
        raise PointRefused("count", f"{shown(name)}: count {count} is above 2^63-1")
    if held > count:
        raise PointRefused("bucket_sum", f"{shown(name)}: buckets hold {held} but count is {count}")


def check_layout(name: str, counts: Sequence[int], bounds: Sequence[float]) -> None:
    """Refuse explicit buckets whose number does not fit their bounds."""
    if len(counts) != len(bounds) + 1 and (counts or bounds):
        raise PointRefused(
            "buckets",
            f"{shown(name)}: {len(counts)} bucket_counts for {len(bounds)} explicit_bounds; send one more than bounds",
        )


def check_bounds(name: str, bounds: Sequence[float]) -> None:
    """Refuse bounds that are not finite and strictly increasing."""
    if not all(map(math.isfinite, bounds)) or any(map(float.__ge__, bounds, bounds[1:])):
        raise PointRefused("bounds", f"{shown(name)}: explicit_bounds are not finite and strictly increasing")


def check_scale(name: str, scale: int) -> None:
    """Refuse a scale that no table can hold (OTLP's own range is -10..20)."""
    if scale not in _SCALES:
        raise PointRefused("scale", f"{shown(name)}: scale {scale} is outside -32768..32767")


def check_indices(name: str, end: int) -> None:
    """Refuse buckets whose indices, which end before ``end``, leave int32."""
    if end > _INDEX_END:
        raise PointRefused("bucket_index", f"{shown(name)}: a bucket's index is above 2^31-1")


def check_quantiles(name: str, values: Sequence[Any]) -> None:
    """Refuse a summary's quantile outside 0..1."""
    for item in values:
        if not 0 <= item.quantile <= 1:
            raise PointRefused("quantile", f"{shown(name)}: quantile {item.quantile} is outside 0..1")

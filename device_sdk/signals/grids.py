"""Exact bucket boundaries of the wire's histograms as sorted tables, so that ``numpy.searchsorted`` is the index.

Logarithms are inexact at bucket edges. Here every boundary is computed in integers (nested integer square roots are the
floor of the 2**n-th root), so a value is in the bucket that real arithmetic would put it in.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.contract.buckets import FEATURE_MAX_SCALE, FEATURE_ZERO_THRESHOLD, LATENCY_MAX_SCALE

DURATION_FIRST: Final = -480
"""Index of the first duration bucket kept (below 1 ns) at ``LATENCY_MAX_SCALE``."""
DURATION_LAST: Final = 16 * 16
"""Index of the last duration bucket kept (18 hours)."""

FEATURE_FIRST: Final = -46
"""Index of the bucket that holds values just above the zero threshold of 1/50 unit, at ``FEATURE_MAX_SCALE``."""
FEATURE_LAST: Final = 10 * 2**FEATURE_MAX_SCALE - 1
"""Index of the bucket that ends at 2**10 units; values beyond are clipped into it."""
SIDE: Final = FEATURE_LAST - FEATURE_FIRST + 1
ZERO_BIN: Final = SIDE
FEATURE_BINS: Final = 2 * SIDE + 1


def floor_root(value: int, twos: int) -> int:
    """Return the floor of the ``2**twos``-th root of a non-negative integer, exactly."""
    for _ in range(twos):
        value = math.isqrt(value)
    return value


@cache
def duration_bounds_ns() -> NDArray[np.int64]:
    """Return floor(lower bound in ns) of the duration buckets: whole ns lie above the bound iff above its floor."""
    power = 2**LATENCY_MAX_SCALE
    billion = 10 ** (9 * power)
    bounds = []
    for index in range(DURATION_FIRST, DURATION_LAST + 1):
        scaled = billion << index if index >= 0 else billion >> -index
        bounds.append(floor_root(scaled, LATENCY_MAX_SCALE))
    return np.array(bounds, dtype=np.int64)


def floor_bound(index: int, scale: int) -> float:
    """Return the largest double that is not above ``2**(index / 2**scale)``: a double exceeds both or neither."""
    whole, part = index >> scale, index & (2**scale - 1)
    mantissa = floor_root(1 << (part + 52 * 2**scale), scale)
    return math.ldexp(mantissa, whole - 52)


@cache
def feature_edges() -> NDArray[np.float64]:
    """Return the boundaries of signed feature bins: ``searchsorted(edges, z)`` (left) is the bin 0..FEATURE_BINS-1.

    Bins run from the most negative bucket over the zero bin (``ZERO_BIN``) to the most positive one. A bin holds what
    is greater than its edge; negative buckets are closed on the other side, hence the next double below.
    """
    positive = [FEATURE_ZERO_THRESHOLD]
    positive += [floor_bound(index, FEATURE_MAX_SCALE) for index in range(FEATURE_FIRST + 1, FEATURE_LAST + 1)]
    negative = [math.nextafter(-edge, -math.inf) for edge in reversed(positive)]
    return np.array(negative + positive, dtype=np.float64)

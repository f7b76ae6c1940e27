"""Which elements of a large sample are read: a bounded number at fixed places, the same on every device.

Three ways, each at most ~1k elements of a sample of any size: at an even stride (what a share or a mean needs), in
contiguous runs along the longest axis (what neighbours in time need), in contiguous patches of an image (what
neighbours in the plane need).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

ELEMENTS_MAX: Final = 1024
"""Elements of one sample that are copied for one way of reading."""
RUNS: Final = 8
RUN_LENGTH: Final = 128
PATCHES_A_SIDE: Final = 4
PATCH_SIDE: Final = 8
PATCH_SIDE_MIN: Final = 3
CHANNELS_MAX: Final = 4

Places = NDArray[np.intp]


def stride_for(shape: tuple[int, ...], size: int) -> int:
    """Return the smallest stride that reads at most ~1k elements and shares no factor with any dimension.

    A stride that divides the width of an image would read the same columns of every row.
    """
    if size <= ELEMENTS_MAX:
        return 1
    stride = -(-size // ELEMENTS_MAX)
    while any(math.gcd(stride, extent) > 1 for extent in shape):
        stride += 1
    return stride


def runs_of(shape: tuple[int, ...]) -> Places:
    """Return the places (runs x length, into the flattened sample) of contiguous runs along the longest axis.

    At most 8 runs of 128, evenly from the first element to the last; where there are other axes (channels) the runs
    take turns. Empty for an empty sample.
    """
    extents = shape or (1,)
    if not math.prod(extents):
        return np.empty((0, 0), dtype=np.intp)
    axis = int(np.argmax(extents))
    length = min(extents[axis], RUN_LENGTH)
    count = max(1, min(RUNS, extents[axis] // length))
    starts = [(extents[axis] - length) * number // max(1, count - 1) for number in range(count)]
    along = np.array(starts, dtype=np.intp)[:, None] + np.arange(length, dtype=np.intp)
    inner = math.prod(extents[axis + 1 :])
    others = math.prod(extents) // extents[axis]
    turns = np.arange(count, dtype=np.intp) % others
    outer, inside = turns // inner, turns % inner
    return along * inner + (outer * extents[axis] * inner + inside)[:, None]


def patches_of(shape: tuple[int, ...]) -> Places:
    """Return the places (patches x side x side) of 4 x 4 patches of 8 x 8 pixels, evenly over one channel of an image.

    ``shape`` is (height, width), (channels, height, width) or (height, width, channels); channels are at most 4, and
    the middle one is read. Empty when this is no image of at least 3 x 3 pixels.
    """
    plane = plane_of(shape)
    if plane is None:
        return np.empty((0, 0, 0), dtype=np.intp)
    first, height, width, pixel = plane
    side = min(PATCH_SIDE, height, width)
    rows = [(height - side) * (2 * number + 1) // (2 * PATCHES_A_SIDE) for number in range(PATCHES_A_SIDE)]
    columns = [(width - side) * (2 * number + 1) // (2 * PATCHES_A_SIDE) for number in range(PATCHES_A_SIDE)]
    corners = np.array([top * width + left for top in rows for left in columns], dtype=np.intp)
    within = np.arange(side, dtype=np.intp)[:, None] * width + np.arange(side, dtype=np.intp)
    return first + pixel * (corners[:, None, None] + within)


def plane_of(shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Return (first place, height, width, distance of neighbours) of an image's middle channel, None for no image."""
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3 or not 0 < min(shape[0], shape[2]) <= CHANNELS_MAX:
        return None
    if shape[0] <= CHANNELS_MAX:
        channels, height, width = shape
        first, pixel = channels // 2 * height * width, 1
    else:
        height, width, channels = shape
        first, pixel = channels // 2, channels
    return (first, height, width, pixel) if min(height, width) >= PATCH_SIDE_MIN else None

"""Bucket schemes of the wire: OpenTelemetry exponential buckets and two frozen explicit layouts.

An exponential bucket of index i at scale s holds values in ``(base**i, base**(i+1)]`` with ``base = 2**(2**-s)``
(OpenTelemetry metrics data model, "ExponentialHistogram"). A quantile read from it is wrong by at most one bucket, a
relative error of ``base - 1``. Downscaling by ``d`` maps index i to ``i >> d``, exactly, so histograms of different
scales merge without loss beyond the coarser grid.
"""

from __future__ import annotations

from typing import Final

MAX_BUCKETS: Final = 160
"""Most buckets a side of an exponential histogram carries before it is downscaled (OpenTelemetry's default)."""

LATENCY_MAX_SCALE: Final = 4
"""Scale of duration histograms: buckets 4.4 % wide, quantiles within 2.2 % of the bucket's middle."""

FEATURE_MAX_SCALE: Final = 3
"""Scale of feature and regression histograms on their pinned grid."""

FEATURE_ZERO_THRESHOLD: Final = 1 / 50
"""Half-width of the zero bucket of a feature on its grid, in grid units."""

RANDOMISED_SCALE: Final = 0
RANDOMISED_FIRST: Final = -6
RANDOMISED_LAST: Final = 2
"""Scale, and first and last index a side, of a feature whose counts were randomised on the device: with the zero bucket
19 categories, up to 8 units; what lies beyond counts into the outermost one."""

U1_BOUNDS: Final[tuple[float, ...]] = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
    0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9,
    0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999,
)  # fmt: skip
"""Frozen bounds of shares in 0..1 (confidence, entropy, margin): fine where calibration lives, near 1."""

N1_BOUNDS: Final[tuple[float, ...]] = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144)
"""Frozen bounds of small counts (detections a frame)."""


def base_of(scale: int) -> float:
    """Return the growth factor of one bucket at ``scale`` (-10..20)."""
    return float(2.0 ** (2.0**-scale))


def lower_bound(index: int, scale: int) -> float:
    """Return the exclusive lower bound of bucket ``index``; 0.0 or inf where a double cannot hold it."""
    exponent = index * 2.0**-scale
    if exponent >= 1024:
        return float("inf")
    return float(2.0**exponent)


def downscaled(offset: int, counts: list[int], by: int) -> tuple[int, list[int]]:
    """Return (offset, counts) of the same buckets at a scale lower by ``by`` (>= 0); sums are kept exactly."""
    if by < 0:
        raise ValueError(f"downscale by {by}: a histogram can only become coarser")
    if by == 0 or not counts:
        return offset >> by, list(counts)
    first = offset >> by
    merged = [0] * (((offset + len(counts) - 1) >> by) - first + 1)
    for position, count in enumerate(counts):
        merged[((offset + position) >> by) - first] += count
    return first, merged

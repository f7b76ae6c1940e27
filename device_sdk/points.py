"""Points of a window before they are encoded: plain frozen values, attributes as tuples of pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

AttributePairs = tuple[tuple[str, "str | bool | int | float"], ...]
"""Attributes of a point."""

EventAttributes = list[tuple[str, "str | bool | int | float | tuple[str, ...]"]]
"""Attributes of an event."""


@dataclass(frozen=True, slots=True)
class Side:
    """The buckets of one sign of an exponential histogram: ``counts[i]`` belongs to index ``offset + i``."""

    offset: int = 0
    counts: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ExponentialHistogram:
    """An OpenTelemetry exponential histogram; sum, minimum and maximum are absent where they would be raw data."""

    count: int
    scale: int
    zero_count: int
    zero_threshold: float
    positive: Side
    negative: Side
    total: float | None = None
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class ExplicitHistogram:
    """A histogram with explicit bounds, without sum, minimum and maximum."""

    count: int
    bounds: tuple[float, ...]
    counts: list[int]


Value = int | float | ExponentialHistogram | ExplicitHistogram


class Points:
    """The points of one window, grouped by metric in the order they came; a series may appear once."""

    __slots__ = ("by_metric", "count")

    def __init__(self) -> None:
        self.by_metric: dict[str, list[tuple[AttributePairs, Value]]] = {}
        self.count = 0

    def add(self, metric: str, value: Value | None, attributes: AttributePairs = ()) -> None:
        """Add one point; None means that there is nothing to say."""
        if value is None:
            return
        self.by_metric.setdefault(metric, []).append((attributes, value))
        self.count += 1

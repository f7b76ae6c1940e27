"""Distributions of what a model saw and answered: the part of a window that privacy settings are about.

A distribution is a histogram point, or all points of a counter that differ in one category only (the classes of an
output, the states of a feature). Runs, latency, failures and the device's own figures are none: they tell nothing of an
input, and are exempt from every rule here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from device_sdk.contract import BY_NAME
from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.points import AttributePairs, ExplicitHistogram, ExponentialHistogram, Points, Side, Value
from device_sdk.privacy.aggregate import merged, observations

CATEGORY_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        m.OUTPUT_PREDICTIONS.name: a.CLASS_NAME,
        m.INPUT_OBSERVATIONS.name: a.FEATURE_STATE,
        m.INPUT_CATEGORIES.name: a.FEATURE_CATEGORY,
        m.OUTPUT_OUTCOMES.name: a.OUTPUT_OUTCOME,
    }
)
"""Counters whose points are the categories of one distribution, and the attribute that tells them apart."""

HISTOGRAMS: Final = frozenset(
    row.name
    for row in (
        m.INPUT_VALUE, m.OUTPUT_VALUE, m.OUTPUT_CONFIDENCE, m.OUTPUT_ENTROPY, m.OUTPUT_MARGIN, m.DETECTION_COUNT,
        m.DETECTION_AREA,
    )
)  # fmt: skip
"""Histograms of inputs and outputs, each point a distribution of its own."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """One distribution of a window: its points by their attributes."""

    metric: str
    identity: AttributePairs
    members: dict[AttributePairs, Value]

    @property
    def total(self) -> int:
        """Observations in it."""
        return sum(observations(value) for value in self.members.values())

    def plus(self, other: Distribution) -> Distribution:
        """Return both as one."""
        kind = BY_NAME[self.metric].kind
        members = dict(self.members)
        for attributes, value in other.members.items():
            members[attributes] = merged(kind, members[attributes], value) if attributes in members else value
        return Distribution(self.metric, self.identity, members)

    def thinned(self, most: int, random: np.random.Generator) -> Distribution:
        """Return ``most`` of the observations, every one as likely as any other to be among them."""
        cells = [cell for value in self.members.values() for cell in _cells(value)]
        chosen = random.multivariate_hypergeometric(cells, min(most, sum(cells)), method="marginals").tolist()
        members, at = {}, 0
        for attributes, value in self.members.items():
            width = len(_cells(value))
            part = _refilled(value, chosen[at : at + width])
            at += width
            if observations(part):
                members[attributes] = part
        return Distribution(self.metric, self.identity, members)

    def add_to(self, points: Points) -> None:
        """Put the points of this distribution into a window."""
        for attributes, value in self.members.items():
            points.add(self.metric, value, attributes)


def split(points: Points) -> tuple[Points, list[Distribution]]:
    """Return (the points that no rule is about, the distributions) of a window."""
    exempt = Points()
    found: dict[tuple[str, AttributePairs], Distribution] = {}
    for metric, members in points.by_metric.items():
        category = CATEGORY_KEYS.get(metric)
        if category is None and metric not in HISTOGRAMS:
            for attributes, value in members:
                exempt.add(metric, value, attributes)
            continue
        for attributes, value in members:
            identity = tuple(pair for pair in attributes if pair[0] != category)
            group = found.setdefault((metric, identity), Distribution(metric, identity, {}))
            group.members[attributes] = value
    return exempt, list(found.values())


def _cells(value: Value) -> list[int]:
    if isinstance(value, ExplicitHistogram):
        return value.counts
    if isinstance(value, ExponentialHistogram):
        return [*value.negative.counts, value.zero_count, *value.positive.counts]
    return [int(value)]


def _refilled(value: Value, cells: list[int]) -> Value:
    """Return a value of the same shape with other counts in its cells."""
    if isinstance(value, ExplicitHistogram):
        return ExplicitHistogram(sum(cells), value.bounds, cells)
    if isinstance(value, ExponentialHistogram):
        zero = len(value.negative.counts)
        return dataclasses.replace(
            value,
            count=sum(cells),
            zero_count=cells[zero],
            negative=_trimmed(value.negative.offset, cells[:zero]),
            positive=_trimmed(value.positive.offset, cells[zero + 1 :]),
        )
    return cells[0]


def _trimmed(offset: int, counts: list[int]) -> Side:
    """Return a side without the empty buckets at its ends, which would tell where a dropped value was."""
    filled = [position for position, count in enumerate(counts) if count]
    if not filled:
        return Side()
    return Side(offset + filled[0], counts[filled[0] : filled[-1] + 1])

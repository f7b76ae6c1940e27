"""Local differential privacy: every observation is one report of a category, randomised before it leaves the device.

k-ary randomised response (Warner 1965; Kairouz, Bonawitz and Ramage, "Discrete distribution estimation under local
privacy", ICML 2016): of k categories the true one is reported with probability e^epsilon / (e^epsilon + k - 1), any
other one with 1 / (e^epsilon + k - 1). The mechanism is OpenDP's, called once a report. ``analytics.randomised`` is the
way back.

The k categories are fixed before anything is seen: the buckets of explicit bounds, closed words, declared classes and
categories, and for a feature 19 buckets of its grid. What has no such set is not sent.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from device_sdk.contract import BY_NAME
from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import LossReason
from device_sdk.contract.buckets import (
    FEATURE_ZERO_THRESHOLD,
    RANDOMISED_FIRST,
    RANDOMISED_LAST,
    RANDOMISED_SCALE,
    downscaled,
)
from device_sdk.contract.vocabulary import WORDS
from device_sdk.errors import ConfigError
from device_sdk.points import AttributePairs, ExplicitHistogram, ExponentialHistogram, Points, Side
from device_sdk.privacy.account import Account
from device_sdk.privacy.budget import EpsilonLedger
from device_sdk.privacy.distributions import CATEGORY_KEYS, Distribution

MECHANISM: Final = "krr"
_SIDE: Final = RANDOMISED_LAST - RANDOMISED_FIRST + 1
_FEATURE_CATEGORIES: Final = 2 * _SIDE + 1

Mechanism = Callable[[int], int]
Vocabularies = Mapping[tuple[str, str, str], Sequence[str]]
"""Declared words by (model, version, feature); with an empty feature the classes of the model."""


class Randomiser:
    """Turns the distributions of a window into randomised reports, as many as the budget has left."""

    def __init__(
        self, epsilon: float, ledger: EpsilonLedger, vocabularies: Vocabularies, random: np.random.Generator
    ) -> None:
        self._epsilon = epsilon
        self._ledger = ledger
        self._vocabularies = vocabularies
        self._random = random
        self._mechanisms: dict[int, Mechanism] = {}

    def window(self, distributions: Sequence[Distribution], sent: Points, account: Account) -> None:
        """Add the reports of one window to ``sent``; what the budget or a missing category set keeps back is counted.

        Distributions take their turn in random order, so that no signal starves another when the budget ends.
        """
        left = self._ledger.reports(self._epsilon)
        chosen: list[tuple[Distribution, list[int], int]] = []
        for place in self._random.permutation(len(distributions)).tolist():
            distribution = distributions[place]
            cells = self._categorised(distribution)
            reports = min(distribution.total, left) if cells is not None else 0
            account.measurements_lost(LossReason.PRIVACY, distribution.total - reports)
            if cells is not None and reports:
                chosen.append((distribution, cells, reports))
                left -= reports
        wanted = sum(reports for _, _, reports in chosen)
        spent = wanted * self._epsilon
        if wanted and not self._ledger.spend(spent):
            account.measurements_lost(LossReason.PRIVACY, wanted)
            return
        for distribution, cells, reports in chosen:
            self._add(distribution, self._reported(cells, reports), sent)
        if wanted:
            sent.add(m.PRIVACY_EPSILON_SPENT.name, spent)

    # --- categories -------------------------------------------------------------------------------------------

    def _categorised(self, distribution: Distribution) -> list[int] | None:
        """Return the count of every category, None when there is no category set that was fixed beforehand."""
        words = self._words(distribution)
        if words is not None:
            key = CATEGORY_KEYS[distribution.metric]
            cells = dict.fromkeys(words, 0)
            for attributes, value in distribution.members.items():
                word = str(dict(attributes).get(key, a.OTHER))
                place = word if word in cells else a.OTHER
                if place not in cells:
                    return None
                cells[place] += int(value)  # type: ignore[arg-type]
            return list(cells.values())
        if distribution.metric in CATEGORY_KEYS:
            return None
        (value,) = distribution.members.values()
        if isinstance(value, ExplicitHistogram):
            return value.counts
        return _feature_cells(value) if isinstance(value, ExponentialHistogram) and value.scale >= 0 else None

    def _words(self, distribution: Distribution) -> Sequence[str] | None:
        key = CATEGORY_KEYS.get(distribution.metric)
        if key is None:
            return None
        if key in WORDS:
            return WORDS[key]
        named = dict(distribution.identity)
        model, version = str(named.get(a.MODEL_NAME, "")), str(named.get(a.MODEL_VERSION, ""))
        return self._vocabularies.get((model, version, str(named.get(a.FEATURE_NAME, ""))))

    # --- reports ----------------------------------------------------------------------------------------------

    def _reported(self, cells: list[int], reports: int) -> list[int]:
        """Return how often each category is reported by ``reports`` of the observations, each randomised alone."""
        mechanism = self._mechanism(len(cells))
        truths = self._random.multivariate_hypergeometric(cells, reports, method="marginals").tolist()
        told = [0] * len(cells)
        for category, count in enumerate(truths):
            for _ in range(count):
                told[mechanism(category)] += 1
        return told

    def _mechanism(self, categories: int) -> Mechanism:
        if categories not in self._mechanisms:
            self._mechanisms[categories] = randomised_response(categories, self._epsilon)
        return self._mechanisms[categories]

    def _add(self, distribution: Distribution, told: list[int], sent: Points) -> None:
        mark: AttributePairs = (
            (a.PRIVACY_MECHANISM, MECHANISM), (a.PRIVACY_EPSILON, self._epsilon), (a.PRIVACY_CATEGORIES, len(told)),
        )  # fmt: skip
        words = self._words(distribution)
        if words is not None:
            key = CATEGORY_KEYS[distribution.metric]
            for word, count in zip(words, told, strict=True):
                if count:
                    sent.add(distribution.metric, count, (*distribution.identity, (key, word), *mark))
            return
        bounds = BY_NAME[distribution.metric].bounds
        value = ExplicitHistogram(sum(told), bounds, told) if bounds else _feature_histogram(told)
        sent.add(distribution.metric, value, (*distribution.identity, *mark))


def require_opendp() -> None:
    """Raise ``ConfigError`` when OpenDP is not installed; it is not imported before the first report."""
    if importlib.util.find_spec("opendp") is None:
        raise ConfigError(
            "privacy_epsilon needs OpenDP, which is not installed: pip install 'fleetpulse-device-sdk[privacy]'"
        )


def randomised_response(categories: int, epsilon: float) -> Mechanism:
    """Return OpenDP's k-ary randomised response on 0..categories-1 whose privacy loss is at most ``epsilon``."""
    opendp: Any = importlib.import_module("opendp.mod")
    measurements: Any = importlib.import_module("opendp.measurements")
    opendp.enable_features("contrib")
    probability = 1 / (1 + (categories - 1) * math.exp(-epsilon))
    while True:
        mechanism = measurements.make_randomized_response(list(range(categories)), probability)
        if mechanism.map(1) <= epsilon:
            break
        probability = math.nextafter(probability, 0.0)  # OpenDP rounds the loss up; the last digit makes up for it
    reported: Mechanism = mechanism
    return reported


def _feature_cells(value: ExponentialHistogram) -> list[int]:
    """Return the 19 categories of a feature: negative buckets by descending size, zero, positive ones ascending.

    What lies beyond the outermost bucket (8 units) counts into it, so that the set is closed.
    """
    cells = [0] * _FEATURE_CATEGORIES
    cells[_SIDE] = value.zero_count
    for sign, side in ((-1, value.negative), (1, value.positive)):
        offset, counts = downscaled(side.offset, side.counts, value.scale - RANDOMISED_SCALE)
        for index, count in enumerate(counts, offset):
            bounded = min(max(index, RANDOMISED_FIRST), RANDOMISED_LAST) - RANDOMISED_FIRST
            cells[_SIDE + sign * (bounded + 1)] += count
    return cells


def _feature_histogram(cells: list[int]) -> ExponentialHistogram:
    return ExponentialHistogram(
        count=sum(cells),
        scale=RANDOMISED_SCALE,
        zero_count=cells[_SIDE],
        zero_threshold=FEATURE_ZERO_THRESHOLD,
        positive=Side(RANDOMISED_FIRST, cells[_SIDE + 1 :]),
        negative=Side(RANDOMISED_FIRST, cells[_SIDE - 1 :: -1]),
    )

"""Counts of categorical features by category of a declared vocabulary."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.contract.attributes import OTHER, FeatureState
from device_sdk.signals import Feature
from device_sdk.signals.text import MISSING, UNSEEN

_STATES: Final = (
    FeatureState.OK, FeatureState.UNSEEN, FeatureState.MISSING, FeatureState.NAN, FeatureState.INFINITE,
)  # fmt: skip
_NAN_CODE: Final = -3.0
_INFINITE_CODE: Final = -4.0

Taken = tuple[Feature, list[tuple[str, int]], list[tuple[FeatureState, int]]]


class CategoryTable:
    """Categorical features of one input: how often each category was seen, and the state of every observation."""

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self.features = features
        self._counts = [np.zeros(len(_STATES) + len(feature.categories), dtype=np.int64) for feature in features]
        self._touched = False

    def add(self, codes: NDArray[np.floating]) -> None:
        """Add codes (samples x features): a place in the vocabulary, or a negative code of why there is none."""
        self._touched = True
        for place, counts in enumerate(self._counts):
            filed = codes[:, place].astype(np.int64) + len(_STATES)
            counts += np.bincount(filed, minlength=len(counts))[: len(counts)]

    def add_missing(self, samples: int) -> None:
        """Add samples that came without this input."""
        self._touched = True
        for counts in self._counts:
            counts[int(MISSING) + len(_STATES)] += samples

    def take(self) -> list[Taken]:
        """Return (feature, [(category, count)], [(state, count)]) since the last take."""
        if not self._touched:
            return []
        self._touched = False
        taken = []
        for feature, counts in zip(self.features, self._counts, strict=True):
            codes = counts.tolist()
            infinite, nan, missing, unseen = codes[1 : len(_STATES)]
            known = codes[len(_STATES) :]
            categories = [(name, n) for name, n in zip(feature.category_names, known, strict=True) if n]
            if unseen:
                categories.append((OTHER, unseen))
            states = zip(_STATES, (sum(known), unseen, missing, nan, infinite), strict=True)
            taken.append((feature, categories, [(state, n) for state, n in states if n]))
            counts[:] = 0
        return taken


class Vocabulary:
    """The numeric vocabulary of one feature: from values of a numeric column to codes."""

    def __init__(self, feature: Feature) -> None:
        numbers = np.array([float(value) for value in feature.categories])
        self._order = np.argsort(numbers)
        self._sorted = numbers[self._order]

    def codes(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the code of each value: its place among the categories, or why it has none."""
        at = np.minimum(np.searchsorted(self._sorted, values), len(self._sorted) - 1)
        codes = np.where(self._sorted[at] == values, self._order[at], UNSEEN).astype(np.float64)
        codes[np.isnan(values)] = _NAN_CODE
        codes[np.isinf(values)] = _INFINITE_CODE
        return codes

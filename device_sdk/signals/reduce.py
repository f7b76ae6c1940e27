"""From rows of read elements to one number a feature: numpy on at most a few dozen rows at a time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.signals import COLUMN, Feature
from device_sdk.signals.declare import CATEGORY, PATCH_KINDS, PROJECTION, SOUND_KINDS
from device_sdk.signals.reading import Places, patches_of, runs_of, stride_for

Reals = NDArray[np.float64]

_GOLDEN: Final = 0x9E3779B97F4A7C15
_SINGLE_THREADED: Final = 1 << 17
"""Multiplications that OpenBLAS, with its default threshold of 2**18, does on the calling thread."""


class Layout:
    """What one row of an input's ring holds: the spread elements, then runs, then patches, as far as features need.

    ``exact`` says that a feature names an element (a column) or weighs each (a projection): then only samples of the
    planned shape can be read.
    """

    def __init__(self, shape: tuple[int, ...], features: tuple[Feature, ...]) -> None:
        self.shape = shape
        size = int(np.prod(shape, dtype=np.int64))
        kinds = {feature.kind for feature in features}
        self.exact = bool(kinds & {COLUMN, CATEGORY, PROJECTION})
        spread = slice(None, None, stride_for(shape, size))
        runs = runs_of(shape) if kinds & set(SOUND_KINDS) else np.empty((0, 0), dtype=np.intp)
        patches = patches_of(shape) if kinds & set(PATCH_KINDS) else np.empty((0, 0, 0), dtype=np.intp)
        needs_spread = bool(kinds - set(SOUND_KINDS) - set(PATCH_KINDS))
        self.spread_width = len(range(0, size, spread.step)) if needs_spread else 0
        self.runs_shape, self.patches_shape = runs.shape, patches.shape
        self.width = self.spread_width + runs.size + patches.size
        self.flat: slice | Places = spread
        if runs.size or patches.size:
            places = np.arange(0, size, spread.step, dtype=np.intp)[: self.spread_width]
            self.flat = np.concatenate([places, runs.ravel(), patches.ravel()])

    def places_for(self, shape: tuple[int, ...]) -> Places | None:
        """Return where a sample of another shape is read for the same row, None when it cannot be."""
        size = int(np.prod(shape, dtype=np.int64))
        if self.exact or not size:
            return None
        spread = np.arange(self.spread_width, dtype=np.intp) * size // max(1, self.spread_width)
        runs = runs_of(shape) if self.runs_shape[0] else np.empty(self.runs_shape, dtype=np.intp)
        patches = patches_of(shape) if self.patches_shape[0] else np.empty(self.patches_shape, dtype=np.intp)
        if self.runs_shape[0] and runs.shape != self.runs_shape:
            if runs.shape[0] < self.runs_shape[0] or runs.shape[1] < self.runs_shape[1]:
                return None  # too short a sound
            runs = runs[: self.runs_shape[0], : self.runs_shape[1]]
        if patches.shape != self.patches_shape:
            return None
        return np.concatenate([spread, runs.ravel(), patches.ravel()])  # a smaller sample repeats its elements


class Reducer:
    """Reduces rows of one layout to the numbers of its features, in their order."""

    def __init__(self, features: tuple[Feature, ...], layout: Layout) -> None:
        self._features = features
        self._layout = layout
        kinds = {feature.kind for feature in features}
        self._columns = np.array([feature.column or 0 for feature in features])
        self._all_columns = kinds == {COLUMN}
        self._needs_mean = bool(kinds & {"mean", "std"})
        self._needs_spread = bool(kinds & {"mean", "std", "dark_share", "saturated_share"})
        self._projections: dict[tuple[int, int], list[int]] = {}
        for place, feature in enumerate(features):
            if feature.kind == PROJECTION:
                self._projections.setdefault((feature.projections or 0, feature.seed), []).append(place)

    def values(self, rows: NDArray[Any]) -> Reals:
        """Return one row of numbers a sample; a statistic of a sample that is partly unknown is NaN."""
        if self._all_columns:
            return rows[:, self._columns].astype(np.float64, copy=False)
        layout, wide = self._layout, rows.astype(np.float64, copy=False)
        spread = wide[:, : layout.spread_width]
        sound = wide[:, layout.spread_width : layout.spread_width + int(np.prod(layout.runs_shape))]
        values = np.empty((len(rows), len(self._features)))
        mean = np.add.reduce(spread, axis=1) / max(1, layout.spread_width) if self._needs_mean else None
        unknown = np.isnan(spread).any(axis=1) if self._needs_spread else np.zeros(len(rows), dtype=bool)
        silent = np.isnan(sound).any(axis=1)
        for place, feature in enumerate(self._features):
            if feature.kind == COLUMN:
                values[:, place] = spread[:, feature.column or 0]
            elif feature.kind in SOUND_KINDS:
                values[:, place] = _of_sound(feature, sound.reshape(len(rows), *layout.runs_shape))
                values[silent, place] = np.nan
            elif feature.kind in PATCH_KINDS:
                patches = wide[:, layout.width - int(np.prod(layout.patches_shape)) :]
                values[:, place] = _sharpness(patches.reshape(len(rows), *layout.patches_shape))
            elif feature.kind != PROJECTION:
                values[:, place] = _of_spread(feature, spread, mean)
                values[unknown, place] = np.nan
        for (count, seed), places in self._projections.items():
            onto = directions(layout.spread_width, count, seed)
            values[:, places] = projected(spread, onto)[:, self._columns[places]]
        return values


def _of_spread(feature: Feature, rows: Reals, mean: Reals | None) -> Reals:
    """Return one statistic of each row; the plain ufuncs cost a fraction of the array methods on few rows."""
    if mean is not None and feature.kind == "mean":
        return mean
    if mean is not None and feature.kind == "std":
        apart = rows - mean[:, None]
        spread: Reals = np.sqrt(np.einsum("ij,ij->i", apart, apart) / rows.shape[1])
        return spread
    beyond = rows <= (feature.low or 0.0) if feature.kind == "dark_share" else rows >= (feature.high or 0.0)
    share: Reals = np.add.reduce(beyond, axis=1, dtype=np.float64) / rows.shape[1]
    return share


def _of_sound(feature: Feature, runs: Reals) -> Reals:
    """Return one statistic of runs (samples x runs x length)."""
    elements = runs.shape[1] * runs.shape[2]
    if feature.kind == "rms":
        level: Reals = np.sqrt(np.einsum("ijk,ijk->i", runs, runs) / elements)
        return level
    if feature.kind == "peak":
        highest: Reals = np.abs(runs).max(axis=(1, 2))
        return highest
    if feature.kind == "zero_crossing_rate":
        positive = runs >= 0
        crossings = (positive[:, :, 1:] != positive[:, :, :-1]).sum(axis=(1, 2))
        rate: Reals = crossings / max(1, runs.shape[1] * (runs.shape[2] - 1))
        return rate
    share: Reals = (np.abs(runs) >= (feature.high or 0.0)).sum(axis=(1, 2)) / elements
    return share


def _sharpness(patches: Reals) -> Reals:
    """Return the variance of the four-neighbour Laplacian over the inner pixels of all patches of each sample."""
    inner = patches[:, :, 1:-1, 1:-1]
    around = patches[:, :, :-2, 1:-1] + patches[:, :, 2:, 1:-1] + patches[:, :, 1:-1, :-2] + patches[:, :, 1:-1, 2:]
    edges = (4 * inner - around).reshape(len(patches), -1)
    variance: Reals = edges.var(axis=1)
    return variance


@lru_cache(maxsize=32)
def directions(size: int, count: int, seed: int) -> Reals:
    """Return ``count`` orthonormal rows of ``size`` elements, the same on every device and in every language.

    With mix64 the finaliser of SplitMix64 (Steele, Lea, Flood 2014) and G = 0x9E3779B97F4A7C15, element i of the raw
    row j is ``2 * (mix64(mix64(seed) + (j * size + i + 1) * G mod 2**64) >> 11) / 2**53 - 1``, uniform in [-1, 1).
    Gram-Schmidt in the order of j, each row then of length 1: a projection has the unit of the embedding, and a
    rotation of the data cannot blow it up. At most ``size`` rows are independent; further ones are 0.
    """
    counters = np.arange(1, count * size + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        raw = _mixed(_mixed(np.array([seed], dtype=np.uint64)) + counters * np.uint64(_GOLDEN))
    rows: Reals = (2.0 * ((raw >> np.uint64(11)).astype(np.float64) / 2.0**53) - 1.0).reshape(count, size)
    for place in range(count):
        if place >= size:
            rows[place] = 0.0
            continue
        for _ in range(2):  # a second pass takes off what rounding left in the first
            rows[place] -= rows[:place].T @ (rows[:place] @ rows[place])
        rows[place] /= np.sqrt(rows[place] @ rows[place])
    rows.flags.writeable = False
    return rows


def projected(rows: Reals, onto: Reals) -> Reals:
    """Return rows times directions, in parts so small that the mathematics library starts no threads for them."""
    step = max(1, _SINGLE_THREADED // max(1, onto.size))
    return np.concatenate([rows[first : first + step] @ onto.T for first in range(0, len(rows), step)])


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))

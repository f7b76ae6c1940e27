"""What is watched of a model whose signals nobody declared: only what its tensors leave no doubt about, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.signals import COLUMN, FEATURES_MAX, NAME_LENGTH_MAX, Feature
from device_sdk.signals.reading import CHANNELS_MAX, runs_of, stride_for

COLUMNS_MAX: Final = 16
"""Widest 2-D float input whose columns become features."""
IMAGE_SIDE_MIN: Final = 8
SOUND_LENGTH_MIN: Final = 256
_SOUND_NAME: Final = re.compile(r"audio|wav|pcm|speech|input_values", re.IGNORECASE)
_TEXT_KINDS: Final = ("text_length", "letter_share", "digit_share", "punctuation_share")
_TEXT_LENGTH_UNIT: Final = 16.0
_BYTE_DARK, _BYTE_BRIGHT = 25.0, 250.0
_SHARE_DARK, _SHARE_BRIGHT = 0.1, 0.98


def inferred_features(
    numeric: Mapping[str, NDArray[Any]], textual: Mapping[str, Any]
) -> tuple[tuple[Feature, ...], list[str]]:
    """Return the features of a first run's inputs, and for each watched input a sentence that says why.

    What is watched depends on names, shapes and types, which a model has in common on every device; of values only
    whether a float image lies within 0..1, or a sound within -1..1.
    """
    features: list[Feature] = []
    reasons = []
    for name, tensor in numeric.items():
        chosen, reason = _of_tensor(name, tensor)
        if _fit(chosen, features):
            features += chosen
            reasons.append(f"{name} ({reason})")
    for name in textual:
        chosen = [
            Feature(_named(name, kind), kind=kind, unit=_TEXT_LENGTH_UNIT if kind == "text_length" else 1.0, input=name)
            for kind in _TEXT_KINDS
        ]
        if _fit(chosen, features):
            features += chosen
            reasons.append(f"{name} (text: length and character classes)")
    return tuple(features), reasons


def _fit(chosen: list[Feature], features: list[Feature]) -> bool:
    """Say whether there is room, and no feature of that name yet (long names are cut)."""
    names = {feature.name for feature in features}
    room = len(features) + len(chosen) <= FEATURES_MAX
    return bool(chosen) and room and not any(feature.name in names for feature in chosen)


def _of_tensor(name: str, tensor: NDArray[Any]) -> tuple[list[Feature], str]:
    kind, shape = tensor.dtype.kind, tensor.shape
    if kind == "f" and len(shape) <= 3 and max(shape) >= SOUND_LENGTH_MIN and _SOUND_NAME.search(name):
        return _of_sound(name, tensor)
    if len(shape) == 2 and (shape[1] <= COLUMNS_MAX if kind == "f" else shape[1] == 1):
        short = name[: NAME_LENGTH_MAX - 4]
        columns = [Feature(f"{short}[{at}]", kind=COLUMN, column=at, input=name) for at in range(shape[1])]
        return columns, f"a table of {shape[1]} columns"
    if len(shape) == 4 and (kind == "f" or tensor.dtype == np.uint8) and _is_image(shape[1:]):
        return _of_image(name, tensor)
    return [], ""


def _is_image(shape: tuple[int, ...]) -> bool:
    sides = shape[1:] if shape[0] <= CHANNELS_MAX else shape[:2] if shape[2] <= CHANNELS_MAX else (0,)
    return min(sides) >= IMAGE_SIDE_MIN


def _of_image(name: str, tensor: NDArray[Any]) -> tuple[list[Feature], str]:
    """Return statistics on a grid that the type gives; shares only where dark and bright have a meaning."""
    if tensor.dtype == np.uint8:
        full, dark, bright, scale = 256.0, _BYTE_DARK, _BYTE_BRIGHT, "of bytes"
    else:
        seen = _looked_at(tensor)
        if len(seen) and not (seen.min() >= 0 and seen.max() <= 1):
            kinds = [Feature(_named(name, kind), kind=kind, input=name) for kind in ("mean", "std")]
            return kinds, "an image of floats outside 0..1: no shares, for dark and bright are unknown"
        full, dark, bright, scale = 1.0, _SHARE_DARK, _SHARE_BRIGHT, "of floats in 0..1"
    return [
        Feature(_named(name, "mean"), kind="mean", center=full / 2, unit=full / 8, input=name),
        Feature(_named(name, "std"), kind="std", unit=full / 8, input=name),
        Feature(_named(name, "dark_share"), kind="dark_share", low=dark, input=name),
        Feature(_named(name, "saturated_share"), kind="saturated_share", high=bright, input=name),
    ], f"an image {scale}"


def _of_sound(name: str, tensor: NDArray[Any]) -> tuple[list[Feature], str]:
    sample = tensor[0] if tensor.ndim >= 2 else tensor
    seen = sample[np.unravel_index(runs_of(sample.shape).ravel(), sample.shape)]
    seen = seen[np.isfinite(seen)]
    if len(seen) and np.abs(seen).max() > 1:
        return [], ""
    return [
        Feature(_named(name, "rms"), kind="rms", unit=0.125, input=name),
        Feature(_named(name, "zero_crossing_rate"), kind="zero_crossing_rate", unit=0.125, input=name),
        Feature(_named(name, "clipped_share"), kind="clipped_share", high=0.999, input=name),
    ], "by its name and length a sound within -1..1"


def _looked_at(tensor: NDArray[Any]) -> NDArray[Any]:
    """Return finite elements of the first sample, at most ~1k."""
    sample = tensor[0]
    places = np.arange(0, sample.size, stride_for(sample.shape, sample.size))
    seen = sample[np.unravel_index(places, sample.shape)]
    finite: NDArray[Any] = seen[np.isfinite(seen)]
    return finite


def _named(name: str, kind: str) -> str:
    return f"{name[: NAME_LENGTH_MAX - len(kind) - 1]}.{kind}"

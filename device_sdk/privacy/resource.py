"""The allow-list of resource attributes: named in the contract, or not sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from device_sdk.contract.attributes import (
    FLAGS,
    LABEL_COUNT_MAX,
    LABEL_LENGTH_MAX,
    LABEL_PREFIX,
    MODEL_KEYS,
    MODEL_NAME,
    RESOURCE_KEYS,
    VALUE_LENGTH_MAX,
    PrivacyReason,
)
from device_sdk.errors import ModelNameError
from device_sdk.points import AttributePairs
from device_sdk.privacy.schema import is_number, is_text

FLAGS_MAX: Final = 16

AttributeValue = str | bool | int | float | tuple[str, ...]


def allowed_resource(pairs: Iterable[tuple[str, object]]) -> tuple[dict[str, AttributeValue], Counter[str], list[str]]:
    """Return (kept attributes, refusals by reason, refused keys) of resource attributes.

    Kept are the contract's keys and at most 8 ``edge.label.*`` of at most 64 characters; text longer than 128
    characters is refused as free text; an empty value is dropped silently because it says nothing.
    """
    kept: dict[str, AttributeValue] = {}
    refused: Counter[str] = Counter()
    keys: list[str] = []
    labels = 0
    for key, stated in pairs:
        value = _flags(stated) if key == FLAGS else stated
        reason = _refusal(key, value)
        if reason is None and key.startswith(LABEL_PREFIX) and key not in kept:
            labels += 1
            if labels > LABEL_COUNT_MAX:
                reason = PrivacyReason.UNKNOWN_ATTRIBUTE
        if reason is not None:
            refused[reason] += 1
            keys.append(key)
        elif value is not None and value != "":
            kept[key] = _normal(value)
    return kept, refused, keys


def sendable_names(run: AttributePairs) -> AttributePairs:
    """Return the attributes that name a model and its runtime as text that the gate lets pass.

    Raise ``ModelNameError`` for a model name or version that is empty or too long: cut short, two could become one.
    """
    names = []
    for key, value in run:
        text = str(value)
        if key in MODEL_KEYS and not 1 <= len(text) <= VALUE_LENGTH_MAX:
            what = "model=" if key == MODEL_NAME else "version="
            raise ModelNameError(f"{what}{text[:40]!r} has {len(text)} characters; give 1 to {VALUE_LENGTH_MAX}")
        if key in MODEL_KEYS and not is_text(text):
            raise ModelNameError(f"{key}={text!r} holds bytes that are no text; give a name in UTF-8")
        text = text.encode(errors="replace").decode()
        names.append((key, text[:VALUE_LENGTH_MAX]))
    return tuple(names)


def _refusal(key: str, value: object) -> str | None:
    label = key.startswith(LABEL_PREFIX) and len(key) > len(LABEL_PREFIX)
    if key not in RESOURCE_KEYS and not label:
        return PrivacyReason.UNKNOWN_ATTRIBUTE
    if key == FLAGS:
        listed = isinstance(value, (list, tuple)) and len(value) <= FLAGS_MAX
        sound = listed and all(len(str(flag)) <= VALUE_LENGTH_MAX and is_text(str(flag)) for flag in value)  # type: ignore[attr-defined]
        return None if sound else PrivacyReason.FREE_TEXT
    if not isinstance(value, (str, bool, int, float)) and value is not None:
        return PrivacyReason.FREE_TEXT
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not is_number(value):
        return PrivacyReason.WRONG_TYPE
    longest = LABEL_LENGTH_MAX if label else VALUE_LENGTH_MAX
    return PrivacyReason.FREE_TEXT if len(str(value)) > longest or not is_text(str(value)) else None


def _flags(stated: object) -> object:
    """Return flags as ``key=variant``, whether stated as a mapping, a list, or text with ``;`` between them."""
    if isinstance(stated, Mapping):
        return [f"{key}={variant}" for key, variant in stated.items()]
    return [flag.strip() for flag in stated.split(";") if flag.strip()] if isinstance(stated, str) else stated


def _normal(value: object) -> AttributeValue:
    if isinstance(value, (list, tuple)):
        return tuple(sorted(str(item) for item in value))
    if isinstance(value, (str, bool, int, float)):
        return value
    return str(value)

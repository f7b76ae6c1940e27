"""The closed, typed schema as a decision about one series, one value, one attribute of an event.

Everything is decided from the contract's tables: the metric's name, its attribute keys, the type of each value, the
word where a vocabulary is closed, the length of a text, and the kind of the value. What is not there stays here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Final

from device_sdk.contract import BY_NAME, Instrument, Kind
from device_sdk.contract import attributes as a
from device_sdk.contract.attributes import PrivacyReason
from device_sdk.contract.vocabulary import OWN_ERRORS, WORDS
from device_sdk.points import AttributePairs, ExplicitHistogram, ExponentialHistogram, Value

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BOOLEANS: Final = frozenset({a.SESSION_END_EXPECTED, a.LOAD_CACHED, a.OVERFLOW, a.PRIVACY_ENABLED})
_NUMBERS: Final = frozenset(
    {
        a.SESSION_DURATION, a.SESSION_END_ACCURACY, a.SESSION_LAST_SEQUENCE, a.BOOT_SEQUENCE, a.EVENT_SEQUENCE,
        a.INFLIGHT_RUNS,
        a.UPDATE_DURATION, a.SELFTEST_MAX_ABS, a.SELFTEST_MAX_REL, a.SELFTEST_COSINE, a.SELFTEST_TOP1,
        a.SELFTEST_CLASS_AGREEMENT, a.SELFTEST_TASK_VALUE, a.WINDOW_LENGTH, a.SAMPLE_EVERY,
        a.PRIVACY_MIN_COUNT, a.PRIVACY_CLIP,
        a.PRIVACY_ROTATION, a.PRIVACY_EPSILON, a.PRIVACY_CATEGORIES,
    }
)  # fmt: skip
_EITHER: Final = frozenset({a.SETTINGS_VERSION, a.SIGNAL_LEVEL, a.SDK_LEVEL})
"""Keys whose value may be a number or a short text."""
_INTEGER_MAX: Final = (1 << 63) - 1
"""Largest integer of OTLP: one above would spoil the window that it is in."""


def series_refusal(instrument: Instrument, attributes: AttributePairs) -> PrivacyReason | None:
    """Return why a series may not leave, None when it may."""
    for key, value in attributes:
        if key not in instrument.attributes:
            return PrivacyReason.UNKNOWN_ATTRIBUTE
        closed = WORDS.get(key) if not (key == a.ERROR_TYPE and instrument.name in OWN_ERRORS) else None
        reason = _value_refusal(key, value, closed)
        if reason is not None:
            return reason
    return None


def value_refusal(instrument: Instrument, value: Value) -> PrivacyReason | None:
    """Return why a point's value may not leave: it is of another kind, or tells a sum where none may be told."""
    kind = instrument.kind
    if kind is Kind.EXPONENTIAL:
        fits = isinstance(value, ExponentialHistogram) and (instrument.summed or _silent(value))
    elif kind is Kind.EXPLICIT:
        fits = isinstance(value, ExplicitHistogram) and value.bounds == instrument.bounds
    else:
        fits = is_number(value) and (kind is not Kind.COUNTER or value >= 0)  # type: ignore[operator]
    return None if fits else PrivacyReason.WRONG_TYPE


def event_attribute_refusal(known: Collection[str], key: str, value: object) -> PrivacyReason | None:
    """Return why an attribute of an event may not leave, None when it may; ``known`` are the event's keys."""
    if key not in known:
        return PrivacyReason.UNKNOWN_ATTRIBUTE
    if isinstance(value, tuple):
        short = len(value) <= a.LIST_LENGTH_MAX
        return None if short and all(_short_text(item) for item in value) else PrivacyReason.FREE_TEXT
    closed = WORDS.get(key) if key != a.ERROR_TYPE else None  # an update's error is the updater's own word
    return _value_refusal(key, value, closed)


def instrument_of(metric: str) -> Instrument | None:
    """Return the contract's row of a metric, None when it has none."""
    return BY_NAME.get(metric)


def _value_refusal(key: str, value: object, words: Collection[str] | None) -> PrivacyReason | None:
    if key in _BOOLEANS:
        return None if isinstance(value, bool) else PrivacyReason.WRONG_TYPE
    number = is_number(value)
    if key in _NUMBERS:
        return None if number else PrivacyReason.WRONG_TYPE
    if key in _EITHER and number:
        return None
    if not isinstance(value, str):
        return PrivacyReason.WRONG_TYPE
    if words is not None:
        return None if value in words else PrivacyReason.FREE_TEXT
    return None if _short_text(value) else PrivacyReason.FREE_TEXT


def is_number(value: object) -> bool:
    """Say whether a value is a finite number that OTLP can hold."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and -_INTEGER_MAX <= value <= _INTEGER_MAX


def is_text(value: str) -> bool:
    """Say whether a text can be written as UTF-8; what Python reads from elsewhere may hold lone surrogates."""
    return value.isascii() or not _SURROGATE.search(value)


def _short_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= a.VALUE_LENGTH_MAX and is_text(value)


def _silent(value: ExponentialHistogram) -> bool:
    return value.total is None and value.minimum is None and value.maximum is None

"""The contract as data, and what changed between two of its versions; JSON that a reviewer can keep and compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from device_sdk.contract import attributes as a
from device_sdk.contract.events import COMMON_KEYS, EVENTS
from device_sdk.contract.metrics import CONTRACT_VERSION, INSTRUMENTS, SCOPE_NAME
from device_sdk.contract.vocabulary import WORDS

_METRIC_FIELDS: Final[Mapping[str, Any]] = {"kind": "", "unit": "", "bounds": [], "max_scale": None, "summed": False}
"""What a receiver relies on in a metric: it never changes under the same name."""


class Effect(StrEnum):
    """What a change means to somebody who has agreed to the old contract."""

    MORE = "more"
    LESS = "less"
    BREAKS = "breaks"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two contracts, in words."""

    effect: Effect
    text: str


def exported() -> dict[str, Any]:
    """Return this contract as JSON's types: metrics, events, resource keys, words, limits."""
    return {
        "contract": CONTRACT_VERSION,
        "scope": SCOPE_NAME,
        "metrics": {
            row.name: {
                "kind": str(row.kind), "unit": row.unit, "attributes": list(row.attributes),
                "series_max": row.series_max, "max_scale": row.max_scale, "bounds": list(row.bounds),
                "summed": row.summed, "reserved": row.reserved, "meaning": row.meaning,
            }
            for row in INSTRUMENTS
        },
        "events": {
            event.name: {
                "severity": event.severity.name, "attributes": [*COMMON_KEYS, *event.attributes],
                "reserved": event.reserved, "meaning": event.meaning,
            }
            for event in EVENTS
        },
        "resource": sorted(a.RESOURCE_KEYS),
        "words": {key: list(words) for key, words in WORDS.items()},
        "limits": {
            "text": a.VALUE_LENGTH_MAX, "list": a.LIST_LENGTH_MAX, "series": a.SERIES_MAX,
            "labels": a.LABEL_COUNT_MAX, "label": a.LABEL_LENGTH_MAX,
        },
    }  # fmt: skip


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return what changed from ``old`` to ``new``: what leaves in addition, what no longer does, and what breaks.

    Raise ``ValueError`` for data that is no exported contract.
    """
    try:
        return [
            *_rows("metric", old["metrics"], new["metrics"], _METRIC_FIELDS),
            *_rows("event", old["events"], new["events"], {}),
            *_keys("resource attribute", old["resource"], new["resource"]),
            *_words(old["words"], new["words"]),
            *_limits(old["limits"], new["limits"]),
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an exported contract: {type(error).__name__} {error}") from None


def _rows(what: str, old: Mapping[str, Any], new: Mapping[str, Any], fixed: Mapping[str, Any]) -> list[Change]:
    found = []
    for name in sorted({*old, *new}):
        before, after = old.get(name, {}), new.get(name, {})
        was_sent, is_sent = before.get("reserved") is False, after.get("reserved") is False
        if is_sent and not was_sent:
            found.append(Change(Effect.MORE, f"{what} {name}: {after['meaning']}"))
        elif was_sent and not is_sent:
            found.append(Change(Effect.LESS, f"{what} {name} is no longer sent"))
        if before and not after:
            found.append(Change(Effect.BREAKS, f"{what} {name} is gone: names are kept for ever, as reserved rows"))
        if before and after:
            for field, default in fixed.items():
                then, now = before.get(field, default), after.get(field, default)
                if then != now:
                    found.append(Change(Effect.BREAKS, f"{what} {name}: {field} was {then}, is {now}"))
        if was_sent and is_sent:
            found += _keys(f"{what} {name}: attribute", before["attributes"], after["attributes"])
    return found


def _keys(what: str, old: list[str], new: list[str]) -> list[Change]:
    more = [Change(Effect.MORE, f"{what} {key}") for key in new if key not in old]
    return more + [Change(Effect.LESS, f"{what} {key} is no longer sent") for key in old if key not in new]


def _words(old: Mapping[str, list[str]], new: Mapping[str, list[str]]) -> list[Change]:
    found = []
    for key in sorted({*old, *new}):
        if key not in new:
            found.append(Change(Effect.MORE, f"{key}: any short text, no longer one of a closed list"))
            continue
        added = [word for word in new[key] if word not in old.get(key, [])]
        gone = [word for word in old.get(key, []) if word not in new[key]]
        if added:
            found.append(Change(Effect.MORE, f"{key}: new words {', '.join(added)}"))
        if gone:
            found.append(Change(Effect.LESS, f"{key}: no longer {', '.join(gone)}"))
    return found


def _limits(old: Mapping[str, int], new: Mapping[str, int]) -> list[Change]:
    return [
        Change(Effect.MORE if new[key] > old[key] else Effect.LESS, f"limit {key}: was {old[key]}, is {new[key]}")
        for key in sorted({*old} & {*new})
        if new[key] != old[key]
    ]

"""A verdict row as rules see it: what it is about, how many devices it touches, how bad it is. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from device_sdk.contract.attributes import MODEL_NAME, MODEL_VERSION

DEVICE_LIST: Final[Mapping[str, str]] = {"slo": "bad_devices", "crash_free": "crashing_devices", "silence": "silent"}
"""The field of ``detail`` that names the devices a verdict is about, by kind."""
CRASH_LOOP: Final = "crash_loop"
DEVICES_NAMED_MAX: Final = 20
SLO_WINDOWS: Final = ("1h", "6h", "1d", "3d")

Dims = frozenset[tuple[str, str]]
"""What a row is limited to: cohort, model and version as (attribute, value); empty = the whole fleet."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the store's ``verdicts`` table, JSON columns read."""

    kind: str
    at_ns: int
    key: str
    name: str
    model: str
    version: str
    cohort: Mapping[str, str]
    value: float | None
    low: float | None
    high: float | None
    n: float
    devices: int
    target: float | None
    verdict: str
    reason: str
    completeness: float | None
    window_start_ns: int
    window_end_ns: int
    detail: Mapping[str, Any]

    @property
    def dims(self) -> Dims:
        """Return what the row is limited to."""
        return dims(self.cohort, self.model, self.version)

    @property
    def device_ids(self) -> tuple[str, ...]:
        """Return the devices the row names (at most ``DEVICES_NAMED_MAX``; the row may touch more)."""
        field = "looping_devices" if self.name == CRASH_LOOP else DEVICE_LIST.get(self.kind, "")
        found = self.detail.get(field)
        return tuple(str(entry) for entry in found[:DEVICES_NAMED_MAX]) if isinstance(found, list) else ()

    @property
    def affected(self) -> int:
        """Return how many devices show the trouble (drift: were compared); crash-free ratios know whom they name."""
        if self.kind == "crash_free" and self.name != CRASH_LOOP:
            return len(self.device_ids)
        return self.devices

    @property
    def known(self) -> int:
        """Return of how many devices that is, 0 when the row does not say."""
        if self.kind == "slo":
            reporting = self.detail.get("reporting")
            return int(reporting) if is_number(reporting) else 0
        return int(self.n) if self.kind == "silence" or self.name == CRASH_LOOP else self.devices

    @property
    def effect(self) -> float:
        """Return how bad the row is, comparable between rows of one kind; larger is worse."""
        if self.kind == "slo":
            burn = self.detail.get("burn")
            rates = [burn[window] for window in SLO_WINDOWS if is_number(burn.get(window))] if burn else []
            return float(max(rates, default=0.0))
        if self.value is None:
            return 0.0
        if self.kind == "crash_free" and self.name != CRASH_LOOP:
            return (1.0 if self.target is None else self.target) - self.value
        if self.kind in {"kpi", "latency"} and self.target:
            return abs(self.value / self.target - 1)
        return abs(self.value)

    def onset_ns(self, least: int = 1) -> int:
        """Return the row's own estimate of when the trouble began, 0 when it has none.

        Silence of ``least`` devices began when the last of these was heard, not when one of them broke weeks ago.
        """
        source = self.detail.get("sr") if self.kind == "drift" else self.detail
        if not isinstance(source, Mapping):
            return 0
        heard = source.get("last_heard_ns")
        if isinstance(heard, list) and len(heard) >= max(least, 1):
            found: object = sorted(heard)[max(least, 1) - 1]
        else:
            found = source.get("onset_ns") or source.get("since_ns")
        return int(found) if is_number(found) and 0 < found <= self.at_ns else 0


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a JSON value is a number (true and false are not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def dims(cohort: Mapping[str, str], model: str, version: str) -> Dims:
    """Return cohort, model and version as one set of (attribute, value)."""
    found = {(key, str(value)) for key, value in cohort.items()}
    found |= {(MODEL_NAME, model)} if model else set()
    found |= {(MODEL_VERSION, version)} if version else set()
    return frozenset(found)


def overlap(one: Dims, other: Dims) -> bool:
    """Return whether a device may belong to both: no attribute is held to two values."""
    values = dict(one)
    return all(values.get(key, value) == value for key, value in other)


def cohort_json(limits: Iterable[tuple[str, str]]) -> str:
    """Return canonical JSON of a set of limits."""
    return json.dumps(dict(sorted(limits)), separators=(",", ":"), ensure_ascii=False)


def verdicts_of(columns: Mapping[str, Sequence[Any]], kinds: frozenset[str]) -> list[Verdict]:
    """Read the rows of the given kinds from the columns of a ``verdicts`` table, ordered by instant and key.

    A row whose JSON is broken raises ``ValueError`` naming its key: the judge wrote it, hiding it would hide trouble.
    """
    found: list[Verdict] = []
    cohorts: dict[str, Mapping[str, str]] = {}
    for index, kind in enumerate(columns["kind"]):
        if kind not in kinds:
            continue
        row = {name: values[index] for name, values in columns.items() if name != "written_ns"}
        text = row["cohort"]
        try:
            if text not in cohorts:
                cohorts[text] = json.loads(text)
            row["cohort"] = cohorts[text]
            row["detail"] = json.loads(row["detail"] or "{}")
        except ValueError as error:
            raise ValueError(f"verdict {row['kind']} {row['key']} at {row['at_ns']}: JSON is broken: {error}") from None
        found.append(Verdict(**row))
    found.sort(key=lambda verdict: (verdict.at_ns, verdict.kind, verdict.key))
    return found

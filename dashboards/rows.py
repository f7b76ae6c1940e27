"""What the query API answers, as frozen values: verdict rows, alerts, devices. Pure and tolerant of missing fields."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from device_sdk.contract import attributes as a

Json = Mapping[str, Any]

SHORT_KEYS: Final = {
    a.TIER: "tier",
    a.REGION: "region",
    a.RING: "ring",
    a.FIRMWARE_VERSION: "firmware",
    a.CHIPSET: "chipset",
    a.SITE: "site",
}
BAD: Final = frozenset({"missed", "drift", "sensor_fault", "fast_burn"})
WARN: Final = frozenset({"mix_shift", "rising", "recovering"})
OK: Final = frozenset({"met", "ok", "on_pace"})


LATELY_NS: Final = 2 * 3600 * 1_000_000_000


def level(verdict: str) -> str:
    """Map a verdict word to how it is drawn: ``bad``, ``warn``, ``ok`` or ``none`` (no verdict, never green)."""
    if verdict in BAD:
        return "bad"
    if verdict in WARN:
        return "warn"
    return "ok" if verdict in OK else "none"


def real(value: object) -> float | None:
    """Read a JSON number; None for null, NaN and infinities (also as OTLP's strings)."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def reals(value: object) -> list[float | None]:
    """Read a JSON list of numbers; anything else is empty."""
    return [real(item) for item in value] if isinstance(value, list) else []


def mapping(value: object) -> dict[str, Any]:
    """Read a JSON object, also when it comes as its text; anything else is empty."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except ValueError:
            return {}
    return dict(value) if isinstance(value, dict) else {}


def _whole(value: object) -> int:
    return int(real(value) or 0)


def _ns(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else _whole(value)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judged number: value with interval, sample size, target, verdict word; times in UTC epoch ns."""

    kind: str
    name: str
    model: str
    version: str
    cohort: dict[str, str]
    value: float | None
    low: float | None
    high: float | None
    n: float
    devices: int
    target: float | None
    verdict: str
    reason: str
    completeness: float | None
    at_ns: int
    start_ns: int
    end_ns: int
    detail: dict[str, Any]

    @property
    def tier(self) -> str:
        """The device class of the cohort, '' for the whole fleet."""
        return str(self.cohort.get(a.TIER, ""))

    @property
    def firmware(self) -> str:
        """The firmware of the cohort, '' when it spans all."""
        return str(self.cohort.get(a.FIRMWARE_VERSION, ""))

    @property
    def fleet(self) -> bool:
        """Whether the row judges every cohort together."""
        return not self.cohort

    @property
    def level(self) -> str:
        """How the verdict is drawn."""
        return level(self.verdict)

    @property
    def word(self) -> str:
        """The word shown: the verdict, or the reason that says more than `insufficient` does."""
        return (
            self.reason if self.verdict == "insufficient" and self.reason in ("no_target", "interval") else self.verdict
        )

    @property
    def blind(self) -> bool:
        """Whether there are too few data for a verdict (a missing target is not that)."""
        return self.level == "none" and self.word != "no_target"

    @property
    def subject(self) -> str:
        """Model and version, when the row is about one."""
        return f"{self.model} {self.version}".strip()

    @property
    def where(self) -> str:
        """Cohort in words; 'fleet' when it spans everything."""
        return cohort_label(self.cohort) or "fleet"

    def number(self, *path: str) -> float | None:
        """Read a number out of ``detail``, following ``path``; None when any step is missing."""
        return real(self._at(path))

    def instant(self, *path: str) -> int:
        """Read UTC epoch ns out of ``detail`` to the unit, following ``path``; 0 when any step is missing."""
        return _ns(self._at(path))

    def _at(self, path: tuple[str, ...]) -> object:
        node: Any = self.detail
        for step in path:
            if not isinstance(node, Mapping):
                return None
            node = node.get(step)
        return node


def cohort_label(cohort: Json) -> str:
    """Write a cohort as its values: "cam-v2 · firmware 2.2.0"; unknown keys keep their last part as a name."""
    model = " ".join(str(cohort[key]) for key in a.MODEL_KEYS if cohort.get(key))
    parts = [model] if model else []
    for key, value in cohort.items():
        if key in a.MODEL_KEYS:
            continue
        name = SHORT_KEYS.get(key, key.rsplit(".", 1)[-1])
        parts.append(str(value) if key in {a.TIER, a.REGION} else f"{name} {value}")
    return " · ".join(parts)


def verdict_of(item: Json, kind: str = "") -> Verdict:
    """Read one verdict row of any list of the query API."""
    window = mapping(item.get("window"))
    end_ns = _ns(window.get("end_ns"))
    name = item.get("kpi") or item.get("signal") or item.get("slo") or item.get("name") or ""
    return Verdict(
        kind=str(item.get("kind") or kind),
        name=str(name),
        model=str(item.get("model") or ""),
        version=str(item.get("version") or ""),
        cohort={str(k): str(v) for k, v in mapping(item.get("cohort")).items()},
        value=real(item.get("value")),
        low=real(item.get("low")),
        high=real(item.get("high")),
        n=real(item.get("n")) or 0.0,
        devices=_whole(item.get("devices")),
        target=real(item.get("target")),
        verdict=str(item.get("verdict") or "no_data"),
        reason=str(item.get("reason") or ""),
        completeness=real(item.get("completeness")),
        at_ns=_ns(item.get("at_ns")) or end_ns,
        start_ns=_ns(window.get("start_ns")),
        end_ns=end_ns,
        detail=mapping(item.get("detail")),
    )


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert's newest state, or one ledger row of its history (then ``action`` says what happened)."""

    id: str
    rule: str
    state: str
    severity: str
    cohort: dict[str, str]
    summary: str
    onset_ns: int
    since_ns: int
    at_ns: int
    devices: int
    evidence: dict[str, Any]
    page_url: str
    runbook_url: str
    action: str = ""
    note: str = ""

    @property
    def where(self) -> str:
        """Cohort in words; 'fleet' when it spans everything."""
        return cohort_label(self.cohort) or "fleet"


def alert_of(item: Json) -> Alert:
    """Read one item of ``/alerts`` or ``/alerts/history``."""
    detail = item.get("detail")
    note = detail if isinstance(detail, str) and not detail.startswith("{") else ""
    found = mapping(detail)
    at_ns = _ns(item.get("at_ns") or item.get("time_ns"))
    return Alert(
        id=str(item.get("id") or item.get("alert_id") or ""),
        rule=str(item.get("rule") or ""),
        state=str(item.get("state") or ""),
        severity=str(item.get("severity") or ""),
        cohort={str(k): str(v) for k, v in mapping(item.get("cohort")).items()},
        summary=str(item.get("summary") or ""),
        onset_ns=_ns(item.get("onset_ns")),
        since_ns=_ns(item.get("since_ns")),
        at_ns=at_ns or _ns(item.get("since_ns")),
        devices=_whole(item.get("devices")),
        evidence=mapping(item.get("evidence")),
        page_url=str(item.get("page_url") or ""),
        runbook_url=str(item.get("runbook_url") or ""),
        action=str(item.get("action") or ""),
        note=note or str(found.get("reason") or found.get("receiver") or found.get("error") or ""),
    )


@dataclass(frozen=True, slots=True)
class Device:
    """One device as the list shows it."""

    id: str
    first_ns: int
    last_ns: int
    completeness: float | None
    resource: dict[str, Any]
    clock_offset_ns: int = 0
    """What is added to the times of the newest boot; points and events come with the device's own."""

    def attribute(self, key: str) -> str:
        """Read a resource attribute as text, '' when the device does not say."""
        value = self.resource.get(key)
        return "" if value is None else str(value)


def device_of(item: Json) -> Device:
    """Read one item of ``/devices``."""
    return Device(
        id=str(item.get("device_id") or ""),
        first_ns=_ns(item.get("first_seen_ns")),
        last_ns=_ns(item.get("last_seen_ns")),
        completeness=real(item.get("completeness")),
        resource=mapping(item.get("resource")),
        clock_offset_ns=_ns(mapping(item.get("clock")).get("offset_ns")),
    )


def offsets_of(item: Json) -> dict[str, int]:
    """Read the clock offsets of one device by boot, ns, the newest first; boots whose clock is right are left out."""
    clocks = item.get("clocks")
    found = {str(row.get("boot_id")): _ns(row.get("offset_ns")) for row in map(mapping, clocks or ())}
    return {boot: offset_ns for boot, offset_ns in found.items() if offset_ns}


def raw_spans(from_ns: int, to_ns: int, offsets: Iterable[int]) -> list[tuple[int, int]]:
    """Return the spans of the device's own times, disjoint and in order, that a range can lie in under its offsets."""
    found: list[tuple[int, int]] = []
    for offset_ns in sorted({0, *offsets}, reverse=True):
        start, stop = from_ns - offset_ns, to_ns - offset_ns
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def on_event_time(
    items: Iterable[Mapping[str, Any]], offsets: Mapping[str, int], from_ns: int, to_ns: int
) -> tuple[Mapping[str, Any], ...]:
    """Return the points or events of a range, each with the offset of its own boot added; absent starts stay absent."""
    moved: list[Mapping[str, Any]] = []
    for item in items:
        resource = mapping(item.get("resource"))
        boot = resource.get(a.BOOT_ID) or resource.get(a.SERVICE_INSTANCE_ID)
        offset_ns = offsets.get(str(boot), 0)
        if from_ns <= _ns(item.get("time_ns")) + offset_ns < to_ns:
            times = {key: _ns(item[key]) + offset_ns for key in ("start_ns", "time_ns") if item.get(key)}
            moved.append({**item, **times} if offset_ns else item)
    return tuple(moved)


def current(rows: Iterable[Verdict]) -> list[Verdict]:
    """Drop what was not judged lately: the newest row of a retired version or firmware is not the present.

    A row counts when it is at most two hours older than the newest of its kind; silence rows are written on change only
    and always count.
    """
    found = list(rows)
    newest: dict[str, int] = {}
    for row in found:
        newest[row.kind] = max(newest.get(row.kind, 0), row.at_ns)
    return [row for row in found if row.kind == "silence" or row.at_ns >= newest[row.kind] - LATELY_NS]


def worst(rows: Iterable[Verdict]) -> list[Verdict]:
    """Sort by what needs a look first: bad, warn, none, ok; inside by distance from target."""
    order = {"bad": 0, "warn": 1, "none": 2, "ok": 3}

    def excess(row: Verdict) -> float:
        if row.value is None:
            return 0.0
        return abs(row.value - row.target) / abs(row.target) if row.target else abs(row.value)

    return sorted(rows, key=lambda row: (order[row.level], -excess(row)))

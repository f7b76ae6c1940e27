"""Sets injected faults beside the alerts that came: found or missed, how long it took, and which alerts were false.

Pure: alerts in the shape of the query API (``{"id", "rule", "cohort", "since_ns", ...}``) and a scenario in, rows out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from device_sdk.contract import attributes as a
from simulator.faults import EXPLAINS, Fault
from simulator.scenarios import HealthyCohort, Scenario, healthy_cohorts

AFTERMATH_NS: Final = 6 * 3_600_000_000_000
"""An alert that opens up to 6 h after a fault ended may still be about it (windows of judgement reach back)."""

SHORT: Final[Mapping[str, str]] = {
    a.TIER: "tier",
    a.FIRMWARE_VERSION: "firmware",
    a.RING: "ring",
    a.REGION: "region",
    a.MODEL_NAME: "model",
    a.MODEL_VERSION: "version",
}


@dataclass(frozen=True, slots=True)
class AlertFact:
    """What scoring needs of an alert.

    ``words`` is the lower-case text by which its kind is known; ``device_ids`` are those its evidence names, if any.
    """

    alert_id: str
    rule: str
    words: str
    cohort: Mapping[str, str]
    since_ns: int
    onset_ns: int
    devices: int
    device_ids: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """Return how tables name it."""
        where = ", ".join(f"{SHORT.get(key, key)} {value}" for key, value in sorted(self.cohort.items()))
        return f"{self.rule} ({where or 'whole fleet'})"


@dataclass(frozen=True, slots=True)
class FaultScore:
    """One injected fault and the alerts that are about it, earliest first."""

    fault: Fault
    alerts: tuple[AlertFact, ...]

    @property
    def found(self) -> bool:
        """Return whether at least one alert is about it."""
        return bool(self.alerts)

    @property
    def missed(self) -> bool:
        """Return whether it had to be found and was not."""
        return self.fault.required and not self.alerts

    @property
    def delay_ns(self) -> int | None:
        """Return the time from its onset to the first alert, or None."""
        return self.alerts[0].since_ns - self.fault.onset_ns if self.alerts else None


@dataclass(frozen=True, slots=True)
class CohortScore:
    """A healthy cohort and the false alerts about it."""

    cohort: HealthyCohort
    false_alerts: tuple[AlertFact, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """The whole comparison; ``false_alerts`` includes those about no healthy cohort (the fleet, a faulty cohort)."""

    faults: tuple[FaultScore, ...]
    cohorts: tuple[CohortScore, ...]
    false_alerts: tuple[AlertFact, ...]

    @property
    def passed(self) -> bool:
        """Return whether every required fault was found and no alert was false."""
        return not self.false_alerts and not any(score.missed for score in self.faults)


def _number(value: object, default: int = 0) -> int:
    if isinstance(value, bool):
        return default
    if isinstance(value, int | float):
        return int(value)
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else default


def alert_fact(item: Mapping[str, Any]) -> AlertFact:
    """Return the facts of one alert of ``/api/v1/alerts`` or ``/api/v1/alerts/history``.

    Model and version count as part of the cohort wherever the alert states them (cohort, evidence or top level).
    """
    raw_evidence = item.get("evidence")
    evidence: Mapping[str, Any] = raw_evidence if isinstance(raw_evidence, Mapping) else {}
    cohort = {str(key): str(value) for key, value in dict(item.get("cohort") or {}).items()}
    for source in (item, evidence):
        for short, full in (("model", a.MODEL_NAME), ("version", a.MODEL_VERSION)):
            if source.get(short) and full not in cohort:
                cohort[full] = str(source[short])
    names = [item.get("rule"), item.get("kind"), item.get("name")]
    names += [evidence.get(key) for key in ("kind", "name", "signal", "slo", "kpi")]
    raw_devices = item.get("devices")
    devices = len(raw_devices) if isinstance(raw_devices, list) else _number(raw_devices)
    since = _number(item.get("since_ns")) or _number(item.get("onset_ns"))
    return AlertFact(
        alert_id=str(item.get("id", "")),
        rule=str(item.get("rule", "")),
        words=" ".join(str(name) for name in names if name).lower(),
        cohort=cohort,
        since_ns=since,
        onset_ns=_number(item.get("onset_ns")),
        devices=devices,
        device_ids=frozenset(str(device) for device in evidence.get("device_ids") or ()),
    )


def covers(values: Mapping[str, frozenset[str]], cohort: Mapping[str, str]) -> bool:
    """Return whether a cohort is a group with these attribute values or encloses it; ``{}`` is the whole fleet."""
    return all(key not in values or value in values[key] for key, value in cohort.items())


def explains(fault: Fault, alert: AlertFact) -> bool:
    """Return whether ``alert`` can be the consequence of ``fault``: kind, place, time and a named device agree."""
    if not any(word in alert.words for word in EXPLAINS[fault.kind]):
        return False
    if not covers(fault.values, alert.cohort):
        return False
    if alert.device_ids and alert.device_ids.isdisjoint(fault.device_ids):
        return False
    ended = fault.end_ns is not None and alert.since_ns > fault.end_ns + AFTERMATH_NS
    return alert.since_ns >= fault.onset_ns and not ended


def explained(faults: Sequence[Fault], alert: AlertFact) -> bool:
    """Return whether faults explain an alert and most of the devices it names."""
    found = [fault for fault in faults if explains(fault, alert)]
    known = {device_id for fault in found for device_id in fault.device_ids}
    return bool(found) and 2 * len(alert.device_ids - known) <= len(alert.device_ids)


def _about(cohort: HealthyCohort, alert: AlertFact) -> bool:
    values = {
        a.TIER: frozenset({cohort.tier}),
        a.FIRMWARE_VERSION: frozenset({cohort.firmware}),
        a.MODEL_NAME: frozenset({cohort.model}),
        a.MODEL_VERSION: frozenset({cohort.version}),
    }
    return bool(alert.cohort) and covers(values, alert.cohort)


def score(scenario: Scenario, items: Sequence[Mapping[str, Any]]) -> Scores:
    """Compare the scenario's faults with alerts (firing or resolved; pending ones are left out by the caller).

    An alert about several faults (a fleet-wide row, or silence during both kinds) counts for each fault that explains
    it; one that no fault explains is false.
    """
    unique: dict[str, AlertFact] = {}
    for item in items:
        fact = alert_fact(item)
        kept = unique.get(fact.alert_id)
        if kept is None or fact.since_ns < kept.since_ns:
            unique[fact.alert_id] = fact
    alerts = sorted(unique.values(), key=lambda alert: (alert.since_ns, alert.alert_id))
    false = tuple(alert for alert in alerts if not explained(scenario.faults, alert))
    true = [alert for alert in alerts if alert not in false]
    return Scores(
        faults=tuple(
            FaultScore(fault, tuple(alert for alert in true if explains(fault, alert))) for fault in scenario.faults
        ),
        cohorts=tuple(
            CohortScore(cohort, tuple(alert for alert in false if _about(cohort, alert)))
            for cohort in healthy_cohorts(scenario)
        ),
        false_alerts=false,
    )

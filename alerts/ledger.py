"""Rows of ``alert_states`` and ``alert_ledger``, and the deterministic ids that make a second run harmless. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any


def digest(*parts: object) -> str:
    """Return 128 bits of blake2b over the parts as 32 hex digits."""
    text = json.dumps([str(part) for part in parts], separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def alert_id(rule: str, key: str, onset_ns: int) -> str:
    """Return the id of one stretch of trouble: the same rule, key and onset are the same alert."""
    return digest("alert", rule, key, onset_ns)


def entry_id(alert: str, action: str, at_ns: int, *distinct: object) -> str:
    """Return the id of a ledger entry; ``distinct`` tells entries of one instant apart (receiver, attempt)."""
    return digest("entry", alert, action, at_ns, *distinct)


def canonical(value: object) -> str:
    """Return JSON with sorted keys; NaN and infinities are refused, they are not JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One thing that happened, never changed afterwards. ``at_ns`` is event time; ``detail`` is JSON-able."""

    id: str
    alert: str
    at_ns: int
    action: str
    detail: Mapping[str, Any]

    def row(self, written_ns: int) -> dict[str, Any]:
        """Return the row of ``alert_ledger``."""
        return {
            "entry_id": self.id,
            "alert_id": self.alert,
            "at_ns": self.at_ns,
            "action": self.action,
            "detail": canonical(self.detail),
            "written_ns": written_ns,
        }


def entry(
    alert: str, action: str, at_ns: int, detail: Mapping[str, Any] | None = None, *distinct: object
) -> LedgerEntry:
    """Build a ledger entry with its deterministic id."""
    return LedgerEntry(entry_id(alert, action, at_ns, *distinct), alert, at_ns, action, detail or {})


@dataclass(frozen=True, slots=True)
class StateRow:
    """One row of ``alert_states``: an alert as it stands at ``at_ns``."""

    alert: str
    rule: str
    severity: str
    state: str
    at_ns: int
    onset_ns: int
    since_ns: int
    cohort: str
    summary: str
    devices: int
    evidence: Mapping[str, Any]
    page_url: str
    runbook_url: str

    def row(self, written_ns: int) -> dict[str, Any]:
        """Return the row of ``alert_states``."""
        return {
            "alert_id": self.alert,
            "rule": self.rule,
            "severity": self.severity,
            "state": self.state,
            "at_ns": self.at_ns,
            "onset_ns": self.onset_ns,
            "since_ns": self.since_ns,
            "cohort": self.cohort,
            "summary": self.summary,
            "devices": self.devices,
            "evidence": canonical(self.evidence),
            "page_url": self.page_url,
            "runbook_url": self.runbook_url,
            "written_ns": written_ns,
        }

"""What indicators, signals, SLOs, rules and ledger notes are called on a page. Pure."""

from __future__ import annotations

from typing import Final

from dashboards import formats
from dashboards.rows import Verdict

KPI_NAMES: Final = {
    "crash_free_time": "crash-free time",
    "crash_free_sessions": "crash-free sessions",
    "crash_free_devices": "crash-free devices",
    "latency_p95": "p95 latency",
    "inference_failure_rate": "inference failures",
    "telemetry_completeness": "completeness",
    "devices_reporting": "devices reporting",
    "crash_loop": "crash loops",
    "silent_devices": "silent devices",
}
NOTES: Final = {
    "history": "replayed history is not sent",
    "condition false": "its condition no longer holds",
    "same devices": "another alert has these devices",
    "more specific": "a more specific alert fires",
}
"""Why the ledger says something was not sent or ended -> the same for people."""


def signal_name(name: str) -> str:
    """Write a signal for people: "input:brightness" -> "brightness", "classes" -> "class mix"."""
    if name == "classes":
        return "class mix"
    return name.split(":", 1)[-1].replace("_", " ")


def kpi_name(name: str) -> str:
    """Write an indicator for people."""
    return KPI_NAMES.get(name, name.replace("_", " "))


def slo_name(row: Verdict) -> str:
    """Name an SLO with the model (and version) it is judged for, unless its own name says the model."""
    return f"{row.name} · {row.subject}" if row.version or row.model not in row.name else row.name


def rule_name(rule: str) -> str:
    """Write a rule for people: "slo_fast_burn_page" -> "SLO fast burn"; the chip beside it says page or ticket."""
    words = rule.removesuffix("_page").removesuffix("_ticket").replace("_", " ")
    return f"SLO{words[3:]}" if words.startswith("slo ") else words


def note_words(note: str) -> str:
    """Write why: "inhibited:crash_loop:<id>" -> "inhibited by crash loop"; ids are left out."""
    parts = [part.replace("_", " ") for part in note.split(":") if part and not (len(part) >= 16 and part.isalnum())]
    return NOTES.get(" ".join(parts), " by ".join(parts[:2]))


def budget_words(left: float) -> str:
    """Write what is left of a budget: "89.8 % left", "55 % over", "spent 48 times"."""
    if left > 0:
        return f"{formats.percent(left)} left"
    return f"{formats.percent(-left, 0)} over" if left > -1 else f"spent {1 - left:.0f} times"

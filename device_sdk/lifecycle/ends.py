"""The taxonomy of ends: how a session ended, as far as what it left behind tells, and the words of its events."""

from __future__ import annotations

from dataclasses import dataclass

from device_sdk.contract import attributes as a
from device_sdk.contract import events as e
from device_sdk.contract.attributes import EXPECTED_ENDS, EndReason
from device_sdk.contract.events import Event
from device_sdk.lifecycle.fatal import Fault
from device_sdk.lifecycle.inflight import Flight, Running
from device_sdk.lifecycle.mark import Vital
from device_sdk.points import EventAttributes
from device_sdk.spool import Priority


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the death of a session that could not tell of its end itself."""

    boot_changed: bool = False
    fault: Fault | None = None
    sigterm: bool = False
    memory_kill: bool = False
    watchdog_reset: bool = False
    update_took_effect: bool = False


def reason_of(declared: EndReason | None, evidence: Evidence) -> EndReason:
    """Return how a session ended, by the first of these that holds.

    What it declared, or the interpreter's hook saw. A fatal signal. An update that waited for the restart and is in
    effect. After another boot: the watchdog's own word, a SIGTERM (the machine was shut down in order), else power
    loss. In the same boot: an unhandled SIGTERM, a kill for lack of memory, else unknown.
    """
    if declared is not None:
        return declared
    if evidence.fault is not None:
        return EndReason.NATIVE_CRASH
    if evidence.update_took_effect:
        return EndReason.UPDATE
    if evidence.boot_changed:
        if evidence.watchdog_reset:
            return EndReason.WATCHDOG
        return EndReason.REBOOT if evidence.sigterm else EndReason.POWER_LOSS
    if evidence.sigterm:
        return EndReason.SIGTERM
    return EndReason.OOM_KILL if evidence.memory_kill else EndReason.UNKNOWN


def end_attributes(
    reason: EndReason, vital: Vital, flight: Flight | None, *, duration_ns: int, accuracy_ns: int
) -> EventAttributes:
    """Return the attributes of a ``session.end`` event."""
    attributes: EventAttributes = [
        (a.SESSION_END_REASON, str(reason)),
        (a.SESSION_END_EXPECTED, reason in EXPECTED_ENDS),
        (a.SESSION_DURATION, max(0, duration_ns) / 1e9),
        (a.SESSION_END_ACCURACY, accuracy_ns / 1e9),
    ]
    if vital.last_sequence >= 0:
        attributes.append((a.SESSION_LAST_SEQUENCE, vital.last_sequence))
    return attributes + inflight_attributes(reason, flight)


def inflight_attributes(reason: EndReason, flight: Flight | None) -> EventAttributes:
    """Return what was being inferred, nothing when nothing was.

    After an exception it is the run that raised it. Of several models at once it is the one with the most runs in
    flight; ``edge.inflight.runs`` counts the runs of all.
    """
    running = _blamed(reason, flight)
    if flight is None or running is None:
        return []
    attributes: EventAttributes = [
        (a.INFLIGHT_MODEL_NAME, running.model),
        (a.INFLIGHT_MODEL_VERSION, running.version),
        (a.INFLIGHT_RUNTIME, running.runtime),
    ]
    if running.provider:
        attributes.append((a.INFLIGHT_PROVIDER, running.provider))
    attributes.append((a.INFLIGHT_PHASE, str(running.phase)))
    attributes.append((a.INFLIGHT_RUNS, max(1, sum(one.runs for one in flight.running))))
    return attributes


def _blamed(reason: EndReason, flight: Flight | None) -> Running | None:
    if flight is None:
        return None
    if reason is EndReason.EXCEPTION:
        return flight.raised
    return max(flight.running, key=lambda one: one.runs, default=None)


def end_severity(reason: EndReason) -> int:
    """Return the severity of a ``session.end``: INFO when somebody asked for it, WARN otherwise."""
    return int(e.Severity.INFO if reason in EXPECTED_ENDS else e.Severity.WARN)


def is_crash(reason: EndReason) -> bool:
    """Say whether an end of this reason is also an ``app.crash``."""
    return reason in (EndReason.EXCEPTION, EndReason.NATIVE_CRASH)


def crash_attributes(crash_id: str, reason: EndReason, vital: Vital, flight: Flight | None) -> EventAttributes:
    """Return the attributes of an ``app.crash`` event: a type and a hash, never a message or a stack."""
    attributes: EventAttributes = [(a.CRASH_ID, crash_id)]
    if vital.exception_type:
        attributes.append(("exception.type", vital.exception_type))
    if vital.signature:
        attributes.append((a.CRASH_SIGNATURE, vital.signature))
    return attributes + inflight_attributes(reason, flight)


def priority_of(event: Event) -> Priority:
    """Return how much an event matters when room is short: ends and crashes most, then updates, then the rest."""
    if event in (e.SESSION_END, e.APP_CRASH):
        return Priority.CRASH
    return Priority.UPDATE if event.name.startswith("edge.update.") else Priority.HEALTH

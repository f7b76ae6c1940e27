"""The taxonomy of ends: how a session ended, as far as what it left behind tells, and the words of its events."""

from __future__ import annotations

from dataclasses import dataclass

from device_sdk.contract import attributes as a
from device_sdk.contract import events as e
from device_sdk.contract.attributes import EXPECTED_ENDS, EndReason
from device_sdk.lifecycle.mark import SessionHeader, Vital
from device_sdk.points import EventAttributes


@dataclass(frozen=True, slots=True)
class DeadSession:
    """The session before this one, as its mark left it, without a clean end."""

    header: SessionHeader
    vital: Vital

    def reason(self, boot_id: str) -> EndReason:
        """Return what is known of its end: declared or recorded, else the boot changed under it, else unknown."""
        if self.vital.end is not None:
            return self.vital.end
        return EndReason.POWER_LOSS if self.header.boot_id != boot_id else EndReason.UNKNOWN


def end_attributes(reason: EndReason, vital: Vital, *, duration_ns: int, accuracy_ns: int) -> EventAttributes:
    """Return the attributes of a ``session.end`` event."""
    attributes: EventAttributes = [
        (a.SESSION_END_REASON, str(reason)),
        (a.SESSION_END_EXPECTED, reason in EXPECTED_ENDS),
        (a.SESSION_DURATION, max(0, duration_ns) / 1e9),
        (a.SESSION_END_ACCURACY, accuracy_ns / 1e9),
    ]
    if vital.last_sequence >= 0:
        attributes.append((a.SESSION_LAST_SEQUENCE, vital.last_sequence))
    return attributes


def end_severity(reason: EndReason) -> int:
    """Return the severity of a ``session.end``: INFO when somebody asked for it, WARN otherwise."""
    return int(e.Severity.INFO if reason in EXPECTED_ENDS else e.Severity.WARN)


def is_crash(reason: EndReason) -> bool:
    """Say whether an end of this reason is also an ``app.crash``."""
    return reason in (EndReason.EXCEPTION, EndReason.NATIVE_CRASH)


def crash_attributes(crash_id: str, vital: Vital) -> EventAttributes:
    """Return the attributes of an ``app.crash`` event: a type and a hash, never a message or a stack."""
    attributes: EventAttributes = [(a.CRASH_ID, crash_id)]
    if vital.exception_type:
        attributes.append(("exception.type", vital.exception_type))
    if vital.signature:
        attributes.append((a.CRASH_SIGNATURE, vital.signature))
    return attributes

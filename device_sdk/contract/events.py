"""Every event of the wire contract (OTLP log records with an ``event_name``)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from device_sdk.contract import attributes as a


class Severity(IntEnum):
    """OpenTelemetry severity numbers in use."""

    INFO = 9
    WARN = 13
    ERROR = 17
    FATAL = 21


COMMON_KEYS: Final = (a.LOG_RECORD_UID, a.EVENT_SEQUENCE, a.SESSION_ID)
"""Attributes of every event; ``log.record.uid`` is ``<service.instance.id>:<event sequence>`` and its dedup key."""

INFLIGHT_KEYS: Final = (
    a.INFLIGHT_MODEL_NAME,
    a.INFLIGHT_MODEL_VERSION,
    a.INFLIGHT_RUNTIME,
    a.INFLIGHT_PROVIDER,
    a.INFLIGHT_PHASE,
)
"""The in-flight mark: what the process was inferring when it ended."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event type: its name, default severity, and attributes beside ``COMMON_KEYS``."""

    name: str
    severity: Severity
    attributes: tuple[str, ...]
    meaning: str
    reserved: bool = False


SESSION_START: Final = Event(
    "session.start", Severity.INFO, (a.SESSION_PREVIOUS_ID, a.BOOT_SEQUENCE, a.BOOT_REASON),
    "A process began to be observed.",
)  # fmt: skip
SESSION_END: Final = Event(
    "session.end", Severity.INFO,
    (a.SESSION_END_REASON, a.SESSION_END_EXPECTED, a.SESSION_DURATION, a.SESSION_END_ACCURACY, a.SESSION_LAST_SEQUENCE,
     *INFLIGHT_KEYS),
    "A session ended; told by itself or found by the next one. The event's time is the last sign of life.",
)  # fmt: skip
APP_CRASH: Final = Event(
    "app.crash", Severity.FATAL, (a.CRASH_ID, "exception.type", a.CRASH_SIGNATURE, *INFLIGHT_KEYS),
    "A programming error or signal ended the session; no message, no stack, only a scrubbed signature.",
)  # fmt: skip
UPDATE_STARTED: Final = Event(
    "edge.update.started", Severity.INFO, (a.UPDATE_ID, a.UPDATE_TARGET, a.UPDATE_FROM, a.UPDATE_TO),
    "An update of firmware, app, model, runtime or settings began.", reserved=True,
)  # fmt: skip
MODEL_LOADED: Final = Event(
    "edge.model.loaded", Severity.INFO, (*a.RUN_KEYS, a.PROVIDER_REQUESTED),
    "A session was made ready.",
)  # fmt: skip

EVENTS: Final[tuple[Event, ...]] = (SESSION_START, SESSION_END, APP_CRASH, UPDATE_STARTED, MODEL_LOADED)

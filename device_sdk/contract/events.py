"""Every event of the wire contract (OTLP log records with an ``event_name``)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
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
    a.INFLIGHT_RUNS,
)
"""The in-flight mark: what the process was inferring when it ended."""


class InflightPhase(StrEnum):
    """What a model was doing when its process ended: being loaded, its first run, or a later one."""

    LOAD = "load"
    FIRST = "first"
    STEADY = "steady"


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
_UPDATE_KEYS: Final = (
    a.UPDATE_ID, a.UPDATE_TARGET, a.UPDATE_FROM, a.UPDATE_TO, a.UPDATE_PHASE, a.ARTIFACT_HASH, a.DEPLOYMENT_ID,
    a.MODEL_NAME, a.RUNTIME_NAME,
)  # fmt: skip
_UPDATE_END_KEYS: Final = (*_UPDATE_KEYS, a.UPDATE_DURATION, a.DEPLOYMENT_STATUS, a.ERROR_TYPE)
UPDATE_STARTED: Final = Event(
    "edge.update.started", Severity.INFO, _UPDATE_KEYS,
    "An update of firmware, app, model, runtime or settings began.",
)  # fmt: skip
UPDATE_SUCCEEDED: Final = Event(
    "edge.update.succeeded", Severity.INFO, _UPDATE_END_KEYS, "The device runs the new version.",
)  # fmt: skip
UPDATE_FAILED: Final = Event(
    "edge.update.failed", Severity.ERROR, _UPDATE_END_KEYS, "The update did not come to its end.",
)  # fmt: skip
UPDATE_ROLLED_BACK: Final = Event(
    "edge.update.rolled_back", Severity.WARN, _UPDATE_END_KEYS,
    "The device runs the version before the update again.",
)  # fmt: skip
MODEL_LOADED: Final = Event(
    "edge.model.loaded", Severity.INFO, (*a.RUN_KEYS, a.PROVIDER_REQUESTED, a.PROVIDER_NODES, a.ARTIFACT_HASH),
    "A session was made ready; WARN when nodes fell back from the provider that was asked for.",
)  # fmt: skip
SELFTEST_COMPLETED: Final = Event(
    "edge.selftest.completed", Severity.INFO,
    (*a.RUN_KEYS, a.SELFTEST_TRIGGER, a.TEST_CASE, a.TEST_STATUS, a.SELFTEST_MAX_ABS, a.SELFTEST_MAX_REL,
     a.SELFTEST_COSINE, a.SELFTEST_TOP1, a.SELFTEST_CLASS_AGREEMENT, a.SELFTEST_TASK_METRIC, a.SELFTEST_TASK_VALUE,
     a.SELFTEST_WAIVER, a.ERROR_TYPE),
    "One output was compared with the golden one (test.case.name is the output); ERROR when it failed unwaived.",
)  # fmt: skip
SETTINGS_APPLIED: Final = Event(
    "edge.settings.applied", Severity.INFO,
    (a.SETTINGS_ID, a.SETTINGS_VERSION, a.SETTINGS_SOURCE, a.SETTINGS_REFUSED, a.WINDOW_LENGTH, a.SIGNAL_LEVEL,
     a.SAMPLE_EVERY, a.PRIVACY_ENABLED, a.PRIVACY_MIN_COUNT, a.PRIVACY_CLIP, a.PRIVACY_ROTATION, a.PRIVACY_EPSILON),
    "The settings that windows are made under from here on; WARN when a part was refused.",
)  # fmt: skip
FLAG_EVALUATION: Final = Event(
    "feature_flag.evaluation", Severity.INFO, (a.FLAG_KEY, a.FLAG_VARIANT, a.FLAG_PROVIDER),
    "A feature flag took another value; sent on change only.",
)  # fmt: skip

EVENTS: Final[tuple[Event, ...]] = (
    SESSION_START, SESSION_END, APP_CRASH, UPDATE_STARTED, UPDATE_SUCCEEDED, UPDATE_FAILED, UPDATE_ROLLED_BACK,
    MODEL_LOADED, SELFTEST_COMPLETED, SETTINGS_APPLIED, FLAG_EVALUATION,
)  # fmt: skip

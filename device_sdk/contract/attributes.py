"""Attribute keys and closed vocabularies of the wire.

Every key that OpenTelemetry's semantic conventions already have is used as it is; own keys live under ``ROOT``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

ROOT: Final = "edge."
"""Prefix of every own metric, attribute and event name."""

# --- resource: identity -----------------------------------------------------------------------------------------
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
INSTALLATION_ID: Final = "app.installation.id"
BUILD_ID: Final = "app.build_id"
DEVICE_ID: Final = "device.id"
BOOT_ID: Final = "edge.boot.id"
SETTINGS_ID: Final = "edge.settings.id"
DEVICE_ID_KEYS: Final = (DEVICE_ID, INSTALLATION_ID, SERVICE_INSTANCE_ID)
"""The server's ``device_id`` is the first of these that a resource carries."""

# --- resource: what the device is -------------------------------------------------------------------------------
TIER: Final = "edge.device.tier"
CHIPSET: Final = "edge.device.chipset"
REGION: Final = "edge.region"
SITE: Final = "edge.site"
RING: Final = "edge.rollout.ring"
FIRMWARE_VERSION: Final = "edge.firmware.version"
FLAGS: Final = "edge.flags"
LABEL_PREFIX: Final = "edge.label."
LABEL_COUNT_MAX: Final = 8
LABEL_LENGTH_MAX: Final = 64
ENVIRONMENT: Final = "deployment.environment.name"

COHORT_KEYS: Final = (TIER, CHIPSET, REGION, SITE, RING, FIRMWARE_VERSION, SERVICE_NAME, SERVICE_VERSION, ENVIRONMENT)
"""The operator's dimensions: with the labels they are the cohort that roll-ups key on."""

RESOURCE_KEYS: Final = frozenset(
    {
        SERVICE_NAME, SERVICE_VERSION, SERVICE_NAMESPACE, SERVICE_INSTANCE_ID, INSTALLATION_ID, BUILD_ID, DEVICE_ID,
        BOOT_ID, SETTINGS_ID, TIER, CHIPSET, REGION, SITE, RING, FIRMWARE_VERSION, FLAGS, ENVIRONMENT,
        "telemetry.sdk.name", "telemetry.sdk.language", "telemetry.sdk.version",
        "telemetry.distro.name", "telemetry.distro.version",
        "os.type", "os.name", "os.version", "os.build_id", "host.arch",
        "device.manufacturer", "device.model.identifier", "device.model.name",
    }
)  # fmt: skip
"""Every resource attribute a device of this contract may send, labels apart; the SDK drops and counts any other."""

# --- points -----------------------------------------------------------------------------------------------------
MODEL_NAME: Final = "edge.model.name"
MODEL_VERSION: Final = "edge.model.version"
RUNTIME_NAME: Final = "edge.runtime.name"
RUNTIME_VERSION: Final = "edge.runtime.version"
PROVIDER_NAME: Final = "edge.provider.name"
PROVIDER_REQUESTED: Final = "edge.provider.requested"
INFERENCE_PHASE: Final = "edge.inference.phase"
INFERENCE_ROUTE: Final = "edge.inference.route"
ERROR_TYPE: Final = "error.type"
UNSUPPORTED_OPERATOR: Final = "edge.unsupported_operator"
LOAD_STAGE: Final = "edge.model.load.stage"
LOAD_CACHED: Final = "edge.model.load.cached"
FEATURE_NAME: Final = "edge.feature.name"
FEATURE_STATE: Final = "edge.feature.state"
FEATURE_GRID: Final = "edge.feature.grid"
OUTPUT_NAME: Final = "edge.output.name"
CLASS_NAME: Final = "edge.class.name"
SESSION_END_REASON: Final = "edge.session.end.reason"
SESSION_END_EXPECTED: Final = "edge.session.end.expected"
SPOOL_MEDIUM: Final = "edge.spool.medium"
LOSS_REASON: Final = "edge.loss.reason"
EXPORT_KIND: Final = "edge.export.kind"
SDK_ACTIVITY: Final = "edge.sdk.activity"
CLOCK_SOURCE: Final = "edge.clock.source"
PRIVACY_REASON: Final = "edge.privacy.reason"
STARTUP_FROM: Final = "edge.startup.from"
OVERFLOW: Final = "otel.metric.overflow"

OTHER: Final = "_OTHER"
"""The value that stands for whatever is outside a closed vocabulary (OpenTelemetry's fallback word)."""

MODEL_KEYS: Final = (MODEL_NAME, MODEL_VERSION)
RUN_KEYS: Final = (MODEL_NAME, MODEL_VERSION, RUNTIME_NAME, RUNTIME_VERSION, PROVIDER_NAME)

# --- events -----------------------------------------------------------------------------------------------------
SESSION_ID: Final = "session.id"
SESSION_PREVIOUS_ID: Final = "session.previous_id"
SESSION_DURATION: Final = "edge.session.duration"
SESSION_END_ACCURACY: Final = "edge.session.end.accuracy"
SESSION_LAST_SEQUENCE: Final = "edge.session.last_sequence"
BOOT_SEQUENCE: Final = "edge.boot.sequence"
BOOT_REASON: Final = "edge.boot.reason"
EVENT_SEQUENCE: Final = "edge.event.sequence"
LOG_RECORD_UID: Final = "log.record.uid"
CRASH_ID: Final = "app.crash.id"
CRASH_SIGNATURE: Final = "edge.crash.signature"
INFLIGHT_MODEL_NAME: Final = "edge.inflight.model.name"
INFLIGHT_MODEL_VERSION: Final = "edge.inflight.model.version"
INFLIGHT_RUNTIME: Final = "edge.inflight.runtime.name"
INFLIGHT_PROVIDER: Final = "edge.inflight.provider.name"
INFLIGHT_PHASE: Final = "edge.inflight.phase"
UPDATE_TARGET: Final = "edge.update.target"
UPDATE_FROM: Final = "edge.update.from_version"
UPDATE_TO: Final = "edge.update.to_version"
UPDATE_ID: Final = "edge.update.id"


class ErrorType(StrEnum):
    """Why an inference failed (``error.type``)."""

    LOAD_FAILED = "load_failed"
    UNSUPPORTED_OPERATOR = "unsupported_operator"
    SHAPE_MISMATCH = "shape_mismatch"
    TYPE_MISMATCH = "type_mismatch"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    NAN_OUTPUT = "nan_output"
    EMPTY_OUTPUT = "empty_output"
    PROVIDER_FAILED = "provider_failed"
    CANCELLED = "cancelled"
    OTHER = OTHER


class Phase(StrEnum):
    """Whether a run was the session's first (it pays for lazy set-up) or a later one."""

    FIRST = "first"
    STEADY = "steady"


class Route(StrEnum):
    """Where a sample was answered."""

    DEVICE = "device"
    GATEWAY = "gateway"
    CLOUD = "cloud"
    FALLBACK = "fallback"


class FeatureState(StrEnum):
    """What became of one observation of an input feature."""

    OK = "ok"
    MISSING = "missing"
    NAN = "nan"
    INFINITE = "infinite"
    BELOW_RANGE = "below_range"
    ABOVE_RANGE = "above_range"
    UNSEEN = "unseen"


class EndReason(StrEnum):
    """How a session ended; see ``EXPECTED_ENDS`` for which of them count against stability."""

    EXIT = "exit"
    SIGTERM = "sigterm"
    UPDATE = "update"
    REBOOT = "reboot"
    LOW_POWER = "low_power"
    EXCEPTION = "exception"
    NATIVE_CRASH = "native_crash"
    OOM_KILL = "oom_kill"
    WATCHDOG = "watchdog"
    POWER_LOSS = "power_loss"
    UNKNOWN = "unknown"


EXPECTED_ENDS: Final = frozenset(
    {EndReason.EXIT, EndReason.SIGTERM, EndReason.UPDATE, EndReason.REBOOT, EndReason.LOW_POWER}
)
"""Ends that somebody asked for: they never count as a crash."""


class LossReason(StrEnum):
    """Why something measured did not reach the collector; the loss ledger counts by these."""

    CAPACITY = "capacity"
    AGE = "age"
    CORRUPT = "corrupt"
    REJECTED = "rejected"
    CARDINALITY = "cardinality"
    PRIVACY = "privacy"
    RING_OVERRUN = "ring_overrun"
    SHUTDOWN = "shutdown"


class ClockSource(StrEnum):
    """Who sets the device's wall clock; the server trusts the offset of ``ntp``."""

    NTP = "ntp"
    RTC = "rtc"
    MANUAL = "manual"
    NONE = "none"

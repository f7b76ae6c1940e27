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
IDENTITY_ROTATION: Final = "edge.identity.rotation"
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
DEVICE_MANUFACTURER: Final = "device.manufacturer"
DEVICE_MODEL: Final = "device.model.identifier"
LABEL_PREFIX: Final = "edge.label."
LABEL_COUNT_MAX: Final = 8
LABEL_LENGTH_MAX: Final = 64
ENVIRONMENT: Final = "deployment.environment.name"

COHORT_KEYS: Final = (TIER, CHIPSET, REGION, SITE, RING, FIRMWARE_VERSION, SERVICE_NAME, SERVICE_VERSION, ENVIRONMENT)
"""The operator's dimensions: with the labels they are the cohort that roll-ups key on."""

RESOURCE_KEYS: Final = frozenset(
    {
        SERVICE_NAME, SERVICE_VERSION, SERVICE_NAMESPACE, SERVICE_INSTANCE_ID, INSTALLATION_ID, BUILD_ID, DEVICE_ID,
        BOOT_ID, SETTINGS_ID, IDENTITY_ROTATION, TIER, CHIPSET, REGION, SITE, RING, FIRMWARE_VERSION, FLAGS,
        ENVIRONMENT,
        "telemetry.sdk.name", "telemetry.sdk.language", "telemetry.sdk.version",
        "telemetry.distro.name", "telemetry.distro.version",
        "os.type", "os.name", "os.version", "os.build_id", "host.arch",
        DEVICE_MANUFACTURER, DEVICE_MODEL, "device.model.name",
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
FEATURE_CATEGORY: Final = "edge.feature.category"
OUTPUT_OUTCOME: Final = "edge.output.outcome"
ENERGY_SOURCE: Final = "edge.energy.source"
PIPELINE_STAGE: Final = "edge.pipeline.stage"
SELFTEST_TRIGGER: Final = "edge.selftest.trigger"
TEST_STATUS: Final = "test.case.result.status"
THROTTLE_CAUSE: Final = "edge.throttle.cause"
BUDGET_NAME: Final = "edge.budget.name"
BUDGET_STATE: Final = "edge.budget.state"
SDK_LEVEL: Final = "edge.sdk.level"
PRIVACY_MECHANISM: Final = "edge.privacy.mechanism"
PRIVACY_EPSILON: Final = "edge.privacy.epsilon"
PRIVACY_CATEGORIES: Final = "edge.privacy.categories"
CPU_MODE: Final = "cpu.mode"
HW_ID: Final = "hw.id"
HW_TYPE: Final = "hw.type"
HW_LIMIT_TYPE: Final = "hw.limit_type"
DISK_IO_DIRECTION: Final = "disk.io.direction"
FILESYSTEM_STATE: Final = "system.filesystem.state"
OVERFLOW: Final = "otel.metric.overflow"
RANDOMISED_KEYS: Final = (PRIVACY_MECHANISM, PRIVACY_EPSILON, PRIVACY_CATEGORIES)
"""Attributes of a point whose counts were randomised on the device, beside those of its metric."""

VALUE_LENGTH_MAX: Final = 128
"""Most characters of a text value; labels have at most ``LABEL_LENGTH_MAX``."""
LIST_LENGTH_MAX: Final = 64
"""Most members of an event's list of texts."""
SERIES_MAX: Final = 1500
"""Most series of one process over all metrics; each metric has its own bound besides."""

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
INFLIGHT_RUNS: Final = "edge.inflight.runs"
UPDATE_TARGET: Final = "edge.update.target"
UPDATE_FROM: Final = "edge.update.from_version"
UPDATE_TO: Final = "edge.update.to_version"
UPDATE_ID: Final = "edge.update.id"
UPDATE_PHASE: Final = "edge.update.phase"
UPDATE_DURATION: Final = "edge.update.duration"
ARTIFACT_HASH: Final = "artifact.hash"
DEPLOYMENT_ID: Final = "deployment.id"
DEPLOYMENT_STATUS: Final = "deployment.status"
PROVIDER_NODES: Final = "edge.provider.nodes"
TEST_CASE: Final = "test.case.name"
SELFTEST_MAX_ABS: Final = "edge.selftest.max_abs"
SELFTEST_MAX_REL: Final = "edge.selftest.max_rel"
SELFTEST_COSINE: Final = "edge.selftest.cosine"
SELFTEST_TOP1: Final = "edge.selftest.top1"
SELFTEST_CLASS_AGREEMENT: Final = "edge.selftest.class_agreement"
SELFTEST_TASK_METRIC: Final = "edge.selftest.task_metric"
SELFTEST_TASK_VALUE: Final = "edge.selftest.task_value"
SELFTEST_WAIVER: Final = "edge.selftest.waiver"
SETTINGS_VERSION: Final = "edge.settings.version"
SETTINGS_SOURCE: Final = "edge.settings.source"
SETTINGS_REFUSED: Final = "edge.settings.refused"
WINDOW_LENGTH: Final = "edge.window.length"
SIGNAL_LEVEL: Final = "edge.signal.level"
SAMPLE_EVERY: Final = "edge.signal.sample_every"
PRIVACY_ENABLED: Final = "edge.privacy.enabled"
PRIVACY_MIN_COUNT: Final = "edge.privacy.min_count"
PRIVACY_CLIP: Final = "edge.privacy.clip"
PRIVACY_ROTATION: Final = "edge.privacy.rotation"
FLAG_KEY: Final = "feature_flag.key"
FLAG_VARIANT: Final = "feature_flag.result.variant"
FLAG_PROVIDER: Final = "feature_flag.provider.name"


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


class SignalLevel(StrEnum):
    """How much is looked at: ``off`` counts and times runs only, ``outputs`` adds outputs, ``full`` input features."""

    OFF = "off"
    OUTPUTS = "outputs"
    FULL = "full"


class SdkLevel(StrEnum):
    """A step that the SDK takes when it costs more than its budget: fewer tensors are looked at, never fewer counts.

    ``thinned``: those of a quarter of the runs that would be; ``sparse``: of one in 32 of them; ``outputs``: as sparse,
    and no input features; ``off``: none.
    """

    THINNED = "thinned"
    SPARSE = "sparse"
    OUTPUTS = "outputs"
    OFF = "off"


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


class LoadStage(StrEnum):
    """A disjoint part of making a session ready."""

    CREATE = "create"
    READ = "read"
    COMPILE = "compile"
    WARM_UP = "warm_up"


class StartupFrom(StrEnum):
    """What a start-up time is counted from."""

    BOOT = "boot"
    PROCESS = "process"


class PipelineStage(StrEnum):
    """A stage of an end-to-end answer; ``total`` is the whole of it."""

    PRE = "pre"
    RUN = "run"
    POST = "post"
    TOTAL = "total"


class Outcome(StrEnum):
    """Whether a labelled answer was right."""

    CORRECT = "correct"
    INCORRECT = "incorrect"


class EnergySource(StrEnum):
    """Where an energy reading comes from."""

    RAPL = "rapl"
    INA3221 = "ina3221"
    HWMON = "hwmon"
    BATTERY = "battery"


class SelftestTrigger(StrEnum):
    """Why a golden self-test ran."""

    LOAD = "load"
    UPDATE = "update"
    SCHEDULE = "schedule"
    MANUAL = "manual"


class CaseStatus(StrEnum):
    """Result words of OpenTelemetry's ``test.case.result.status``."""

    PASS = "pass"  # noqa: S105 - a result, not a secret
    FAIL = "fail"


class ThrottleCause(StrEnum):
    """Why the hardware ran below its speed."""

    THERMAL = "thermal"
    POWER = "power"
    UNDERVOLTAGE = "undervoltage"
    OTHER = "other"


class BudgetName(StrEnum):
    """A resource that an operator may declare a budget for."""

    CPU = "cpu"
    MEMORY = "memory"
    TEMPERATURE = "temperature"
    POWER = "power"
    LATENCY = "latency"


class BudgetState(StrEnum):
    """Whether a declared budget was kept."""

    WITHIN = "within"
    OVER = "over"


class PrivacyReason(StrEnum):
    """Why something was kept on the device; ``wrong_type`` is a value of another kind than the contract's row."""

    UNKNOWN_NAME = "unknown_name"
    UNKNOWN_ATTRIBUTE = "unknown_attribute"
    FREE_TEXT = "free_text"
    WRONG_TYPE = "wrong_type"
    OVER_CLIP = "over_clip"


class UpdateTarget(StrEnum):
    """What an update replaces."""

    FIRMWARE = "firmware"
    APP = "app"
    MODEL = "model"
    RUNTIME = "runtime"
    SETTINGS = "settings"


class UpdatePhase(StrEnum):
    """How far an update came."""

    DOWNLOAD = "download"
    VERIFY = "verify"
    INSTALL = "install"
    BOOT = "boot"
    SELFTEST = "selftest"

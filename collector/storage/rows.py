"""Arrow schemas of everything that crosses a process or a seam: segment tables, verdicts, alerts.

The SQL of the same tables is in ``migrations/``; a test holds the two against each other.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

ID: Final = pa.binary(16)
COUNTS: Final = pa.list_(pa.int64())
REALS: Final = pa.list_(pa.float64())
NS: Final = pa.int64()


def _schema(*fields: tuple[str, pa.DataType], nullable: tuple[str, ...] = ()) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=name in nullable) for name, kind in fields])


SERIES: Final = _schema(
    ("series", ID), ("metric", pa.string()), ("kind", pa.string()), ("unit", pa.string()),
    ("temporality", pa.string()), ("monotonic", pa.bool_()), ("scope_name", pa.string()),
    ("scope_version", pa.string()), ("attributes", pa.string()), ("bounds", REALS),
    ("model", pa.string()), ("version", pa.string()),
    nullable=("temporality", "monotonic"),
)  # fmt: skip
RESOURCES: Final = _schema(("resource", ID), ("attributes", pa.string()))
COHORTS: Final = _schema(
    ("cohort", ID), ("attributes", pa.string()), ("tier", pa.string()), ("region", pa.string()),
    ("ring", pa.string()), ("firmware", pa.string()),
)  # fmt: skip
STREAMS: Final = _schema(
    ("stream", ID), ("device_id", pa.string()), ("instance_id", pa.string()), ("boot_id", pa.string()),
    ("resource", ID), ("cohort", ID), ("first_received_ns", NS),
)  # fmt: skip
POINTS: Final = _schema(
    ("stream", ID), ("series", ID), ("resource", ID), ("cohort", ID),
    ("start_ns", NS), ("time_ns", NS), ("received_ns", NS), ("no_recorded_value", pa.bool_()),
    ("value_int", pa.int64()), ("value_double", pa.float64()),
    ("count", pa.int64()), ("sum", pa.float64()), ("min", pa.float64()), ("max", pa.float64()),
    ("scale", pa.int16()), ("zero_count", pa.int64()), ("zero_threshold", pa.float64()),
    ("positive_offset", pa.int32()), ("positive_counts", COUNTS),
    ("negative_offset", pa.int32()), ("negative_counts", COUNTS),
    ("counts", COUNTS), ("quantiles", REALS), ("quantile_values", REALS),
    nullable=("value_int", "value_double", "count", "sum", "min", "max", "scale", "zero_count", "zero_threshold",
              "positive_offset", "negative_offset"),
)  # fmt: skip
WINDOWS: Final = _schema(
    ("stream", ID), ("start_ns", NS), ("time_ns", NS), ("received_ns", NS),
    ("sequence", pa.int64()), ("window_count", pa.int64()), ("window_points", pa.int64()),
    nullable=("sequence", "window_count", "window_points"),
)  # fmt: skip
LOGS: Final = _schema(
    ("uid", pa.string()), ("stream", ID), ("resource", ID), ("cohort", ID),
    ("time_ns", NS), ("observed_ns", NS), ("received_ns", NS), ("event_name", pa.string()),
    ("severity_number", pa.int32()), ("severity_text", pa.string()), ("body", pa.string()),
    ("trace_id", pa.string()), ("span_id", pa.string()), ("attributes", pa.string()),
)  # fmt: skip

SEGMENT_TABLES: Final[dict[str, pa.Schema]] = {
    "series": SERIES,
    "resources": RESOURCES,
    "cohorts": COHORTS,
    "streams": STREAMS,
    "windows": WINDOWS,
    "points": POINTS,
    "logs": LOGS,
}
"""Tables of a segment, in the order in which a store writes them. A segment holds every dictionary row it uses."""

VERDICTS: Final = _schema(
    ("kind", pa.string()), ("at_ns", NS), ("key", pa.string()), ("name", pa.string()),
    ("model", pa.string()), ("version", pa.string()), ("cohort", pa.string()),
    ("value", pa.float64()), ("low", pa.float64()), ("high", pa.float64()),
    ("n", pa.float64()), ("devices", pa.int64()), ("target", pa.float64()),
    ("verdict", pa.string()), ("reason", pa.string()), ("completeness", pa.float64()),
    ("window_start_ns", NS), ("window_end_ns", NS), ("detail", pa.string()), ("written_ns", NS),
    nullable=("value", "low", "high", "target", "completeness"),
)  # fmt: skip
BASELINES: Final = _schema(
    ("baseline_id", pa.string()), ("model", pa.string()), ("version", pa.string()), ("source", pa.string()),
    ("window_start_ns", NS), ("window_end_ns", NS), ("detail", pa.string()), ("written_ns", NS),
)  # fmt: skip
BASELINE_DEVICES: Final = _schema(
    ("baseline_id", pa.string()), ("device_id", pa.string()), ("cohort", pa.string()), ("signal", pa.string()),
    ("hour_of_day", pa.int16()), ("hours", pa.int64()), ("n", pa.int64()), ("mean", pa.float64()), ("counts", COUNTS),
)  # fmt: skip
BASELINE_BINS: Final = _schema(
    ("baseline_id", pa.string()), ("signal", pa.string()), ("kind", pa.string()), ("edges", REALS),
    ("labels", pa.list_(pa.string())), ("counts", COUNTS), ("center", pa.float64()), ("spread", pa.float64()),
    ("detail", pa.string()),
)  # fmt: skip
ALERT_STATES: Final = _schema(
    ("alert_id", pa.string()), ("rule", pa.string()), ("severity", pa.string()), ("state", pa.string()),
    ("at_ns", NS), ("onset_ns", NS), ("since_ns", NS), ("cohort", pa.string()), ("summary", pa.string()),
    ("devices", pa.int64()), ("evidence", pa.string()), ("page_url", pa.string()), ("runbook_url", pa.string()),
    ("written_ns", NS),
)  # fmt: skip
ALERT_LEDGER: Final = _schema(
    ("entry_id", pa.string()), ("alert_id", pa.string()), ("at_ns", NS), ("action", pa.string()),
    ("detail", pa.string()), ("written_ns", NS),
)  # fmt: skip
SETTINGS: Final = _schema(
    ("selector", pa.string()), ("document", pa.string()), ("document_id", pa.string()), ("written_ns", NS),
)  # fmt: skip
JOB_RUNS: Final = _schema(
    ("job", pa.string()), ("from_ns", NS), ("until_ns", NS), ("started_ns", NS), ("duration_ns", NS),
    ("rows_written", pa.int64()), ("outcome", pa.string()), ("detail", pa.string()),
)  # fmt: skip

APPEND_TABLES: Final[dict[str, pa.Schema]] = {
    "verdicts": VERDICTS,
    "baselines": BASELINES,
    "baseline_devices": BASELINE_DEVICES,
    "baseline_bins": BASELINE_BINS,
    "alert_states": ALERT_STATES,
    "alert_ledger": ALERT_LEDGER,
    "job_runs": JOB_RUNS,
    "settings": SETTINGS,
}
"""Tables that jobs and alerts append to through ``Store.append``."""

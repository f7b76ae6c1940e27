"""KPIs: failures, completeness by sequence numbers, devices reporting."""

from __future__ import annotations

import pyarrow as pa
import pytest
from judgement_kit import DAY, HOUR, MINUTE, T0, Batch, Clock, Device, fleet, opened, rows_of

from analytics import kpi_job
from analytics.options import AnalyticsOptions
from analytics.slis import roll_up
from analytics.targets import Target, load_targets

OPTIONS = AnalyticsOptions()
TARGETS = load_targets(OPTIONS)
SEQUENCES = pa.schema(
    [("device_id", pa.string()), ("stream", pa.string()), ("tier", pa.string()), ("time_ns", pa.int64()),
     ("sequence", pa.int64()), ("window_count", pa.int64())]
)  # fmt: skip
RUNS = pa.schema(
    [("hour_ns", pa.int64()), ("device_id", pa.string()), ("tier", pa.string()), ("model", pa.string()),
     ("version", pa.string()), ("attributes", pa.string()), ("count", pa.int64())]
)  # fmt: skip
HEARD = pa.schema([("device_id", pa.string()), ("tier", pa.string()), ("hour_ns", pa.int64())])


def table(schema: pa.Schema, rows: list[tuple]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [[] for _ in schema]
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)], schema=schema)


def judged(runs=(), sequences=(), heard=(), instants=(T0 + DAY,), targets=TARGETS):
    return kpi_job.compute(
        table(RUNS, list(runs)), table(SEQUENCES, list(sequences)), table(HEARD, list(heard)), list(instants), OPTIONS,
        targets, 1,
    )  # fmt: skip


def test_failed_runs_over_all_runs_by_class_and_version():
    runs = [
        (T0 + 20 * HOUR, f"d{i}", "hub" if i % 2 else "cam", "digits", str(i % 2), '{"edge.model.name":"digits"}', 990)
        for i in range(10)
    ]
    runs += [
        (T0 + 20 * HOUR, f"d{i}", "hub", "digits", "1", '{"edge.model.name":"digits","error.type":"timeout"}', 110)
        for i in range(1, 10, 2)
    ]
    found = {(row["cohort"], row["version"]): row for row in rows_of(judged(runs), name="inference_failure_rate")}
    assert found["{}", ""]["value"] == pytest.approx(550 / 10450)
    assert found['{"edge.device.tier":"hub"}', ""]["verdict"] == "missed"
    assert found["{}", "1"]["value"] == pytest.approx(0.1)
    assert found["{}", "0"]["verdict"] == "met"
    assert found["{}", "1"]["detail"]["failing_devices"] == ["d1", "d3", "d5", "d7", "d9"]


def test_one_failing_device_is_weighed_as_one_device():
    runs = [(T0 + HOUR, f"d{i}", "hub", "m", "1", "{}", 1000) for i in range(20)]
    runs += [(T0 + HOUR, "d0", "hub", "m", "1", '{"error.type":"timeout"}', 1000)]
    row = rows_of(judged(runs), name="inference_failure_rate", cohort="{}", version="")[0]
    assert row["detail"]["deff"] > 300
    assert row["verdict"] == "insufficient"


def test_completeness_counts_the_numbers_between_first_and_last():
    rows = [("a", "s1", "hub", T0 + i * HOUR, i, 1) for i in range(1, 21) if i not in (7, 8)]
    # a merged window of three proves all three, a stream after a restart begins anew
    rows += [("b", "s2", "cam", T0 + 5 * HOUR, 12, 3), ("b", "s3", "cam", T0 + 9 * HOUR, 0, 1)]
    found = {row["cohort"]: row for row in rows_of(judged(sequences=rows), name="telemetry_completeness")}
    assert (found["{}"]["detail"]["received"], found["{}"]["detail"]["due"]) == (22, 24)
    assert found['{"edge.device.tier":"hub"}']["value"] == pytest.approx(0.9)
    assert found['{"edge.device.tier":"cam"}']["value"] == 1.0


def test_completeness_looks_back_one_day_only():
    rows = [("a", "s1", "hub", T0 + i * HOUR, i, 1) for i in range(1, 49) if i not in (7, 8)]
    found = rows_of(
        judged(sequences=rows, instants=(T0 + DAY, T0 + 2 * DAY)), name="telemetry_completeness", cohort="{}"
    )
    assert [row["value"] for row in found] == [pytest.approx(22 / 24), 1.0]


def test_devices_that_were_heard_within_a_week_should_report():
    heard = [(f"d{i}", "hub", T0 + 2 * DAY + hour * HOUR) for i in range(8) for hour in range(4)]
    heard += [("gone", "hub", T0 - 6 * DAY), ("late", "hub", T0 + DAY - HOUR)]
    row = rows_of(judged(heard=heard, instants=(T0 + 2 * DAY + 6 * HOUR,)), name="devices_reporting", cohort="{}")[0]
    assert (row["value"], row["n"]) == (pytest.approx(8 / 9), 9)
    assert row["detail"]["unheard"] == ["late"]


def test_a_device_that_changed_its_class_is_one_device_of_its_new_class():
    heard = [("a", "", T0 + HOUR), ("a", "hub", T0 + 2 * DAY), ("b", "hub", T0 + 2 * DAY)]
    found = rows_of(judged(heard=heard, instants=(T0 + 2 * DAY + 6 * HOUR,)), name="devices_reporting")
    assert [(row["cohort"], row["n"], row["value"]) for row in found] == [
        ('{"edge.device.tier":"hub"}', 2, 1.0), ("{}", 2, 1.0),
    ]  # fmt: skip


def test_empty_telemetry_gives_named_verdicts_and_no_numbers():
    found = rows_of(judged())
    assert [(row["name"], row["verdict"], row["value"]) for row in found] == [
        ("inference_failure_rate", "no_data", None), ("telemetry_completeness", "no_data", None),
        ("devices_reporting", "no_data", None),
    ]  # fmt: skip


def test_an_operators_target_decides():
    runs = [(T0 + HOUR, f"d{i}", "hub", "m", "1", "{}", 1000) for i in range(3)]
    strict = (Target("inference_failure_rate", 1e-6),)
    assert rows_of(judged(runs, targets=strict), cohort="{}", version="")[0]["reason"] == "evidence"
    assert rows_of(judged(runs, targets=()), cohort="{}", version="")[0]["reason"] == "no_target"


def test_a_real_store_gives_failures_and_devices(tmp_path):
    store = opened(tmp_path, Clock(T0 + DAY))
    batch = Batch(T0 + 2 * HOUR)
    for device in [*fleet(4), Device("x", "hub")]:
        for step in range(8):
            start = T0 + step * 15 * MINUTE
            batch.window(
                device, start, start + 15 * MINUTE, runs=100, failed=10 if device.name == "x" else 0, sequence=step
            )
    batch.put(store, tmp_path / "segments")
    roll_up(store, OPTIONS, T0 + 2 * HOUR, 1)
    found = kpi_job.run(store, OPTIONS, T0 + HOUR, T0 + 2 * HOUR, 1)
    failure = {row["cohort"]: row for row in rows_of(found, name="inference_failure_rate", version="")}
    assert failure["{}"]["value"] == pytest.approx(80 / 4000)
    assert failure['{"edge.device.tier":"hub"}']["value"] == pytest.approx(0.1)
    assert rows_of(found, name="devices_reporting", cohort="{}")[0]["n"] == 5
    store.close()

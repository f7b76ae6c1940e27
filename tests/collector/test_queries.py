"""Named queries answer what jobs and alerts are promised."""

import json

from store_kit import DAY, HOUR, T0, Request, S, append, device_window, resource_of, verdict, write

from collector.storage import rows


def test_the_newest_written_verdict_of_an_instant_wins(store):
    append(
        store, "verdicts", verdict("kpi", "x", value=0.1, written_ns=5), verdict("kpi", "x", value=0.2, written_ns=7)
    )
    append(
        store,
        "verdicts",
        verdict("kpi", "x", value=0.3, written_ns=6),
        verdict("kpi", "x", T0 + HOUR, value=0.9, written_ns=1),
    )
    between = store.query("verdicts_between", {"from_ns": T0 - 1, "to_ns": T0}).to_pylist()
    assert [row["value"] for row in between] == [0.2]
    assert store.query("verdicts_between", {"from_ns": T0, "to_ns": T0}).num_rows == 0
    latest = store.query("verdicts_latest", {"kind": "kpi"}).to_pylist()
    assert [row["value"] for row in latest] == [0.9]
    assert [row["value"] for row in store.query("verdicts_latest", {"at_ns": T0}).to_pylist()] == [0.2]
    assert store.query("verdicts_latest", {"kind": "slo"}).num_rows == 0
    assert store.query("verdicts_latest", {"kind": "kpi", "name": "y"}).num_rows == 0


def test_verdicts_come_back_in_the_schema_they_were_appended_in(store):
    append(store, "verdicts", verdict("kpi", "x"))
    found = store.query("verdicts_latest", {"kind": ""})
    assert [(f.name, f.type) for f in found.schema] == [(f.name, f.type) for f in rows.VERDICTS]
    assert found.to_pylist() == [verdict("kpi", "x")]


def state(**changes):
    return {
        "alert_id": "a1", "rule": "burn", "severity": "page", "state": "pending", "at_ns": T0, "onset_ns": T0,
        "since_ns": T0, "cohort": "{}", "summary": "s", "devices": 2,
        "evidence": "{}", "page_url": "", "runbook_url": "",
        "written_ns": T0,
    } | changes  # fmt: skip


def entry(**changes):
    return {
        "entry_id": "e1", "alert_id": "a1", "at_ns": T0, "action": "firing", "detail": "{}", "written_ns": T0,
    } | changes  # fmt: skip


def test_an_alert_has_its_newest_state_and_its_history_every_entry_once(store):
    append(store, "alert_states", state(), state(state="firing", written_ns=T0 + 5, at_ns=T0 + 2))
    append(store, "alert_ledger", entry(), entry(), entry(entry_id="e2", at_ns=T0 + 9, action="notice_sent"))
    assert [row["state"] for row in store.query("alerts_latest").to_pylist()] == ["firing"]
    history = store.query("alerts_history", {"from_ns": T0, "to_ns": T0 + 10}).to_pylist()
    assert [(row["entry_id"], row["action"], row["state"]) for row in history] == [
        ("e1", "firing", "firing"),
        ("e2", "notice_sent", "firing"),
    ]
    assert store.query("ledger", {"alert_id": "a1"}).num_rows == 2
    assert store.query("ledger", {"alert_id": "other"}).num_rows == 0


def test_job_progress_is_the_newest_end_of_a_good_run(store):
    run = {"job": "drift", "from_ns": 0, "until_ns": 10, "started_ns": 1, "duration_ns": 1, "rows_written": 1,
           "outcome": "ok", "detail": ""}  # fmt: skip
    append(store, "job_runs", run, {**run, "until_ns": 30}, {**run, "until_ns": 90, "outcome": "failed"})
    assert store.query("job_progress", {"job": "drift"}).to_pylist() == [{"until_ns": 30}]
    assert store.query("job_progress", {"job": "slo"}).to_pylist() == [{"until_ns": None}]


def test_baselines_come_newest_first_with_their_bins_and_devices(store):
    base = {"baseline_id": "b1", "model": "m", "version": "1", "source": "field", "window_start_ns": 0,
            "window_end_ns": 1, "detail": "{}", "written_ns": 1}  # fmt: skip
    append(store, "baselines", base, {**base, "baseline_id": "b2", "written_ns": 2})
    bins = {"baseline_id": "b1", "signal": "input:x", "kind": "numeric", "edges": [0.0, 1.0], "labels": [],
            "counts": [5], "center": 0.0, "spread": 1.0, "detail": "{}"}  # fmt: skip
    append(store, "baseline_bins", bins)
    device = {"baseline_id": "b1", "device_id": "a", "cohort": "{}", "signal": "input:x", "hour_of_day": 3, "hours": 2,
              "n": 9, "mean": 0.5, "counts": [5]}  # fmt: skip
    append(store, "baseline_devices", device)
    assert [row["baseline_id"] for row in store.query("baselines", {"model": "m"}).to_pylist()] == ["b2", "b1"]
    assert store.query("baseline_bins", {"baseline_id": "b1"}).to_pylist() == [bins]
    assert store.query("baseline_devices", {"baseline_id": "b1"}).to_pylist() == [device]


def test_the_watermark_is_what_nearly_all_active_devices_have_passed(store, tmp_path):
    ends = {"a": 10, "b": 8, "c": 6, "gone": -40}
    batches = [
        Request(**resource_of(device)).window(T0 + hour * HOUR - S, T0 + hour * HOUR, 0).decoded(T0 + DAY)
        for device, hour in ends.items()
    ]
    store.put([write(tmp_path, batches)])
    mark = store.query("watermark").to_pylist()[0]
    assert mark == {
        "max_time_ns": T0 + 10 * HOUR, "watermark_ns": T0 + 6 * HOUR, "devices": 3, "max_received_ns": T0 + DAY,
    }  # fmt: skip
    assert store.query("watermark", {"quantile": 1.0}).to_pylist()[0]["watermark_ns"] == T0 + 10 * HOUR
    assert store.query("watermark", {"quantile": 0.5}).to_pylist()[0]["watermark_ns"] == T0 + 8 * HOUR


def test_a_device_with_a_clock_in_the_future_does_not_carry_the_watermark_ahead(store, tmp_path):
    honest = Request(**resource_of("a")).window(T0 - S, T0, 0).decoded(T0 + S)
    wild = Request(**resource_of("b")).window(T0 + 900 * DAY, T0 + 901 * DAY, 0).decoded(T0 + S)
    store.put([write(tmp_path, [honest, wild])])
    assert store.query("watermark").to_pylist()[0]["max_time_ns"] == T0
    before = store.query("max_time_received_before", {"received_ns": T0 + 2 * S}).to_pylist()
    assert before == [{"max_time_ns": T0}]
    assert store.query("max_time_received_before", {"received_ns": T0}).to_pylist() == [{"max_time_ns": None}]


def test_activity_tells_the_last_sign_of_life_and_the_longest_gap(store, tmp_path):
    spans = [(0, 1), (1, 2), (7, 8), (8, 9), (30, 31)]
    batches = [
        Request(**resource_of("a", **{"edge.device.tier": "t"})).window(T0 + a * HOUR, T0 + b * HOUR, n).decoded(T0)
        for n, (a, b) in enumerate(spans)
    ]
    store.put([write(tmp_path, batches)])
    row = store.query("device_activity", {"at_ns": T0 + 10 * HOUR, "lookback_ns": 14 * DAY}).to_pylist()[0]
    assert (row["first_ns"], row["last_ns"], row["longest_gap_ns"]) == (T0 + HOUR, T0 + 9 * HOUR, 5 * HOUR)
    assert (row["device_id"], row["tier"], json.loads(row["cohort"])) == ("a", "t", {"edge.device.tier": "t"})
    recent = store.query("device_activity", {"at_ns": T0 + 10 * HOUR, "lookback_ns": 3 * HOUR}).to_pylist()[0]
    assert recent["longest_gap_ns"] == 0
    windows = store.query("device_windows", {"from_ns": T0 + 8 * HOUR, "to_ns": T0 + 31 * HOUR}).to_pylist()
    assert [(row["start_ns"] - T0) // HOUR for row in windows] == [7, 8]


def test_models_tell_since_when_each_version_runs_on_how_many_devices(store, tmp_path):
    batches = [device_window(device, T0, T0 + 900 * S).decoded(T0) for device in "ab"]
    batches.append(device_window("a", T0 + 5 * HOUR, T0 + 5 * HOUR + 900 * S, 1).decoded(T0))
    store.put([write(tmp_path, batches)])
    store.recompute(store.dirty_hours(), [], 1)
    assert store.query("models").to_pylist() == [
        {"model": "digits", "version": "3", "first_ns": T0, "last_ns": T0 + 6 * HOUR, "devices": 2}
    ]


def test_device_hours_filter_by_model_version_and_time(store, tmp_path):
    store.put([write(tmp_path, [device_window("a", T0, T0 + 900 * S).decoded(T0)])])
    store.recompute(store.dirty_hours(), [], 1)
    every = {"metric": "edge.inference.duration", "from_ns": T0, "to_ns": T0 + 1}
    assert store.query("device_hours", every).num_rows == 1
    assert store.query("device_hours", {**every, "model": "digits", "version": "3"}).num_rows == 1
    assert store.query("device_hours", {**every, "model": "other"}).num_rows == 0
    assert store.query("device_hours", {**every, "to_ns": T0}).num_rows == 0
    assert store.query("device_hours", {**every, "from_ns": T0 + 1, "to_ns": T0 + HOUR}).num_rows == 0


def test_window_sequences_tell_the_numbers_of_windows_that_ended_after_from_until_to(store, tmp_path):
    batches = [
        Request(**resource_of("a", **{"edge.device.tier": "t"})).window(T0 + n * S, T0 + (n + 1) * S, n).decoded(T0)
        for n in range(4)
    ]
    batches.append(Request(**{"service.name": "foreign"}).gauge("g", T0 + 2 * S, 1).decoded(T0))
    store.put([write(tmp_path, batches)])
    found = store.query("window_sequences", {"from_ns": T0 + S, "to_ns": T0 + 3 * S}).to_pylist()
    assert [(row["device_id"], row["tier"], row["sequence"], row["window_count"]) for row in found] == [
        ("a", "t", 1, 1),
        ("a", "t", 2, 1),
    ]
    assert len(found[0]["stream"]) == 32

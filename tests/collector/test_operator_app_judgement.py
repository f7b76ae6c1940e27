"""Verdict rows and alerts in the fixed shapes of the query API."""

import math

import pyarrow as pa
from store_kit import (
    HOUR,
    T0,
    append,
    get,
    pages,
    verdict,
)

ARROW = "application/vnd.apache.arrow.stream"


def test_verdicts_have_their_fixed_shape_under_their_endpoint(client, store):
    tier = {"edge.device.tier": "v2"}
    append(
        store, "verdicts",
        verdict("kpi", "inference_failure_rate"), verdict("latency", "latency_p95", model="digits"),
        verdict("crash_free", "crash_free_time", cohort=tier, value=math.nan),
        verdict("slo", "fast", verdict="on_pace"),
        verdict("drift", "input:mean", verdict="ok"), verdict("kpi", "inference_failure_rate", T0 + HOUR, value=0.25),
    )  # fmt: skip
    names = {"kpis": "kpi", "crash-free": "kpi", "slo": "slo", "drift": "signal"}
    for path, key in names.items():
        for item in get(client, path)["items"]:
            assert item[key] == item["name"]
            assert item["window"] == {"start_ns": item["at_ns"] - HOUR, "end_ns": item["at_ns"]}
    kpis = {item["name"]: item for item in get(client, "kpis")["items"]}
    assert set(kpis) == {"inference_failure_rate", "latency_p95", "crash_free_time"}
    assert (kpis["inference_failure_rate"]["value"], kpis["inference_failure_rate"]["n"]) == (0.25, 10)
    assert kpis["crash_free_time"]["value"] == "NaN"
    assert kpis["crash_free_time"]["cohort"] == tier
    assert get(client, "slo")["items"][0]["detail"] == {"burn": {"1h": 14.5}}
    assert get(client, "kpis")["as_of_ns"] == T0 + HOUR
    assert [item["name"] for item in get(client, "kpis", tier="v2")["items"]] == ["crash_free_time"]
    assert [item["name"] for item in get(client, "kpis", model="digits")["items"]] == ["latency_p95"]
    assert [item["name"] for item in get(client, "kpis", kind="latency")["items"]] == ["latency_p95"]
    assert get(client, "drift", verdict="drift")["items"] == []
    assert len(get(client, "kpis", at=T0)["items"]) == 3
    history = get(client, "kpis", name="inference_failure_rate", from_=T0, to=T0 + HOUR)["items"]
    assert [item["value"] for item in history] == [0.5, 0.25]
    assert pages(client, "kpis", limit=1) == get(client, "kpis")["items"]
    arrow = client.get("/api/v1/kpis", headers={"accept": ARROW})
    assert pa.ipc.open_stream(arrow.content).read_all().num_rows == 3


def test_a_verdict_taken_back_is_in_the_history_but_does_not_hold_now(client, store):
    append(store, "verdicts", verdict("slo", "fast", verdict="no_data", reason="withdrawn"), verdict("slo", "slow"))
    assert [item["name"] for item in get(client, "slo")["items"]] == ["slow"]
    assert {item["name"] for item in get(client, "slo", from_=T0, to=T0 + HOUR)["items"]} == {"fast", "slow"}


def test_a_history_can_be_thinned(client, store):
    append(store, "verdicts", *(verdict("slo", "fast", T0 + step * HOUR // 4) for step in range(9)))
    assert len(get(client, "slo", from_=T0, to=T0 + 2 * HOUR)["items"]) == 9
    assert len(get(client, "slo", from_=T0, to=T0 + 2 * HOUR, step_ns=HOUR)["items"]) == 3


def test_alerts_and_their_history_have_their_fixed_shape(client, store):
    state = {
        "alert_id": "a1", "rule": "burn", "severity": "page", "state": "firing", "at_ns": T0, "onset_ns": T0 - HOUR,
        "since_ns": T0, "cohort": '{"edge.device.tier":"v2"}', "summary": "s", "devices": 2, "evidence": '{"p":0.001}',
        "page_url": "http://d/slo", "runbook_url": "http://d/run", "written_ns": T0,
    }  # fmt: skip
    append(store, "alert_states", state, {**state, "alert_id": "a2", "state": "resolved"})
    entry = {"entry_id": "e1", "alert_id": "a1", "at_ns": T0, "action": "firing", "detail": "{}", "written_ns": T0}
    append(store, "alert_ledger", entry, {**entry, "entry_id": "e2", "action": "notice_sent", "detail": "plain words"})
    items = get(client, "alerts")["items"]
    fixed = ("id", "rule", "state", "severity", "cohort", "summary", "onset_ns", "since_ns", "devices", "evidence",
             "page_url", "runbook_url")  # fmt: skip
    assert {key: items[0][key] for key in fixed} == {
        "id": "a1", "rule": "burn", "state": "firing", "severity": "page", "cohort": {"edge.device.tier": "v2"},
        "summary": "s", "onset_ns": T0 - HOUR, "since_ns": T0, "devices": 2, "evidence": {"p": 0.001},
        "page_url": "http://d/slo", "runbook_url": "http://d/run",
    }  # fmt: skip
    assert pages(client, "alerts", limit=1) == items
    assert [item["id"] for item in get(client, "alerts", state="firing")["items"]] == ["a1"]
    history = get(client, "alerts/history")["items"]
    assert [(item["action"], item["detail"], item["id"]) for item in history] == [
        ("firing", {}, "a1"), ("notice_sent", "plain words", "a1"),
    ]  # fmt: skip
    assert pages(client, "alerts/history", limit=1) == history

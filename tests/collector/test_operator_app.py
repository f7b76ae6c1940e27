"""The operator port: errors, safety, health, ``/metrics``, administration, over real HTTP and a real database."""

import json

import pyarrow as pa
import pytest
from store_kit import (
    DAY,
    T0,
    S,
    append,
    device_window,
    get,
    put,
    serving,
    verdict,
    write,
)

from collector.api.auth import create_token
from collector.api.operator_app import create_operator_app
from collector.api.options import ApiOptions
from collector.errors import QueryTimeoutError

ARROW = "application/vnd.apache.arrow.stream"
LISTS = [
    "metrics", "metrics/x/points", "metrics/x/quantiles", "logs", "events", "devices", "kpis", "drift", "crash-free",
    "slo", "rollouts", "compatibility", "alerts", "alerts/history", "baselines", "jobs", "distributions/x",
]  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
def test_every_list_answers_an_empty_list_when_there_is_nothing(empty_client, path):
    body = get(empty_client, path)
    assert body["items"] == []
    assert body["next"] is None
    assert isinstance(body["as_of_ns"], int)
    arrow = empty_client.get(f"/api/v1/{path}", headers={"accept": ARROW})
    assert arrow.headers["content-type"] == ARROW
    assert pa.ipc.open_stream(arrow.content).read_all().num_rows == 0


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/v1/metrics?limit=0", 422, "limit"),
        ("/api/v1/metrics?limit=10001", 422, "limit"),
        ("/api/v1/metrics?cursor=nonsense", 400, "cursor"),
        ("/api/v1/metrics/x/points?cursor=WzEsMl0", 400, "cursor"),
        ("/api/v1/metrics/x/points?from=yesterday", 422, "from"),
        ("/api/v1/metrics/x/points?from=99999999999999999999", 422, "from"),
        ("/api/v1/metrics/x/quantiles?q=1.5", 422, "q"),
        ("/api/v1/metrics/x/quantiles?q=nan", 422, "q"),
        ("/api/v1/devices/nobody", 404, "nobody"),
        ("/api/v1/nothing", 404, "Not Found"),
        ("/v1/metrics", 404, "Not Found"),
    ],
)
def test_every_error_is_a_problem_that_says_what(empty_client, path, status, says):
    answer = empty_client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["instance"]) == (status, path.partition("?")[0])
    assert says in body["detail"]
    assert body["title"]


@pytest.mark.parametrize(("error", "status"), [(QueryTimeoutError("too long"), 503), (RuntimeError("secret"), 500)])
def test_a_failing_query_is_a_problem_and_a_bug_does_not_leak(client, store, monkeypatch, error, status):
    def fail(*args, **named):
        raise error

    monkeypatch.setattr(type(store), "query", fail)
    answer = client.get("/api/v1/devices")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


def test_admin_runs_the_named_action_with_a_json_object(empty_client):
    assert empty_client.post("/api/v1/admin/drain", json={"a": 1}).json() == {"echo": {"a": 1}}
    assert empty_client.post("/api/v1/admin/jobs/run", json={"until_ns": 7}).json() == {"horizon_ns": 7}
    cases = [
        ("drain", {"content": "a=1", "headers": {"content-type": "application/x-www-form-urlencoded"}}, 415),
        ("drain", {"content": "{"}, 415),
        ("drain", {"content": "{", "headers": {"content-type": "application/json"}}, 400),
        ("drain", {"json": [1]}, 400),
        ("drain", {"content": b" " * (1 << 21), "headers": {"content-type": "application/json"}}, 413),
        ("unknown", {"json": {}}, 404),
        ("fail", {"json": {"how": "value"}}, 400),
        ("fail", {"json": {"how": "stack"}}, 409),
    ]
    for action, arguments, status in cases:
        answer = empty_client.post(f"/api/v1/admin/{action}", **arguments)
        assert answer.status_code == status, (action, arguments, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert empty_client.get("/api/v1/admin/drain").status_code == 405


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"x-forwarded-for": "10.0.0.1"}, {"forwarded": "for=1.2.3.4"}]
)
def test_without_tokens_only_direct_requests_from_this_machine_are_answered(empty_client, headers):
    answer = empty_client.get("/api/v1/devices", headers=headers)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert empty_client.get("/healthz", headers=headers).status_code == 200


def test_beyond_loopback_a_token_of_the_right_scope_is_needed(store, tmp_path, clock):
    options = ApiOptions(tmp_path / "data", bind_host="0.0.0.0", local_token="local-secret")
    tokens = {scope: create_token(options.tokens_file, scope) for scope in ("ingest", "read", "operate")}
    app = create_operator_app(store, options=options, admin={"drain": dict}, clock_ns=clock)

    def status(method, path, token):
        headers = {"host": "collector.example"} | ({"authorization": f"Bearer {token}"} if token else {})
        return client.request(method, path, headers=headers, json={} if method == "POST" else None).status_code

    with serving(app) as client:
        assert status("GET", "/api/v1/devices", "") == 401
        assert status("GET", "/metrics", "") == 401
        assert status("GET", "/api/v1/devices", "wrong") == 401
        assert status("GET", "/api/v1/devices", tokens["ingest"]) == 403
        assert status("GET", "/api/v1/devices", tokens["read"]) == 200
        assert status("POST", "/api/v1/admin/drain", tokens["read"]) == 403
        assert status("POST", "/api/v1/admin/drain", tokens["operate"]) == 200
        assert status("POST", "/api/v1/admin/drain", "local-secret") == 200
        assert status("GET", "/readyz", "") == 200


def test_ready_only_when_what_was_acknowledged_before_the_start_is_in_the_store(store, tmp_path, clock, client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 200
    segments = tmp_path / "data" / "segments"
    old = write(segments, [device_window("a", T0, T0 + S).decoded(T0)], clock.now_ns - 1)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "before the start" in answer.json()["reasons"][0]
    old.unlink()
    write(segments, [device_window("a", T0, T0 + S).decoded(T0)], clock.now_ns)
    assert client.get("/readyz").status_code == 200
    clock.now_ns += 31 * S
    assert "has waited 31 s" in client.get("/readyz").json()["reasons"][0]


def test_not_ready_when_the_database_is_closed(client, store):
    store.close()
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    assert client.get("/api/v1/devices").status_code == 503


def test_metrics_are_prometheus_text_with_own_health_and_the_fleet_s_figures(client, store, tmp_path):
    window = device_window("a", T0, T0 + 900 * S)
    put(store, tmp_path, window)
    put(store, tmp_path, window)
    write(tmp_path / "data" / "segments", [window.decoded(T0)], T0 + DAY - 3 * S)
    tier = {"edge.device.tier": 'v"2\\'}
    append(
        store, "verdicts", verdict("slo", "fast"), verdict("kpi", "rate", cohort=tier),
        verdict("kpi", "fine", cohort={"edge.firmware.version": "1"}), verdict("kpi", "unknown", value=None),
    )  # fmt: skip
    run = {"job": "slo", "from_ns": 0, "until_ns": T0, "started_ns": 1, "duration_ns": 5 * 10**8, "rows_written": 1,
           "outcome": "ok", "detail": ""}  # fmt: skip
    append(store, "job_runs", run)
    workers = tmp_path / "data" / "workers"
    workers.mkdir()
    (workers / "w0.json").write_text(json.dumps({"accepted": {"metrics": 7}, "rejected": {"metrics limits": 2}}))
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    for expected in (
        'fleetpulse_ingest_refused_total{reason="duplicate"} 7',
        'fleetpulse_ingest_accepted_total{signal="metrics"} 7',
        'fleetpulse_ingest_rejected_total{signal="metrics",reason="limits"} 2',
        "fleetpulse_segments_waiting 1",
        "fleetpulse_segments_oldest_age_seconds 3.0",
        "fleetpulse_stored_points 7",
        'fleetpulse_job_runs_total{job="slo",outcome="ok"} 1',
        'fleetpulse_job_seconds_total{job="slo",outcome="ok"} 0.5',
        "fleetpulse_drain_failures_total 2",
        'fleetpulse_fleet_slo_burn{window="1h",name="fast",tier="",model="",version=""} 14.5',
        'fleetpulse_fleet_kpi{name="rate",tier="v\\"2\\\\",model="",version=""} 0.5',
    ):
        assert expected in lines, expected
    assert not any("fine" in line or "unknown" in line for line in lines)
    families = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert len(families) == len(set(families))


def test_openapi_describes_every_endpoint_of_the_contract(empty_client):
    paths = empty_client.get("/openapi.json").json()["paths"]
    for path in (
        "metrics", "metrics/{name}/points", "metrics/{name}/quantiles", "logs", "devices", "devices/{device_id}",
        "kpis", "drift", "crash-free", "slo", "rollouts", "compatibility", "alerts", "alerts/history",
    ):  # fmt: skip
        assert f"/api/v1/{path}" in paths
    names = {item["name"] for item in paths["/api/v1/metrics/{name}/points"]["get"]["parameters"]}
    assert names == {"name", "device", "from", "to", "limit", "cursor"}
    assert empty_client.get("/docs").status_code == 200

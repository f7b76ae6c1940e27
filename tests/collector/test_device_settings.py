"""Remote settings on the server: selectors, documents, the file that workers read, and what both ports answer."""

import errno
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from ingest_kit import MINUTE, T, serving
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from store_kit import Request, decoded_logs, resource_of, session_end, write
from store_kit import serving as serving_operator

from collector.api.auth import create_token
from collector.api.device_settings import SettingsDesk
from collector.api.operator_app import create_operator_app
from collector.api.options import ApiOptions, IngestOptions
from collector.errors import ConfigError
from collector.ingest.device_settings import (
    Document,
    SettingsBook,
    check_document,
    check_selector,
    choose,
    publish,
    read,
)
from device_sdk.contract import settings as wire

HEADER = wire.HEADER.lower()
CAM = {"edge.device.tier": "cam-v2", "edge.rollout.ring": "canary", "edge.site": "hall-1", "edge.label.line": "7"}


def document(every=2, **selector):
    text = check_document({"sample_every": every})
    selector = {name.replace("__", "."): value for name, value in selector.items()}
    return Document(check_selector(selector), wire.document_id(text.encode()), text)


@pytest.fixture
def desk(store, tmp_path, clock):
    return SettingsDesk(store, tmp_path / "data" / "settings.json", clock)


def window(**resource):
    return Request(**resource).sum("edge.session.time", T, T + MINUTE, 60, unit="s")


def body(*requests):
    message = ExportMetricsServiceRequest()
    for request in requests:
        message.MergeFrom(request.message)
    return message.SerializeToString()


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        ({}, {"environment": "prod"}),
        ({"tier": "cam-v2"}, {"tier": "cam-v2", "ring": "canary"}),
        ({"site": "hall-1", "ring": "canary", "tier": "cam-v2"}, {"device": "cam-1"}),
        ({"tier": "cam-v2"}, {"ring": "canary"}),
        ({"label.line": "7"}, {"tier": "cam-v2"}),
        ({"device": "cam-1"}, {"device": "cam-1", "tier": "cam-v2"}),
        ({"ring": "canary", "tier": "cam-v2"}, {"site": "hall-1", "tier": "cam-v2"}),
    ],
)
def test_the_most_specific_selector_wins_in_whatever_order_they_were_set(weaker, stronger):
    cohort = {**CAM, "deployment.environment.name": "prod"}
    made = [Document(check_selector(item), f"id{n}", "{}") for n, item in enumerate((weaker, stronger))]
    for order in itertools.permutations(made):
        chosen = choose(order, "cam-1", cohort)
        assert chosen is not None
        assert dict(chosen.selector) == stronger


def test_a_selector_fits_only_where_every_condition_does():
    documents = [document(tier="cam-v2", ring="stable"), document(device="other"), document(label__line="8")]
    assert choose(documents, "cam-1", CAM) is None
    assert choose(documents, "other", {}) == documents[1]


@pytest.mark.parametrize(
    ("selector", "said"),
    [({"teir": "x"}, "'teir' is nothing that devices are selected by"), ({"label.": "x"}, "known are device"),
     ({"tier": ""}, "for example tier=cam-v2"), ({"tier": 3}, "tier = 3")],
)  # fmt: skip
def test_a_selector_that_cannot_match_is_refused(selector, said):
    with pytest.raises(ValueError, match=said):
        check_selector(selector)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "says nothing"),
        ({"windows_s": 60}, "did you mean 'window_s'"),
        ({"x" * 5000: 1}, "is no remote setting; known are"),
        ({"window_s": 0.5}, "1 to 86400 seconds"),
        ({"window_s": float("nan")}, "1 to 86400 seconds"),
        ({"window_s": True}, "1 to 86400 seconds"),
        ({"sample_every": 0}, "a whole number"),
        ({"sample_every": 2.5}, "a whole number"),
        ({"signal_level": "none"}, "one of off, outputs, full"),
        ({"signal_level": ["off"]}, "one of off, outputs, full"),
        ({"sample_every": 0, "signal_level": "x"}, "sample_every = 0.*; signal_level"),
    ],
)
def test_a_document_that_no_device_could_follow_is_refused(document, said):
    with pytest.raises(ValueError, match=said):
        check_document(document)


def test_documents_are_append_only_and_published_as_a_whole(desk, store, tmp_path):
    act = desk.actions()
    first = act["settings/set"]({"selector": {"tier": "cam-v2"}, "document": {"window_s": 300}})
    assert first["id"] == wire.document_id(b'{"window_s":300}')
    act["settings/set"]({"selector": {}, "document": {"signal_level": "off"}})
    act["settings/set"]({"selector": {"tier": "cam-v2"}, "document": {"window_s": 600.0}})
    listed = act["settings/list"]({})["items"]
    assert [(item["selector"], item["document"]) for item in listed] == [
        ({"tier": "cam-v2"}, {"window_s": 600}), ({}, {"signal_level": "off"}),
    ]  # fmt: skip
    assert [item.text for item in read(tmp_path / "data" / "settings.json")] == [
        '{"window_s":600}', '{"signal_level":"off"}',
    ]  # fmt: skip
    act["settings/remove"]({"selector": {"tier": "cam-v2"}})
    assert [item.text for item in read(tmp_path / "data" / "settings.json")] == ['{"signal_level":"off"}']
    assert store._connection.execute("select count(*) from settings").fetchall() == [(4,)]
    with pytest.raises(ValueError, match=r"no settings for .*cam-v2.*; there are settings for"):
        act["settings/remove"]({"selector": {"tier": "cam-v2"}})
    for broken in ({}, {"selector": []}, {"selector": {}}, {"selector": {}, "document": "x"}):
        with pytest.raises(ValueError, match="give a JSON object"):
            act["settings/set"](broken)


def test_settings_that_are_set_at_the_same_time_are_all_published(desk, tmp_path):
    sites = [f"hall-{number}" for number in range(16)]
    together = threading.Barrier(len(sites))

    def put(site):
        together.wait(10)
        desk.actions()["settings/set"]({"selector": {"site": site}, "document": {"window_s": 300}})

    with ThreadPoolExecutor(len(sites)) as pool:
        list(pool.map(put, sites))
    published = read(tmp_path / "data" / "settings.json")
    assert sorted(dict(item.selector)["site"] for item in published) == sorted(sites)


def test_a_lost_file_is_published_anew_at_the_next_start(desk, store, tmp_path, clock):
    desk.actions()["settings/set"]({"selector": {}, "document": {"window_s": 300}})
    (tmp_path / "data" / "settings.json").write_text("{")
    SettingsDesk(store, tmp_path / "data" / "settings.json", clock)
    assert len(read(tmp_path / "data" / "settings.json")) == 1


def test_a_fresh_store_publishes_nothing(desk, tmp_path):
    assert not (tmp_path / "data" / "settings.json").exists()


def test_a_worker_follows_the_file_and_keeps_the_last_good_one(tmp_path):
    path = tmp_path / "settings.json"
    book = SettingsBook(path)
    assert book.id_for("cam-1", json.dumps(CAM)) == ""
    chosen, other = document(2, tier="cam-v2"), document(3, tier="other")
    publish(path, [chosen, other])
    assert book.id_for("cam-1", json.dumps(CAM)) == chosen.id
    assert book.id_for("cam-2", "{}") == wire.NOTHING_ID
    assert book.text_of(other.id) == other.text
    path.write_text("{")
    assert book.id_for("cam-1", json.dumps(CAM)) == chosen.id
    with pytest.raises(ConfigError, match="not a readable settings file"):
        read(path)
    publish(path, [])
    assert book.id_for("cam-1", json.dumps(CAM)) == wire.NOTHING_ID
    assert book.text_of(chosen.id) is None
    assert book.text_of(wire.NOTHING_ID) == "{}"


def test_a_worker_that_could_not_read_a_change_reads_it_at_the_next_export(tmp_path, monkeypatch):
    path = tmp_path / "settings.json"
    book = SettingsBook(path)
    chosen = document(2, tier="cam-v2")

    def too_many(*_arguments, **_named):
        raise OSError(errno.EMFILE, "Too many open files")

    publish(path, [chosen])
    with monkeypatch.context() as patch:
        patch.setattr(type(path), "read_text", too_many)
        assert book.id_for("cam-1", json.dumps(CAM)) == ""
    assert book.id_for("cam-1", json.dumps(CAM)) == chosen.id


@pytest.fixture
def port(tmp_path):
    with serving(IngestOptions(tmp_path)) as served:
        yield served


def test_an_export_answer_names_the_settings_of_its_sender(port, tmp_path):
    mine = resource_of("cam-1", **CAM)
    assert HEADER not in port.post(content=body(window(**mine))).headers
    chosen = document(4, ring="canary")
    publish(tmp_path / "settings.json", [chosen])
    assert port.post(content=body(window(**mine))).headers[HEADER] == chosen.id
    assert port.post(content=body(window(**resource_of("cam-2")))).headers[HEADER] == wire.NOTHING_ID
    logs = session_end("cam-1", T, **CAM).SerializeToString()
    assert port.post("/v1/logs", content=logs).headers[HEADER] == chosen.id
    assert HEADER not in port.post(content=b"").headers
    assert HEADER not in port.post("/v1/traces", content=b"").headers
    assert HEADER not in port.post(content=b"\xff").headers


def test_a_sender_is_judged_by_its_own_stream_and_a_proxy_of_several_devices_is_told_nothing(port, tmp_path):
    before = resource_of("cam-1", **CAM, **{"edge.firmware.version": "1"})
    now = {**before, "service.instance.id": "later", "edge.firmware.version": "2"}
    chosen = document(4, firmware="2")
    publish(tmp_path / "settings.json", [document(5, firmware="1"), chosen])
    assert port.post(content=body(window(**before), window(**now))).headers[HEADER] == chosen.id
    assert HEADER not in port.post(content=body(window(**before), window(**resource_of("cam-2")))).headers


def test_a_document_is_fetched_by_its_id_with_an_etag(port, tmp_path):
    chosen = document(4, ring="canary")
    publish(tmp_path / "settings.json", [chosen])
    answer = port.client.get(f"{port.url}/v1/settings", params={"id": chosen.id})
    assert (answer.status_code, answer.text) == (200, chosen.text)
    assert answer.headers["etag"] == f'"{chosen.id}"'
    assert wire.document_id(answer.content) == chosen.id
    again = port.client.get(
        f"{port.url}/v1/settings", params={"id": chosen.id}, headers={"If-None-Match": f'"x", "{chosen.id}"'}
    )
    assert (again.status_code, again.content) == (304, b"")
    assert port.client.get(f"{port.url}/v1/settings", params={"id": wire.NOTHING_ID}).json() == {}
    for wanted, status in (("nope", 404), ("", 400), ("\x00" * 500, 404)):
        refused = port.client.get(f"{port.url}/v1/settings", params={"id": wanted})
        assert refused.status_code == status
        assert refused.headers["content-type"] == "application/problem+json"
    assert port.client.post(f"{port.url}/v1/settings").status_code == 405


def test_settings_need_the_token_that_exports_need(tmp_path):
    token = create_token(tmp_path / "tokens.json", "ingest")
    reader = create_token(tmp_path / "tokens.json", "read")
    publish(tmp_path / "settings.json", [document(4)])
    with serving(IngestOptions(tmp_path, bind_host="0.0.0.0")) as port:
        url = f"{port.url}/v1/settings?id={document(4).id}"
        assert port.client.get(url).status_code == 401
        assert port.client.get(url, headers={"Authorization": f"Bearer {reader}"}).status_code == 403
        assert port.client.get(url, headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_a_device_s_answer_says_what_it_should_run_and_what_it_runs(desk, store, tmp_path, clock):
    desk.actions()["settings/set"]({"selector": {"tier": "cam-v2"}, "document": {"window_s": 300}})
    store.put([write(tmp_path, [window(**resource_of("cam-1", **CAM)).decoded(T)], T)])
    told = session_end("cam-1", T, uid="1", **CAM)
    record = told.resource_logs[0].scope_logs[0].log_records[0]
    record.event_name = "edge.settings.applied"
    record.attributes.add(key="edge.settings.version").value.string_value = "abc"
    store.put([write(tmp_path, [decoded_logs(told, T)], T + 1)])
    app = create_operator_app(store, options=ApiOptions(tmp_path / "data"), admin=desk.actions(), clock_ns=clock)
    with serving_operator(app) as client:
        answer = client.get("/api/v1/devices/cam-1").json()["settings"]
        assert (answer["selector"], answer["document"]) == ({"tier": "cam-v2"}, {"window_s": 300})
        assert answer["id"] == wire.document_id(b'{"window_s":300}')
        assert (answer["applied"]["time_ns"], answer["applied"]["edge.settings.version"]) == (T, "abc")
        refused = client.post("/api/v1/admin/settings/set", json={"selector": {}, "document": {"window": 1}})
        assert refused.status_code == 400
        assert "did you mean 'window_s'" in refused.json()["detail"]

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dashboards.data import FRESH_S, PAGES_MAX, Reader, api_token, api_url

Api = Callable[..., tuple[Any, str]]
Make = Callable[..., Reader]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_verdicts_of_every_endpoint_arrive_with_the_values_the_api_answered(api: Api, reader: Make) -> None:
    fleet, url = api("busy")
    client = reader(url)
    for endpoint in ("kpis", "crash-free", "slo", "drift"):
        answered = fleet.answer(endpoint, {})
        rows = client.verdicts(endpoint)
        assert [row.value for row in rows] == [item["value"] for item in answered]
    assert client.outage is None


def test_a_history_is_read_through_all_its_pages(api: Api, reader: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet, url = api("busy")
    monkeypatch.setattr("dashboards.data.PAGE_ITEMS", 50)
    rows = reader(url).verdicts(
        "kpis", from_ns=fleet.now - 86_400 * 10**9, to_ns=fleet.now, name="crash_free_time", tier="cam-v2"
    )
    assert 50 < len(rows) <= 50 * PAGES_MAX
    assert {row.tier for row in rows} == {"cam-v2"}


def test_the_same_question_is_asked_once_while_it_is_fresh(api: Api, reader: Make) -> None:
    fleet, url = api("busy")
    clock = Clock()
    client = reader(url, monotonic=clock)
    first = client.alerts()
    fleet.scenario, fleet.bad = "calm", False
    assert client.alerts() is first
    clock.now += FRESH_S + 0.1
    assert client.alerts() == []


def test_a_failing_api_keeps_the_last_good_answer_and_says_since_when(api: Api, reader: Make) -> None:
    fleet, url = api("busy")
    clock = Clock()
    client = reader(url, monotonic=clock, clock_ns=lambda: 77)
    first = client.verdicts("slo")
    fleet.scenario = "broken"
    clock.now += FRESH_S + 0.1
    assert client.verdicts("slo") == first
    assert client.outage is not None
    assert (client.outage.since_ns, client.outage.message) == (77, "503 the store is starting")
    fleet.scenario = "busy"
    clock.now += FRESH_S + 0.1
    client.verdicts("slo")
    assert client.outage is None


def test_an_unreachable_api_gives_empty_answers_and_is_not_hammered(reader: Make) -> None:
    clock = Clock()
    client = reader("http://127.0.0.1:9", monotonic=clock)
    assert client.verdicts("kpis") == []
    assert client.outage is not None
    before = client.outage
    assert client.devices() == []
    assert client.outage is before  # the second question was not asked: the API rests


class Picky(BaseHTTPRequestHandler):
    """Answers only who brings the right token."""

    def do_GET(self) -> None:
        good = self.headers.get("Authorization") == "Bearer secret"
        body = (
            b'{"items": [], "next": null, "as_of_ns": 5}' if good else b'{"title": "Forbidden", "detail": "read scope"}'
        )
        self.send_response(200 if good else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


def test_the_token_travels_in_the_header_and_its_absence_is_told_apart_from_an_outage(reader: Make) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Picky)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        allowed, refused = reader(url, "secret"), reader(url)
        assert allowed.as_of_ns() == 5
        assert allowed.outage is None
        refused.as_of_ns()
        assert refused.outage is not None
        assert refused.outage.forbidden
        assert "read scope" in refused.outage.message
    finally:
        server.shutdown()
        server.server_close()


def test_an_endpoint_of_a_later_version_is_an_empty_list(api: Api, reader: Make) -> None:
    _, url = api("busy")
    client = reader(url)
    assert client.items("not-yet-there").items == ()
    assert client.outage is None


def test_the_address_and_the_token_come_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("from-file\n")
    assert api_url({}) == "http://127.0.0.1:8400"
    assert api_url({"FLEETPULSE_API_URL": "http://c:1/"}) == "http://c:1"
    assert api_token({"FLEETPULSE_API_TOKEN_FILE": str(path)}) == "from-file"
    assert api_token({"FLEETPULSE_API_TOKEN": "t", "FLEETPULSE_API_TOKEN_FILE": str(path)}) == "t"
    assert api_token({"FLEETPULSE_API_TOKEN_FILE": str(tmp_path / "gone")}) == ""

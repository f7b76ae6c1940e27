"""Verdict rows, a recording HTTP receiver and a real store for the tests of alerts."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from alerts.verdict import Verdict

HOUR_NS = 3_600_000_000_000
T0 = 1_794_448_800_000_000_000  # 2026-11-12 02:00 UTC


def build_verdict(kind: str = "slo", at_ns: int = T0, **fields: Any) -> Verdict:
    """Return a verdict row with plausible columns; `cohort` and `detail` as mappings."""
    given: dict[str, Any] = {
        "name": {"slo": "inference-latency", "drift": "input:mean", "silence": "silent_devices"}.get(
            kind, "crash_loop"
        ),
        "model": "",
        "version": "",
        "cohort": {},
        "value": 0.9,
        "low": None,
        "high": None,
        "n": 1000.0,
        "devices": 40,
        "target": None,
        "verdict": {"slo": "fast_burn", "drift": "drift"}.get(kind, "missed"),
        "reason": "",
        "completeness": 0.98,
        "window_start_ns": at_ns - HOUR_NS,
        "window_end_ns": at_ns,
        "detail": {},
        **fields,
    }
    identity = {name: given[name] for name in ("name", "model", "version", "cohort")}
    given.setdefault("key", json.dumps(identity, sort_keys=True, separators=(",", ":")))
    return Verdict(kind=kind, at_ns=at_ns, **given)


@pytest.fixture(scope="session")
def verdict() -> Callable[..., Verdict]:
    return build_verdict


@dataclass
class Receiver:
    """A real HTTP server on loopback that records requests and answers what it is told, then 200."""

    url: str = ""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.requests]


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Receiver]]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start() -> Receiver:
        receiver = Receiver()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.requests.append((self.path, dict(self.headers), body))
                status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        return receiver

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()

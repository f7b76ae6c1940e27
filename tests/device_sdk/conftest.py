"""Fixtures: a Monitor on a manual clock, and a real HTTP collector. Puts the builders beside the tests on the path."""

from __future__ import annotations

import gzip
import http.server
import importlib.util
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from device_sdk import Monitor
from device_sdk.errors import raise_swallowed
from device_sdk.testing import ManualClock, MemorySink, connect

sys.path.append(str(Path(__file__).parent))

if missing := [name for name in ("ai_edge_litert", "openvino") if importlib.util.find_spec(name) is None]:
    raise pytest.UsageError(f"these tests run real models under {', '.join(missing)}: install what is new (make setup)")

from host_kit import MACHINES, Machine
from sdk_kit import START_NS, Bench, classifier, session_of


@pytest.fixture(autouse=True)
def _faults_are_raised() -> Iterator[None]:
    raise_swallowed(True)
    yield
    raise_swallowed(False)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)


@pytest.fixture
def digits(tmp_path: Path) -> onnxruntime.InferenceSession:
    return session_of(classifier(tmp_path / "digits.onnx"))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START_NS)


@pytest.fixture
def bench(tmp_path: Path, clock: ManualClock) -> Iterator[Any]:
    made: list[Monitor] = []

    def make(**arguments: Any) -> Bench:
        arguments.setdefault("state_dir", tmp_path / "state")
        used = arguments.pop("clock", clock)
        monitor = Monitor(endpoint="http://127.0.0.1:9", clock=used, **arguments)
        made.append(monitor)
        sink = MemorySink()
        connect(monitor, sink)
        return Bench(monitor, used, sink)

    yield make
    for monitor in made:
        monitor.close(0)


@pytest.fixture
def machine(tmp_path: Path) -> Any:
    """Write one of the recorded machines."""

    def make(name: str) -> Machine:
        return Machine(tmp_path / name, MACHINES[name])

    return make


@dataclass
class Collector:
    """A real HTTP server that keeps what it is sent and answers from a list of (status, headers, body).

    ``settings`` is the id its answers name, ``documents`` what it serves by id.
    """

    url: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0
    settings: str = ""
    documents: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)

    def metrics(self) -> list[Any]:
        parse = metrics_service_pb2.ExportMetricsServiceRequest.FromString
        return [parse(body) for path, _, body in self.requests if path == "/v1/metrics"]

    def logs(self) -> list[Any]:
        parse = logs_service_pb2.ExportLogsServiceRequest.FromString
        return [parse(body) for path, _, body in self.requests if path == "/v1/logs"]


@pytest.fixture
def collector() -> Iterator[Collector]:
    kept = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            kept.connections += 1
            super().setup()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, answer = kept.answers.pop(0) if kept.answers else (200, {}, b"")
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if 200 <= status < 300:
                kept.requests.append((self.path, dict(self.headers), body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if kept.settings:
                self.send_header("FleetPulse-Settings", kept.settings)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            kept.fetched.append(self.path)
            status, document = kept.documents.get(self.path.rpartition("id=")[2], (404, b""))
            body = b"" if status == 304 else document
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            return None

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield kept
    server.shutdown()
    server.server_close()
    thread.join()

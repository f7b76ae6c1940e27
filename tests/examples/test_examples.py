"""Each example runs as its reader would run it, and everything it sends conforms to the contract."""

from __future__ import annotations

import gzip
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from device_sdk.contract.check import Checker
from fleetpulse.commands.contract import check_body

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
ELSEWHERE = {"opentelemetry_buffer.py"}  # tests/device_sdk: its data are not of the contract

SENDS = {
    "onnxruntime_session.py": {"edge.inference.duration", "edge.input.value", "edge.output.confidence"},
    "litert_interpreter.py": {"edge.inference.duration", "edge.output.confidence"},
    "openvino_model.py": {"edge.inference.duration", "edge.output.confidence"},
    "any_callable.py": {"edge.inference.duration", "edge.pipeline.duration", "edge.output.outcomes"},
    "detector.py": {"edge.output.detection.count", "edge.output.detection.area", "edge.input.value"},
    "tabular.py": {"edge.input.value", "edge.input.categories", "edge.output.value"},
    "audio.py": {"edge.input.value", "edge.output.predictions"},
}


class Sink(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent, by path."""

    protocol_version = "HTTP/1.1"
    kept: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.kept.append((self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        return None


@pytest.fixture
def sink() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    kept: list[tuple[str, bytes]] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Kept", (Sink,), {"kept": kept}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", kept
    server.shutdown()
    server.server_close()
    thread.join()


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} - ELSEWHERE == set(SENDS)


@pytest.mark.parametrize("name", sorted(SENDS))
def test_an_example_runs_and_conforms(name: str, sink: tuple[str, list[tuple[str, bytes]]], tmp_path: Path) -> None:
    url, kept = sink
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("FLEETPULSE_", "OTEL_"))},
        "FLEETPULSE_DEVICE_ENDPOINT": url,
        "FLEETPULSE_DEVICE_STATE_DIR": str(tmp_path / "state"),
    }
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "sent\n"
    checker = Checker()
    findings = [str(finding) for path, body in kept for finding in check_body(checker, body, path)]
    assert not findings
    metrics = [ExportMetricsServiceRequest.FromString(body) for path, body in kept if path == "/v1/metrics"]
    scopes = [scope for request in metrics for r in request.resource_metrics for scope in r.scope_metrics]
    assert {metric.name for scope in scopes for metric in scope.metrics} >= SENDS[name]

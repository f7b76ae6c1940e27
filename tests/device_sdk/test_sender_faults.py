"""Endpoints that are tired, hostile or somebody else's, and what the sender makes of them."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sdk_kit import SECOND, START_NS, points

from device_sdk import Monitor
from device_sdk.sending.transport import Answer
from device_sdk.spool import LOGS, METRICS
from device_sdk.testing import ManualClock, connect, kill

DAY = 86_400 * SECOND


class Script:
    """A transport that answers by kind from a list, and keeps what it was offered."""

    def __init__(self, **answers: list[Answer]) -> None:
        self.answers = answers
        self.offered: list[tuple[str, bytes]] = []

    def post(self, url: str, body: bytes, headers: Any, timeout_s: float) -> Answer:
        import gzip

        kind = url.rsplit("/", 1)[1]
        self.offered.append((kind, gzip.decompress(body)))
        queue = self.answers.get(kind, [])
        return queue.pop(0) if queue else Answer(200)

    def close(self) -> None:
        return None


def windows(world: Any, count: int) -> None:
    for _ in range(count):
        world.window()


def sender(world: Any) -> Any:
    return world.monitor._engine.sender


def rest_over(world: Any) -> None:
    for lane in sender(world)._lanes:
        lane.resting_until_s = 0.0


def sequences(requests: list[Any]) -> list[int]:
    return [p.as_int for n, _, p in points(requests) if n == "edge.window.sequence"]


PORTAL = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {"Content-Type": "text/html"}, PORTAL),
        (200, {"Content-Type": "application/x-protobuf"}, b"\xff\xff\xff rubbish"),
        (200, {}, PORTAL),
        (500, {}, b"Internal Server Error"),
        (429, {"Retry-After": "0"}, b""),
        (503, {"Retry-After": "0"}, b""),
        (401, {}, b"who are you"),
    ],
)
def test_an_answer_that_is_no_success_keeps_the_data(
    collector: Any, tmp_path: Path, status: int, headers: dict[str, str], body: bytes
) -> None:
    clock = ManualClock(START_NS)
    monitor = Monitor(endpoint=collector.url, state_dir=tmp_path / "state", clock=clock)
    assert monitor.flush(5)
    collector.requests.clear()
    clock.advance(60 * SECOND)
    monitor.step()
    collector.answers = [(status, headers, body)]
    assert not monitor.flush(0.3) or "Retry-After" in headers
    for lane in monitor._engine.sender._lanes:  # type: ignore[union-attr]
        lane.resting_until_s = 0.0
    assert monitor.flush(10)
    good = collector.metrics()[-1:]
    assert sequences(good) == [0]
    monitor.close(0)


@pytest.mark.parametrize("content_type", ["application/json", "application/x-protobuf", ""])
def test_the_usual_successes_are_successes(collector: Any, tmp_path: Path, content_type: str) -> None:
    clock = ManualClock(START_NS)
    monitor = Monitor(endpoint=collector.url, state_dir=tmp_path / "state", clock=clock)
    body = b"{}" if "json" in content_type else b""
    collector.answers = [(200, {"Content-Type": content_type} if content_type else {}, body)]
    assert monitor.flush(5)
    assert len(collector.requests) == 1
    monitor.close(0)


def test_metrics_and_logs_back_off_on_their_own(bench: Any) -> None:
    world = bench()
    script = Script(logs=[Answer(503, retry_after_s=600.0)])
    connect(world.monitor, script)
    windows(world, 3)
    assert not world.monitor.flush(2)
    spool = world.monitor._engine.session.spool
    assert (spool.waiting(METRICS), spool.waiting(LOGS)) == (0, 1)
    assert sender(world).resting_s() > 590


def test_413_makes_bodies_smaller_and_loses_nothing(bench: Any) -> None:
    world = bench()
    assert world.monitor.flush(5)
    script = Script(metrics=[Answer(413)])
    connect(world.monitor, script)
    windows(world, 40)
    assert world.monitor.flush(5)
    sizes = [len(body) for kind, body in script.offered if kind == "metrics"]
    assert max(sizes[1:]) <= sizes[0] * 0.6
    windows(world, 40)
    assert world.monitor.flush(5)
    later = [len(body) for kind, body in script.offered[len(sizes) :] if kind == "metrics"]
    assert max(later) <= sizes[0] * 0.6  # remembered
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as pb

    taken = [pb.ExportMetricsServiceRequest.FromString(body) for kind, body in script.offered if kind == "metrics"]
    assert sorted(set(sequences(taken))) == list(range(80))


def test_a_crash_is_sent_before_anything_else(bench: Any) -> None:
    world = bench()
    world.sink.status = 0
    windows(world, 5)
    world.monitor.flush(0.01)
    kill(world.monitor, ValueError("x"))
    again = bench()
    script = Script()
    connect(again.monitor, script)
    again.window()
    assert again.monitor.flush(5)
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as pb

    kind, body = script.offered[0]
    names = [
        record.event_name
        for resource in pb.ExportLogsServiceRequest.FromString(body).resource_logs
        for record in resource.scope_logs[0].log_records
    ]
    assert kind == "logs"
    assert names[:2] == ["session.end", "app.crash"]


def test_while_the_collector_is_away_only_what_was_offered_is_offered_again(bench: Any) -> None:
    world = bench()
    assert world.monitor.flush(5)
    script = Script(metrics=[Answer(0, error="away")] * 3)
    connect(world.monitor, script)
    for _ in range(3):
        windows(world, 2)
        assert not world.monitor.flush(0.01)
        rest_over(world)
    tried = [sequences_of(body) for kind, body in script.offered if kind == "metrics"]
    assert tried == [[0, 1]] * 3
    assert world.monitor.flush(5)
    assert sorted({n for kind, body in script.offered if kind == "metrics" for n in sequences_of(body)}) == list(
        range(6)
    )


def sequences_of(body: bytes) -> list[int]:
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as pb

    return sequences([pb.ExportMetricsServiceRequest.FromString(body)])


def test_a_bandwidth_budget_makes_windows_wait_over_restarts_but_no_crash(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETPULSE_DEVICE_SENT_BYTES_PER_DAY", "2000")
    world = bench(spool="durable")
    windows(world, 20)
    assert not world.monitor.flush(0.1)  # one body overdraws what is left, then it waits
    first = len(world.sink.requests)
    windows(world, 20)
    assert not world.monitor.flush(0.1)
    assert len(world.sink.requests) == first
    kill(world.monitor, ValueError("x"))
    again = bench()
    assert not again.monitor.flush(0.1)
    assert [url.rsplit("/", 1)[1] for url, _ in again.sink.requests] == ["logs"]  # the crash; the rest still waits
    world.clock.advance(30 * DAY)
    again.monitor.flush(5)
    assert any(url.endswith("metrics") for url, _ in again.sink.requests)


@pytest.fixture
def resetting() -> Iterator[str]:
    """A server that resets every connection in the middle of a request."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            connection.recv(10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    stop.set()
    thread.join()
    server.close()


def test_a_connection_that_is_reset_keeps_the_data(resetting: str, tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    monitor = Monitor(endpoint=resetting, state_dir=tmp_path / "state", clock=clock)
    clock.advance(60 * SECOND)
    monitor.step()
    assert not monitor.flush(0.5)
    spool = monitor._engine.session.spool  # type: ignore[union-attr]
    assert spool.waiting(METRICS) == 1
    monitor.close(0)

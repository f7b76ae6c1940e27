"""Sending: one body of many unchanged windows, retries, refusals, and a collector that is not there."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from sdk_kit import SECOND, START_NS, attributes_of, points

from device_sdk import Monitor
from device_sdk.contract import attributes as a
from device_sdk.sending.transport import HttpTransport, _retry_after_s
from device_sdk.testing import ManualClock, kill


@pytest.fixture
def device(collector: Any, tmp_path: Path) -> Any:
    made: list[Monitor] = []

    def make(**arguments: Any) -> tuple[Monitor, ManualClock]:
        clock = ManualClock(START_NS)
        arguments.setdefault("endpoint", collector.url)
        monitor = Monitor(state_dir=tmp_path / "state", clock=clock, **arguments)
        made.append(monitor)
        return monitor, clock

    yield make
    for monitor in made:
        monitor.close(0)


def windows(monitor: Monitor, clock: ManualClock, count: int) -> None:
    for _ in range(count):
        clock.advance(60 * SECOND)
        monitor.step()


def sequences(collector: Any) -> list[int]:
    return [p.as_int for n, _, p in points(collector.metrics()) if n == "edge.window.sequence"]


def test_many_windows_travel_in_one_request_with_one_envelope(device: Any, collector: Any) -> None:
    monitor, clock = device(token="t0k")
    windows(monitor, clock, 50)
    assert monitor.flush(5)
    ((_, headers, _),) = [r for r in collector.requests if r[0] == "/v1/metrics"]
    assert headers["Authorization"] == "Bearer t0k"
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers["Content-Encoding"] == "gzip"
    (request,) = collector.metrics()
    names = [metric.name for rm in request.resource_metrics for metric in rm.scope_metrics[0].metrics]
    assert len(request.resource_metrics) == 51
    assert names.count("edge.clock.offset") == 1
    assert names[-1] == "edge.clock.offset"
    assert sequences(collector) == list(range(50))
    assert collector.connections == 1


def test_a_backlog_is_split_into_bodies_below_one_mebibyte(device: Any, collector: Any) -> None:
    monitor, clock = device(resource={f"edge.label.l{i}": "x" * 64 for i in range(8)})
    windows(monitor, clock, 1200)
    assert monitor.flush(20)
    sizes = [len(body) for path, _, body in collector.requests if path == "/v1/metrics"]
    assert len(sizes) > 1
    assert max(sizes) <= 1024 * 1024
    assert sequences(collector) == list(range(1200))


def test_a_window_is_resent_with_the_same_bytes(device: Any, collector: Any) -> None:
    monitor, clock = device()
    seen: list[bytes] = []
    engine = monitor._engine
    assert engine is not None
    inner = engine.sender.transport

    class Spy:
        def post(self, url: str, body: bytes, headers: Any, timeout_s: float) -> Any:
            import gzip

            if url.endswith("metrics"):
                request = metrics_service_pb2.ExportMetricsServiceRequest.FromString(gzip.decompress(body))
                seen.append(request.resource_metrics[0].SerializeToString())
            return inner.post(url, body, headers, timeout_s)

        def close(self) -> None:
            inner.close()

    engine.sender.transport = Spy()
    assert monitor.flush(5)  # the start event
    windows(monitor, clock, 1)
    collector.answers = [(503, {"Retry-After": "0"}, b""), (429, {"Retry-After": "0"}, b"")]
    clock.advance(7 * SECOND)
    assert monitor.flush(5)
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert sequences(collector) == [0]


def test_retry_after_is_obeyed(device: Any, collector: Any) -> None:
    monitor, clock = device()
    windows(monitor, clock, 1)
    collector.answers = [(503, {"Retry-After": "600"}, b"")]
    started = time.monotonic()
    assert not monitor.flush(1)
    assert time.monotonic() - started < 5
    engine = monitor._engine
    assert engine is not None
    assert 590 < engine.sender.resting_s() < 670


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("5", 5, 5), ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0), ("Wed, 01 Jan 2200 00:00:00 GMT", 1e9, 1e11)],
)
def test_retry_after_may_be_seconds_or_a_date(text: str, low: float, high: float) -> None:
    seconds = _retry_after_s(text)
    assert seconds is not None
    assert low <= seconds <= high


def test_a_header_that_cannot_be_sent_is_an_answer_that_does_not_show_it(collector: Any) -> None:
    transport = HttpTransport()
    answer = transport.post(collector.url + "/v1/metrics", b"", {"Authorization": "Bearer se\ncret"}, 5)
    transport.close()
    assert (answer.status, collector.requests) == (0, [])
    assert "cannot be sent" in answer.error
    assert "cret" not in answer.error


@pytest.mark.parametrize(
    "text", ["soon", "nan", "-5", "", "1e", "\xff", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"]
)
def test_retry_after_that_is_nonsense_is_ignored(text: str) -> None:
    assert _retry_after_s(text) is None
    assert _retry_after_s(None) is None


def test_a_collector_that_says_at_once_again_and_again_is_not_asked_without_pause(device: Any, collector: Any) -> None:
    monitor, clock = device()
    windows(monitor, clock, 1)
    collector.answers = [(429, {"Retry-After": "0"}, b"")] * 100
    assert not monitor.flush(1)
    assert len(collector.answers) > 100 - 2 * 5  # logs and metrics each: 3 times at once, then after 4 to 8 s


@pytest.mark.parametrize("status", [600, 999])
def test_a_status_that_http_does_not_have_loses_nothing(device: Any, collector: Any, status: int) -> None:
    monitor, clock = device()
    windows(monitor, clock, 2)
    collector.answers = [(status, {"Retry-After": "0"}, b"")]
    assert monitor.flush(5)
    assert sequences(collector) == [0, 1]


def test_a_negative_number_of_rejected_items_is_none(device: Any, collector: Any) -> None:
    monitor, clock = device()
    assert monitor.flush(5)  # the start event
    windows(monitor, clock, 1)
    answer = metrics_service_pb2.ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = -3
    collector.answers = [(200, {}, answer.SerializeToString())]
    assert monitor.flush(5)
    windows(monitor, clock, 1)
    assert monitor.flush(5)
    assert not [name for name, *_ in points(collector.metrics()) if name == "edge.loss.measurements"]


def test_only_the_request_at_fault_is_given_up(device: Any, collector: Any) -> None:
    monitor, clock = device()
    assert monitor.flush(5)  # the start event
    windows(monitor, clock, 4)
    # all four refused, first half refused, window 0 refused alone, window 1 taken, second half taken
    collector.answers = [(400, {}, b""), (400, {}, b""), (400, {}, b"")]
    assert monitor.flush(5)
    assert sequences(collector) == [1, 2, 3]
    windows(monitor, clock, 1)
    assert monitor.flush(5)
    ((at, lost),) = [(at, p) for n, at, p in points(collector.metrics()) if n == "edge.loss.windows"]
    assert (at[a.LOSS_REASON], lost.as_int) == ("rejected", 1)


@pytest.mark.parametrize("status", [302, 307, 401, 403, 404, 407, 511])
def test_a_wrong_token_address_or_network_loses_nothing(device: Any, collector: Any, status: int) -> None:
    monitor, clock = device()
    windows(monitor, clock, 2)
    collector.answers = [(status, {"Retry-After": "0"}, b"")]
    assert monitor.flush(5)
    assert sequences(collector) == [0, 1]


def test_partial_success_is_counted(device: Any, collector: Any) -> None:
    monitor, clock = device()
    assert monitor.flush(5)  # the start event
    windows(monitor, clock, 1)
    answer = metrics_service_pb2.ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 3
    collector.answers = [(200, {}, answer.SerializeToString())]
    assert monitor.flush(5)
    windows(monitor, clock, 1)
    assert monitor.flush(5)
    ((at, lost),) = [(at, p) for n, at, p in points(collector.metrics()) if n == "edge.loss.measurements"]
    assert (at[a.LOSS_REASON], lost.as_int) == ("rejected", 3)


def test_bytes_on_the_network_are_counted(device: Any, collector: Any) -> None:
    monitor, clock = device()
    windows(monitor, clock, 1)
    assert monitor.flush(5)
    windows(monitor, clock, 1)
    assert monitor.flush(5)
    kinds = {at[a.EXPORT_KIND]: p.as_int for n, at, p in points(collector.metrics()) if n == "edge.export.size"}
    assert set(kinds) == {"metrics", "logs"}
    assert all(100 < size < 5000 for size in kinds.values())


def test_a_connection_that_the_server_dropped_is_reopened_without_a_failure(device: Any, collector: Any) -> None:
    monitor, clock = device()
    windows(monitor, clock, 1)
    collector.answers = [(200, {"Connection": "close"}, b""), (200, {"Connection": "close"}, b"")]
    assert monitor.flush(5)
    windows(monitor, clock, 1)
    assert monitor.flush(1)
    assert sequences(collector) == [0, 1]


def test_an_unreachable_collector_neither_raises_nor_stalls(device: Any) -> None:
    monitor, clock = device(endpoint="http://127.0.0.1:9")
    windows(monitor, clock, 3)
    started = time.monotonic()
    assert not monitor.flush(0.2)
    assert not monitor.close(0.2)
    assert time.monotonic() - started < 3


def test_a_collector_that_never_answers_costs_no_more_than_asked(device: Any) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    monitor, clock = device(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}")
    windows(monitor, clock, 1)
    started = time.monotonic()
    assert not monitor.flush(0.3)
    assert not monitor.close(0.3)
    assert time.monotonic() - started < 3
    listener.close()


def test_an_answer_that_drips_in_costs_no_more_than_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                for letter in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100:
                    connection.sendall(bytes([letter]))
                    time.sleep(0.05)

        dripping = threading.Thread(target=drip)
        dripping.start()
        transport = HttpTransport()
        began = time.monotonic()
        answer = transport.post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"x", {}, 0.3)
        took_s = time.monotonic() - began
        transport.close()
        dripping.join()
    assert (answer.status, took_s < 2) == (0, True)
    assert "TimeoutError" in answer.error


def test_what_could_not_be_sent_at_close_is_sent_by_the_next_start(device: Any, collector: Any) -> None:
    monitor, clock = device(endpoint="http://127.0.0.1:9")
    windows(monitor, clock, 2)
    assert not monitor.close(0.1)
    later, _ = device()
    assert later.flush(5)
    assert sequences(collector) == [0, 1]


def test_close_with_no_time_sends_nothing_and_keeps_all(device: Any, collector: Any) -> None:
    monitor, clock = device()
    windows(monitor, clock, 2)
    assert not monitor.close(0)
    assert collector.requests == []
    later, _ = device()
    assert later.flush(5)
    assert sequences(collector) == [0, 1]


def test_the_real_clock_needs_no_driving(collector: Any, tmp_path: Path) -> None:
    arrived = threading.Event()
    before = threading.active_count()
    monitor = Monitor(endpoint=collector.url, state_dir=tmp_path / "real", window_s=0.05)
    with monitor.measure("m"):
        pass
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and len(sequences(collector)) < 3:
        arrived.wait(0.02)
    assert monitor.close()
    found = points(collector.metrics())
    assert [p.count for n, _, p in found if n == "edge.inference.duration"] == [1]
    got = sequences(collector)
    assert got == list(range(len(got)))
    assert len(got) >= 3
    assert {"process.cpu.time", "process.memory.usage"} <= {n for n, _, _ in found}
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and threading.active_count() > before + collector.connections:
        arrived.wait(0.01)
    assert not [t for t in threading.enumerate() if t.name.startswith("device_sdk")]


def test_flush_with_the_real_clock_sends_the_open_window(collector: Any, tmp_path: Path) -> None:
    monitor = Monitor(endpoint=collector.url, state_dir=tmp_path / "real", window_s=3600)
    with monitor.measure("m"):
        pass
    assert monitor.flush(10)
    assert [p.count for n, _, p in points(collector.metrics()) if n == "edge.inference.duration"] == [1]
    kill(monitor)


def test_nothing_is_left_open_after_close(collector: Any, tmp_path: Path) -> None:
    fds = Path("/proc/self/fd")

    def ours() -> list[str]:
        return sorted(target for fd in fds.iterdir() if (target := _target(fd)) and str(tmp_path) in target)

    for _ in range(3):
        monitor = Monitor(endpoint=collector.url, state_dir=tmp_path / "state", window_s=3600, spool="durable")
        assert monitor.flush(5)
        assert ours()
        assert monitor.close()
        assert ours() == []


def _target(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except OSError:
        return ""


def test_the_envelope_names_the_device_and_the_boot(device: Any, collector: Any) -> None:
    monitor, clock = device(device_id="cam-9")
    windows(monitor, clock, 1)
    assert monitor.flush(5)
    window, envelope = collector.metrics()[0].resource_metrics
    assert attributes_of(envelope.resource.attributes) == attributes_of(window.resource.attributes)

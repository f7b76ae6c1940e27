"""The device port under pressure: limits, a full disk, tokens, many clients, and death between write and answer."""

from __future__ import annotations

import errno
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.rpc.status_pb2 import Status
from ingest_kit import MINUTE, PROTOBUF, Served, T, serving, stored
from store_kit import Request

from collector.api.auth import create_token
from collector.api.options import IngestOptions
from collector.errors import ConfigError
from collector.storage import segment_file
from collector.storage.segment_file import read_segment

LIMIT = 100_000
GZIP = {"content-encoding": "gzip"}


def window(name: str) -> bytes:
    return Request(**{"service.instance.id": name}).sum(name, T, T + MINUTE, 1).message.SerializeToString()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A worker with small limits."""
    options = IngestOptions(
        tmp_path_factory.mktemp("small"), body_bytes_max=LIMIT, inflight_bytes_max=2 * LIMIT,
        report_interval_s=0.05, retry_after_s=7,
    )  # fmt: skip
    with serving(options) as served:
        yield served
        assert served.app.counters.internal_errors == 0
        assert served.app.admission.inflight_bytes == 0


def refused(response: httpx.Response, status: int, code: int, *, retry: bool = False) -> str:
    assert response.status_code == status
    found = Status.FromString(response.content)
    assert found.code == code
    assert response.headers.get("retry-after") == ("7" if retry else None)
    return str(found.message)


# --- size -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_413_and_its_sender_can_read_the_answer(small: Served, chunked: bool) -> None:
    body = b"x" * (20 * LIMIT)
    content: Any = (body[at : at + 8192] for at in range(0, len(body), 8192)) if chunked else body
    message = refused(small.post(content=content), 413, 8)
    assert str(LIMIT) in message
    assert small.post(content=window("after")).status_code == 200


def test_a_body_of_exactly_the_limit_is_read(small: Served) -> None:
    pad = Request(pad="x" * (LIMIT - 200)).sum("at.limit", T, T + 1, 1).message.SerializeToString()
    request = Request(pad="x" * (LIMIT - 200 + LIMIT - len(pad))).sum("at.limit", T, T + 1, 1)
    body = request.message.SerializeToString()
    assert len(body) == LIMIT
    assert small.post(content=body).status_code == 200
    assert small.post(content=gzip.compress(body), **GZIP).status_code == 200


def test_the_limit_holds_after_decompression_too(small: Served) -> None:
    message = refused(small.post(content=gzip.compress(b"x" * (LIMIT + 1)), **GZIP), 413, 8)
    assert "decompressed" in message


def test_gzip_of_countless_members_is_refused_before_it_costs_time(small: Served) -> None:
    few = gzip.compress(b"") * 64
    assert small.post(content=few, **GZIP).status_code == 200
    message = refused(small.post(content=few + gzip.compress(b""), **GZIP), 400, 3)
    assert "more than 64 members" in message


def test_a_bomb_is_stopped_at_the_limit_not_at_its_size(small: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    import collector.api.http_body as http_body

    asked: list[int] = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, wbits: int) -> None:
            self._inner = real(wbits)

        def decompress(self, data: bytes, most: int) -> bytes:
            asked.append(most)
            return self._inner.decompress(data, most)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    monkeypatch.setattr(http_body.zlib, "decompressobj", Counting)
    zeros = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(zeros.compress(bytes(1 << 20)) for _ in range(64)) + zeros.flush()
    assert len(bomb) < LIMIT
    refused(small.post(content=bomb, **GZIP), 413, 8)
    many = gzip.compress(bytes(LIMIT // 2)) * 3
    refused(small.post(content=many, **GZIP), 413, 8)
    assert all(0 < most <= LIMIT + 1 for most in asked)
    assert len(asked) <= 4


def test_a_body_that_does_not_come_is_408_and_the_connection_is_closed(tmp_path: Path) -> None:
    with (
        serving(IngestOptions(tmp_path, read_timeout_s=0.2, retry_after_s=7)) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection,
    ):
        connection.sendall(
            b"POST /v1/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"retry-after: 7" in answer
    assert server.app.admission.inflight_bytes == 0


# --- overload: later, never lost --------------------------------------------------------------------------------


def test_bodies_that_do_not_fit_in_memory_are_503(small: Served) -> None:
    assert small.app.admission.hold(2 * LIMIT)
    try:
        assert "too many" in refused(small.post(content=window("no.room")), 503, 14, retry=True)
    finally:
        small.app.admission.release(2 * LIMIT)
    assert small.post(content=window("room.again")).status_code == 200


def test_what_a_body_grows_to_counts_as_memory_too(small: Served) -> None:
    body = gzip.compress(Request(pad="x" * (LIMIT // 2)).sum("grows", T, T + 1, 1).message.SerializeToString())
    assert small.app.admission.hold(2 * LIMIT - 10_000)
    try:
        assert "decoded" in refused(small.post(content=body, **GZIP), 503, 14, retry=True)
    finally:
        small.app.admission.release(2 * LIMIT - 10_000)
    assert small.post(content=body, **GZIP).status_code == 200


def test_a_backlog_above_the_mark_is_503_until_the_store_catches_up(tmp_path: Path) -> None:
    options = IngestOptions(tmp_path, backlog_bytes_max=10_000, report_interval_s=0.02, retry_after_s=7)
    segment = tmp_path / "segments" / "1.seg"
    segment.parent.mkdir()
    segment.write_bytes(b"x" * 10_001)
    with serving(options) as server:
        assert "wait for the store" in refused(server.post(content=window("m")), 503, 14, retry=True)
        ready = server.client.get(server.url + "/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
        assert server.client.get(server.url + "/healthz").status_code == 200
        segment.unlink()
        deadline = time.monotonic() + 10
        while server.post(content=window("m")).status_code == 503:
            assert time.monotonic() < deadline, "the backlog is gone but the worker still refuses"
        assert server.client.get(server.url + "/readyz").status_code == 200


def test_a_disk_without_reserve_is_503(tmp_path: Path) -> None:
    with serving(IngestOptions(tmp_path, free_bytes_min=2**62, retry_after_s=7)) as server:
        assert "bytes are free" in refused(server.post(content=window("m")), 503, 14, retry=True)


def test_a_full_disk_is_503_and_what_was_acknowledged_stays(small: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert small.post(content=window("before.full")).status_code == 200
    with monkeypatch.context() as patch:

        def full(fd: int, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(segment_file.os, "write", full)
        message = refused(small.post(content=window("while.full")), 503, 14, retry=True)
        assert "nothing was taken" in message
    assert small.post(content=window("after.full")).status_code == 200
    assert {"before.full", "after.full"} <= small.metrics()
    assert "while.full" not in small.metrics()
    assert list((small.data_dir / "segments").glob("*.tmp")) == []


def test_a_fault_of_ours_is_500_counted_and_the_worker_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(IngestOptions(tmp_path)) as server:
        with monkeypatch.context() as patch:
            patch.setattr(server.app.writer, "append", lambda batch: 1 / 0)
            refused(server.post(content=window("m")), 500, 13)
        assert server.app.counters.internal_errors == 1
        assert server.post(content=window("m")).status_code == 200
        assert server.app.admission.inflight_bytes == 0


# --- tokens -----------------------------------------------------------------------------------------------------


def test_beyond_loopback_a_token_of_scope_ingest_decides(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.json"
    tokens = {scope: create_token(path, scope) for scope in ("ingest", "read")}
    with serving(IngestOptions(tmp_path, bind_host="0.0.0.0", tokens_path=path)) as server:
        answer = server.post(content=window("no.token"))
        refused(answer, 401, 16)
        assert answer.headers["www-authenticate"] == "Bearer"
        refused(server.post(content=window("wrong"), authorization="Bearer fp_wrong"), 401, 16)
        refused(server.post(content=window("read"), authorization=f"Bearer {tokens['read']}"), 403, 7)
        good = {"authorization": f"Bearer {tokens['ingest']}", "host": "fleet.example", "x-forwarded-for": "1.2.3.4"}
        assert server.post(content=window("good"), **good).status_code == 200
        assert server.metrics() == {"good"}
        late = create_token(path, "ingest")
        assert server.post(content=window("late"), authorization=f"Bearer {late}").status_code == 200


def test_a_broken_token_file_stops_the_start_with_one_message(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text("{")
    with pytest.raises(ConfigError, match=r"tokens\.json"), serving(IngestOptions(tmp_path)):
        pass


# --- many, counted, durable -------------------------------------------------------------------------------------


def test_many_clients_at_once_are_all_durable_in_few_segments_and_counted(tmp_path: Path) -> None:
    received = iter(range(T, T + 10_000))
    with serving(
        IngestOptions(tmp_path, commit_tick_s=0.1, report_interval_s=30), clock_ns=lambda: next(received)
    ) as server:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: server.post(content=window(f"m{n}")).status_code, range(160)))
        server.post(content=b"\xff")
        server.post("/v1/logs")
        assert answers == [200] * 160
        assert server.metrics() == {f"m{n}" for n in range(160)}
        segments = list((tmp_path / "segments").glob("*.seg"))
        assert len(segments) < 80
        points = stored(tmp_path)["points"]
        assert len(set(points["received_ns"].to_pylist())) == 160
    (counters,) = [json.loads(path.read_text()) for path in (tmp_path / "workers").iterdir()]
    assert counters["requests"] == {"metrics 200": 160, "metrics 400": 1, "logs 200": 1}
    assert counters["accepted"]["metrics"] == 160
    assert counters["segments"] == len(segments)
    assert counters["segment_bytes"] == counters["backlog_bytes"] == sum(path.stat().st_size for path in segments)
    assert counters["ack"]["count"] == sum(counters["ack"]["counts"]) == 161


WORKER = """
import sys, uvicorn
from pathlib import Path
from collector.api.ingest_app import create_ingest_app, settle_memory
from collector.api.options import IngestOptions
settle_memory()
uvicorn.run(create_ingest_app(IngestOptions(Path(sys.argv[1]))), fd=int(sys.argv[2]), log_level="error")
"""


def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/metrics"
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path), str(listener.fileno())], pass_fds=[listener.fileno()]
    )
    listener.close()  # from here on only the worker listens, so its death refuses connections at once
    acknowledged: set[str] = set()
    enough = threading.Event()

    def device(number: int) -> None:
        with httpx.Client(timeout=30, trust_env=False, headers=PROTOBUF) as client:
            for n in range(10_000):
                name = f"d{number}.{n}"
                try:
                    answer = client.post(url, content=window(name))
                except httpx.HTTPError:
                    return
                assert answer.status_code == 200
                acknowledged.add(name)
                if len(acknowledged) > 100:
                    enough.set()

    threads = [threading.Thread(target=device, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert enough.wait(60)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)
        for thread in threads:
            thread.join(30)
    kept = set()
    for path in (tmp_path / "segments").glob("*.seg"):
        kept |= set(read_segment(path)["series"]["metric"].to_pylist())
    assert len(acknowledged) > 100
    assert acknowledged <= kept

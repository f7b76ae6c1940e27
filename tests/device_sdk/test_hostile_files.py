"""Whatever came into the state directory: the Monitor starts, delivers, and neither hangs nor fills memory."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sdk_kit import SECOND, START_NS

from device_sdk import Monitor
from device_sdk.errors import SignalsError, raise_swallowed
from device_sdk.reading_files import read_regular
from device_sdk.signals import load_signals
from device_sdk.testing import ManualClock, MemorySink, connect, kill

KEPT = ("boot.json", "inflight", "installation.json", "ledger", "session", "updates.json", "000000000000.out")


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link_to(target: str) -> Callable[[Path], None]:
    def link(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return link


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").write_text("y")


RUBBISH: dict[str, Callable[[Path], object]] = {
    "noise": lambda path: path.write_bytes(os.urandom(3000)),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "another kind": lambda path: path.write_text('{"id": 5, "pending": {"a": null}, "sequence": "x", "anchor_ns": []}'),
    "infinite": lambda path: path.write_text('{"id": "x", "sequence": 1e999, "anchor_ns": 1e999, "pending": 1e999}'),
    "deep": lambda path: path.write_text("[" * 100_000),
    "a gigabyte": _sparse,
    "a folder": _folder,
    "a fifo": _fifo,
    "a dangling link": _link_to("/nonexistent/x"),
    "a link to itself": lambda path: _link_to(path.name)(path),
    "an endless device": _link_to("/dev/zero"),
}


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a device that was cut off, updating and off line leaves in its state directory."""
    state = tmp_path_factory.mktemp("device") / "state"
    clock = ManualClock(START_NS)
    monitor = Monitor(endpoint="http://127.0.0.1:9", clock=clock, state_dir=state)
    sink = MemorySink()
    connect(monitor, sink)
    sink.status = 503
    monitor.update("model", "1", "2")
    with monitor.measure("m"):
        clock.advance(61 * SECOND)
    monitor.step()
    monitor.flush(0.1)
    engine = monitor._engine
    assert engine is not None
    engine.session.spool.to_disk()
    kill(monitor)
    return state


@pytest.fixture
def memory() -> Iterator[Callable[[], int]]:
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize("rubbish", RUBBISH)
@pytest.mark.parametrize("name", KEPT)
def test_a_file_that_became_something_else_costs_neither_start_nor_data(
    left_behind: Path, tmp_path: Path, memory: Callable[[], int], name: str, rubbish: str
) -> None:
    raise_swallowed(False)
    state = tmp_path / "state"
    shutil.copytree(left_behind, state)
    (found,) = state.rglob(name)
    RUBBISH[rubbish](found)
    for start in range(2):
        clock = ManualClock(START_NS + (start + 1) * 3600 * SECOND)
        with Monitor(endpoint="http://127.0.0.1:9", clock=clock, state_dir=state) as monitor:
            sink = MemorySink()
            connect(monitor, sink)
            with monitor.measure("new"):
                clock.advance(61 * SECOND)
            monitor.step()
            monitor.update("app", "1", "2").succeeded()
            monitor.flush(2)
        assert sum(p.count for at, p in sink.points("edge.inference.duration") if at["edge.model.name"] == "new") == 1
    assert memory() < 64 << 20  # a gigabyte is not read


def test_only_regular_files_of_a_sensible_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    assert read_regular(tmp_path / "f", 5) == b"12345"
    assert read_regular(tmp_path / "f", 3, cut=True) == b"123"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(tmp_path / "f", 4)
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(Path("/dev/zero"), 4)


@pytest.mark.parametrize("content", [b"a = " + b"[" * 100_000, b"#" * (10 << 20), b"\xff\xfe", b"a = 1e"], ids=len)
def test_a_declaration_that_cannot_be_read_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.signals.toml").write_bytes(content)
    with pytest.raises(SignalsError, match=r"m\.signals\.toml"):
        load_signals(tmp_path / "m.signals.toml")


def test_a_declaration_may_begin_with_a_mark_and_end_its_lines_as_windows_does(tmp_path: Path) -> None:
    (tmp_path / "m.signals.toml").write_bytes(b'\xef\xbb\xbfoutput = "logits"\r\nclasses = ["a", "b"]\r\n')
    assert load_signals(tmp_path / "m.signals.toml").output == "logits"


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [_emptied, _flipped, lambda path: path.unlink()], ids=["emptied", "flipped", "gone"])
@pytest.mark.parametrize("spool", ["memory", "durable"])
def test_files_that_are_harmed_while_they_wait_are_not_sent_but_counted(
    tmp_path: Path, spool: Any, harm: Callable[[Path], None]
) -> None:
    clock = ManualClock(START_NS)
    monitor = Monitor(endpoint="http://127.0.0.1:9", clock=clock, state_dir=tmp_path / "state", spool=spool)
    sink = MemorySink()
    connect(monitor, sink)

    def work(windows: int) -> None:
        for _ in range(windows):
            with monitor.measure("m"):
                clock.advance(60 * SECOND)
            assert monitor.step() == 1

    engine = monitor._engine
    assert engine is not None
    assert monitor.flush(1)  # the start event
    work(5)
    engine.session.spool.to_disk()
    for path in (tmp_path / "state" / "spool").iterdir():
        if path.is_file() and path.stat().st_size > 100:
            harm(path)
    work(5)
    assert monitor.flush(2)
    work(1)
    assert monitor.flush(2)
    monitor.close(1)
    runs = sum(point.count for _, point in sink.points("edge.inference.duration"))
    lost = {at["edge.loss.reason"]: point.as_int for at, point in sink.points("edge.loss.windows")}
    assert runs + lost.get("corrupt", 0) == 11
    assert lost

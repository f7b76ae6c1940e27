"""Consent at run time: nothing before it is given, nothing left after it is withdrawn, and the host never notices."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from sdk_kit import SECOND, START_NS, points

from device_sdk import ConfigError, Monitor, StateDirError
from device_sdk.contract.settings import ID_LENGTH
from device_sdk.testing import ManualClock, MemorySink, connect

ROW = np.zeros((1, 64), dtype=np.float32)


def made(tmp_path: Path, clock: ManualClock, **arguments: Any) -> Monitor:
    arguments.setdefault("state_dir", tmp_path / "state")
    return Monitor(endpoint="http://127.0.0.1:9", clock=clock, **arguments)


def window(monitor: Monitor, clock: ManualClock, sink: MemorySink) -> dict[str, int]:
    """Close a window, send, and return runs by model of all that ever arrived."""
    clock.advance(60 * SECOND)
    monitor.step()
    assert monitor.flush(5)
    found: dict[str, int] = {}
    for name, attributes, point in points(sink.metrics()):
        if name == "edge.inference.duration":
            found[attributes["edge.model.name"]] = found.get(attributes["edge.model.name"], 0) + point.count
    return found


def test_before_consent_nothing_is_recorded_written_or_started(tmp_path: Path, clock: ManualClock, digits: Any) -> None:
    threads = threading.active_count()
    monitor = made(tmp_path, clock, consent=False)
    session = monitor.wrap(digits)
    assert isinstance(session, onnxruntime.InferenceSession)
    assert session.run(None, {"x": ROW})[0].shape == (1, 10)
    with monitor.measure("block"):
        pass
    with monitor.pipeline("p"):
        pass
    monitor.flag("f", "on")
    assert monitor.step() == 0
    assert monitor.flush(1)
    assert monitor.close()
    assert not (tmp_path / "state").exists()
    assert threading.active_count() == threads


def test_from_consent_on_what_was_wrapped_before_is_measured(tmp_path: Path, clock: ManualClock, digits: Any) -> None:
    monitor = made(tmp_path, clock, consent=False)
    session = monitor.wrap(digits, model="m", version="1")

    @monitor.measure("function")
    def work() -> int:
        return 7

    @monitor.measure("async")
    async def wait() -> int:
        return 8

    block = monitor.measure("block")

    def everything() -> None:
        session.run(None, {"x": ROW})
        assert work() == 7
        assert asyncio.run(wait()) == 8
        with block:
            pass

    for _ in range(3):
        everything()
    monitor.enable()
    sink = MemorySink()
    connect(monitor, sink)
    for _ in range(2):
        everything()
    assert window(monitor, clock, sink) == {"m": 2, "function": 2, "async": 2, "block": 2}
    monitor.enable()  # a second time changes nothing
    monitor.close(0)


def test_a_block_may_span_the_decision_and_end_in_another_context(tmp_path: Path, clock: ManualClock) -> None:
    monitor = made(tmp_path, clock, consent=False)
    block = monitor.measure("block")
    with block:  # begun without consent: not counted
        monitor.enable()
    sink = MemorySink()
    connect(monitor, sink)
    contextvars.copy_context().run(block.__enter__)
    with block:
        pass
    block.__exit__(None, None, None)
    assert window(monitor, clock, sink) == {"block": 2}
    with block:  # begun with consent, ended without: nothing is left of it, and nothing is raised
        monitor.disable()
    assert monitor.flush(1)
    monitor.close(0)


def test_a_block_that_begins_while_consent_is_asked_for_anew_costs_no_later_one(
    tmp_path: Path, clock: ManualClock
) -> None:
    monitor = made(tmp_path, clock, consent=True)
    engine: Any = monitor._engine
    recorder = engine.recorder

    def turned(*arguments: Any) -> Any:  # what another thread does at this moment
        monitor.disable()
        monitor.enable()
        return recorder(*arguments)

    engine.recorder = turned
    with monitor.measure("block"):  # of the engine that is gone
        pass
    sink = MemorySink()
    connect(monitor, sink)
    with monitor.measure("block"):
        pass
    assert window(monitor, clock, sink) == {"block": 1}
    monitor.close(0)


def test_withdrawal_stops_and_discards_what_is_not_sent(tmp_path: Path, clock: ManualClock, digits: Any) -> None:
    monitor = made(tmp_path, clock, consent=True, spool="durable", privacy_epsilon=1.0)
    sink = MemorySink(status=0)
    connect(monitor, sink)
    session = monitor.wrap(digits, model="m", version="1")
    session.run(None, {"x": ROW})
    monitor.update("firmware", "1", "2")
    clock.advance(60 * SECOND)
    monitor.step()
    state = tmp_path / "state"
    assert list((state / "spool").iterdir())
    spent = json.loads((state / "privacy.json").read_text())
    monitor.disable()
    left = {path.name: path.read_bytes() for path in state.rglob("*")}
    assert set(left) == {"privacy.json", "session"}  # the budget is not renewed by asking again
    assert left["session"] == b""
    assert json.loads(left["privacy.json"]) == spent
    session.run(None, {"x": ROW})  # the program goes on
    assert monitor.step() == 0
    assert monitor.flush(1)
    assert set(left) == {path.name for path in state.rglob("*")}
    monitor.close()
    assert not sink.requests


@pytest.mark.parametrize("status", [200, 0])
def test_withdrawal_during_an_attempt_to_send_lets_nothing_follow_it(
    tmp_path: Path, clock: ManualClock, status: int
) -> None:
    monitor = made(tmp_path, clock, consent=True)
    offered = []

    class Withdrawing(MemorySink):
        def post(self, url: str, *arguments: Any) -> Any:
            offered.append(url.rsplit("/", 1)[1])
            monitor.disable()
            return dataclasses.replace(super().post(url, *arguments), settings_id="0" * ID_LENGTH)

        def get(self, url: str, *arguments: Any) -> Any:
            offered.append("settings")
            return super().get(url, *arguments)

    connect(monitor, Withdrawing(status))
    with monitor.measure("m"):
        pass
    begun = monitor.update("app", "1", "2")
    clock.advance(60 * SECOND)
    monitor.step()
    monitor.flush(5)
    begun.succeeded()
    assert offered == ["logs"]  # what was under way, and no window behind it
    assert [path.name for path in (tmp_path / "state").rglob("*")] == ["session"]


def test_consent_given_again_is_a_new_device_that_knows_nothing_of_before(
    tmp_path: Path, clock: ManualClock, digits: Any
) -> None:
    monitor = made(tmp_path, clock, consent=True)
    session = monitor.wrap(digits, model="m", version="1")
    session.run(None, {"x": ROW})
    first = json.loads((tmp_path / "state" / "installation.json").read_text())["id"]
    monitor.disable()
    for _ in range(5):
        session.run(None, {"x": ROW})
    monitor.enable()
    sink = MemorySink()
    connect(monitor, sink)
    session.run(None, {"x": ROW})
    assert window(monitor, clock, sink) == {"m": 1}
    assert json.loads((tmp_path / "state" / "installation.json").read_text())["id"] != first
    assert all(first.encode() not in body for _, body in sink.requests)
    ends = [name for name, _, _ in points(sink.metrics()) if name == "edge.session.ends"]
    assert not ends  # nothing of the session that was discarded
    monitor.close(0)


def test_what_an_earlier_process_left_is_discarded_too(tmp_path: Path, clock: ManualClock) -> None:
    before = made(tmp_path, clock, consent=True, spool="durable")
    before.close(0)
    assert list((tmp_path / "state" / "spool").iterdir())
    for notes in ("fault", "fault.last", "term", "term.last"):  # of fatal signals: a real process makes them
        (tmp_path / "state" / notes).write_text("names of functions")
    monitor = made(tmp_path, clock, consent=False)
    monitor.disable()
    assert {path.name for path in (tmp_path / "state").rglob("*")} == {"session"}


def test_other_files_in_the_directory_are_not_touched(tmp_path: Path, clock: ManualClock) -> None:
    monitor = made(tmp_path, clock, consent=True)
    (tmp_path / "state" / "photo.jpg").write_bytes(b"mine")
    monitor.disable()
    assert (tmp_path / "state" / "photo.jpg").read_bytes() == b"mine"


def test_a_monitor_that_does_not_ask_has_no_switch(tmp_path: Path, clock: ManualClock) -> None:
    monitor = made(tmp_path, clock)
    for turn in (monitor.enable, monitor.disable):
        with pytest.raises(ConfigError, match="consent=False"):
            turn()
    monitor.close(0)


def test_disabled_stays_disabled_whatever_is_consented_to(tmp_path: Path, clock: ManualClock, digits: Any) -> None:
    monitor = made(tmp_path, clock, consent=False, enabled=False)
    monitor.wrap(digits)
    monitor.enable()
    assert not (tmp_path / "state").exists()


def test_consent_from_the_environment(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETPULSE_DEVICE_CONSENT", "no")
    made(tmp_path, clock)
    assert not (tmp_path / "state").exists()
    monkeypatch.setenv("FLEETPULSE_DEVICE_CONSENT", "maybe")
    with pytest.raises(ConfigError, match="CONSENT"):
        made(tmp_path, clock)


def test_a_directory_that_another_monitor_holds_is_said_when_consent_is_given(tmp_path: Path) -> None:
    holder = made(tmp_path, ManualClock(START_NS))
    monitor = made(tmp_path, ManualClock(START_NS), consent=False)
    for turn in (monitor.enable, monitor.disable):
        with pytest.raises(StateDirError):
            turn()
    holder.close(0)


def test_a_switched_session_is_read_and_loaded_as_the_programs_own(
    tmp_path: Path, clock: ManualClock, digits: Any
) -> None:
    monitor = made(tmp_path, clock, consent=False)
    session = monitor.wrap(digits)
    session.note = 5
    assert digits.note == 5
    del session.note
    assert [item.name for item in session.get_inputs()] == ["x"]
    assert "run" in dir(session)
    with pytest.raises(ConfigError, match="wrap"):
        monitor.wrap("not a session")
    loaded = monitor.load(lambda: digits, model="l", version="1")
    assert loaded.run(None, {"x": ROW})[0].shape == (1, 10)


def test_turning_while_many_threads_run_breaks_no_run(tmp_path: Path, clock: ManualClock, digits: Any) -> None:
    monitor = made(tmp_path, clock, consent=False)
    session = monitor.wrap(digits, model="m", version="1")
    stop, failures = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            try:
                session.run(None, {"x": ROW})
                with monitor.measure("block"):
                    pass
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        monitor.enable()
        monitor.disable()
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    monitor.close(0)

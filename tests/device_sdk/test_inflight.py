"""The in-flight mark: what it counts, what it survives, and what becomes of it without a disk."""

from __future__ import annotations

import gc
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from sdk_kit import classifier, session_of

from device_sdk.contract import attributes as a
from device_sdk.contract.events import InflightPhase
from device_sdk.lifecycle.inflight import (
    FILE_NAME,
    PLACES_MAX,
    Cell,
    InflightMark,
    Running,
    read_flight,
    read_flight_of,
)
from device_sdk.testing import kill

ID = str(uuid.UUID(int=7))


def opened(mark: InflightMark, model: str = "m", version: str = "1") -> Any:
    return mark.opener(model=model, version=version, runtime="onnxruntime", provider="CPUExecutionProvider")


def test_what_is_written_is_read_back_from_the_file(tmp_path: Path) -> None:
    mark = InflightMark(tmp_path, ID)
    lane = opened(mark)()
    lane.enter()
    lane.leave()
    lane.enter()
    flight = read_flight_of(tmp_path)
    assert flight is not None
    assert (flight.instance_id, flight.ended, flight.raised) == (ID, 1, None)
    assert flight.running == (Running("m", "1", "onnxruntime", "CPUExecutionProvider", InflightPhase.STEADY, 1),)
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_threads_and_ways_to_run_do_not_hide_one_another(tmp_path: Path) -> None:
    mark = InflightMark(tmp_path, ID)
    open_lane = opened(mark)
    outside, bound = open_lane(), open_lane()
    outside.enter()

    def work() -> None:
        for _ in range(20_000):
            outside.enter()
            outside.leave()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bound.enter()
    bound.leave()
    flight = mark.read()
    assert flight is not None
    assert (flight.ended, flight.running[0].runs) == (80_001, 1)


def test_names_are_cut_at_a_bound_and_may_be_of_any_script(tmp_path: Path) -> None:
    mark = InflightMark(tmp_path, ID)
    opened(mark, "модель" * 30, "版本")().enter()
    flight = mark.read()
    assert flight is not None
    (running,) = flight.running
    assert ("модель" * 30).startswith(running.model)
    assert len(running.model) > 40
    assert running.version == "版本"


def test_places_are_bounded_and_given_back_with_their_counts(tmp_path: Path) -> None:
    mark = InflightMark(tmp_path, ID)
    openers = [opened(mark, f"m{number}") for number in range(PLACES_MAX)]
    lanes = [open_lane() for open_lane in openers]
    late = opened(mark, "one too many")()
    late.enter()  # counts in memory of its own
    for lane in lanes:
        lane.enter()
        lane.leave()
    mark.release(lanes[:1])
    lanes[0].enter()  # somebody held on to it: it counts in memory of its own now
    opened(mark, "again")().enter()
    flight = mark.read()
    assert flight is not None
    assert flight.ended == PLACES_MAX
    assert [running.model for running in flight.running] == ["again"]


@pytest.mark.parametrize("damage", ["missing", "empty", "short", "garbage", "flipped magic"])
def test_a_damaged_mark_is_no_mark(tmp_path: Path, damage: str) -> None:
    InflightMark(tmp_path, ID).detach()
    file = tmp_path / FILE_NAME
    whole = file.read_bytes()
    changed = {"empty": b"", "short": whole[:-1], "garbage": b"\xff" * len(whole), "flipped magic": b"x" + whole[1:]}
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(changed[damage])
    assert read_flight_of(tmp_path) is None
    assert read_flight(b"") is None


def test_without_a_directory_or_a_file_it_counts_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).mkdir()  # in the way
    import device_sdk.errors as errors

    errors._guarding.next_log_s = 0.0
    for directory in (None, tmp_path, tmp_path / "missing"):
        mark = InflightMark(directory, ID)
        assert not mark.mapped
        lane = opened(mark)()
        lane.enter()
        flight = mark.read()
        assert flight is not None
        assert flight.running[0].runs == 1
    assert "will not say which model was running" in caplog.text


def test_a_session_that_is_let_go_of_gives_its_place_back(bench: Any, tmp_path: Path) -> None:
    import numpy as np

    world = bench()
    path = classifier(tmp_path / "m.onnx")
    gc.collect()
    gc.freeze()  # or each collection would look at all that the tests before have left
    for _ in range(PLACES_MAX + 5):
        wrapped = world.monitor.wrap(session_of(path))
        wrapped.run(None, {"x": np.zeros((1, 64), np.float32)})
        del wrapped
        gc.collect()
        world.monitor._engine.fold()
    flight = world.monitor._engine.session.inflight.read()
    gc.unfreeze()
    assert (flight.ended, flight.running) == (PLACES_MAX + 5, ())


def test_the_mark_of_another_session_says_nothing_of_this_one(bench: Any, tmp_path: Path) -> None:
    world = bench()
    world.window()
    with world.monitor.measure("m"):
        kill(world.monitor)
    other = tmp_path / "other"
    other.mkdir()
    mark = InflightMark(other, ID)
    opened(mark, "stranger")().enter()
    (other / FILE_NAME).replace(tmp_path / "state" / FILE_NAME)
    (end,) = [at for name, at, _ in bench().events() if name == "session.end"]
    assert a.INFLIGHT_MODEL_NAME not in end


def test_a_simulated_death_inside_a_run_is_attributed_too(bench: Any) -> None:
    world = bench()
    with world.monitor.measure("m", "2"):
        pass
    world.window()
    with world.monitor.measure("m", "2"):
        pass
    with world.monitor.measure("m", "2"):
        kill(world.monitor)
    later = bench()
    (end,) = [at for name, at, _ in later.events() if name == "session.end"]
    assert (end[a.INFLIGHT_MODEL_NAME], end[a.INFLIGHT_MODEL_VERSION]) == ("m", "2")
    later.window()
    ((at, lost),) = later.named("edge.loss.runs")
    assert (at[a.LOSS_REASON], lost.as_int) == ("shutdown", 2)  # one in a window in memory, one in the open window


def test_a_load_is_marked_and_is_no_run(tmp_path: Path) -> None:
    mark = InflightMark(tmp_path, ID)
    with mark.loading(model="m", version="1", runtime="onnxruntime", provider="TensorrtExecutionProvider"):
        flight = read_flight_of(tmp_path)
    assert flight is not None
    assert flight.running == (Running("m", "1", "onnxruntime", "TensorrtExecutionProvider", InflightPhase.LOAD, 1),)
    for _ in range(PLACES_MAX + 1):  # failed loads take no place for ever
        with (
            pytest.raises(OSError, match="no such model"),
            mark.loading(model="m", version="1", runtime="onnxruntime", provider=""),
        ):
            raise OSError("no such model")
    lane = opened(mark)()
    lane.enter()
    flight = mark.read()
    assert flight is not None
    assert (flight.ended, [running.phase for running in flight.running]) == (0, [InflightPhase.FIRST])


def test_the_pulse_and_the_counts_are_in_the_header(tmp_path: Path) -> None:
    mark = InflightMark(tmp_path, ID)
    mark.cells[Cell.PULSE_NS] = 5
    mark.cells[Cell.SAFE] = 3
    flight = read_flight_of(tmp_path)
    assert flight is not None
    assert (flight[Cell.PULSE_NS], flight[Cell.SAFE]) == (5, 3)

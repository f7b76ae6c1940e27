"""The rings under many threads, and inputs as a tired or hostile person sends them: exact counts, small copies."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sdk_kit import points

from device_sdk import Feature, Monitor, Signals
from device_sdk.contract import attributes as a
from device_sdk.contract.attributes import SignalLevel
from device_sdk.points import Points
from device_sdk.signals.models import ModelInputs, ModelRuns
from device_sdk.signals.recorder import Adapter, Recorder
from device_sdk.testing import MemorySink, connect

MEGABYTE = 1 << 20
COLUMNS = Signals(features=(Feature("left", column=0), Feature("right", column=3)))


class Echo:
    """A session of a model that needs no time and no memory of its own: it answers what it was told to."""

    def __init__(self, answer: Any, inputs: tuple[str, ...] = ("x",)) -> None:
        self.answer = answer
        self.inputs = inputs

    def run(self, _names: Any, _feed: Any, _options: Any = None) -> Any:
        return [self.answer]

    def get_inputs(self) -> list[Any]:
        return [Tensor(name) for name in self.inputs]

    def get_outputs(self) -> list[Any]:
        return [Tensor("y")]

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def get_modelmeta(self) -> Any:
        return Tensor("meta")


class Tensor:
    def __init__(self, name: str) -> None:
        self.name = name
        self.shape = ["batch", "any"]
        self.type = "tensor(float)"
        self.version = 1


def total(found: Any) -> int:
    return sum(point.count if hasattr(point, "count") else point.as_int for _, point in found)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("rows", [1, 5])
def test_every_copied_row_is_folded_whole_or_counted_as_lost_whatever_threads_do(rows: int) -> None:
    runs = ModelRuns(((a.MODEL_NAME, "m"), (a.MODEL_VERSION, "1")), ModelInputs("m", "1"))
    recorder = Recorder(runs, COLUMNS, perf_ns=lambda: 0, rows_max=128)
    run = recorder.bind(
        lambda _n, feed, _o: [feed["x"][:, :2]], Adapter(("x",), ("y",), str, lambda f, _r: len(f["x"]))
    )
    stop, lost, threads, each = threading.Event(), [0], 8, 1500

    def fold() -> None:
        while not stop.is_set():
            recorder.fold(lambda: None)
            lost[0] += recorder.take_overrun()

    folding = threading.Thread(target=fold)
    run(None, {"x": np.ones((rows, 4), dtype=np.float32)})
    folding.start()

    def work(number: int) -> None:
        for turn in range(each):
            # every element of a row is the same number, so a torn or mixed row would show as columns that differ
            run(None, {"x": np.full((rows, 4), 1.0 + (number * each + turn) % 97, dtype=np.float32)})

    in_threads(threads, work)
    stop.set()
    folding.join()
    recorder.fold()
    lost[0] += recorder.take_overrun()
    found = Points()
    runs.emit(found)
    runs.inputs.emit(found)
    counted = sum(histogram.count for _, histogram in found.by_metric["edge.inference.duration"])  # type: ignore[union-attr]
    samples = sum(count for _, count in found.by_metric["edge.inference.samples"])  # type: ignore[misc]
    ((_, folded),) = found.by_metric["edge.signal.samples"]
    assert counted == threads * each + 1
    assert samples == rows * (threads * each + 1)
    assert folded + lost[0] == samples  # type: ignore[operator]
    left, right = (histogram for _, histogram in found.by_metric["edge.input.value"])
    assert left == right


def test_threads_over_one_session_of_a_real_monitor_lose_no_run(tmp_path: Path, digits: Any) -> None:
    monitor, sink, threads, each = (
        Monitor("http://127.0.0.1:9", state_dir=tmp_path, window_s=3600),
        MemorySink(),
        12,
        700,
    )
    connect(monitor, sink)
    wrapped = monitor.wrap(digits)

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        for turn in range(each):
            wrapped.run(None, {"x": rng.random((1 if turn % 10 else 3, 64), dtype=np.float32)})

    try:
        in_threads(threads, work)
        assert monitor.flush(10)
    finally:
        monitor.close(0)
    sent = points(sink.metrics())
    assert sum(point.count for name, _, point in sent if name == "edge.inference.duration") == threads * each
    samples = sum(point.as_int for name, _, point in sent if name == "edge.inference.samples")
    assert samples == threads * each * 12 // 10
    assert 0 < sum(point.as_int for name, _, point in sent if name == "edge.signal.samples") <= samples


def huge(kind: str, folder: Path, batch: int) -> Any:
    """Return gigabytes of input that take no memory: broadcast, mapped from a sparse file, or transposed."""
    if kind == "broadcast":
        return np.broadcast_to(np.float32(0.5), (batch, 3, 20_000, 20_000))
    mapped = np.memmap(folder / "sparse", dtype=np.float32, mode="w+", shape=(batch, 3, 10_000, 12_000))
    return mapped if kind == "mapped" else mapped.transpose(0, 3, 2, 1)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", ["broadcast", "mapped", "transposed"])
def test_gigabytes_of_input_cost_no_copy_of_the_whole(bench: Any, tmp_path: Path, kind: str, batch: int) -> None:
    statistics = (Feature("mean", kind="mean"), Feature("std", kind="std"), Feature("dark", kind="dark_share", low=0.2))
    world = bench(signals=Signals(features=statistics))
    wrapped = world.monitor.wrap(Echo(np.full((batch, 2), 0.5, dtype=np.float32)), model="m", version="1")
    whole = huge(kind, tmp_path, batch)
    assert whole.nbytes > 1 << 30
    tracemalloc.start()
    try:
        for _ in range(3):
            wrapped.run(None, {"x": whole})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    world.window()
    assert peak < 16 * MEGABYTE
    assert total(world.named("edge.inference.samples")) == total(world.named("edge.signal.samples")) == 3 * batch
    assert {point.count for _, point in world.named("edge.input.value")} == {3 * batch}


def test_gigabytes_of_output_are_not_copied_either(bench: Any) -> None:
    world = bench()
    answer = np.broadcast_to(np.float64(0.5), (70_000_000, 2))
    wrapped = world.monitor.wrap(Echo(answer), model="m", version="1")
    tracemalloc.start()
    try:
        for _ in range(2):
            wrapped.run(None, {"x": np.broadcast_to(np.float32(1), (70_000_000, 1))})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    world.window()
    assert peak < 16 * MEGABYTE
    assert total(world.named("edge.inference.samples")) == 140_000_000


ODD: dict[str, Any] = {
    "nan": np.full((1, 4), np.nan, dtype=np.float32),
    "infinite": np.array([[np.inf, -np.inf, 1, 2]], dtype=np.float32),
    "empty": np.empty((0, 4), dtype=np.float32),
    "no columns": np.empty((1, 0), dtype=np.float32),
    "objects": np.array([[object(), None, "a", 1]], dtype=object),
    "negative": np.full((1, 4), -1e30, dtype=np.float32),
    "constant": np.zeros((1, 4), dtype=np.float32),
    "scalar": np.float32(3),
    "no dimension": np.array(3.0),
    "wider": np.ones((1, 9), dtype=np.float32),
    "deeper": np.ones((1, 4, 2, 2), dtype=np.float32),
    "flat": np.ones(4, dtype=np.float32),
    "list": [[1.0, 2.0, 3.0, 4.0]],
    "text": "x",
    "bytes": np.array([[b"a", b"b", b"c", b"d"]]),
    "times": np.array([["2026-01-01"] * 4], dtype="datetime64[D]"),
    "complex": np.ones((1, 4), dtype=np.complex64),
    "other order": np.ones((1, 4), dtype=">f4"),
    "nothing": None,
    "half": np.ones((1, 4), dtype=np.float16),
    "structured": np.zeros((1, 4), dtype=[("a", "f4")]),
}
ANSWERS: dict[str, Any] = {
    "usual": np.array([[0.2, 0.8]], dtype=np.float32),
    "ten thousand classes": np.full((1, 10_000), 1e-4, dtype=np.float32),
    "nan": np.array([[np.nan, 0.5]], dtype=np.float32),
    "empty": np.empty((0, 2), dtype=np.float32),
    "a map": {"a": 0.5},
    "maps": [{0: 0.5, 1: 0.5}],
    "text": np.array(["cat"], dtype=object),
    "nothing": None,
    "of rank 5": np.ones((1, 2, 2, 2, 2), dtype=np.float32),
}


@pytest.mark.parametrize("level", list(SignalLevel))
@pytest.mark.parametrize("first", ["usual", "odd"])
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_input_is_counted_and_passes_whatever_came_before(
    bench: Any, odd: str, first: str, level: SignalLevel
) -> None:
    world = bench(signals=COLUMNS)
    world.monitor._engine.govern(level)
    session = Echo(ANSWERS["usual"])
    wrapped = world.monitor.wrap(session, model="m", version="1")
    usual, strange = {"x": np.ones((1, 4), dtype=np.float32)}, {"x": ODD[odd]}
    feeds = [usual, strange, usual, strange] if first == "usual" else [strange, usual, strange, usual]
    for feed in feeds:
        (answer,) = wrapped.run(None, feed)
        assert answer is session.answer
    world.window()
    assert total(world.named("edge.inference.duration")) == 4


@pytest.mark.parametrize("level", list(SignalLevel))
@pytest.mark.parametrize("kind", ANSWERS)
def test_an_odd_answer_is_counted_and_passes(bench: Any, kind: str, level: SignalLevel) -> None:
    world = bench(signals=COLUMNS)
    world.monitor._engine.govern(level)
    session = Echo(ANSWERS["usual"])
    wrapped = world.monitor.wrap(session, model="m", version="1")
    for answer in (ANSWERS["usual"], ANSWERS[kind], ANSWERS["usual"], ANSWERS[kind]):
        session.answer = answer
        assert wrapped.run(None, {"x": np.ones((1, 4), dtype=np.float32)})[0] is answer
    world.window()
    assert total(world.named("edge.inference.duration")) == 4


def test_what_the_first_answer_is_told_to_cannot_cost_its_count() -> None:
    runs = ModelRuns((("edge.model.name", "m"), ("edge.model.version", "1")), ModelInputs("m", "1"))

    def tell() -> None:
        raise OSError("gone")

    recorder = Recorder(runs, Signals(output="none"), perf_ns=lambda: 0, on_answer=tell)
    with pytest.raises(OSError, match="gone"):
        recorder.measured(1, 1)
    recorder.fold()
    assert runs.total_runs == 1


def test_the_fold_is_asked_for_before_callers_have_to_do_it() -> None:
    runs = ModelRuns((("edge.model.name", "m"), ("edge.model.version", "1")), ModelInputs("m", "1"))
    woken: list[int] = []
    inline: list[int] = []

    def full(recorder: Recorder, _must: bool) -> bool:
        inline.append(recorder.backlog())
        return False

    recorder = Recorder(
        runs,
        Signals(output="none"),
        perf_ns=lambda: 0,
        on_full=full,
        wake=lambda: woken.append(recorder.backlog()),
    )
    for _ in range(8192):
        recorder.measured(1, 1)
    assert (woken, inline) == ([4096], [8192])


def test_ten_thousand_classes_are_counted_run_by_run(bench: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(Echo(ANSWERS["ten thousand classes"]), model="m", version="1")
    for _ in range(50):
        wrapped.run(None, {"x": np.ones((1, 40), dtype=np.float32)})
    world.window()
    assert total(world.named("edge.inference.samples")) == 50
    assert len(world.named("edge.output.predictions")) <= 65


def test_a_batch_size_that_always_changes_is_counted_to_the_sample(bench: Any) -> None:
    world = bench(signals=COLUMNS)
    world.monitor._engine.govern(SignalLevel.FULL, 3)
    session = Echo(None)
    wrapped = world.monitor.wrap(session, model="m", version="1")
    expected = 0
    for turn in range(300):
        size = 1 + turn * 7 % 13
        session.answer = np.full((size, 2), 0.5, dtype=np.float32)
        wrapped.run(None, {"x": np.ones((size, 4), dtype=np.float32)})
        expected += size
    world.window()
    assert total(world.named("edge.inference.samples")) == expected
    assert total(world.named("edge.inference.duration")) == 300

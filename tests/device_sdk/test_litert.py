"""LiteRT interpreters and signature runners, on real models that the tests write."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tflite_kit import answers, classifier

from device_sdk import Feature, ModelNameError, Signals
from device_sdk.contract import attributes as a
from device_sdk.errors import swallowed_count
from device_sdk.runtimes import litert, runtime_of

MEAN = Signals(features=(Feature("mean", kind="mean", center=0.5, unit=0.05),))


def rows(n: int) -> Any:
    return np.random.default_rng(n).random((n, 64), dtype=np.float32)


@pytest.fixture
def interpreter(tmp_path: Path) -> Any:
    return Interpreter(str(classifier(tmp_path / "digits.tflite")))


def runs(world: Any) -> dict[tuple[str, str | None], int]:
    return {(at[a.INFERENCE_PHASE], at.get(a.ERROR_TYPE)): p.count for at, p in world.named("edge.inference.duration")}


def samples(world: Any) -> dict[str | None, int]:
    return {at.get(a.ERROR_TYPE): point.as_int for at, point in world.named("edge.inference.samples")}


def count(world: Any, name: str) -> int:
    return sum(point.count for _, point in world.named(name))


def test_an_interpreter_is_recognised_and_looks_like_itself(bench: Any, interpreter: Any) -> None:
    assert runtime_of(interpreter) is litert
    wrapped = bench().monitor.wrap(interpreter, "digits", "3")
    assert isinstance(wrapped, Interpreter)
    assert wrapped.get_input_details()[0]["name"] == "x"
    assert set(dir(interpreter)) <= set(dir(wrapped))


@pytest.mark.parametrize("given", [{}, {"model": "m"}, {"version": "1"}])
def test_an_interpreter_does_not_know_its_file_and_must_be_named(bench: Any, interpreter: Any, given: Any) -> None:
    with pytest.raises(ModelNameError, match="pass "):
        bench().monitor.wrap(interpreter, **given)


def test_invoke_is_measured_with_inputs_and_outputs(bench: Any, interpreter: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(interpreter, "digits", "3", signals=MEAN)
    wrapped.allocate_tensors()
    for row in rows(40):
        wrapped.set_tensor(0, row[None])
        assert wrapped.invoke() is None
        np.testing.assert_allclose(wrapped.get_tensor(3), answers(row[None]), atol=1e-5)
    world.window()
    assert runs(world) == {("first", None): 1, ("steady", None): 39}
    assert samples(world) == {None: 40}
    assert count(world, "edge.output.confidence") == count(world, "edge.input.value") == 40
    ((at, _),) = world.named("edge.inference.samples")
    assert (at[a.RUNTIME_NAME], at[a.MODEL_NAME], at[a.MODEL_VERSION]) == ("litert", "digits", "3")
    assert at[a.RUNTIME_VERSION][0].isdigit()


def test_what_is_folded_is_what_the_interpreter_was_given_and_answered(bench: Any, interpreter: Any) -> None:
    """The views are read after the run: neither the input's memory nor the answer's has been used for anything else."""
    world = bench()
    wrapped = world.monitor.wrap(interpreter, "digits", "3", signals=MEAN)
    wrapped.allocate_tensors()
    batch = rows(64)
    for row in batch:
        wrapped.set_tensor(0, row[None])
        wrapped.invoke()
    world.window()
    ((_, point),) = world.named("edge.input.value")
    z = (batch.astype(np.float64).mean(axis=1) - 0.5) / 0.05
    assert (sum(point.positive.bucket_counts), sum(point.negative.bucket_counts)) == (
        (z > 0.02).sum(),
        (z < -0.02).sum(),
    )
    told = {at[a.CLASS_NAME]: p.as_int for at, p in world.named("edge.output.predictions")}
    top = np.bincount(answers(batch).argmax(axis=1), minlength=10)
    assert told == {str(label): int(n) for label, n in enumerate(top) if n}


def test_no_view_is_left_behind(bench: Any, interpreter: Any) -> None:
    """An interpreter refuses to allocate or to run while somebody holds a view of its memory."""
    world = bench()
    wrapped = world.monitor.wrap(interpreter, "digits", "3", signals=MEAN)
    gc.disable()
    try:
        for size in (1, 4, 1, 2):
            wrapped.resize_tensor_input(0, [size, 64])
            wrapped.allocate_tensors()
            wrapped.set_tensor(0, rows(size))
            for _ in range(3):
                wrapped.invoke()
            assert interpreter._safe_to_run()
    finally:
        gc.enable()
    world.window()
    assert samples(world) == {None: 3 * (1 + 4 + 1 + 2)}
    assert count(world, "edge.output.confidence") == 3 * (1 + 4 + 1 + 2)


def test_raw_access_of_the_caller_stays_allowed(bench: Any, interpreter: Any) -> None:
    wrapped = bench().monitor.wrap(interpreter, "digits", "3")
    wrapped.allocate_tensors()
    given, answer = wrapped.tensor(0), wrapped.tensor(3)
    given()[:] = rows(1)
    wrapped.invoke()
    np.testing.assert_allclose(answer(), answers(rows(1)), atol=1e-5)


def test_an_invoke_without_memory_fails_as_before_and_is_counted(bench: Any, interpreter: Any) -> None:
    world = bench()
    before = swallowed_count()
    wrapped = world.monitor.wrap(interpreter, "digits", "3")
    with pytest.raises(RuntimeError, match="not ready"):
        wrapped.invoke()
    wrapped.allocate_tensors()
    wrapped.set_tensor(0, rows(1))
    wrapped.invoke()
    world.window()
    assert samples(world) == {"_OTHER": 1, None: 1}
    assert swallowed_count() == before


def test_a_signature_runner_is_measured_under_its_own_names(bench: Any, interpreter: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(interpreter, "digits", "3")
    runner = wrapped.get_signature_runner()
    assert list(runner.get_input_details()) == ["image"]
    for size in (1, 1, 5, 1):
        answer = runner(image=rows(size))
        np.testing.assert_allclose(answer["probabilities"], answers(rows(size)), atol=1e-5)
    with pytest.raises(ValueError, match="Invalid Input name"):
        runner(picture=rows(1))
    with pytest.raises(RuntimeError, match="reshape"):
        runner(image=rows(1)[:, :3])
    world.window()
    assert samples(world) == {None: 8, "_OTHER": 1, "shape_mismatch": 1}
    assert {at[a.OUTPUT_NAME] for at, _ in world.named("edge.output.confidence")} == {"probabilities"}
    assert count(world, "edge.output.confidence") == 8


def test_a_signature_runner_that_is_asked_for_at_every_run_is_one(bench: Any, interpreter: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(interpreter, "digits", "3")
    wrapped.get_signature_runner()(image=rows(1))
    recorders = len(world.monitor._engine.models.recorders)
    for _ in range(20):
        wrapped.get_signature_runner()(image=rows(1))
    assert len(world.monitor._engine.models.recorders) == recorders
    world.window()
    phases = {at[a.INFERENCE_PHASE]: point.count for at, point in world.named("edge.inference.duration")}
    assert phases == {"first": 1, "steady": 20}


def test_an_unknown_signature_is_refused_as_before(bench: Any, interpreter: Any) -> None:
    wrapped = bench().monitor.wrap(interpreter, "digits", "3")
    with pytest.raises(ValueError, match="signature_key"):
        wrapped.get_signature_runner("no_such")


def test_a_quantised_answer_is_read_as_the_probabilities_it_stands_for(bench: Any, tmp_path: Path) -> None:
    path = str(classifier(tmp_path / "q.tflite", quantised=True))
    world = bench(signals=Signals(output="probabilities"))
    wrapped = world.monitor.wrap(Interpreter(path), "q", "1")
    wrapped.allocate_tensors()
    runner = world.monitor.wrap(Interpreter(path), "q", "1").get_signature_runner()
    batch = rows(30)
    for row in batch:
        wrapped.set_tensor(0, row[None])
        wrapped.invoke()
        assert wrapped.get_tensor(4).dtype == np.uint8
        assert runner(image=row[None])["probabilities"].dtype == np.uint8
    world.window()
    assert count(world, "edge.output.confidence") == 60
    told: dict[str, int] = {}
    for at, p in world.named("edge.output.predictions"):
        told[at[a.CLASS_NAME]] = told.get(at[a.CLASS_NAME], 0) + p.as_int
    top = np.bincount(np.round(answers(batch) * 256).clip(0, 255).argmax(axis=1), minlength=10)
    assert told == {str(label): 2 * int(n) for label, n in enumerate(top) if n}


def test_tensors_without_names_are_numbered(bench: Any, tmp_path: Path) -> None:
    interpreter = Interpreter(str(classifier(tmp_path / "n.tflite", names=("", ""))))
    world = bench()
    wrapped = world.monitor.wrap(interpreter, "nameless", "1")
    wrapped.allocate_tensors()
    wrapped.set_tensor(0, rows(1))
    wrapped.invoke()
    world.window()
    assert {at[a.OUTPUT_NAME] for at, _ in world.named("edge.output.confidence")} == {"output_0"}


def test_an_interpreter_that_is_let_go_of_is_freed(bench: Any, tmp_path: Path) -> None:
    world = bench()
    wrapped = world.monitor.wrap(Interpreter(str(classifier(tmp_path / "m.tflite"))), "m", "1")
    wrapped.allocate_tensors()
    wrapped.invoke()
    del wrapped
    gc.collect()
    world.window()
    assert world.monitor._engine.models.recorders == []

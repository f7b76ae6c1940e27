"""``monitor.selftest`` on real sessions: results, counts and events, schedule, raw samples, failures."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sdk_kit import SECOND, START_NS, classifier, session_of

from device_sdk import Monitor
from device_sdk.contract import attributes as a
from device_sdk.contract.attributes import ErrorType
from device_sdk.errors import ConfigError, GoldenError, raise_swallowed
from device_sdk.selftest import Golden, Task, Tolerance, Waiver
from device_sdk.selftest.standing import Selftests, Subject

ROWS = np.random.default_rng(11).random((20, 64), dtype=np.float32)


def golden_of(session: Any, **rest: Any) -> Golden:
    outputs = {"p": np.concatenate([session.run(None, {"x": row[None]})[0] for row in ROWS])}
    return Golden(inputs={"x": ROWS}, outputs=outputs, **rest)


def checks(world: Any) -> list[tuple[dict[str, Any], int]]:
    return [(at, point.as_int) for at, point in world.named("edge.selftest.checks")]


def test_a_healthy_model_passes_and_is_told_by_count_and_event(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits, model="digits", version="3")
    result = world.monitor.selftest(golden_of(digits), wrapped)
    assert result.passed
    assert str(result).startswith("self-test passed: 20 samples")
    world.window()
    ((attributes, count),) = checks(world)
    assert count == 1
    assert attributes[a.MODEL_NAME] == "digits"
    assert (attributes[a.OUTPUT_NAME], attributes[a.TEST_STATUS]) == ("p", "pass")
    assert attributes[a.SELFTEST_TRIGGER] == "load"
    ((_, told, (record, _)),) = [item for item in world.events() if item[0] == "edge.selftest.completed"]
    assert record.severity_number == 9
    assert (told[a.SELFTEST_MAX_ABS], told[a.SELFTEST_TOP1]) == (0.0, 1.0)
    assert told[a.SELFTEST_COSINE] == pytest.approx(1.0)


def test_the_runs_of_a_self_test_are_no_inferences(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits)
    golden = golden_of(digits)
    wrapped.run(None, {"x": ROWS[:1]})
    world.monitor.selftest(golden, wrapped)
    world.window()
    assert sum(point.count for _, point in world.named("edge.inference.duration")) == 1


def test_other_weights_fail_and_say_by_how_much(bench: Any, tmp_path: Path, digits: Any) -> None:
    world = bench()
    raw = session_of(classifier(tmp_path / "other.onnx", softmax=False))
    wrapped = world.monitor.wrap(raw, model="digits", version="4")
    result = world.monitor.selftest(golden_of(digits), wrapped)
    assert not result.passed
    (output,) = result.outputs
    assert any(problem.startswith("cosine") for problem in output.problems)
    world.window()
    ((attributes, _),) = checks(world)
    assert attributes[a.TEST_STATUS] == "fail"
    ((_, _, (record, _)),) = [item for item in world.events() if item[0] == "edge.selftest.completed"]
    assert record.severity_number == 17


def test_a_waived_failure_passes_the_device_and_names_its_waiver(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits, model="digits", version="3")
    golden = golden_of(digits)
    strict = Golden(
        golden.inputs,
        {"p": np.roll(golden.outputs["p"], 1, axis=1)},
        waivers=(Waiver("p", "NPU-7", "int8 rounding on this chip"),),
    )
    result = world.monitor.selftest(strict, wrapped)
    assert result.passed
    world.window()
    ((attributes, _),) = checks(world)
    assert (attributes[a.TEST_STATUS], attributes[a.SELFTEST_WAIVER]) == ("fail", "NPU-7")
    ((_, told, (record, _)),) = [item for item in world.events() if item[0] == "edge.selftest.completed"]
    assert record.severity_number == 9
    assert "rounding" not in str(told)


def test_a_model_that_cannot_run_the_golden_inputs_fails_by_class(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits)
    bad = Golden({"x": np.zeros((3, 5), np.float32)}, {"p": np.zeros((3, 10), np.float32)})
    result = world.monitor.selftest(bad, wrapped)
    assert not result.passed
    assert result.outputs[0].parity.error is ErrorType.SHAPE_MISMATCH
    world.window()
    ((attributes, _),) = checks(world)
    assert attributes[a.ERROR_TYPE] == "shape_mismatch"


def test_raw_samples_go_through_the_programs_own_pre_processing(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits)
    golden = golden_of(digits)
    pixels = np.round(ROWS * 255).astype(np.uint8)
    exact = {"p": np.concatenate([digits.run(None, {"x": (row / np.float32(255))[None]})[0] for row in pixels])}
    raw = Golden(
        inputs={}, outputs=exact, raw=pixels, labels=golden.outputs["p"].argmax(axis=1), task=Task("f1", 0.5, "p")
    )

    def scaled(sample: Any) -> dict[str, Any]:
        return {"x": (sample / np.float32(255))[None]}

    def forgotten(sample: Any) -> dict[str, Any]:
        return {"x": sample.astype(np.float32)[None]}

    assert world.monitor.selftest(raw, wrapped, preprocess=scaled).passed
    broken = world.monitor.selftest(raw, wrapped, preprocess=forgotten)
    assert not broken.passed
    assert broken.outputs[0].task_metric == "f1"


def test_it_is_repeated_on_schedule_until_the_host_lets_the_session_go(bench: Any, tmp_path: Path) -> None:
    world = bench()
    raw = session_of(classifier(tmp_path / "m.onnx"))
    golden = golden_of(raw)
    wrapped = world.monitor.wrap(raw)
    del raw
    world.monitor.selftest(golden, wrapped, every_s=120)
    for _ in range(4):
        world.window(60)
    triggers = [at[a.SELFTEST_TRIGGER] for at, _ in checks(world)]
    assert triggers.count("load") == 1
    assert triggers.count("schedule") == 1  # due at 120 s, counted in the window that ends at 180 s; the next is open
    alive = weakref.ref(wrapped)
    del wrapped
    gc.collect()
    assert alive() is None
    for _ in range(6):
        world.window(60)
    assert sum(count for at, count in checks(world) if at[a.SELFTEST_TRIGGER] == "schedule") == 2


def test_after_an_update_every_standing_test_runs_again(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits)
    world.monitor.selftest(golden_of(digits), wrapped)
    world.monitor.update("model", "2", "3").succeeded()
    world.window()
    assert sorted(at[a.SELFTEST_TRIGGER] for at, _ in checks(world)) == ["load", "update"]


def test_an_update_while_others_run_is_tested_too(digits: Any) -> None:
    golden = golden_of(digits)
    told: list[str] = []
    both = threading.Event()
    calls = 0

    def tell(_event: Any, attributes: Any, _severity: int | None) -> None:
        told.append(dict(attributes)[a.SELFTEST_TRIGGER])
        if told.count("update") == 2:
            both.set()

    def predict(feed: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == golden.samples + 1:  # the first sample on the tests' own thread
            tests.run_after_update()
        return {"p": digits.run(None, dict(feed))[0]}

    tests = Selftests(tell, lambda: START_NS, threaded=True)
    subject = Subject(lambda: ((a.MODEL_NAME, "digits"), (a.MODEL_VERSION, "3")), lambda: predict)
    assert tests.perform_and_stand(subject, golden, None, None).passed
    tests.run_after_update()
    assert both.wait(20)
    assert told == ["load", "update", "update"]


def test_with_the_machines_clock_a_due_test_runs_on_its_own_thread(tmp_path: Path, digits: Any) -> None:
    monitor = Monitor(endpoint="http://127.0.0.1:9", state_dir=tmp_path / "s")
    try:
        seen: list[str] = []
        ran = threading.Event()
        golden = golden_of(digits)

        def predict(feed: Any) -> dict[str, Any]:
            seen.append(threading.current_thread().name)
            if len(seen) == 2 * golden.samples:
                ran.set()
            return {"p": digits.run(None, dict(feed))[0]}

        assert monitor.selftest(golden, predict, "digits", "3").passed
        monitor._engine.selftests.run_after_update()  # type: ignore[union-attr]
        assert ran.wait(20)
        assert set(seen) == {threading.current_thread().name, "device_sdk-selftest"}
    finally:
        monitor.close(0)


def test_a_disabled_monitor_still_judges_and_tells_nobody(tmp_path: Path, digits: Any) -> None:
    monitor = Monitor(enabled=False, state_dir=tmp_path / "s")
    assert monitor.selftest(golden_of(digits), monitor.wrap(digits)).passed
    assert not (tmp_path / "s").exists()


def test_what_cannot_be_tested_is_refused(bench: Any, tmp_path: Path, digits: Any) -> None:
    world = bench()
    golden = golden_of(digits)
    wrapped = world.monitor.wrap(digits)
    with pytest.raises(ConfigError, match="wrap\\(\\) this InferenceSession first"):
        world.monitor.selftest(golden, digits)
    with pytest.raises(ConfigError, match="takes a wrapped session or a callable, not int"):
        world.monitor.selftest(golden, 3)
    with pytest.raises(ConfigError, match="pass model= and version="):
        world.monitor.selftest(golden, lambda feed: {})
    with pytest.raises(ConfigError, match="every 60 seconds or more"):
        world.monitor.selftest(golden, wrapped, every_s=1)
    with pytest.raises(ConfigError, match="raw samples"):
        world.monitor.selftest(golden, wrapped, preprocess=lambda sample: {})
    with pytest.raises(GoldenError, match=r"gone\.npz"):
        world.monitor.selftest(tmp_path / "gone.npz", wrapped)


def test_a_callable_that_raises_or_answers_rubbish_fails_and_is_not_raised(bench: Any, digits: Any) -> None:
    world = bench()
    golden = golden_of(digits, tolerances={"p": Tolerance(max_abs=1e-6)})

    def broken(feed: Any) -> dict[str, Any]:
        raise MemoryError("no")

    def rubbish(feed: Any) -> dict[str, Any]:
        return {"q": object(), "p": "text"}

    assert world.monitor.selftest(golden, broken, "m", "1").outputs[0].parity.error is ErrorType.OUT_OF_MEMORY
    assert not world.monitor.selftest(golden, rubbish, "m", "1").passed
    assert world.clock.perf_ns() % SECOND == 0


def test_an_interpreter_and_a_compiled_model_are_tested_through_their_own_runtime(bench: Any, tmp_path: Path) -> None:
    import openvino
    import tflite_kit
    from ai_edge_litert.interpreter import Interpreter

    world = bench()
    interpreter = Interpreter(str(tflite_kit.classifier(tmp_path / "digits.tflite")))
    interpreter.allocate_tensors()
    (told,) = (item["name"] for item in interpreter.get_output_details())
    (given,) = (item["name"] for item in interpreter.get_input_details())
    lite = world.monitor.wrap(interpreter, "lite", "1")
    assert world.monitor.selftest(Golden({given: ROWS}, {told: tflite_kit.answers(ROWS)}), lite).passed

    path = classifier(tmp_path / "digits.onnx")
    reference = session_of(path)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = world.monitor.wrap(openvino.Core().compile_model(str(path), "CPU", exact), "vino", "1")
    assert world.monitor.selftest(golden_of(reference, tolerances={"p": Tolerance(max_abs=1e-5)}), compiled).passed

    world.window()
    told_of = {(at[a.MODEL_NAME], at[a.RUNTIME_NAME], at[a.TEST_STATUS]) for at, _ in checks(world)}
    assert told_of == {("lite", "litert", "pass"), ("vino", "openvino", "pass")}
    assert not world.named("edge.inference.duration")


def test_a_self_test_that_gets_no_thread_waits_for_the_next(
    tmp_path: Path, digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    tests = Selftests(lambda event, _attributes, _severity: told.append(event.name), lambda: 0, threaded=True)
    subject = Subject(lambda: (), lambda: lambda feed: {"p": digits.run(None, dict(feed))[0]})
    tests.perform_and_stand(subject, golden_of(digits), None, None)
    started = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    raise_swallowed(False)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    tests.run_after_update()
    assert len(told) == 1
    monkeypatch.setattr(threading.Thread, "start", started)
    tests.run_after_update()
    for thread in threading.enumerate():
        if thread.name == "device_sdk-selftest":
            thread.join(20)
    assert len(told) == 2

"""OpenVINO: compiled models, requests and queues, on the digits-like classifier that it reads as .onnx."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino.opset13 as opset
import pytest
from sdk_kit import classifier

from device_sdk import Feature, ModelNameError, Signals
from device_sdk.contract import attributes as a
from device_sdk.runtimes import openvino as adapter
from device_sdk.runtimes import runtime_of

MEAN = Signals(features=(Feature("mean", kind="mean", center=0.5, unit=0.05),))
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def rows(n: int, columns: int = 64) -> Any:
    return np.random.default_rng(n).random((n, columns), dtype=np.float32)


@pytest.fixture
def compiled(tmp_path: Path) -> Any:
    return openvino.Core().compile_model(str(classifier(tmp_path / "digits.onnx")), "CPU", EXACT)


def runs(world: Any) -> dict[tuple[str, str | None], int]:
    return {(at[a.INFERENCE_PHASE], at.get(a.ERROR_TYPE)): p.count for at, p in world.named("edge.inference.duration")}


def samples(world: Any) -> dict[str | None, int]:
    return {at.get(a.ERROR_TYPE): point.as_int for at, point in world.named("edge.inference.samples")}


def count(world: Any, name: str) -> int:
    return sum(point.count for _, point in world.named(name))


def test_models_requests_and_queues_are_recognised(compiled: Any) -> None:
    for session in (compiled, compiled.create_infer_request(), openvino.AsyncInferQueue(compiled, 1)):
        assert runtime_of(session) is adapter


def test_a_compiled_model_must_be_named(bench: Any, compiled: Any) -> None:
    with pytest.raises(ModelNameError, match="model= and version="):
        bench().monitor.wrap(compiled)


def test_a_wrapped_model_is_one(bench: Any, compiled: Any) -> None:
    wrapped = bench().monitor.wrap(compiled, "digits", "3")
    assert isinstance(wrapped, openvino.CompiledModel)
    assert isinstance(wrapped.create_infer_request(), openvino.InferRequest)
    assert type(wrapped).__name__ == "CompiledModel"
    assert wrapped.get_property("EXECUTION_DEVICES") == ["CPU"]
    queue = openvino.AsyncInferQueue(wrapped, 2)  # the runtime's own code takes it
    queue.start_async({0: rows(1)})
    queue.wait_all()


def test_every_way_to_call_a_model_is_measured(bench: Any, compiled: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(compiled, "digits", "3", signals=MEAN)
    x = rows(1)
    expected = compiled(x)[0]
    for inputs in (x, {"x": x}, {0: x}, [x], {compiled.inputs[0]: x}):
        np.testing.assert_array_equal(wrapped(inputs)["p"], expected)
    np.testing.assert_array_equal(wrapped.infer_new_request({0: x})[0], expected)
    np.testing.assert_array_equal(wrapped(x, share_inputs=False, share_outputs=True)[0], expected)
    request = wrapped.create_infer_request()
    np.testing.assert_array_equal(request.infer({0: x})[0], expected)
    request.set_input_tensor(openvino.Tensor(x))
    np.testing.assert_array_equal(request.infer()[0], expected)
    world.window()
    assert sum(runs(world).values()) == 9
    assert samples(world) == {None: 9}
    assert count(world, "edge.output.confidence") == count(world, "edge.input.value") == 9
    ((at, _),) = world.named("edge.inference.samples")
    assert (at[a.RUNTIME_NAME], at[a.PROVIDER_NAME]) == ("openvino", "CPU")
    assert at[a.RUNTIME_VERSION].count(".") == 2


def test_batches_and_what_is_folded(bench: Any, compiled: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(compiled, "digits", "3", signals=MEAN)
    batch = rows(50)
    probabilities = compiled(batch)[0]
    wrapped(batch)
    world.window()
    assert samples(world) == {None: 50}
    told = {at[a.CLASS_NAME]: p.as_int for at, p in world.named("edge.output.predictions")}
    top = np.bincount(probabilities.argmax(axis=1), minlength=10)
    assert told == {str(label): int(n) for label, n in enumerate(top) if n}
    ((_, point),) = world.named("edge.input.value")
    z = (batch.astype(np.float64).mean(axis=1) - 0.5) / 0.05
    assert sum(point.positive.bucket_counts) == (z > 0.02).sum()


def test_asynchronous_requests_are_recorded_when_waited_for(bench: Any, compiled: Any) -> None:
    world = bench()
    request = world.monitor.wrap(compiled, "digits", "3").create_infer_request()
    request.start_async({0: rows(1)})
    request.wait()
    request.wait()  # a second wait is no second run
    np.testing.assert_array_equal(request.results[compiled.outputs[0]], compiled(rows(1))[0])
    request.start_async({0: rows(3)})
    while not request.wait_for(1000):
        pass
    world.window()
    assert runs(world) == {("first", None): 1, ("steady", None): 1}
    assert samples(world) == {None: 4}
    assert count(world, "edge.output.confidence") == 4
    assert all(0 < p.sum < 60 for _, p in world.named("edge.inference.duration"))


def test_asynchronous_requests_are_recorded_before_the_callers_callback(bench: Any, compiled: Any) -> None:
    world = bench()
    request = world.monitor.wrap(compiled, "digits", "3").create_infer_request()
    called: list[Any] = []
    request.set_callback(called.append, "mine")
    request.start_async({0: rows(1)}, "this run's")
    request.wait()
    assert called == ["this run's"]
    request.start_async({0: rows(1)})
    request.wait()
    world.window()
    assert (len(called), samples(world)) == (2, {None: 2})


def test_a_run_that_nobody_waited_for_is_recorded_by_the_next(bench: Any, compiled: Any) -> None:
    world = bench()
    request = world.monitor.wrap(compiled, "digits", "3").create_infer_request()
    request.start_async({0: rows(1)})
    compiled_request = openvino.InferRequest.wait
    compiled_request(request)  # the end is seen past the measured method
    request.start_async({0: rows(1)})
    request.wait()
    world.window()
    assert samples(world) == {None: 2}


@pytest.mark.parametrize(
    ("feed", "word"),
    [({"nobody": rows(1)}, "_OTHER"), ({0: rows(1, 3)}, "shape_mismatch"), ({0: "text"}, "type_mismatch")],
)
@pytest.mark.parametrize("way", ["model", "request", "async"])
def test_failures_arrive_unchanged_and_are_counted(bench: Any, compiled: Any, feed: Any, word: str, way: str) -> None:
    world = bench()
    wrapped = world.monitor.wrap(compiled, "digits", "3")

    def run(model: Any) -> None:
        if way == "model":
            model(feed)
            return
        request = model.create_infer_request()
        if way == "request":
            request.infer(feed)
        else:
            request.start_async(feed)
            request.wait()

    with pytest.raises(Exception) as bare:  # noqa: PT011 - compared with the original's below
        run(compiled)
    with pytest.raises(type(bare.value)) as ours:
        run(wrapped)
    assert str(ours.value) == str(bare.value)
    world.window()
    assert samples(world) == {word: 1}


def test_a_request_that_is_busy_refuses_and_the_run_under_way_keeps_its_time(bench: Any) -> None:
    given = opset.parameter([1, 512, 512], np.float32, name="x")
    node: Any = given
    for _ in range(20):
        node = opset.matmul(node, opset.constant(np.full((1, 512, 512), 0.001, np.float32)), False, False)
    slow = openvino.Core().compile_model(openvino.Model([opset.result(node)], [given], "slow"), "CPU")
    world = bench()
    request = world.monitor.wrap(slow, "slow", "1").create_infer_request()
    x = np.ones((1, 512, 512), np.float32)
    request.start_async({0: x})
    with pytest.raises(RuntimeError, match="busy"):
        request.start_async({0: x})
    request.wait()
    world.window()
    assert samples(world) == {None: 1, "_OTHER": 1}
    (took,) = [p.min for at, p in world.named("edge.inference.duration") if a.ERROR_TYPE not in at]
    assert took > 0.001


def test_a_single_request_can_be_wrapped(bench: Any, compiled: Any) -> None:
    world = bench()
    request = world.monitor.wrap(compiled.create_infer_request(), "digits", "3")
    request.infer({0: rows(1)})
    world.window()
    assert samples(world) == {None: 1}


def test_a_queue_is_measured_with_its_callback_and_user_data(bench: Any, compiled: Any) -> None:
    world = bench()
    queue = world.monitor.wrap(openvino.AsyncInferQueue(compiled, 2), "digits", "3")
    assert isinstance(queue, openvino.AsyncInferQueue)
    queue.start_async({0: rows(1)})  # no callback of the caller's yet
    queue.wait_all()
    got: dict[int, Any] = {}

    def callback(request: Any, data: int) -> None:
        got[data] = request.get_output_tensor().data.copy()

    queue.set_callback(callback)
    for number in range(1, 9):
        queue.start_async({0: rows(number)}, number)
    queue.wait_all()
    assert (len(queue), queue.is_ready(), set(queue.userdata) <= set(got)) == (2, True, True)
    for number, answer in got.items():
        np.testing.assert_array_equal(answer, compiled(rows(number))[0])
    assert [type(request) for request in queue] == [openvino.InferRequest] * 2
    world.window()
    assert sum(runs(world).values()) == 9
    assert samples(world) == {None: 1 + sum(range(1, 9))}
    assert count(world, "edge.output.confidence") == 37


def test_runs_on_many_threads_and_requests_are_all_counted(bench: Any, compiled: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(compiled, "digits", "3")

    def work() -> None:
        request = wrapped.create_infer_request()
        for _ in range(100):
            request.infer({0: rows(2)})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.window()
    assert (sum(runs(world).values()), samples(world)) == (400, {None: 800})


def test_failures_of_a_queue_are_counted(bench: Any, compiled: Any) -> None:
    world = bench()
    queue = world.monitor.wrap(openvino.AsyncInferQueue(compiled, 1), "digits", "3")
    with pytest.raises(RuntimeError, match="not found"):
        queue.start_async({"nobody": rows(1)})
    queue.start_async({0: rows(1)})
    queue.wait_all()
    world.window()
    assert samples(world) == {"_OTHER": 1, None: 1}


def test_a_model_that_is_let_go_of_retires_with_its_last_request(bench: Any, tmp_path: Path) -> None:
    world = bench()
    wrapped = world.monitor.wrap(openvino.Core().compile_model(str(classifier(tmp_path / "m.onnx")), "CPU"), "m", "1")
    request = wrapped.create_infer_request()
    wrapped(rows(1))
    del wrapped
    gc.collect()
    request.infer({0: rows(1)})
    world.window()
    assert samples(world) == {None: 2}
    assert len(world.monitor._engine.models.recorders) == 1
    del request
    gc.collect()
    world.window()
    assert world.monitor._engine.models.recorders == []

"""Every way that ONNX Runtime can run a session is measured, tensors included where they lie in reach."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from sdk_kit import classifier, save, session_of

from device_sdk.contract import attributes as a
from device_sdk.errors import swallowed_count
from device_sdk.runtimes import RUNTIMES, runtime_of
from device_sdk.runtimes import onnxruntime as adapter


def rows(n: int, columns: int = 64) -> Any:
    return np.random.default_rng(n).random((n, columns), dtype=np.float32)


@pytest.fixture
def threaded(tmp_path: Path) -> onnxruntime.InferenceSession:
    """A session with a pool of threads, without which there is no ``run_async``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    path = classifier(tmp_path / "threaded.onnx")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def counted(world: Any) -> dict[tuple[str, str | None], int]:
    return {(at[a.INFERENCE_PHASE], at.get(a.ERROR_TYPE)): p.count for at, p in world.named("edge.inference.duration")}


def samples(world: Any) -> int:
    return sum(point.as_int for _, point in world.named("edge.inference.samples"))


def confidences(world: Any) -> int:
    return sum(point.count for _, point in world.named("edge.output.confidence"))


def test_the_adapter_is_chosen_by_what_a_session_can_do(digits: Any) -> None:
    assert runtime_of(digits) is adapter
    assert runtime_of(object()) is None
    assert adapter in RUNTIMES


def run_async(session: Any, x: Any, user_data: object = None) -> tuple[Any, Any, str, int]:
    """Run and wait for the callback; return what it was called with and its thread."""
    done, got = threading.Event(), []

    def callback(results: Any, data: Any, error: str) -> None:
        got.append((results, data, error, threading.get_ident()))
        done.set()

    session.run_async(["p"], {"x": x}, callback, user_data)
    assert done.wait(30)
    return got[0]


def test_asynchronous_runs_are_measured_from_the_call_to_the_callback(bench: Any, threaded: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(threaded)
    token = object()
    for count in (1, 3):
        results, data, error, thread = run_async(wrapped, rows(count), token)
        np.testing.assert_allclose(results[0], threaded.run(None, {"x": rows(count)})[0], rtol=1e-6)
        assert (data is token, error, thread != threading.get_ident()) == (True, "", True)
    world.window()
    assert counted(world) == {("first", None): 1, ("steady", None): 1}
    assert (samples(world), confidences(world)) == (4, 4)


def test_asynchronous_runs_that_overlap_are_all_counted(bench: Any, threaded: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(threaded)
    done = threading.Semaphore(0)
    for number in range(300):
        count = 1 + number % 3
        wrapped.run_async(["p"], {"x": rows(count)}, lambda *_: done.release(), None)
    for _ in range(300):
        assert done.acquire(timeout=30)
    world.window()
    assert (sum(counted(world).values()), samples(world)) == (300, 600)


def test_an_asynchronous_failure_is_counted_and_told_to_the_callback_as_before(bench: Any, threaded: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(threaded)
    bare = run_async(threaded, rows(2).astype(np.float64))
    results, _, error, _ = run_async(wrapped, rows(2).astype(np.float64))
    assert (results, error) == (bare[0], bare[2])
    assert "Unexpected input data type" in error
    with pytest.raises(ValueError, match="Required inputs"):
        wrapped.run_async(["p"], {"y": rows(1)}, lambda *_: None, None)
    world.window()
    assert counted(world) == {("first", "type_mismatch"): 1, ("first", "_OTHER"): 1}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_callback_that_raises_is_the_callers_own_affair(bench: Any, threaded: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(threaded)
    called = threading.Event()

    def callback(*_: Any) -> None:
        called.set()
        raise ArithmeticError("mine")

    wrapped.run_async(["p"], {"x": rows(1)}, callback, None)
    assert called.wait(30)
    run_async(wrapped, rows(1))  # whatever the runtime makes of it, the next run is answered and counted
    world.window()
    assert samples(world) == 2


def test_bound_outputs_and_inputs_are_watched(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits)
    expected = digits.run(None, {"x": rows(5)})[0]
    by_array, by_value = wrapped.io_binding(), wrapped.io_binding()
    by_array.bind_cpu_input("x", rows(5))
    by_array.bind_output("p")
    by_value.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(rows(5)))
    by_value.bind_output("p")
    for binding in (by_array, by_value, by_value):
        assert wrapped.run_with_iobinding(binding) is None
        np.testing.assert_allclose(binding.copy_outputs_to_cpu()[0], expected, rtol=1e-6)
    world.window()
    assert (samples(world), confidences(world)) == (15, 15)
    assert counted(world) == {("first", None): 1, ("steady", None): 2}


def test_a_binding_without_a_name_for_its_inputs_is_counted_as_one_sample(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits)
    inner = wrapped.io_binding()
    inner.bind_cpu_input("x", rows(5))
    inner.bind_output("p")

    class Vendor:
        """A binding of a build that shows nothing of what it binds."""

        _session = inner._session
        _iobinding = inner._iobinding
        _is_webgpu_session = False

        def get_outputs(self) -> Any:
            return inner.get_outputs()

    wrapped.run_with_iobinding(Vendor())
    world.window()
    assert samples(world) == 1


def test_ort_values_are_watched_where_they_lie(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits)
    value = onnxruntime.OrtValue.ortvalue_from_numpy(rows(1))
    for _ in range(4):
        (answer,) = wrapped.run_with_ort_values(["p"], {"x": value})
        assert isinstance(answer, onnxruntime.OrtValue)
        np.testing.assert_allclose(answer.numpy(), digits.run(None, {"x": rows(1)})[0], rtol=1e-6)
    wrong = onnxruntime.OrtValue.ortvalue_from_numpy(rows(2, 3))
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        wrapped.run_with_ort_values(None, {"x": wrong})
    world.window()
    assert counted(world) == {("first", None): 1, ("steady", None): 3, ("steady", "shape_mismatch"): 1}
    assert (samples(world), confidences(world)) == (6, 4)


def test_a_value_on_a_device_or_too_large_is_not_looked_at() -> None:
    class OnDevice:
        def is_tensor(self) -> bool:
            return True

        def device_name(self) -> str:
            return "cuda"

        def numpy(self) -> Any:
            raise AssertionError("copied from the device")

    assert adapter._viewed(OnDevice()) is None
    large = onnxruntime.OrtValue.ortvalue_from_shape_and_type([1 << 21], np.float32, "cpu")
    assert adapter._viewed(large) is None


def test_ort_values_of_a_type_that_numpy_does_not_have_are_counted(bench: Any, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, [1, 4])],
    )
    path = tmp_path / "same.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    world = bench()
    wrapped = world.monitor.wrap(session_of(path), version="1")
    value = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(np.zeros((1, 4), np.uint16), TensorProto.BFLOAT16)
    for _ in range(3):
        wrapped.run_with_ort_values(["y"], {"x": value})
    world.window()
    assert samples(world) == 3


def odd_model(path: Path) -> Any:
    """A model with two inputs (strings and a dynamic matrix) and outputs that are a sequence, strings and a scalar."""
    graph = helper.make_graph(
        [
            helper.make_node("SequenceConstruct", ["x", "x"], ["both"]),
            helper.make_node("Identity", ["words"], ["same"]),
            helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        ],
        "odd",
        [
            helper.make_tensor_value_info("words", TensorProto.STRING, [None]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b"]),
        ],
        [
            helper.make_tensor_sequence_value_info("both", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("same", TensorProto.STRING, [None]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, []),
        ],
    )
    return session_of(save(graph, path))


def test_strings_sequences_scalars_and_dynamic_shapes_pass_unharmed(bench: Any, tmp_path: Path) -> None:
    before = swallowed_count()
    world = bench()
    session = odd_model(tmp_path / "odd.onnx")
    wrapped = world.monitor.wrap(session)
    words = np.array(["a", "b", "c"], dtype=object)
    for shape in ((2, 3), (0, 3), (5, 1), (2, 3)):
        feed = {"words": words, "x": np.ones(shape, dtype=np.float32)}
        expected, got = session.run(None, feed), wrapped.run(None, feed)
        assert [len(part) for part in got[0]] == [len(part) for part in expected[0]]
        assert got[1].tolist() == expected[1].tolist() == ["a", "b", "c"]
        assert got[2] == expected[2] == np.prod(shape)
    world.window()
    assert sum(counted(world).values()) == 4
    assert swallowed_count() == before


def test_a_list_of_maps_passes_unharmed(bench: Any, tmp_path: Path) -> None:
    """Converters of scikit-learn end classifiers with ZipMap: one map of class to probability a sample."""
    nodes = [
        helper.make_node("ZipMap", ["x"], ["maps"], domain="ai.onnx.ml", classlabels_strings=["cat", "dog"]),
    ]
    value = helper.make_value_info(
        "maps",
        helper.make_sequence_type_proto(
            helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        ),
    )
    graph = helper.make_graph(nodes, "zip", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])], [value])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)])
    model.ir_version = 10
    world = bench()
    session = session_of(model.SerializeToString())
    wrapped = world.monitor.wrap(session, "maps", "1")
    for count in (1, 1, 4):
        feed = {"x": rows(count, 2)}
        assert wrapped.run(None, feed) == session.run(None, feed)
    world.window()
    assert samples(world) == 6
    assert confidences(world) == 0


def test_a_session_that_is_let_go_of_retires_only_when_all_its_ways_to_run_are(bench: Any, tmp_path: Path) -> None:
    world = bench()
    wrapped = world.monitor.wrap(session_of(classifier(tmp_path / "m.onnx")))
    run = wrapped.run_with_ort_values
    del wrapped
    gc.collect()
    world.monitor.step()
    run(["p"], {"x": onnxruntime.OrtValue.ortvalue_from_numpy(rows(1))})
    world.window()
    assert samples(world) == 1
    assert len(world.monitor._engine.models.recorders) == 1
    del run
    gc.collect()
    world.window()
    assert world.monitor._engine.models.recorders == []

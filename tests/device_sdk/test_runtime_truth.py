"""What nobody else tells of a runtime: placement, loading, start-up, routes, input bytes, and why something failed."""

from __future__ import annotations

import gc
import hashlib
import os
import subprocess
import sys
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
import tflite_kit
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate
from onnx import TensorProto, helper
from sdk_kit import SECOND, classifier, save, session_of

from device_sdk import ConfigError, ModelNameError, Monitor
from device_sdk.contract import attributes as a
from device_sdk.contract.attributes import StartupFrom
from device_sdk.host.startup import BOOT_MAX_NS, STARTUP_MAX_NS, Startup, process_started_ns
from device_sdk.runtimes.adapter import _sha256, sample_bytes
from device_sdk.runtimes.loading import LOADS_MAX
from device_sdk.runtimes.placement import fell_back, placed, preferred
from device_sdk.testing import ManualClock

CPU = ["CPUExecutionProvider"]
AZURE = ["AzureExecutionProvider", *CPU]  # a provider that every build has and that takes no node of these models
WARN = 13
SAME_VERSION = ("edge.model.load.duration", "edge.inference.duration")


def rows(n: int, columns: int = 64) -> Any:
    return np.random.default_rng(n).random((n, columns), dtype=np.float32)


def nodes(world: Any) -> dict[tuple[str, str], int]:
    """Return the nodes of the last window by (requested, provider)."""
    return {(at[a.PROVIDER_REQUESTED], at[a.PROVIDER_NAME]): p.as_int for at, p in world.named("edge.model.node.count")}


def loads(world: Any) -> list[tuple[str, str, str, int]]:
    """Return (runtime, stage, error, count) of what was loaded."""
    return [
        (at[a.RUNTIME_NAME], at[a.LOAD_STAGE], at.get(a.ERROR_TYPE, ""), p.count)
        for at, p in world.named("edge.model.load.duration")
    ]


def loaded(world: Any) -> Any:
    """Return (attributes, severity) of the one edge.model.loaded event."""
    ((_, attributes, (record, _)),) = [event for event in world.events() if event[0] == "edge.model.loaded"]
    return attributes, record.severity_number


@pytest.mark.parametrize("version", [0, 7])
def test_a_load_has_the_version_of_its_runs_and_the_file_is_hashed_once(
    bench: Any, tmp_path: Path, version: int
) -> None:
    world = bench()
    path = classifier(tmp_path / "m.onnx", version=version)
    hashed = _sha256.cache_info().misses
    session = world.monitor.load(onnxruntime.InferenceSession, str(path), providers=CPU)
    assert _sha256.cache_info().misses - hashed == (version == 0)
    session.run(None, {"x": rows(1)})
    world.window()
    told = {name: at[a.MODEL_VERSION] for name, at, _ in world.sent() if name in SAME_VERSION}
    assert told == dict.fromkeys(SAME_VERSION, str(version or hashlib.sha256(path.read_bytes()).hexdigest()[:8]))


# --- placement ------------------------------------------------------------------------------------------------------


def test_placement_is_told_in_every_window_and_in_the_event(bench: Any, tmp_path: Path) -> None:
    world = bench()
    session = world.monitor.load(onnxruntime.InferenceSession, str(classifier(tmp_path / "m.onnx")), providers=CPU)
    world.window()
    once = nodes(world)
    world.window()
    assert once == {("CPUExecutionProvider", "CPUExecutionProvider"): 2}
    assert len(world.named("edge.model.node.count")) == 2
    attributes, severity = loaded(world)
    assert attributes[a.PROVIDER_NODES].values[0].string_value == "CPUExecutionProvider=2"
    assert severity == 9
    del session
    world.window()
    world.window()
    assert len(world.named("edge.model.node.count")) <= 3  # told while a session lives


def test_a_fall_back_to_the_cpu_is_a_metric_and_a_warning(bench: Any, tmp_path: Path) -> None:
    world = bench()
    session = world.monitor.load(onnxruntime.InferenceSession, str(classifier(tmp_path / "m.onnx")), providers=AZURE)
    assert session.get_providers() == AZURE
    session.run(None, {"x": rows(1)})
    world.window()
    requested = ",".join(AZURE)
    assert nodes(world) == {(requested, "CPUExecutionProvider"): 2, (requested, "AzureExecutionProvider"): 0}
    ((at, _),) = world.named("edge.inference.samples")
    assert at[a.PROVIDER_NAME] == "CPUExecutionProvider"  # the one with most nodes, not the one that is listed first
    assert loaded(world)[1] == WARN


def test_a_provider_that_this_build_has_not_is_a_fall_back_too(bench: Any, tmp_path: Path) -> None:
    """ONNX Runtime forgets what it was asked for: only the call still knows."""
    world, path = bench(), str(classifier(tmp_path / "m.onnx"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session = world.monitor.load(
            onnxruntime.InferenceSession, path, providers=[("CUDAExecutionProvider", {"device_id": 0}), *CPU]
        )
    assert session.get_providers() == CPU
    world.window()
    requested = "CUDAExecutionProvider,CPUExecutionProvider"
    assert nodes(world) == {(requested, "CPUExecutionProvider"): 2, (requested, "CUDAExecutionProvider"): 0}
    assert loaded(world)[1] == WARN


def test_a_fall_back_while_it_runs_is_told_too(bench: Any, tmp_path: Path) -> None:
    """ONNX Runtime puts a session whose provider fails on fewer ones, by its own set_providers, and only prints so."""
    world = bench()
    made: list[Any] = []

    def make() -> Any:
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        path = str(classifier(tmp_path / "m.onnx"))
        made.append(onnxruntime.InferenceSession(path, options, providers=AZURE))
        return made[0]

    wrapped = world.monitor.load(make, model="m", version="1", requested=CPU)
    made[0].set_providers(CPU)  # as its run() does when a provider fails
    assert wrapped.get_providers() == CPU
    wrapped.set_providers(AZURE)  # as its owner does: that is what is asked for now
    world.window()
    requested = ",".join(AZURE)
    assert nodes(world) == {(requested, "CPUExecutionProvider"): 2, (requested, "AzureExecutionProvider"): 0}
    told = [
        (at[a.PROVIDER_REQUESTED], record.severity_number)
        for name, at, (record, _) in world.events()
        if name == "edge.model.loaded"
    ]
    assert told == [("CPUExecutionProvider", 9)] * 2 + [(requested, WARN)]
    assert wrapped.run(None, {"x": rows(1)})[0].shape == (1, 10)
    alive = weakref.ref(made.pop())
    del wrapped
    assert alive() is None  # the hook keeps no session


def test_a_wrapped_session_may_be_told_what_was_asked_for(bench: Any, digits: Any) -> None:
    world = bench()
    world.monitor.wrap(digits, requested=["CUDAExecutionProvider", *CPU])
    attributes, severity = loaded(world)
    assert attributes[a.PROVIDER_REQUESTED] == "CUDAExecutionProvider,CPUExecutionProvider"
    assert a.PROVIDER_NODES not in attributes  # this session was not asked to record its placement
    assert severity == WARN


def test_options_of_the_caller_are_kept(bench: Any, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    world = bench()
    path = str(classifier(tmp_path / "m.onnx"))
    for arguments in ({"sess_options": options}, {}):
        session = world.monitor.load(onnxruntime.InferenceSession, path, providers=CPU, **arguments)
        assert session.run(None, {"x": rows(1)})[0].shape == (1, 10)
    positional = world.monitor.load(onnxruntime.InferenceSession, path, options, CPU)
    assert positional.get_session_options().intra_op_num_threads == 1
    world.window()
    assert set(nodes(world).values()) == {2}


@pytest.mark.parametrize(
    ("resolver", "placement"),
    [(OpResolverType.AUTO, {"XNNPACK": 2}), (OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, {"CPU": 2})],
)
def test_litert_tells_what_its_delegate_took(bench: Any, tmp_path: Path, resolver: Any, placement: Any) -> None:
    world = bench()
    path = str(tflite_kit.classifier(tmp_path / "m.tflite"))
    interpreter = world.monitor.load(Interpreter, model_path=path, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    world.window()
    assert nodes(world) == {("CPU", provider): count for provider, count in placement.items()}
    attributes, severity = loaded(world)
    assert (attributes[a.MODEL_NAME], len(attributes[a.MODEL_VERSION]), severity) == ("m", 8, 9)
    assert len(attributes["artifact.hash"]) == 64


def test_a_delegate_that_took_nothing_is_a_fall_back(bench: Any, tmp_path: Path) -> None:
    """No accelerator is here: the name says what was asked for, the interpreter what became of it."""
    world = bench()
    interpreter = Interpreter(str(tflite_kit.classifier(tmp_path / "m.tflite")))
    wrapped = world.monitor.wrap(interpreter, "m", "1", requested="libedgetpu")
    wrapped.allocate_tensors()
    world.window()
    assert nodes(world) == {("libedgetpu", "XNNPACK"): 2, ("libedgetpu", "libedgetpu"): 0}
    assert loaded(world)[1] == WARN


@pytest.mark.parametrize("device", ["CPU", "AUTO"])
def test_openvino_tells_the_device_that_executes(bench: Any, tmp_path: Path, device: str) -> None:
    world = bench()
    core = openvino.Core()
    compiled = world.monitor.load(core.compile_model, str(classifier(tmp_path / "m.onnx")), device)
    compiled(rows(1))
    world.window()
    ((requested, provider),) = nodes(world)
    assert (requested, provider) == (device, "CPU")
    assert 2 <= nodes(world)[device, "CPU"] <= 12
    assert loaded(world)[1] == 9


@pytest.mark.parametrize(
    ("requested", "wanted"),
    [
        ([], ""),
        (["AUTO"], ""),
        (["MULTI"], ""),
        (["AUTO:GPU,CPU"], "GPU"),
        (["HETERO:NPU,CPU"], "NPU"),
        (["BATCH:GPU(4)"], "GPU"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], "CUDAExecutionProvider"),
    ],
)
def test_the_preferred_provider_is_the_first_that_was_asked_for(requested: list[str], wanted: str) -> None:
    assert preferred(requested) == wanted


def test_a_fall_back_is_a_node_elsewhere_or_a_provider_that_is_not_there() -> None:
    assert fell_back(["GPU", "CPU"], ["GPU"], [("GPU", 9), ("CPU", 1)])
    assert not fell_back(["GPU"], ["GPU.0"], [("GPU.0", 9)])
    assert not fell_back(["CPU"], ["CPU"], [("XNNPACK", 9)])
    assert fell_back(["GPU"], ["CPU"], [])
    assert not fell_back(["GPU"], [], [])
    assert placed(["GPU"], [("CPU", 3)]) == (("CPU", 3), ("GPU", 0))
    assert placed(["GPU"], []) == ()


# --- loading --------------------------------------------------------------------------------------------------------


def test_stages_of_loading_are_timed_apart(bench: Any, tmp_path: Path) -> None:
    world = bench()
    core, path = openvino.Core(), str(classifier(tmp_path / "m.onnx"))
    read = world.monitor.load(core.read_model, path, model="m", version="1")
    assert isinstance(read, openvino.Model)
    compiled = world.monitor.load(core.compile_model, read, "CPU", model="m", version="1")
    session = world.monitor.load(onnxruntime.InferenceSession, path, providers=CPU, model="m", version="1")
    world.monitor.load(session.run, None, {"x": rows(1)}, stage="warm_up")
    interpreter = world.monitor.load(Interpreter, str(tflite_kit.classifier(tmp_path / "m.tflite")), version="1")
    interpreter.allocate_tensors()
    interpreter.allocate_tensors()  # a second one loads nothing
    compiled(rows(1))
    world.window()
    assert sorted(loads(world)) == [
        ("litert", "compile", "", 1),
        ("litert", "create", "", 1),
        ("onnxruntime", "create", "", 1),
        ("onnxruntime", "warm_up", "", 1),
        ("openvino", "compile", "", 1),
        ("openvino", "read", "", 1),
    ]


def test_a_load_takes_as_long_as_it_takes(bench: Any, tmp_path: Path) -> None:
    world, path = bench(), classifier(tmp_path / "m.onnx")

    def slow() -> Any:
        world.clock.advance(3 * SECOND)
        return session_of(path)

    session = world.monitor.load(slow, model="m", version="1")
    assert isinstance(session, onnxruntime.InferenceSession)
    world.window()
    ((at, point),) = world.named("edge.model.load.duration")
    assert (point.sum, at[a.RUNTIME_NAME], at[a.PROVIDER_REQUESTED]) == (3.0, "onnxruntime", "default")


def test_anything_can_be_loaded_by_name(bench: Any) -> None:
    world = bench()
    assert world.monitor.load(dict, model="weights", version="1", answer=42) == {"answer": 42}
    world.window()
    assert loads(world) == [("callable", "create", "", 1)]


def test_openvino_says_whether_its_cache_had_the_model(bench: Any, tmp_path: Path) -> None:
    path = str(classifier(tmp_path / "m.onnx"))
    core = openvino.Core()
    core.set_property({"CACHE_DIR": str(tmp_path / "cache")})
    world = bench()
    for _ in range(2):
        world.monitor.load(core.compile_model, path, "AUTO")
    world.window()
    told = {at.get(a.LOAD_CACHED): p.count for at, p in world.named("edge.model.load.duration")}
    assert told == {False: 1, True: 1}


@pytest.mark.parametrize("arguments", [{"stage": "cook"}, {"route": "clod"}])
def test_a_typo_is_said_at_once(bench: Any, tmp_path: Path, arguments: Any) -> None:
    monitor = bench().monitor
    with pytest.raises(ConfigError, match=r"did you mean|known are"):
        monitor.load(onnxruntime.InferenceSession, str(classifier(tmp_path / "m.onnx")), **arguments)


def test_a_load_without_a_name_is_refused_before_it_runs(bench: Any, tmp_path: Path) -> None:
    blob, called = classifier(tmp_path / "m.onnx").read_bytes(), []
    monitor = bench().monitor
    with pytest.raises(ModelNameError, match="model= and version="):
        monitor.load(onnxruntime.InferenceSession, blob, providers=CPU)
    with pytest.raises(ModelNameError):
        monitor.load(lambda: called.append(1))
    assert called == []
    assert monitor.load(onnxruntime.InferenceSession, blob, providers=CPU, model="m", version="1")


def test_a_session_that_is_measured_already_is_not_counted_twice(bench: Any, tmp_path: Path) -> None:
    world = bench()
    path = str(classifier(tmp_path / "m.onnx"))
    loaded_once = world.monitor.load(onnxruntime.InferenceSession, path, providers=CPU)
    again = world.monitor.wrap(loaded_once, "m", "1")
    assert again is loaded_once
    compiled = world.monitor.load(openvino.Core().compile_model, path, "CPU")
    assert world.monitor.wrap(compiled) is compiled
    again.run(None, {"x": rows(1)})
    compiled(rows(1))
    world.window()
    assert by_route(world, "edge.inference.samples") == {None: 2}


@pytest.mark.parametrize("consent", [True, False])
def test_a_monitor_that_asks_for_consent_loads_as_any_other(bench: Any, tmp_path: Path, consent: bool) -> None:
    world = bench(consent=True)
    if not consent:
        world.monitor.disable()
    core, path = openvino.Core(), str(classifier(tmp_path / "m.onnx"))
    assert isinstance(world.monitor.load(core.read_model, path, model="m", version="1"), openvino.Model)
    wrapped = world.monitor.load(onnxruntime.InferenceSession, path, providers=CPU)
    interpreter = world.monitor.load(Interpreter, str(tflite_kit.classifier(tmp_path / "m.tflite")))
    interpreter.allocate_tensors()
    assert world.monitor.load(wrapped.run, None, {"x": rows(1)}, stage="warm_up", model="m", version="1")[0].size
    if consent:
        world.window()
        assert {stage for _, stage, _, _ in loads(world)} == {"read", "create", "compile", "warm_up"}
        assert by_route(world, "edge.inference.samples") == {None: 1}


def test_a_disabled_monitor_just_loads(tmp_path: Path) -> None:
    session = Monitor(enabled=False).load(onnxruntime.InferenceSession, str(classifier(tmp_path / "m.onnx")))
    assert type(session) is onnxruntime.InferenceSession


def test_loads_without_end_stay_bounded(bench: Any) -> None:
    world = bench()
    for number in range(LOADS_MAX + 50):
        world.monitor.load(int, model="m", version=str(number))
    world.window()
    counted = sum(point.count for _, point in world.named("edge.model.load.duration"))
    assert counted == LOADS_MAX  # most of them in the one point of what is beyond the contract's bound


# --- failures, each made to happen -----------------------------------------------------------------------------------


def onnx_with(path: Path, node: Any, kind: int = TensorProto.FLOAT, domain: str = "") -> str:
    value = [helper.make_tensor_value_info(name, kind, [3]) for name in ("x", "y")]
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(domain or "d", 1)])
    model.ir_version = 10
    path.write_bytes(model.SerializeToString())
    return str(path)


def unknown_operator(path: Path) -> str:
    return onnx_with(path, helper.make_node("Bar", ["x"], ["y"], domain="com.foo"), domain="com.foo")


def rubbish(path: Path) -> str:
    path.write_bytes(b"\x07rubbish" * 40)
    return str(path)


def session(path: str) -> tuple[Any, ...]:
    return onnxruntime.InferenceSession, path, None, CPU


LOAD_FAILURES: list[tuple[str, Any, str, str]] = [
    ("ort_operator", lambda d: session(unknown_operator(d / "m.onnx")), "unsupported_operator", "com.foo:Bar"),
    (
        "ort_kernel",
        lambda d: session(onnx_with(d / "m.onnx", helper.make_node("Erf", ["x"], ["y"]), TensorProto.DOUBLE)),
        "unsupported_operator",
        "Erf",
    ),
    ("ort_file", lambda d: session(str(d / "absent.onnx")), "load_failed", ""),
    ("ort_rubbish", lambda d: session(rubbish(d / "m.onnx")), "load_failed", ""),
    (
        "ov_operator",
        lambda d: (openvino.Core().compile_model, unknown_operator(d / "m.onnx"), "CPU"),
        "unsupported_operator",
        "com.foo.Bar",
    ),
    ("ov_file", lambda d: (openvino.Core().compile_model, str(d / "absent.onnx"), "CPU"), "load_failed", ""),
    (
        "ov_device",
        lambda d: (openvino.Core().compile_model, str(classifier(d / "m.onnx")), "TOASTER"),
        "provider_failed",
        "",
    ),
    ("lt_file", lambda d: (Interpreter, str(d / "absent.tflite")), "load_failed", ""),
    ("lt_rubbish", lambda d: (Interpreter, rubbish(d / "m.tflite")), "load_failed", ""),
    (
        "lt_operator",
        lambda d: (Interpreter, str(tflite_kit.classifier(d / "m.tflite", version=99))),
        "unsupported_operator",
        "FULLY_CONNECTED",
    ),
]


@pytest.mark.parametrize(("make", "word", "operator"), [case[1:] for case in LOAD_FAILURES], ids=lambda v: "")
def test_a_failed_load_is_counted_by_its_cause_and_passes_on(
    bench: Any, tmp_path: Path, make: Any, word: str, operator: str
) -> None:
    world = bench()
    factory, *arguments = make(tmp_path)
    with pytest.raises(Exception) as bare:  # noqa: PT011 - compared with the original's below
        factory(*arguments)
    with pytest.raises(type(bare.value)) as ours:
        world.monitor.load(factory, *arguments)
    assert str(ours.value) == str(bare.value)
    world.window()
    ((at, point),) = world.named("edge.model.load.duration")
    assert (at[a.ERROR_TYPE], at.get(a.UNSUPPORTED_OPERATOR, ""), point.count) == (word, operator, 1)
    assert at[a.MODEL_NAME] in ("m", "absent")


def test_an_operator_that_only_allocation_finds_unknown_is_a_failed_load(bench: Any, tmp_path: Path) -> None:
    world = bench()
    path = str(tflite_kit.classifier(tmp_path / "m.tflite", custom="FrobOp"))
    interpreter = world.monitor.load(Interpreter, path)
    with pytest.raises(RuntimeError, match="unresolved custom op"):
        interpreter.allocate_tensors()
    world.window()
    found = {at[a.LOAD_STAGE]: at.get(a.UNSUPPORTED_OPERATOR) for at, _ in world.named("edge.model.load.duration")}
    assert found == {"create": None, "compile": "FrobOp"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the delegate's own finaliser
def test_a_delegate_that_cannot_be_loaded_is_a_provider_that_failed(bench: Any) -> None:
    world = bench()
    with pytest.raises(OSError, match="libnope"):
        world.monitor.load(load_delegate, "libnope.so", model="m", version="1")
    gc.collect()
    world.window()
    assert loads(world) == [("callable", "create", "provider_failed", 1)]


def huge_model(path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Expand", ["x", "s"], ["y"])],
        "huge",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("s", TensorProto.INT64, [3]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None, None])],
    )
    return save(graph, path)


def run_errors(world: Any) -> set[str | None]:
    return {at.get(a.ERROR_TYPE) for at, _ in world.named("edge.inference.duration")}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_running_out_of_memory_is_counted_as_that(bench: Any, tmp_path: Path, runtime: str) -> None:
    path = huge_model(tmp_path / "huge.onnx")
    feed = {"x": np.ones(1, np.float32), "s": np.array([1 << 20, 1 << 12, 1 << 8], np.int64)}  # 4 TiB
    world = bench()
    if runtime == "onnxruntime":
        wrapped = world.monitor.wrap(session_of(path))
        with pytest.raises(Exception, match="Failed to allocate"):
            wrapped.run(None, feed)
    else:
        compiled = world.monitor.wrap(openvino.Core().compile_model(str(path), "CPU"), "huge", "1")
        with pytest.raises(RuntimeError, match="Failed to allocate"):
            compiled(feed)
    world.window()
    assert run_errors(world) == {"out_of_memory"}


def test_a_run_that_its_caller_terminates_counts_as_cancelled(bench: Any, digits: Any) -> None:
    options = onnxruntime.RunOptions()
    options.terminate = True
    world = bench()
    with pytest.raises(Exception, match="terminate flag"):
        world.monitor.wrap(digits).run(None, {"x": rows(1)}, options)
    world.window()
    assert run_errors(world) == {"cancelled"}


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (np.ones((1, 64)), "type_mismatch"),
        (np.ones((2, 64), np.float32), "shape_mismatch"),
        (np.ones(64, np.float32), "shape_mismatch"),
    ],
)
def test_litert_refuses_a_tensor_when_it_is_set(bench: Any, tmp_path: Path, value: Any, word: str) -> None:
    world = bench()
    interpreter = world.monitor.wrap(Interpreter(str(tflite_kit.classifier(tmp_path / "m.tflite"))), "m", "1")
    interpreter.allocate_tensors()
    with pytest.raises(ValueError, match="Cannot set tensor"):
        interpreter.set_tensor(0, value)
    world.window()
    assert run_errors(world) == {word}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "litert", "signature"])
def test_an_answer_that_is_no_number_is_a_failure_under_every_runtime(bench: Any, tmp_path: Path, runtime: str) -> None:
    world = bench()
    onnx, tflite = classifier(tmp_path / "m.onnx"), str(tflite_kit.classifier(tmp_path / "m.tflite"))
    if runtime == "onnxruntime":
        wrapped = world.monitor.wrap(session_of(onnx), "m", "1")
        run = lambda x: wrapped.run(None, {"x": x})  # noqa: E731
    elif runtime == "openvino":
        run = world.monitor.wrap(openvino.Core().compile_model(str(onnx), "CPU"), "m", "1")
    elif runtime == "signature":
        runner = world.monitor.wrap(Interpreter(tflite), "m", "1").get_signature_runner()
        run = lambda x: runner(image=x)  # noqa: E731
    else:
        interpreter = world.monitor.wrap(Interpreter(tflite), "m", "1")
        interpreter.allocate_tensors()

        def run(x: Any) -> None:
            interpreter.set_tensor(0, x)
            interpreter.invoke()

    for value in (0.5, 0.5, np.nan, 0.5, np.nan, np.nan):
        run(np.full((1, 64), value, dtype=np.float32))
    world.window()
    counted: dict[str | None, int] = {}
    for at, point in world.named("edge.inference.samples"):
        counted[at.get(a.ERROR_TYPE)] = counted.get(at.get(a.ERROR_TYPE), 0) + point.as_int
    assert counted == {None: 3, "nan_output": 3}


def test_an_empty_answer_to_a_sample_is_a_failure(bench: Any, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Softmax", ["x"], ["all"], axis=1),
            helper.make_node("Compress", ["all", "keep"], ["p"], axis=0),
        ],
        "filter",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("keep", TensorProto.BOOL, ["n"]),
        ],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 3])],
    )
    world = bench()
    wrapped = world.monitor.wrap(session_of(save(graph, tmp_path / "filter.onnx")))
    for keep in (True, False, True, False, False):
        wrapped.run(None, {"x": rows(1, 3), "keep": np.array([keep])})
    world.window()
    counted: dict[str | None, int] = {}
    for at, point in world.named("edge.inference.samples"):
        counted[at.get(a.ERROR_TYPE)] = counted.get(at.get(a.ERROR_TYPE), 0) + point.as_int
    assert counted == {None: 2, "empty_output": 3}


# --- start-up -------------------------------------------------------------------------------------------------------


class Answered:
    def __init__(self, model: str) -> None:
        self.model = model
        self.times: list[dict[StartupFrom, int]] = []

    def started(self, times_ns: Any) -> None:
        self.times.append(dict(times_ns))


class Uptime(ManualClock):
    """A machine's clock that the test turns: not a simulated device's."""

    manual = False


def stat_file(path: Path, started_s: float, name: str = "python3") -> Path:
    ticks = int(started_s * os.sysconf("SC_CLK_TCK"))
    path.write_text(f"4242 ({name}) S 1 " + " ".join(["0"] * 17) + f" {ticks} 1 2 3\n")
    return path


@pytest.mark.parametrize("name", ["python3", "a) b (c", "x y z"])
def test_the_start_of_a_process_is_read_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    assert process_started_ns(stat_file(tmp_path / "stat", 12.5, name)) == 12_500_000_000


@pytest.mark.parametrize("content", ["", "1 (x", "1 (x) S 1 2 3", "1 (x) S " + "many " * 40])
def test_a_system_that_does_not_tell_has_no_start(tmp_path: Path, content: str) -> None:
    (tmp_path / "stat").write_text(content)
    assert process_started_ns(tmp_path / "stat") is None
    assert process_started_ns(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("started_s", "answered_s", "first_of_boot", "told"),
    [
        (20, 27, True, {StartupFrom.PROCESS: 7, StartupFrom.BOOT: 27}),
        (20, 27, False, {StartupFrom.PROCESS: 7}),  # restarted since
        (BOOT_MAX_NS // SECOND + 1, 700, True, {StartupFrom.PROCESS: 99}),  # not started by the boot
        (20, 20 + STARTUP_MAX_NS // SECOND + 1, True, None),  # a model that came later
        (50, 40, True, None),  # a clock that makes no sense
    ],
)
def test_start_up_is_told_where_it_is_plausible(
    tmp_path: Path, started_s: int, answered_s: int, first_of_boot: bool, told: Any
) -> None:
    clock = Uptime(0)
    startup = Startup(clock, first_of_boot=first_of_boot, stat=stat_file(tmp_path / "stat", started_s))
    clock.advance(answered_s * SECOND)
    model, update, other = Answered("m"), Answered("m"), Answered("n")
    for each in (model, update, other):
        startup.answered(each)
    expected = [] if told is None else [{key: value * SECOND for key, value in told.items()}]
    assert (model.times, update.times, other.times) == (expected, [], expected)
    startup.over = True
    late = Answered("o")
    startup.answered(late)
    assert late.times == []


def test_a_simulated_device_has_no_start_up(bench: Any, digits: Any) -> None:
    world = bench()
    world.monitor.wrap(digits).run(None, {"x": rows(1)})
    world.window()
    assert world.named("edge.startup.duration") == []


def test_a_real_process_tells_its_start_up_once_and_its_fork_does_not(collector: Any, tmp_path: Path) -> None:
    code = f"""
import os, sys, time
from device_sdk import Monitor
monitor = Monitor(endpoint={collector.url!r}, state_dir={str(tmp_path / "s")!r}, window_s=3600)
try:
    with monitor.measure("m"): raise ValueError
except ValueError: pass
time.sleep(0.2)
for _ in range(3):
    with monitor.measure("m"): pass
assert monitor.flush(20)
if os.fork() == 0:
    with monitor.measure("child"): pass
    monitor.flush(20)
    monitor.close()
    os._exit(0)
os.wait()
monitor.close()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
    found = [
        ({pair.key: pair.value.string_value for pair in point.attributes}, point)
        for request in collector.metrics()
        for resource in request.resource_metrics
        for metric in resource.scope_metrics[0].metrics
        if metric.name == "edge.startup.duration"
        for point in metric.exponential_histogram.data_points
    ]
    by_source = {at[a.STARTUP_FROM]: point for at, point in found}
    assert {at[a.MODEL_NAME] for at, _ in found} == {"m"}
    assert len(found) == len(by_source)
    assert 0.2 < by_source["process"].sum < 30


# --- routes and input bytes -----------------------------------------------------------------------------------------


def by_route(world: Any, name: str) -> dict[str | None, int]:
    found: dict[str | None, int] = {}
    for at, point in world.named(name):
        route = at.get(a.INFERENCE_ROUTE)
        found[route] = found.get(route, 0) + point.as_int
    return found


def test_samples_and_bytes_are_counted_by_route(bench: Any, tmp_path: Path, digits: Any) -> None:
    world = bench()
    here = world.monitor.wrap(digits)
    gateway = world.monitor.wrap(session_of(classifier(tmp_path / "g.onnx")), route="gateway")
    for count in (1, 1, 5):
        here.run(None, {"x": rows(count)})
        gateway.run(None, {"x": rows(count)})
    with pytest.raises(Exception, match="dimensions"):
        here.run(None, {"x": rows(1, 3)})  # was not taken in: costs no bandwidth
    world.window()
    assert by_route(world, "edge.inference.samples") == {None: 8, "gateway": 7}
    assert by_route(world, "edge.inference.input.size") == {None: 7 * 256, "gateway": 7 * 256}


def test_a_measured_run_may_say_where_it_was_answered_after_all(bench: Any) -> None:
    world = bench()
    measure = world.monitor.measure("ocr", route="device")
    with measure:
        pass
    with measure as run:
        run.route, run.input_bytes = "cloud", 120_000

    def answered_late() -> None:
        with measure as run:
            run.route, run.input_bytes = "fallback", 5
            raise TimeoutError

    with pytest.raises(TimeoutError):
        answered_late()
    world.window()
    assert by_route(world, "edge.inference.samples") == {"device": 1, "cloud": 1, "fallback": 1}
    assert by_route(world, "edge.inference.input.size") == {"cloud": 120_000}


def test_a_route_that_does_not_exist_is_refused_at_once_or_left_out(bench: Any, digits: Any) -> None:
    world = bench()
    with pytest.raises(ConfigError, match="did you mean 'cloud'"):
        world.monitor.measure("ocr", route="clod")
    with pytest.raises(ConfigError, match="did you mean 'device'"):
        world.monitor.wrap(digits, route="devise")
    with world.monitor.measure("ocr") as run:
        run.route = "../../etc"
    world.window()
    assert by_route(world, "edge.inference.samples") == {None: 1}


def test_a_measured_function_is_charged_for_its_arrays_and_bytes(bench: Any) -> None:
    world = bench()

    @world.monitor.measure("ocr")
    def read(image: Any, prompt: str, *, raw: bytes = b"") -> int:
        return len(prompt)

    read(rows(2), "text is not counted", raw=b"12345")
    read(image=memoryview(b"123"), prompt="")
    world.window()
    assert by_route(world, "edge.inference.input.size") == {None: 2 * 256 + 5 + 3}


def dynamic(path: Path) -> Any:
    """Two inputs whose sizes vary with one batch row."""
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x"], ["s"], keepdims=1), helper.make_node("Identity", ["words"], ["w"])],
        "dynamic",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, "length"]),
            helper.make_tensor_value_info("words", TensorProto.STRING, [None]),
        ],
        [
            helper.make_tensor_value_info("s", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("w", TensorProto.STRING, [None]),
        ],
    )
    return session_of(save(graph, path))


def test_bytes_are_exact_where_every_run_is_of_another_size(bench: Any, tmp_path: Path) -> None:
    world = bench()
    wrapped = world.monitor.wrap(dynamic(tmp_path / "d.onnx"))
    expected = 0
    for length in (1, 7, 7, 300, 2) * 40:
        words = np.array(["ab", "c" * length], dtype=object)
        wrapped.run(None, {"x": np.ones((1, length), np.float32), "words": words})
        expected += 4 * length + 2 + length
    world.window()
    assert by_route(world, "edge.inference.input.size") == {None: expected}


@pytest.mark.parametrize(
    ("inputs", "size"),
    [
        ([([None, 64], 4)], 256),
        ([(["batch", 3, 8], 2), (["batch", 2], 8)], 64),
        ([([1, 3], 4), ([1, 2], 4)], 20),
        ([([None], 4)], None),  # a vector is one sample of any length
        ([([None, 3], 4), ([None, 2], 4)], None),  # two lengths, for all that is declared
        ([(["n", 3], 4), (["m", 2], 4)], None),
        ([([8, 3], 4)], None),
        ([([None, "length"], 4)], None),
        ([([None, 3], 0)], None),  # text
        ([], None),
    ],
)
def test_bytes_are_taken_from_declared_shapes_only_where_these_fix_them(inputs: Any, size: int | None) -> None:
    assert sample_bytes(inputs) == size


def test_two_models_of_one_name_harm_nobody(bench: Any, tmp_path: Path) -> None:
    world = bench()
    one = world.monitor.wrap(session_of(classifier(tmp_path / "a.onnx")), "same", "1")
    two = world.monitor.wrap(session_of(classifier(tmp_path / "b.onnx", columns=3, classes=2)), "same", "1")
    for count in (1, 1, 4):
        assert one.run(None, {"x": rows(count)})[0].shape == (count, 10)
        assert two.run(None, {"x": rows(count, 3)})[0].shape == (count, 2)
    world.window()
    assert by_route(world, "edge.inference.samples") == {None: 12}
    assert by_route(world, "edge.inference.input.size") == {None: 6 * 256 + 6 * 12}


def test_bytes_of_the_other_runtimes(bench: Any, tmp_path: Path) -> None:
    world = bench()
    compiled = world.monitor.wrap(
        openvino.Core().compile_model(str(classifier(tmp_path / "m.onnx")), "CPU"), "ov", "1", route="device"
    )
    compiled(rows(3))
    request = compiled.create_infer_request()
    request.start_async({0: rows(2)})
    request.wait()
    interpreter = world.monitor.wrap(
        Interpreter(str(tflite_kit.classifier(tmp_path / "m.tflite"))), "lt", "1", route="cloud"
    )
    interpreter.allocate_tensors()
    for _ in range(6):
        interpreter.set_tensor(0, rows(1))
        interpreter.invoke()
    world.window()
    assert by_route(world, "edge.inference.input.size") == {"device": 5 * 256, "cloud": 6 * 256}

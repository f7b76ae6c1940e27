"""What a device program sees and what arrives: real sessions, a manual clock, parsed OTLP."""

from __future__ import annotations

import copy
import gc
import inspect
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from sdk_kit import SECOND, START_NS, classifier, save, session_of

from device_sdk import ConfigError, Feature, ModelNameError, Monitor, Signals, StateDirError
from device_sdk.contract import BY_NAME, EVENTS, metrics_host
from device_sdk.contract import attributes as a
from device_sdk.contract.events import COMMON_KEYS
from device_sdk.contract.instrument import Instrument, Kind
from device_sdk.errors import raise_swallowed, swallowed_count

STATISTICS = (
    Feature("mean", kind="mean", center=0.5, unit=0.05),
    Feature("std", kind="std", center=0.3, unit=0.05),
    Feature("dark", kind="dark_share", low=0.25, center=0.25, unit=0.05),
    Feature("bright", kind="saturated_share", high=0.75, center=0.25, unit=0.05),
)


def rows(n: int, columns: int = 64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((n, columns), dtype=np.float32)


def total(found: list[tuple[dict[str, Any], Any]]) -> int:
    return sum(point.count if hasattr(point, "count") else point.as_int for _, point in found)


def test_a_wrapped_session_answers_exactly_as_the_original(bench: Any, digits: Any) -> None:
    wrapped = bench().monitor.wrap(digits)
    x = rows(3)
    for names in (None, [], ["p"]):
        (expected,), (got,) = digits.run(names, {"x": x}), wrapped.run(names, {"x": x})
        np.testing.assert_array_equal(expected, got)
    (by_keyword,) = wrapped.run(output_names=None, input_feed={"x": x}, run_options=onnxruntime.RunOptions())
    np.testing.assert_array_equal(by_keyword, expected)


def test_a_wrapped_session_looks_like_the_original(bench: Any, digits: Any) -> None:
    wrapped = bench().monitor.wrap(digits)
    assert isinstance(wrapped, onnxruntime.InferenceSession)
    assert list(inspect.signature(wrapped.run).parameters) == list(inspect.signature(digits.run).parameters)
    assert wrapped.get_providers() == digits.get_providers()
    assert [item.name for item in wrapped.get_inputs()] == ["x"]
    assert wrapped.get_modelmeta().graph_name == "converter_made_this_up"
    wrapped.note = "kept"
    assert digits.note == "kept"
    assert set(dir(digits)) <= set(dir(wrapped))
    assert type(copy.copy(wrapped)) is type(digits)
    with pytest.raises(AttributeError):
        _ = wrapped.no_such_attribute


def test_runs_samples_and_latency_are_counted_to_the_unit(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits)
    run_inner = digits.run

    class Slow:
        def run(self, names: Any, feed: Any, options: Any = None) -> Any:
            world.clock.advance(2_000_000)
            return run_inner(names, feed, options)

        def __getattr__(self, name: str) -> Any:
            return getattr(digits, name)

    wrapped = world.monitor.wrap(Slow(), model="slow", version="1")
    for count in (1, 1, 1, 5, 1):
        wrapped.run(None, {"x": rows(count)})
    world.window()
    found = [(at, p) for at, p in world.named("edge.inference.duration") if at[a.MODEL_NAME] == "slow"]
    by_phase = {at[a.INFERENCE_PHASE]: p for at, p in found}
    assert (by_phase["first"].count, by_phase["steady"].count) == (1, 4)
    assert by_phase["steady"].sum == pytest.approx(0.008)
    assert by_phase["steady"].min == by_phase["steady"].max == 0.002
    ((at, samples),) = world.named("edge.inference.samples")
    assert samples.as_int == 9
    assert (at[a.MODEL_VERSION], at[a.RUNTIME_NAME], at[a.PROVIDER_NAME]) == (
        "1",
        "onnxruntime",
        "CPUExecutionProvider",
    )


def test_the_default_name_is_the_file_and_the_default_version_its_hash(bench: Any, tmp_path: Path, digits: Any) -> None:
    world = bench()
    world.monitor.wrap(digits).run(None, {"x": rows(1)})
    numbered = session_of(classifier(tmp_path / "numbered.onnx", version=41))
    world.monitor.wrap(numbered).run(None, {"x": rows(1)})
    sentinel = session_of(classifier(tmp_path / "sentinel.onnx", version=2**63 - 1))
    world.monitor.wrap(sentinel).run(None, {"x": rows(1)})
    world.window()
    names = {at[a.MODEL_NAME]: at[a.MODEL_VERSION] for at, _ in world.named("edge.inference.duration")}
    assert names["numbered"] == "41"
    assert len(names["digits"]) == len(names["sentinel"]) == 8
    assert int(names["digits"], 16) >= 0
    assert "converter_made_this_up" not in names


@pytest.mark.parametrize(
    ("given", "missing"),
    [({}, "model= and version="), ({"model": "m"}, "version="), ({"version": "1"}, "model=")],
)
def test_a_session_made_from_bytes_must_be_named(bench: Any, tmp_path: Path, given: Any, missing: str) -> None:
    session = session_of(classifier(tmp_path / "m.onnx").read_bytes())
    monitor = bench().monitor
    with pytest.raises(ModelNameError, match=missing):
        monitor.wrap(session, **given)
    assert monitor.wrap(session, model="m", version="1").run(None, {"x": rows(1)})


def test_statistics_of_an_input_are_bucketed_on_their_grid(bench: Any, digits: Any) -> None:
    world = bench(signals=Signals(features=STATISTICS))
    wrapped = world.monitor.wrap(digits)
    batch = rows(200)
    for row in batch:
        wrapped.run(None, {"x": row[None]})
    world.window()
    found = {at[a.FEATURE_NAME]: (at, p) for at, p in world.named("edge.input.value")}
    truth = {
        "mean": batch.mean(axis=1),
        "std": batch.astype(np.float64).std(axis=1),
        "dark": (batch <= 0.25).mean(axis=1),
        "bright": (batch >= 0.75).mean(axis=1),
    }
    for feature in STATISTICS:
        at, point = found[feature.name]
        assert at[a.FEATURE_GRID] == feature.grid
        z = (truth[feature.name] - feature.center) / feature.unit
        assert point.count == 200
        assert sum(point.positive.bucket_counts) == (z > 0.02).sum()
        assert sum(point.negative.bucket_counts) == (z < -0.02).sum()
        assert not point.HasField("sum")
        assert not point.HasField("min")
        assert not point.HasField("max")
    ((_, folded),) = world.named("edge.signal.samples")
    assert folded.as_int == 200


def test_narrow_tables_have_a_feature_per_column_without_a_declaration(bench: Any, tmp_path: Path) -> None:
    world = bench()
    session = session_of(classifier(tmp_path / "table.onnx", columns=4, classes=3))
    wrapped = world.monitor.wrap(session)
    for row in rows(10, 4):
        wrapped.run(None, {"x": row[None]})
    world.window()
    assert {at[a.FEATURE_NAME] for at, _ in world.named("edge.input.value")} == {"x[0]", "x[1]", "x[2]", "x[3]"}


def test_wide_inputs_have_no_undeclared_features(bench: Any, digits: Any) -> None:
    world = bench()
    world.monitor.wrap(digits).run(None, {"x": rows(1)})
    world.window()
    assert world.named("edge.input.value") == []
    assert total(world.named("edge.output.confidence")) == 1


def test_confidence_entropy_margin_and_classes_match_numpy(bench: Any, digits: Any) -> None:
    world = bench(signals=Signals(classes=tuple("abcdefghij")))
    wrapped = world.monitor.wrap(digits)
    batch = rows(300)
    for row in batch:
        wrapped.run(None, {"x": row[None]})
    p = digits.run(None, {"x": batch})[0].astype(np.float64)
    world.window()
    bounds = np.array(BY_NAME["edge.output.confidence"].bounds)
    ordered = np.sort(p, axis=1)
    truth = {
        "edge.output.confidence": ordered[:, -1],
        "edge.output.margin": ordered[:, -1] - ordered[:, -2],
        "edge.output.entropy": -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1) / np.log(10),
    }
    for name, values in truth.items():
        ((at, point),) = world.named(name)
        assert at[a.OUTPUT_NAME] == "p"
        expected = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1)
        assert np.abs(np.array(point.bucket_counts) - expected).sum() <= 2  # a float32 on a bound may fall either way
        assert sum(point.bucket_counts) == point.count == 300
        assert not point.HasField("sum")
    classes = {at[a.CLASS_NAME]: point.as_int for at, point in world.named("edge.output.predictions")}
    top = np.bincount(p.argmax(axis=1), minlength=10)
    assert classes == {"abcdefghij"[i]: int(n) for i, n in enumerate(top) if n}


def test_logits_are_not_guessed_but_are_read_when_declared(bench: Any, tmp_path: Path) -> None:
    raw = classifier(tmp_path / "raw.onnx", softmax=False)
    world = bench()
    silent = world.monitor.wrap(session_of(raw))
    declared = world.monitor.wrap(session_of(raw), model="declared", version="1", signals=Signals(output="logits"))
    for row in rows(20):
        silent.run(None, {"x": row[None]})
        declared.run(None, {"x": row[None]})
    world.window()
    ((at, point),) = world.named("edge.output.confidence")
    assert (at[a.MODEL_NAME], point.count) == ("declared", 20)


def test_a_regression_output_is_a_value_on_its_grid(bench: Any, tmp_path: Path) -> None:
    session = session_of(classifier(tmp_path / "price.onnx", columns=4, classes=1, softmax=False))
    world = bench(signals={"price": Signals(output_center=1.0, output_unit=0.5)})
    wrapped = world.monitor.wrap(session)
    for row in rows(7, 4):
        wrapped.run(None, {"x": row[None]})
    world.window()
    ((at, point),) = world.named("edge.output.value")
    assert (at[a.FEATURE_GRID], point.count) == ("c=1;u=0.5", 7)
    assert world.named("edge.output.confidence") == []


def test_integer_labels_beside_probabilities_are_ignored(bench: Any, tmp_path: Path) -> None:
    weights = np.eye(3, dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["z"], ["label"], axis=1, keepdims=0),
        ],
        "sklearn_like",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 3]),
        ],
        [helper.make_tensor("w", TensorProto.FLOAT, (3, 3), weights.ravel())],
    )
    world = bench()
    wrapped = world.monitor.wrap(session_of(save(graph, tmp_path / "svc.onnx")))
    for row in rows(5, 3):
        wrapped.run(None, {"x": row[None]})
    wrapped.run(["label"], {"x": rows(1, 3)})
    world.window()
    ((at, point),) = world.named("edge.output.confidence")
    assert (at[a.OUTPUT_NAME], point.count) == ("probabilities", 5)
    assert total(world.named("edge.inference.duration")) == 6


def test_signals_beside_the_model_file_are_found(bench: Any, tmp_path: Path) -> None:
    path = classifier(tmp_path / "beside.onnx", columns=4)
    path.with_suffix(".signals.toml").write_text(
        'classes = ["cat", "dog"]\n[[feature]]\nname = "age"\ncolumn = 2\ncenter = 40.0\nunit = 5\nrange = [0, 120]\n'
    )
    world = bench()
    wrapped = world.monitor.wrap(session_of(path))
    for value in (40.0, -1.0, 200.0):
        x = np.full((1, 4), value, dtype=np.float32)
        wrapped.run(None, {"x": x})
    world.window()
    states = {at[a.FEATURE_STATE]: p.as_int for at, p in world.named("edge.input.observations")}
    assert states == {"ok": 1, "below_range": 1, "above_range": 1}
    ((at, _),) = world.named("edge.input.value")
    assert (at[a.FEATURE_NAME], at[a.FEATURE_GRID]) == ("age", "c=40;u=5")


def test_an_exception_is_counted_by_type_and_arrives_unchanged(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits)
    wrapped.run(None, {"x": rows(1)})
    failures = [
        ({"x": rows(1, 3)}, "shape_mismatch"),
        ({"x": rows(2).astype(np.float64)}, "type_mismatch"),
        ({"wrong_name": rows(1)}, "_OTHER"),
    ]
    for feed, _ in failures:
        with pytest.raises(Exception) as bare:  # noqa: PT011 - compared with the original's below
            digits.run(None, feed)
        with pytest.raises(type(bare.value)) as ours:
            wrapped.run(None, feed)
        assert str(ours.value) == str(bare.value)
    world.window()
    counted = {at.get(a.ERROR_TYPE): p.count for at, p in world.named("edge.inference.duration")}
    assert counted == {None: 1, "shape_mismatch": 1, "type_mismatch": 1, "_OTHER": 1}


def test_a_keyboard_interrupt_passes_and_counts_as_cancelled(bench: Any, digits: Any) -> None:
    world = bench()

    class Interrupted:
        def run(self, *_: Any) -> Any:
            raise KeyboardInterrupt

        def __getattr__(self, name: str) -> Any:
            return getattr(digits, name)

    with pytest.raises(KeyboardInterrupt):
        world.monitor.wrap(Interrupted(), model="m", version="1").run(None, {"x": rows(4)})
    world.window()
    ((at, samples),) = world.named("edge.inference.samples")
    assert (at[a.ERROR_TYPE], samples.as_int) == ("cancelled", 4)


def test_iobinding_runs_are_timed(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits)
    binding = wrapped.io_binding()
    binding.bind_cpu_input("x", rows(1))
    binding.bind_output("p")
    wrapped.run_with_iobinding(binding)
    world.window()
    assert total(world.named("edge.inference.duration")) == 1


def test_a_callable_is_measured_as_block_and_as_decorator(bench: Any) -> None:
    world = bench()

    @world.monitor.measure("ocr", "2", samples=3)
    def read(text: str) -> str:
        """Read."""
        if not text:
            raise TimeoutError
        return text

    assert (read("a"), read.__name__, read.__doc__) == ("a", "read", "Read.")
    with pytest.raises(TimeoutError):
        read("")
    with world.monitor.measure("ocr", "2"):
        world.clock.advance(SECOND)
    world.window()
    counted = {at.get(a.ERROR_TYPE): p.as_int for at, p in world.named("edge.inference.samples")}
    assert counted == {None: 4, "timeout": 3}


def test_two_sessions_of_one_model_share_their_series(bench: Any, digits: Any) -> None:
    world = bench()
    first, second = world.monitor.wrap(digits), world.monitor.wrap(digits)
    for _ in range(3):
        first.run(None, {"x": rows(1)})
        second.run(None, {"x": rows(1)})
    world.window()
    found = {at[a.INFERENCE_PHASE]: p.count for at, p in world.named("edge.inference.duration")}
    assert found == {"first": 2, "steady": 4}


def test_many_threads_lose_no_run(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits)

    def work() -> None:
        for row in rows(400):
            wrapped.run(None, {"x": row[None]})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.window()
    assert total(world.named("edge.inference.duration")) == 1600
    assert total(world.named("edge.inference.samples")) == 1600
    assert total(world.named("edge.output.confidence")) == 1600


def test_a_large_batch_counts_every_sample_and_folds_an_even_subset(bench: Any, digits: Any) -> None:
    world = bench()
    world.monitor.wrap(digits).run(None, {"x": rows(10_000)})
    world.window()
    assert total(world.named("edge.inference.samples")) == 10_000
    ((_, folded),) = world.named("edge.signal.samples")
    assert 32 <= folded.as_int <= 64
    assert total(world.named("edge.output.confidence")) == folded.as_int


def image_model(path: Path, dtype: int = TensorProto.FLOAT) -> Any:
    cast = helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)
    pool = helper.make_node("GlobalAveragePool", ["f"], ["g"])
    flat = helper.make_node("Flatten", ["g"], ["y"])
    soft = helper.make_node("Softmax", ["y"], ["p"], axis=1)
    graph = helper.make_graph(
        [cast, pool, flat, soft],
        "image",
        [helper.make_tensor_value_info("x", dtype, [None, 3, None, None])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 3])],
    )
    return session_of(save(graph, path))


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, TensorProto.FLOAT), (np.uint8, TensorProto.UINT8)])
def test_images_are_read_at_a_stride_close_to_the_whole(bench: Any, tmp_path: Path, dtype: Any, kind: int) -> None:
    feature = Feature("mean", kind="mean", center=100.0, unit=1.0)
    world = bench(signals=Signals(features=(feature,)))
    wrapped = world.monitor.wrap(image_model(tmp_path / "image.onnx", kind))
    image = np.random.default_rng(3).integers(90, 131, size=(1, 3, 224, 224)).astype(dtype)
    for _ in range(4):
        wrapped.run(None, {"x": image})
    world.window()
    ((_, point),) = world.named("edge.input.value")
    index = point.positive.offset
    whole = float(image.mean()) - 100.0
    assert point.count == 4
    assert 2 ** (index / 8) / 1.1 < whole < 2 ** ((index + 1) / 8) * 1.1


class TestBadInput:
    """Nothing the host feeds may make the SDK raise, and every run counts."""

    def world(self, bench: Any, digits: Any) -> tuple[Any, Any]:
        made = bench(signals=Signals(features=STATISTICS))
        return made, made.monitor.wrap(digits)

    @pytest.mark.parametrize(("bad", "state"), [(np.nan, "nan"), (np.inf, "infinite"), (-np.inf, "infinite")])
    def test_not_a_number_is_counted_as_such_and_its_answer_is_a_failure(
        self, bench: Any, digits: Any, bad: float, state: str
    ) -> None:
        world, wrapped = self.world(bench, digits)
        for _ in range(3):
            wrapped.run(None, {"x": rows(1)})
        spoiled = rows(1)
        spoiled[0, 5] = bad
        wrapped.run(None, {"x": spoiled})
        world.window()
        states = {
            at[a.FEATURE_STATE]: p.as_int
            for at, p in world.named("edge.input.observations")
            if at[a.FEATURE_NAME] == "mean"
        }
        assert states == {"ok": 3, state: 1}
        errors = {at.get(a.ERROR_TYPE) for at, _ in world.named("edge.inference.duration")}
        assert errors == {None, "nan_output"}
        assert total(world.named("edge.inference.samples")) == 4

    def test_nan_in_the_first_run_or_in_a_batch_is_a_failed_run(self, bench: Any, digits: Any) -> None:
        world, wrapped = self.world(bench, digits)
        batch = rows(4)
        batch[2] = np.nan
        wrapped.run(None, {"x": batch})
        wrapped.run(None, {"x": batch})
        world.window()
        found = {
            (at[a.INFERENCE_PHASE], at.get(a.ERROR_TYPE)): p.count for at, p in world.named("edge.inference.duration")
        }
        assert found == {("first", "nan_output"): 1, ("steady", "nan_output"): 1}
        assert total(world.named("edge.output.confidence")) == 6

    def test_an_empty_batch_is_a_run_without_samples(self, bench: Any, digits: Any) -> None:
        world, wrapped = self.world(bench, digits)
        wrapped.run(None, {"x": rows(0)})
        wrapped.run(None, {"x": rows(1)})
        wrapped.run(None, {"x": rows(0)})
        world.window()
        assert total(world.named("edge.inference.duration")) == 3
        assert total(world.named("edge.inference.samples")) == 1
        assert all(a.ERROR_TYPE not in at for at, _ in world.named("edge.inference.duration"))

    def test_objects_strings_and_lists_raise_what_the_original_raises(self, bench: Any, digits: Any) -> None:
        world, wrapped = self.world(bench, digits)
        for feed in (
            {"x": np.array([[object()] * 64])},
            {"x": np.array([["a"] * 64])},
            {"x": "text"},
            {"x": None},
            {},
        ):
            with pytest.raises(Exception) as bare:  # noqa: PT011
                digits.run(None, feed)
            with pytest.raises(type(bare.value)):
                wrapped.run(None, feed)
        with pytest.raises((TypeError, AttributeError)):
            wrapped.run(None, None)
        world.window()
        assert total(world.named("edge.inference.duration")) == 6

    def test_a_list_that_the_runtime_takes_is_counted(self, bench: Any, digits: Any) -> None:
        world, wrapped = self.world(bench, digits)
        wrapped.run(None, {"x": rows(1)})
        wrapped.run(None, {"x": rows(1).tolist()})
        world.window()
        assert total(world.named("edge.inference.duration")) == 2

    def test_string_inputs_are_watched_by_length_and_classes(self, bench: Any, tmp_path: Path) -> None:
        graph = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])],
            "text",
            [helper.make_tensor_value_info("x", TensorProto.STRING, [None, 1])],
            [helper.make_tensor_value_info("y", TensorProto.STRING, [None, 1])],
        )
        world = bench()
        wrapped = world.monitor.wrap(session_of(save(graph, tmp_path / "text.onnx")))
        for _ in range(3):
            wrapped.run(None, {"x": np.array([["a"], ["b"]], dtype=object)})
        world.window()
        assert total(world.named("edge.inference.samples")) == 6
        watched = {at[a.FEATURE_NAME]: point.count for at, point in world.named("edge.input.value")}
        names = ("text_length", "letter_share", "digit_share", "punctuation_share")
        assert watched == {f"x.{name}": 6 for name in names}

    def test_images_of_changing_size_are_all_counted_and_watched(self, bench: Any, tmp_path: Path) -> None:
        world = bench(signals=Signals(features=(Feature("mean", kind="mean"),)))
        wrapped = world.monitor.wrap(image_model(tmp_path / "image.onnx"))
        for size in (8, 8, 16, 8, 64, 2):
            wrapped.run(None, {"x": np.ones((1, 3, size, size), dtype=np.float32)})
        world.window()
        assert total(world.named("edge.inference.duration")) == 6
        ((_, folded),) = world.named("edge.signal.samples")
        assert folded.as_int == 6
        ((_, means),) = world.named("edge.input.value")
        assert (means.positive.offset, list(means.positive.bucket_counts)) == (-1, [6])  # 1.0, the top of its bucket
        assert world.named("edge.loss.measurements") == []

    def test_columns_of_a_table_that_grew_are_counted_as_not_folded(self, bench: Any, tmp_path: Path) -> None:
        graph = helper.make_graph(
            [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=1)],
            "any_width",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        )
        world = bench()
        wrapped = world.monitor.wrap(session_of(save(graph, tmp_path / "any.onnx")))
        for width in (4, 4, 5):
            wrapped.run(None, {"x": rows(1, width)})
        world.window()
        assert total(world.named("edge.inference.duration")) == 3
        ((at, lost),) = world.named("edge.loss.measurements")
        assert (lost.as_int, at[a.LOSS_REASON]) == (1, "ring_overrun")

    def test_a_caller_that_reuses_its_buffer_changes_nothing_measured(self, bench: Any, digits: Any) -> None:
        world, wrapped = self.world(bench, digits)
        buffer = np.full((1, 64), 0.5, dtype=np.float32)
        for _ in range(3):
            wrapped.run(None, {"x": buffer})
        buffer[:] = 1e9
        world.window()
        means = next(p for at, p in world.named("edge.input.value") if at[a.FEATURE_NAME] == "mean")
        assert means.zero_count == 3


def test_a_declared_feature_that_does_not_fit_is_left_out_and_said(
    bench: Any, digits: Any, caplog: pytest.LogCaptureFixture
) -> None:
    misfit = Signals(features=(Feature("far", column=99), Feature("mean", kind="mean")))
    world = bench(signals=misfit)
    import device_sdk.errors as errors

    errors._guarding.next_log_s = 0.0
    world.monitor.wrap(digits).run(None, {"x": rows(1)})
    world.window()
    assert {at[a.FEATURE_NAME] for at, _ in world.named("edge.input.value")} == {"mean"}
    assert "'far' is not watched" in caplog.text


def test_a_fault_of_the_sdk_never_reaches_the_host(bench: Any, digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_swallowed(False)
    world = bench()
    wrapped = world.monitor.wrap(digits)

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("device_sdk.signals.recorder.Recorder._ran", broken)
    before = swallowed_count()
    assert wrapped.run(None, {"x": rows(1)})[0].shape == (1, 10)
    assert swallowed_count() == before + 1
    raise_swallowed(True)
    with pytest.raises(ZeroDivisionError, match="ours"):
        wrapped.run(None, {"x": rows(1)})


def test_disabled_means_untouched(tmp_path: Path, digits: Any) -> None:
    monitor = Monitor(enabled=False, state_dir=tmp_path / "never")
    assert monitor.wrap(digits) is digits
    with monitor.measure("x"):
        pass
    assert monitor.step() == 0
    assert monitor.flush(0)
    assert monitor.close()
    assert not (tmp_path / "never").exists()


def test_two_monitors_on_one_state_dir_raise_and_the_second_works_after_close(bench: Any, tmp_path: Path) -> None:
    first = bench()
    with pytest.raises(StateDirError, match="its own state_dir="):
        bench()
    first.monitor.close(0)
    bench()


def test_wrapping_something_else_says_what_to_use(bench: Any) -> None:
    with pytest.raises(ConfigError, match="measure\\(\\)"):
        bench().monitor.wrap(len)


def test_sessions_that_the_host_lets_go_of_are_let_go_of_here_and_stay_counted(bench: Any, digits: Any) -> None:
    world = bench()
    for _ in range(30):
        world.monitor.wrap(digits, model="m", version="1").run(None, {"x": rows(1)})
    kept = world.monitor.wrap(digits, model="m", version="1").run
    gc.collect()
    kept(None, {"x": rows(1)})
    world.window()
    assert len(world.monitor._engine.models.recorders) == 1
    kept(None, {"x": rows(1)})
    world.window()
    assert sum(point.count for _, point in world.named("edge.inference.duration")) == 32


def test_the_seventeenth_model_is_counted_as_other(bench: Any, digits: Any) -> None:
    world = bench()
    for number in range(18):
        world.monitor.wrap(digits, model=f"m{number}", version="1").run(None, {"x": rows(1)})
    world.window()
    counts = {at[a.MODEL_NAME]: p.count for at, p in world.named("edge.inference.duration")}
    assert len(counts) == 17
    assert counts[a.OTHER] == 2


def test_everything_sent_is_in_the_contract_with_its_kind_unit_and_attributes(bench: Any, tmp_path: Path) -> None:
    world = bench(
        signals=Signals(features=STATISTICS),
        resource={"edge.device.tier": "a", "edge.label.line": "7", "host.name": "secret", "edge.flags": ["b=1", "a=0"]},
        device_id="cam-1",
    )
    path = classifier(tmp_path / "digits.onnx")
    wrapped = world.monitor.load(onnxruntime.InferenceSession, str(path), providers=["CPUExecutionProvider"])
    for count in (1, 1, 3):
        wrapped.run(None, {"x": rows(count)})
    with pytest.raises(Exception, match="dimensions"):
        wrapped.run(None, {"x": rows(1, 3)})
    world.window()
    world.sent()
    world.window()
    world.monitor.session_end("update")
    world.clock.advance(SECOND)
    world.monitor.close()
    kinds = {
        Kind.EXPONENTIAL: "exponential_histogram",
        Kind.EXPLICIT: "histogram",
        Kind.COUNTER: "sum",
        Kind.UP_DOWN: "sum",
        Kind.GAUGE: "gauge",
    }
    seen = set()
    for request in world.sink.metrics():
        for resource in request.resource_metrics:
            keys = {pair.key for pair in resource.resource.attributes}
            assert keys <= a.RESOURCE_KEYS | {"edge.label.line"}
            assert {a.SERVICE_INSTANCE_ID, a.INSTALLATION_ID, a.BOOT_ID, a.DEVICE_ID} <= keys
            for metric in resource.scope_metrics[0].metrics:
                row = BY_NAME[metric.name]
                assert not row.reserved
                assert metric.unit == row.unit
                assert metric.WhichOneof("data") == kinds[row.kind]
                data = getattr(metric, metric.WhichOneof("data"))
                if row.kind is not Kind.GAUGE:
                    assert data.aggregation_temporality == (2 if row.kind is Kind.UP_DOWN else 1)
                for point in data.data_points:
                    assert {pair.key for pair in point.attributes} <= set(row.attributes)
                    seen.add(metric.name)
                    if row.kind is Kind.EXPLICIT:
                        assert tuple(point.explicit_bounds) == row.bounds
    assert seen >= {row.name for row in BY_NAME.values() if not row.reserved} - {
        "edge.startup.duration",
        "edge.output.value",
        "edge.input.categories",
        "edge.output.outcomes",
        "edge.pipeline.duration",
        "edge.output.detection.count",
        "edge.output.detection.area",
        "edge.loss.windows",
        "edge.loss.events",
        "edge.loss.measurements",
        "edge.sdk.degraded.time",  # test_overhead.py
        "edge.privacy.held",
        "edge.privacy.epsilon_spent",
        "edge.loss.runs",
        "edge.inference.energy",
        "edge.inference.energy_error",
        "edge.selftest.checks",  # test_selftest.py
        *(row.name for row in vars(metrics_host).values() if isinstance(row, Instrument)),  # test_host.py
        "edge.spool.merges",  # tests/device_sdk/test_merge.py
        "edge.spool.corrupt_segments",  # tests/device_sdk/test_spool.py
    }
    known = {event.name: event for event in EVENTS}
    for name, attributes, _ in world.events():
        assert set(attributes) <= {*COMMON_KEYS, *known[name].attributes}


def test_a_wall_clock_jump_moves_no_window_but_shows_in_the_envelope(bench: Any) -> None:
    world = bench()
    world.window()
    world.clock.set_wall(START_NS + 3600 * SECOND)
    world.window()
    times = [(p.start_time_unix_nano, p.time_unix_nano) for _, p in world.named("edge.session.time")]
    assert times == [(START_NS, START_NS + 60 * SECOND), (START_NS + 60 * SECOND, START_NS + 120 * SECOND)]
    ((at, offset),) = world.named("edge.clock.offset")
    assert offset.as_double == pytest.approx(3540.0)
    assert at[a.CLOCK_SOURCE] == "ntp"

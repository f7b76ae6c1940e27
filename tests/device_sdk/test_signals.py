"""What is watched of a run's inputs and outputs: kinds of features and outputs, and what is left out or missing."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from sdk_kit import save, session_of

from device_sdk import Feature, Output, Signals, SignalsError
from device_sdk.contract import attributes as a


def with_an_optional_input(path: Path) -> Any:
    """Return a session that adds ``offset`` (left out: 0) to ``x`` and answers twice."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "offset"], ["y"]), helper.make_node("Neg", ["y"], ["z"])],
        "optional",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1]),
            helper.make_tensor_value_info("offset", TensorProto.FLOAT, [1, 1]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [None, 1]),
        ],
        [helper.make_tensor("offset", TensorProto.FLOAT, (1, 1), [0.0])],
    )
    return session_of(save(graph, path))


def states(world: Any) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for at, point in world.named("edge.input.observations"):
        found.setdefault(at[a.FEATURE_NAME], {})[at[a.FEATURE_STATE]] = point.as_int
    return found


def test_an_optional_input_that_is_left_out_is_missing(bench: Any, tmp_path: Path) -> None:
    features = (Feature("x", column=0, input="x"), Feature("offset", column=0, input="offset"))
    world = bench(signals=Signals(features=features))
    wrapped = world.monitor.wrap(with_an_optional_input(tmp_path / "optional.onnx"))
    one = np.ones((1, 1), dtype=np.float32)
    wrapped.run(None, {"x": one, "offset": one})
    for _ in range(3):
        wrapped.run(None, {"x": one})
    world.window()
    assert states(world) == {"x": {"ok": 4}, "offset": {"ok": 1, "missing": 3}}
    wrapped.run(None, {"x": one})
    for recorder in world.monitor._engine.models.recorders:
        recorder.discard()  # as a forked child does: its parent tells of what is missing there
    world.window()
    assert states(world)["offset"] == {"ok": 1, "missing": 3}
    assert [point.count for _, point in world.named("edge.output.value")] == [4]
    assert world.named("edge.loss.measurements") == []


def test_a_run_that_does_not_ask_for_the_watched_output_keeps_its_inputs(bench: Any, tmp_path: Path) -> None:
    world = bench(signals=Signals(features=(Feature("x", column=0, input="x"),)))
    wrapped = world.monitor.wrap(with_an_optional_input(tmp_path / "optional.onnx"))
    one = np.ones((1, 1), dtype=np.float32)
    wrapped.run(None, {"x": one})
    for _ in range(4):
        wrapped.run(["z"], {"x": one})
    world.window()
    assert states(world) == {"x": {"ok": 5}}
    assert [(at[a.OUTPUT_NAME], point.count) for at, point in world.named("edge.output.value")] == [("y", 1)]
    world.window()
    assert world.named("edge.loss.measurements") == []


def image_model(path: Path, dtype: int, shape: list[Any]) -> Any:
    """Return a session that takes an image and answers its mean."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["f"], ["y"], axes=[1, 2, 3], keepdims=0),
        ],
        "image",
        [helper.make_tensor_value_info("image", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
    )
    return session_of(save(graph, path))


def middle_of(point: Any, center: float = 0.0, unit: float = 1.0) -> float:
    """Return the middle of the only bucket of a histogram with one value in it, however often."""
    if point.zero_count:
        return center
    side, sign = (point.positive, 1) if sum(point.positive.bucket_counts) else (point.negative, -1)
    (place,) = [at for at, count in enumerate(side.bucket_counts) if count]
    low, high = (2.0 ** ((side.offset + place + more) / 8) for more in (0, 1))
    return center + sign * unit * (low + high) / 2


@pytest.mark.parametrize(
    ("dtype", "kind", "full"), [(np.uint8, TensorProto.UINT8, 255), (np.float32, TensorProto.FLOAT, 1)]
)
@pytest.mark.parametrize("channels_first", [True, False])
def test_undeclared_images_have_statistics_on_the_grid_of_their_type(
    bench: Any, tmp_path: Path, dtype: Any, kind: int, full: float, channels_first: bool
) -> None:
    shape = (1, 3, 64, 48) if channels_first else (1, 64, 48, 3)
    image = (np.random.default_rng(5).random(shape) * full).astype(dtype)
    world = bench()
    wrapped = world.monitor.wrap(image_model(tmp_path / "image.onnx", kind, [None, *shape[1:]]))
    for _ in range(3):
        wrapped.run(None, {"image": image})
    world.window()
    found = {at[a.FEATURE_NAME]: (at[a.FEATURE_GRID], point) for at, point in world.named("edge.input.value")}
    assert {name: point.count for name, (_, point) in found.items()} == {
        f"image.{name}": 3 for name in ("mean", "std", "dark_share", "saturated_share")
    }
    assert found["image.mean"][0] == ("c=128;u=32" if full == 255 else "c=0.5;u=0.125")
    _, spread = found["image.std"]
    unit = 32 if full == 255 else 0.125
    assert middle_of(spread, unit=unit) == pytest.approx(image.std(), rel=0.1 + 3 / np.sqrt(2 * 1024))


def test_an_input_of_another_width_does_not_spoil_the_output(bench: Any, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=1)],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
    )
    world = bench()
    wrapped = world.monitor.wrap(session_of(save(graph, tmp_path / "mean.onnx")))
    for width in (3, 5, 3):
        wrapped.run(None, {"x": np.ones((1, width), dtype=np.float32)})
    world.window()
    assert states(world) == {f"x[{at}]": {"ok": 2} for at in range(3)}
    assert [point.count for _, point in world.named("edge.output.value")] == [3]
    world.window()
    assert [point.as_int for _, point in world.named("edge.loss.measurements")] == [1]


def passing(path: Path, kinds: dict[str, tuple[int, list[Any]]]) -> Any:
    """Return a session that answers with each of its inputs, ``x`` as ``x_out``."""
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in kinds],
        "passing",
        [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()],
        [helper.make_tensor_value_info(f"{name}_out", *kind) for name, kind in kinds.items()],
    )
    return session_of(save(graph, path))


def test_texts_and_categories_of_a_real_string_model(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "rooms.signals.toml").write_text(
        """
        output = "none"

        [[feature]]
        name = "room"
        kind = "category"
        column = 0
        categories = ["kitchen", "bath"]

        [[feature]]
        name = "note"
        kind = "text_length"
        column = 1
        unit = 8
        """
    )
    world = bench()
    wrapped = world.monitor.wrap(passing(tmp_path / "rooms.onnx", {"x": (TensorProto.STRING, [None, 2])}))
    rows = [["kitchen", "warm"], ["bath", ""], ["cellar", "a much longer note"], ["", "cold"]]
    wrapped.run(None, {"x": np.array(rows, dtype=object)})
    wrapped.run(None, {"x": rows})  # the runtime takes nested lists of texts too
    world.window()
    categories = {at[a.FEATURE_CATEGORY]: point.as_int for at, point in world.named("edge.input.categories")}
    assert categories == {"kitchen": 2, "bath": 2, a.OTHER: 2}
    assert states(world) == {"room": {"ok": 4, "unseen": 2, "missing": 2}, "note": {"ok": 6, "missing": 2}}
    sent = b"".join(body for _, body in world.sink.requests)
    assert b"cellar" not in sent
    assert b"longer" not in sent


def test_every_output_of_a_model_with_several_is_watched(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "heads.signals.toml").write_text(
        """
        classes = ["left", "right"]

        [[output]]
        name = "side_out"
        kind = "logits"

        [[output]]
        name = "speed_out"
        kind = "value"
        center = 10.0
        unit = 2.0

        [[output]]
        name = "face_out"
        kind = "embedding"
        projections = 3
        seed = 5
        unit = 0.125
        """
    )
    shapes = {"side": [None, 2], "speed": [None, 2], "face": [None, 32]}
    session = passing(tmp_path / "heads.onnx", {name: (TensorProto.FLOAT, shape) for name, shape in shapes.items()})
    world = bench()
    wrapped = world.monitor.wrap(session)
    rng = np.random.default_rng(2)
    feed = {name: rng.standard_normal((6, shape[1])).astype(np.float32) for name, shape in shapes.items()}
    wrapped.run(None, feed)
    wrapped.run(["speed_out"], feed)
    world.window()
    ((at, confidence),) = world.named("edge.output.confidence")
    assert (at[a.OUTPUT_NAME], confidence.count) == ("side_out", 6)
    assert {at[a.CLASS_NAME] for at, _ in world.named("edge.output.predictions")} <= {"left", "right"}
    values = {(at[a.OUTPUT_NAME], at[a.FEATURE_GRID]): point.count for at, point in world.named("edge.output.value")}
    assert values == {
        ("speed_out[0]", "c=10;u=2"): 12,
        ("speed_out[1]", "c=10;u=2"): 12,
        **{(f"face_out:5[{place}]", "c=0;u=0.125"): 6 for place in range(3)},
    }
    world.window()
    assert world.named("edge.loss.measurements") == []


def test_probabilities_are_found_behind_an_output_that_is_none(bench: Any, tmp_path: Path) -> None:
    shapes = {"hidden": [None, 8], "p": [None, 3]}
    session = passing(tmp_path / "two.onnx", {name: (TensorProto.FLOAT, shape) for name, shape in shapes.items()})
    world = bench()
    wrapped = world.monitor.wrap(session)
    third = np.full((4, 3), 1 / 3, dtype=np.float32)
    wrapped.run(None, {"hidden": np.full((4, 8), 7.0, dtype=np.float32), "p": third})
    world.window()
    assert [(at[a.OUTPUT_NAME], point.count) for at, point in world.named("edge.output.confidence")] == [("p_out", 4)]


def test_ten_thousand_classes_are_too_many_for_a_class_vector_and_the_run_counts(bench: Any, tmp_path: Path) -> None:
    world = bench(signals=Signals(outputs=(Output("p_out", kind="probabilities"),)))
    wrapped = world.monitor.wrap(passing(tmp_path / "wide.onnx", {"p": (TensorProto.FLOAT, [None, 10_000])}))
    wrapped.run(None, {"p": np.full((2, 10_000), 1e-4, dtype=np.float32)})
    world.window()
    assert world.named("edge.output.confidence") == []
    assert [point.count for _, point in world.named("edge.inference.duration")] == [1]


def test_another_session_of_a_model_cannot_change_what_is_watched(bench: Any, tmp_path: Path) -> None:
    session = passing(tmp_path / "m.onnx", {"x": (TensorProto.FLOAT, [None, 4])})
    world = bench()
    first = Signals(features=(Feature("f", kind="mean"),), outputs=(Output("x_out", kind="logits"),))
    second = Signals(
        features=(Feature("f", kind="std"), Feature("g", column=0)), outputs=(Output("x_out", kind="value"),)
    )
    x = np.zeros((1, 4), dtype=np.float32)
    for signals in (first, second, first):
        world.monitor.wrap(session, "m", "1", signals=signals).run(None, {"x": x})
    world.window()
    assert [(at[a.FEATURE_NAME], point.count) for at, point in world.named("edge.input.value")] == [("f", 2)]
    assert [point.count for _, point in world.named("edge.output.confidence")] == [3]


@pytest.mark.parametrize(
    ("signals", "said"),
    [
        (Signals(features=(Feature("f", kind="mean", input="imgae"),)), "no input 'imgae'; did you mean 'image'"),
        (Signals(output_name="y2"), "no output 'y2'; did you mean 'y'"),
        (Signals(outputs=(Output("y", kind="detections", scores="s"),)), "no output 's'; known are y"),
    ],
)
def test_a_name_that_the_session_does_not_have_is_refused_when_it_is_wrapped(
    bench: Any, tmp_path: Path, signals: Signals, said: str
) -> None:
    session = image_model(tmp_path / "image.onnx", TensorProto.FLOAT, [None, 3, 8, 8])
    with pytest.raises(SignalsError, match=said):
        bench().monitor.wrap(session, signals=signals)


def test_an_optional_input_may_be_named(bench: Any, tmp_path: Path) -> None:
    signals = Signals(features=(Feature("o", column=0, input="offset"),))
    bench().monitor.wrap(with_an_optional_input(tmp_path / "optional.onnx"), signals=signals)


def test_what_is_inferred_is_said_once_with_its_reason(
    bench: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import device_sdk.errors as errors

    world = bench()
    errors._guarding.next_log_s = 0.0
    wrapped = world.monitor.wrap(image_model(tmp_path / "image.onnx", TensorProto.FLOAT, [None, 3, 8, 8]))
    with caplog.at_level(logging.INFO, logger="device_sdk"):
        for _ in range(3):
            wrapped.run(None, {"image": np.full((1, 3, 8, 8), -1.0, dtype=np.float32)})
    assert caplog.text.count("nothing is declared, so these are watched: image (an image of floats outside 0..1") == 1


def test_a_transposed_image_is_watched_like_any_other(bench: Any, tmp_path: Path) -> None:
    world = bench(signals=Signals(features=(Feature("mean", kind="mean", center=0.5, unit=0.01),)))
    wrapped = world.monitor.wrap(image_model(tmp_path / "image.onnx", TensorProto.FLOAT, [None, 3, 96, 96]))
    image = np.random.default_rng(1).random((1, 96, 96, 3)).astype(np.float32).transpose(0, 3, 1, 2)
    assert not image.flags.c_contiguous
    for _ in range(4):
        wrapped.run(None, {"image": image})
    world.window()
    ((_, point),) = world.named("edge.input.value")
    assert point.count == 4
    assert middle_of(point, 0.5, 0.01) == pytest.approx(image.mean(), abs=4 * 0.289 / np.sqrt(1000))


def test_declared_logits_are_found_beside_their_own_probabilities(bench: Any, tmp_path: Path) -> None:
    shapes = {"p": [None, 3], "z": [None, 3]}
    session = passing(tmp_path / "two.onnx", {name: (TensorProto.FLOAT, shape) for name, shape in shapes.items()})
    world = bench(signals=Signals(output="logits"))
    wrapped = world.monitor.wrap(session)
    third = np.full((4, 3), 1 / 3, dtype=np.float32)
    wrapped.run(None, {"p": third, "z": np.array([[9, 0, 0]] * 4, dtype=np.float32)})
    world.window()
    assert [(at[a.OUTPUT_NAME], point.count) for at, point in world.named("edge.output.confidence")] == [("z_out", 4)]


def test_many_threads_lose_no_text_and_no_output(bench: Any, tmp_path: Path) -> None:
    kinds: dict[str, tuple[int, list[Any]]] = {
        "words": (TensorProto.STRING, [None, 1]),
        "z": (TensorProto.FLOAT, [None, 3]),
        "v": (TensorProto.FLOAT, [None, 1]),
    }
    signals = Signals(
        features=(Feature("n", kind="text_length", input="words"), Feature("z0", column=0, input="z")),
        outputs=(Output("z_out", kind="logits"), Output("v_out", kind="value")),
    )
    world = bench(signals=signals)
    wrapped = world.monitor.wrap(passing(tmp_path / "three.onnx", kinds))

    def many(number: int) -> None:
        for count in (1, 2, 3) * 40:
            feed = {
                "words": np.full((count, 1), "a" * (number + 1), dtype=object),
                "z": np.full((count, 3), number, dtype=np.float32),
                "v": np.full((count, 1), number, dtype=np.float32),
            }
            wrapped.run(None, feed)

    threads = [threading.Thread(target=many, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.window()
    samples = 8 * 40 * (1 + 2 + 3)
    assert states(world) == {"n": {"ok": samples}, "z0": {"ok": samples}}
    ((_, confidence),) = world.named("edge.output.confidence")
    ((_, value),) = world.named("edge.output.value")
    assert confidence.count == value.count == samples
    lengths = [point for at, point in world.named("edge.input.value") if at[a.FEATURE_NAME] == "n"]
    # eight lengths on a grid of eight buckets an octave: from 5 on two may share one
    assert max(lengths[0].positive.bucket_counts) <= 2 * samples / 8


@pytest.mark.parametrize(
    "tensor",
    [
        np.full((1, 3, 8, 8), np.nan, dtype=np.float32),
        np.full((1, 3, 8, 8), -np.inf, dtype=np.float32),
        np.full((1, 3, 8, 8), -3e38, dtype=np.float32),
        np.zeros((1, 3, 1, 1), dtype=np.float32),
        np.ones((0, 3, 8, 8), dtype=np.float32),
        np.ones((70, 3, 9, 200), dtype=np.float32),
    ],
    ids=["nan", "infinite", "huge", "one pixel", "no sample", "many of another size"],
)
@pytest.mark.parametrize("comes_first", [True, False])
def test_whatever_an_image_holds_every_run_counts_and_nothing_is_raised(
    bench: Any, tmp_path: Path, tensor: Any, comes_first: bool
) -> None:
    kinds = ("mean", "std", "sharpness", "rms", "peak", "zero_crossing_rate")
    features = (*(Feature(kind, kind=kind) for kind in kinds), Feature("dark", kind="dark_share", low=0.0))
    world = bench(signals=Signals(features=features))
    wrapped = world.monitor.wrap(image_model(tmp_path / "image.onnx", TensorProto.FLOAT, [None, 3, None, None]))
    usual = np.ones((1, 3, 8, 8), dtype=np.float32)
    for image in (tensor, usual, tensor, usual)[not comes_first :]:
        wrapped.run(None, {"image": image})
    world.window()
    assert sum(point.count for _, point in world.named("edge.inference.duration")) == 3 + comes_first
    assert {"mean", "std", "dark"} <= set(states(world))
    for counted in states(world).values():
        assert sum(counted.values()) >= 2

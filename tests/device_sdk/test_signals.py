"""What is watched of a run's inputs and outputs: kinds of features and outputs, and what is left out or missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from sdk_kit import save, session_of

from device_sdk import Feature, Signals
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

"""What is watched of a run's inputs and outputs: kinds of features and outputs, and what is left out or missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
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

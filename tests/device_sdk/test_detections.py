"""Detectors: counts, areas, scores and classes of boxes in every layout, and boxes that are no boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sdk_kit import save, session_of

from device_sdk import Output, Signals
from device_sdk.contract import attributes as a
from device_sdk.contract.buckets import N1_BOUNDS, U1_BOUNDS
from device_sdk.points import Points
from device_sdk.signals.declare import DETECTIONS
from device_sdk.signals.detections import DETECTIONS_MAX, SCORES_MAX, Detections, DetectionSummary, areas_of

# one box of a quarter by a half of a frame of 640 x 480, its corner at (0.5, 0.25)
IN_FORMAT = {
    "xyxy": [320, 120, 480, 360],
    "yxyx": [120, 320, 360, 480],
    "xywh": [320, 120, 160, 240],
    "cxcywh": [400, 240, 160, 240],
}


def read(output: Output, **tensors: Any) -> NDArray[np.float32]:
    reader = Detections(output)
    assert reader.misfit(tensors) == ""
    assert reader.frames(tensors) is not None
    return reader.rows(tensors, 1)


def areas(row: NDArray[np.float32], output: Output) -> list[float]:
    boxes = row[1 : 1 + 4 * DETECTIONS_MAX].reshape(-1, 4).astype(np.float64)
    return [float(area) for area in areas_of(boxes, output) if not np.isnan(area)]


def boxes_and_scores(**fields: Any) -> Output:
    return Output("boxes", kind=DETECTIONS, scores="scores", **fields)


@pytest.mark.parametrize("box_format", list(IN_FORMAT))
def test_the_same_box_has_the_same_area_in_every_format(box_format: str) -> None:
    output = boxes_and_scores(format=box_format, frame=(640, 480))
    box = np.array([IN_FORMAT[box_format]], dtype=np.float32)
    assert areas(read(output, boxes=box, scores=np.array([0.9]))[0], output) == pytest.approx([0.125])
    whole = Output("boxes", kind=DETECTIONS, scores="scores", format=box_format)
    scale = np.array([480, 640] * 2 if box_format == "yxyx" else [640, 480] * 2, dtype=np.float32)
    assert areas(read(whole, boxes=box / scale, scores=np.array([0.9]))[0], whole) == pytest.approx([0.125])


@pytest.mark.parametrize(
    ("box", "area"),
    [
        ([0.6, 0.6, 0.4, 0.4], 0),  # inverted
        ([0.6, 0.4, 0.4, 0.6], 0),  # inverted in one axis: no negative area
        ([-1, -1, 0.5, 0.5], 0.25),
        ([-3, -3, -2, -2], 0),
        ([0, 0, 9, 9], 1),
        ([0.2, 0.2, 0.2, 0.9], 0),
        ([-np.inf, 0, np.inf, 0.5], 0.5),
    ],
)
def test_only_the_part_inside_the_frame_counts(box: list[float], area: float) -> None:
    row = read(boxes_and_scores(), boxes=np.array([box]), scores=np.array([1.0]))[0]
    assert row[0] == 1
    assert areas(row, boxes_and_scores()) == pytest.approx([area])


def test_negative_width_is_no_area() -> None:
    output = boxes_and_scores(format="cxcywh")
    assert areas(read(output, boxes=np.array([[0.5, 0.5, -0.2, 0.2]]), scores=np.ones(1))[0], output) == [0]


def test_the_threshold_is_a_detection_and_what_is_below_is_none() -> None:
    scores = np.array([0.3, 0.29, 0.31, 0.0, 1.0], dtype=np.float64)
    row = read(boxes_and_scores(threshold=0.3), boxes=np.zeros((5, 4)), scores=scores)[0]
    assert row[0] == 3


@pytest.mark.parametrize("batch", [False, True])
def test_layouts_agree(batch: bool) -> None:
    rng = np.random.default_rng(4)
    boxes = np.sort(rng.random((20, 2, 2)), axis=1).reshape(20, 4)
    table = rng.random((20, 3)) * 0.9
    scores, labels = table.max(axis=1), table.argmax(axis=1)

    def lead(tensor: NDArray[Any]) -> NDArray[Any]:
        return tensor[None] if batch else tensor

    separate = read(boxes_and_scores(), boxes=lead(boxes), scores=lead(table))
    labelled = read(
        boxes_and_scores(labels="labels"), boxes=lead(boxes), scores=lead(scores), labels=lead(labels.astype(np.int64))
    )
    rows = np.concatenate([boxes, scores[:, None], labels[:, None]], axis=1)
    row = read(Output("boxes", kind=DETECTIONS), boxes=lead(rows))
    column = read(Output("boxes", kind=DETECTIONS, layout="column"), boxes=lead(np.concatenate([boxes, table], 1).T))
    assert separate[0, 0] == (scores >= 0.5).sum() > 3
    for other in (labelled, row, column):
        np.testing.assert_array_equal(separate, other)


def test_of_more_detections_than_are_kept_an_even_choice_is_and_the_count_is_of_all() -> None:
    row = read(boxes_and_scores(), boxes=np.tile([0, 0, 1, 1], (300, 1)), scores=np.ones(300))[0]
    assert row[0] == 300
    assert 30 <= len(areas(row, boxes_and_scores())) <= DETECTIONS_MAX


@pytest.mark.parametrize(
    ("output", "tensors", "said"),
    [
        (boxes_and_scores(), {"boxes": np.zeros((3, 4))}, "no numeric tensor 'scores'"),
        (boxes_and_scores(), {"boxes": np.zeros((3, 5)), "scores": np.zeros(3)}, "expected is \\[N, 4\\]"),
        (boxes_and_scores(), {"boxes": np.zeros((3, 4)), "scores": np.zeros(2)}, "does not belong to boxes"),
        (boxes_and_scores(), {"boxes": np.zeros(4), "scores": np.zeros(1)}, "expected is \\[N, 4\\]"),
        (boxes_and_scores(), {"boxes": np.zeros((1, 1, 1, 4)), "scores": np.zeros(1)}, "one frame or a batch"),
        (boxes_and_scores(), {"boxes": np.array(["a"]), "scores": np.zeros(1)}, "no numeric tensor 'boxes'"),
        (Output("boxes", kind=DETECTIONS), {"boxes": np.zeros((3, 4))}, "\\[N, 5\\] or wider"),
        (Output("boxes", kind=DETECTIONS, layout="column"), {"boxes": np.zeros((4, 9))}, "\\[5.., N\\]"),
        (
            Output("boxes", kind=DETECTIONS, layout="column"),
            {"boxes": np.broadcast_to(np.float32(0), (1, 84, 8400))},
            f"672000 scores a frame, at most {SCORES_MAX}",
        ),
        (
            boxes_and_scores(),
            {"boxes": np.zeros((7, 4)), "scores": np.broadcast_to(0.0, (7, 10_000))},
            "70000 scores a frame",
        ),
    ],
)
def test_what_cannot_be_read_is_said(output: Output, tensors: dict[str, Any], said: str) -> None:
    import re

    assert re.search(said, Detections(output).misfit(tensors))
    assert Detections(output).frames(tensors) is None


def test_ten_thousand_classes_are_counted_as_64_and_other() -> None:
    output = boxes_and_scores(labels="labels")
    summary = DetectionSummary(output)
    for first in range(0, 10_000, 50):
        labels = np.arange(first, first + 50)
        summary.add(read(output, boxes=np.zeros((50, 4)), scores=np.ones(50), labels=labels))
    summary.add(read(output, boxes=np.zeros((2, 4)), scores=np.ones(2), labels=np.array([-1.0, np.nan])))
    points = Points()
    summary.emit(points, ())
    classes = {dict(at)[a.CLASS_NAME]: n for at, n in points.by_metric["edge.output.predictions"]}
    assert len(classes) == 65
    assert classes[a.OTHER] == 10_000 - 64
    again = Points()
    summary.emit(again, ())
    assert again.count == 0


def detector(path: Path) -> Any:
    """Return a session of a model that answers with the boxes and scores it is given, however many."""
    named = (("b", "boxes", [1, None, 4]), ("s", "scores", [1, None]))
    graph = helper.make_graph(
        [helper.make_node("Identity", [given], [name]) for given, name, _ in named],
        "detector",
        [helper.make_tensor_value_info(given, TensorProto.FLOAT, shape) for given, _, shape in named],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for _, name, shape in named],
    )
    return session_of(save(graph, path))


def test_a_real_detector_is_counted_by_frame(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "cars.signals.toml").write_text(
        """
        [[output]]
        name = "boxes"
        kind = "detections"
        scores = "scores"
        format = "xyxy"
        frame = [640, 480]
        threshold = 0.4
        """
    )
    world = bench()
    wrapped = world.monitor.wrap(detector(tmp_path / "cars.onnx"))
    for found in (0, 1, 4, 200):
        boxes = np.tile(np.array([0, 0, 320, 240], dtype=np.float32), (1, found, 1))
        answer = wrapped.run(None, {"b": boxes, "s": np.full((1, found), 0.875, dtype=np.float32)})
        assert answer[0].shape == (1, found, 4)
    world.window()
    ((at, frames),) = world.named("edge.output.detection.count")
    assert at[a.OUTPUT_NAME] == "boxes"
    assert tuple(frames.explicit_bounds) == N1_BOUNDS
    assert frames.bucket_counts == [1, 1, 0, 0, 1, *[0] * 7, 1]
    ((_, sizes),) = world.named("edge.output.detection.area")
    assert sizes.bucket_counts[U1_BOUNDS.index(0.25)] == sizes.count == 1 + 4 + 50
    ((_, scores),) = world.named("edge.output.confidence")
    assert scores.bucket_counts[U1_BOUNDS.index(0.9)] == scores.count == 55
    assert not any(a.ERROR_TYPE in at for at, _ in world.named("edge.inference.duration"))  # nothing found is an answer
    assert world.named("edge.output.predictions") == []


def test_a_score_or_box_that_is_no_number_makes_the_run_a_failure(bench: Any, tmp_path: Path) -> None:
    output = Output("boxes", kind=DETECTIONS, scores="scores")
    world = bench(signals=Signals(outputs=(output,)))
    wrapped = world.monitor.wrap(detector(tmp_path / "cars.onnx"))
    sound = {"b": np.zeros((1, 2, 4), dtype=np.float32), "s": np.ones((1, 2), dtype=np.float32)}
    wrapped.run(None, sound)
    wrapped.run(None, {**sound, "s": np.array([[1, np.nan]], dtype=np.float32)})
    wrapped.run(None, {**sound, "b": np.full((1, 2, 4), np.nan, dtype=np.float32)})
    world.window()
    failed = [point.count for at, point in world.named("edge.inference.duration") if at.get(a.ERROR_TYPE)]
    assert failed == [2]
    ((_, frames),) = world.named("edge.output.detection.count")
    assert frames.count == 2  # the frame without scores has no count
    ((_, sizes),) = world.named("edge.output.detection.area")
    assert sizes.count == 2


def test_a_detector_that_was_declared_wrongly_is_said_and_runs_on(
    bench: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import device_sdk.errors as errors

    world = bench(signals=Signals(outputs=(Output("boxes", kind=DETECTIONS, scores="scroes"),)))
    errors._guarding.next_log_s = 0.0
    wrapped = world.monitor.wrap(detector(tmp_path / "cars.onnx"))
    wrapped.run(None, {"b": np.zeros((1, 2, 4), dtype=np.float32), "s": np.ones((1, 2), dtype=np.float32)})
    world.window()
    assert "output 'boxes' is not watched: there is no numeric tensor 'scroes'" in caplog.text
    assert "did you mean 'scores'" in caplog.text
    assert world.named("edge.output.detection.count") == []

"""Parity and task metrics against their textbook definitions written as loops; what a golden set refuses."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sdk.contract.attributes import CaseStatus, ErrorType
from device_sdk.errors import GoldenError
from device_sdk.selftest import Golden, Task, Tolerance, Waiver, load_golden
from device_sdk.selftest.judge import judge
from device_sdk.selftest.parity import compare
from device_sdk.selftest.taskmetrics import iou, macro_f1, mean_average_precision, roc_auc

TODAY = dt.date(2026, 11, 25)


def softmax(logits: Any) -> Any:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


def answers(**outputs: Any) -> dict[str, list[Any]]:
    return {name: [row[None] for row in array] for name, array in outputs.items()}


PROBABILITIES = softmax(np.random.default_rng(3).normal(size=(40, 5)) * 4)


def test_equal_outputs_are_at_parity() -> None:
    parity = compare(PROBABILITIES, PROBABILITIES)
    assert (parity.max_abs, parity.max_rel, parity.top1, parity.class_agreement) == (0, 0, 1, 1)
    assert parity.cosine == pytest.approx(1, abs=1e-12)


def test_parity_is_what_loops_over_elements_say() -> None:
    rng = np.random.default_rng(5)
    golden = rng.normal(size=(30, 7))
    got = golden + rng.normal(size=golden.shape) * 0.3
    parity = compare(got, golden)
    pairs = [(float(g), float(e)) for g, e in zip(got.ravel(), golden.ravel(), strict=True)]
    assert parity.max_abs == max(abs(g - e) for g, e in pairs)
    assert parity.max_rel == pytest.approx(max(abs(g - e) / max(abs(e), 1e-6) for g, e in pairs))
    cosines = [
        sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
        for a, b in zip(got.tolist(), golden.tolist(), strict=True)
    ]
    assert parity.cosine == pytest.approx(min(cosines))
    same = [int(a.argmax()) == int(b.argmax()) for a, b in zip(got, golden, strict=True)]
    assert parity.top1 == sum(same) / len(same)
    by_class: dict[int, list[bool]] = {}
    for hit, row in zip(same, golden, strict=True):
        by_class.setdefault(int(row.argmax()), []).append(hit)
    assert parity.class_agreement == pytest.approx(min(sum(hits) / len(hits) for hits in by_class.values()))


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_the_right_order(items: list[tuple[int, bool]]) -> None:
    scores = np.array([[score / 6] for score, _ in items])
    labels = np.array([int(positive) for _, positive in items])
    pairs = [(p, n) for p, yes in items if yes for n, no in items if not no]
    got = roc_auc(scores, labels)
    if len(set(labels)) < 2:
        assert math.isnan(got)
    else:
        assert got == pytest.approx(sum((p > n) + 0.5 * (p == n) for p, n in pairs) / len(pairs))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_f1_is_the_mean_of_precision_and_recall_by_class(items: list[tuple[int, int]]) -> None:
    scores = []
    for name in {*(g for g, _ in items), *(t for _, t in items)}:
        hit = sum(g == name == t for g, t in items)
        guessed, true = sum(g == name for g, _ in items), sum(t == name for _, t in items)
        precision, recall = (hit / guessed if guessed else 0.0), (hit / true if true else 0.0)
        scores.append(2 * precision * recall / (precision + recall) if hit else 0.0)
    got = macro_f1(np.array([g for g, _ in items]), np.array([t for _, t in items]))
    assert got == pytest.approx(sum(scores) / len(scores))


def test_map_by_hand() -> None:
    one, two, three = [0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]
    labels = np.array([[0, 1, *one], [0, 1, *two], [1, 1, *one], [1, 2, *three]], dtype=float)
    boxes = [np.array([one, two, [1, 1, 10, 10]], dtype=float), np.array([three, three], dtype=float)]
    scores = [np.array([0.9, 0.4, 0.8]), np.array([0.95, 0.6])]
    classes = [np.array([1, 1, 1]), np.array([2, 1])]
    # class 1, by falling score: .9 hit, .8 a second box on the same object, .6 nothing there, .4 hit; 3 objects
    # precision 1, 1/2, 1/3, 2/4 at recall 1/3 and 2/3: area 1/3 * 1 + 1/3 * 1/2 = 1/2. Class 2: 1.
    assert mean_average_precision(boxes, scores, classes, labels) == pytest.approx((0.5 + 1) / 2)


def test_iou_of_degenerate_and_inverted_boxes_is_nothing() -> None:
    others = np.array([[0, 0, 0, 0], [5, 5, 1, 1], [0, 0, 2, 2], [1, 1, 3, 3]], dtype=float)
    assert iou(np.array([0, 0, 2, 2.0]), others).tolist() == pytest.approx([0, 0, 1, 1 / 7])


@pytest.mark.parametrize(
    ("got", "error"),
    [
        (PROBABILITIES[:, :4], ErrorType.SHAPE_MISMATCH),
        (np.full_like(PROBABILITIES, np.nan), ErrorType.NAN_OUTPUT),
    ],
)
def test_outputs_that_cannot_be_compared_fail_by_class(got: Any, error: ErrorType) -> None:
    golden = Golden(inputs={"x": np.zeros((40, 1))}, outputs={"p": PROBABILITIES})
    (result,) = judge(golden, answers(p=got), TODAY)
    assert result.status is CaseStatus.FAIL
    assert result.parity.error is error


def test_a_missing_output_fails_and_the_others_are_judged() -> None:
    golden = Golden(inputs={"x": np.zeros((40, 1))}, outputs={"gone": PROBABILITIES, "p": PROBABILITIES})
    gone, fine = judge(golden, answers(p=PROBABILITIES), TODAY)
    assert gone.parity.error is ErrorType.EMPTY_OUTPUT
    assert fine.status is CaseStatus.PASS


def test_nan_where_the_golden_output_is_nan_is_parity() -> None:
    golden = np.array([[1.0, np.nan], [np.inf, 2.0]])
    assert compare(golden.copy(), golden).max_abs == 0


def test_a_flipped_class_fails_top1_and_names_the_figures() -> None:
    got = PROBABILITIES.copy()
    got[0] = np.roll(got[0], 1)
    golden = Golden(inputs={"x": np.zeros((40, 1))}, outputs={"p": PROBABILITIES})
    (result,) = judge(golden, answers(p=got), TODAY)
    assert result.status is CaseStatus.FAIL
    assert any(problem.startswith("top1 0.975 is below 1") for problem in result.problems)
    loose = Golden(golden.inputs, golden.outputs, tolerances={"p": Tolerance(cosine=None, top1=0.9)})
    assert judge(loose, answers(p=got), TODAY)[0].status is CaseStatus.PASS


def test_a_waiver_accepts_a_failure_until_its_last_day() -> None:
    waiver = Waiver("p", "NPU-7", "int8 on this chip", until=TODAY)
    golden = Golden(inputs={"x": np.zeros((40, 1))}, outputs={"p": PROBABILITIES}, waivers=(waiver,))
    got = np.roll(PROBABILITIES, 1, axis=1)
    (waived,) = judge(golden, answers(p=got), TODAY)
    (late,) = judge(golden, answers(p=got), TODAY + dt.timedelta(days=1))
    assert (waived.status, waived.accepted, waived.waiver) == (CaseStatus.FAIL, True, "NPU-7")
    assert (late.accepted, late.waiver) == (False, None)
    (passed,) = judge(golden, answers(p=PROBABILITIES), TODAY)
    assert passed.waiver is None


@pytest.mark.parametrize("metric", ["accuracy", "f1", "auc"])
def test_an_answer_that_is_nan_passes_no_task_though_its_argmax_is_the_label(metric: str) -> None:
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[np.nan, 1], [np.nan, 1], [0, 1], [0, np.nan]])
    golden = Golden({"x": np.zeros((4, 1))}, {}, labels, task=Task(metric, 0.4, "y"))
    (result,) = judge(golden, {"y": [row[None] for row in scores]}, TODAY)
    assert result.status is CaseStatus.FAIL


def test_a_task_metric_below_its_minimum_fails_at_numeric_parity() -> None:
    labels = (PROBABILITIES.argmax(axis=1) + (np.arange(40) < 10)) % 5  # 30 of 40 right
    golden = Golden(
        inputs={"x": np.zeros((40, 1))}, outputs={"p": PROBABILITIES}, labels=labels, task=Task("accuracy", 0.8, "p")
    )
    (result,) = judge(golden, answers(p=PROBABILITIES), TODAY)
    assert result.task_value == 0.75
    assert result.problems == ("accuracy 0.75 is below 0.8",)


def test_text_labels_and_integer_labels_are_compared_by_agreement() -> None:
    words = np.array(["a", "b", "b"])
    parity = compare(np.array(["a", "b", "a"]), words)
    assert (parity.top1, parity.class_agreement, parity.cosine) == (pytest.approx(2 / 3), 0.5, None)
    assert compare(np.array([1, 2, 3]), np.array([1, 2, 4])).top1 == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": {}, "outputs": {"p": [1.0]}}, "needs inputs= or raw="),
        ({"inputs": {"x": [1.0]}, "outputs": {}}, "needs outputs="),
        ({"inputs": {"x": [1.0, 2.0]}, "outputs": {"p": [1.0]}}, "input 'x' 2, output 'p' 1"),
        ({"inputs": {"x": [1.0]}, "outputs": {"p": [1.0]}, "tolerances": {"q": Tolerance()}}, "no golden output 'q'"),
        ({"inputs": {"x": [1.0]}, "outputs": {"p": [1.0]}, "task": Task("f1", 0.9, "p")}, "needs labels"),
    ],
)
def test_a_golden_set_that_cannot_be_judged_is_refused(arguments: dict[str, Any], message: str) -> None:
    arrays = {key: {n: np.array(v) for n, v in arguments[key].items()} for key in ("inputs", "outputs")}
    with pytest.raises(GoldenError, match=message):
        Golden(**{**arguments, **arrays})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tolerance(cosine=1.5), "cosine=1.5"),
        (lambda: Tolerance(max_abs=float("nan")), "max_abs=nan"),
        (lambda: Task("acuracy", 0.5, "p"), "did you mean 'accuracy'"),
        (lambda: Task("map", 0.5, "boxes"), "needs scores= and classes="),
        (lambda: Task("f1", 50, "p"), "from 0 to 1"),
        (lambda: Waiver("p", "", "why"), "such as a ticket number"),
        (lambda: Waiver("p", "T-1", ""), "has no reason"),
        (lambda: Waiver("p", "T-1", "why", until="2026"), "write a date"),  # type: ignore[arg-type]
    ],
)
def test_bad_declarations_say_what_is_wrong(make: Any, message: str) -> None:
    with pytest.raises(GoldenError, match=message):
        make()


def save(path: Path, toml: str = "", **arrays: Any) -> Path:
    np.savez(path, **arrays)
    if toml:
        path.with_suffix(".toml").write_text(toml, encoding="utf-8")
    return path


def test_a_file_and_the_toml_beside_it_make_a_golden_set(tmp_path: Path) -> None:
    toml = """
[output.p]
cosine = 0.99
top1 = 0.95

[task]
metric = "f1"
minimum = 0.9
output = "p"

[[waiver]]
output = "p"
id = "T-9"
reason = "known"
until = 2027-01-31
"""
    arrays = {"x": np.zeros((40, 3)), "expect:p": PROBABILITIES, "labels": PROBABILITIES.argmax(axis=1)}
    golden = load_golden(save(tmp_path / "digits.golden.npz", toml, **arrays))
    assert golden.tolerance("p") == Tolerance(cosine=0.99, top1=0.95)
    assert golden.task == Task("f1", 0.9, "p")
    assert golden.waivers == (Waiver("p", "T-9", "known", dt.date(2027, 1, 31)),)
    assert (list(golden.inputs), golden.samples) == (["x"], 40)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[outputs.p]\n", "no key 'outputs'; did you mean 'output'"),
        ("[output.p]\ncosin = 1\n", "no key 'cosin'; did you mean 'cosine'"),
        ("[task]\nmetric = 'f1'\n", r"\[task\]: .*minimum"),
        ("waiver = 3\n", "write .output"),
        ("[output]\np = 3\n", "write a table"),
        ("= broken", "digits.toml"),
    ],
)
def test_a_typing_error_in_the_toml_is_named(tmp_path: Path, toml: str, message: str) -> None:
    arrays = {"x": np.zeros((40, 3)), "expect:p": PROBABILITIES}
    with pytest.raises(GoldenError, match=message):
        load_golden(save(tmp_path / "digits.npz", toml, **arrays))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x93NUMPY", b"text"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(GoldenError, match=r"bad\.npz"):
        load_golden(path)
    with pytest.raises(GoldenError, match=r"gone\.npz"):
        load_golden(tmp_path / "gone.npz")

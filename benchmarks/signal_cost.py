"""What each kind of signal costs a sample, beside numpy computing the same statistics of the whole tensor at once.

``copy`` is what the caller's thread pays for one sample (of texts and detections with the reduction to a few numbers),
``fold`` the background thread's share of one row when 64 are folded together, histogram included. ``immediate`` is the
plain numpy expression on the whole tensor, without a histogram. Figures are CPU time (``process_time``), microseconds,
medians over interleaved rounds; the ratio is (copy + fold) / immediate.

Run: ``.venv/bin/python benchmarks/signal_cost.py [--rounds 9] [--calls 200]``
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from device_sdk import Feature, Output
from device_sdk.pipeline import Pipeline
from device_sdk.signals.answers import AnswerBook
from device_sdk.signals.captures import Capture
from device_sdk.signals.inputs import NumericInput, TextInput
from device_sdk.signals.models import ModelInputs, ModelRuns
from device_sdk.signals.outputs import DetectionCapture, OutputCapture
from device_sdk.signals.reduce import directions

FOLD_ROWS = 64
RNG = np.random.default_rng(3)
IMAGE = RNG.random((1, 3, 224, 224), dtype=np.float32)
FRAME = RNG.integers(0, 256, (1, 480, 640, 3), dtype=np.uint8)
SOUND = RNG.standard_normal((1, 16_000)).astype(np.float32)
VECTOR = RNG.standard_normal((1, 384)).astype(np.float32)
TABLE = RNG.integers(0, 10, (1, 20)).astype(np.float32)
LATIN = "The quick brown fox, 42 times over: " * 60
OTHER = "Größe 12, 温度は高い。 " * 100
BOXES = np.sort(RNG.random((1, 300, 2, 2), dtype=np.float32), axis=2).reshape(1, 300, 4)
ROWS = np.concatenate([BOXES, RNG.random((1, 300, 2), dtype=np.float32)], axis=2)
HEAD = np.concatenate([BOXES.transpose(0, 2, 1).repeat(28, axis=2), RNG.random((1, 1, 8400), dtype=np.float32)], axis=1)
CLASSES = RNG.dirichlet(np.ones(1000), 1).astype(np.float32)
SHARES = ("letter_share", "digit_share", "space_share", "punctuation_share", "other_share")


@dataclass(frozen=True)
class Case:
    """One kind: how a run's values are captured, and the immediate computation it is compared with."""

    name: str
    capture: Capture
    values: Mapping[str, Any]
    immediate: Callable[[], object]
    tensor: Any = None
    """What the quick way copies from; None: the slow way, which reads and reduces."""


def features(*kinds: str) -> tuple[Feature, ...]:
    """Return features of one each."""
    return tuple(Feature(kind, kind=kind, low=0.1, high=0.9) for kind in kinds)


def spread(x: Any) -> list[object]:
    """Compute mean, standard deviation, dark and saturated share of everything."""
    return [x.mean(), x.std(), (x <= 0.1).mean(), (x >= 0.9).mean()]


def sharpness(x: Any) -> object:
    """Compute the variance of the Laplacian of one whole channel."""
    plane = x.astype(np.float32)
    inner = 4 * plane[1:-1, 1:-1] - plane[:-2, 1:-1] - plane[2:, 1:-1] - plane[1:-1, :-2] - plane[1:-1, 2:]
    return inner.var()


def sound(x: Any) -> list[object]:
    """Compute level, peak, zero crossings and clipped share of everything."""
    positive = x >= 0
    size = np.abs(x)
    return [np.sqrt((x * x).mean()), size.max(), (positive[1:] != positive[:-1]).mean(), (size >= 0.9).mean()]


def text(words: str) -> list[object]:
    """Compute the length and the shares of ASCII classes of everything."""
    codes = np.frombuffer(words.encode("utf-32-le"), dtype=np.uint32)
    lower = codes | 32
    letters, digits = (lower >= 97) & (lower <= 122), (codes >= 48) & (codes <= 57)
    spaces = (codes == 32) | ((codes >= 9) & (codes <= 13))
    signs = (codes > 32) & (codes < 127) & ~letters & ~digits
    return [len(codes), letters.mean(), digits.mean(), spaces.mean(), signs.mean()]


def detections(boxes: Any, scores: Any) -> list[object]:
    """Compute the count and the areas of all detections."""
    found = boxes[scores >= 0.5]
    return [len(found), np.prod(np.clip(found[:, 2:], 0, 1) - np.clip(found[:, :2], 0, 1), axis=1)]


def classify(row: Any) -> list[object]:
    """Compute confidence, entropy, margin and class."""
    second, first = np.partition(row, -2)[-2:]
    return [first, first - second, -(row * np.log(np.maximum(row, 1e-30))).sum() / np.log(len(row)), row.argmax()]


def numeric(name: str, tensor: Any, watched: tuple[Feature, ...], immediate: Callable[[], object]) -> Case:
    """Return the case of a numeric input."""
    expanded = tuple(one for feature in watched for one in feature.expanded())
    return Case(name, NumericInput("x", tensor, expanded), {"x": tensor}, immediate, tensor)


def cases() -> list[Case]:
    """Return every kind of signal."""
    statistics_of = features("mean", "std", "dark_share", "saturated_share")
    onto = directions(384, 8, 0)
    colour = Feature("colour", kind="category", column=3, categories=tuple(range(8)))
    words = Feature("word", kind="category", column=0, categories=("red", "green", "blue"))
    texts = (Feature("text_length", kind="text_length"), *features(*SHARES))
    boxes = Output("b", kind="detections", scores="s")
    return [
        numeric("image 3x224x224 float: mean, std, shares", IMAGE, statistics_of, lambda: spread(IMAGE)),
        numeric("image 480x640x3 uint8: mean, std, shares", FRAME, statistics_of, lambda: spread(FRAME)),
        numeric("image 3x224x224 float: sharpness", IMAGE, features("sharpness"), lambda: sharpness(IMAGE[0, 1])),
        numeric("image 480x640x3 uint8: sharpness", FRAME, features("sharpness"), lambda: sharpness(FRAME[0, :, :, 1])),
        numeric(
            "sound 16000: rms, peak, crossings, clipped", SOUND,
            features("rms", "peak", "zero_crossing_rate", "clipped_share"), lambda: sound(SOUND[0]),
        ),
        numeric(
            "embedding 384: 8 projections", VECTOR,
            (Feature("e", kind="projection", projections=8),), lambda: onto @ VECTOR[0],
        ),
        numeric("table 20: one category of 8", TABLE, (colour,), lambda: np.unique(TABLE[:, 3], return_counts=True)),
        Case(
            "text 2160 ASCII: length and shares", TextInput("x", texts), {"x": [LATIN]}, lambda: text(LATIN),
        ),
        Case("text 2000 mixed: length and shares", TextInput("x", texts), {"x": [OTHER]}, lambda: text(OTHER)),
        Case(
            "category of 3 words", TextInput("x", (words,)), {"x": ["green"]},
            lambda: np.unique(np.array(["green"]), return_counts=True),
        ),
        Case(
            "detections: boxes 300x4, scores", DetectionCapture(boxes), {"b": BOXES, "s": ROWS[:, :, 4]},
            lambda: detections(BOXES[0], ROWS[0, :, 4]),
        ),
        Case(
            "detections: rows 300x6", DetectionCapture(Output("b", kind="detections")), {"b": ROWS},
            lambda: detections(ROWS[0, :, :4], ROWS[0, :, 4]),
        ),
        Case(
            "detections: raw head 5x8400", DetectionCapture(Output("b", kind="detections", layout="column")),
            {"b": HEAD}, lambda: detections(HEAD[0, :4].T, HEAD[0, 4]),
        ),
        Case(
            "output embedding 384: 8 projections", OutputCapture(Output("x", kind="embedding", projections=8), VECTOR),
            {"x": VECTOR}, lambda: onto @ VECTOR[0], VECTOR,
        ),
        Case(
            "output of 1000 classes", OutputCapture(Output("x", kind="probabilities"), CLASSES), {"x": CLASSES},
            lambda: classify(CLASSES[0]), CLASSES,
        ),
    ]  # fmt: skip


def us_a_call(function: Callable[[], object], calls: int) -> float:
    """Return CPU microseconds a call."""
    started = time.process_time_ns()
    for _ in range(calls):
        function()
    return (time.process_time_ns() - started) / calls / 1000


def copier(case: Case) -> Callable[[], object]:
    """Return what the caller's thread does with one sample."""
    capture, ring = case.capture, case.capture.ring
    if case.tensor is None:

        def reduce() -> None:
            ring[5] = capture.rows_of(case.values, 1)

        return reduce

    def copy() -> None:
        ring[5] = case.tensor.reshape(-1)[capture.flat]

    return copy


def folder(case: Case) -> Callable[[], object]:
    """Return the fold of a chunk of rows."""
    capture, index = case.capture, np.arange(FOLD_ROWS)
    rows = capture.rows_of(case.values, 1)
    if rows is None:
        raise SystemExit(f"{case.name}: the capture does not take its own values")
    capture.ring[:] = rows

    def fold() -> None:
        with np.errstate(all="ignore"):
            capture.fold(capture.ring[index])

    return fold


def pipeline_us(calls: int) -> float:
    """Return CPU microseconds of one answer with three stages, its share of the fold included."""
    book = AnswerBook()
    pipeline = Pipeline(lambda: book.of("m", "1"), time.perf_counter_ns)

    def answer() -> None:
        with pipeline as made:
            with made.pre:
                pass
            with made.run:
                pass
            with made.post:
                pass

    def answers() -> None:
        for _ in range(100):
            answer()
        book.fold()

    return us_a_call(answers, max(1, calls // 10)) / 100


def main() -> int:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=200)
    chosen = parser.parse_args()
    watched = cases()
    ways: dict[tuple[str, str], tuple[Callable[[], object], int]] = {}
    for number, case in enumerate(watched):
        case.capture.allocate(FOLD_ROWS)
        case.capture.bind(ModelRuns((), ModelInputs(f"m{number}", "1")))
        ways[case.name, "fold"] = folder(case), FOLD_ROWS
        ways[case.name, "copy"] = copier(case), 1
        ways[case.name, "immediate"] = case.immediate, 1
    figures: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for round_number in range(chosen.rounds + 1):
        for way, (function, rows) in ways.items():
            cost = us_a_call(function, max(3, chosen.calls // (10 if rows > 1 else 1))) / rows
            if round_number:  # the first round warms up
                figures[way].append(cost)
    print(f"{'CPU us a sample':45} {'copy':>7} {'fold':>7} {'immediate':>10} {'ratio':>7}")
    for case in watched:
        copy, fold, whole = (statistics.median(figures[case.name, way]) for way in ("copy", "fold", "immediate"))
        print(f"{case.name:45} {copy:7.2f} {fold:7.2f} {whole:10.2f} {(copy + fold) / whole:7.3f}")
    print(f"{'one answer of three stages (pipeline)':45} {pipeline_us(chosen.calls):7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

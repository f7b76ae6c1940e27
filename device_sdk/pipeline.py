"""One answer from end to end, by stages: what its user waits for, not only what the model takes."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from device_sdk.contract.attributes import PipelineStage
from device_sdk.entered import Entered, around
from device_sdk.errors import guard
from device_sdk.runtimes.failures import classify
from device_sdk.signals.answers import Answers

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Stage:
    """One block of an answer; an exception in it is counted under this stage and passes on."""

    __slots__ = ("_answer", "_started_ns", "_word")

    def __init__(self, answer: Answer, word: PipelineStage) -> None:
        self._answer = answer
        self._word = word
        self._started_ns = 0

    def __enter__(self) -> None:
        self._started_ns = self._answer.perf_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answer.add(self._word, self._answer.perf_ns() - self._started_ns, error)


class Answer:
    """One answer under way. ``pre``, ``run`` and ``post`` are its stages, each usable more than once and at once."""

    __slots__ = ("_answers", "_parts", "_started_ns", "perf_ns", "pipeline")

    def __init__(self, pipeline: Pipeline, answers: Answers | None, perf_ns: Callable[[], int]) -> None:
        self.pipeline = pipeline
        self.perf_ns = perf_ns
        self._answers = answers
        self._parts: list[tuple[PipelineStage, str, int]] = []
        self._started_ns = perf_ns()

    @property
    def pre(self) -> Stage:
        """From the raw input to the model's tensors."""
        return Stage(self, PipelineStage.PRE)

    @property
    def run(self) -> Stage:
        """The model."""
        return Stage(self, PipelineStage.RUN)

    @property
    def post(self) -> Stage:
        """From the model's tensors to the answer."""
        return Stage(self, PipelineStage.POST)

    def add(self, stage: PipelineStage, elapsed_ns: int, error: BaseException | None) -> None:
        """Add one block's time; blocks of a stage add up to one observation an answer, failed ones stay apart."""
        if self._answers is not None:
            with guard("timing a stage"):
                self._parts.append((stage, _word_of(error), elapsed_ns))

    def end(self, error: BaseException | None) -> None:
        """Count the answer and its stages."""
        elapsed_ns = self.perf_ns() - self._started_ns
        answers, self._answers = self._answers, None
        if answers is None:
            return
        with guard("counting an answer"):
            sums: dict[tuple[PipelineStage, str], int] = {}
            for stage, word, part_ns in self._parts:
                sums[stage, word] = sums.get((stage, word), 0) + part_ns
            for (stage, word), total_ns in sums.items():
                answers.took(stage, word, total_ns)
            answers.took(PipelineStage.TOTAL, _word_of(error), elapsed_ns)


class Pipeline:
    """What ``Monitor.pipeline`` returns: enter it for every answer, or decorate a function (async too) that makes one.

    ``answers`` gives where to count, None when the Monitor is disabled.
    """

    def __init__(self, answers: Callable[[], Answers | None], perf_ns: Callable[[], int]) -> None:
        self._answers = answers
        self._perf_ns = perf_ns
        self._entered: Entered[Answer] = Entered()

    def __enter__(self) -> Answer:
        return self._entered.enter(self._begin())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        answer = self._entered.leave()
        if answer is not None:
            answer.end(error)

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return ``function``, every call counted as one answer, without stages."""
        return around(function, lambda _args, _kwargs: self._begin())

    def _begin(self) -> Answer:
        with guard("beginning an answer"):
            return Answer(self, self._answers(), self._perf_ns)
        return Answer(self, None, self._perf_ns)


def _word_of(error: BaseException | None) -> str:
    """Return the error's type; an operator's name has no place here."""
    return "" if error is None else str(classify(error)).partition(" ")[0]

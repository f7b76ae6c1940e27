"""What the application itself says of its answers: how long their stages took, and whether they were right."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import numpy as np

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import Outcome, PipelineStage
from device_sdk.errors import log_rationed, nearest
from device_sdk.locks import SafeLock
from device_sdk.points import AttributePairs, Points
from device_sdk.signals.models import ModelRuns
from device_sdk.signals.summaries import DurationHistogram

_WAITING_MAX: Final = 8192
_MODELS_MAX: Final = 16
_NO_VERSION: Final = "0"
_OUTCOMES_MAX: Final = 64
"""Most series of outcomes of a model and window; beyond, answers are counted without the output's name."""
_SAMPLES_MAX: Final = 1 << 40
"""Most answers of one outcome: what is above is a mistake, and would spoil the window."""


class Answers:
    """Answers of one model and version. Callers' threads append, one thread at a time folds; every append is atomic."""

    def __init__(self, model: str, version: str, on_full: Callable[[Answers], None], wake: Callable[[], None]) -> None:
        self.identity: AttributePairs = ((a.MODEL_NAME, model), (a.MODEL_VERSION, version))
        self._on_full = on_full
        self._wake = wake
        self._stages: list[tuple[PipelineStage, str, int]] = []
        self._labelled: list[tuple[AttributePairs, int]] = []
        self._durations: dict[tuple[PipelineStage, str], DurationHistogram] = {}
        self._outcomes: dict[AttributePairs, int] = {}

    def took(self, stage: PipelineStage, error: str, elapsed_ns: int) -> None:
        """Add the time of a stage, with the type of the error that ended it ('' for none)."""
        self._stages.append((stage, error, elapsed_ns))
        self._make_room(len(self._stages))

    def labelled(self, run: AttributePairs, output: str, correct: bool, samples: int) -> None:
        """Add answers of a run that turned out right or wrong."""
        named = (*run, (a.OUTPUT_NAME, output)) if output else run
        word = Outcome.CORRECT if correct else Outcome.INCORRECT
        self._labelled.append(((*named, (a.OUTPUT_OUTCOME, str(word))), samples))
        self._make_room(len(self._labelled))

    def _make_room(self, waiting: int) -> None:
        """Ask for the fold in time; only when that does not come, the caller's thread has to do it."""
        if waiting == _WAITING_MAX // 2:
            self._wake()
        elif waiting >= _WAITING_MAX:
            self._on_full(self)

    def backlog(self) -> int:
        """Return how much waits for the fold."""
        return len(self._stages) + len(self._labelled)

    def discard(self) -> None:
        """Forget what was recorded (a forked child leaves it to its parent)."""
        self._stages.clear()
        self._labelled.clear()
        self._outcomes.clear()
        self._durations.clear()

    def fold(self) -> None:
        """Fold everything recorded so far, by one thread at a time."""
        stages = self._stages[:]
        del self._stages[: len(stages)]
        groups: dict[tuple[PipelineStage, str], list[int]] = {}
        for stage, error, elapsed_ns in stages:
            groups.setdefault((stage, error), []).append(elapsed_ns)
        for key, durations in groups.items():
            self._durations.setdefault(key, DurationHistogram()).add(np.array(durations, dtype=np.int64))
        labelled = self._labelled[:]
        del self._labelled[: len(labelled)]
        for stated, samples in labelled:
            few = stated in self._outcomes or len(self._outcomes) < _OUTCOMES_MAX
            attributes = stated if few else tuple(pair for pair in stated if pair[0] != a.OUTPUT_NAME)
            self._outcomes[attributes] = self._outcomes.get(attributes, 0) + samples

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        for (stage, error), histogram in self._durations.items():
            attributes: AttributePairs = (*self.identity, (a.PIPELINE_STAGE, str(stage)))
            if error:
                attributes = (*attributes, (a.ERROR_TYPE, error))
            points.add(m.PIPELINE_DURATION.name, histogram.take(), attributes)
        for attributes, samples in self._outcomes.items():
            points.add(m.OUTPUT_OUTCOMES.name, samples, attributes)
        self._outcomes.clear()


class AnswerBook:
    """Answers of all models of a process, at most 16 told apart; any thread may call."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self._wake = wake
        self._lock = SafeLock()
        self._by_model: dict[tuple[str, str], Answers] = {}
        self._measured: dict[tuple[str, str], ModelRuns] = {}
        self._latest: dict[str, str] = {}

    def measured(self, runs: ModelRuns) -> None:
        """Take note that a model is measured from now on: an answer without a version is of its latest one."""
        names = dict(runs.identity)
        model, version = str(names[a.MODEL_NAME]), str(names[a.MODEL_VERSION])
        self._measured[model, version] = runs
        self._latest[model] = version

    def of(self, model: str, version: str | None) -> Answers:
        """Return where to count answers of a model; without a version, of the one measured last, else of 0."""
        key = (model, version or self._latest.get(model, _NO_VERSION))
        known = self._by_model.get(key)
        if known is None:
            with self._lock:
                key = key if len(self._by_model) < _MODELS_MAX or key in self._by_model else (a.OTHER, a.OTHER)
                known = self._by_model.setdefault(key, Answers(*key, self._fold_one, self._wake))
        return known

    def label(self, model: str, version: str | None, output: str | None, *, correct: bool, samples: int) -> None:
        """Count answers that turned out right or wrong; of a model that is not measured here, say so in the log."""
        version = version or self._latest.get(model, _NO_VERSION)
        runs = self._measured.get((model, version))
        if runs is None or not 1 <= samples <= _SAMPLES_MAX:
            known = [f"{name} {version}" for name, version in self._measured]
            what = f"an outcome of {model!r} {version!r}, samples={samples}"
            hint = nearest(f"{model} {version}", known) if known else "no model is"
            log_rationed(logging.WARNING, "%s is not counted: it is not measured here; %s", what, hint)
            return
        name = output or next(iter(runs.outputs), "")
        self.of(model, version).labelled(runs.identity, str(name)[: a.VALUE_LENGTH_MAX], correct, samples)

    def backlog(self) -> int:
        """Return how much waits for the fold."""
        return sum(answers.backlog() for answers in list(self._by_model.values()))

    def discard(self) -> None:
        """Forget what was recorded (a forked child leaves it to its parent)."""
        self._lock = SafeLock()
        for answers in self._by_model.values():
            answers.discard()

    def fold(self) -> None:
        """Fold everything recorded so far."""
        with self._lock:
            for answers in self._by_model.values():
                answers.fold()

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        with self._lock:
            for answers in self._by_model.values():
                answers.emit(points)

    def _fold_one(self, answers: Answers) -> None:
        with self._lock:
            answers.fold()

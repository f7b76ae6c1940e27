"""From golden and actual outputs to one verdict an output: pass, fail, or a failure that somebody has waived."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.contract.attributes import CaseStatus, ErrorType
from device_sdk.selftest.golden import Golden, Task, Tolerance
from device_sdk.selftest.parity import Parity, compare
from device_sdk.selftest.taskmetrics import accuracy, macro_f1, mean_average_precision, roc_auc

Array = NDArray[Any]
Answers = Mapping[str, Sequence[Array]]
"""Actual outputs by name: one array a sample, each with its leading axis of length 1 where the model has one."""

_METRICS: Final[Mapping[str, Callable[[Array, Array], float]]] = {
    "accuracy": accuracy,
    "f1": macro_f1,
    "auc": roc_auc,
}


@dataclass(frozen=True, slots=True)
class OutputResult:
    """One output's result. ``problems`` says in words what is beyond its tolerance; ``waiver`` is the id of one."""

    output: str
    parity: Parity
    problems: tuple[str, ...] = ()
    task_metric: str | None = None
    task_value: float | None = None
    waiver: str | None = None

    @property
    def status(self) -> CaseStatus:
        """Whether the output is within its tolerance, whatever is waived."""
        return CaseStatus.FAIL if self.problems else CaseStatus.PASS

    @property
    def accepted(self) -> bool:
        """Whether the output passed or its failure is waived."""
        return not self.problems or self.waiver is not None


def judge(golden: Golden, answers: Answers, today: dt.date) -> tuple[OutputResult, ...]:
    """Return a result for each golden output, and for the task's output where that is another one."""
    results = []
    names = list(golden.outputs)
    if golden.task is not None and golden.task.output not in names:
        names.append(golden.task.output)
    for name in names:
        parity = _parity(golden.outputs.get(name), answers.get(name))
        problems = _beyond(parity, golden.tolerance(name))
        metric = value = None
        if golden.task is not None and golden.task.output == name and parity.error is None:
            metric, value = golden.task.metric, _task_value(golden, golden.task, answers)
            if not value >= golden.task.minimum:  # a NaN is no pass
                problems.append(f"{metric} {value:.4g} is below {golden.task.minimum:g}")
        waiver = golden.waiver(name, today) if problems else None
        results.append(OutputResult(name, parity, tuple(problems), metric, value, waiver.id if waiver else None))
    return tuple(results)


def stacked(parts: Sequence[Array]) -> Array | None:
    """Return the samples of one output as (samples, ...), None when they are ragged."""
    rows = [part if part.ndim and len(part) == 1 else part[None] for part in map(np.asarray, parts)]
    if len({row.shape for row in rows}) != 1:
        return None
    return np.concatenate(rows)


def _parity(expected: Array | None, parts: Sequence[Array] | None) -> Parity:
    if parts is None:
        return Parity(0, error=ErrorType.EMPTY_OUTPUT)
    if expected is None:
        return Parity(len(parts))
    got = stacked(parts)
    return Parity(len(expected), error=ErrorType.SHAPE_MISMATCH) if got is None else compare(got, expected)


def _beyond(parity: Parity, tolerance: Tolerance) -> list[str]:
    """Say which bounds a parity breaks."""
    if parity.error is not None:
        words = {
            ErrorType.SHAPE_MISMATCH: "its shape is not the golden one's",
            ErrorType.NAN_OUTPUT: "it is NaN where the golden one is not, or the reverse",
            ErrorType.EMPTY_OUTPUT: "the model gives no such output",
        }
        return [words.get(parity.error, str(parity.error))]
    above = (("max_abs", parity.max_abs, tolerance.max_abs), ("max_rel", parity.max_rel, tolerance.max_rel))
    below = (
        ("cosine", parity.cosine, tolerance.cosine),
        ("top1", parity.top1, tolerance.top1),
        ("class_agreement", parity.class_agreement, tolerance.class_agreement),
    )
    problems = [f"{n} {v:.4g} is above {b:g}" for n, v, b in above if v is not None and b is not None and not v <= b]
    rounding = 1e-12  # a cosine of equal vectors is 1 within a few units in the last place
    problems += [
        f"{n} {v:.6g} is below {b:g}" for n, v, b in below if v is not None and b is not None and v + rounding < b
    ]
    return problems


def _task_value(golden: Golden, task: Task, answers: Answers) -> float:
    labels = golden.labels
    assert labels is not None  # a Golden with a task has labels
    if task.metric != "map":
        output = stacked(answers[task.output])
        broken = output is None or (output.dtype.kind == "f" and bool(np.isnan(output).any()))
        return float("nan") if output is None or broken else _METRICS[task.metric](output, labels)
    boxes, scores, classes = (answers.get(name, ()) for name in (task.output, task.scores, task.classes))
    if not len(boxes) == len(scores) == len(classes):
        return float("nan")
    return mean_average_precision(
        [np.asarray(part).reshape(-1, 4) for part in boxes],
        [np.asarray(part).reshape(-1) for part in scores],
        [np.asarray(part).reshape(-1) for part in classes],
        labels,
    )

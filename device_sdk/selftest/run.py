"""Run a golden set through a model, sample by sample as a device does, and say what it says of this device."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_sdk.contract import attributes as a
from device_sdk.contract.attributes import ErrorType, SelftestTrigger
from device_sdk.points import EventAttributes
from device_sdk.runtimes.adapter import Predict
from device_sdk.runtimes.failures import classify
from device_sdk.selftest.golden import Golden
from device_sdk.selftest.judge import OutputResult, judge
from device_sdk.selftest.parity import Parity

Array = NDArray[Any]
PreProcess = Callable[[Array], Mapping[str, Array]]
"""The application's own pre-processing: one raw sample to the model's inputs by name."""


@dataclass(frozen=True, slots=True)
class SelftestResult:
    """What a self-test found; ``passed`` when every output is within its tolerance or waived."""

    trigger: SelftestTrigger
    samples: int
    outputs: tuple[OutputResult, ...]

    @property
    def passed(self) -> bool:
        """Whether the device may serve this model."""
        return all(result.accepted for result in self.outputs)

    def as_data(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        outputs = [
            {
                "output": one.output,
                "status": str(one.status),
                "error": str(one.parity.error) if one.parity.error else None,
                "problems": list(one.problems),
                "waiver": one.waiver,
                **dict(_figures(one)),
            }
            for one in self.outputs
        ]
        return {"passed": self.passed, "trigger": str(self.trigger), "samples": self.samples, "outputs": outputs}

    def __str__(self) -> str:
        lines = [f"self-test {'passed' if self.passed else 'FAILED'}: {self.samples} samples"]
        for result in self.outputs:
            word = "pass" if not result.problems else f"waived {result.waiver}" if result.accepted else "FAIL"
            figures = ", ".join(f"{name} {value:.4g}" for name, value in _figures(result))
            lines.append(f"  {result.output}: {word}" + (f" ({figures})" if figures else ""))
            lines += [f"    {problem}" for problem in result.problems]
        return "\n".join(lines)


def run_golden(
    golden: Golden,
    predictor: Callable[[], Predict],
    *,
    trigger: SelftestTrigger,
    today: dt.date,
    preprocess: PreProcess | None = None,
) -> SelftestResult:
    """Run every sample and judge; a run that raises fails all outputs with the error's type and is not raised."""
    answers: dict[str, list[Array]] = {}
    predict: Predict | None = None
    for number in range(golden.samples):
        try:
            predict = predict or predictor()
            for name, value in predict(_feed(golden, number, preprocess)).items():
                answers.setdefault(name, []).append(np.array(value))  # a copy: runtimes may reuse their buffers
        except Exception as error:  # noqa: BLE001 - that the model cannot run here is what the test is to find out
            return _failed(golden, trigger, number, ErrorType(classify(error).partition(" ")[0]), error)
    return SelftestResult(trigger, golden.samples, judge(golden, answers, today))


def _feed(golden: Golden, number: int, preprocess: PreProcess | None) -> Mapping[str, Array]:
    if preprocess is not None and golden.raw is not None:
        return preprocess(golden.raw[number])
    return {name: array[number : number + 1] for name, array in golden.inputs.items()}


def _failed(
    golden: Golden, trigger: SelftestTrigger, number: int, error: ErrorType, cause: BaseException
) -> SelftestResult:
    problem = f"sample {number} raised {type(cause).__name__}"
    names = list(golden.outputs) or [golden.task.output if golden.task else ""]
    outputs = tuple(OutputResult(name, Parity(number, error=error), (problem,)) for name in names)
    return SelftestResult(trigger, number, outputs)


def _figures(result: OutputResult) -> list[tuple[str, float]]:
    parity = result.parity
    pairs = [
        ("max_abs", parity.max_abs),
        ("max_rel", parity.max_rel),
        ("cosine", parity.cosine),
        ("top1", parity.top1),
        ("class_agreement", parity.class_agreement),
        (result.task_metric or "task", result.task_value),
    ]
    return [(name, value) for name, value in pairs if value is not None]


def check_attributes(result: OutputResult, trigger: SelftestTrigger) -> tuple[tuple[str, str], ...]:
    """Return the attributes of one count of ``edge.selftest.checks``, the model's own apart."""
    pairs = [(a.OUTPUT_NAME, result.output), (a.SELFTEST_TRIGGER, str(trigger)), (a.TEST_STATUS, str(result.status))]
    if result.parity.error is not None:
        pairs.append((a.ERROR_TYPE, str(result.parity.error)))
    if result.waiver is not None:
        pairs.append((a.SELFTEST_WAIVER, result.waiver))
    return tuple(pairs)


def event_attributes(result: OutputResult, trigger: SelftestTrigger) -> EventAttributes:
    """Return the attributes of one ``edge.selftest.completed`` event, the model's own apart; sizes of errors only."""
    pairs: EventAttributes = [
        (a.SELFTEST_TRIGGER, str(trigger)),
        (a.TEST_CASE, result.output),
        (a.TEST_STATUS, str(result.status)),
    ]
    parity = result.parity
    sizes = (
        (a.SELFTEST_MAX_ABS, parity.max_abs),
        (a.SELFTEST_MAX_REL, parity.max_rel),
        (a.SELFTEST_COSINE, parity.cosine),
        (a.SELFTEST_TOP1, parity.top1),
        (a.SELFTEST_CLASS_AGREEMENT, parity.class_agreement),
        (a.SELFTEST_TASK_VALUE, result.task_value),
    )
    pairs += [(key, float(value)) for key, value in sizes if value is not None and np.isfinite(value)]
    if result.task_metric is not None:
        pairs.append((a.SELFTEST_TASK_METRIC, result.task_metric))
    if result.waiver is not None:
        pairs.append((a.SELFTEST_WAIVER, result.waiver))
    if parity.error is not None:
        pairs.append((a.ERROR_TYPE, str(parity.error)))
    return pairs

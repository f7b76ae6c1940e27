"""The golden set: inputs, the outputs they had at release, optional labels, and how far a device may be from them.

On disk it is ``<name>.npz`` with one array an input, ``expect:<output>`` for each golden output, optional ``labels``
and optional ``raw`` (samples as they are before the application's own pre-processing), and beside it
``<name>.toml`` with tolerances, task metric and waivers. The same ``.npz`` feeds ``fleetpulse baseline build``.
"""

from __future__ import annotations

import datetime as dt
import math
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.errors import GoldenError, nearest
from device_sdk.selftest.taskmetrics import TASK_METRICS

EXPECT: Final = "expect:"
LABELS: Final = "labels"
RAW: Final = "raw"
WAIVER_LENGTH_MAX: Final = 64

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far one output may be from its golden one; None is not judged.

    ``cosine`` is the least similarity of any sample, ``top1`` the least share of samples with the same class,
    ``class_agreement`` the least share of any class; ``max_abs`` and ``max_rel`` bound the error of any element.
    """

    max_abs: float | None = None
    max_rel: float | None = None
    cosine: float | None = 0.999
    top1: float | None = 1.0
    class_agreement: float | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            most = math.inf if item.name.startswith("max_") else 1.0
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and 0 <= value <= most):
                raise GoldenError(f"tolerance {item.name}={value!r}: give a number from 0 to {most:g}")


@dataclass(frozen=True, slots=True)
class Task:
    """A task metric that the labels allow, of which output, and the least value that passes.

    ``metric`` is ``accuracy``, ``f1`` (macro), ``auc`` (one against rest) or ``map`` (IoU 0.5; then ``output`` names
    the boxes, (detections, 4) corners an image, and ``scores`` and ``classes`` the two outputs beside them).
    """

    metric: str
    minimum: float
    output: str
    scores: str = ""
    classes: str = ""

    def __post_init__(self) -> None:
        if self.metric not in TASK_METRICS:
            raise GoldenError(f"task metric {self.metric!r}: {nearest(str(self.metric), TASK_METRICS)}")
        if not isinstance(self.minimum, (int, float)) or not 0 <= self.minimum <= 1:
            raise GoldenError(f"task minimum={self.minimum!r}: give a number from 0 to 1")
        if self.metric == "map" and not (self.scores and self.classes):
            raise GoldenError("task metric 'map' needs scores= and classes=, the outputs beside the boxes")


@dataclass(frozen=True, slots=True)
class Waiver:
    """A known failure of one output that somebody answers for: ``id`` travels, ``reason`` stays on the device."""

    output: str
    id: str
    reason: str
    until: dt.date | None = None

    def __post_init__(self) -> None:
        if not self.id or len(self.id) > WAIVER_LENGTH_MAX:
            raise GoldenError(f"waiver id {self.id!r}: 1 to {WAIVER_LENGTH_MAX} characters, such as a ticket number")
        if not self.reason:
            raise GoldenError(f"waiver {self.id!r} has no reason: say why the failure is accepted")
        if self.until is not None and not isinstance(self.until, dt.date):
            raise GoldenError(f"waiver {self.id!r}: until={self.until!r}; write a date like 2027-01-31")


@dataclass(frozen=True, slots=True)
class Golden:
    """A golden set: ``inputs`` (or ``raw`` samples) and ``outputs`` by name, each (samples, ...)."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    labels: Array | None = None
    raw: Array | None = None
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    task: Task | None = None
    waivers: tuple[Waiver, ...] = ()

    def __post_init__(self) -> None:
        if not self.inputs and self.raw is None:
            raise GoldenError("a golden set needs inputs= or raw=")
        if not self.outputs and self.task is None:
            raise GoldenError("a golden set needs outputs= to compare with, or a task metric with labels")
        detects = self.task is not None and self.task.metric == "map"
        lengths = {f"input {name!r}": len(array) for name, array in self.inputs.items()}
        lengths |= {f"output {name!r}": len(array) for name, array in self.outputs.items()}
        if self.raw is not None:
            lengths["raw"] = len(self.raw)
        if self.labels is not None and not detects:
            lengths["labels"] = len(self.labels)
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            told = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise GoldenError(f"golden arrays must have the same number of samples, above 0: {told}")
        for output in self.tolerances:
            self._refuse_unknown("tolerance", output)
        for waiver in self.waivers:
            self._refuse_unknown(f"waiver {waiver.id!r}", waiver.output)
        if self.task is not None and self.labels is None:
            raise GoldenError(f"task metric {self.task.metric!r} needs labels")
        if detects and self.labels is not None and (self.labels.ndim != 2 or self.labels.shape[1] != 6):
            raise GoldenError(f"labels {self.labels.shape}: for 'map' give (objects, 6): image, class, x1, y1, x2, y2")

    def _refuse_unknown(self, what: str, output: str) -> None:
        if output not in self.outputs:
            raise GoldenError(f"{what}: no golden output {output!r}; {nearest(output, self.outputs)}")

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return len(self.raw) if self.raw is not None else len(next(iter(self.inputs.values())))

    def tolerance(self, output: str) -> Tolerance:
        """Return the tolerance of one output."""
        return self.tolerances.get(output, Tolerance())

    def waiver(self, output: str, today: dt.date) -> Waiver | None:
        """Return the waiver of one output that still holds on ``today``."""
        for waiver in self.waivers:
            if waiver.output == output and (waiver.until is None or today <= waiver.until):
                return waiver
        return None


def load_golden(path: Path | str) -> Golden:
    """Read ``<name>.npz`` and the ``<name>.toml`` beside it; raise ``GoldenError`` that names the file and the key."""
    file = Path(path)
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise GoldenError(f"{file}: not an .npz archive of arrays: {error}") from None
    try:
        return Golden(
            inputs={k: v for k, v in arrays.items() if not k.startswith(EXPECT) and k not in (LABELS, RAW)},
            outputs={k.removeprefix(EXPECT): v for k, v in arrays.items() if k.startswith(EXPECT)},
            labels=arrays.get(LABELS),
            raw=arrays.get(RAW),
            **_judged_by(file.with_suffix(".toml")),
        )
    except GoldenError as error:
        raise GoldenError(f"{file}: {error}") from None


def _judged_by(file: Path) -> dict[str, Any]:
    """Return tolerances, task and waivers of the TOML file beside the arrays, nothing when there is none."""
    if not file.is_file():
        return {}
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GoldenError(f"{file}: {error}") from None
    known = ("output", "task", "waiver")
    for key in data:
        if key not in known:
            raise GoldenError(f"{file.name}: no key {key!r}; {nearest(key, known)}")
    outputs, waivers = data.get("output", {}), data.get("waiver", [])
    if not isinstance(outputs, dict) or not isinstance(waivers, list):
        raise GoldenError(f"{file.name}: write [output.<name>] and [[waiver]] tables")
    return {
        "tolerances": {name: _made(Tolerance, table, f"[output.{name}]") for name, table in outputs.items()},
        "task": _made(Task, data["task"], "[task]") if "task" in data else None,
        "waivers": tuple(_made(Waiver, table, "[[waiver]]") for table in waivers),
    }


def _made(kind: type, table: object, label: str) -> Any:
    """Return a dataclass made from a TOML table; unknown and missing keys are named."""
    if not isinstance(table, dict):
        raise GoldenError(f"{label}: write a table")
    names = [item.name for item in fields(kind)]
    for key in table:
        if key not in names:
            raise GoldenError(f"{label}: no key {key!r}; {nearest(key, names)}")
    try:
        return kind(**table)
    except TypeError as error:
        raise GoldenError(f"{label}: {error}") from None

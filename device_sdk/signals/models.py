"""What one window knows of one model: durations, samples, features and outputs, merged over all its sessions."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import Phase
from device_sdk.points import AttributePairs, Points
from device_sdk.signals import Feature, Signals
from device_sdk.signals.summaries import ClassifierSummary, DurationHistogram, FeatureTable, Rows, are_probabilities

PROBABILITIES: Final = "probabilities"
LOGITS: Final = "logits"
VALUE: Final = "value"
UNDECIDED: Final = "auto"
NONE: Final = "none"


class ModelInputs:
    """Input features of one model and version, whatever runtimes and sessions run it."""

    def __init__(self, model: str, version: str) -> None:
        self.identity: AttributePairs = ((a.MODEL_NAME, model), (a.MODEL_VERSION, version))
        self.tables: dict[str, FeatureTable] = {}
        self.folded_samples = 0

    def table(self, name: str, features: tuple[Feature, ...]) -> FeatureTable:
        """Return the table of one input; the first session of a model decides its features."""
        return self.tables.setdefault(name, FeatureTable(features))

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        if self.folded_samples:
            points.add(m.SIGNAL_SAMPLES.name, self.folded_samples, self.identity)
            self.folded_samples = 0
        for table in self.tables.values():
            for feature, histogram, states in table.take():
                named = (*self.identity, (a.FEATURE_NAME, feature.name))
                points.add(m.INPUT_VALUE.name, histogram, (*named, (a.FEATURE_GRID, feature.grid)))
                for state, count in states:
                    points.add(m.INPUT_OBSERVATIONS.name, count, (*named, (a.FEATURE_STATE, str(state))))


class OutputSummary:
    """One output of a model, once its kind is known: probabilities, logits, a value, or nothing to watch."""

    def __init__(self, name: str, signals: Signals) -> None:
        self.name = name[: a.VALUE_LENGTH_MAX]
        self.kind = signals.output
        self._signals = signals
        self._classifier: ClassifierSummary | None = None
        self._values: FeatureTable | None = None

    def sound(self, rows: Rows) -> NDArray[np.bool_]:
        """Say for each row whether the model answered at all: a NaN (or, logits apart, an infinity) is no answer."""
        fine = ~np.isnan(rows) if self.kind == LOGITS else np.isfinite(rows)
        sound: NDArray[np.bool_] = np.asarray(fine.all(axis=1))
        return sound

    def add(self, rows: Rows) -> None:
        """Add sound rows; the first ones decide what an undeclared output is."""
        if not len(rows):
            return
        if self.kind == UNDECIDED:
            self.kind = VALUE if rows.shape[1] == 1 else PROBABILITIES if are_probabilities(rows) else NONE
        if self.kind == VALUE and rows.shape[1] == 1:
            if self._values is None:
                signals = self._signals
                name, center, unit = self.name[:64] or VALUE, signals.output_center, signals.output_unit
                grid = Feature(name, column=0, center=center, unit=unit)
                self._values = FeatureTable((grid,))
            self._values.add(rows.astype(np.float64, copy=False))
        elif self.kind in (PROBABILITIES, LOGITS) and rows.shape[1] > 1:
            if self._classifier is None:
                self._classifier = ClassifierSummary(self._signals.classes, logits=self.kind == LOGITS)
            self._classifier.add(rows)

    def emit(self, points: Points, identity: AttributePairs) -> None:
        """Add this window's points and start anew."""
        named = (*identity, (a.OUTPUT_NAME, self.name))
        if self._classifier is not None and (taken := self._classifier.take()) is not None:
            shares, classes = taken
            for metric, histogram in zip((m.OUTPUT_CONFIDENCE, m.OUTPUT_ENTROPY, m.OUTPUT_MARGIN), shares, strict=True):
                points.add(metric.name, histogram, named)
            for name, count in classes:
                points.add(m.OUTPUT_PREDICTIONS.name, count, (*named, (a.CLASS_NAME, name)))
        if self._values is not None:
            for feature, values, _states in self._values.take():
                points.add(m.OUTPUT_VALUE.name, values, (*named, (a.FEATURE_GRID, feature.grid)))


class ModelRuns:
    """Runs of one model under one runtime and provider."""

    def __init__(self, identity: AttributePairs, inputs: ModelInputs) -> None:
        self.identity = identity
        self.inputs = inputs
        self.outputs: dict[str, OutputSummary] = {}
        self._durations: dict[tuple[Phase, str], DurationHistogram] = {}
        self._samples: dict[str, int] = {}

    def output(self, name: str, signals: Signals) -> OutputSummary:
        """Return the summary of one output; the first session of a model decides what it is."""
        return self.outputs.setdefault(name, OutputSummary(name, signals))

    def add_runs(self, durations_ns: NDArray[np.int64], samples: int, phase: Phase, error: str = "") -> None:
        """Add runs that took so long and answered so many samples, all of one phase and error type ('' for none)."""
        key = (phase, error)
        histogram = self._durations.get(key)
        if histogram is None:
            histogram = self._durations[key] = DurationHistogram()
        histogram.add(durations_ns)
        kind = str(error).partition(" ")[0]
        self._samples[kind] = self._samples.get(kind, 0) + samples

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        for (phase, error), histogram in self._durations.items():
            attributes = (*self.identity, (a.INFERENCE_PHASE, str(phase)))
            points.add(m.INFERENCE_DURATION.name, histogram.take(), _with_error(attributes, error))
        for error, count in self._samples.items():
            if count:
                points.add(m.INFERENCE_SAMPLES.name, count, _with_error(self.identity, error))
                self._samples[error] = 0
        for output in self.outputs.values():
            output.emit(points, self.identity)


def _with_error(attributes: AttributePairs, error: str) -> AttributePairs:
    """Add the error: an ``ErrorType``, for an unsupported operator followed by a space and the operator's name."""
    if not error:
        return attributes
    kind, _, operator = str(error).partition(" ")
    named = ((a.UNSUPPORTED_OPERATOR, operator),) if operator else ()
    return (*attributes, (a.ERROR_TYPE, kind), *named)

"""What one window knows of one model: durations, samples, features and outputs, merged over all its sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import Phase, StartupFrom
from device_sdk.points import AttributePairs, Points
from device_sdk.signals import NAME_LENGTH_MAX, Feature, Output
from device_sdk.signals.categories import CategoryTable
from device_sdk.signals.declare import AUTO, EMBEDDING, LOGITS, NONE, PROBABILITIES, VALUE, projection_names
from device_sdk.signals.reduce import directions, projected
from device_sdk.signals.summaries import ClassifierSummary, DurationHistogram, FeatureTable, Rows, are_probabilities


class Summary(Protocol):
    """What a window knows of one output."""

    def emit(self, points: Points, identity: AttributePairs) -> None:
        """Add this window's points and start anew."""


def model_of(run: AttributePairs) -> tuple[str, str]:
    """Return (name, version) of the model that run attributes are of."""
    names = dict(run)
    return str(names[a.MODEL_NAME]), str(names[a.MODEL_VERSION])


class ModelInputs:
    """Input features of one model and version, whatever runtimes and sessions run it."""

    def __init__(self, model: str, version: str) -> None:
        self.model = model
        self.identity: AttributePairs = ((a.MODEL_NAME, model), (a.MODEL_VERSION, version))
        self.tables: dict[str, FeatureTable] = {}
        self.categories: dict[str, CategoryTable] = {}
        self.folded_samples = 0
        self._sizes: dict[str, int] = {}
        self._named: dict[tuple[str, str, str], AttributePairs] = {}
        self._startups: list[Mapping[StartupFrom, int]] = []  # appended by callers' threads

    def table(self, name: str, features: tuple[Feature, ...]) -> FeatureTable | None:
        """Return the table of one input, None for other features than the model's first session decided on."""
        table = self.tables.get(name)
        if table is None and not self._taken(features):
            table = self.tables[name] = FeatureTable(features)
        return table if table is not None and table.features == features else None

    def category_table(self, name: str, features: tuple[Feature, ...]) -> CategoryTable | None:
        """Return the table of one input's categories, None as for ``table``."""
        table = self.categories.get(name)
        if table is None and not self._taken(features):
            table = self.categories[name] = CategoryTable(features)
        return table if table is not None and table.features == features else None

    def _taken(self, features: tuple[Feature, ...]) -> bool:
        tables: list[FeatureTable | CategoryTable] = [*self.tables.values(), *self.categories.values()]
        known = {one.name for table in tables for one in table.features}
        return not known.isdisjoint(feature.name for feature in features)

    def add_size(self, size_bytes: int, route: str = "") -> None:
        """Add bytes of input tensors that were handed to the runtime."""
        if size_bytes:
            self._sizes[route] = self._sizes.get(route, 0) + size_bytes

    def started(self, times_ns: Mapping[StartupFrom, int]) -> None:
        """Note how long this model's first answer took, to be told once."""
        self._startups.append(times_ns)

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        if self.folded_samples:
            points.add(m.SIGNAL_SAMPLES.name, self.folded_samples, self.identity)
            self.folded_samples = 0
        for route, size_bytes in self._sizes.items():
            points.add(m.INPUT_SIZE.name, size_bytes, _with_route(self.identity, route))
        self._sizes = {}
        for since, duration_ns in self._startups.pop().items() if self._startups else ():
            once = DurationHistogram()
            once.add(np.array([duration_ns]))
            points.add(m.STARTUP_DURATION.name, once.take(), (*self.identity, (a.STARTUP_FROM, str(since))))
        for table in self.tables.values():
            for feature, histogram, states in table.take():
                points.add(m.INPUT_VALUE.name, histogram, self._attributes(feature, a.FEATURE_GRID))
                for state, count in states:
                    points.add(m.INPUT_OBSERVATIONS.name, count, self._attributes(feature, a.FEATURE_STATE, state))
        for counts in self.categories.values():
            for feature, categories, states in counts.take():
                for category, count in categories:
                    points.add(m.INPUT_CATEGORIES.name, count, self._attributes(feature, a.FEATURE_CATEGORY, category))
                for state, count in states:
                    points.add(m.INPUT_OBSERVATIONS.name, count, self._attributes(feature, a.FEATURE_STATE, state))

    def _attributes(self, feature: Feature, key: str, value: str = "") -> AttributePairs:
        """Return the attributes of one series of a feature (a grid needs no value), always the same object."""
        known = self._named.get((feature.name, key, value))
        if known is None:
            told = feature.grid if key == a.FEATURE_GRID else str(value)
            known = (*self.identity, (a.FEATURE_NAME, feature.name), (key, told))
            self._named[feature.name, key, value] = known
        return known


class OutputSummary:
    """One output, once its kind is known: probabilities, logits, values, an embedding, or nothing to watch."""

    def __init__(self, output: Output, width: int) -> None:
        self.name = output.name[: a.VALUE_LENGTH_MAX]
        self.kind = output.kind
        self.width = width
        self._output = output
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
        if self.kind == AUTO:
            self.kind = VALUE if self.width == 1 else PROBABILITIES if are_probabilities(rows) else NONE
        if self.kind in (VALUE, EMBEDDING):
            values = rows.astype(np.float64, copy=False)
            if self.kind == EMBEDDING:
                onto = directions(self.width, self._output.projections or 0, self._output.seed)
                values = projected(values, onto)
            if self._values is None:
                self._values = FeatureTable(self._grids())
            self._values.add(values)
        elif self.kind in (PROBABILITIES, LOGITS) and self.width > 1:
            if self._classifier is None:
                self._classifier = ClassifierSummary(self._output.classes, logits=self.kind == LOGITS)
            self._classifier.add(rows)

    def _grids(self) -> tuple[Feature, ...]:
        output, name = self._output, self.name[:NAME_LENGTH_MAX] or VALUE
        if self.kind == EMBEDDING:
            names = projection_names(name, output.projections or 0, output.seed)
        else:
            names = [name] if self.width == 1 else [f"{name[: NAME_LENGTH_MAX - 3]}[{at}]" for at in range(self.width)]
        return tuple(Feature(one, column=0, center=output.center, unit=output.unit) for one in names)

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
                named = (*identity, (a.OUTPUT_NAME, self.name if self.width == 1 else feature.name))
                points.add(m.OUTPUT_VALUE.name, values, (*named, (a.FEATURE_GRID, feature.grid)))


class ModelRuns:
    """Runs of one model under one runtime and provider."""

    def __init__(self, identity: AttributePairs, inputs: ModelInputs) -> None:
        self.identity = identity
        self.inputs = inputs
        self.outputs: dict[str, Summary] = {}
        self.sessions = 0
        self._durations: dict[tuple[Phase, str], DurationHistogram] = {}
        self._samples: dict[tuple[str, str], int] = {}
        self._placement: tuple[str, tuple[tuple[str, int], ...]] = ("", ())
        self._busy_ns = self._slowest_ns = 0
        self.total_runs = 0

    def place(self, requested: str, nodes: tuple[tuple[str, int], ...]) -> None:
        """Tell in every window, while a session lives, how many graph nodes each provider has."""
        if any(key == a.PROVIDER_NAME for key, _ in self.identity):  # not of models that are counted together
            self._placement = (requested, nodes)

    def add_runs(
        self, durations_ns: NDArray[np.int64], samples: int, phase: Phase, error: str = "", route: str = ""
    ) -> None:
        """Add runs of one phase, error type and route ('' for none): how long they took, what they answered."""
        key = (phase, error)
        histogram = self._durations.get(key)
        if histogram is None:
            histogram = self._durations[key] = DurationHistogram()
        histogram.add(durations_ns)
        self._busy_ns += int(durations_ns.sum())
        self._slowest_ns = max(self._slowest_ns, int(durations_ns.max(initial=0)))
        self.total_runs += len(durations_ns)
        kind = (str(error).partition(" ")[0], route)
        self._samples[kind] = self._samples.get(kind, 0) + samples

    def take_load(self) -> tuple[int, int]:
        """Return (time in runs, longest run) since the last call, in ns."""
        taken = self._busy_ns, self._slowest_ns
        self._busy_ns = self._slowest_ns = 0
        return taken

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        for (phase, error), histogram in self._durations.items():
            attributes = (*self.identity, (a.INFERENCE_PHASE, str(phase)))
            points.add(m.INFERENCE_DURATION.name, histogram.take(), with_error(attributes, error))
        for (error, route), count in self._samples.items():
            if count:
                points.add(m.INFERENCE_SAMPLES.name, count, _with_route(with_error(self.identity, error), route))
                self._samples[error, route] = 0
        requested, nodes = self._placement
        for provider, count in nodes if self.sessions else ():
            named = tuple((key, provider if key == a.PROVIDER_NAME else value) for key, value in self.identity)
            points.add(m.NODE_COUNT.name, count, (*named, (a.PROVIDER_REQUESTED, requested)))
        for output in self.outputs.values():
            output.emit(points, self.identity)


def _with_route(attributes: AttributePairs, route: str) -> AttributePairs:
    return (*attributes, (a.INFERENCE_ROUTE, str(route))) if route else attributes


def with_error(attributes: AttributePairs, error: str) -> AttributePairs:
    """Add the error: an ``ErrorType``, for an unsupported operator followed by a space and the operator's name."""
    if not error:
        return attributes
    kind, _, operator = str(error).partition(" ")
    named = ((a.UNSUPPORTED_OPERATOR, operator),) if operator else ()
    return (*attributes, (a.ERROR_TYPE, kind), *named)

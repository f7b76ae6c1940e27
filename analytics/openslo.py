"""Service level objectives from OpenSLO v1 YAML (openslo.com), over this system's own indicators.

A metric source of type ``fleetpulse`` has the spec ``{kind, metric, threshold, model, version}`` where kind is
``latency`` (runs no slower than ``threshold`` seconds), ``failure`` (runs without an error) or ``crash_free``
(device-hours without an unexpected end).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from analytics.options import MINUTE_NS
from analytics.windows import burn_windows, duration_ns
from analytics.yaml_source import Document, nearest, read_documents, validated
from collector.errors import ConfigError
from device_sdk.contract import BY_NAME, Kind
from device_sdk.contract.metrics import INFERENCE_DURATION, SESSION_TIME

SLOT_NS: Final = 5 * MINUTE_NS
DEFAULT_METRIC: Final = {
    "latency": INFERENCE_DURATION.name,
    "failure": INFERENCE_DURATION.name,
    "crash_free": SESSION_TIME.name,
}
OCCURRENCES: Final = "Occurrences"
TIMESLICES: Final = "Timeslices"


@dataclass(frozen=True, slots=True)
class Slo:
    """One objective: at least ``objective`` of the indicator's events (or time slices) over ``period_ns`` are good.

    A time slice of ``slice_ns`` is good when at least ``slice_target`` of its events are. Targets are exact fractions
    of what the file says, so that no rounding flips a verdict.
    """

    name: str
    display_name: str
    description: str
    service: str
    kind: str
    metric: str
    threshold: float | None
    model: str
    version: str
    objective: Fraction
    period_ns: int
    method: str
    slice_ns: int
    slice_target: Fraction | None
    path: str
    line: int


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _SourceSpec(_Strict):
    kind: Literal["latency", "failure", "crash_free"]
    metric: str | None = None
    threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    model: str = ""
    version: str = ""


class _MetricSource(_Strict):
    type: str
    spec: _SourceSpec
    metric_source_ref: str | None = Field(None, alias="metricSourceRef")

    @field_validator("type")
    @classmethod
    def _ours(cls, value: str) -> str:
        if value != "fleetpulse":
            raise ValueError("only the metric source type 'fleetpulse' can be read here; write type: fleetpulse")
        return value


class _Metric(_Strict):
    metric_source: _MetricSource = Field(alias="metricSource")


class _Ratio(_Strict):
    counter: bool = True
    good: _Metric
    total: _Metric | None = None


class _IndicatorSpec(_Strict):
    ratio_metric: _Ratio | None = Field(None, alias="ratioMetric")
    threshold_metric: _Metric | None = Field(None, alias="thresholdMetric")
    description: str = ""


class _Metadata(_Strict):
    name: Annotated[str, StringConstraints(max_length=63)]
    display_name: str = Field("", alias="displayName")
    labels: dict[str, Any] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", value):
            raise ValueError("a name is lower-case letters, digits and dashes, like inference-latency")
        return value


class _Indicator(_Strict):
    metadata: _Metadata | None = None
    spec: _IndicatorSpec


class _TimeWindow(_Strict):
    duration: str
    is_rolling: bool = Field(alias="isRolling")


class _Objective(_Strict):
    display_name: str = Field("", alias="displayName")
    target: float | None = None
    target_percent: float | None = Field(None, alias="targetPercent")
    op: Literal["lte", "lt"] | None = None
    value: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    time_slice_target: float | None = Field(None, alias="timeSliceTarget")
    time_slice_window: str | None = Field(None, alias="timeSliceWindow")


class _Spec(_Strict):
    description: Annotated[str, StringConstraints(max_length=1050)] = ""
    service: str
    indicator: _Indicator
    time_window: list[_TimeWindow] = Field(alias="timeWindow", min_length=1, max_length=1)
    budgeting_method: Literal["Occurrences", "Timeslices"] = Field(alias="budgetingMethod")
    objectives: list[_Objective] = Field(min_length=1, max_length=1)
    alert_policies: list[Any] = Field(default_factory=list, alias="alertPolicies", max_length=0)


class _File(_Strict):
    api_version: Literal["openslo/v1"] = Field(alias="apiVersion")
    kind: Literal["SLO"]
    metadata: _Metadata
    spec: _Spec


def _exact(value: float) -> Fraction:
    """Return the decimal fraction that was written: 0.999 is 999/1000, not the nearest double."""
    return Fraction(repr(float(value)))


def _share(document: Document, place: tuple[str | int, ...], value: Fraction) -> Fraction:
    if not 0 < value < 1:
        raise document.error(
            place, f"{float(value):g} is not between 0 and 1 (exclusive); a target of 1 leaves no budget, use 0.999"
        )
    return value


def _objective(document: Document, objective: _Objective) -> Fraction:
    place = ("spec", "objectives", 0)
    if (objective.target is None) == (objective.target_percent is None):
        raise document.error(place, "needs exactly one of target (0..1) and targetPercent (0..100)")
    if objective.target is not None:
        return _share(document, (*place, "target"), _exact(objective.target))
    assert objective.target_percent is not None
    return _share(document, (*place, "targetPercent"), _exact(objective.target_percent) / 100)


def _slices(document: Document, spec: _Spec) -> tuple[int, Fraction | None]:
    objective, place = spec.objectives[0], ("spec", "objectives", 0)
    if spec.budgeting_method == OCCURRENCES:
        for field, value in (
            ("timeSliceTarget", objective.time_slice_target), ("timeSliceWindow", objective.time_slice_window)
        ):  # fmt: skip
            if value is not None:
                raise document.error((*place, field), "belongs to budgetingMethod Timeslices; remove it")
        return 0, None
    if objective.time_slice_target is None or objective.time_slice_window is None:
        raise document.error(place, "budgetingMethod Timeslices needs timeSliceTarget and timeSliceWindow (like 5m)")
    window = (*place, "timeSliceWindow")
    try:
        slice_ns = duration_ns(objective.time_slice_window)
    except ValueError as error:
        raise document.error(window, str(error)) from error
    if slice_ns % SLOT_NS or 3600 * 10**9 % slice_ns:
        raise document.error(window, f"{objective.time_slice_window} does not fit; use 5m, 10m, 15m, 20m, 30m or 1h")
    return slice_ns, _share(document, (*place, "timeSliceTarget"), _exact(objective.time_slice_target))


def _source(document: Document, indicator: _IndicatorSpec) -> tuple[_SourceSpec, tuple[str | int, ...]]:
    place: tuple[str | int, ...] = ("spec", "indicator", "spec")
    if (indicator.ratio_metric is None) == (indicator.threshold_metric is None):
        raise document.error(place, "needs exactly one of ratioMetric and thresholdMetric")
    if indicator.threshold_metric is not None:
        return indicator.threshold_metric.metric_source.spec, (*place, "thresholdMetric", "metricSource", "spec")
    ratio = indicator.ratio_metric
    assert ratio is not None
    good = ratio.good.metric_source.spec
    if ratio.total is not None:
        total = ratio.total.metric_source.spec
        if (total.kind, total.metric, total.model, total.version) != (good.kind, good.metric, good.model, good.version):
            raise document.error(
                (*place, "ratioMetric", "total"), "must select the same events as good; or leave total out"
            )
    return good, (*place, "ratioMetric", "good", "metricSource", "spec")


def _indicator(document: Document, spec: _Spec) -> tuple[_SourceSpec, str, float | None]:
    """Return the source, its metric and its threshold (seconds), checked against the wire contract."""
    source, place = _source(document, spec.indicator.spec)
    metric = source.metric or DEFAULT_METRIC[source.kind]
    if metric not in BY_NAME:
        raise document.error(
            (*place, "metric"), f"{metric!r} is not a metric of the contract; {nearest(metric, list(BY_NAME))}"
        )
    threshold = source.threshold if source.threshold is not None else spec.objectives[0].value
    if source.kind == "latency":
        if BY_NAME[metric].kind is not Kind.EXPONENTIAL or BY_NAME[metric].unit != "s":
            raise document.error(
                (*place, "metric"), f"{metric} is not a histogram of seconds; use {INFERENCE_DURATION.name}"
            )
        if threshold is None:
            raise document.error(place, "kind latency needs a threshold in seconds, here or as the objective's value")
    elif threshold is not None:
        raise document.error((*place, "threshold"), f"kind {source.kind} has no threshold; remove it")
    elif metric != DEFAULT_METRIC[source.kind]:
        raise document.error(
            (*place, "metric"), f"kind {source.kind} is counted from {DEFAULT_METRIC[source.kind]}; remove the field"
        )
    if source.kind == "crash_free" and (source.model or source.version):
        raise document.error(place, "crash_free counts whole devices; remove model and version")
    if source.version and not source.model:
        raise document.error((*place, "version"), "needs a model; add it")
    return source, metric, threshold


def parse(document: Document) -> Slo:
    """Return the objective of one YAML document; raises ``ConfigError`` with file, line and what to do."""
    data = document.data
    if not isinstance(data, dict):
        raise document.error((), "is not a mapping; an OpenSLO document begins with apiVersion: openslo/v1")
    parsed = validated(_File, document)
    window, place = parsed.spec.time_window[0], ("spec", "timeWindow", 0)
    if not window.is_rolling:
        raise document.error((*place, "isRolling"), "calendar-aligned windows are not supported; write isRolling: true")
    try:
        period_ns = duration_ns(window.duration)
        burn_windows(period_ns)
    except (ValueError, ConfigError) as error:
        raise document.error((*place, "duration"), str(error)) from error
    source, metric, threshold = _indicator(document, parsed.spec)
    slice_ns, slice_target = _slices(document, parsed.spec)
    return Slo(
        name=parsed.metadata.name,
        display_name=parsed.metadata.display_name or parsed.metadata.name,
        description=parsed.spec.description.strip(),
        service=parsed.spec.service,
        kind=source.kind,
        metric=metric,
        threshold=threshold,
        model=source.model,
        version=source.version,
        objective=_objective(document, parsed.spec.objectives[0]),
        period_ns=period_ns,
        method=parsed.spec.budgeting_method,
        slice_ns=slice_ns,
        slice_target=slice_target,
        path=document.path,
        line=document.line(("metadata", "name")),
    )


def load(directory: Path) -> tuple[Slo, ...]:
    """Return the objectives of all ``*.yaml`` and ``*.yml`` of a directory, by name; raises ``ConfigError``."""
    found: dict[str, Slo] = {}
    for path in sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")]):
        for document in read_documents(path):
            if document.data is None:
                continue
            slo = parse(document)
            if slo.name in found:
                first = found[slo.name]
                raise document.error(
                    ("metadata", "name"), f"{slo.name!r} is already defined in {first.path}:{first.line}; rename one"
                )
            found[slo.name] = slo
    return tuple(found[name] for name in sorted(found))


def load_configured(directory: Path | None) -> tuple[Slo, ...]:
    """Return the operator's objectives; the packaged ones when ``directory`` is None or does not exist."""
    if directory is not None and directory.is_dir():
        return load(directory)
    with as_file(files("analytics").joinpath("slos")) as packaged:
        return load(packaged)

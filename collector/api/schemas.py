"""Pydantic models of the fixed shapes: what OpenAPI documents. Answers are built from rows without them, for speed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Scope(BaseModel):
    """Instrumentation scope."""

    name: str
    version: str


class Side(BaseModel):
    """Buckets of one sign of an exponential histogram."""

    offset: int
    counts: list[int]


class Ranked(BaseModel):
    """A quantile; value is null where no bucket can tell it."""

    q: float
    value: float | str | None


class Point(BaseModel):
    """A datapoint exactly as stored. NaN and infinities are the strings "NaN", "Infinity", "-Infinity"."""

    metric: str
    kind: str = Field(description="gauge, sum, histogram, exponential_histogram or summary")
    unit: str
    temporality: str | None
    monotonic: bool | None
    device_id: str
    resource: dict[str, Any]
    scope: Scope
    attributes: dict[str, Any]
    start_ns: int
    time_ns: int
    received_ns: int
    value: int | float | str | None = None
    no_recorded_value: bool | None = None
    count: int | None = None
    sum: float | str | None = None
    min: float | str | None = None
    max: float | str | None = None
    bounds: list[float] | None = None
    counts: list[int] | None = None
    scale: int | None = None
    zero_count: int | None = None
    zero_threshold: float | None = None
    positive: Side | None = None
    negative: Side | None = None
    quantiles: list[Ranked] | None = None


class Metric(BaseModel):
    """A metric as it was received, with the number of points kept."""

    name: str
    kind: str
    unit: str
    temporality: str | None
    monotonic: bool | None
    points: int
    series: int


class Quantiles(BaseModel):
    """Quantiles of one combination of the attributes asked for."""

    metric: str
    kind: str
    unit: str
    by: dict[str, Any]
    count: int
    sum: float | str | None
    quantiles: list[Ranked]


class Log(BaseModel):
    """A log record."""

    time_ns: int
    observed_ns: int
    received_ns: int
    device_id: str
    event_name: str
    severity_number: int
    severity_text: str
    body: str
    trace_id: str
    span_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Clock(BaseModel):
    """What is added to each time of a device's newest boot, and how that is known."""

    offset_ns: int
    quality: str = Field(description="synced, estimated, bounded or none")


class Device(BaseModel):
    """A device; completeness is windows received over windows due."""

    device_id: str
    first_seen_ns: int
    last_seen_ns: int
    resource: dict[str, Any]
    completeness: float | None
    clock: Clock


class Window(BaseModel):
    """The span a verdict is about."""

    start_ns: int
    end_ns: int


class Verdict(BaseModel):
    """A judged number; its name is under kpi, signal or slo."""

    kind: str
    name: str
    kpi: str | None = None
    signal: str | None = None
    slo: str | None = None
    model: str
    version: str
    cohort: dict[str, Any]
    value: float | None
    low: float | None
    high: float | None
    n: float
    devices: int
    target: float | None
    verdict: str
    reason: str
    completeness: float | None
    at_ns: int
    window: Window
    detail: dict[str, Any]


class Alert(BaseModel):
    """The newest state of an alert."""

    id: str
    rule: str
    state: str
    severity: str
    cohort: dict[str, Any]
    summary: str
    onset_ns: int
    since_ns: int
    devices: int
    evidence: dict[str, Any]
    page_url: str
    runbook_url: str


class _Page(BaseModel):
    next: str | None = Field(description="Pass as `cursor` for the next page; null on the last.")
    as_of_ns: int


class MetricPage(_Page):
    """A page of metrics."""

    items: list[Metric]


class PointPage(_Page):
    """A page of points."""

    items: list[Point]


class QuantilePage(_Page):
    """A page of quantiles."""

    items: list[Quantiles]


class LogPage(_Page):
    """A page of log records."""

    items: list[Log]


class DevicePage(_Page):
    """A page of devices."""

    items: list[Device]


class VerdictPage(_Page):
    """A page of verdict rows."""

    items: list[Verdict]


class AlertPage(_Page):
    """A page of alerts."""

    items: list[Alert]


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str


def listing(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of a list endpoint."""
    problem = {"model": Problem, "content": {"application/problem+json": {}}}
    return {200: {"model": model}, 400: problem, 422: problem, 503: problem}

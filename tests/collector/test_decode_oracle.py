"""The fast decoder against a plain walk over the stock opentelemetry-proto classes, on generated requests."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_kit import T, columns, rows
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from collector.api.decode_metrics import MetricsDecoder
from collector.ingest.batch import to_tables

INT63 = st.integers(0, 2**40)
DOUBLES = st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.sampled_from(["a", "b", "edge.inference.duration"])
DECODER = MetricsDecoder()
"""Kept between examples on purpose: its caches must never change an answer."""


@st.composite
def requests(draw: Any) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    for _ in range(draw(st.integers(1, 2))):
        envelope = request.resource_metrics.add()
        envelope.resource.attributes.add(key="service.instance.id").value.string_value = draw(st.sampled_from("xyz"))
        scope = envelope.scope_metrics.add()
        scope.scope.name = draw(st.sampled_from(["", "s"]))
        for _ in range(draw(st.integers(1, 3))):
            metric = scope.metrics.add(name=draw(NAMES), unit=draw(st.sampled_from(["", "s"])))
            kind = draw(st.sampled_from(["gauge", "sum", "histogram", "exponential_histogram", "summary"]))
            data = getattr(metric, kind)
            data.SetInParent()
            if kind not in ("gauge", "summary"):
                data.aggregation_temporality = draw(st.sampled_from([1, 2]))
            for _ in range(draw(st.integers(0, 3))):
                _fill(draw, data.data_points.add(), kind)
    return request


def _fill(draw: Any, point: Any, kind: str) -> None:
    point.start_time_unix_nano = T + draw(st.integers(0, 3))
    point.time_unix_nano = T + 3 + draw(st.integers(0, 3))
    if draw(st.booleans()):
        point.attributes.add(key=draw(st.sampled_from("kl"))).value.int_value = draw(st.integers(0, 1))
    if kind in ("gauge", "sum"):
        if draw(st.booleans()):
            point.as_int = draw(st.integers(-(2**63), 2**63 - 1))
        else:
            point.as_double = draw(DOUBLES)
        return
    if kind == "summary":
        point.count, point.sum = draw(INT63), draw(DOUBLES)
        point.quantile_values.add(quantile=draw(st.floats(0, 1)), value=draw(DOUBLES))
        return
    for name in ("sum", "min", "max"):
        if draw(st.booleans()):
            setattr(point, name, draw(DOUBLES))
    if kind == "histogram":
        bounds = sorted(draw(st.sets(st.floats(-10, 10), max_size=3)))
        point.explicit_bounds.extend(bounds)
        point.bucket_counts.extend(draw(st.lists(INT63, min_size=len(bounds) + 1, max_size=len(bounds) + 1)))
        point.count = sum(point.bucket_counts)
        return
    point.scale, point.zero_count = draw(st.integers(-10, 20)), draw(INT63)
    for side in (point.positive, point.negative):
        side.offset = draw(st.integers(-(2**20), 2**20))
        side.bucket_counts.extend(draw(st.lists(INT63, max_size=4)))
    point.count = sum(point.positive.bucket_counts) + sum(point.negative.bucket_counts) + point.zero_count


def plain(request: ExportMetricsServiceRequest) -> list[tuple[Any, ...]]:
    found = []
    for envelope in request.resource_metrics:
        for scope in envelope.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                named = (metric.name, kind, scope.scope.name, metric.unit)
                found.extend((*named, *_plain_point(kind, point)) for point in getattr(metric, kind).data_points)
    return found


def _plain_point(kind: str, point: Any) -> tuple[Any, ...]:
    def optional(name: str) -> Any:
        return getattr(point, name) if point.HasField(name) else None

    head = (point.start_time_unix_nano, point.time_unix_nano)
    if kind in ("gauge", "sum"):
        which = point.WhichOneof("value")
        return (*head, point.as_int if which == "as_int" else None, point.as_double if which == "as_double" else None)
    if kind == "summary":
        pairs = point.quantile_values
        return (*head, point.count, point.sum, [pair.quantile for pair in pairs], [pair.value for pair in pairs])
    facts = (*head, point.count, optional("sum"), optional("min"), optional("max"))
    if kind == "histogram":
        return (*facts, list(point.explicit_bounds), list(point.bucket_counts))
    up, down = point.positive, point.negative
    return (
        *facts,
        point.scale,
        point.zero_count,
        up.offset,
        list(up.bucket_counts),
        down.offset,
        list(down.bucket_counts),
    )


COLUMNS = {
    "gauge": ("value_int", "value_double"),
    "sum": ("value_int", "value_double"),
    "summary": ("count", "sum", "quantiles", "quantile_values"),
    "histogram": ("count", "sum", "min", "max", "bounds", "counts"),
    "exponential_histogram": (
        "count", "sum", "min", "max", "scale", "zero_count", "positive_offset", "positive_counts", "negative_offset",
        "negative_counts",
    ),
}  # fmt: skip


def hashable(value: Any) -> Any:
    """NaN equals NaN here, lists are compared as tuples."""
    if isinstance(value, list | tuple):
        return tuple(hashable(item) for item in value)
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


@settings(max_examples=150, deadline=None)
@given(requests())
def test_the_fast_walk_finds_what_the_stock_classes_hold(request: ExportMetricsServiceRequest) -> None:
    batch = DECODER.decode(request.SerializeToString(), 1)
    assert batch.rejected == {}
    tables = to_tables([batch])
    series = {row["series"]: row for row in tables["series"].to_pylist()}
    found = []
    for row in tables["points"].to_pylist():
        named = series[row["series"]]
        values = {**row, "bounds": named["bounds"]}
        found.append(
            (
                *(named[column] for column in ("metric", "kind", "scope_name", "unit")),
                row["start_ns"],
                row["time_ns"],
                *(values[column] for column in COLUMNS[named["kind"]]),
            )
        )
    assert hashable(found) == hashable(plain(request))
    assert {row["stream"] for row in rows(batch)} == batch.streams.keys()
    assert columns("points") == tables["points"].column_names

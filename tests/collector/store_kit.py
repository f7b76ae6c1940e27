"""Telemetry for store tests, made the way devices make it: OTLP protobuf, decoded as the worker does, as segments."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import uvicorn
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality as Temporality

from collector.api.decode_logs import LogsDecoder
from collector.api.decode_metrics import MetricsDecoder
from collector.ingest.batch import DecodedBatch, to_tables
from collector.storage import rows
from collector.storage.segment_file import write_segment

S = 1_000_000_000
HOUR = 3600 * S
DAY = 24 * HOUR
T0 = 1_790_000_000 * S // HOUR * HOUR
"""An hour's start in September 2026."""
DELTA = Temporality.AGGREGATION_TEMPORALITY_DELTA
CUMULATIVE = Temporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_counter = itertools.count()
METRICS, LOGS = MetricsDecoder(), LogsDecoder()


def any_value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))
    return AnyValue(string_value=value)


def attributes(values: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in values.items()]


class Request:
    """One OTLP metrics request of one resource."""

    def __init__(self, **resource: Any) -> None:
        self.message = ExportMetricsServiceRequest()
        self._resource = self.message.resource_metrics.add()
        self._resource.resource.attributes.extend(attributes(resource))
        self._scope = self._resource.scope_metrics.add()
        self._scope.scope.name = "device_sdk"
        self._scope.scope.version = "1"

    def _metric(self, name: str, unit: str):
        metric = self._scope.metrics.add()
        metric.name, metric.unit = name, unit
        return metric

    def _stamp(self, point: Any, start: int, time: int, values: dict[str, Any]) -> Any:
        point.start_time_unix_nano, point.time_unix_nano = start, time
        point.attributes.extend(attributes(values))
        return point

    def sum(
        self, name: str, start: int, time: int, value: float, *, unit="1", temporality=DELTA, monotonic=True, **at: Any
    ):
        data = self._metric(name, unit).sum
        data.aggregation_temporality, data.is_monotonic = temporality, monotonic
        point = self._stamp(data.data_points.add(), start, time, at)
        if isinstance(value, int):
            point.as_int = value
        else:
            point.as_double = value
        return self

    def gauge(self, name: str, time: int, value: float, *, unit="1", flags=0, start=0, **at: Any):
        point = self._stamp(self._metric(name, unit).gauge.data_points.add(), start, time, at)
        point.flags = flags
        if not flags:
            if isinstance(value, int):
                point.as_int = value
            else:
                point.as_double = value
        return self

    def exponential(
        self, name: str, start: int, time: int, counts: list[int], *, scale=3, offset=0, zero=0, negative=(), unit="s",
        temporality=DELTA, total: float | None = None, **at: Any,
    ):  # fmt: skip
        data = self._metric(name, unit).exponential_histogram
        data.aggregation_temporality = temporality
        point = self._stamp(data.data_points.add(), start, time, at)
        point.scale, point.zero_count = scale, zero
        point.positive.offset = offset
        point.positive.bucket_counts.extend(counts)
        if negative:
            point.negative.bucket_counts.extend(negative)
        point.count = sum(counts) + zero + sum(negative)
        if total is not None:
            point.sum = total
        return self

    def explicit(
        self, name: str, start: int, time: int, bounds: list[float], counts: list[int], *, unit="1", temporality=DELTA,
        **at: Any,
    ):  # fmt: skip
        data = self._metric(name, unit).histogram
        data.aggregation_temporality = temporality
        point = self._stamp(data.data_points.add(), start, time, at)
        point.explicit_bounds.extend(bounds)
        point.bucket_counts.extend(counts)
        point.count = sum(counts)
        return self

    def summary(self, name: str, time: int, count: int, total: float, quantiles: dict[float, float], **at: Any):
        point = self._stamp(self._metric(name, "1").summary.data_points.add(), 0, time, at)
        point.count, point.sum = count, total
        for q, value in quantiles.items():
            point.quantile_values.add(quantile=q, value=value)
        return self

    def window(self, start: int, time: int, sequence: int, *, count=1, points=4):
        self.gauge("edge.window.sequence", time, sequence, start=start)
        self.sum("edge.window.count", start, time, count)
        return self.sum("edge.window.points", start, time, points)

    def decoded(self, received_ns: int) -> DecodedBatch:
        batch = METRICS.decode(self.message.SerializeToString(), received_ns)
        assert not batch.rejected, batch.rejected
        return batch


def resource_of(device: str, **more: Any) -> dict[str, Any]:
    return {"device.id": device, "service.instance.id": f"{device}-1", **more}


def device_window(
    device: str, start: int, end: int, sequence: int = 0, *, runs=10, observed=None, tier="cam-v2", firmware="1.0.0"
) -> Request:
    """One window of a device that ran one model."""
    labels = {"edge.device.tier": tier, "edge.firmware.version": firmware, "edge.region": "eu"}
    request = Request(**resource_of(device, **labels))
    model = {"edge.model.name": "digits", "edge.model.version": "3"}
    request.exponential(
        "edge.inference.duration", start, end, [runs - runs // 2, runs // 2], scale=3, offset=-40, **model
    )
    request.sum("edge.output.predictions", start, end, runs, **model, **{"edge.class.name": "7"})
    request.explicit("edge.output.confidence", start, end, [0.5, 0.9], [1, 2, runs], **model)
    request.sum("edge.session.time", start, end, float((end - start) / S if observed is None else observed), unit="s")
    return request.window(start, end, sequence, points=7)


def session_end(
    device: str, time: int, *, reason="exit", expected=True, uid: str | None = None, **labels: Any
) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add()
    logs.resource.attributes.extend(attributes(resource_of(device, **labels)))
    record = logs.scope_logs.add().log_records.add()
    record.time_unix_nano = record.observed_time_unix_nano = time
    record.event_name, record.severity_number, record.severity_text = "session.end", 9, "INFO"
    record.body.string_value = "ended"
    values = {"edge.session.end.reason": reason, "edge.session.end.expected": expected}
    record.attributes.extend(attributes(values | ({"log.record.uid": uid} if uid else {})))
    return request


def decoded_logs(request: ExportLogsServiceRequest, received_ns: int) -> DecodedBatch:
    return LOGS.decode(request.SerializeToString(), received_ns)


def write(directory: Path, batches: list[DecodedBatch], received_ns: int = T0) -> Path:
    """Write one segment of several decoded requests, as a worker's group commit does."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{received_ns:020d}-w0-{next(_counter):08d}.seg"
    write_segment(path, to_tables(batches))
    return path


class Clock:
    """A clock that stands still until told."""

    def __init__(self, now_ns: int = T0 + DAY) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


@contextlib.contextmanager
def serving(app: Any) -> Iterator[httpx.Client]:
    """Serve over real HTTP on a loopback port; the socket listens before the server runs, so nobody has to wait."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def put(store, tmp_path, *requests, received=T0):
    store.put([write(tmp_path, [request.decoded(received) for request in requests])])


def get(client, path, **params):
    answer = client.get(f"/api/v1/{path}", params={name.rstrip("_"): value for name, value in params.items()})
    assert answer.status_code == 200, answer.text
    assert "NaN" not in answer.text.replace('"NaN"', "")
    return answer.json()


def pages(client, path, **params):
    items, cursor = [], ""
    while cursor is not None:
        body = get(client, path, cursor=cursor, **params)
        assert len(body["items"]) <= int(params.get("limit", 1000))
        items += body["items"]
        cursor = body["next"]
    return items


def verdict(kind, name, at_ns=T0, *, cohort=None, **changes):
    key = json.dumps([name, cohort, changes.get("model", "")])
    row = {
        "kind": kind, "at_ns": at_ns, "key": key, "name": name, "model": "", "version": "",
        "cohort": json.dumps(cohort or {}), "value": 0.5, "low": 0.4, "high": None, "n": 10.0, "devices": 3,
        "target": 0.9, "verdict": "met", "reason": "", "completeness": 1.0, "window_start_ns": at_ns - HOUR,
        "window_end_ns": at_ns, "detail": '{"burn":{"1h":14.5}}', "written_ns": at_ns,
    }  # fmt: skip
    return row | changes


def append(store, table, *items):
    store.append(table, pa.Table.from_pylist(list(items), schema=rows.APPEND_TABLES[table]))

"""From OTLP bodies to rows; pure. The functions share bounded caches of what equal bytes meant before.

Each raises ``MalformedRequestError`` (the body is no such request) and ``OversizedRequestError`` (too many items).
"""

from __future__ import annotations

from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.api.decode_canonical import MalformedRequestError
from collector.api.decode_json import from_json
from collector.api.decode_limits import OversizedRequestError
from collector.api.decode_logs import LogsDecoder, count_spans
from collector.api.decode_metrics import MetricsDecoder
from collector.ingest.batch import DecodedBatch

__all__ = [
    "DecodedBatch",
    "MalformedRequestError",
    "OversizedRequestError",
    "decode_logs",
    "decode_logs_json",
    "decode_metrics",
    "decode_metrics_json",
    "decode_traces",
    "decode_traces_json",
]

_METRICS: Final = MetricsDecoder()
_LOGS: Final = LogsDecoder()
_NO_SPANS: Final = "spans are not kept: this collector stores metrics and events of devices, send traces elsewhere"


def decode_metrics(body: bytes, received_ns: int) -> DecodedBatch:
    """Return the rows of a protobuf ExportMetricsServiceRequest."""
    return _METRICS.decode(body, received_ns)


def decode_metrics_json(body: bytes, received_ns: int) -> DecodedBatch:
    """Return the rows of an OTLP/JSON ExportMetricsServiceRequest."""
    return _METRICS.decode(from_json(ExportMetricsServiceRequest, body).SerializeToString(), received_ns)


def decode_logs(body: bytes, received_ns: int) -> DecodedBatch:
    """Return the rows of a protobuf ExportLogsServiceRequest."""
    return _LOGS.decode(body, received_ns)


def decode_logs_json(body: bytes, received_ns: int) -> DecodedBatch:
    """Return the rows of an OTLP/JSON ExportLogsServiceRequest."""
    return _LOGS.decode(from_json(ExportLogsServiceRequest, body).SerializeToString(), received_ns)


def decode_traces(body: bytes, received_ns: int) -> DecodedBatch:
    """Return an empty batch that has refused every span."""
    batch = DecodedBatch(received_ns)
    if count := count_spans(body):
        batch.reject("traces", _NO_SPANS, count)
    return batch


def decode_traces_json(body: bytes, received_ns: int) -> DecodedBatch:
    """Return what ``decode_traces`` does for an OTLP/JSON body."""
    return decode_traces(from_json(ExportTraceServiceRequest, body).SerializeToString(), received_ns)

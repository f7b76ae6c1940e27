"""OTLP/HTTP: one request from its headers to its answer, as the OTLP specification 1.x words it.

An answer 200 means that every accepted point survives a power cut. All other answers carry ``google.rpc.Status`` in
the request's own encoding; 503 comes with ``Retry-After`` and asks the client to keep its data.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.api import decode
from collector.api.auth import Guard, Scope
from collector.api.decode_canonical import MalformedRequestError
from collector.api.decode_limits import OversizedRequestError
from collector.api.device_settings import id_header
from collector.api.http_body import Body, ClientGoneError, Message, Receive, RequestError, Send, gunzip
from collector.api.options import IngestOptions
from collector.ingest.admission import Admission
from collector.ingest.batch import DecodedBatch
from collector.ingest.counters import IngestCounters
from collector.ingest.device_settings import SettingsBook
from collector.ingest.segments import SegmentWriteError, SegmentWriter

logger = logging.getLogger(__name__)

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
_MESSAGE_MAX: Final = 4000
"""Most characters of an error message in an answer; keeps answers far below OTLP's 4 MiB."""
_RPC_CODES: Final = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 413: 8, 415: 3, 429: 8, 500: 13, 503: 14}
_DISCARD_TIMEOUT_S: Final = 10.0
_RETRYABLE: Final = frozenset({408, 429, 503})


@dataclass(frozen=True, slots=True)
class Signal:
    """One path of the device port: how it is decoded and answered."""

    name: str
    protobuf: Callable[[bytes, int], DecodedBatch]
    json: Callable[[bytes, int], DecodedBatch]
    response: type[Any]
    rejected_field: str


SIGNALS: Final[Mapping[str, Signal]] = {
    "/v1/metrics": Signal(
        "metrics", decode.decode_metrics, decode.decode_metrics_json, ExportMetricsServiceResponse,
        "rejected_data_points",
    ),
    "/v1/logs": Signal(
        "logs", decode.decode_logs, decode.decode_logs_json, ExportLogsServiceResponse, "rejected_log_records"
    ),
    "/v1/traces": Signal(
        "traces", decode.decode_traces, decode.decode_traces_json, ExportTraceServiceResponse, "rejected_spans"
    ),
}  # fmt: skip


def media_type(header: str) -> str:
    """Return a Content-Type without its parameters, lowercase."""
    return header.partition(";")[0].strip().lower()


def encoded(message: Any, content_type: str) -> bytes:
    """Return a protobuf message in the encoding of ``content_type``."""
    if content_type == PROTOBUF:
        serialised: bytes = message.SerializeToString()
        return serialised
    text: str = json_format.MessageToJson(message, indent=None)
    return text.encode()


def status_body(status: int, message: str, content_type: str) -> bytes:
    """Return ``google.rpc.Status`` for an HTTP status; 400 carries a ``BadRequest`` detail as OTLP asks."""
    text = message[:_MESSAGE_MAX]
    body = Status(code=_RPC_CODES.get(status, 2), message=text)
    if status == 400:
        body.details.add().Pack(BadRequest(field_violations=[BadRequest.FieldViolation(description=text)]))
    return encoded(body, content_type)


class OtlpHttp:
    """Answers the OTLP paths of one worker."""

    def __init__(
        self,
        options: IngestOptions,
        *,
        guard: Guard,
        admission: Admission,
        writer: SegmentWriter,
        counters: IngestCounters,
        settings: SettingsBook,
        clock_ns: Callable[[], int],
    ) -> None:
        self._options = options
        self._guard = guard
        self._admission = admission
        self._writer = writer
        self._counters = counters
        self._settings = settings
        self._clock_ns = clock_ns

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one HTTP request whose path is in ``SIGNALS``."""
        signal = SIGNALS[scope["path"]]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        content_type = media_type(headers.get("content-type", ""))
        answer_type = content_type if content_type in (PROTOBUF, JSON) else JSON
        extra: list[tuple[bytes, bytes]] = []
        request = Body(receive)
        try:
            body, extra = await self._answer(signal, scope["method"], headers, request)
            status = 200
        except RequestError as error:
            status = error.status
            body = status_body(status, error.message, answer_type)
            extra = self._headers_of(status)
            if status == 408 or not await request.discard(_DISCARD_TIMEOUT_S):
                extra.append((b"connection", b"close"))
        except ClientGoneError:
            self._counters.requests[f"{signal.name} gone"] += 1
            return
        except (MemoryError, OSError):  # passing faults: a 500 would make the client drop its data
            self._counters.internal_errors += 1
            logger.exception("a request could not be taken")
            status = 503
            body = status_body(status, "the collector is short of memory or disk; send again later", answer_type)
            extra = self._headers_of(status)
        except Exception:  # boundary: a fault of ours must answer, be counted, and leave the worker alive
            self._counters.internal_errors += 1
            logger.exception("a request failed inside the collector")
            status = 500
            body = status_body(status, "the collector failed on this request; its log says why", answer_type)
        self._counters.requests[f"{signal.name} {status}"] += 1
        await _send(send, status, body, answer_type, extra)

    def _headers_of(self, status: int) -> list[tuple[bytes, bytes]]:
        if status in _RETRYABLE:
            return [(b"retry-after", str(self._options.retry_after_s).encode())]
        if status == 405:
            return [(b"allow", b"POST")]
        if status == 401:
            return [(b"www-authenticate", b"Bearer")]
        return []

    async def _answer(
        self, signal: Signal, method: str, headers: Mapping[str, str], request: Body
    ) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """Return body and further headers of a 200; raises ``RequestError`` for every other answer."""
        content_type, compressed = self._admit(method, headers)
        options = self._options
        raw = await request.read(
            headers.get("content-length", ""),
            bytes_max=options.body_bytes_max, timeout_s=options.read_timeout_s, admission=self._admission,
        )  # fmt: skip
        held = len(raw)
        try:
            began = time.perf_counter()
            body = gunzip(raw, options.body_bytes_max) if compressed else raw
            grown = max(0, len(body) - held)  # its rows stay in memory until they are durable
            if not self._admission.hold(grown):
                raise RequestError(503, "too many request bodies are being decoded; send again later")
            held += grown
            batch = self._decoded(signal, content_type, body)
            self._counters.body_bytes += len(raw)
            try:
                await self._writer.append(batch)
            except SegmentWriteError:
                raise RequestError(503, "the collector cannot write to its disk; nothing was taken") from None
        finally:
            self._admission.release(held)
        self._counters.acknowledged(time.perf_counter() - began)
        return self._result(signal, content_type, batch), id_header(self._settings, batch)

    def _admit(self, method: str, headers: Mapping[str, str]) -> tuple[str, bool]:
        """Judge a request by its headers; return its type and whether it is compressed."""
        if method != "POST":
            raise RequestError(405, f"method {method} is not for this path; use POST")
        if denied := self._guard.check(headers, Scope.INGEST):
            raise RequestError(denied.status, denied.message)
        content_type = media_type(headers.get("content-type", ""))
        if content_type not in (PROTOBUF, JSON):
            raise RequestError(415, f"Content-Type {content_type[:100]!r} is not taken; use {PROTOBUF} or {JSON}")
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "none", "identity", "gzip"):
            raise RequestError(415, f"Content-Encoding {encoding[:100]!r} is not taken; use gzip or none")
        if refusal := self._admission.refusal():
            raise RequestError(503, refusal)
        return content_type, encoding == "gzip"

    def _decoded(self, signal: Signal, content_type: str, body: bytes) -> DecodedBatch:
        decoder = signal.protobuf if content_type == PROTOBUF else signal.json
        try:
            return decoder(body, self._clock_ns())
        except MalformedRequestError as error:
            raise RequestError(400, str(error)) from None
        except OversizedRequestError as error:
            raise RequestError(413, str(error)) from None

    def _result(self, signal: Signal, content_type: str, batch: DecodedBatch) -> bytes:
        """Count the batch and return its answer; ``partial_success`` only when there is something to say."""
        counters = self._counters
        counters.accepted[signal.name] += batch.accepted
        counters.exemplars_dropped += batch.exemplars_dropped
        for reason, count in batch.rejected.items():
            counters.rejected[f"{signal.name} {reason}"] += count
        response = signal.response()
        if message := batch.message():
            setattr(response.partial_success, signal.rejected_field, batch.rejected_total)
            response.partial_success.error_message = message[:_MESSAGE_MAX]
        return encoded(response, content_type)


async def _send(send: Send, status: int, body: bytes, content_type: str, extra: list[tuple[bytes, bytes]]) -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

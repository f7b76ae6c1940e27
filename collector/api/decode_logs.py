"""From OTLP logs and traces requests to rows: events are kept, spans are only counted."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.api.decode_canonical import (
    MalformedRequestError,
    Sender,
    Senders,
    canonical,
    content_id,
    plain,
    plain_attributes,
    text_of,
)
from collector.api.decode_checks import INT64_MAX
from collector.api.decode_limits import ITEMS_MAX, check_protobuf, spend
from collector.ingest.batch import DecodedBatch, Row
from device_sdk.contract.attributes import LOG_RECORD_UID

_OLD_EVENT_NAME: Final = "event.name"
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8


class LogsDecoder:
    """Decodes requests; keeps a bounded cache of senders between them."""

    def __init__(self) -> None:
        self._senders = Senders()

    def decode(self, body: bytes, received_ns: int) -> DecodedBatch:
        """Return the rows of a serialised ``ExportLogsServiceRequest``.

        Raises ``MalformedRequestError`` and ``OversizedRequestError``.
        """
        check_protobuf(body)
        batch = DecodedBatch(received_ns)
        try:
            envelopes = ExportLogsServiceRequest.FromString(body).resource_logs
            room = spend(ITEMS_MAX, len(envelopes))
            for resource_logs in envelopes:
                room = spend(room, len(resource_logs.scope_logs))
                sender = self._senders.of(resource_logs.resource.SerializeToString(deterministic=True))
                before = len(batch.logs)
                for scope_logs in resource_logs.scope_logs:
                    room = spend(room, len(scope_logs.log_records))
                    for record in scope_logs.log_records:
                        _append(batch, sender, record)
                if len(batch.logs) > before:
                    sender.join(batch)
        except DecodeError as error:
            raise MalformedRequestError(f"the body is not an OTLP ExportLogsServiceRequest: {error}") from error
        return batch


def _append(batch: DecodedBatch, sender: Sender, record: Any) -> None:
    sent_time, sent_observed = record.time_unix_nano, record.observed_time_unix_nano
    if sent_time > INT64_MAX or sent_observed > INT64_MAX:
        batch.reject("time", f"a log record's time {max(sent_time, sent_observed)} is above 2^63-1")
        return
    attributes = plain_attributes(record.attributes)
    attributes_json = canonical(attributes)
    body = plain(record.body)
    content: Row = (
        record.event_name or text_of(attributes, _OLD_EVENT_NAME),
        record.severity_number,
        record.severity_text,
        body if isinstance(body, str) else "" if body is None else canonical(body),
        _hex_id(record.trace_id, _TRACE_ID_BYTES),
        _hex_id(record.span_id, _SPAN_ID_BYTES),
        attributes_json,
    )
    uid = attributes.get(LOG_RECORD_UID)
    if not isinstance(uid, str) or not uid:
        # The arrival time is left out, so that a resent record has the uid of its first copy.
        uid = "h:" + content_id(canonical([sender.stream.hex(), sent_time, sent_observed, *content])).hex()
    observed = sent_observed or batch.received_ns
    time = sent_time or observed
    batch.logs.append((uid, sender.stream, sender.resource, sender.cohort, time, observed, batch.received_ns, *content))


def _hex_id(raw: bytes, length: int) -> str:
    """Return an id as lowercase hex; '' for one that OTLP calls invalid (wrong length or all zero)."""
    return raw.hex() if len(raw) == length and any(raw) else ""


def count_spans(body: bytes) -> int:
    """Return the number of spans in a serialised ``ExportTraceServiceRequest``.

    Raises ``MalformedRequestError`` and ``OversizedRequestError``.
    """
    check_protobuf(body)
    try:
        envelopes = ExportTraceServiceRequest.FromString(body).resource_spans
    except DecodeError as error:
        raise MalformedRequestError(f"the body is not an OTLP ExportTraceServiceRequest: {error}") from error
    room = spend(ITEMS_MAX, len(envelopes))
    count = 0
    for envelope in envelopes:
        room = spend(room, len(envelope.scope_spans))
        count += sum(len(scope.spans) for scope in envelope.scope_spans)
    return count

"""What an answer means: whether it is an OTLP receiver's at all, and what it rejected."""

from __future__ import annotations

from typing import Any

from device_sdk.sending.transport import MISCONFIGURED, RETRYABLE, Answer
from device_sdk.spool import METRICS


def is_success(kind: int, answer: Answer) -> bool:
    """Say whether the data were taken: status 2xx and a body that an OTLP receiver would send.

    A captive portal also answers 200, with its own page: such data are not delivered.
    """
    if not 200 <= answer.status < 300:
        return False
    return not answer.body or "json" in answer.content_type or _parsed(kind, answer.body) is not None


def may_succeed_later(answer: Answer) -> bool:
    """Say whether the same bytes may be welcome later: no answer, a tired server, a wrong address, token or network.

    500 is among them, although OTLP lists it as final: it says that the server failed, not that the data are wrong.
    So is a status that HTTP does not have.
    """
    stated = 400 <= answer.status < 600 and answer.status != 500
    return not stated or answer.status in RETRYABLE or answer.status in MISCONFIGURED


def rejected_items(kind: int, answer: Answer) -> int:
    """Return how many items a successful answer says were rejected, 0 when it does not say."""
    parsed = None if not answer.body or "json" in answer.content_type else _parsed(kind, answer.body)
    if parsed is None:
        return 0
    success = parsed.partial_success
    return max(0, int(success.rejected_data_points if kind == METRICS else success.rejected_log_records))


def error_word(answer: Answer) -> str:
    """Return ``error.type`` of a failed attempt: the status, or that no OTLP receiver answered."""
    return str(answer.status) if answer.status >= 300 else "unreachable"


def problem(answer: Answer) -> str:
    """Say in a few words why an attempt failed, with a hint where somebody can help."""
    if not answer.status:
        return answer.error
    if 200 <= answer.status < 300:
        return f"HTTP {answer.status}, but not from an OTLP receiver; check endpoint= and the network's log-in page"
    astray = answer.status < 400 or answer.status in MISCONFIGURED
    return f"HTTP {answer.status}" + ("; check token= and endpoint=" if astray else "")


def _parsed(kind: int, body: bytes) -> Any:
    from google.protobuf.message import DecodeError

    parsed: Any
    if kind == METRICS:
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

        parsed = metrics_service_pb2.ExportMetricsServiceResponse()
    else:
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

        parsed = logs_service_pb2.ExportLogsServiceResponse()
    try:
        parsed.ParseFromString(body)
    except DecodeError:
        return None
    return parsed

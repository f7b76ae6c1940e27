"""The sender: takes the oldest requests from the spool, joins them unchanged, and offers them until they are answered.

A body is a plain concatenation of encoded requests (which is a valid request) of at most 1 MiB, closed by one envelope
that carries the clock offset of this attempt, gzip level 1. Retryable answers keep the data and back off with jitter;
an answer that says these bytes will never be welcome gives up only the request at fault and counts it.
"""

from __future__ import annotations

import gzip
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Final

from device_sdk.config import Config
from device_sdk.contract.attributes import LossReason
from device_sdk.credentials import Credentials
from device_sdk.errors import log_rationed
from device_sdk.ledger import Ledger
from device_sdk.sending.transport import MISCONFIGURED, RETRYABLE, Answer, Transport
from device_sdk.spool import LOGS, METRICS, Record, Spool

REQUEST_BYTES_MAX: Final = 1024 * 1024 - 8 * 1024
"""Most bytes of queued requests in one body; the envelope comes on top and the whole stays below 1 MiB."""
_BACKOFF_FIRST_S: Final = 1.0
_BACKOFF_MAX_S: Final = 120.0
_RETRY_AFTER_MAX_S: Final = 3600.0
_UNAUTHORIZED: Final = 401
_KIND_NAMES: Final = {METRICS: "metrics", LOGS: "logs"}


class Sender:
    """Sends what the spool holds. One thread at a time; nothing it does raises into the host."""

    def __init__(
        self,
        config: Config,
        spool: Spool,
        ledger: Ledger,
        *,
        transport: Transport,
        envelope: Callable[[], bytes],
        random_share: Callable[[], float] = random.random,
    ) -> None:
        self.transport = transport
        self._spool = spool
        self._ledger = ledger
        self._envelope = envelope
        self._random_share = random_share
        self._lock = threading.Lock()
        self._urls = {METRICS: config.metrics_url, LOGS: config.logs_url}
        self._compressed = config.compressed
        self._timeout_s = config.timeout_s
        self._headers = {"Content-Type": "application/x-protobuf", "User-Agent": "fleetpulse-device-sdk"}
        if config.compressed:
            self._headers["Content-Encoding"] = "gzip"
        self._headers.update(config.headers)
        self._credentials = Credentials(config.token, config.token_file)
        self._closing = False
        self._failures = 0
        self._resting_until_s = 0.0

    def resting_s(self) -> float:
        """Return how long the back-off still asks to wait, 0 when sending may go on."""
        return max(0.0, self._resting_until_s - time.monotonic())

    def send_all(self, timeout_s: float, *, wait: Callable[[float], object], patient: bool = True) -> bool:
        """Send until the spool is empty or ``timeout_s`` has passed; say whether it is empty.

        ``patient``: sleep through back-offs (by ``wait``) while time remains, else return at the first one.
        """
        deadline = time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=max(0.0, timeout_s)):
            return False
        try:
            while True:
                left = deadline - time.monotonic()
                rest = self.resting_s()
                if rest > 0:
                    if not patient or rest >= left:
                        return self._empty()
                    wait(rest)
                    continue
                kind = METRICS if self._spool.waiting(METRICS) else LOGS
                records = self._spool.head(kind, REQUEST_BYTES_MAX)
                if not records:
                    return self._empty()
                if left <= 0:
                    return False
                self._offer(kind, records, deadline)
        finally:
            if self._closing:
                self.transport.close()
            self._lock.release()

    def close(self) -> None:
        """Drop connections, now or when the attempt under way is over."""
        self._closing = True
        if self._lock.acquire(blocking=False):
            self.transport.close()
            self._lock.release()

    def _empty(self) -> bool:
        return not (self._spool.waiting(METRICS) or self._spool.waiting(LOGS))

    def _offer(self, kind: int, records: list[Record], deadline: float) -> None:
        payloads = []
        unreadable = []
        for record in records:
            payload = record.read()
            if payload is None:
                unreadable.append(record)
            else:
                payloads.append(payload)
        if unreadable:
            still_queued = self._spool.done(unreadable)  # the rest was dropped, and counted, meanwhile
            self._ledger.lost(kind == METRICS, LossReason.CORRUPT, still_queued)
            records = [record for record in records if record not in unreadable]
        if not payloads:
            return
        if kind == METRICS:
            payloads.append(self._envelope())
        body = b"".join(payloads)
        if self._compressed:
            body = gzip.compress(body, compresslevel=1, mtime=0)
        limit_s = max(0.05, min(self._timeout_s, deadline - time.monotonic()))
        answer = self._post(kind, body, limit_s)
        self._ledger.sent(_KIND_NAMES[kind], len(body), "" if 200 <= answer.status < 300 else _error_word(answer))
        self._settle(kind, records, answer, deadline)

    def _post(self, kind: int, body: bytes, limit_s: float) -> Answer:
        """Offer one body; a 401 is offered again at once when the token was rotated meanwhile."""
        answer = self.transport.post(self._urls[kind], body, self._headers | self._credentials.headers(), limit_s)
        if answer.status == _UNAUTHORIZED and self._credentials.renew():
            self._ledger.sent(_KIND_NAMES[kind], len(body), _error_word(answer))
            answer = self.transport.post(self._urls[kind], body, self._headers | self._credentials.headers(), limit_s)
        return answer

    def _settle(self, kind: int, records: list[Record], answer: Answer, deadline: float) -> None:
        if 200 <= answer.status < 300:
            self._failures = 0
            self._spool.done(records)
            self._note_partial_success(kind, answer.body)
        elif answer.status < 400 or answer.status in RETRYABLE or answer.status in MISCONFIGURED:
            self._back_off(answer)
        elif len(records) > 1:  # find the one at fault instead of losing its neighbours
            middle = len(records) // 2
            self._offer(kind, records[:middle], deadline)
            if not self.resting_s():
                self._offer(kind, records[middle:], deadline)
        else:
            self._spool.done(records)
            self._ledger.lost(kind == METRICS, LossReason.REJECTED, 1)
            log_rationed(
                logging.WARNING, "the collector refused a request for good with HTTP %d; counted as lost", answer.status
            )

    def _back_off(self, answer: Answer) -> None:
        """Rest between half and all of a doubling interval, or a little longer than the server asked for."""
        self._failures += 1
        interval = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2.0 ** min(self._failures - 1, 10))
        rest = interval * (0.5 + 0.5 * self._random_share())
        if answer.retry_after_s is not None:
            rest = min(_RETRY_AFTER_MAX_S, max(0.05, answer.retry_after_s)) * (1 + 0.1 * self._random_share())
        self._resting_until_s = time.monotonic() + rest
        self._spool.to_disk()
        problem = f"HTTP {answer.status}" if answer.status else answer.error
        astray = 0 < answer.status < 400 or answer.status in MISCONFIGURED
        hint = "; check token= and endpoint=" if astray else ""
        said = "collector not reached (%s)%s; data are kept, next try in %.0f s"
        log_rationed(logging.WARNING, said, problem, hint, rest)

    def _note_partial_success(self, kind: int, body: bytes) -> None:
        if not body:
            return
        if kind == METRICS:
            from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics

            rejected = _rejected(metrics.ExportMetricsServiceResponse, "rejected_data_points", body)
        else:
            from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs

            rejected = _rejected(logs.ExportLogsServiceResponse, "rejected_log_records", body)
        if not rejected:
            return
        if kind == METRICS:
            self._ledger.measurements_lost(LossReason.REJECTED, rejected)
        else:
            self._ledger.lost(False, LossReason.REJECTED, rejected)
        log_rationed(logging.WARNING, "the collector took a request but rejected %d of its items", rejected)


def _rejected(message: type, field: str, body: bytes) -> int:
    """Return how many items an answer says were rejected, 0 when it cannot be read."""
    from google.protobuf.message import DecodeError

    parsed = message()
    try:
        parsed.ParseFromString(body)
    except DecodeError:
        return 0
    return int(getattr(parsed.partial_success, field))


def _error_word(answer: Answer) -> str:
    """Return ``error.type`` of a failed attempt: the status, or that nothing came back."""
    return str(answer.status) if answer.status else "unreachable"

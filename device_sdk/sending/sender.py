"""The sender: takes requests from the spool, joins them unchanged, and offers them until they are answered.

Crashes go first, then by priority, the oldest first in each. A body is a plain concatenation of encoded requests (which
is a valid request) of at most 1 MiB, closed by an envelope that carries this attempt's clock offset, with gzip.
Metrics and logs back off on their own, with jitter; an answer that says these bytes will never be welcome gives up only
the request at fault and counts it. While the collector is away only what was offered before is offered again: the rest
may still be merged.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from device_sdk.config import Config
from device_sdk.contract import settings
from device_sdk.contract.attributes import LossReason
from device_sdk.credentials import Credentials
from device_sdk.errors import log_rationed
from device_sdk.ledger import Ledger
from device_sdk.sending.answers import error_word, is_success, may_succeed_later, problem, rejected_items
from device_sdk.sending.transport import Answer, Transport
from device_sdk.spool import LOGS, METRICS, Priority, Record, Spool

REQUEST_BYTES_MAX: Final = 1024 * 1024 - 8 * 1024
"""Most bytes of queued requests in one body; the envelope comes on top and the whole stays below 1 MiB."""
_BACKOFF_FIRST_S: Final = 1.0
_BACKOFF_MAX_S: Final = 120.0
_RETRY_AFTER_BELIEVED: Final = 3
_RETRY_AFTER_MAX_S: Final = 3600.0
_OK: Final = 200
_UNAUTHORIZED: Final = 401
_TOO_LARGE: Final = 413
_BODY_BYTES_MIN: Final = 16 * 1024
_BODY_BYTES_FIRST: Final = 64 * 1024
"""Where bodies begin; they double with every success and begin anew after a failure: what a collector that is not there
was offered can never be merged, so the first try is small."""

_SHORT_BODY_BYTES: Final = 64 * 1024


def compressed(body: bytes) -> bytes:
    """Return a body as gzip: level 6 for the few windows of a device that is on line, level 1 for a backlog.

    A twentieth of a window's bytes is worth 50 us, but on a backlog of 1 MiB level 6 takes three times as long. The
    compressor's tables fit the body: clearing those for a long one costs more than to compress a short one.
    """
    short = len(body) <= _SHORT_BODY_BYTES
    bits = min(15, max(9, len(body).bit_length()))
    packer = zlib.compressobj(6 if short else 1, zlib.DEFLATED, 16 + bits, 6 if short else 8)
    return packer.compress(body) + packer.flush()


@dataclass(slots=True)
class _Lane:
    """One kind of request on its way: where it goes, how it fares, and how much the receiver takes at once."""

    kind: int
    name: str
    url: str
    bytes_max: int = REQUEST_BYTES_MAX
    bytes_now: int = _BODY_BYTES_FIRST
    failures: int = 0
    resting_until_s: float = 0.0

    def rest_s(self) -> float:
        return max(0.0, self.resting_until_s - time.monotonic())


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
        on_progress: Callable[[], None] = lambda: None,
        random_share: Callable[[], float] = random.random,
    ) -> None:
        self.transport = transport
        self._spool = spool
        self._ledger = ledger
        self._envelope = envelope
        self._random_share = random_share
        self._lock = threading.Lock()
        self._on_progress = on_progress
        # logs first: they are few, and crashes are among them
        self._lanes = (_Lane(LOGS, "logs", config.logs_url), _Lane(METRICS, "metrics", config.metrics_url))
        self._metrics_url = config.metrics_url
        self._compressed = config.compressed
        self._timeout_s = config.timeout_s
        self._asking = {"User-Agent": "fleetpulse-device-sdk", **dict(config.headers)}
        self._headers = {"Content-Type": "application/x-protobuf", "User-Agent": "fleetpulse-device-sdk"}
        if config.compressed:
            self._headers["Content-Encoding"] = "gzip"
        self._headers.update(config.headers)
        self._credentials = Credentials(config.token, config.token_file)
        self.settings_id = ""
        """The remote settings that the newest answer named."""
        self._closing = False

    def resting_s(self) -> float:
        """Return how long to wait until something that is queued may be sent, 0 when sending may go on."""
        lanes = [lane for lane in self._lanes if self._spool.waiting(lane.kind)] or self._lanes
        return min(self._rest_s(lane) for lane in lanes)

    def _rest_s(self, lane: _Lane) -> float:
        """Return the seconds that the back-off or the bandwidth budget asks to wait; no budget holds back a crash."""
        rest = lane.rest_s()
        if self._spool.first_priority(lane.kind) == Priority.CRASH:
            return rest
        return max(rest, self._spool.sending.wait_s())

    def send_all(self, timeout_s: float, *, wait: Callable[[float], object], patient: bool = True) -> bool:
        """Send until the spool is empty or ``timeout_s`` has passed; say whether it is empty.

        ``patient``: sleep through back-offs (by ``wait``) while time remains, else return at the first one.
        """
        deadline = time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=max(0.0, timeout_s)):
            return False
        try:
            if self._spool.settle():
                self._on_progress()
            while not self._empty():
                left = deadline - time.monotonic()
                if left <= 0 or self._closing:
                    return False
                lane = next((x for x in self._lanes if self._spool.waiting(x.kind) and not self._rest_s(x)), None)
                if lane is not None:
                    self._offer(lane, self._next(lane), deadline)
                    continue
                rest = self.resting_s()
                if not patient or rest >= left:
                    return False
                wait(rest)
            return True
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
        return not self._spool.waiting()

    def _next(self, lane: _Lane) -> list[Record]:
        bytes_max = min(lane.bytes_max, lane.bytes_now, max(_BODY_BYTES_MIN, self._spool.sending.left()))
        return self._spool.head(lane.kind, int(bytes_max), offered_only=lane.failures > 0)

    def _offer(self, lane: _Lane, chosen: list[Record], deadline: float) -> None:
        offered = self._spool.offer(chosen)
        records, payloads = [], []
        for record in offered:
            payload = record.read()
            if payload is None:
                self._spool.give_up(record, LossReason.CORRUPT)
            else:
                records.append(record)
                payloads.append(payload)
        try:
            if payloads:
                self._send(lane, records, payloads, deadline)
        finally:
            self._spool.keep(records)

    def _send(self, lane: _Lane, records: list[Record], payloads: list[bytes], deadline: float) -> None:
        if lane.kind == METRICS:
            payloads.append(self._envelope())
        body = b"".join(payloads)
        raw = len(body)
        if self._compressed:
            body = compressed(body)
        limit_s = max(0.05, min(self._timeout_s, deadline - time.monotonic()))
        answer = self._post(lane, body, limit_s)
        taken = is_success(lane.kind, answer)
        self._account(lane, len(body), "" if taken else error_word(answer))
        if taken:
            lane.failures = 0
            self.settings_id = answer.settings_id or self.settings_id
            lane.bytes_now = min(REQUEST_BYTES_MAX, 2 * lane.bytes_now)
            self._spool.done(records)
            self._on_progress()
            self._note_rejected(lane.kind, rejected_items(lane.kind, answer))
        elif may_succeed_later(answer):
            self._back_off(lane, answer)
        else:
            if answer.status == _TOO_LARGE:
                lane.bytes_max = max(_BODY_BYTES_MIN, raw // 2)
            self._refused(lane, records, answer, deadline)

    def fetch_settings(self, document_id: str, timeout_s: float) -> Answer:
        """Ask the collector for a settings document; its bytes are counted like all that the SDK moves."""
        base, found, _ = self._metrics_url.rpartition("/v1/metrics")
        if not found:
            return Answer(0, error="the metrics endpoint is not the collector's /v1/metrics: nothing serves settings")
        if not self._lock.acquire(timeout=timeout_s):
            return Answer(0, error="the connection is busy")
        try:
            url = f"{base}{settings.PATH}?id={document_id}"
            headers = {**self._asking, **self._credentials.headers()}
            answer = self.transport.get(url, headers, min(timeout_s, self._timeout_s), settings.DOCUMENT_BYTES_MAX)
        finally:
            if self._closing:
                self.transport.close()
            self._lock.release()
        size = len(settings.PATH) + len(document_id) + len(answer.body)
        self._ledger.sent("settings", size, "" if answer.status == _OK else error_word(answer))
        self._spool.sending.spend(size)
        return answer

    def _post(self, lane: _Lane, body: bytes, limit_s: float) -> Answer:
        """Offer one body; a 401 is offered again at once when the token was rotated meanwhile."""
        answer = self.transport.post(lane.url, body, self._headers | self._credentials.headers(), limit_s)
        if answer.status == _UNAUTHORIZED and self._credentials.renew():
            self._account(lane, len(body), error_word(answer))
            answer = self.transport.post(lane.url, body, self._headers | self._credentials.headers(), limit_s)
        return answer

    def _account(self, lane: _Lane, size: int, error: str) -> None:
        self._ledger.sent(lane.name, size, error)
        self._spool.sending.spend(size)

    def _refused(self, lane: _Lane, records: list[Record], answer: Answer, deadline: float) -> None:
        """Find the request at fault instead of losing its neighbours; give it up when it stands alone."""
        if len(records) > 1:
            middle = len(records) // 2
            self._offer(lane, records[:middle], deadline)
            if not lane.rest_s():
                self._offer(lane, records[middle:], deadline)
            return
        self._spool.give_up(records[0], LossReason.REJECTED)
        self._on_progress()
        log_rationed(
            logging.WARNING, "the collector refused a request for good with HTTP %d; counted as lost", answer.status
        )

    def _back_off(self, lane: _Lane, answer: Answer) -> None:
        """Rest between half and all of a doubling interval, or a little longer than the server asked for."""
        lane.failures += 1
        lane.bytes_now = _BODY_BYTES_FIRST
        interval = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2.0 ** min(lane.failures - 1, 10))
        rest = interval * (0.5 + 0.5 * self._random_share())
        if answer.retry_after_s is not None:
            asked = min(_RETRY_AFTER_MAX_S, max(0.05, answer.retry_after_s)) * (1 + 0.1 * self._random_share())
            rest = asked if lane.failures <= _RETRY_AFTER_BELIEVED else max(asked, rest)  # "at once", again and again
        lane.resting_until_s = time.monotonic() + rest
        self._spool.to_disk()
        self._on_progress()
        said = "collector not reached with %s (%s); data are kept, next try in %.0f s"
        log_rationed(logging.WARNING, said, lane.name, problem(answer), rest)

    def _note_rejected(self, kind: int, rejected: int) -> None:
        if not rejected:
            return
        if kind == METRICS:
            self._ledger.measurements_lost(LossReason.REJECTED, rejected)
        else:
            self._ledger.lost(False, LossReason.REJECTED, rejected)
        log_rationed(logging.WARNING, "the collector took a request but rejected %d of its items", rejected)

"""A signed JSON webhook.

``FleetPulse-Signature: t=<unix s>,v1=<hex>`` with v1 = HMAC-SHA256 of ``<t>.<body>`` under the shared secret;
``FleetPulse-Id`` is the notice's id, the same for every attempt. Redirects are followed on the same origin only, and
only those that keep method and body: a receiver cannot send notices elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable
from typing import Final

import httpx

from alerts.ledger import canonical
from alerts.notify.base import Failed, Notice, Outcome, Retry, Sent, safe_label
from alerts.options import WebhookOptions

SIGNATURE_HEADER: Final = "FleetPulse-Signature"
ID_HEADER: Final = "FleetPulse-Id"
REDIRECTS_MAX: Final = 3
RETRY_STATUS: Final = frozenset({408, 425, 429})
PAYLOAD_VERSION: Final = 1


def signature(secret: str, timestamp_s: int, body: bytes) -> str:
    """Return the signature header's value for a body sent at ``timestamp_s`` (unix seconds)."""
    mac = hmac.new(secret.encode(), f"{timestamp_s}.".encode() + body, hashlib.sha256)
    return f"t={timestamp_s},v1={mac.hexdigest()}"


def payload(notice: Notice) -> bytes:
    """Return the JSON body of a notice; the same bytes for every attempt."""
    message = notice.message
    body = {
        "version": PAYLOAD_VERSION,
        "id": notice.id,
        "state": notice.state,
        "at_ns": notice.at_ns,
        "subject": message.subject,
        "short": message.short,
        "text": message.text,
        "facts": [{"label": label, "text": text} for label, text in message.facts],
        "alert": notice.alert,
    }
    return canonical(body).encode()


class Webhook:
    """Posts notices to one address; safe to use from one thread at a time."""

    def __init__(self, options: WebhookOptions, *, timeout_s: float, clock_ns: Callable[[], int]) -> None:
        self._url = httpx.URL(options.url)
        self._secret = options.secret
        self._clock_ns = clock_ns
        self._label = safe_label(f"webhook+{self._url.scheme}", options.url, self._url.host)
        self._client = httpx.Client(timeout=timeout_s, follow_redirects=False)
        # httpx logs every address it calls at INFO; a webhook's path is often its secret.
        library = logging.getLogger("httpx")
        if library.level == logging.NOTSET:
            library.setLevel(logging.WARNING)

    @property
    def label(self) -> str:
        """Return scheme, host and a short hash: neither path, query nor user of the address."""
        return self._label

    def send(self, notice: Notice) -> Outcome:
        """POST once, following same-origin redirects."""
        body = payload(notice)
        url = self._url
        for _ in range(REDIRECTS_MAX + 1):
            timestamp_s = self._clock_ns() // 1_000_000_000
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "fleetpulse-alerts",
                ID_HEADER: notice.id,
                SIGNATURE_HEADER: signature(self._secret, timestamp_s, body),
            }
            try:
                # Streamed: the answer's body is nobody's business and could be endless.
                with self._client.stream("POST", url, content=body, headers=headers) as answer:
                    status, location = answer.status_code, answer.headers.get("Location", "")
                    retry_after = answer.headers.get("Retry-After", "")
            except httpx.TransportError as error:
                return Retry(f"{type(error).__name__}: {error}"[:200])
            if status not in {307, 308} or not location:
                return _judged(status, retry_after)
            target = url.join(location)
            if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
                return Failed(f"answered {status}, a redirect to another origin, which is never followed")
            url = target
        return Failed(f"more than {REDIRECTS_MAX} redirects")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _judged(status: int, retry_after: str) -> Outcome:
    if 200 <= status < 300:
        return Sent()
    if status in RETRY_STATUS or status >= 500:
        return Retry(f"answered {status}", float(retry_after) if retry_after.isdigit() else None)
    return Failed(f"answered {status}; check the address and what it accepts")

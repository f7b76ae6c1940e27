"""HTTP: one keep-alive connection a URL, time limits on everything."""

from __future__ import annotations

import email.utils
import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from device_sdk.contract.settings import HEADER as SETTINGS_HEADER
from device_sdk.sending.http import exchange, request_bytes

RETRYABLE: Final = frozenset({408, 429, 502, 503, 504})
"""Answers that mean: the same bytes may be welcome later."""
MISCONFIGURED: Final = frozenset({401, 403, 404, 405, 407, 511})
"""Answers that a corrected token, address or network turns into success: the data are kept and offered again, slowly.

407 and 511 are a proxy's or a captive portal's; its redirects (3xx) are treated alike: no collector answered.
"""
_SETTINGS_HEADER: Final = SETTINGS_HEADER.lower()
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; ``status`` 0 means that nothing did, and ``error`` says why."""

    status: int
    body: bytes = b""
    retry_after_s: float | None = None
    error: str = ""
    content_type: str = ""
    settings_id: str = ""
    """Which remote settings the collector names for this device; empty when it names none."""


class Transport(Protocol):
    """Carries one request body to a URL."""

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        """Send and wait for the answer; never raise for what the network does."""
        ...

    def get(self, url: str, headers: Mapping[str, str], timeout_s: float, bytes_max: int) -> Answer:
        """Ask for a document of at most ``bytes_max`` bytes; never raise for what the network does."""
        ...

    def close(self) -> None:
        """Drop connections."""
        ...


class HttpTransport:
    """POST and GET; a connection that the server closed while idle is reopened once, silently."""

    def __init__(self, *, certificate: str | None = None) -> None:
        self._certificate = certificate
        self._connections: dict[tuple[str, str], http.client.HTTPConnection] = {}

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        """Send and wait for the answer; a failure of the network is an answer with status 0."""
        return self._exchange("POST", url, body, headers, timeout_s, ANSWER_BYTES_MAX)

    def get(self, url: str, headers: Mapping[str, str], timeout_s: float, bytes_max: int) -> Answer:
        """Ask for a document of at most ``bytes_max`` bytes (one more is read, to tell a longer one)."""
        return self._exchange("GET", url, None, headers, timeout_s, bytes_max + 1)

    def _exchange(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float, bytes_max: int
    ) -> Answer:
        parts = urlsplit(url)
        key = (parts.scheme, parts.netloc)
        target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        for reused in (key in self._connections, False):
            try:
                request = request_bytes(method, parts.netloc, target, headers, body)
                return self._attempt(key, request, timeout_s, bytes_max)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._drop(key)
                stale = isinstance(error, (ConnectionError, http.client.BadStatusLine))
                if not (reused and stale):
                    return Answer(0, error=f"{type(error).__name__}: {_without_values(error)}")
        return Answer(0, error="connection lost twice")

    def _attempt(self, key: tuple[str, str], request: bytes, timeout_s: float, bytes_max: int) -> Answer:
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = self._open(*key, timeout_s)
        response = exchange(connection.sock, request, time.monotonic() + timeout_s, bytes_max)
        if not response.reusable:
            self._drop(key)
        return Answer(
            response.status,
            response.body,
            _retry_after_s(response.headers.get("retry-after")),
            content_type=response.headers.get("content-type", "").lower(),
            settings_id=response.headers.get(_SETTINGS_HEADER, "")[:64],
        )

    def _open(self, scheme: str, netloc: str, timeout_s: float) -> http.client.HTTPConnection:
        if scheme == "https":
            context = ssl.create_default_context(cafile=self._certificate)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(netloc, context=context)
        else:
            connection = http.client.HTTPConnection(netloc)
        connection.timeout = timeout_s
        connection.connect()
        return connection

    def _drop(self, key: tuple[str, str]) -> None:
        connection = self._connections.pop(key, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Drop all connections."""
        for key in list(self._connections):
            self._drop(key)


def _without_values(error: Exception) -> str:
    """Return what went wrong; of a header that cannot be sent never the value, which may be a secret."""
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return "a header or the address holds characters that cannot be sent"
    return str(error)


def _retry_after_s(value: str | None) -> float | None:
    """Return the seconds a ``Retry-After`` header asks for, given as seconds or as a date."""
    if value is None:
        return None
    try:
        seconds = float(value)
        return seconds if seconds >= 0 else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):  # a year of twenty digits
        return None

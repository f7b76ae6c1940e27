"""HTTP by the standard library: one keep-alive connection a URL, time limits on everything."""

from __future__ import annotations

import email.utils
import functools
import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from device_sdk.contract.settings import HEADER as SETTINGS_HEADER

RETRYABLE: Final = frozenset({408, 429, 502, 503, 504})
"""Answers that mean: the same bytes may be welcome later."""
MISCONFIGURED: Final = frozenset({401, 403, 404, 405, 407, 511})
"""Answers that a corrected token, address or network turns into success: the data are kept and offered again, slowly.

407 and 511 are a proxy's or a captive portal's; its redirects (3xx) are treated alike: no collector answered.
"""
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


class _TimedReader(io.RawIOBase):
    """Reads until a deadline: a socket's own time limit begins anew with every byte that drips in."""

    def __init__(self, inner: io.RawIOBase, sock: socket.socket, deadline_s: float) -> None:
        self._inner = inner
        self._sock = sock
        self._deadline_s = deadline_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer did not come in time")
        self._sock.settimeout(left_s)
        return self._inner.readinto(buffer)

    def close(self) -> None:
        self._inner.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """A response that is whole by ``deadline_s`` (monotonic) or raises ``TimeoutError``."""

    def __init__(self, sock: socket.socket, *, deadline_s: float, **options: Any) -> None:
        super().__init__(sock, **options)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_TimedReader(raw, sock, deadline_s))


class HttpTransport:
    """POST and GET over ``http.client``; a connection that the server closed while idle is reopened once, silently."""

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
        path = parts.path or "/"
        if parts.query:
            path += "?" + parts.query
        for reused in (key in self._connections, False):
            try:
                return self._attempt(key, (method, path, body, dict(headers)), timeout_s, bytes_max)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._drop(key)
                stale = isinstance(error, (ConnectionError, http.client.BadStatusLine))
                if not (reused and stale):
                    return Answer(0, error=f"{type(error).__name__}: {_without_values(error)}")
        return Answer(0, error="connection lost twice")

    def _attempt(
        self,
        key: tuple[str, str],
        request: tuple[str, str, bytes | None, dict[str, str]],
        timeout_s: float,
        bytes_max: int,
    ) -> Answer:
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = self._open(*key)
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        deadline_s = time.monotonic() + timeout_s
        connection.response_class = functools.partial(_TimedResponse, deadline_s=deadline_s)  # type: ignore[assignment]
        connection.request(*request)
        response = connection.getresponse()
        data = response.read(bytes_max)
        if response.will_close or not response.isclosed():
            self._drop(key)
        retry_after_s = _retry_after_s(response.getheader("Retry-After"))
        return Answer(
            response.status,
            data,
            retry_after_s,
            content_type=response.getheader("Content-Type", "").lower(),
            settings_id=response.getheader(SETTINGS_HEADER, "")[:64],
        )

    def _open(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        if scheme == "https":
            context = ssl.create_default_context(cafile=self._certificate)
            return http.client.HTTPSConnection(netloc, context=context)
        return http.client.HTTPConnection(netloc)

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
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None

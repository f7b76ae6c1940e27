"""HTTP/1.1 over a kept connection, as little of it as sending needs: one write, and an answer that is whole in time.

The standard library's client writes headers and body apart and reads an answer through its e-mail parser: several times
the CPU of everything else that it takes to send a window. It still opens the connections (names, TLS) and names the
errors here.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPException, IncompleteRead, RemoteDisconnected
from typing import Final

_HEAD_BYTES_MAX: Final = 64 * 1024
_CHUNK: Final = 64 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: |$)")
_BODILESS: Final = frozenset({204, 304})
_UNSENDABLE: Final = re.compile(r"[\r\n\0]")
_TARGET: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: header names are lower case; ``reusable`` says whether the connection may carry another request."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    reusable: bool


def request_bytes(method: str, host: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return a request in one piece; ``ValueError`` when a header or the address holds what cannot be sent."""
    if not _TARGET.fullmatch(target):
        raise ValueError("the address holds characters that cannot be sent")
    named = host.rpartition("@")[2]
    named = named if named.isascii() else named.encode("idna").decode("ascii")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {named}", "Accept-Encoding: identity"]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    for name, value in headers.items():
        if not name or ":" in name or _UNSENDABLE.search(name) or _UNSENDABLE.search(value):
            raise ValueError("a header holds characters that cannot be sent")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + (body or b"")


def exchange(sock: socket.socket, request: bytes, deadline_s: float, bytes_max: int) -> Response:
    """Send a request and read its answer, at most ``bytes_max`` bytes of body, until ``deadline_s`` (monotonic).

    ``TimeoutError`` when time runs out, ``RemoteDisconnected`` when the connection was closed before any answer, other
    ``OSError`` and ``HTTPException`` for what else goes wrong.
    """
    sock.settimeout(_left_s(deadline_s))
    sock.sendall(request)
    return _Reader(sock, deadline_s).response(bytes_max)


def _left_s(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the answer did not come in time")
    return left_s


class _Reader:
    """Reads one answer; a socket's own time limit would begin anew with every byte that drips in."""

    def __init__(self, sock: socket.socket, deadline_s: float) -> None:
        self._sock = sock
        self._deadline_s = deadline_s
        self._held = bytearray()

    def response(self, bytes_max: int) -> Response:
        """Return the final answer; interim ones (1xx) are passed over."""
        if not self._more():
            raise RemoteDisconnected("closed without an answer")
        version, status, headers = self._head()
        while status < 200:
            version, status, headers = self._head()
        asked = headers.get("connection", "").lower()
        kept = "close" not in asked and (version == b"1" or "keep-alive" in asked)
        if status in _BODILESS:
            body, whole = b"", True
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            body, whole = self._chunked(bytes_max)
        elif "content-length" in headers:
            size = _size_of(headers["content-length"], 10)
            body, whole = self._exactly(min(size, bytes_max)), size <= bytes_max
        else:
            body, whole = self._to_the_end(bytes_max), False
        return Response(status, headers, body, kept and whole and not self._held)

    def _head(self) -> tuple[bytes, int, dict[str, str]]:
        first, *rest = self._until(b"\r\n\r\n", b"\n\n").splitlines() or [b""]
        found = _STATUS.match(first)
        if found is None:
            raise BadStatusLine("not HTTP/1.1")
        headers: dict[str, str] = {}
        for line in rest:
            name, colon, value = line.decode("latin-1").partition(":")
            if colon:
                headers.setdefault(name.strip().lower(), value.strip())
        return found[1], int(found[2]), headers

    def _chunked(self, bytes_max: int) -> tuple[bytes, bool]:
        parts: list[bytes] = []
        room = bytes_max
        while size := _size_of(self._until(b"\n").split(b";")[0].decode("latin-1"), 16):
            parts.append(self._exactly(min(size, room)))
            if size > room:
                return b"".join(parts), False
            room -= size
            self._until(b"\n")
        while self._until(b"\n").strip():  # trailers
            pass
        return b"".join(parts), True

    def _exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            if not self._more():
                raise IncompleteRead(b"", size - len(self._held))
        return self._take(size)

    def _to_the_end(self, bytes_max: int) -> bytes:
        while len(self._held) < bytes_max and self._more():
            pass
        return self._take(bytes_max)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    def _until(self, *ends: bytes) -> bytes:
        """Return what comes before the first of these ends, and pass over it."""
        while True:
            found = [(at, end) for end in ends if (at := self._held.find(end)) >= 0]
            if found:
                at, end = min(found)
                return self._take(at + len(end))[:at]
            if len(self._held) > _HEAD_BYTES_MAX:
                raise HTTPException("the answer's head is too long")
            if not self._more():
                raise IncompleteRead(b"")

    def _more(self) -> bool:
        self._sock.settimeout(_left_s(self._deadline_s))
        data = self._sock.recv(_CHUNK)
        self._held += data
        return bool(data)


def _size_of(text: str, base: int) -> int:
    try:
        size = int(text, base)
    except ValueError:
        size = -1
    if size < 0:
        raise HTTPException("the answer says no length that could be")
    return size

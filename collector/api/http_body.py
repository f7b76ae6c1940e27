"""Reading a request body under limits: size before and after decompression, memory, time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from collector.ingest.admission import Admission

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_GZIP: Final = 16 + zlib.MAX_WBITS
_MEMBERS_MAX: Final = 64
"""Most gzip members of a body. What follows a member is copied, so millions of empty ones would take hours."""
_DISCARD_BYTES_MAX: Final = 64 << 20
"""Most bytes of a refused body that are read and thrown away so that the client can read its answer."""


class RequestError(Exception):
    """A request gets a status other than 200; carries it and the sentence that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


class ClientGoneError(Exception):
    """The client hung up before its request was complete: there is nobody to answer."""


class Body:
    """The body of one request as it arrives."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._complete = False

    async def read(self, declared: str, *, bytes_max: int, timeout_s: float, admission: Admission) -> bytes:
        """Return the body as sent; the caller gives back ``len`` of it to ``admission``.

        ``declared`` is the Content-Length, '' when there is none. Raises ``RequestError`` 400 (bad length), 413 (too
        large), 503 (no memory for it now), 408 (too slow), and ``ClientGoneError``.
        """
        if declared:
            if not declared.isascii() or not declared.isdigit():
                raise RequestError(400, f"Content-Length {declared[:40]!r} is not a number")
            if len(declared) > 18 or int(declared) > bytes_max:
                raise RequestError(
                    413, f"the body has {declared[:40]} bytes, the limit is {bytes_max}; send smaller batches"
                )
        chunks: list[bytes] = []
        held = 0
        try:
            async with asyncio.timeout(timeout_s):
                while not self._complete:
                    chunk = await self._next()
                    if held + len(chunk) > bytes_max:
                        raise RequestError(413, f"the body has more than {bytes_max} bytes; send smaller batches")
                    if not admission.hold(len(chunk)):
                        raise RequestError(503, "too many request bodies are being received; send again later")
                    held += len(chunk)
                    chunks.append(chunk)
        except TimeoutError:
            admission.release(held)
            raise RequestError(408, f"the body did not arrive within {timeout_s:g} s") from None
        except BaseException:
            admission.release(held)
            raise
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def discard(self, timeout_s: float) -> bool:
        """Read the rest of a refused body, boundedly, so that its sender gets to read the answer.

        Return whether the connection can be used again.
        """
        seen = 0
        try:
            async with asyncio.timeout(timeout_s):
                while not self._complete and seen <= _DISCARD_BYTES_MAX:
                    seen += len(await self._next())
        except (TimeoutError, ClientGoneError):
            return False
        return self._complete

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        self._complete = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk


def gunzip(body: bytes, bytes_max: int) -> bytes:
    """Return the content of one or more (at most ``_MEMBERS_MAX``) gzip members.

    Stops as soon as the content exceeds ``bytes_max``, whatever it would have become. Raises ``RequestError`` 400
    (corrupt, truncated, or too many members) and 413.
    """
    parts: list[bytes] = []
    room = bytes_max + 1
    rest = body
    for _ in range(_MEMBERS_MAX):
        member = zlib.decompressobj(_GZIP)
        try:
            part = member.decompress(rest, room)
        except zlib.error as error:
            raise RequestError(400, f"Content-Encoding is gzip but the body is not: {error}") from None
        room -= len(part)
        if room <= 0:
            raise RequestError(413, f"the body is more than {bytes_max} bytes decompressed; send smaller batches")
        parts.append(part)
        if not member.eof:
            raise RequestError(400, "Content-Encoding is gzip but the body ends inside it; send it whole")
        rest = member.unused_data
        if not rest.strip(b"\0"):  # the format allows padding by zeros
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise RequestError(400, f"Content-Encoding is gzip with more than {_MEMBERS_MAX} members; compress the body as one")

"""How much one request may ask of a worker, whatever its size in bytes.

An empty message takes two bytes on the wire, some sixty in memory and microseconds to walk: 64 KiB of gzip can become
32 million of them. Points and envelopes are therefore counted before they are walked.
"""

from __future__ import annotations

from typing import Final

from collector.errors import StackError

ITEMS_MAX: Final = 500_000
"""Most points, records and envelopes together in one request; an OpenTelemetry Collector sends 8,192 by default."""

_SMALL_BYTES: Final = 2 * ITEMS_MAX
"""A body of fewer bytes cannot hold more items than that."""
_EMPTY_MESSAGES: Final = (b"\x0a\x00", b"\x12\x00")
"""An empty message as field 1 or 2, the numbers of all repeated messages down to the data points."""


class OversizedRequestError(StackError):
    """A request holds more items than one request may; the client has to send smaller batches."""


def spend(room: int, items: int) -> int:
    """Return what is left of ``room`` after ``items``; raises ``OversizedRequestError`` when they do not fit."""
    if items > room:
        raise OversizedRequestError(
            f"the request holds more than {ITEMS_MAX} points, records and envelopes; send smaller batches"
        )
    return room - items


def check_protobuf(body: bytes) -> None:
    """Refuse a body of mostly empty messages before the parser makes objects of them."""
    if len(body) > _SMALL_BYTES:
        spend(ITEMS_MAX, sum(body.count(message) for message in _EMPTY_MESSAGES))


def check_json(body: bytes) -> None:
    """Refuse a JSON body with more objects or arrays than items and their attributes can need."""
    if len(body) > _SMALL_BYTES:
        spend(20 * ITEMS_MAX, body.count(b"{") + body.count(b"["))

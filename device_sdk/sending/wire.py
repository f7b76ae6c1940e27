"""The few forms of protobuf's wire format that OTLP needs: varints, length-delimited fields, and attributes.

A message is the concatenation of its fields, so what repeats from window to window is kept as bytes and joined again.
Written here because building the same messages through the protobuf runtime costs several times as much.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from device_sdk.privacy import AttributeValue

_DOUBLE: Final = struct.Struct("<Bd")
_UINT64: Final = 0xFFFF_FFFF_FFFF_FFFF


def varint(number: int) -> bytes:
    """Return a number >= 0 in groups of seven bits, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SHORT: Final = tuple(varint(number) for number in range(4096))
"""Lengths and bucket counts as they mostly are."""


def length(size: int) -> bytes:
    """Return the varint of a size or count, which is mostly small."""
    return _SHORT[size] if size < len(_SHORT) else varint(size)


def zigzag(number: int) -> bytes:
    """Return a ``sint32``: small magnitudes are short, whatever their sign."""
    return length(number * 2 if number >= 0 else -number * 2 - 1)


def packed_counts(counts: Sequence[int]) -> bytes:
    """Return counts >= 0 as the content of a packed ``uint64`` field."""
    if len(counts) < 2 or max(counts) >= len(_SHORT):
        return b"".join([length(count) for count in counts])
    return b"".join(itemgetter(*counts)(_SHORT))  # a third of a loop's cost


def delimited(tag: int, *parts: bytes) -> bytes:
    """Return a length-delimited field; ``tag`` is the field's number times 8, plus 2, below 128."""
    return bytes((tag,)) + length(sum(map(len, parts))) + b"".join(parts)


def text(tag: int, value: str) -> bytes:
    """Return a string field, nothing for an empty one."""
    return delimited(tag, value.encode()) if value else b""


def attributes(tag: int, pairs: Iterable[tuple[str, AttributeValue]]) -> bytes:
    """Return a repeated ``KeyValue`` field."""
    return b"".join(delimited(tag, text(0x0A, key), delimited(0x12, _any(value))) for key, value in pairs)


def _any(value: AttributeValue) -> bytes:
    """Return the content of an ``AnyValue``."""
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + varint(value & _UINT64)
    if isinstance(value, float):
        return _DOUBLE.pack(0x21, value)
    if isinstance(value, tuple):
        return delimited(0x2A, *(delimited(0x0A, _any(item)) for item in value))
    return delimited(0x0A, value.encode())

"""The bytes of a spool file: a header, then records, each with its own CRC-32C. Version 1 files can still be read.

Version 2, little-endian::

    header  "FPSPOOL" 02 · salt u32 · covers u64 · boot 8 bytes · offset_ns i64 · crc32c u32 of what is before it
    record  "FPr2" · stored u32 · check u32 · kind u8 · priority u8 · flags u16 · windows u32 · stream u32 · size u32
            · stamp_ns i64 · payload of ``stored`` bytes
    check = crc32c(kind ... payload) XOR salt

The salt makes records of an earlier use of the same file invalid, and a run of zeros too. ``covers`` is the number of
the last file that this one stands for: compaction writes one file in the place of several, and a death between its
rename and their deletion must not bring them back. ``offset_ns`` is spool time minus boot time in the boot ``boot``.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO, Final, NamedTuple

from device_sdk.errors import SpoolFormatError
from device_sdk.spool.crc32c import crc32c

METRICS: Final = 0
LOGS: Final = 1

MAGIC_V1: Final = b"FPSPOOL\x01"
MAGIC: Final = b"FPSPOOL\x02"
HEADER: Final = struct.Struct("<8sIQ8sq")
HEADER_BYTES: Final = HEADER.size + 4
_MARK: Final = b"FPr2"
_FRAME: Final = struct.Struct("<4sII")
_FACTS: Final = struct.Struct("<BBHIIIq")
RECORD_HEAD_BYTES: Final = _FRAME.size + _FACTS.size
RECORD_BYTES_MAX: Final = 64 * 1024 * 1024
_RECORD_V1: Final = struct.Struct("<IIB")
_COMPRESSED: Final = 1
_TRIES_MAX: Final = 256


class Priority(IntEnum):
    """What is sent first and given up last."""

    CRASH = 0
    UPDATE = 1
    HEALTH = 2
    DISTRIBUTIONS = 3


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    salt: int
    covers: int
    boot: bytes
    offset_ns: int


class Facts(NamedTuple):
    """What is known of a request without reading it.

    ``windows`` is how many base windows it holds (0 for events), ``stream`` a checksum of the stream whose delta
    windows may be merged (0: never), ``stamp_ns`` the spool time of its newest part, ``size`` its bytes when read.
    """

    kind: int
    priority: int
    windows: int
    stream: int
    size: int
    stamp_ns: int


@dataclass(frozen=True, slots=True)
class Found:
    """A good record of a file: the payload is the ``stored`` bytes at ``offset``, deflated when ``compressed``.

    ``check`` is the checksum of facts and payload, None in version 1.
    """

    facts: Facts
    offset: int
    stored: int
    compressed: bool
    check: int | None


@dataclass(frozen=True, slots=True)
class Scan:
    """What a file holds: its header (None in version 1), the good records, how many were damaged, where it ends."""

    header: Header | None
    records: list[Found]
    damaged: int
    end: int


def pack_header(header: Header) -> bytes:
    """Return the first bytes of a file."""
    packed = HEADER.pack(MAGIC, header.salt, header.covers, header.boot, header.offset_ns)
    return packed + struct.pack("<I", crc32c(packed))


def pack_record(facts: Facts, payload: bytes, salt: int, *, compress: bool) -> bytes:
    """Return a record as it stands in a file with this salt; ``compress`` deflates the payload when that is shorter."""
    stored = zlib.compress(payload, 1) if compress else payload
    compressed = len(stored) < len(payload)
    if not compressed:
        stored = payload
    checked = (
        _FACTS.pack(
            facts.kind,
            facts.priority,
            _COMPRESSED if compressed else 0,
            facts.windows,
            facts.stream,
            facts.size,
            facts.stamp_ns,
        )
        + stored
    )
    return _FRAME.pack(_MARK, len(stored), crc32c(checked) ^ salt) + checked


def check_of(whole: bytes, salt: int) -> int:
    """Return the checksum of facts and payload of a packed record."""
    return int(_FRAME.unpack_from(whole)[2]) ^ salt


def read_stored(file: BinaryIO, offset: int, stored: int, check: int | None) -> bytes:
    """Return a payload as it is stored, nothing when the file does not hold what was written any more."""
    facts = 0 if check is None else _FACTS.size
    file.seek(offset - facts)
    data = file.read(facts + stored)
    return data[facts:] if check is None or crc32c(data) == check else b""


def unpack(stored: bytes, compressed: bool, size: int) -> bytes | None:
    """Return a payload as it was given, None when it is not what the record says."""
    if compressed:
        try:
            stored = zlib.decompressobj().decompress(stored, size + 1)
        except zlib.error:
            return None
    return stored if len(stored) == size else None


def scan(data: bytes, *, finished: bool = True) -> Scan:
    """Return what a file of these bytes holds; raise ``SpoolFormatError`` when it is of another format or version.

    A torn tail is not damage. In a file that was not ``finished`` neither is anything behind its last good record.
    """
    magic = data[: len(MAGIC)]
    if magic == MAGIC_V1:
        return _scan_v1(data)
    if magic != MAGIC[: len(magic)]:
        raise SpoolFormatError(f"header {magic!r} is not {MAGIC!r}: zeros, of another program, or of a newer version")
    if len(data) < HEADER_BYTES:
        return Scan(None, [], 0, 0)
    _magic, salt, covers, boot, offset_ns = HEADER.unpack_from(data)
    if struct.unpack_from("<I", data, HEADER.size)[0] != crc32c(data[: HEADER.size]):
        raise SpoolFormatError("the header's checksum is wrong: the file cannot be read")
    records, damaged, end = _records(data, salt, finished=finished)
    return Scan(Header(salt, covers, boot, offset_ns), records, damaged, end)


def _records(data: bytes, salt: int, *, finished: bool) -> tuple[list[Found], int, int]:
    found: list[Found] = []
    damaged, at = 0, HEADER_BYTES
    while at < len(data):
        record = _record_at(data, at, salt)
        if record is not None:
            found.append(record)
            at = record.offset + record.stored
            continue
        following = _next_good(data, at + 1, salt)
        if following is None:
            torn = _reaches_the_end(data, at)
            return found, damaged + (finished and not torn), at
        damaged, at = damaged + 1, following
    return found, damaged, at


def _record_at(data: bytes, at: int, salt: int) -> Found | None:
    if data[at : at + len(_MARK)] != _MARK or at + RECORD_HEAD_BYTES > len(data):
        return None
    _mark, stored, check = _FRAME.unpack_from(data, at)
    begin = at + RECORD_HEAD_BYTES
    if stored > RECORD_BYTES_MAX or begin + stored > len(data):
        return None
    if crc32c(data[at + _FRAME.size : begin + stored]) ^ salt != check:
        return None
    kind, priority, flags, windows, stream, size, stamp_ns = _FACTS.unpack_from(data, at + _FRAME.size)
    facts = Facts(kind, min(priority, max(Priority)), windows, stream, size, stamp_ns)
    return Found(facts, begin, stored, bool(flags & _COMPRESSED), check ^ salt) if kind in (METRICS, LOGS) else None


def _next_good(data: bytes, at: int, salt: int) -> int | None:
    """Return where the next good record begins: a wrong length must not cost what is behind it."""
    for _ in range(_TRIES_MAX):
        at = data.find(_MARK, at)
        if at < 0 or _record_at(data, at, salt) is not None:
            return at if at >= 0 else None
        at += 1
    return None


def _reaches_the_end(data: bytes, at: int) -> bool:
    """Say whether what begins at ``at`` is a write that was cut off: too short for what it says, or only zeros."""
    rest = data[at:]
    if not rest.strip(b"\0") or len(rest) < RECORD_HEAD_BYTES:
        return True
    mark, stored, _check = _FRAME.unpack_from(rest)
    return bool(mark == _MARK and stored <= RECORD_BYTES_MAX and RECORD_HEAD_BYTES + stored > len(rest))


def _scan_v1(data: bytes) -> Scan:
    """Read a file of version 1: records of ``length, crc32, kind, payload``; nothing of them may be merged."""
    found: list[Found] = []
    damaged, at = 0, len(MAGIC_V1)
    while at + _RECORD_V1.size <= len(data):
        size, check, kind = _RECORD_V1.unpack_from(data, at)
        begin = at + _RECORD_V1.size
        if not data[at:].strip(b"\0"):
            break
        if size > RECORD_BYTES_MAX or kind not in (METRICS, LOGS):
            return Scan(None, found, damaged + 1, at)  # the framing itself is broken: nothing behind it can be trusted
        if begin + size > len(data):
            break
        if zlib.crc32(data[begin : begin + size], kind) == check:
            priority = Priority.CRASH if kind == LOGS else Priority.DISTRIBUTIONS
            found.append(Found(Facts(kind, priority, int(kind == METRICS), 0, size, 0), begin, size, False, None))
        else:
            damaged += 1
        at = begin + size
    return Scan(None, found, damaged, at)

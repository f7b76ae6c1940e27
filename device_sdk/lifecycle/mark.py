"""The mark that a running session leaves on disk, and how the next start reads it.

The mark is a fixed part of the file ``session`` that is overwritten in place at every window. Two slots are written in
turn, each with a checksum, so that a torn write costs one heartbeat and nothing else.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Final

from device_sdk.contract.attributes import EndReason
from device_sdk.errors import guard
from device_sdk.lifecycle.state import StateDir
from device_sdk.privacy import AttributeValue

_MAGIC: Final = b"FPMARK\x00\x01"
_SLOT: Final = struct.Struct("<QqqqqqB?32s64s")
_SLOT_BYTES: Final = 256
_SLOTS_AT: Final = 16
_HEADERS_AT: Final = (1024, 1024 + (1 << 16))
_HEADER: Final = struct.Struct("<IIQ")
_CHECK: Final = struct.Struct("<I")
_REASONS: Final = tuple(EndReason)


@dataclass(slots=True)
class Vital:
    """The part of a mark that changes while the session lives; ``end`` is declared, ``told`` once its end is."""

    last_sign_ns: int
    last_sequence: int = -1
    unsent_windows: int = 0
    events: int = 0
    observed_ns: int = 0
    end: EndReason | None = None
    told: bool = False
    exception_type: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class SessionHeader:
    """The part of a mark that seldom changes."""

    session_id: str
    instance_id: str
    boot_id: str
    started_ns: int
    window_ns: int
    resource: dict[str, AttributeValue] = field(default_factory=dict)
    memory_group: str = ""
    fatal: tuple[str, str] | None = None
    """Where the fatal signals of the process are noted: directory and stream id of its first Monitor."""


class Mark:
    """Writes the mark of the session that runs."""

    def __init__(self, state: StateDir, header: SessionHeader) -> None:
        self._state = state
        self._generation = 0
        self._headers = 0
        with guard("writing the session mark"):
            state.write_mark(_MAGIC.ljust(_SLOTS_AT, b"\0") + bytes(_SLOT_BYTES * 2), 0)
            for place in _HEADERS_AT:
                state.write_mark(bytes(_HEADER.size), place)
        self.write_header(header)

    def write_header(self, header: SessionHeader) -> None:
        """Write the part that seldom changes, beside the one that is valid until then."""
        body = json.dumps(
            {
                "session_id": header.session_id,
                "instance_id": header.instance_id,
                "boot_id": header.boot_id,
                "started_ns": header.started_ns,
                "window_ns": header.window_ns,
                "memory_group": header.memory_group,
                "fatal": header.fatal,
                "resource": {key: list(v) if isinstance(v, tuple) else v for key, v in header.resource.items()},
            }
        ).encode()
        self._headers += 1
        head = _HEADER.pack(len(body), zlib.crc32(body), self._headers)
        with guard("writing the session mark"):
            self._state.write_mark(head + body, _HEADERS_AT[self._headers % 2])

    def write(self, vital: Vital) -> None:
        """Overwrite the older slot with what is true now."""
        self._generation += 1
        packed = _SLOT.pack(
            self._generation,
            vital.last_sign_ns,
            vital.last_sequence,
            vital.unsent_windows,
            vital.events,
            vital.observed_ns,
            0 if vital.end is None else 1 + _REASONS.index(vital.end),
            vital.told,
            vital.signature.encode()[:32],
            vital.exception_type.encode("ascii", "replace")[:64],
        )
        at = _SLOTS_AT + _SLOT_BYTES * (self._generation % 2)
        with guard("writing the session mark"):
            self._state.write_mark(packed + _CHECK.pack(zlib.crc32(packed)), at)


def read_session(data: bytes) -> tuple[SessionHeader, Vital] | None:
    """Return the session a mark tells of, None when there is none or it cannot be read."""
    bodies = [found for place in _HEADERS_AT if (found := _read_header(data, place)) is not None]
    if not data.startswith(_MAGIC) or not bodies:
        return None
    body = max(bodies)[1]
    vitals = [vital for slot in range(2) if (vital := _read_slot(data, slot)) is not None]
    if not vitals:
        return None
    try:
        stored = json.loads(body)
        header = SessionHeader(
            session_id=str(stored["session_id"]),
            instance_id=str(stored["instance_id"]),
            boot_id=str(stored["boot_id"]),
            started_ns=int(stored["started_ns"]),
            window_ns=int(stored["window_ns"]),
            resource={k: tuple(v) if isinstance(v, list) else v for k, v in stored["resource"].items()},
            memory_group=str(stored.get("memory_group", "")),
            fatal=_pair_of(stored.get("fatal")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return header, max(vitals, key=lambda pair: pair[0])[1]


def _read_header(data: bytes, place: int) -> tuple[int, bytes] | None:
    if len(data) < place + _HEADER.size:
        return None
    length, check, generation = _HEADER.unpack_from(data, place)
    body = data[place + _HEADER.size : place + _HEADER.size + length]
    if generation == 0 or len(body) != length or zlib.crc32(body) != check:
        return None
    return generation, body


def _pair_of(stored: object) -> tuple[str, str] | None:
    if isinstance(stored, list) and len(stored) == 2:
        return str(stored[0]), str(stored[1])
    return None


def _read_slot(data: bytes, slot: int) -> tuple[int, Vital] | None:
    at = _SLOTS_AT + _SLOT_BYTES * slot
    packed = data[at : at + _SLOT.size]
    stored = data[at + _SLOT.size : at + _SLOT.size + _CHECK.size]
    if len(packed) < _SLOT.size or stored != _CHECK.pack(zlib.crc32(packed)):
        return None
    generation, sign, sequence, unsent, events, observed, end, told, signature, kind = _SLOT.unpack(packed)
    if generation == 0 or end > len(_REASONS):
        return None
    vital = Vital(
        last_sign_ns=sign,
        last_sequence=sequence,
        unsent_windows=unsent,
        events=events,
        observed_ns=observed,
        end=_REASONS[end - 1] if end else None,
        told=told,
        exception_type=kind.rstrip(b"\0").decode("ascii", "replace"),
        signature=signature.rstrip(b"\0").decode("ascii", "replace"),
    )
    return generation, vital

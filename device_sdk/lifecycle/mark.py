"""Sessions: the mark a running session leaves, what a dead one's mark tells, and the taxonomy of ends.

The mark is a fixed part of the file ``session`` that is overwritten in place at every window. Two slots are written in
turn, each with a checksum, so that a torn write costs one heartbeat and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import traceback
import weakref
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract import events as e
from device_sdk.contract.attributes import EXPECTED_ENDS, EndReason
from device_sdk.errors import guard
from device_sdk.lifecycle.state import StateDir
from device_sdk.points import EventAttributes
from device_sdk.privacy import AttributeValue

_MAGIC: Final = b"FPMARK\x00\x01"
_SLOT: Final = struct.Struct("<QqqqqqB?32s64s")
_SLOT_BYTES: Final = 256
_SLOTS_AT: Final = 16
_HEADER_AT: Final = 1024
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
    """The part of a mark that a session writes once."""

    session_id: str
    instance_id: str
    boot_id: str
    started_ns: int
    window_ns: int
    resource: dict[str, AttributeValue] = field(default_factory=dict)


class Mark:
    """Writes the mark of the session that runs."""

    def __init__(self, state: StateDir, header: SessionHeader) -> None:
        self._state = state
        self._generation = 0
        body = json.dumps(
            {
                "session_id": header.session_id,
                "instance_id": header.instance_id,
                "boot_id": header.boot_id,
                "started_ns": header.started_ns,
                "window_ns": header.window_ns,
                "resource": {key: list(v) if isinstance(v, tuple) else v for key, v in header.resource.items()},
            }
        ).encode()
        blank = bytes(_SLOT_BYTES * 2)
        with guard("writing the session mark"):
            state.write_mark(_MAGIC.ljust(_SLOTS_AT, b"\0") + blank, 0)
            state.write_mark(struct.pack("<II", len(body), zlib.crc32(body)) + body, _HEADER_AT)

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


@dataclass(frozen=True, slots=True)
class DeadSession:
    """The session before this one, as its mark left it, without a clean end."""

    header: SessionHeader
    vital: Vital

    def reason(self, boot_id: str) -> EndReason:
        """Return what is known of its end: declared or recorded, else the boot changed under it, else unknown."""
        if self.vital.end is not None:
            return self.vital.end
        return EndReason.POWER_LOSS if self.header.boot_id != boot_id else EndReason.UNKNOWN


def read_session(data: bytes) -> tuple[SessionHeader, Vital] | None:
    """Return the session a mark tells of, None when there is none or it cannot be read."""
    if not data.startswith(_MAGIC) or len(data) < _HEADER_AT + 8:
        return None
    length, check = struct.unpack_from("<II", data, _HEADER_AT)
    body = data[_HEADER_AT + 8 : _HEADER_AT + 8 + length]
    if len(body) != length or zlib.crc32(body) != check:
        return None
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
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return header, max(vitals, key=lambda pair: pair[0])[1]


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


def end_attributes(reason: EndReason, vital: Vital, *, duration_ns: int, accuracy_ns: int) -> EventAttributes:
    """Return the attributes of a ``session.end`` event."""
    attributes: EventAttributes = [
        (a.SESSION_END_REASON, str(reason)),
        (a.SESSION_END_EXPECTED, reason in EXPECTED_ENDS),
        (a.SESSION_DURATION, max(0, duration_ns) / 1e9),
        (a.SESSION_END_ACCURACY, accuracy_ns / 1e9),
    ]
    if vital.last_sequence >= 0:
        attributes.append((a.SESSION_LAST_SEQUENCE, vital.last_sequence))
    return attributes


def end_severity(reason: EndReason) -> int:
    """Return the severity of a ``session.end``: INFO when somebody asked for it, WARN otherwise."""
    return int(e.Severity.INFO if reason in EXPECTED_ENDS else e.Severity.WARN)


def is_crash(reason: EndReason) -> bool:
    """Say whether an end of this reason is also an ``app.crash``."""
    return reason in (EndReason.EXCEPTION, EndReason.NATIVE_CRASH)


def crash_attributes(crash_id: str, vital: Vital) -> EventAttributes:
    """Return the attributes of an ``app.crash`` event: a type and a hash, never a message or a stack."""
    attributes: EventAttributes = [(a.CRASH_ID, crash_id)]
    if vital.exception_type:
        attributes.append(("exception.type", vital.exception_type))
    if vital.signature:
        attributes.append((a.CRASH_SIGNATURE, vital.signature))
    return attributes


def crash_signature(kind: type[BaseException], trace: TracebackType | None) -> str:
    """Return 16 hex digits that are the same for the same way to crash: type, file names and functions, no values."""
    frames = [f"{Path(frame.filename).name}:{frame.name}" for frame in traceback.extract_tb(trace)[-16:]]
    return hashlib.sha256("|".join([exception_name(kind), *frames]).encode()).hexdigest()[:16]


def exception_name(kind: type[BaseException]) -> str:
    """Return the qualified name of an exception's class."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


ExceptionListener = Callable[[type[BaseException], "TracebackType | None"], None]
_listeners: weakref.WeakSet[ExceptionSink] = weakref.WeakSet()
_previous_hook = None
_first_hook = None
_telling = False


class ExceptionSink:
    """Something that wants to know of the exception that ends the program."""

    def exception_ends_program(self, kind: type[BaseException], trace: TracebackType | None) -> None:
        """Take note of it, quickly."""
        raise NotImplementedError


def listen_for_exceptions(sink: ExceptionSink) -> None:
    """Tell ``sink`` of uncaught exceptions of the main thread; the host's own hook runs afterwards as ever."""
    global _previous_hook, _first_hook
    _listeners.add(sink)
    if sys.excepthook is not _hook:
        _previous_hook = sys.excepthook
        _first_hook = _first_hook or _previous_hook
        sys.excepthook = _hook


def stop_listening(sink: ExceptionSink) -> None:
    """Stop telling ``sink``; the last one out puts the previous hook back unless somebody hooked in after us."""
    _listeners.discard(sink)
    if not _listeners and sys.excepthook is _hook and _previous_hook is not None:
        sys.excepthook = _previous_hook


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    global _telling
    if _telling:  # the previous hook was itself put over ours, and hands the exception on to what it found
        (_first_hook or sys.__excepthook__)(kind, error, trace)
        return
    _telling = True
    try:
        if not issubclass(kind, (KeyboardInterrupt, SystemExit)):
            for sink in list(_listeners):
                with guard("recording an uncaught exception"):
                    sink.exception_ends_program(kind, trace)
        (_previous_hook or sys.__excepthook__)(kind, error, trace)
    finally:
        _telling = False

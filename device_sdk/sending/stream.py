"""A stream: the identity of one process (or forked child), its numbered windows and its numbered events."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Callable, Iterable

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import ClockSource
from device_sdk.contract.events import Event
from device_sdk.ledger import Ledger
from device_sdk.points import EventAttributes, Points
from device_sdk.privacy import Account, AttributeValue, Gate
from device_sdk.sending.otlp import Encoder

Emitter = Callable[[Points], None]


class Stream:
    """Encodes windows and events under one ``service.instance.id``; the caller serialises calls."""

    def __init__(self, resource: dict[str, AttributeValue], gate: Gate, *, started_ns: int) -> None:
        self.instance_id = str(uuid.uuid4())
        self.session_id = str(uuid.uuid4())
        self.resource = {**resource, a.SERVICE_INSTANCE_ID: self.instance_id}
        self._gate = gate
        self.started_ns = started_ns
        self.window_start_ns = started_ns
        self.next_sequence = 0
        self.ending = False
        self.next_event = 0
        self.checksum = checksum_of(self.instance_id)
        self._encoder: Encoder | None = None

    @property
    def encoder(self) -> Encoder:
        """The encoder of this stream's resource, made on first use (it imports protobuf)."""
        if self._encoder is None:
            self._encoder = Encoder(self.resource)
        return self._encoder

    def relabel(self, resource: dict[str, AttributeValue]) -> None:
        """Let windows and events carry another resource from here on."""
        self.resource = {**resource, a.SERVICE_INSTANCE_ID: self.instance_id}
        self._encoder = None

    def close_window(self, end_ns: int, observed_ns: int, ledger: Ledger, emitters: Iterable[Emitter]) -> bytes:
        """Return the window ``(start, end_ns]`` as bytes and begin the next one at ``end_ns``."""
        measured = Points()
        for emit in emitters:
            emit(measured)
        points = self._gate.window(measured, ledger, last=self.ending)
        points.add(m.SESSION_TIME.name, observed_ns / 1e9)
        ledger.emit(points)
        points.add(m.WINDOW_SEQUENCE.name, self.next_sequence)
        points.add(m.WINDOW_COUNT.name, 1)
        points.add(m.WINDOW_POINTS.name, points.count + 1)
        encoded = self.encoder.window(points, self.window_start_ns, end_ns)
        self.window_start_ns = end_ns
        self.next_sequence += 1
        return encoded

    def event(
        self,
        event: Event,
        attributes: EventAttributes,
        account: Account,
        *,
        time_ns: int,
        severity: int | None = None,
    ) -> bytes | None:
        """Return one event of this session as bytes, None when the gate does not let it pass."""
        admitted = self._gate.event(event, attributes, account)
        if admitted is None:
            return None
        encoded = encode_event(
            self.encoder,
            event,
            admitted,
            instance_id=self.instance_id,
            session_id=self.session_id,
            number=self.next_event,
            time_ns=time_ns,
            observed_ns=time_ns,
            severity=severity,
        )
        self.next_event += 1
        return encoded

    def envelope(self, stream_ns: int, offset_ns: int, source: ClockSource) -> bytes:
        """Return the envelope of one attempt to send: wall clock minus stream clock at this moment."""
        points = Points()
        points.add(m.CLOCK_OFFSET.name, offset_ns / 1e9, ((a.CLOCK_SOURCE, str(source)),))
        return self.encoder.window(points, stream_ns, stream_ns)


def checksum_of(instance_id: str) -> int:
    """Return the number by which the spool tells the windows of one stream from others', never 0."""
    return zlib.crc32(instance_id.encode()) or 1


def encode_event(
    encoder: Encoder,
    event: Event,
    attributes: EventAttributes,
    *,
    instance_id: str,
    session_id: str,
    number: int,
    time_ns: int,
    observed_ns: int,
    severity: int | None = None,
) -> bytes:
    """Return one event as bytes; its ``log.record.uid`` makes a second copy recognisable."""
    common: EventAttributes = [
        (a.LOG_RECORD_UID, f"{instance_id}:{number}"),
        (a.EVENT_SEQUENCE, number),
        (a.SESSION_ID, session_id),
    ]
    return encoder.event(
        event.name,
        int(event.severity) if severity is None else severity,
        [*common, *attributes],
        time_ns=time_ns,
        observed_ns=observed_ns,
    )

"""Queued requests and their queues by kind and priority; the spool's lock is held around every call."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from device_sdk.contract.attributes import LossReason
from device_sdk.ledger import Losses
from device_sdk.spool.format import LOGS, METRICS, Facts, Priority, Scan
from device_sdk.spool.segment import Place, Segment


class Record:
    """One queued request: its bytes are in memory, or at a place on disk, or both; a ``gone`` one waits no more.

    ``apart``: it was tried to merge it into the record before it, and they do not fit together.
    """

    __slots__ = ("apart", "facts", "gone", "in_flight", "losses", "offered", "payload", "place")

    def __init__(
        self, facts: Facts, payload: bytes | None, place: Place | None = None, losses: Losses | None = None
    ) -> None:
        self.facts = facts
        self.payload = payload
        self.place = place
        self.losses: Losses = losses or {}
        self.offered = place is not None and place.segment.offered
        self.in_flight = False
        self.gone = False
        self.apart = False

    @property
    def size(self) -> int:
        """Bytes of the request."""
        return self.facts.size

    @property
    def mergeable(self) -> bool:
        """Whether this may still become part of a neighbour: nobody outside has seen it."""
        return bool(self.facts.stream) and not (self.offered or self.in_flight or self.gone)

    def read(self) -> bytes | None:
        """Return the bytes, None when the disk cannot give them any more; needs no lock."""
        payload = self.payload
        if payload is not None:
            return payload
        return self.place.read(self.facts.size) if self.place is not None else None


@dataclass(frozen=True, slots=True)
class Reports:
    """Whom the spool tells what it lost: (kind, reason, count), and the losses that a lost window would have told."""

    lost: Callable[[int, LossReason, int], None] = lambda _kind, _reason, _count: None
    untold: Callable[[Losses], None] = lambda _losses: None
    segments_corrupt: Callable[[int], None] = lambda _count: None


class Queues:
    """All records that wait, oldest first in each class, and the sums over them."""

    def __init__(self) -> None:
        self._queues: list[list[deque[Record]]] = [[deque() for _ in Priority] for _ in (METRICS, LOGS)]
        self.waiting = [0, 0]
        self.memory_bytes = 0
        self.volatile_windows = 0

    def add(self, record: Record) -> None:
        """Queue a record behind those of its class."""
        self._queues[record.facts.kind][record.facts.priority].append(record)
        self.waiting[record.facts.kind] += 1
        if record.payload is not None:
            self.memory_bytes += record.size
        if record.place is None:
            self.volatile_windows += record.facts.windows

    def placed(self, record: Record, place: Place | None) -> None:
        """Note that a record now stands on disk, or no longer does."""
        self.volatile_windows += record.facts.windows * ((place is None) - (record.place is None))
        record.place = place
        if place is not None:
            record.losses = {}

    def moved(self, record: Record, facts: Facts, place: Place) -> None:
        """Note that a record on disk was written anew, maybe with what was merged into it."""
        self.let_go_of_copy(record)
        record.facts, record.place = facts, place

    def let_go_of_copy(self, record: Record) -> None:
        """Drop the copy in memory of a record that stands on disk."""
        if record.payload is not None and record.place is not None:
            record.payload = None
            self.memory_bytes -= record.size

    def changed(self, record: Record, facts: Facts, payload: bytes) -> None:
        """Give a volatile record the content of a merger; the records merged into it are removed by themselves."""
        self.memory_bytes += facts.size - record.size
        self.volatile_windows += facts.windows - record.facts.windows
        record.facts, record.payload = facts, payload

    def remove(self, record: Record) -> None:
        """Take a record out of the sums; its queue forgets it by and by."""
        if record.gone:
            return
        record.gone = True
        self.waiting[record.facts.kind] -= 1
        if record.payload is not None:
            self.memory_bytes -= record.size
        if record.place is None:
            self.volatile_windows -= record.facts.windows
        record.payload = None
        queue = self._queues[record.facts.kind][record.facts.priority]
        while queue and queue[0].gone:
            queue.popleft()

    def tidy(self) -> None:
        """Forget removed records wherever they stand."""
        for kind in self._queues:
            for priority, queue in enumerate(kind):
                if any(record.gone for record in queue):
                    kind[priority] = deque(record for record in queue if not record.gone)

    def of(self, kind: int) -> Iterator[Record]:
        """Go through the records of a kind that wait, crashes first, oldest first in each class."""
        for queue in self._queues[kind]:
            for record in queue:
                if not record.gone:
                    yield record

    def __iter__(self) -> Iterator[Record]:
        for kind in (METRICS, LOGS):
            yield from self.of(kind)

    def victims(self) -> Iterator[Record]:
        """Go through what may be given up: the lowest class first, oldest first in it, nothing that is being sent."""
        for priority in sorted(Priority, reverse=True):
            for kind in (METRICS, LOGS):
                for record in self._queues[kind][priority]:
                    if not (record.gone or record.in_flight):
                        yield record

    def oldest_stamp_ns(self) -> int | None:
        """Return the smallest spool time of what waits."""
        heads = [q[0].facts.stamp_ns for kind in self._queues for q in kind if q]
        return min(heads, default=None)


def records_of(segment: Segment, scanned: Scan | None, now_ns: int) -> list[Record]:
    """Return the records of a file that an earlier process left, none when it could not be scanned."""
    records = []
    for found in scanned.records if scanned is not None else ():
        facts = found.facts
        if scanned is not None and scanned.header is None:  # version 1 knew no age: it begins now
            facts = Facts(facts.kind, facts.priority, facts.windows, facts.stream, facts.size, now_ns)
        records.append(Record(facts, None, Place(segment, found.offset, found.stored, found.compressed, found.check)))
    return records

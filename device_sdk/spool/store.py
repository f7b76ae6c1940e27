"""Store and forward: a bounded queue of encoded windows and events, in memory first, on disk when that must be.

A request waits in memory until the spool is durable, the collector out of reach or memory above its limit; then it is
written to a file. When room runs out, neighbouring windows of a stream that were never offered to the network are
merged, so that time coarsens and counts stay; only when nothing can be merged the oldest of the lowest priority class
is given up, and counted. A request that was once offered keeps its bytes for ever.

Two locks: ``_lock`` guards the queues and is never held while the disk syncs or windows merge, because the host's
threads may wait for it; ``_slow`` makes what is slow happen one at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from device_sdk.contract.attributes import LossReason
from device_sdk.ledger import Losses
from device_sdk.limits import Limits
from device_sdk.spool.budget import Budget
from device_sdk.spool.files import SEGMENT_BYTES, Files
from device_sdk.spool.format import METRICS, Facts, Priority, Scan
from device_sdk.spool.records import Queues, Record, Reports, records_of
from device_sdk.spool.segment import Segment
from device_sdk.spool.upkeep import Upkeep

_LOWEST: Final = (Priority.DISTRIBUTIONS, Priority.HEALTH)
_DISK_PAUSE_NS: Final = 30_000_000_000
_LOOK_NS: Final = 5_000_000_000
"""How often ``settle`` looks for what is too old and for files that somebody deleted."""
_SOFT_SHARE: Final = 0.85
_ROOMY_SHARE: Final = 0.65
"""Shares of a limit above which, and down to which, room is made: rarely, and before the limit itself is met."""


class Spool:
    """The queue. Thread-safe; never raises for what the disk does, but counts it by loss reason."""

    def __init__(
        self,
        directory: Path | None,
        limits: Limits,
        *,
        durable: bool = False,
        reports: Reports | None = None,
        boot_ns: Callable[[], int] = time.monotonic_ns,
        boot: bytes = bytes(8),
    ) -> None:
        self.limits = limits
        self.writing = Budget(limits.written_bytes_per_day, boot_ns)
        self.sending = Budget(limits.sent_bytes_per_day, boot_ns)
        self._durable = durable
        self._reports = reports or Reports()
        self._boot_ns = boot_ns
        self._offset_ns = 0
        self._lock = threading.RLock()
        self._slow = threading.RLock()
        self._queues = Queues()
        self._disk_rests_until_ns = 0
        self._postponed = False
        self._looked_ns = 0
        self._files: Files | None = None
        if directory is not None:
            self._files = Files(directory, max(4096, min(SEGMENT_BYTES, limits.disk_bytes // 16)))
        self._upkeep = Upkeep(self._queues, self._files, self._lock, self._reports)
        if self._files is not None:
            self._load(self._files, boot)

    # --- what the rest of the SDK asks for --------------------------------------------------------------------

    def put(
        self,
        kind: int,
        payload: bytes,
        *,
        priority: Priority | None = None,
        stream: int = 0,
        losses: Losses | None = None,
        durable: bool = False,
    ) -> None:
        """Queue one request; on disk at once when ``durable`` or the spool is (``settle`` brings it to the medium).

        ``priority`` is by default the lowest for metrics and ``HEALTH`` for events. ``stream`` is a checksum of the
        stream whose delta window this is (it may be merged with its neighbours), 0 when it is anything else.
        """
        chosen = priority if priority is not None else _LOWEST[kind]
        facts = Facts(kind, chosen, int(kind == METRICS), stream, len(payload), self._boot_ns() + self._offset_ns)
        with self._lock:
            record = Record(facts, payload, losses=losses)
            self._queues.add(record)
            if durable or self._durable:
                self._write([record], compress=False)
                self._postponed = self._postponed or record.place is None
        if self._queues.memory_bytes > self.limits.memory_bytes:
            self.settle()

    def head(self, kind: int, bytes_max: int, *, offered_only: bool = False) -> list[Record]:
        """Return the first records of a kind that fit together into ``bytes_max`` (at least one, if there is any).

        Crashes come first, then by class, the oldest first in each. ``offered_only``: only what was offered before, if
        anything was; while the collector is away nothing else becomes unchangeable.
        """
        chosen: list[Record] = []
        total = 0
        with self._lock:
            restricted = offered_only and any(record.offered for record in self._queues.of(kind))
            for record in self._queues.of(kind):
                if restricted and not record.offered:
                    continue
                total += record.size
                if chosen and total > bytes_max:
                    break
                chosen.append(record)
        return chosen

    def offer(self, records: Iterable[Record]) -> list[Record]:
        """Promise, on the medium, never to change these records; return those that still wait. Then they may be sent.

        They stay in flight, and so untouched, until ``done`` or ``keep``.
        """
        with self._slow:
            with self._lock:
                alive = [record for record in records if not record.gone]
                segments = []
                for record in alive:
                    record.offered = record.in_flight = True
                    if record.place is not None:
                        record.place.segment.offered = True
                        segments.append(record.place.segment)
            if self._files is not None:
                try:
                    self._files.offer(segments)
                except OSError as error:
                    self._disk_refused(error)
        return alive

    def keep(self, records: Iterable[Record]) -> None:
        """Go on keeping records that were offered in vain."""
        with self._lock:
            for record in records:
                record.in_flight = False

    def done(self, records: Iterable[Record]) -> int:
        """Remove records that were acknowledged or given up and return how many were still queued.

        Files whose records are all done are deleted.
        """
        with self._lock:
            alive = [record for record in records if not record.gone]
            for record in alive:
                self._upkeep.forget(record)
            return len(alive)

    def give_up(self, record: Record, reason: LossReason) -> None:
        """Drop a record that cannot be delivered, and count what is lost with it."""
        self._upkeep.give_up(record, reason)

    def first_priority(self, kind: int) -> Priority | None:
        """Return the class of what would be sent first of a kind, None when nothing waits."""
        with self._lock:
            first = next(self._queues.of(kind), None)
        return Priority(first.facts.priority) if first is not None else None

    def now_ns(self) -> int:
        """Return spool time: how long this device was up since the spool was last empty at a start.

        Counts on over restarts and boots, stands still while the machine is off, and no clock jump moves it.
        """
        return self._boot_ns() + self._offset_ns

    def usage(self) -> tuple[int, int]:
        """Return (bytes in memory, bytes on disk)."""
        return self._queues.memory_bytes, self._files.size if self._files is not None else 0

    def waiting(self, kind: int | None = None) -> int:
        """Return how many records wait, of one kind or of both."""
        return sum(self._queues.waiting) if kind is None else self._queues.waiting[kind]

    def age_s(self) -> float:
        """Return the age of the oldest record in seconds of spool time, 0 when none waits."""
        with self._lock:
            oldest = self._queues.oldest_stamp_ns()
        return 0.0 if oldest is None else max(0.0, (self.now_ns() - oldest) / 1e9)

    @property
    def volatile_windows(self) -> int:
        """How many windows would be lost if the process died now."""
        return self._queues.volatile_windows

    def volatile_losses(self) -> dict[tuple[str, str], int]:
        """Return the losses that only windows in memory tell of."""
        found: dict[tuple[str, str], int] = {}
        with self._lock:
            for record in self._queues.of(METRICS):
                for key, count in record.losses.items():
                    found[key] = found.get(key, 0) + count
        return found

    @property
    def merged_windows(self) -> int:
        """How many windows became part of a neighbour since the start."""
        return self._upkeep.merged

    @property
    def written_bytes(self) -> int:
        """How many bytes were written to files since the start."""
        return self._files.written if self._files is not None else 0

    # --- upkeep -----------------------------------------------------------------------------------------------

    def settle(self) -> bool:
        """Bring what was written to the medium, and what waits below its limits; slow on a slow disk.

        Say whether fewer or more windows are in memory only than before.
        """
        volatile = self.volatile_windows
        with self._slow:
            look = self._boot_ns() - self._looked_ns >= _LOOK_NS
            if look:
                self._looked_ns = self._boot_ns()
                self._upkeep.expire(self.now_ns() - self.limits.age_ns)
            if self._postponed:  # what had to be durable met a disk that refused
                self._spill()
            self._sync(look=look)
            memory, disk = self.usage()
            if memory > self.limits.memory_bytes * _SOFT_SHARE:
                self._relieve_memory()
            if disk > self.limits.disk_bytes * _SOFT_SHARE:
                self._relieve_disk()
        return self.volatile_windows != volatile

    def to_disk(self) -> None:
        """Write everything that is only in memory (the collector is out of reach, or the process is about to end)."""
        with self._slow:
            self._spill()
            self._sync()

    def surrender(self) -> None:
        """Write everything at the end of the process, and count as lost what no disk takes."""
        self.to_disk()
        with self._lock:
            volatile = [record for record in self._queues if record.place is None]
        for record in volatile:
            self._upkeep.give_up(record, LossReason.SHUTDOWN)

    def close(self) -> None:
        """Finish the open files; records stay on disk for the next start. From here on no file is touched.

        Somebody else may hold the directory by the time that an attempt still under way ends.
        """
        with self._slow, self._lock:
            if self._files is not None:
                self._files.close()
                self._let_go_of_files()

    def disown(self) -> None:
        """In a forked child: close its copies of the open files and touch nothing else; a lock may be held for ever."""
        if self._files is not None:
            self._files.disown()
            self._let_go_of_files()

    def _let_go_of_files(self) -> None:
        self._files = None
        self._upkeep = Upkeep(self._queues, None, self._lock, self._reports)

    def _relieve_memory(self) -> None:
        self._spill()
        self._sync()
        if self._queues.memory_bytes > self.limits.memory_bytes * _SOFT_SHARE:
            self._upkeep.merge_in_memory(self.limits.memory_bytes * _ROOMY_SHARE)
        self._upkeep.drop_from_memory(self.limits.memory_bytes)

    def _spill(self) -> None:
        """Write what is only in memory, and let go of the copies of what is on disk."""
        with self._lock:
            volatile = [r for r in self._queues if r.place is None and r.payload is not None]
            self._write(sorted(volatile, key=lambda r: not r.offered), compress=True)
            self._postponed = any(record.place is None for record in volatile)
            for record in self._queues:
                self._queues.let_go_of_copy(record)

    def _relieve_disk(self) -> None:
        if self._files is None:
            return
        try:
            with self._lock:
                self._files.retire_unoffered()
            self._sync()
            before = self._files.written
            self._upkeep.compact(self.limits.disk_bytes * _ROOMY_SHARE)
            self.writing.spend(self._files.written - before)
            self._upkeep.drop_from_disk(self.limits.disk_bytes)
        except OSError as error:
            self._disk_refused(error)

    def _may_write(self, record: Record) -> bool:
        files = self._files
        if files is None or self._boot_ns() < self._disk_rests_until_ns:
            return False
        if record.facts.priority == Priority.CRASH:
            return True
        return self.writing.left() > 0 and files.size + record.size <= self.limits.disk_bytes

    def _write(self, records: Iterable[Record], *, compress: bool) -> None:
        """Under the queue lock: append records to files; when the disk refuses they stay in memory."""
        files = self._files
        for record in records:
            if record.payload is None or files is None or not self._may_write(record):
                continue
            try:
                place = files.append(record.facts, record.payload, compress=compress, offered=record.offered)
            except OSError as error:
                files.give_up_writing()
                self._disk_refused(error)
                return
            self._queues.placed(record, place)
            self.writing.spend(place.stored)

    def _sync(self, *, look: bool = True) -> None:
        """Bring to the medium what was written; take what a vanished file held back into memory where it still is."""
        files = self._files
        if files is None:
            return
        with self._lock:
            taken = files.take_unfinished()
        try:
            vanished = files.sync(taken, look=look)
        except OSError as error:
            self._disk_refused(error)
            vanished = []
        if taken[1] or vanished:
            with self._lock:
                files.sweep()
                for segment in vanished:
                    self._reclaim(files, segment)

    def _reclaim(self, files: Files, segment: Segment) -> None:
        """Somebody deleted a file under us: what has a copy in memory is volatile again."""
        files.retire(segment)
        for record in list(self._queues):
            if record.place is not None and record.place.segment is segment and record.payload is not None:
                self._queues.placed(record, None)
                files.forget(segment)

    def _disk_refused(self, error: OSError) -> None:
        """Leave the disk alone for a while."""
        self._disk_rests_until_ns = self._boot_ns() + _DISK_PAUSE_NS
        self._upkeep.say(error)

    # --- at the start -----------------------------------------------------------------------------------------

    def _load(self, files: Files, boot: bytes) -> None:
        """Take over what an earlier process left, and go on with its spool time."""
        loaded = files.load()
        self._offset_ns = self._continued(loaded, boot)
        files.boot, files.offset_ns = boot, self._offset_ns
        damaged: list[tuple[Segment, list[Record]]] = []
        for segment, scanned in loaded:
            records = records_of(segment, scanned, self.now_ns())
            if scanned is None or scanned.damaged:
                self._reports.segments_corrupt(1)
                self._reports.lost(METRICS, LossReason.CORRUPT, scanned.damaged if scanned is not None else 1)
                damaged.append((segment, records))
                continue
            segment.waiting = len(records)
            files.adopt(segment)
            for record in records:
                self._queues.add(record)
        files.sweep()
        for segment, records in damaged:
            self._take_over(files, segment, records)

    def _continued(self, loaded: list[tuple[Segment, Scan | None]], boot: bytes) -> int:
        """Return spool time minus boot time: as before in the same boot, else this boot counts from the last stamp."""
        offsets, stamps = [], [0]
        for _segment, scanned in loaded:
            if scanned is not None and scanned.header is not None:
                stamps += [record.facts.stamp_ns for record in scanned.records]
                if scanned.header.boot == boot:
                    offsets.append(scanned.header.offset_ns)
        return max(offsets) if offsets else max(stamps)

    def _take_over(self, files: Files, segment: Segment, records: list[Record]) -> None:
        """Queue the good records of a damaged file, written anew first: the file itself is never read again."""
        for record in records:
            payload = record.read()
            if payload is None:
                self._reports.lost(record.facts.kind, LossReason.CORRUPT, max(1, record.facts.windows))
                continue
            copy = Record(record.facts, payload)
            copy.offered = True  # who knows what became of the file
            self._queues.add(copy)
        self._spill()
        self._sync()
        files.set_aside(segment)

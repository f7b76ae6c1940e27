"""Store and forward: a bounded queue of encoded windows and events, in memory first, on disk when that fills up.

Disk is an append-only file per ~256 KiB: an 8-byte header that names the format version, then records of ``length,
crc32, kind, payload`` (little-endian). A file is deleted when all of it is acknowledged. What a crash can do is leave a
torn tail, which is dropped, or a damaged record, whose file is set aside after its good records were written anew.
A record keeps its bytes for ever: a window that was once offered to the network is resent unchanged.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_sdk.contract.attributes import LossReason
from device_sdk.errors import SpoolFormatError, log_rationed

METRICS: Final = 0
LOGS: Final = 1

MAGIC: Final = b"FPSPOOL\x01"
SEGMENT_BYTES: Final = 256 * 1024
MEMORY_BYTES: Final = 1024 * 1024
RECORD_BYTES_MAX: Final = 64 * 1024 * 1024
_RECORD: Final = struct.Struct("<IIB")
_DISK_PAUSE_S: Final = 30.0
_ASIDE_MAX: Final = 4

LossListener = Callable[[int, LossReason, int], None]


class Segment:
    """One file of the spool and how many of its records still wait."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.waiting = 0


@dataclass(slots=True, eq=False)
class Record:
    """One queued request: its bytes are in memory, or at ``offset`` of ``segment``, or both."""

    kind: int
    size: int
    payload: bytes | None
    segment: Segment | None = None
    offset: int = 0

    def read(self) -> bytes | None:
        """Return the bytes, None when the disk cannot give them any more."""
        if self.payload is not None:
            return self.payload
        if self.segment is None:
            return None
        try:
            with self.segment.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError:
            return None
        return data if len(data) == self.size else None


class Spool:
    """The queue. Thread-safe; never raises for what the disk does, but counts it by loss reason."""

    def __init__(
        self,
        directory: Path | None,
        *,
        disk_bytes_max: int,
        durable: bool = False,
        memory_bytes_max: int = MEMORY_BYTES,
        on_loss: LossListener = lambda _kind, _reason, _count: None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._disk_bytes_max = disk_bytes_max
        self._memory_bytes_max = memory_bytes_max
        self._durable = durable
        self._on_loss = on_loss
        self._monotonic_s = monotonic_s
        self._lock = threading.RLock()
        self._queues: tuple[deque[Record], deque[Record]] = (deque(), deque())
        self._segments: deque[Segment] = deque()
        self._file: int | None = None
        self._disk_bytes = 0
        self._memory_bytes = 0
        self._volatile_windows = 0
        self._disk_rests_until_s = 0.0
        self._next_number = 0
        if directory is not None:
            self._load(directory)

    # --- what the rest of the SDK asks for --------------------------------------------------------------------

    def put(self, kind: int, payload: bytes, *, durable: bool = False) -> None:
        """Queue one request; on disk at once when ``durable`` (or the spool is), else when memory is full."""
        with self._lock:
            record = Record(kind, len(payload), payload)
            self._queues[kind].append(record)
            self._memory_bytes += record.size
            self._volatile_windows += kind == METRICS
            if durable or self._durable:
                self._to_disk([record], sync=True)
            if self._memory_bytes > self._memory_bytes_max:
                self._relieve_memory()

    def head(self, kind: int, bytes_max: int) -> list[Record]:
        """Return the oldest records of a kind that fit together into ``bytes_max`` (at least one, if there is any)."""
        chosen: list[Record] = []
        total = 0
        with self._lock:
            for record in self._queues[kind]:
                total += record.size
                if chosen and total > bytes_max:
                    break
                chosen.append(record)
        return chosen

    def done(self, records: Iterable[Record]) -> int:
        """Remove records that were acknowledged or given up and return how many were still queued.

        Files whose records are all done are deleted.
        """
        with self._lock:
            before = sum(len(queue) for queue in self._queues)
            finished = {id(record) for record in records}
            for queue in self._queues:
                while queue and id(queue[0]) in finished:  # nearly always: the sender works from the head
                    finished.discard(id(queue[0]))
                    self._forget(queue.popleft())
                if not finished or not any(id(record) in finished for record in queue):
                    continue
                members = list(queue)
                queue.clear()
                queue.extend(record for record in members if id(record) not in finished)
                for record in members:
                    if id(record) in finished:
                        self._forget(record)
            return before - sum(len(queue) for queue in self._queues)

    def usage(self) -> tuple[int, int]:
        """Return (bytes in memory, bytes on disk)."""
        return self._memory_bytes, self._disk_bytes

    def waiting(self, kind: int) -> int:
        """Return how many records of a kind wait."""
        return len(self._queues[kind])

    @property
    def volatile_windows(self) -> int:
        """How many windows would be lost if the process died now."""
        return self._volatile_windows

    def to_disk(self) -> None:
        """Write everything that is only in memory (the collector is out of reach, or the process is about to end)."""
        with self._lock:
            self._relieve_memory()

    def close(self) -> None:
        """Finish the open file; records stay on disk for the next start."""
        with self._lock:
            self._close_file()

    def disown(self) -> None:
        """In a forked child: close its copy of the open file and touch nothing else; the lock may be held for ever."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # --- disk -------------------------------------------------------------------------------------------------

    def _relieve_memory(self) -> None:
        volatile = [r for queue in self._queues for r in queue if r.payload is not None and r.segment is None]
        self._to_disk(volatile, sync=True)
        for queue in self._queues:
            for record in queue:
                if record.segment is not None and record.payload is not None:
                    record.payload = None
                    self._memory_bytes -= record.size
        while self._memory_bytes > self._memory_bytes_max:
            queue = self._queues[METRICS] or self._queues[LOGS]
            if not queue:
                break
            oldest = queue.popleft()
            self._forget(oldest)
            self._on_loss(oldest.kind, LossReason.CAPACITY, 1)

    def _to_disk(self, records: Sequence[Record], *, sync: bool) -> None:
        """Append records; when the disk refuses they stay in memory and the disk is left alone for a while."""
        directory = self._directory
        if directory is None or not records or self._monotonic_s() < self._disk_rests_until_s:
            return
        try:
            for record in records:
                self._append(directory, record)
            if sync and self._file is not None:
                _sync(self._file)
        except OSError as error:
            self._disk_rests_until_s = self._monotonic_s() + _DISK_PAUSE_S
            self._close_file()
            log_rationed(logging.WARNING, "spool %s: %s; keeping windows in memory", directory, error.strerror)
        self._bound_disk()

    def _append(self, directory: Path, record: Record) -> None:
        if record.segment is not None or record.payload is None:
            return
        if self._file is None or self._segments[-1].size >= SEGMENT_BYTES:
            if self._file is not None:
                _sync(self._file)
            self._close_file()
            self._open_file(directory)
        segment, file = self._segments[-1], self._file
        if file is None:
            return
        head = _RECORD.pack(record.size, zlib.crc32(record.payload, record.kind), record.kind)
        whole = head + record.payload
        if os.write(file, whole) != len(whole):
            raise OSError(28, "no space left for a whole record")
        record.segment, record.offset = segment, segment.size + _RECORD.size
        segment.size += len(whole)
        segment.waiting += 1
        self._disk_bytes += len(whole)
        self._volatile_windows -= record.kind == METRICS

    def _open_file(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = directory / f"{self._next_number:012d}.open"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._next_number += 1
        self._segments.append(Segment(path, len(MAGIC)))
        self._disk_bytes += len(MAGIC)
        os.write(self._file, MAGIC)
        _sync_directory(directory)

    def _close_file(self) -> None:
        if self._file is None:
            return
        os.close(self._file)
        self._file = None
        segment = self._segments[-1]
        closed = segment.path.with_suffix(".seg")
        try:
            segment.path.rename(closed)
            segment.path = closed
        except OSError as error:
            log_rationed(logging.WARNING, "spool %s: %s", segment.path, error.strerror)
        if segment.waiting == 0:
            self._remove(segment)

    def _forget(self, record: Record) -> None:
        """Take a record out of the books (its queue is the caller's business)."""
        if record.payload is not None:
            self._memory_bytes -= record.size
        if record.segment is None:
            self._volatile_windows -= record.kind == METRICS
            return
        record.segment.waiting -= 1
        if record.segment.waiting == 0:
            if self._file is not None and record.segment is self._segments[-1]:
                self._close_file()
            else:
                self._remove(record.segment)

    def _remove(self, segment: Segment) -> None:
        if segment not in self._segments:
            return
        self._segments.remove(segment)
        self._disk_bytes -= segment.size
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            log_rationed(logging.WARNING, "spool %s: %s", segment.path, error.strerror)

    def _bound_disk(self) -> None:
        """Drop the oldest file while the spool is over its limit; its windows are counted as lost."""
        while self._disk_bytes > self._disk_bytes_max and self._segments:
            oldest = self._segments[0]
            if self._file is not None and oldest is self._segments[-1]:
                self._close_file()
            for kind, queue in enumerate(self._queues):
                dropped = [record for record in queue if record.segment is oldest]
                if dropped:
                    self.done(dropped)
                    self._on_loss(kind, LossReason.CAPACITY, len(dropped))
            self._remove(oldest)

    def _load(self, directory: Path) -> None:
        """Take over what an earlier process left."""
        try:
            paths = sorted(path for path in directory.iterdir() if path.suffix in (".seg", ".open"))
        except OSError:
            return
        with self._lock:
            self._next_number = max([0, *(_number_of(path) + 1 for path in paths)])
            for path in paths:
                self._load_segment(path)

    def _load_segment(self, path: Path) -> None:
        try:
            segment = Segment(path, path.stat().st_size)
            found, damaged = scan_segment(path)
        except (OSError, SpoolFormatError) as error:
            log_rationed(logging.WARNING, "spool %s was set aside: %s", path, error)
            segment, found, damaged = Segment(path, 0), [], 1
        records = [Record(kind, size, None, segment, offset) for kind, offset, size in found]
        if damaged:
            self._on_loss(METRICS, LossReason.CORRUPT, damaged)
            self._take_over(records)
            _set_aside(path)
            return
        for record in records:
            self._queues[record.kind].append(record)
        segment.waiting = len(records)
        self._segments.append(segment)
        self._disk_bytes += segment.size
        if not records:
            self._remove(segment)

    def _take_over(self, records: Sequence[Record]) -> None:
        """Queue the good records of a damaged file, written anew first: the file itself is never read again."""
        for record in records:
            record.payload, record.segment = record.read(), None
            if record.payload is None:
                self._on_loss(record.kind, LossReason.CORRUPT, 1)
                continue
            self._queues[record.kind].append(record)
            self._memory_bytes += record.size
            self._volatile_windows += record.kind == METRICS
        self._relieve_memory()


def scan_segment(path: Path) -> tuple[list[tuple[int, int, int]], int]:
    """Return ([(kind, offset, size)] of the good records, number of damaged ones) of a segment file.

    A torn tail is not damage. Raise ``SpoolFormatError`` for a file of another format or version.
    """
    data = path.read_bytes()
    if len(data) < len(MAGIC):
        return [], 0
    if data[: len(MAGIC)] != MAGIC:
        raise SpoolFormatError(f"header {data[: len(MAGIC)]!r} is not {MAGIC!r}: of another program or a newer version")
    found: list[tuple[int, int, int]] = []
    damaged, at = 0, len(MAGIC)
    while at + _RECORD.size <= len(data):
        size, check, kind = _RECORD.unpack_from(data, at)
        end = at + _RECORD.size + size
        if size > RECORD_BYTES_MAX or kind not in (METRICS, LOGS):
            return found, damaged + 1  # the framing itself is broken: nothing behind it can be trusted
        if end > len(data):
            break
        if zlib.crc32(data[at + _RECORD.size : end], kind) == check:
            found.append((kind, at + _RECORD.size, size))
        else:
            damaged += 1
        at = end
    return found, damaged


def _set_aside(path: Path) -> None:
    """Move a damaged file to ``bad/`` beside the others, keeping the newest few."""
    aside = path.parent / "bad"
    try:
        aside.mkdir(exist_ok=True, mode=0o700)
        path.rename(aside / path.with_suffix(".bad").name)
        for old in sorted(aside.iterdir())[:-_ASIDE_MAX]:
            old.unlink()
    except OSError as error:
        log_rationed(logging.WARNING, "spool %s: %s", path, error.strerror)


def _number_of(path: Path) -> int:
    return int(path.stem) if path.stem.isdigit() else -1


def _sync(descriptor: int) -> None:
    (getattr(os, "fdatasync", None) or os.fsync)(descriptor)


def _sync_directory(directory: Path) -> None:
    """Make a new file's name durable where directories can be opened (POSIX)."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

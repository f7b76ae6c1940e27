"""The files of a spool: written at the end, renamed when finished, offered or replaced, set aside when damaged.

``<number>.open`` is being written, ``.seg`` is finished and nothing of it was ever offered to the network, ``.out`` was
offered and never changes again. A file that a dead process left open counts as offered. What is slow on a slow disk
(syncs, renames) is done by ``settle`` and its like, outside the lock under which records are queued.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_sdk.errors import SpoolFormatError, log_rationed
from device_sdk.reading_files import read_regular
from device_sdk.spool.format import Facts, Header, Scan, check_of, pack_header, pack_record, scan
from device_sdk.spool.segment import Place, Segment
from device_sdk.writing_files import replace_file, sync_names

_FILE_BYTES_MAX: Final = 1 << 28
SEGMENT_BYTES: Final = 256 * 1024
_PWRITE: Final = hasattr(os, "pwrite")
_FDATASYNC: Final = hasattr(os, "fdatasync")
_ASIDE_MAX: Final = 4
_SUFFIXES: Final = (".seg", ".out", ".open")


@dataclass(slots=True)
class _Open:
    segment: Segment
    descriptor: int
    salt: int
    dirty: bool = True
    syncing: bool = False


class Files:
    """The directory. The first half of the methods needs the queue lock, the second one thread at a time."""

    def __init__(self, directory: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.directory = directory
        self.segments: deque[Segment] = deque()
        self.size = 0
        self.written = 0
        self.boot = bytes(8)
        self.offset_ns = 0
        self._segment_bytes = segment_bytes
        self._open: dict[int, _Open] = {}
        self._full: list[_Open] = []
        self._finishing: list[_Open] = []  # taken by the sync under way: a forked child has to close these too
        self._next_number = 0
        self._new_names = False

    # --- under the queue lock ---------------------------------------------------------------------------------

    def append(self, facts: Facts, payload: bytes, *, compress: bool, offered: bool = False) -> Place:
        """Write one record behind the others of its kind, into the page cache; raise ``OSError``.

        What was ``offered`` never shares a file with what may still be merged.
        """
        held = self._open.get(facts.kind)
        if held is not None and held.segment.size and self._must_end(held.segment, facts, offered):
            self._full.append(self._open.pop(facts.kind))
            held = None
        if held is None:
            held = self._open[facts.kind] = self._create()
        if held.segment.size == 0:
            self._begin(held)
        whole = pack_record(facts, payload, held.salt, compress=compress)
        at = held.segment.size
        _write_at(held.descriptor, whole, at)
        held.segment.offered |= offered
        held.dirty = True
        held.segment.waiting += 1
        self._grow(held.segment, len(whole))
        head = len(whole) - (stored := _stored_bytes(whole))
        return Place(held.segment, at + head, stored, stored < facts.size, check_of(whole, held.salt))

    def _must_end(self, segment: Segment, facts: Facts, offered: bool) -> bool:
        return segment.size >= self._segment_bytes or bool(facts.stream and segment.offered != offered)

    def forget(self, segment: Segment) -> None:
        """Count one record of a file as done; the last one takes the file with it, or frees it to be written anew."""
        segment.waiting -= 1
        if segment.waiting:
            return
        if any(held.segment is segment for held in self._open.values()):
            self.size -= segment.size
            segment.size, segment.offered = 0, False
            return
        for held in [held for held in self._full if held.segment is segment and not held.syncing]:
            self._full.remove(held)
            os.close(held.descriptor)
            segment.finished = True
        if segment.finished:
            self.remove(segment)

    def give_up_writing(self) -> None:
        """Stop writing to the open files after the disk refused: the next record begins a new one."""
        self._full += self._open.values()
        self._open.clear()

    def retire(self, segment: Segment) -> None:
        """Write no more into this file."""
        for kind, held in list(self._open.items()):
            if held.segment is segment:
                self._full.append(self._open.pop(kind))

    def retire_unoffered(self) -> None:
        """Let the open files be finished, so that what is in them can be merged."""
        for kind, held in list(self._open.items()):
            if held.segment.waiting:
                self._full.append(self._open.pop(kind))

    def take_unfinished(self) -> tuple[list[_Open], list[_Open], bool]:
        """Return what ``sync`` needs: written files, full files, whether names are new; none is closed meanwhile."""
        dirty = [held for held in self._open.values() if held.dirty]
        for held in dirty:
            held.dirty, held.syncing = False, True
        full, self._full = self._full, []
        self._finishing = full[:]
        names, self._new_names = self._new_names, False
        return dirty, full, names

    def _create(self) -> _Open:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = self._next_number
        path = self.directory / f"{number:012d}.open"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
        self._next_number += 1
        segment = Segment(path, number, 0, finished=False, offered=False)
        self.segments.append(segment)
        self._new_names = True
        return _Open(segment, descriptor, 0)

    def _begin(self, held: _Open) -> None:
        """Begin a file, maybe anew: with another salt whatever stands behind its header is no record any more."""
        held.salt = secrets.randbits(32) | 1
        header = pack_header(Header(held.salt, held.segment.number, self.boot, self.offset_ns))
        _write_at(held.descriptor, header, 0)
        self._grow(held.segment, len(header))

    def _grow(self, segment: Segment, size: int) -> None:
        segment.size += size
        self.size += size
        self.written += size

    def remove(self, segment: Segment) -> None:
        """Delete a file."""
        if segment not in self.segments:
            return
        self.segments.remove(segment)
        self.size -= segment.size
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            log_rationed(logging.WARNING, "spool %s: %s", segment.path, error.strerror)

    # --- outside it: slow on a slow disk ----------------------------------------------------------------------

    def sync(self, taken: tuple[list[_Open], list[_Open], bool], *, look: bool = True) -> list[Segment]:
        """Bring what was written to the medium and finish full files; raise ``OSError``.

        ``look`` for files that somebody deleted, and return them.
        """
        dirty, full, names = taken
        vanished = []
        failure: OSError | None = None
        for held in dirty:
            try:
                _sync(held.descriptor)
                if look and os.fstat(held.descriptor).st_nlink == 0:
                    vanished.append(held.segment)
            except OSError as error:
                held.dirty, failure = True, error
            finally:
                held.syncing = False
        for held in full:
            try:
                self._finish(held)
            except OSError as error:
                failure = error
        if names or full:
            sync_names(self.directory)
        if failure is not None:
            raise failure
        return vanished

    def sweep(self) -> None:
        """Under the queue lock: delete finished files that nothing waits in."""
        for segment in [s for s in self.segments if s.finished and not s.waiting]:
            self.remove(segment)

    def _finish(self, held: _Open) -> None:
        """Cut a file to what is good, sync it and give it its final name."""
        segment = held.segment
        try:
            if held.dirty or os.fstat(held.descriptor).st_size != segment.size:
                os.ftruncate(held.descriptor, segment.size)
                _sync(held.descriptor)
        finally:  # also when the disk refuses: nobody comes back to this file, and the last record takes it along
            self._close(held)
            segment.finished = True
        self._rename(segment, ".out" if segment.offered else ".seg")

    def _close(self, held: _Open) -> None:
        """Close a taken file, first out of the books: a child forked here must not close the number again."""
        self._finishing.remove(held)
        os.close(held.descriptor)

    def offer(self, segments: Iterable[Segment]) -> None:
        """Make it known for ever that something of these finished files may have left the device."""
        renamed = False
        for segment in segments:
            if segment.finished and segment.path.suffix == ".seg":
                self._rename(segment, ".out")
                renamed = True
        if renamed:
            sync_names(self.directory)

    def _rename(self, segment: Segment, suffix: str) -> None:
        target = segment.path.with_suffix(suffix)
        if segment in self.segments:
            segment.path.rename(target)
            segment.path = target

    def write_in_place_of(
        self, run: Sequence[Segment], records: Sequence[tuple[Facts, bytes]]
    ) -> tuple[Segment, list[Place]]:
        """Write one file that stands for the finished neighbours ``run``, and put it where the first one was."""
        first, last = run[0], run[-1]
        salt = secrets.randbits(32) | 1
        parts, places = [pack_header(Header(salt, last.number, self.boot, self.offset_ns))], []
        merged = Segment(first.path, first.number, len(parts[0]), finished=True, offered=False)
        for facts, payload in records:
            whole = pack_record(facts, payload, salt, compress=True)
            head = len(whole) - (stored := _stored_bytes(whole))
            places.append(Place(merged, merged.size + head, stored, stored < facts.size, check_of(whole, salt)))
            parts.append(whole)
            merged.size += len(whole)
        merged.waiting = len(records)
        replace_file(first.path, b"".join(parts))
        self.written += merged.size
        return merged, places

    def swap(self, run: Sequence[Segment], merged: Segment) -> None:
        """Under the queue lock: let the written file take the place of its sources in the books, and delete these."""
        at = self.segments.index(run[0])
        self.segments[at] = merged
        self.size += merged.size - run[0].size
        for segment in run[1:]:
            self.remove(segment)

    def close(self) -> None:
        """Finish the open files; records stay on disk for the next start."""
        self.give_up_writing()
        dirty, full, names = self.take_unfinished()
        empty = [held for held in full if not held.segment.waiting]
        for held in empty:
            self._close(held)
            self.remove(held.segment)
        try:
            self.sync((dirty, [held for held in full if held.segment.waiting], names))
        except OSError as error:
            log_rationed(logging.WARNING, "spool %s: %s", self.directory, error.strerror)

    def disown(self) -> None:
        """In a forked child: close its copies of the open files and touch nothing else."""
        for held in (*self._open.values(), *self._full, *self._finishing):
            os.close(held.descriptor)
        self._open, self._full, self._finishing = {}, [], []

    # --- at the start -----------------------------------------------------------------------------------------

    def load(self) -> list[tuple[Segment, Scan | None]]:
        """Take over what an earlier process left, oldest first; a file that cannot be read has no ``Scan``."""
        try:
            paths = sorted((p for p in self.directory.iterdir() if p.suffix in _SUFFIXES), key=_number_of)
            for torn in self.directory.glob("*.tmp"):
                torn.unlink()
        except OSError:
            paths = []
        self._next_number = max([0, *(_number_of(path) + 1 for path in paths)])
        found: list[tuple[Segment, Scan | None]] = []
        covered = -1
        for path in paths:
            number, scanned, size = _number_of(path), None, 0
            if 0 <= number <= covered:  # a compacted file stands for it
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            finished = path.suffix != ".open"
            try:
                data = read_regular(path, _FILE_BYTES_MAX)
                size = len(data)
                scanned = scan(data, finished=finished)
            except (OSError, SpoolFormatError) as error:
                log_rationed(logging.WARNING, "spool %s was set aside: %s", path, error)
            offered = path.suffix != ".seg" or scanned is None or scanned.header is None
            if scanned is not None and scanned.header is not None:
                covered = max(covered, scanned.header.covers)
            found.append((Segment(path, number, size, finished=True, offered=offered), scanned))
        return found

    def adopt(self, segment: Segment) -> None:
        """Take a loaded file into the books."""
        self.segments.append(segment)
        self.size += segment.size

    def set_aside(self, segment: Segment) -> None:
        """Move a damaged file to ``bad/`` beside the others, keeping the newest few."""
        aside = self.directory / "bad"
        try:
            aside.mkdir(exist_ok=True, mode=0o700)
            segment.path.rename(aside / segment.path.with_suffix(".bad").name)
            for old in sorted(aside.iterdir())[:-_ASIDE_MAX]:
                old.unlink()
        except OSError as error:
            log_rationed(logging.WARNING, "spool %s: %s", segment.path, error.strerror)


def _write_at(descriptor: int, data: bytes, at: int) -> None:
    if _PWRITE:
        written = os.pwrite(descriptor, data, at)
    else:
        os.lseek(descriptor, at, os.SEEK_SET)
        written = os.write(descriptor, data)
    if written != len(data):
        raise OSError(errno.ENOSPC, "no space left for a whole record")


def _stored_bytes(record: bytes) -> int:
    return int.from_bytes(record[4:8], "little")


def _number_of(path: Path) -> int:
    return int(path.stem) if path.stem.isdigit() else -1


def _sync(descriptor: int) -> None:
    if _FDATASYNC:
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)

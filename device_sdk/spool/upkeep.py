"""How the spool makes room: merge neighbours in memory and on disk, forget what is too old, give up the lowest class.

Runs one at a time (the spool's slow lock) and takes the queue lock only for moments: files are read, windows merged and
replacements written without it. What was offered to the network or is being sent is never merged.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from device_sdk.contract.attributes import LossReason
from device_sdk.errors import log_rationed
from device_sdk.spool.files import Files
from device_sdk.spool.format import METRICS, Facts
from device_sdk.spool.merge import losses_in, merge_windows
from device_sdk.spool.records import Queues, Record, Reports
from device_sdk.spool.segment import Place, Segment

_GROUPS: Final = 8
"""A step of compaction takes together files of at most this part of the spool."""


class Upkeep:
    """Makes room in ``queues`` and ``files``; ``merged`` counts windows that became part of a neighbour."""

    def __init__(self, queues: Queues, files: Files | None, lock: threading.RLock, reports: Reports) -> None:
        self._queues = queues
        self._files = files
        self._lock = lock
        self._reports = reports
        self.merged = 0

    # --- giving up --------------------------------------------------------------------------------------------

    def give_up(self, record: Record, reason: LossReason) -> None:
        """Drop a record and count what is lost with it; what it would have told of other losses is told later."""
        payload = record.read() if record.facts.kind == METRICS and record.facts.stream else None
        with self._lock:
            if record.gone:
                return
            self.forget(record)
        self._reports.lost(record.facts.kind, reason, max(1, record.facts.windows))
        if payload is not None:
            self._reports.untold(losses_in(payload))

    def forget(self, record: Record) -> None:
        """Under the queue lock: take a record out of the queues and its file's books."""
        if record.gone:
            return
        self._queues.remove(record)
        if record.place is not None and self._files is not None:
            self._files.forget(record.place.segment)

    def expire(self, before_ns: int) -> None:
        """Give up what is older than spool time ``before_ns``."""
        with self._lock:
            oldest = self._queues.oldest_stamp_ns()
            if oldest is None or oldest >= before_ns:
                return
            old = [r for r in self._queues if r.facts.stamp_ns < before_ns and not r.in_flight]
        for record in old:
            self.give_up(record, LossReason.AGE)

    def drop_from_memory(self, bytes_max: float) -> None:
        """Give up records that are nowhere but in memory until ``bytes_max`` is kept."""
        while self._queues.memory_bytes > bytes_max:
            with self._lock:
                victim = next((r for r in self._queues.victims() if r.place is None), None)
            if victim is None:
                return
            self.give_up(victim, LossReason.CAPACITY)

    def drop_from_disk(self, bytes_max: float) -> None:
        """Give up the lowest class of whole files until ``bytes_max`` is kept; its betters move; raise ``OSError``."""
        files = self._files
        while files is not None and files.size > bytes_max:
            with self._lock:
                victim = next((r for r in self._queues.victims() if r.place is not None), None)
                if victim is None or victim.place is None:
                    return
                segment = victim.place.segment
                inside = [r for r in self._queues if r.place is not None and r.place.segment is segment]
            if any(record.in_flight for record in inside):
                return
            betters = [r for r in inside if r.facts.priority < victim.facts.priority]
            self._write_elsewhere(files, segment, betters)
            for record in inside:
                if record.facts.priority >= victim.facts.priority:
                    self.give_up(record, LossReason.CAPACITY)

    def _write_elsewhere(self, files: Files, segment: Segment, records: Sequence[Record]) -> None:
        """Move records to another file, which is on the medium before the old one loses them; raise ``OSError``."""
        if not records:
            return
        contents = [(record, record.read()) for record in records]
        places: dict[int, Place] = {}
        try:
            with self._lock:
                files.retire(segment)
                for record, payload in contents:
                    if payload is not None:
                        offered = record.offered
                        places[id(record)] = files.append(record.facts, payload, compress=True, offered=offered)
                taken = files.take_unfinished()
            files.sync(taken)
        except OSError:  # the old file has them still; copies that nobody reads would stay for ever
            with self._lock:
                for place in places.values():
                    files.forget(place.segment)
            raise
        for record, payload in contents:
            if payload is None:
                self.give_up(record, LossReason.CORRUPT)
                continue
            with self._lock:
                if record.gone:
                    files.forget(places[id(record)].segment)
                    continue
                self._queues.moved(record, record.facts, places[id(record)])
                files.forget(segment)

    # --- merging ----------------------------------------------------------------------------------------------

    def merge_in_memory(self, bytes_max: float) -> None:
        """Merge neighbours that are nowhere but in memory, the finest first, until ``bytes_max`` is kept."""
        while self._queues.memory_bytes > bytes_max:
            with self._lock:
                records = [r for r in self._queues.of(METRICS) if r.place is None and r.mergeable]
            if not self._merge(records, self._replace_in_memory):
                return

    def compact(self, bytes_max: float) -> None:
        """Merge neighbours on disk, the finest and oldest first, until ``bytes_max`` is kept; raise ``OSError``."""
        files = self._files
        while files is not None and files.size > bytes_max:
            before = files.size
            group = self._group(files, bytes_max / _GROUPS)
            if not group or not self._compact_group(files, *group) or files.size >= before:
                return

    def _group(self, files: Files, group_bytes: float) -> tuple[list[Segment], list[Record]] | None:
        """Return neighbouring files that were never offered and hold the finest windows that have a neighbour."""
        with self._lock:
            inside: dict[int, list[Record]] = {}
            for record in self._queues.of(METRICS):
                if record.place is not None:
                    inside.setdefault(record.place.segment.number, []).append(record)
            for record in self._queues:
                if record.place is not None and record.facts.kind != METRICS:
                    inside.setdefault(record.place.segment.number, []).append(record)
            runs: list[list[Segment]] = [[]]
            for segment in sorted(files.segments, key=lambda s: s.number):
                fits = segment.finished and not segment.offered and inside.get(segment.number)
                if not fits or sum(s.size for s in runs[-1]) + segment.size > group_bytes:
                    runs.append([])
                if fits:
                    runs[-1].append(segment)
        best: tuple[int, list[Segment], list[Record]] | None = None
        for run in runs:
            records = [record for segment in run for record in inside[segment.number]]
            finest = _finest(records)
            if finest is not None and (best is None or finest < best[0]):
                best = (finest, run, records)
        return best[1:] if best else None

    def _compact_group(self, files: Files, run: list[Segment], records: list[Record]) -> bool:
        merged: dict[int, tuple[Facts, bytes]] = {}
        absorbed: set[int] = set()

        def note(members: Sequence[Record], facts: Facts, payload: bytes) -> None:
            merged[id(members[0])] = (facts, payload)
            absorbed.update(id(record) for record in members[1:])

        if not self._merge(records, note):
            return False
        kept = [record for record in records if id(record) not in absorbed]
        contents = [merged.get(id(r)) or (r.facts, r.read()) for r in kept]
        readable = [(f, payload) for f, payload in contents if payload is not None]
        if len(readable) < len(contents):
            return False
        written, places = files.write_in_place_of(run, readable)
        with self._lock:
            for record in records:
                if id(record) in absorbed:
                    self._queues.remove(record)
            for record, (facts, _), place in zip(kept, readable, places, strict=True):
                self._queues.moved(record, facts, place)
            files.swap(run, written)
            self._queues.tidy()
        return True

    def _merge(self, records: Sequence[Record], replace_by: Callable[[Sequence[Record], Facts, bytes], None]) -> bool:
        """Merge pairs of the finest neighbours; say whether any were."""
        finest = _finest(records)
        at, any_merged = 0, False
        while finest is not None and at + 1 < len(records):
            first, second = records[at], records[at + 1]
            windows = first.facts.windows + second.facts.windows
            at += 1
            if not _neighbours(first, second) or windows > 2 * finest:
                continue
            payloads = [first.read(), second.read()]
            whole = merge_windows([p for p in payloads if p is not None]) if None not in payloads else None
            if whole is None:
                second.apart = True
                continue
            stamp = max(first.facts.stamp_ns, second.facts.stamp_ns)
            replace_by((first, second), first.facts._replace(windows=windows, size=len(whole), stamp_ns=stamp), whole)
            self.merged += second.facts.windows
            any_merged = True
            at += 1
        return any_merged

    def _replace_in_memory(self, members: Sequence[Record], facts: Facts, payload: bytes) -> None:
        first, second = members
        with self._lock:
            if any(record.gone or record.place is not None or record.in_flight for record in members):
                return
            losses = dict(first.losses)
            for key, count in second.losses.items():
                losses[key] = losses.get(key, 0) + count
            self._queues.remove(second)
            self._queues.changed(first, facts, payload)
            first.losses = losses
            self._queues.tidy()

    def say(self, error: OSError) -> None:
        """Log what the disk said."""
        where = self._files.directory if self._files is not None else ""
        log_rationed(logging.WARNING, "spool %s: %s; keeping windows in memory", where, error.strerror)


def _neighbours(first: Record, second: Record) -> bool:
    return (
        first.mergeable
        and second.mergeable
        and not second.apart
        and first.facts.stream == second.facts.stream
        and first.facts.priority == second.facts.priority
    )


def _finest(records: Sequence[Record]) -> int | None:
    """Return the smallest half of a pair of neighbours that could be merged."""
    return min((max(a.facts.windows, b.facts.windows) for a, b in pairwise(records) if _neighbours(a, b)), default=None)

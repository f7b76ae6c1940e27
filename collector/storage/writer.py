"""The drain: one thread that moves acknowledged segments into the store and deletes them once they are committed."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from collector.storage.base import PutResult, Store
from collector.storage.segment_file import COMPLETE_SUFFIX, CorruptSegmentError, read_segment

logger = logging.getLogger(__name__)

ROW_BYTES: Final = 256
"""About what a point takes in a segment: turns file sizes into rows without reading them."""
EXPIRE_FIRST_NS: Final = 600_000_000_000
EXPIRE_EVERY_NS: Final = 3_600_000_000_000
"""When the drain's thread drops what is past its retention: ten minutes after the start, then hourly."""

NOTHING: Final = PutResult(0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class DrainTotals:
    """What the drain did since it was made; read by ``/metrics``."""

    accepted_points: int = 0
    accepted_logs: int = 0
    duplicate_points: int = 0
    late_points: int = 0
    expired_rows: int = 0
    duplicate_logs: int = 0
    segments: int = 0
    bad_segments: int = 0
    failures: int = 0
    last_lag_s: float = 0.0
    last_error: str = ""
    caught_up: bool = False


class Drain:
    """Moves segments into ``store``: every ``interval_s`` all that wait, in batches of about ``batch_rows`` rows.

    A backlog goes in large batches on purpose: beyond a row group (122,880 rows) the engine writes its file directly
    instead of through its log, which halves the cost of a point.

    A corrupt segment is set aside under ``bad/`` and counted; everything else waits until it is stored, however long
    the store refuses. ``drain_once`` may be called from any thread.
    """

    def __init__(
        self,
        store: Store,
        segments_dir: Path,
        *,
        batch_rows: int = 200_000,
        interval_s: float = 0.5,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._directory = segments_dir
        self._batch_bytes = batch_rows * ROW_BYTES
        self._interval_s = interval_s
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._expire_at_ns = clock_ns() + EXPIRE_FIRST_NS
        self.totals = DrainTotals()
        (segments_dir / "bad").mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start draining in a thread; call once."""
        if self._thread is not None:
            raise RuntimeError("the drain runs already")
        self._thread = threading.Thread(target=self._loop, name="drain", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Drain what is on disk once more, then stop; idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def backlog(self) -> tuple[int, int]:
        """Return (segments, bytes) that wait."""
        waiting = self._waiting()
        return len(waiting), sum(size for _, size in waiting)

    def metrics(self) -> dict[str, float]:
        """Return what ``/metrics`` says about the drain, by name."""
        totals = self.totals
        return {
            "drain_points_total": totals.accepted_points,
            "drain_logs_total": totals.accepted_logs,
            "drain_duplicate_points_total": totals.duplicate_points,
            "drain_duplicate_logs_total": totals.duplicate_logs,
            "drain_late_points_total": totals.late_points,
            "drain_segments_total": totals.segments,
            "drain_expired_rows_total": totals.expired_rows,
            "drain_bad_segments_total": totals.bad_segments,
            "drain_failures_total": totals.failures,
            "drain_last_lag_seconds": totals.last_lag_s,
        }

    def drain_once(self) -> PutResult:
        """Store every segment that is complete now; return what became of its rows, summed over batches.

        Raises what ``Store.put`` raises, corrupt segments apart; whatever is not stored stays on disk.
        """
        with self._lock:
            total = NOTHING
            waiting = self._waiting()
            while waiting:
                batch, waiting = self._take(waiting)
                total = _sum(total, self._store_batch(batch))
            self.totals.caught_up = True
            return total

    def _waiting(self) -> list[tuple[Path, int]]:
        found = []
        for path in self._directory.glob(f"*{COMPLETE_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                found.append((path, path.stat().st_size))
        found.sort()
        return found

    def _take(self, waiting: list[tuple[Path, int]]) -> tuple[list[Path], list[tuple[Path, int]]]:
        size = 0
        for number, (_, length) in enumerate(waiting):
            size += length
            if size >= self._batch_bytes:
                return [path for path, _ in waiting[: number + 1]], waiting[number + 1 :]
        return [path for path, _ in waiting], []

    def _store_batch(self, batch: list[Path]) -> PutResult:
        try:
            result = self._store.put(batch)
        except CorruptSegmentError:
            batch = [path for path in batch if self._readable(path)]
            result = self._store.put(batch) if batch else NOTHING
        except (duckdb.DataError, duckdb.IntegrityError, pa.ArrowInvalid) as error:
            # a row that the engine refuses for ever: find its segment, so that the others need not wait behind it
            if len(batch) == 1:
                self._set_aside(batch[0], error)
                return NOTHING
            return functools.reduce(_sum, (self._store_batch([path]) for path in batch))
        for path in batch:
            path.unlink(missing_ok=True)
        self._count(result, batch)
        return result

    def _readable(self, path: Path) -> bool:
        try:
            read_segment(path)
        except CorruptSegmentError as error:
            self._set_aside(path, error)
            return False
        return True

    def _set_aside(self, path: Path, error: Exception) -> None:
        logger.error("set aside in segments/bad: %s: %s", path.name, error)
        self.totals.bad_segments += 1
        path.rename(self._directory / "bad" / path.name)

    def _count(self, result: PutResult, batch: list[Path]) -> None:
        totals = self.totals
        totals.accepted_points += result.points
        totals.accepted_logs += result.logs
        totals.duplicate_points += result.duplicate_points
        totals.duplicate_logs += result.duplicate_logs
        totals.late_points += result.late_points
        totals.segments += result.segments
        totals.last_error = ""
        with contextlib.suppress(IndexError, ValueError):
            totals.last_lag_s = max(self._clock_ns() - int(batch[0].name.split("-", 1)[0]), 0) / 1e9

    def _expire_when_due(self) -> None:
        now_ns = self._clock_ns()
        if now_ns >= self._expire_at_ns:
            self._expire_at_ns = now_ns + EXPIRE_EVERY_NS
            self.totals.expired_rows += self._store.expire(now_ns)

    def _loop(self) -> None:
        while True:
            stopping = self._stopping.is_set()
            try:
                self.drain_once()
                self._expire_when_due()
            except Exception as error:  # the thread must outlive a full disk; segments wait
                self.totals.failures += 1
                self.totals.last_error = str(error)
                logger.exception("segments could not be stored; they stay on disk and are tried again")
            if stopping:
                return
            self._stopping.wait(self._interval_s)


def _sum(one: PutResult, other: PutResult) -> PutResult:
    return PutResult(
        segments=one.segments + other.segments,
        points=one.points + other.points,
        duplicate_points=one.duplicate_points + other.duplicate_points,
        late_points=one.late_points + other.late_points,
        logs=one.logs + other.logs,
        duplicate_logs=one.duplicate_logs + other.duplicate_logs,
    )

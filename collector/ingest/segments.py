"""Group commit: all requests of the last few milliseconds share one segment file and one sync.

A request is answered only when its rows are in a complete segment that survives a power cut. The writing runs in one
thread, so the event loop goes on receiving the next group meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from collector.errors import StackError
from collector.ingest.batch import DecodedBatch, to_tables
from collector.storage.segment_file import (
    COMPLETE_SUFFIX,
    WRITING_SUFFIX,
    encode_segment,
    sync_directory,
    write_bytes_durably,
)

logger = logging.getLogger(__name__)


class SegmentWriteError(StackError):
    """A group could not be made durable (disk full, not writable); none of its requests is acknowledged."""


@dataclass(slots=True)
class SegmentStats:
    """What one writer has done since it began."""

    segments: int = 0
    segment_bytes: int = 0
    failures: int = 0


class SegmentWriter:
    """Writes groups of decoded batches to ``directory``; used from one event loop.

    ``worker`` must be unique among the processes that write there: it is part of the file names, and unfinished files
    of an earlier process of that name are removed on ``start``.
    """

    def __init__(self, directory: Path, worker: str, clock_ns: Callable[[], int], tick_s: float = 0.005) -> None:
        if not worker or not all(letter.isalnum() or letter in "_." for letter in worker):
            raise ValueError(f"worker {worker!r} names files; use letters, digits, '_' and '.'")
        self._directory = directory
        self._worker = worker
        self._clock_ns = clock_ns
        self._tick_s = tick_s
        self._waiting: list[tuple[DecodedBatch, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._counter = 0
        self.stats = SegmentStats()

    def start(self) -> None:
        """Make the directory and remove what an earlier process of this name left unfinished. Raises ``OSError``."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for leftover in self._directory.glob(f"*-{self._worker}-*{WRITING_SUFFIX}"):
            logger.warning("removing an unfinished segment that was never acknowledged", extra={"path": str(leftover)})
            leftover.unlink(missing_ok=True)
        sync_directory(self._directory)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"segments-{self._worker}")

    def append(self, batch: DecodedBatch) -> asyncio.Future[None]:
        """Return a future that is done when ``batch`` is durable, or fails with ``SegmentWriteError``.

        Cancelling the future changes nothing for the group: the batch is stored, its answer is nobody's.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if not (batch.points or batch.logs):
            future.set_result(None)
            return future
        self._waiting.append((batch, future))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._commit_all())
        return future

    async def stop(self) -> None:
        """Commit what waits and end the thread; idempotent."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None

    async def _commit_all(self) -> None:
        """Commit group after group until nobody waits."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._tick_s)
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                await loop.run_in_executor(self._thread, self._write, [batch for batch, _ in group])
            except Exception as error:  # noqa: BLE001  # boundary: whatever failed, no waiter may be left hanging
                self.stats.failures += 1
                failure = SegmentWriteError(f"{self._directory}: the segment cannot be written: {error}")
                failure.__cause__ = error
                logger.error("a group was not acknowledged", extra={"error": str(error), "requests": len(group)})
                for _, future in group:
                    if not future.done():
                        future.set_exception(failure)
            else:
                for _, future in group:
                    if not future.done():
                        future.set_result(None)

    def _write(self, batches: list[DecodedBatch]) -> None:
        """Write one segment; runs in the writer's thread."""
        payload = encode_segment(to_tables(batches))
        received_ns = min(batch.received_ns for batch in batches)
        while True:
            name = f"{received_ns:020d}-{self._worker}-{self._counter:08d}{COMPLETE_SUFFIX}"
            self._counter += 1
            try:
                self.stats.segment_bytes += write_bytes_durably(self._directory / name, payload)
            except FileExistsError:  # an earlier process of this name under a clock that was set back
                continue
            break
        self.stats.segments += 1

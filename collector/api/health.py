"""Whether the store is alive (always 200) and ready: its answers are current and it can take more in."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import Response

from collector.api.paging import json_response
from collector.errors import StackError
from collector.storage.base import Store

FREE_BYTES_MIN: Final = 64 << 20
BEHIND_MAX_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """Segments that wait for the store; ``oldest_ns`` is 0 when there are none."""

    segments: int
    size_bytes: int
    oldest_ns: int
    bad_segments: int


def backlog_of(segments_dir: Path) -> Backlog:
    """Return what waits in a segments directory; one that does not exist yet is empty."""
    sizes: dict[str, int] = {}
    for path in segments_dir.glob("*.seg"):
        with contextlib.suppress(FileNotFoundError):
            sizes[path.name] = path.stat().st_size
    oldest = 0
    if sizes:
        with contextlib.suppress(ValueError):
            oldest = int(min(sizes).split("-", 1)[0])
    bad = sum(1 for _ in (segments_dir / "bad").glob("*.seg"))
    return Backlog(len(sizes), sum(sizes.values()), oldest, bad)


class Readiness:
    """Judges readiness from what can be seen: the database, the segments, the disk."""

    def __init__(self, store: Store, data_dir: Path, clock_ns: Callable[[], int]) -> None:
        self._store = store
        self._data_dir = data_dir
        self._clock_ns = clock_ns
        self._started_ns = clock_ns()

    def reasons(self) -> list[str]:
        """Return why the store is not ready; empty when it is."""
        found = []
        try:
            self._store.query("alive")
        except StackError as error:
            found.append(f"the database does not answer: {error}")
        backlog = backlog_of(self._data_dir / "segments")
        behind_s = (self._clock_ns() - backlog.oldest_ns) / 1e9
        if backlog.segments and backlog.oldest_ns < self._started_ns:
            found.append(f"taking in {backlog.segments} segments from before the start")
        elif backlog.segments and behind_s > BEHIND_MAX_S:
            found.append(f"the oldest of {backlog.segments} segments has waited {behind_s:.0f} s")
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self._data_dir).free
            if free < FREE_BYTES_MIN:
                found.append(f"the disk of {self._data_dir} has {free} bytes free, fewer than {FREE_BYTES_MIN}")
        return found


def router(readiness: Readiness) -> APIRouter:
    """Return ``/healthz`` and ``/readyz``; both are open to everybody."""
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz", response_model=None)
    def healthz() -> Response:
        """Say that the process runs."""
        return json_response({"status": "ok"})

    @routes.get("/readyz", response_model=None)
    def readyz() -> Response:
        """Say whether answers are current; 503 with the reasons when not."""
        reasons = readiness.reasons()
        return json_response(
            {"status": "not ready" if reasons else "ready", "reasons": reasons}, 503 if reasons else 200
        )

    return routes

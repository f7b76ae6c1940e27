"""Tables: the only importer of duckdb."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.storage.duckdb_store import DuckStore

__all__ = ["open_store"]


def open_store(
    data_dir: Path | str,
    *,
    read_only: bool = False,
    clock_ns: Callable[[], int] = time.time_ns,
    memory_limit: str = "2GB",
    threads: int | None = None,
    query_timeout_s: float = 60.0,
    raw_retention_days: int = 4,
) -> DuckStore:
    """Open (and create or migrate) the database of a data directory.

    Raises ``DataDirectoryError`` when another process holds it, when a newer version wrote it, or when it cannot be
    written. ``threads`` defaults to the number of processors, at most 4.
    """
    # Imported here so that ingest workers, which need only the schemas beside this module, never load the engine.
    from collector.storage.duckdb_store import DuckStore
    from collector.storage.retention import Retention

    return DuckStore(
        Path(data_dir),
        read_only=read_only,
        clock_ns=clock_ns,
        memory_limit=memory_limit,
        threads=threads,
        query_timeout_s=query_timeout_s,
        keep=Retention(raw_days=raw_retention_days, ledger_days=max(45, raw_retention_days)),
    )

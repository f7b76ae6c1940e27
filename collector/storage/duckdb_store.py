# ruff: noqa: S608  (what is interpolated into SQL here are constants of this package; values are parameters)
"""The default store: one DuckDB file, one writer at a time, readers on their own cursors."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from collector.errors import DataDirectoryError, QueryTimeoutError
from collector.storage import migrate, put, retention, rollup, rows
from collector.storage.base import DirtyHour, Parameter, PutResult, SliSpec, StoreHealth
from collector.storage.queries import bind, lookup
from collector.storage.segment_file import read_segment

FILE_NAME: Final = "fleetpulse.duckdb"
FILE_FORMAT: Final = "v1.5.0"
"""Oldest DuckDB that must be able to read the file; fixed so that a newer engine does not lock older ones out."""
CONCURRENT_QUERIES: Final = 2
_HOLDER: Final = re.compile(r"PID (\d+)")


def _connect(path: Path, *, read_only: bool, memory_limit: str, threads: int) -> duckdb.DuckDBPyConnection:
    """Open the file; raises ``DataDirectoryError`` that says who holds it or what is wrong with it."""
    try:
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        return duckdb.connect(
            str(path),
            read_only=read_only,
            config={
                "storage_compatibility_version": FILE_FORMAT,
                "memory_limit": memory_limit,
                "threads": threads,
                "checkpoint_threshold": "64MB",
            },
        )
    except duckdb.IOException as error:
        text = str(error)
        if "lock" in text.lower():
            raise DataDirectoryError(
                f"{path.parent}: held by process {_holder(path.parent, text)}; stop it first, "
                "ask it over its query API, or choose another directory with --data"
            ) from None
        raise DataDirectoryError(f"{path}: cannot be opened: {text.splitlines()[0]}") from None
    except (OSError, duckdb.Error) as error:
        raise DataDirectoryError(
            f"{path}: cannot be opened: {str(error).splitlines()[0]}; "
            "choose another directory with --data or restore a backup"
        ) from None


def _holder(data_dir: Path, message: str) -> str:
    """Return the pid that holds the directory: as ``run.json`` tells, else as the engine does."""
    try:
        return str(int(json.loads((data_dir / "run.json").read_text(encoding="utf-8"))["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        match = _HOLDER.search(message)
        return match[1] if match else "unknown"


class DuckStore:
    """``collector.storage.base.Store`` on one DuckDB file."""

    def __init__(
        self,
        data_dir: Path,
        *,
        read_only: bool,
        clock_ns: Callable[[], int],
        memory_limit: str,
        threads: int | None,
        query_timeout_s: float,
        keep: retention.Retention,
    ) -> None:
        self._path = data_dir / FILE_NAME
        self._keep = keep
        self._clock_ns = clock_ns
        self._timeout_s = query_timeout_s
        self._write_lock = threading.RLock()
        self._slots = threading.BoundedSemaphore(CONCURRENT_QUERIES)
        self._closed = False
        self._known = put.KnownIds()
        self._connection = _connect(
            self._path, read_only=read_only, memory_limit=memory_limit, threads=threads or min(os.cpu_count() or 1, 4)
        )
        try:
            self._schema_version = self._prepare(read_only)
            self._writer = self._connection.cursor()
            self._marked_ns = 0 if read_only else self._last_mark()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, read_only: bool) -> int:
        migrations = migrate.packaged_migrations()
        where = str(self._path.parent)
        if not read_only:
            return migrate.migrate(self._connection, migrations, self._clock_ns(), where)
        applied = migrate.applied_versions(self._connection)
        migrate.check(applied, migrations, where)
        if len(applied) < len(migrations):
            raise DataDirectoryError(
                f"{where}: the database has schema version {len(applied)} of {len(migrations)}; "
                "start `fleetpulse up` on it once so that it migrates"
            )
        return len(applied)

    def _last_mark(self) -> int:
        return int(self._writer.execute("select coalesce(max(marked_ns), 0) from dirty").fetchall()[0][0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One write transaction; rolled back whatever happens, for an open one would block checkpoints."""
        with self._write_lock:
            if self._closed:
                raise DataDirectoryError(f"{self._path}: the store is closed")
            self._writer.execute("begin")
            try:
                yield self._writer
                self._writer.execute("commit")
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    self._writer.execute("rollback")
                raise

    def _mark(self) -> int:
        """Return a time for dirty marks that never repeats, even on a clock that stands still."""
        self._marked_ns = max(self._clock_ns(), self._marked_ns + 1)
        return self._marked_ns

    def put(self, paths: Sequence[Path]) -> PutResult:
        """Store whole segments, idempotently; the first copy of a point or log wins.

        Raises ``CorruptSegmentError`` before anything is stored when one of them cannot be read.
        """
        segments = [read_segment(path) for path in paths]
        if not segments:
            return PutResult(0, 0, 0, 0, 0, 0)
        tables = {name: pa.concat_tables([segment[name] for segment in segments]) for name in rows.SEGMENT_TABLES}
        with self._write_lock:
            self._known.rolled_back()
            with self._transaction() as writer:
                unfrozen_ns = retention.unfrozen_ns(writer)
                counts = put.put_tables(writer, tables, self._known, unfrozen_ns=unfrozen_ns, now_ns=self._mark())
            self._known.committed()
        return PutResult(
            segments=len(segments),
            points=counts.points,
            duplicate_points=counts.duplicates + counts.conflicts,
            late_points=counts.late,
            logs=counts.logs,
            duplicate_logs=counts.duplicate_logs,
        )

    def dirty_hours(self) -> list[DirtyHour]:
        """Return the hours waiting for ``recompute``, oldest first."""
        found = self.query("dirty_hours")
        return [DirtyHour(row["hour_ns"], row["marked_ns"]) for row in found.to_pylist()]

    def recompute(self, hours: Sequence[DirtyHour], slis: Sequence[SliSpec], gen: int) -> int:
        """Roll the hours up anew for all unfrozen arrival days, switch readers to it, return the rows written.

        ``gen`` is raised above every generation those hours have, so that a clock set back cannot hide new rows.
        """
        if not hours:
            return 0
        with self._transaction() as writer:
            return rollup.recompute(
                writer,
                [hour.hour_ns for hour in hours],
                slis,
                gen,
                unfrozen_ns=retention.unfrozen_ns(writer),
            )

    def append(self, table: str, rows_: pa.Table) -> None:
        """Append rows of one of ``rows.APPEND_TABLES``; raises ``ValueError`` when table or schema is not known."""
        schema = rows.APPEND_TABLES.get(table)
        if schema is None:
            raise ValueError(f"table {table!r} takes no rows; append to one of {sorted(rows.APPEND_TABLES)}")
        try:
            columns = [rows_.column(field.name).cast(field.type) for field in schema]
        except (pa.ArrowException, KeyError) as error:
            raise ValueError(f"rows for {table!r} have schema\n{rows_.schema}\nbut need\n{schema}") from error
        for field, column in zip(schema, columns, strict=True):
            if not field.nullable and column.null_count:
                raise ValueError(f"rows for {table!r}: column {field.name!r} holds nulls and must not")
        extra = set(rows_.schema.names) - set(schema.names)
        if extra:
            raise ValueError(f"rows for {table!r} have columns {sorted(extra)} that the table has not")
        rows_ = pa.Table.from_arrays(columns, schema=schema)
        names = ", ".join(schema.names)
        with self._transaction() as writer:
            writer.register("b_append", rows_)
            try:
                writer.execute(f"insert into {table} ({names}) select {names} from b_append")
            finally:
                writer.unregister("b_append")

    def query(self, name: str, params: Mapping[str, Parameter] | None = None) -> pa.Table:
        """Run a named query; ids come back as lowercase hex strings.

        Raises ``UnknownQueryError``, ``QueryTimeoutError`` and, for missing or wrong parameters, ``ValueError``.
        """
        query = lookup(name)
        bound = bind(query, params or {})
        if not self._slots.acquire(timeout=self._timeout_s):
            raise QueryTimeoutError(
                f"query {name!r} waited {self._timeout_s:g} s for one of {CONCURRENT_QUERIES} places; ask again later"
            )
        try:
            table = self._run(name, query.sql, bound)
        finally:
            self._slots.release()
        return query.finish(table) if query.finish else table

    def _run(self, name: str, sql: str, bound: Mapping[str, Parameter]) -> pa.Table:
        if self._closed:
            raise DataDirectoryError(f"{self._path}: the store is closed")
        cursor = self._connection.cursor()
        timer = threading.Timer(self._timeout_s, cursor.interrupt)
        timer.daemon = True
        timer.start()
        try:
            return cursor.execute(sql, dict(bound)).to_arrow_table()
        except duckdb.InterruptException:
            raise QueryTimeoutError(
                f"query {name!r} ran longer than {self._timeout_s:g} s and was stopped; ask for a shorter time range"
            ) from None
        finally:
            timer.cancel()
            cursor.close()

    def expire(self, now_ns: int) -> int:
        """Drop what is past its retention; return the rows dropped."""
        with self._transaction() as writer:
            return retention.expire(writer, now_ns, self._keep)

    def health(self) -> StoreHealth:
        """Return size and state."""
        size = sum(path.stat().st_size for path in (self._path, Path(f"{self._path}.wal")) if path.exists())
        return StoreHealth("duckdb", duckdb.__version__, self._schema_version, size)

    def close(self) -> None:
        """Write everything into the one file and close it; idempotent."""
        with self._write_lock:
            if self._closed:
                return
            self._closed = True
            self._writer.close()
            self._connection.close()

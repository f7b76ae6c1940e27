"""The file that carries acknowledged telemetry from an ingest worker to the store.

One file is one group commit: ``MAGIC``, then for each table of ``rows.SEGMENT_TABLES`` in that order one Arrow IPC
stream (schema, batches, end marker; buffers LZ4), then the CRC-32 of everything before as 4 little-endian bytes. The
last byte of ``MAGIC`` is the format's version. A file named ``*.seg`` is complete; ``*.tmp`` was never acknowledged.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa

from collector.errors import StackError
from collector.storage.rows import SEGMENT_TABLES

MAGIC: Final = b"FPSEG\x00\x00\x01"
COMPLETE_SUFFIX: Final = ".seg"
WRITING_SUFFIX: Final = ".tmp"
_CRC: Final = struct.Struct("<I")
_LZ4: Final = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
"""Six times fewer bytes to sync and checksum for less CPU than they would cost; readers need no option."""


class CorruptSegmentError(StackError):
    """A segment file is torn, altered, or of a format this version does not know; carries path and reason."""


def encode_segment(tables: Mapping[str, pa.Table]) -> bytes:
    """Return the bytes of a segment; a table that is missing is written empty.

    Raises ``ValueError`` when a table's schema is not exactly that of ``rows.SEGMENT_TABLES``.
    """
    unknown = set(tables) - set(SEGMENT_TABLES)
    if unknown:
        raise ValueError(f"segment tables {sorted(unknown)} do not exist; known: {list(SEGMENT_TABLES)}")
    sink = pa.BufferOutputStream()
    sink.write(MAGIC)
    for name, schema in SEGMENT_TABLES.items():
        table = tables.get(name)
        if table is None:
            table = schema.empty_table()
        elif not table.schema.equals(schema):
            raise ValueError(f"segment table {name!r} has schema\n{table.schema}\nbut must have\n{schema}")
        with pa.ipc.new_stream(sink, schema, options=_LZ4) as stream:
            stream.write_table(table)
    payload: bytes = sink.getvalue().to_pybytes()
    return payload + _CRC.pack(zlib.crc32(payload))


def write_segment(path: Path, tables: Mapping[str, pa.Table]) -> int:
    """Write a segment so that it survives a power cut once this returns; return its size in bytes.

    ``path`` ends in ``.seg``. The bytes go to a ``.tmp`` file beside it, are synced, renamed, and the directory is
    synced. Raises ``OSError`` (disk full, not writable) with nothing left under either name, ``FileExistsError`` when
    ``path`` exists already.
    """
    return write_bytes_durably(path, encode_segment(tables))


def write_bytes_durably(path: Path, payload: bytes) -> int:
    """Write ``payload`` as ``write_segment`` does; return its size in bytes."""
    if path.exists():
        raise FileExistsError(f"{path} exists already; a segment is never overwritten")
    temporary = path.with_suffix(WRITING_SUFFIX)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            view = memoryview(payload)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    return len(payload)


def sync_directory(directory: Path) -> None:
    """Make renames in ``directory`` durable; raises ``OSError``."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_segment(path: Path) -> dict[str, pa.Table]:
    """Return the tables of a segment by name, in the order of ``rows.SEGMENT_TABLES``.

    Raises ``CorruptSegmentError`` when the file is torn, altered or of an unknown format; ``OSError`` when it cannot
    be read.
    """
    payload = path.read_bytes()
    _check_frame(path, payload)
    reader = pa.BufferReader(pa.py_buffer(payload)[len(MAGIC) : len(payload) - _CRC.size])
    tables: dict[str, pa.Table] = {}
    for name, schema in SEGMENT_TABLES.items():
        try:
            with pa.ipc.open_stream(reader) as stream:
                table = stream.read_all()
        except (pa.ArrowException, OSError, EOFError) as error:
            raise CorruptSegmentError(f"{path}: table {name!r} cannot be read: {error}") from error
        if not table.schema.equals(schema):
            raise CorruptSegmentError(f"{path}: table {name!r} has another schema than this version writes")
        tables[name] = table
    if reader.tell() != reader.size():
        raise CorruptSegmentError(f"{path}: {reader.size() - reader.tell()} bytes follow the last table")
    return tables


def _check_frame(path: Path, payload: bytes) -> None:
    """Raise ``CorruptSegmentError`` unless magic and checksum are right."""
    if len(payload) < len(MAGIC) + _CRC.size:
        raise CorruptSegmentError(f"{path}: {len(payload)} bytes are too few for a segment")
    if payload[: len(MAGIC)] != MAGIC:
        raise CorruptSegmentError(f"{path}: begins with {payload[: len(MAGIC)]!r}, not with {MAGIC!r}")
    found = _CRC.unpack(payload[-_CRC.size :])[0]
    expected = zlib.crc32(memoryview(payload)[: -_CRC.size])
    if found != expected:
        raise CorruptSegmentError(f"{path}: checksum is {found:08x}, its content has {expected:08x}: torn or altered")

"""Segments: what was acknowledged is on disk, whole; what is torn or altered is recognised."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_kit import T, stored
from store_kit import Request

from collector.api.decode_metrics import MetricsDecoder
from collector.ingest.batch import DecodedBatch, to_tables
from collector.ingest.segments import SegmentWriteError, SegmentWriter
from collector.storage import segment_file
from collector.storage.rows import SEGMENT_TABLES
from collector.storage.segment_file import CorruptSegmentError, encode_segment, read_segment, write_segment


def batch(name: str = "m", value: int = 1, *, device: str = "a", received_ns: int = T + 9) -> DecodedBatch:
    request = Request(**{"service.instance.id": device}).sum(name, T, T + 1, value)
    return MetricsDecoder().decode(request.message.SerializeToString(), received_ns)


def run(directory: Path, body: Callable[[SegmentWriter], Any], *, worker: str = "w0", tick_s: float = 0.001) -> Any:
    """Run ``body`` with a started writer on an event loop of its own."""

    async def main() -> Any:
        writer = SegmentWriter(directory, worker, lambda: T, tick_s)
        writer.start()
        try:
            return await body(writer)
        finally:
            await writer.stop()

    return asyncio.run(main())


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- the file ---------------------------------------------------------------------------------------------------


def test_a_segment_is_read_as_it_was_written(tmp_path: Path) -> None:
    tables = to_tables([batch("a"), batch("b", device="b")])
    path = tmp_path / "1.seg"
    size = write_segment(path, tables)
    assert size == path.stat().st_size
    assert path.read_bytes().startswith(b"FPSEG\x00\x00\x01")
    found = read_segment(path)
    assert list(found) == list(SEGMENT_TABLES)
    assert all(found[name].equals(tables[name]) for name in found)
    assert [found[name].num_rows for name in ("series", "resources", "streams", "points")] == [2, 2, 2, 2]


def test_tables_left_out_are_empty(tmp_path: Path) -> None:
    write_segment(tmp_path / "1.seg", {})
    assert all(table.num_rows == 0 for table in read_segment(tmp_path / "1.seg").values())


def test_a_table_of_another_schema_or_name_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="resources"):
        encode_segment({"resources": pa.table({"x": [1]})})
    with pytest.raises(ValueError, match="nonsense"):
        encode_segment({"nonsense": pa.table({"x": [1]})})


def test_every_torn_length_is_recognised(tmp_path: Path) -> None:
    payload = encode_segment(to_tables([batch()]))
    path = tmp_path / "1.seg"
    for length in (*range(64), *range(64, len(payload), 97), len(payload) - 1):
        path.write_bytes(payload[:length])
        with pytest.raises(CorruptSegmentError, match=r"1\.seg"):
            read_segment(path)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_every_altered_byte_is_recognised(tmp_path: Path, position: int, flip: int) -> None:
    payload = bytearray(encode_segment(to_tables([batch()])))
    payload[position % len(payload)] ^= flip
    path = tmp_path / "1.seg"
    path.write_bytes(payload)
    with pytest.raises(CorruptSegmentError):
        read_segment(path)


def test_a_right_checksum_over_nonsense_is_corrupt_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "1.seg"
    good = encode_segment(to_tables([batch()]))[:-4]
    for payload in (segment_file.MAGIC + b"nonsense" * 9, segment_file.MAGIC, good + b"more", good[: len(good) // 2]):
        path.write_bytes(payload + segment_file._CRC.pack(segment_file.zlib.crc32(payload)))
        with pytest.raises(CorruptSegmentError):
            read_segment(path)


def test_a_later_format_is_not_misread(tmp_path: Path) -> None:
    payload = b"FPSEG\x00\x00\x02" + encode_segment({})[8:-4]
    path = tmp_path / "1.seg"
    path.write_bytes(payload + segment_file._CRC.pack(segment_file.zlib.crc32(payload)))
    with pytest.raises(CorruptSegmentError, match="begins with"):
        read_segment(path)


def test_a_segment_is_never_overwritten(tmp_path: Path) -> None:
    write_segment(tmp_path / "1.seg", {})
    with pytest.raises(FileExistsError):
        write_segment(tmp_path / "1.seg", {})


# --- the writer -------------------------------------------------------------------------------------------------


def test_batches_that_come_together_share_one_segment_and_its_dictionaries(tmp_path: Path) -> None:
    async def body(writer: SegmentWriter) -> None:
        await asyncio.gather(*(writer.append(batch("m", n, received_ns=T + n)) for n in range(20)))

    run(tmp_path, body)
    assert names(tmp_path) == [f"{T:020d}-w0-00000000.seg"]
    (segment,) = (read_segment(path) for path in tmp_path.iterdir())
    assert (segment["points"].num_rows, segment["series"].num_rows) == (20, 1)
    assert segment["windows"].to_pylist()[0]["received_ns"] == T


def test_an_answer_comes_only_after_data_and_name_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real = {name: getattr(os, name) for name in ("fdatasync", "fsync")}
    for name, function in real.items():
        monkeypatch.setattr(
            segment_file.os, name, lambda fd, name=name, function=function: (events.append(name), function(fd))[1]
        )

    async def body(writer: SegmentWriter) -> None:
        events.clear()
        await writer.append(batch())
        events.append(f"answer with {len(list(tmp_path.glob('*.seg')))} segment")

    run(tmp_path, body)
    assert events == ["fdatasync", "fsync", "answer with 1 segment"]


def test_the_event_loop_runs_on_while_a_group_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    reached, go_on = threading.Event(), threading.Event()
    real = os.fdatasync

    def slow(fd: int) -> None:
        reached.set()
        assert go_on.wait(10)
        real(fd)

    monkeypatch.setattr(segment_file.os, "fdatasync", slow)

    async def body(writer: SegmentWriter) -> list[bool]:
        first = writer.append(batch("first"))
        while not reached.is_set():
            await asyncio.sleep(0)
        second = writer.append(batch("second"))
        seen = [first.done(), second.done()]
        go_on.set()
        await asyncio.gather(first, second)
        return seen

    assert run(tmp_path, body) == [False, False]
    assert len(names(tmp_path)) == 2


def test_a_client_that_hangs_up_harms_nobody_in_its_group(tmp_path: Path) -> None:
    async def body(writer: SegmentWriter) -> None:
        gone, stays = writer.append(batch("gone")), writer.append(batch("stays"))
        gone.cancel()
        await stays
        await writer.append(batch("later"))

    run(tmp_path, body)
    found = {row["metric"] for path in tmp_path.glob("*.seg") for row in read_segment(path)["series"].to_pylist()}
    assert found == {"gone", "stays", "later"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_error_fails_the_whole_group_leaves_no_file_and_the_next_group_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = os.fdatasync
    broken = True

    def fdatasync(fd: int) -> None:
        if broken:
            raise OSError(code, os.strerror(code))
        real(fd)

    monkeypatch.setattr(segment_file.os, "fdatasync", fdatasync)

    async def body(writer: SegmentWriter) -> None:
        nonlocal broken
        results = await asyncio.gather(*(writer.append(batch(name)) for name in "ab"), return_exceptions=True)
        assert [type(result) for result in results] == [SegmentWriteError, SegmentWriteError]
        assert os.strerror(code) in str(results[0])
        assert names(tmp_path) == []
        broken = False
        await writer.append(batch("c"))
        assert (writer.stats.failures, writer.stats.segments) == (1, 1)

    run(tmp_path, body)
    assert len(names(tmp_path)) == 1


def test_what_waits_is_written_before_the_writer_stops(tmp_path: Path) -> None:
    async def main() -> None:
        writer = SegmentWriter(tmp_path, "w0", lambda: T, 0.05)
        writer.start()
        future = writer.append(batch())
        await writer.stop()
        await writer.stop()
        assert future.done()
        assert future.exception() is None

    asyncio.run(main())
    assert len(names(tmp_path)) == 1


def test_only_this_worker_s_unfinished_files_are_removed_at_start(tmp_path: Path) -> None:
    mine, other, done = (tmp_path / name for name in ("1-w1-0.tmp", "1-w10-0.tmp", "1-w1-0.seg"))
    for path in (mine, other, done):
        path.write_bytes(b"torn")

    async def body(writer: SegmentWriter) -> None:
        assert not mine.exists()

    run(tmp_path, body, worker="w1")
    assert (other.exists(), done.exists()) == (True, True)


def test_a_clock_that_was_set_back_never_replaces_a_segment(tmp_path: Path) -> None:
    async def body(writer: SegmentWriter) -> None:
        await writer.append(batch())

    for _ in range(3):  # each process counts from zero, all see the same instant
        run(tmp_path, body)
    assert names(tmp_path) == [f"{T + 9:020d}-w0-{n:08d}.seg" for n in range(3)]


def test_an_empty_batch_needs_no_segment(tmp_path: Path) -> None:
    async def body(writer: SegmentWriter) -> None:
        await writer.append(DecodedBatch(T))

    run(tmp_path, body)
    assert names(tmp_path) == []


def test_a_worker_s_name_must_fit_a_file_name(tmp_path: Path) -> None:
    for worker in ("", "a/b", "a-b", "../x"):
        with pytest.raises(ValueError, match="worker"):
            SegmentWriter(tmp_path, worker, lambda: T)


def test_a_window_that_two_requests_carry_keeps_its_first_arrival_and_its_seal() -> None:
    first = batch("m", received_ns=T + 1)
    seal = Request(**{"service.instance.id": "a"}).window(T, T + 1, 4)
    second = MetricsDecoder().decode(seal.message.SerializeToString(), T + 2)
    (row,) = to_tables([second, first])["windows"].to_pylist()
    assert (row["received_ns"], row["sequence"]) == (T + 1, 4)


def test_stored_reads_nothing_from_an_empty_directory(tmp_path: Path) -> None:
    assert stored(tmp_path)["points"].num_rows == 0

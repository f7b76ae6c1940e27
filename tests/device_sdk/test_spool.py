"""Store and forward: bounded, crash-safe, never raising."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_sdk.contract.attributes import LossReason
from device_sdk.limits import Limits
from device_sdk.spool import LOGS, MAGIC, METRICS, SEGMENT_BYTES, Reports, Spool, scan
from device_sdk.spool.format import HEADER_BYTES, MAGIC_V1, RECORD_HEAD_BYTES


class Losses(Counter[tuple[int, LossReason]]):
    def __call__(self, kind: int, reason: LossReason, count: int) -> None:
        self[kind, reason] += count


def make(directory: Path | None, losses: Losses | None = None, **options: Any) -> Spool:
    names = {"memory_bytes", "disk_bytes", "age_ns", "written_bytes_per_day"} & set(options)
    limits = Limits(**{name: options.pop(name) for name in names})
    return Spool(directory, limits, reports=Reports(lost=Losses() if losses is None else losses), **options)


def drain(spool: Spool, kind: int = METRICS, bytes_max: int = 1 << 20) -> list[bytes]:
    taken = []
    while records := spool.head(kind, bytes_max):
        taken += [payload for record in records if (payload := record.read()) is not None]
        spool.done(records)
    return taken


def test_records_come_back_in_order_and_leave_no_file(tmp_path: Path) -> None:
    spool = make(tmp_path, durable=True)
    payloads = [os.urandom(1000) for _ in range(700)]
    for payload in payloads:
        spool.put(METRICS, payload)
    assert drain(spool) == payloads
    assert spool.usage() == (0, 0)
    spool.close()
    assert [p for p in tmp_path.iterdir() if p.is_file()] == []


def test_memory_comes_first_and_disk_at_the_high_water_mark(tmp_path: Path) -> None:
    spool = make(tmp_path, memory_bytes=10_000)
    for _ in range(9):
        spool.put(METRICS, os.urandom(1000))
    assert spool.usage() == (9000, 0)
    assert spool.volatile_windows == 9
    for _ in range(3):
        spool.put(METRICS, os.urandom(1000))
    memory, disk = spool.usage()
    assert memory <= 10_000 < disk
    assert len(drain(spool)) == 12


def test_what_was_synced_is_there_after_a_death_and_what_was_done_is_not(tmp_path: Path) -> None:
    first = make(tmp_path, durable=True)
    payloads = [bytes([i]) * 50_000 for i in range(20)]
    for payload in payloads:
        first.put(METRICS, payload)
    first.put(LOGS, b"event")
    first.done(first.head(METRICS, 12 * 50_000))
    second = make(tmp_path)
    left = drain(second)
    assert left == payloads[len(payloads) - len(left) :]
    assert 8 <= len(left) <= 14  # a file goes when all of it is done
    assert drain(second, LOGS) == [b"event"]


@given(cut=st.integers(0, 4000))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_torn_tail_costs_only_the_torn_record(tmp_path: Path, cut: int) -> None:
    directory = tmp_path / str(cut)
    spool = make(directory, durable=True)
    for number in range(10):
        spool.put(METRICS, bytes([number]) * 300)
    spool.close()
    (path,) = directory.glob("*.seg")
    data = path.read_bytes()
    kept = data[: min(cut, len(data))]
    path.write_bytes(kept)
    losses = Losses()
    again = make(directory, losses)
    assert drain(again) == [
        bytes([n]) * 300 for n in range(max(0, (len(kept) - HEADER_BYTES) // (RECORD_HEAD_BYTES + 300)))
    ]
    assert not losses


@pytest.mark.parametrize("at", [HEADER_BYTES + 50, HEADER_BYTES + 9, HEADER_BYTES + 5, HEADER_BYTES + 336 + 100])
def test_a_damaged_record_is_set_aside_and_counted_and_its_neighbours_live(tmp_path: Path, at: int) -> None:
    spool = make(tmp_path, durable=True)
    for number in range(4):
        spool.put(METRICS, bytes([number]) * 300)
    spool.close()
    (path,) = tmp_path.glob("*.seg")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    losses = Losses()
    again = make(tmp_path, losses)
    assert losses == {(METRICS, LossReason.CORRUPT): 1}
    assert len(drain(again)) == 3
    assert [p.suffix for p in (tmp_path / "bad").iterdir()] == [".bad"]
    assert not list(tmp_path.glob("*.seg"))


def test_good_records_of_a_damaged_file_outlive_a_second_death(tmp_path: Path) -> None:
    spool = make(tmp_path, durable=True)
    for number in range(4):
        spool.put(METRICS, bytes([number]) * 300)
    spool.close()
    (path,) = tmp_path.glob("*.seg")
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES + 50] ^= 1
    path.write_bytes(data)
    assert make(tmp_path).waiting(METRICS) == 3  # dies before it sends anything
    losses = Losses()
    assert drain(make(tmp_path, losses)) == [bytes([number]) * 300 for number in (1, 2, 3)]
    assert not losses


@pytest.mark.parametrize("content", [b"not ours at all", MAGIC[:-1] + b"\x63" + b"future"])
def test_a_file_of_another_format_is_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "000000000007.seg").write_bytes(content)
    losses = Losses()
    spool = make(tmp_path, losses, durable=True)
    assert losses == {(METRICS, LossReason.CORRUPT): 1}
    assert spool.head(METRICS, 1) == []
    spool.put(METRICS, b"next")
    assert (tmp_path / "000000000008.open").exists()
    spool.close()


def test_broken_framing_ends_the_file_there(tmp_path: Path) -> None:
    found = scan(MAGIC_V1 + b"\xff\xff\xff\xff" + b"\0" * 40)
    assert (found.records, found.damaged) == ([], 1)


@given(st.lists(st.integers(1, 120_000), min_size=1, max_size=60))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_disk_never_exceeds_its_limit_and_every_record_is_delivered_or_counted(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    losses = Losses()
    limit = 3 * SEGMENT_BYTES
    spool = make(tmp_path_factory.mktemp("s"), losses, durable=True, disk_bytes=limit)
    for size in sizes:
        spool.put(METRICS, b"z" * size)
        assert spool.usage()[1] <= limit
    delivered = len(drain(spool))
    assert delivered + losses[METRICS, LossReason.CAPACITY] == len(sizes)
    spool.close()


def test_without_a_disk_the_oldest_is_dropped_and_counted() -> None:
    losses = Losses()
    spool = make(None, losses, memory_bytes=5000)
    for number in range(9):
        spool.put(METRICS, bytes([number]) * 1000)
    assert drain(spool) == [bytes([n]) * 1000 for n in range(4, 9)]
    assert losses == {(METRICS, LossReason.CAPACITY): 4}
    assert spool.volatile_windows == 0


def test_a_disk_that_refuses_never_raises_and_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0]
    spool = make(tmp_path / "s", durable=True, boot_ns=lambda: now[0])
    real_write = os.pwrite

    def full(descriptor: int, data: bytes, at: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    for number in range(3):
        spool.put(METRICS, bytes([number]))
    monkeypatch.setattr(os, "pwrite", real_write)
    spool.put(METRICS, b"\x03")
    spool.settle()
    assert spool.usage() == (4, 0)  # the disk is left alone for a while
    assert spool.volatile_windows == 4
    now[0] = 31 * 10**9
    spool.put(METRICS, b"\x04")
    spool.settle()
    assert spool.volatile_windows == 0  # what had to be durable is, as soon as the disk takes it
    assert sorted(drain(make(tmp_path / "s"))) == [bytes([n]) for n in range(5)]


def test_a_half_written_record_on_a_full_disk_is_never_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make(tmp_path, durable=True)
    spool.put(METRICS, b"whole" * 100)
    real_write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real_write(fd, data[: len(data) // 2], at))
    spool.put(METRICS, b"half" * 100)
    monkeypatch.setattr(os, "pwrite", real_write)
    assert drain(make(tmp_path)) == [b"whole" * 100]
    spool.close()


def test_a_read_only_directory_keeps_everything_in_memory(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where a directory should be")
    spool = make(blocked / "spool", durable=True)
    spool.put(METRICS, b"kept")
    assert drain(spool) == [b"kept"]

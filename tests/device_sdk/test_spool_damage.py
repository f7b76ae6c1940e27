"""What a tired disk does to a spool: cuts, flips, zeros, foreign and old files, no room, no directory, no speed."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sdk_kit import SECOND

from device_sdk.contract.attributes import LossReason
from device_sdk.limits import Limits
from device_sdk.spool import LOGS, METRICS, Priority, Reports, Spool, files
from device_sdk.spool.format import HEADER_BYTES, MAGIC_V1, RECORD_HEAD_BYTES

DAY_NS = 86_400 * SECOND


class Told:
    def __init__(self) -> None:
        self.lost: Counter[tuple[int, LossReason]] = Counter()
        self.corrupt = 0

    def reports(self) -> Reports:
        return Reports(lost=self.count, segments_corrupt=self.aside)

    def count(self, kind: int, reason: LossReason, count: int) -> None:
        self.lost[kind, reason] += count

    def aside(self, count: int) -> None:
        self.corrupt += count


def make(directory: Path, told: Told | None = None, *, limits: Limits | None = None, **options: Any) -> Spool:
    options.setdefault("durable", True)
    return Spool(directory, limits or Limits(), reports=(told or Told()).reports(), **options)


def drain(spool: Spool, kind: int = METRICS) -> list[bytes]:
    taken = []
    while records := spool.head(kind, 1 << 20):
        taken += [payload for record in spool.offer(records) if (payload := record.read()) is not None]
        spool.done(records)
    return taken


def finished(directory: Path, payloads: list[bytes]) -> Path:
    spool = make(directory)
    for payload in payloads:
        spool.put(METRICS, payload)
    spool.close()
    (path,) = directory.glob("*.seg")
    return path


PAYLOADS = [bytes([65 + n]) * (20 + n) for n in range(4)]


@pytest.mark.parametrize("suffix", [".seg", ".open"])
def test_cut_at_every_byte_the_file_loses_at_most_the_record_that_was_cut(tmp_path: Path, suffix: str) -> None:
    data = finished(tmp_path / "made", PAYLOADS).read_bytes()
    ends = [HEADER_BYTES]
    for payload in PAYLOADS:
        ends.append(ends[-1] + RECORD_HEAD_BYTES + len(payload))
    assert ends[-1] == len(data)
    directory = tmp_path / "cut"
    directory.mkdir()
    for cut in range(len(data) + 1):
        (directory / f"000000000000{suffix}").write_bytes(data[:cut])
        told = Told()
        spool = make(directory, told)
        assert drain(spool) == PAYLOADS[: sum(end <= cut for end in ends[1:])], cut
        assert (told.lost, told.corrupt) == (Counter(), 0)
        spool.close()
        assert not [path for path in directory.iterdir() if path.is_file()]


def test_a_flipped_byte_anywhere_costs_at_most_its_own_record_and_never_passes(tmp_path: Path) -> None:
    data = finished(tmp_path / "made", PAYLOADS).read_bytes()
    for at in range(len(data)):
        directory = tmp_path / "flipped"
        directory.mkdir()
        flipped = bytearray(data)
        flipped[at] ^= 0x5A
        (directory / "000000000000.seg").write_bytes(flipped)
        told = Told()
        spool = make(directory, told)
        got = drain(spool)
        assert set(got) <= set(PAYLOADS)
        if at >= HEADER_BYTES:
            assert len(got) == 3, at
        hit_length_of_last = at in range(len(data) - len(PAYLOADS[3]) - RECORD_HEAD_BYTES + 4, len(data))
        assert told.corrupt == 1 or (hit_length_of_last and not told.lost), at
        spool.close()
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    "content", [bytes(5000), b"not ours", b"FPSPOOL\x03" + os.urandom(300), b"FPSPOOL\x02" + bytes(400)]
)
def test_zeros_foreign_files_and_newer_versions_are_set_aside_and_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "000000000003.seg").write_bytes(content)
    told = Told()
    spool = make(tmp_path, told)
    spool.put(METRICS, b"goes on")
    assert told.corrupt == 1
    assert told.lost == {(METRICS, LossReason.CORRUPT): 1}
    assert (tmp_path / "bad" / "000000000003.bad").read_bytes() == content
    assert drain(spool) == [b"goes on"]


def test_zeros_behind_good_records_are_a_torn_tail(tmp_path: Path) -> None:
    path = finished(tmp_path, PAYLOADS)
    path.write_bytes(path.read_bytes() + bytes(4096))
    told = Told()
    assert drain(make(tmp_path, told)) == PAYLOADS
    assert (told.lost, told.corrupt) == (Counter(), 0)


def version_1(*records: tuple[int, bytes]) -> bytes:
    return MAGIC_V1 + b"".join(
        struct.pack("<IIB", len(payload), zlib.crc32(payload, kind), kind) + payload for kind, payload in records
    )


def test_files_of_the_first_format_are_still_delivered(tmp_path: Path) -> None:
    (tmp_path / "000000000001.seg").write_bytes(version_1((METRICS, b"w1"), (LOGS, b"e1"), (METRICS, b"w2")))
    (tmp_path / "000000000002.open").write_bytes(version_1((METRICS, b"w3"), (METRICS, b"torn"))[:-2])
    (tmp_path / "000000000003.open").write_bytes(version_1((METRICS, b"w4")) + bytes(500))
    told = Told()
    spool = make(tmp_path, told)
    assert drain(spool) == [b"w1", b"w2", b"w3", b"w4"]
    assert drain(spool, LOGS) == [b"e1"]
    assert told.corrupt == 0
    assert not any(record.mergeable for record in spool.head(METRICS, 1 << 20))


def test_damage_in_a_file_of_the_first_format_is_reported(tmp_path: Path) -> None:
    data = bytearray(version_1((METRICS, b"w1"), (METRICS, b"w2")))
    data[8 + 9] ^= 1
    (tmp_path / "000000000001.seg").write_bytes(data)
    told = Told()
    assert drain(make(tmp_path, told)) == [b"w2"]
    assert (told.corrupt, told.lost) == (1, {(METRICS, LossReason.CORRUPT): 1})


def test_damage_reaches_the_collector_as_numbers(bench: Any, tmp_path: Path) -> None:
    world = bench(spool="durable")
    world.window()
    world.monitor.close(0)
    victim = next(p for p in (tmp_path / "state" / "spool").glob("*.seg") if b"edge.window" in p.read_bytes())
    data = bytearray(victim.read_bytes())
    data[HEADER_BYTES + RECORD_HEAD_BYTES + 3] ^= 1
    victim.write_bytes(data)
    again = bench()
    again.window()
    assert [p.as_int for _, p in again.named("edge.spool.corrupt_segments")] == [1]
    assert [(at["edge.loss.reason"], p.as_int) for at, p in again.named("edge.loss.windows")] == [("corrupt", 1)]


@pytest.fixture(params=["tmpfs", "file size limit"])
def full_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory that takes about 100 kB: a real small file system where mounting is allowed, else a process limit."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if request.param == "tmpfs" and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_raises_nothing_and_loses_nothing_that_fits_into_memory(full_disk: Path) -> None:
    told, now = Told(), [0]
    spool = make(full_disk / "spool", told, boot_ns=lambda: now[0])
    payloads = [os.urandom(5_000) for _ in range(60)]
    for payload in payloads:
        spool.put(METRICS, payload)
        spool.settle()
        now[0] += 40 * SECOND
    assert spool.usage()[1] > 50_000
    assert sorted(drain(spool)) == sorted(payloads)
    assert not told.lost
    spool.close()


def test_a_file_that_could_not_be_finished_goes_with_its_last_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, "no longer")

    spool = make(tmp_path, limits=Limits(disk_bytes=64 * 1024))
    payloads = [os.urandom(3000) for _ in range(4)]
    for payload in payloads:
        spool.put(METRICS, payload)
    with monkeypatch.context() as disk:
        disk.setattr(files, "_sync", broken)
        spool.settle()
    assert drain(spool) == payloads
    spool.settle()
    assert spool.usage() == (0, 0)
    spool.close()
    assert not list(tmp_path.iterdir())


def test_a_child_forked_while_files_are_finished_holds_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(_descriptor: int) -> None:
        entered.set()
        assert leave.wait(30)

    spool = make(tmp_path, limits=Limits(disk_bytes=64 * 1024))
    for _ in range(4):
        spool.put(METRICS, os.urandom(3000))
    monkeypatch.setattr(files, "_sync", slow)
    settling = threading.Thread(target=spool.settle)
    settling.start()
    assert entered.wait(30)
    child = os.fork()
    if not child:
        spool.disown()
        numbers = os.listdir("/proc/self/fd")  # noqa: PTH208
        os._exit(sum(str(tmp_path) in os.path.realpath(f"/proc/self/fd/{number}") for number in numbers))
    leave.set()
    settling.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    spool.close()


def test_a_directory_that_disappears_costs_only_what_was_nowhere_else(tmp_path: Path) -> None:
    told, now = Told(), [10 * SECOND]
    spool = make(tmp_path / "spool", told, boot_ns=lambda: now[0])
    for number in range(5):
        spool.put(METRICS, bytes([number]) * 100)
    spool.settle()
    shutil.rmtree(tmp_path / "spool")
    now[0] += 10 * SECOND
    spool.put(METRICS, b"5" * 100)
    spool.settle()  # notices
    spool.put(METRICS, b"6" * 100)
    spool.settle()
    assert len(drain(spool)) == 7
    assert not told.lost
    spool.put(METRICS, b"next")
    spool.close()
    assert drain(make(tmp_path / "spool")) == [b"next"]


def test_a_slow_disk_keeps_nobody_waiting_who_only_queues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make(tmp_path)
    entered, go_on = threading.Event(), threading.Event()

    def slow(_descriptor: int) -> None:
        entered.set()
        assert go_on.wait(30)

    monkeypatch.setattr(files, "_sync", slow)
    spool.put(METRICS, b"one")
    settling = threading.Thread(target=spool.settle)
    settling.start()
    assert entered.wait(10)
    queued = threading.Event()

    def queue() -> None:
        spool.put(LOGS, b"two", durable=True)
        spool.head(LOGS, 1)
        queued.set()

    host = threading.Thread(target=queue)
    host.start()
    assert queued.wait(10)  # while the disk still syncs
    go_on.set()
    settling.join()
    host.join()
    spool.close()


def test_two_processes_cannot_hold_one_spool(tmp_path: Path, bench: Any) -> None:
    world = bench(state_dir=tmp_path / "s")
    code = f"""
from device_sdk import Monitor
from device_sdk.errors import StateDirError
try:
    Monitor(endpoint="http://127.0.0.1:9", state_dir={str(tmp_path / "s")!r})
except StateDirError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "another process" in said
    world.window()


# --- budgets ------------------------------------------------------------------------------------------------------


def test_age_is_counted_in_time_the_device_was_up_whatever_its_clocks_say(tmp_path: Path) -> None:
    limits, told, now = Limits(age_ns=DAY_NS), Told(), [10 * SECOND]
    first = make(tmp_path, told, limits=limits, boot_ns=lambda: now[0], boot=b"boot-one")
    first.put(METRICS, b"old")
    now[0] += DAY_NS // 2
    first.put(METRICS, b"young")
    first.close()
    now[0] += DAY_NS // 4  # the process was down, the machine was not
    again = make(tmp_path, told, limits=limits, boot_ns=lambda: now[0], boot=b"boot-one")
    assert 0.74 * 86_400 < again.age_s() < 0.76 * 86_400
    again.close()
    now[0] = 5 * SECOND  # another boot: its clock begins anew, however long the machine was off
    third = make(tmp_path, told, limits=limits, boot_ns=lambda: now[0], boot=b"boot-two")
    third.settle()
    assert third.waiting() == 2
    now[0] += DAY_NS * 6 // 10
    third.settle()
    assert drain(third) == [b"young"]
    assert told.lost == {(METRICS, LossReason.AGE): 1}


def test_when_the_write_budget_is_spent_windows_stay_in_memory_and_crashes_are_written(tmp_path: Path) -> None:
    limits, now = Limits(written_bytes_per_day=10_000), [0]
    spool = make(tmp_path, limits=limits, boot_ns=lambda: now[0])
    for _ in range(10):
        spool.put(METRICS, os.urandom(2000))
    assert spool.volatile_windows == 5
    spool.put(LOGS, b"crash", priority=Priority.CRASH, durable=True)
    assert any(b"crash" in path.read_bytes() for path in tmp_path.glob("*.open"))
    now[0] += DAY_NS
    spool.settle()
    assert spool.volatile_windows == 0
    assert len(drain(spool)) == 10
    spool.close()


def test_on_pressure_the_lowest_class_goes_first_and_crashes_stay(tmp_path: Path) -> None:
    told = Told()
    spool = make(tmp_path, told, limits=Limits(memory_bytes=32 * 1024, disk_bytes=64 * 1024))
    spool.put(LOGS, b"crash" * 20, priority=Priority.CRASH)
    spool.put(LOGS, b"update" * 20, priority=Priority.UPDATE)
    for number in range(200):
        spool.put(LOGS, b"health%03d" % number + os.urandom(200), priority=Priority.HEALTH)
        spool.put(METRICS, os.urandom(2000))
        spool.settle()
        assert spool.usage()[1] <= 64 * 1024
    left = drain(spool, LOGS)
    assert left[0] == b"crash" * 20
    assert left[1] == b"update" * 20
    assert told.lost[METRICS, LossReason.CAPACITY] > 100
    assert told.lost[LOGS, LossReason.CAPACITY] == 200 - (len(left) - 2)
    assert told.lost[METRICS, LossReason.CAPACITY] + len(drain(spool)) == 200
    spool.close()


def test_what_could_not_be_moved_out_of_a_file_leaves_no_copies_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, "no longer")

    told, crashes = Told(), [os.urandom(3000), os.urandom(12_000)]
    spool = make(tmp_path, told, limits=Limits(disk_bytes=64 * 1024))
    spool.put(LOGS, crashes[0], priority=Priority.CRASH)
    for _ in range(58):
        spool.put(LOGS, os.urandom(960), priority=Priority.HEALTH)
    spool.settle()
    spool.put(LOGS, crashes[1], priority=Priority.CRASH)  # too much, and the oldest of the lowest is beside a crash
    used = spool.usage()[1]
    with monkeypatch.context() as disk:
        disk.setattr(files, "_sync", broken)
        for _ in range(20):
            spool.settle()
    assert spool.usage()[1] <= used
    spool.settle()
    assert spool.usage()[1] <= 64 * 1024
    left = drain(spool, LOGS)
    assert left[:2] == crashes
    assert len(left) - 2 + told.lost[LOGS, LossReason.CAPACITY] == 58
    spool.settle()
    assert spool.usage() == (0, 0)
    spool.close()


def test_only_health_is_left_when_distributions_are_gone(tmp_path: Path) -> None:
    told = Told()
    spool = make(tmp_path, told, limits=Limits(disk_bytes=64 * 1024))
    for number in range(300):
        spool.put(LOGS, b"%03d" % number + os.urandom(997), priority=Priority.HEALTH)
        spool.settle()
    spool.put(LOGS, b"crash", priority=Priority.CRASH)
    for _ in range(100):
        spool.put(LOGS, os.urandom(1000), priority=Priority.HEALTH)
        spool.settle()
    left = drain(spool, LOGS)
    assert left[0] == b"crash"
    assert len(left) - 1 + told.lost[LOGS, LossReason.CAPACITY] == 400
    spool.close()

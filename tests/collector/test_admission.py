"""Admission: measured backlog, free disk and held memory decide; refusing loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.ingest.admission import Admission, Limits
from collector.ingest.counters import IngestCounters, read_counters, write_counters


def admission(directory: Path, **limits: int) -> Admission:
    return Admission(
        directory, Limits(**{"inflight_bytes_max": 100, "backlog_bytes_max": 1000, "free_bytes_min": 0, **limits})
    )


def test_the_backlog_counts_complete_segments_only(tmp_path: Path) -> None:
    (tmp_path / "1.seg").write_bytes(b"x" * 600)
    (tmp_path / "2.seg").write_bytes(b"x" * 400)
    (tmp_path / "3.tmp").write_bytes(b"x" * 5000)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "4.seg").write_bytes(b"x" * 5000)
    found = admission(tmp_path)
    found.measure()
    assert (found.backlog_bytes, found.refusal()) == (1000, "")


def test_a_backlog_above_the_mark_refuses_until_it_is_drained(tmp_path: Path) -> None:
    segment = tmp_path / "1.seg"
    segment.write_bytes(b"x" * 1001)
    found = admission(tmp_path)
    found.measure()
    assert "1001 bytes of segments wait for the store, the limit is 1000" in found.refusal()
    segment.unlink()
    found.measure()
    assert found.refusal() == ""


def test_a_disk_below_its_reserve_refuses(tmp_path: Path) -> None:
    found = admission(tmp_path, free_bytes_min=2**62)
    found.measure()
    assert "bytes are free on the collector's disk" in found.refusal()


def test_bodies_in_memory_are_bounded_and_given_back(tmp_path: Path) -> None:
    found = admission(tmp_path)
    assert found.hold(60)
    assert not found.hold(41)
    assert found.hold(40)
    assert not found.hold(1)
    found.release(60)
    assert found.hold(60)
    assert found.inflight_bytes == 100


def test_a_directory_that_is_gone_is_an_error_not_an_empty_backlog(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        admission(tmp_path / "gone").measure()


def test_counters_are_published_atomically_and_read_by_worker(tmp_path: Path) -> None:
    directory = tmp_path / "workers"
    for name, count in (("w1", 2), ("w0", 1)):
        counters = IngestCounters(name, 5)
        counters.accepted["metrics"] += count
        counters.acknowledged(0.003)
        counters.acknowledged(99)
        write_counters(directory / f"{name}.json", counters.snapshot(9, segments=3))
    (directory / "torn.json").write_text("{")
    (directory / "list.json").write_text("[]")
    found = read_counters(directory)
    assert [(item["worker"], item["accepted"], item["segments"]) for item in found] == [
        ("w0", {"metrics": 1}, 3), ("w1", {"metrics": 2}, 3),
    ]  # fmt: skip
    ack = found[0]["ack"]
    assert (ack["count"], sum(ack["counts"]), ack["counts"][1], ack["counts"][-1]) == (2, 2, 1, 1)
    assert len(ack["counts"]) == len(ack["bounds"]) + 1
    assert list(directory.glob("*.tmp")) == []


def test_no_workers_directory_means_no_workers(tmp_path: Path) -> None:
    assert read_counters(tmp_path / "absent") == []

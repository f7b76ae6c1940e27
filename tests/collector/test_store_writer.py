"""The drain moves every acknowledged segment into the store, once, and goes on after whatever happens."""

import threading

import duckdb
import pytest
from store_kit import HOUR, T0, Clock, S, device_window, write

from collector.storage import open_store
from collector.storage.base import PutResult
from collector.storage.writer import Drain


@pytest.fixture
def store(tmp_path):
    opened = open_store(tmp_path / "data", threads=1)
    yield opened
    opened.close()


def segment(directory, device, received=T0):
    return write(directory, [device_window(device, T0, T0 + 900 * S).decoded(received)], received)


def runs(store):
    return sum(store.query("points", {"metric": "edge.inference.duration"}).column("count").to_pylist())


def test_segments_are_deleted_once_they_are_stored_and_counted(store, tmp_path):
    clock = Clock(T0 + 3 * S)
    drain = Drain(store, tmp_path / "seg", clock_ns=clock)
    for device in "abc":
        segment(tmp_path / "seg", device)
    assert drain.backlog()[0] == 3
    assert drain.drain_once() == PutResult(3, 21, 0, 0, 0, 0)
    assert drain.backlog() == (0, 0)
    assert runs(store) == 30
    assert drain.drain_once() == PutResult(0, 0, 0, 0, 0, 0)
    metrics = drain.metrics()
    assert (metrics["drain_points_total"], metrics["drain_segments_total"]) == (21, 3)
    assert metrics["drain_last_lag_seconds"] == 3.0


def test_a_corrupt_segment_is_set_aside_and_the_others_are_stored(store, tmp_path):
    drain = Drain(store, tmp_path / "seg")
    segment(tmp_path / "seg", "a")
    bad = segment(tmp_path / "seg", "b")
    bad.write_bytes(bad.read_bytes()[:-3] + b"xyz")
    segment(tmp_path / "seg", "c")
    assert drain.drain_once().segments == 2
    assert runs(store) == 20
    assert drain.totals.bad_segments == 1
    assert [path.name for path in (tmp_path / "seg" / "bad").iterdir()] == [bad.name]
    assert drain.backlog()[0] == 0


class Refusing:
    """A store that refuses one segment for ever, as an engine does with a value it cannot hold."""

    def __init__(self, store, path):
        self.store, self.path = store, path

    def put(self, paths):
        if self.path in paths:
            raise duckdb.ConversionException("a value is out of range")
        return self.store.put(paths)


def test_a_segment_that_the_engine_refuses_is_set_aside_and_the_others_are_stored(store, tmp_path):
    segment(tmp_path / "seg", "a")
    refused = segment(tmp_path / "seg", "b")
    segment(tmp_path / "seg", "c")
    drain = Drain(Refusing(store, refused), tmp_path / "seg")
    assert drain.drain_once().segments == 2
    assert runs(store) == 20
    assert [path.name for path in (tmp_path / "seg" / "bad").iterdir()] == [refused.name]
    assert drain.totals.bad_segments == 1


def test_files_that_were_never_acknowledged_are_left_alone(store, tmp_path):
    drain = Drain(store, tmp_path / "seg")
    torn = tmp_path / "seg" / "00000000000000000001-w0-00000000.tmp"
    torn.write_bytes(b"half")
    assert drain.drain_once().segments == 0
    assert torn.exists()


def test_small_batches_store_the_same(store, tmp_path):
    drain = Drain(store, tmp_path / "seg", batch_rows=1)
    for device in "abcd":
        segment(tmp_path / "seg", device)
    assert drain.drain_once().segments == 4
    assert runs(store) == 40


class Stubborn:
    """A store whose first two puts fail, as with a full disk; says when the third has worked."""

    def __init__(self, store):
        self.store, self.calls, self.stored = store, 0, threading.Event()

    def put(self, paths):
        self.calls += 1
        if self.calls <= 2:
            raise OSError(28, "No space left on device")
        result = self.store.put(paths)
        self.stored.set()
        return result


def test_the_thread_outlives_a_full_disk_and_keeps_the_segments_until_they_are_stored(store, tmp_path, caplog):
    stubborn = Stubborn(store)
    drain = Drain(stubborn, tmp_path / "seg", interval_s=0.01)
    segment(tmp_path / "seg", "a")
    drain.start()
    assert stubborn.stored.wait(20)
    drain.stop()
    assert drain.totals.failures == 2
    assert drain.totals.last_error == ""
    assert runs(store) == 10
    assert "No space left" in caplog.text


def test_stopping_stores_what_is_on_disk(store, tmp_path):
    drain = Drain(store, tmp_path / "seg", interval_s=3600)
    drain.start()
    with pytest.raises(RuntimeError, match="runs already"):
        drain.start()
    segment(tmp_path / "seg", "late", T0 + HOUR)
    drain.stop()
    drain.stop()
    assert runs(store) == 10


def test_the_thread_drops_what_is_past_its_retention_while_it_runs(tmp_path):
    clock = Clock(T0)
    store = open_store(tmp_path / "data", clock_ns=clock, threads=1)
    store.put([segment(tmp_path, "a")])
    store.recompute(store.dirty_hours(), [], 1)
    drain = Drain(store, tmp_path / "seg", interval_s=0.01, clock_ns=clock)
    clock.now_ns = T0 + 20 * 24 * HOUR
    drain.start()
    drain.stop()
    assert drain.metrics()["drain_expired_rows_total"] == 7
    assert store.query("totals").to_pylist()[0]["points"] == 0
    store.close()

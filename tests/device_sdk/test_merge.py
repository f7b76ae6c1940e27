"""Merging neighbouring windows: counts add, nothing is lost, and what does not fit together stays apart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from sdk_kit import SECOND, START_NS, points

from device_sdk import Monitor
from device_sdk.contract import metrics as m
from device_sdk.points import ExplicitHistogram, ExponentialHistogram, Points, Side
from device_sdk.sending.otlp import Encoder
from device_sdk.spool.merge import losses_in, merge_windows
from device_sdk.testing import ManualClock, MemorySink, connect, kill

MINUTE = 60 * SECOND
RESOURCE = {"service.instance.id": "one", "service.name": "n"}


def window(number: int, measured: Points, *, resource: dict[str, Any] | None = None, count: int = 1) -> bytes:
    measured.add(m.WINDOW_SEQUENCE.name, number)
    measured.add(m.WINDOW_COUNT.name, count)
    measured.add(m.WINDOW_POINTS.name, measured.count + 1)
    start = START_NS + (number + 1 - count) * MINUTE
    return Encoder(resource or RESOURCE).window(measured, start, START_NS + (number + 1) * MINUTE)


def of(**values: Any) -> Points:
    made = Points()
    for name, value in values.items():
        made.add(getattr(m, name).name, value)
    return made


def parsed(payload: bytes | None) -> dict[str, Any]:
    assert payload is not None
    request = metrics_service_pb2.ExportMetricsServiceRequest.FromString(payload)
    return {name: point for name, _, point in points([request])}


def exponential(values: list[float], scale: int) -> ExponentialHistogram:
    indexes = [int(np.ceil(np.log2(v) * 2.0**scale)) - 1 for v in values]
    low = min(indexes)
    counts = [indexes.count(i) for i in range(low, max(indexes) + 1)]
    side = Side(low, counts)
    return ExponentialHistogram(len(values), scale, 0, 0.0, side, Side(), sum(values), min(values), max(values))


def test_counts_add_levels_and_gauges_keep_the_last_and_peaks_the_highest() -> None:
    first = of(INFERENCE_SAMPLES=5, SESSION_TIME=60.0, PROCESS_MEMORY=100, PROCESS_MEMORY_PEAK=900, SPOOL_AGE=1.0)
    second = of(INFERENCE_SAMPLES=7, SESSION_TIME=59.5, PROCESS_MEMORY=80, PROCESS_MEMORY_PEAK=500, SPOOL_AGE=61.0)
    second.add(m.SPOOL_MERGES.name, 3)  # a series that only one of them has
    merged = parsed(merge_windows([window(4, first), window(5, second)]))
    assert merged["edge.inference.samples"].as_int == 12
    assert merged["edge.session.time"].as_double == 119.5
    assert merged["process.memory.usage"].as_int == 80
    assert merged["edge.process.memory.peak"].as_int == 900
    assert merged["edge.spool.age"].as_double == 61.0
    assert merged["edge.spool.merges"].as_int == 3
    assert merged["edge.window.sequence"].as_int == 5
    assert merged["edge.window.count"].as_int == 2
    assert merged["edge.window.points"].as_int == len(merged)
    times = {(p.start_time_unix_nano, p.time_unix_nano) for p in merged.values()}
    assert times == {(START_NS + 4 * MINUTE, START_NS + 6 * MINUTE)}


def test_explicit_histograms_add_bucket_by_bucket() -> None:
    parts = [of(OUTPUT_CONFIDENCE=ExplicitHistogram(sum(c), (0.5, 0.9), c)) for c in ([1, 2, 3], [10, 0, 5])]
    merged = parsed(merge_windows([window(0, parts[0]), window(1, parts[1])]))["edge.output.confidence"]
    assert (merged.count, list(merged.bucket_counts)) == (21, [11, 2, 8])
    assert not merged.HasField("sum")


positive = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40)


@given(positive, positive, st.integers(0, 6), st.integers(0, 6))
def test_exponential_histograms_come_down_to_the_smaller_scale(
    one: list[float], two: list[float], scale_one: int, scale_two: int
) -> None:
    parts = [of(INFERENCE_DURATION=exponential(v, s)) for v, s in ((one, scale_one), (two, scale_two))]
    merged = parsed(merge_windows([window(0, parts[0]), window(1, parts[1])]))["edge.inference.duration"]
    assert merged.count == len(one) + len(two) == sum(merged.positive.bucket_counts)
    assert merged.scale <= min(scale_one, scale_two)
    assert len(merged.positive.bucket_counts) <= 160
    assert merged.sum == pytest.approx(sum(one) + sum(two))
    assert (merged.min, merged.max) == (min(one + two), max(one + two))
    # what a histogram of all values at that scale would be, but for values on a bucket's very edge
    whole = exponential(one + two, merged.scale)
    ours = {merged.positive.offset + i: c for i, c in enumerate(merged.positive.bucket_counts) if c}
    direct = {whole.positive.offset + i: c for i, c in enumerate(whole.positive.counts) if c}
    moved = sum(abs(ours.get(i, 0) - direct.get(i, 0)) for i in ours.keys() | direct.keys()) // 2
    edges = sum(abs(np.log2(v) * 2.0**s - round(np.log2(v) * 2.0**s)) < 1e-9 for v in one + two for s in range(7))
    assert moved <= edges


@given(st.lists(positive, min_size=3, max_size=3), st.lists(st.integers(0, 6), min_size=3, max_size=3))
def test_merging_is_associative(values: list[list[float]], scales: list[int]) -> None:
    def parts() -> list[bytes]:
        return [window(i, of(INFERENCE_DURATION=exponential(values[i], scales[i]))) for i in range(3)]

    one, two, three = parts()
    left = merge_windows([merge_windows([one, two]) or b"", three])
    right = merge_windows([one, merge_windows([two, three]) or b""])
    at_once = merge_windows([one, two, three])
    found = [parsed(each)["edge.inference.duration"] for each in (left, right, at_once)]
    assert len({(p.count, p.scale, p.positive.offset, tuple(p.positive.bucket_counts)) for p in found}) == 1


def test_a_larger_zero_threshold_takes_in_the_buckets_it_reaches() -> None:
    small = ExponentialHistogram(3, 0, 0, 0.0, Side(-4, [1, 1, 1]), Side(-4, [0, 0, 0]))
    large = ExponentialHistogram(2, 0, 1, 0.1, Side(0, [1]), Side())
    merged = parsed(merge_windows([window(0, of(INPUT_VALUE=small)), window(1, of(INPUT_VALUE=large))]))[
        "edge.input.value"
    ]
    assert merged.count == 5 == merged.zero_count + sum(merged.positive.bucket_counts)
    assert merged.zero_threshold == 0.125  # the bound of the bucket (1/16, 1/8] that 0.1 cuts
    assert merged.zero_count == 2


def plain(number: int, **arguments: Any) -> bytes:
    return window(number, of(INFERENCE_SAMPLES=1), **arguments)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (plain(0), plain(2)),  # one is missing between them
        (plain(1), plain(0)),  # the wrong way round
        (plain(0), plain(0)),
        (plain(0), plain(1, resource={**RESOURCE, "service.instance.id": "two"})),
        (plain(0), plain(1, resource={**RESOURCE, "edge.rollout.ring": "canary"})),
        (plain(0), plain(1).replace(b"device_sdk", b"device_abc")),  # another scope
        (plain(0), b"\xff\xff not OTLP"),
        (plain(0), b""),
        (plain(0), Encoder(RESOURCE).window(of(INFERENCE_SAMPLES=1), START_NS + MINUTE, START_NS + 2 * MINUTE)),
        (plain(0), plain(1) + plain(2)),
    ],
)
def test_what_does_not_fit_together_stays_apart(first: bytes, second: bytes) -> None:
    assert merge_windows([first, second]) is None


def test_the_losses_a_window_tells_of_are_added_and_can_be_read_back() -> None:
    parts = []
    for number, (lost, reason) in enumerate([(3, "capacity"), (4, "capacity"), (5, "age")]):
        told = Points()
        told.add(m.LOSS_WINDOWS.name, lost, (("edge.loss.reason", reason),))
        parts.append(window(number, told))
    merged = merge_windows(parts)
    assert merged is not None
    assert losses_in(merged) == {("edge.loss.windows", "capacity"): 7, ("edge.loss.windows", "age"): 5}
    assert losses_in(b"\xff") == {}


# --- in the life of a device --------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool of 64 KiB that waits for no disk: nothing here loses power, and thousands of syncs take a minute."""
    monkeypatch.setattr(os, "fsync", lambda _file: None)
    monkeypatch.setattr(os, "fdatasync", lambda _file: None)
    monkeypatch.setenv("FLEETPULSE_DEVICE_SPOOL_BYTES", "65536")
    monkeypatch.setenv("FLEETPULSE_DEVICE_SPOOL_MEMORY_BYTES", "65536")


def live(monitor: Monitor, clock: ManualClock, windows: int) -> None:
    for _ in range(windows):
        with monitor.measure("m"):
            clock.advance(SECOND)
        clock.advance(59 * SECOND)
        monitor.step()


def totals(sink: MemorySink) -> tuple[int, int, list[tuple[int, int]]]:
    """Return (runs, losses of windows, intervals of sequence numbers in order) of everything that arrived."""
    found = points(sink.metrics())
    runs = sum(p.count for n, _, p in found if n == "edge.inference.duration")
    lost = sum(p.as_int for n, _, p in found if n == "edge.loss.windows")
    last = [p.as_int for n, _, p in found if n == "edge.window.sequence"]
    inside = [p.as_int for n, _, p in found if n == "edge.window.count"]
    return runs, lost, sorted((s - c + 1, s) for s, c in zip(last, inside, strict=True))


@pytest.mark.parametrize("mode", ["memory", "durable"])
def test_a_day_off_line_in_64_kib_loses_no_count(small: None, bench: Any, tmp_path: Path, mode: str) -> None:
    world = bench(spool=mode)
    world.sink.status = 0
    world.monitor.flush(0.01)
    for _ in range(24):
        live(world.monitor, world.clock, 60)
        world.monitor.flush(0.001)
        size = sum(p.stat().st_size for p in (tmp_path / "state" / "spool").rglob("*") if p.is_file())
        assert size <= 65536
    world.monitor.close(0)
    again = bench(spool=mode)
    again.window()
    assert again.monitor.flush(20)
    runs, lost, intervals = totals(again.sink)
    assert (runs, lost) == (24 * 60, 0)
    ends = [last for _, last in intervals if last != 0]
    assert len(intervals) < 24 * 60 / 4  # time did coarsen
    covered = sum(last - first + 1 for first, last in intervals) - 1  # the second session's window 0
    assert covered == max(ends) + 1 == 24 * 60


def test_without_a_disk_windows_merge_in_memory(small: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    clock, sink = ManualClock(START_NS), MemorySink(status=0)
    monitor = Monitor(endpoint="http://127.0.0.1:9", state_dir=tmp_path / "file" / "state", clock=clock)
    connect(monitor, sink)
    for _ in range(10):
        live(monitor, clock, 60)
        monitor.flush(0.001)
    engine = monitor._engine
    assert engine is not None
    assert engine.session.spool.usage()[0] <= 65536
    sink.status = 200
    for lane in engine.sender._lanes:
        lane.resting_until_s = 0.0
    assert monitor.flush(20)
    runs, lost, _ = totals(sink)
    assert (runs, lost) == (600, 0)
    monitor.close(0)


def test_what_was_offered_once_is_never_merged_not_even_by_the_next_process(
    small: None, bench: Any, tmp_path: Path
) -> None:
    world = bench(spool="durable")
    offered: list[bytes] = []

    class Deaf:
        def post(self, url: str, body: bytes, headers: Any, timeout_s: float) -> Any:
            import gzip

            from device_sdk.sending.transport import Answer

            if url.endswith("metrics"):
                offered.append(gzip.decompress(body))
            return Answer(0, error="no answer came")

        def close(self) -> None:
            return None

    live(world.monitor, world.clock, 3)
    connect(world.monitor, Deaf())
    world.monitor.flush(0.01)
    assert offered
    seen = metrics_service_pb2.ExportMetricsServiceRequest.FromString(offered[0]).resource_metrics[:-1]
    kill(world.monitor)
    again = bench(spool="durable")
    again.sink.status = 0
    live(again.monitor, again.clock, 600)  # far more than fits
    again.monitor.close(0)
    last = bench(spool="durable")
    assert last.monitor.flush(20)
    arrived = {r.SerializeToString() for q in last.sink.metrics() for r in q.resource_metrics}
    assert len(seen) == 3
    assert {r.SerializeToString() for r in seen} <= arrived


def test_windows_of_different_sessions_never_become_one(small: None, bench: Any) -> None:
    for _ in range(6):
        world = bench()
        world.sink.status = 0
        live(world.monitor, world.clock, 80)
        world.monitor.close(0)
    last = bench()
    assert last.monitor.flush(20)
    by_stream: dict[str, int] = {}
    for request in last.sink.metrics():
        for resource in request.resource_metrics:
            stream = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.instance.id")
            for metric in resource.scope_metrics[0].metrics:
                if metric.name == "edge.inference.duration":
                    by_stream[stream] = by_stream.get(stream, 0) + sum(
                        p.count for p in metric.exponential_histogram.data_points
                    )
    assert sorted(by_stream.values()) == [80] * 6

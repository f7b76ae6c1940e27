"""The clockwork on a real store: idempotent, restating, isolating, harmless to miss or double."""

from __future__ import annotations

import dataclasses
import threading

import pyarrow as pa
import pytest
from judgement_kit import DAY, HOUR, MINUTE, T0, Batch, Clock, Device, fleet, opened

from analytics import crash_free_job, kpi_job, latency_job, silence_job, slo_job
from analytics.job import Job
from analytics.options import AnalyticsOptions
from analytics.rows import VerdictRows
from analytics.scheduler import Scheduler
from collector.errors import ConfigError

JOBS = (latency_job.JOB, crash_free_job.JOB, kpi_job.JOB, slo_job.JOB, silence_job.JOB)
WINDOW = 15 * MINUTE


def fill(store, directory, devices, begin_h: float, end_h: float, *, received_ns=None, slow=0, crash_at=()):
    """Windows of 15 minutes for the hours [begin, end) since T0; every fourth run slow where asked."""
    batch = Batch(received_ns or T0 + int(end_h * HOUR))
    start = T0 + int(begin_h * HOUR)
    while start < T0 + int(end_h * HOUR):
        for device in devices:
            batch.window(device, start, start + WINDOW, sequence=(start - T0) // WINDOW, runs=8, slow=slow)
        start += WINDOW
    for device, hour in crash_at:
        batch.session_end(device, T0 + int(hour * HOUR))
    batch.put(store, directory / "segments")


def stored(store, **where):
    """All newest verdict rows, without the time they were written."""
    table = store.query("verdicts_between", {"from_ns": 0, "to_ns": T0 + 100 * DAY, **where})
    return table.drop_columns(["written_ns"]).sort_by(
        [("at_ns", "ascending"), ("kind", "ascending"), ("key", "ascending")]
    )


def differences(one: pa.Table, other: pa.Table) -> list[dict]:
    """Rows that only one of two tables holds, at most a few."""
    if one.equals(other):
        return []
    left, right = ({tuple(row.items()) for row in table.to_pylist()} for table in (one, other))
    return [dict(row) for row in sorted(left ^ right, key=str)][:6] or [{"order": "differs"}]


@pytest.fixture
def place(tmp_path):
    clock = Clock(T0 + 30 * HOUR)
    store = opened(tmp_path, clock)
    yield store, clock, tmp_path
    store.close()


def scheduler(store, clock, jobs=JOBS, **more) -> Scheduler:
    return Scheduler(store, more.pop("options", AnalyticsOptions()), clock_ns=clock, jobs=jobs, **more)


def test_an_empty_store_is_nothing_to_judge(place):
    store, clock, _ = place
    called = []
    found = scheduler(store, clock, after=[lambda *span: called.append(span)]).run_until()
    assert found == {"horizon_ns": 0, "hours": 0, "rows": 0, "failed": 0}
    assert called == []


def test_a_second_run_writes_nothing_and_missed_runs_change_nothing(tmp_path):
    devices = fleet(4)
    results = []
    for name, steps in (("once", [12]), ("often", [1, 2.5, 7, 7, 12])):
        clock = Clock(T0 + 30 * HOUR)
        store = opened(tmp_path / name, clock)
        fill(store, tmp_path / name, devices, 0, 12, crash_at=[(devices[0], 5.5), (devices[0], 9.2)])
        runner = scheduler(store, clock)
        for hours in steps:
            runner.run_until(T0 + int(hours * HOUR))
        assert runner.run_until(T0 + 12 * HOUR)["rows"] == 0
        # another process that knows nothing judges the last day again and finds nothing to write
        assert scheduler(store, clock).run_until(T0 + 12 * HOUR)["rows"] == 0
        results.append(stored(store))
        store.close()
    assert results[0].num_rows > 1000
    assert set(results[0].column("kind").to_pylist()) == {"latency", "crash_free", "kpi", "slo", "silence"}
    assert differences(results[0], results[1]) == []


def test_late_data_restates_as_if_it_had_been_there_from_the_start(tmp_path):
    devices = fleet(4)
    late, early = devices[3:], devices[:3]
    results = []
    for name in ("late", "complete"):
        clock = Clock(T0 + 30 * HOUR)
        store = opened(tmp_path / name, clock)
        runner = scheduler(store, clock)
        fill(store, tmp_path / name, devices, 0, 2)
        fill(store, tmp_path / name, early, 2, 12, received_ns=T0 + 16 * HOUR)
        if name == "late":
            runner.run_until()
            silent = [row for row in stored(store, kind="silence").to_pylist() if row["devices"]]
            assert silent, "the device that went off line is silent until its backlog arrives"
        fill(store, tmp_path / name, late, 2, 12, received_ns=T0 + 16 * HOUR, slow=4, crash_at=[(late[0], 10.5)])
        found = runner.run_until()
        assert found["rows"] > 0
        results.append(stored(store))
        store.close()
    withdrawn = [row for row in results[0].to_pylist() if row["reason"] == "withdrawn"]
    assert {row["kind"] for row in withdrawn} <= {"silence"}
    kept = results[0].filter(pa.compute.not_equal(results[0].column("reason"), "withdrawn"))
    assert differences(kept, results[1]) == []


def test_what_follows_judgement_is_called_from_the_oldest_instant_that_changed(place):
    store, clock, path = place
    called = []
    clock.now_ns = T0 + 10 * HOUR + MINUTE
    fill(store, path, fleet(4), 0, 10)
    runner = scheduler(store, clock, after=[lambda *span: called.append(span)])
    runner.run_until()
    fill(store, path, [Device("late", "hub")], 3, 4, received_ns=T0 + 10 * HOUR)
    runner.run_until()
    # the late device's first window ended at 3:15: no earlier verdict changed, though the whole hour was judged again
    assert [((begin - T0) // MINUTE, end) for begin, end in called] == [
        (10, T0 + 10 * HOUR), (3 * 60 + 10, T0 + 10 * HOUR),
    ]  # fmt: skip
    scheduler(store, clock, after=[lambda *span: called.append(span)]).run_until()
    assert called[-1] == (T0 + 10 * HOUR, T0 + 10 * HOUR), "a restart judges the last day again and changes nothing"


def test_the_horizon_never_passes_the_newest_data_nor_the_watermark(place):
    store, clock, path = place
    devices = fleet(10)
    fill(store, path, devices[:5], 0, 4, received_ns=clock.now_ns)
    fill(store, path, devices[5:], 0, 6, received_ns=clock.now_ns)
    runner = scheduler(store, clock)
    assert runner.run_until(T0 + 3 * HOUR + MINUTE)["horizon_ns"] == T0 + 3 * HOUR
    assert runner.run_until()["horizon_ns"] == T0 + 4 * HOUR
    # a quarter of an hour of wall clock later everything that had arrived is judged
    clock.now_ns += 16 * MINUTE
    assert runner.run_until()["horizon_ns"] == T0 + 6 * HOUR
    assert runner.run_until(T0 + 90 * HOUR)["horizon_ns"] == T0 + 6 * HOUR


def test_a_failing_job_stops_no_other_is_counted_and_catches_up(place):
    store, clock, path = place
    fill(store, path, fleet(3), 0, 5)
    broken = [True]

    def run(store, options, from_ns, until_ns, now_ns):
        if broken[0]:
            raise RuntimeError("no luck")
        found = VerdictRows("kpi", now_ns)
        for at_ns in job.instants(from_ns, until_ns):
            found.add(at_ns=at_ns, name="x", verdict="met", window_ns=(0, at_ns))
        return found.table()

    job = Job("kpi", HOUR, run)
    runner = scheduler(store, clock, jobs=(job, latency_job.JOB))
    found = runner.run_until()
    assert found["failed"] == 1
    assert found["rows"] > 0
    assert runner.counters.job_failures == {"kpi": 1}
    failed = [row for row in store.query("job_runs", {"job": "kpi"}).to_pylist() if row["outcome"] == "failed"]
    assert failed[0]["detail"] == "RuntimeError: no luck"
    assert store.query("job_progress", {"job": "kpi"}).to_pylist() == [{"until_ns": None}]
    broken[0] = False
    assert runner.run_until()["failed"] == 0
    assert stored(store, kind="kpi").num_rows == 5


def test_a_failing_follower_is_counted_and_the_next_one_still_called(place):
    store, clock, path = place
    fill(store, path, fleet(3), 0, 2)
    clock.now_ns = T0 + 2 * HOUR + MINUTE
    called = []

    def explode(from_ns, until_ns):
        raise OSError("receiver gone")

    runner = scheduler(store, clock, after=[explode, lambda *span: called.append(span)])
    runner.run_until()
    assert runner.counters.after_failures == 1
    assert [end for _, end in called] == [T0 + 2 * HOUR]


def test_a_tick_without_news_does_nothing_and_never_raises(place):
    store, clock, path = place
    clock.now_ns = T0 + 2 * HOUR + MINUTE
    fill(store, path, fleet(3), 0, 2)
    runner = scheduler(store, clock)
    runner.tick()
    assert runner.counters.runs == 1
    runner.tick()
    assert runner.counters.runs == 1
    fill(store, path, [Device("late")], 0, 1, received_ns=clock.now_ns)
    runner.tick()
    assert runner.counters.runs == 1, "late data waits until restatement is due"
    clock.now_ns += 61 * 10**9
    runner.tick()
    assert runner.counters.runs == 2
    store.close()
    runner.tick()
    assert runner.counters.tick_failures == 1


def test_a_fleet_that_stops_talking_is_silent_by_the_wall_clock(place):
    store, clock, path = place
    fill(store, path, fleet(4, tiers=("hub",)), 0, 10)
    clock.now_ns = T0 + 10 * HOUR + MINUTE
    called = []
    runner = scheduler(store, clock, jobs=(silence_job.JOB,), after=[lambda *span: called.append(span)])
    runner.tick()
    clock.now_ns = T0 + 14 * HOUR
    runner.tick()
    last = stored(store, kind="silence").to_pylist()[-1]
    assert (last["verdict"], last["devices"], last["n"]) == ("missed", 4, 4)
    assert called[-1][1] >= last["at_ns"]


def test_history_replayed_long_after_it_happened_is_not_silence(place):
    store, clock, path = place
    clock.now_ns = T0 + 40 * DAY
    fill(store, path, fleet(4), 0, 10, received_ns=clock.now_ns)
    runner = scheduler(store, clock, jobs=(silence_job.JOB,))
    runner.run_until()
    assert {row["verdict"] for row in stored(store, kind="silence").to_pylist()} == {"met"}


def test_a_device_whose_clock_says_1970_does_not_make_judgement_visit_half_a_century(place):
    store, clock, path = place
    fill(store, path, fleet(3), 0, 2)
    Batch(T0 + 2 * HOUR).window(Device("old"), 5 * HOUR, 5 * HOUR + WINDOW).put(store, path / "segments")
    seen = []

    def run(store, options, from_ns, until_ns, now_ns):
        seen.append((from_ns, until_ns))
        return VerdictRows("kpi", now_ns).table()

    runner = scheduler(store, clock, jobs=(Job("kpi", HOUR, run),))
    runner.run_until()
    assert seen == [(T0, T0 + 2 * HOUR)]


def test_a_long_catch_up_comes_in_batches_each_with_its_own_progress(place):
    store, clock, path = place
    fill(store, path, fleet(3), 0, 10)
    spans = []

    def run(store, options, from_ns, until_ns, now_ns):
        spans.append(((from_ns - T0) // HOUR, (until_ns - T0) // HOUR))
        return VerdictRows("kpi", now_ns).table()

    options = AnalyticsOptions(batch_instants=4)
    scheduler(store, clock, jobs=(Job("kpi", HOUR, run),), options=options).run_until()
    assert spans == [(0, 4), (4, 8), (8, 10)]


def test_a_broken_slo_file_stops_the_start_with_its_line(place):
    store, clock, path = place
    (path / "slos").mkdir()
    (path / "slos" / "bad.yaml").write_text("apiVersion: openslo/v1\nkind: SLO\nmetdata: {}\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml:3: .*did you mean 'metadata'"):
        scheduler(store, clock, options=AnalyticsOptions(config_dir=path))


def test_runs_from_several_threads_come_one_after_the_other(place):
    store, clock, path = place
    fill(store, path, fleet(3), 0, 3)
    inside, most = [0], [0]

    def run(store, options, from_ns, until_ns, now_ns):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        found = VerdictRows("kpi", now_ns).table()
        inside[0] -= 1
        return found

    runner = scheduler(store, clock, jobs=(Job("kpi", HOUR, run),))
    threads = [threading.Thread(target=runner.run_until) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert runner.counters.runs == 4


def test_the_background_clock_ticks_by_itself_and_stops(place):
    store, clock, path = place
    fill(store, path, fleet(2), 0, 1)
    done = threading.Event()
    options = AnalyticsOptions(tick_s=0.05)
    runner = scheduler(store, clock, options=options, after=[lambda *_: done.set()])
    runner.start()
    runner.start()
    try:
        assert done.wait(20)
    finally:
        runner.stop()
        runner.stop()
    assert runner.counters.runs == 1


def test_the_same_verdicts_come_out_of_the_computing_child(tmp_path):
    results = []
    for name, child in (("here", False), ("child", True)):
        clock = Clock(T0 + 30 * HOUR)
        store = opened(tmp_path / name, clock)
        fill(store, tmp_path / name, fleet(4), 0, 3, slow=1)
        options = dataclasses.replace(AnalyticsOptions(), compute_child=child)
        runner = scheduler(store, clock, options=options)
        assert runner.run_until()["failed"] == 0
        runner.stop()
        results.append(stored(store))
        store.close()
    assert differences(results[0], results[1]) == []

"""Roll-ups are exact: every count once, whatever arrives when, and however often an hour is recomputed."""

import json
import math
import random

import numpy as np
import pytest
from store_kit import (
    CUMULATIVE,
    DAY,
    HOUR,
    T0,
    Clock,
    Request,
    S,
    decoded_logs,
    device_window,
    resource_of,
    session_end,
    write,
)

from collector.storage import open_store
from collector.storage.base import SliSpec
from collector.storage.fold import Lists, fold_buckets

MODEL = {"edge.model.name": "digits", "edge.model.version": "3"}
ALL = {"from_ns": 0, "to_ns": T0 + 400 * DAY}


def recompute(store, *slis, gen=1):
    return store.recompute(store.dirty_hours(), list(slis), gen)


def hours_of(store, metric):
    return store.query("device_hours", {"metric": metric, **ALL, "model": "", "version": ""}).to_pylist()


def test_a_point_that_ends_on_the_hour_belongs_to_the_hour_before(store, tmp_path):
    store.put([write(tmp_path, [device_window("a", T0 + HOUR - 900 * S, T0 + HOUR).decoded(T0)])])
    assert [hour.hour_ns for hour in store.dirty_hours()] == [T0]
    recompute(store)
    assert [row["hour_ns"] for row in hours_of(store, "edge.inference.duration")] == [T0]


def test_device_hours_sum_numbers_and_buckets_of_every_window(store, tmp_path):
    batches = [
        device_window("a", T0 + i * 900 * S, T0 + (i + 1) * 900 * S, i, runs=10 + i).decoded(T0 + HOUR)
        for i in range(4)
    ]
    store.put([write(tmp_path, batches)])
    assert recompute(store) > 0
    duration = hours_of(store, "edge.inference.duration")
    assert len(duration) == 1
    row = duration[0]
    assert (row["device_id"], row["tier"], row["model"], row["version"]) == ("a", "cam-v2", "digits", "3")
    assert (row["count"], row["scale"], row["positive_offset"]) == (46, 3, -40)
    assert row["positive_counts"] == [24, 22]
    assert json.loads(row["cohort"])["edge.region"] == "eu"
    predictions = hours_of(store, "edge.output.predictions")
    assert [row["value"] for row in predictions] == [46.0]
    confidence = hours_of(store, "edge.output.confidence")[0]
    assert (confidence["counts"], confidence["bounds"]) == ([4, 8, 46], [0.5, 0.9])


def test_mixed_scales_of_one_hour_come_to_the_lowest_and_keep_every_count(store, tmp_path):
    fine = Request(**resource_of("a")).exponential(
        "edge.inference.duration", T0, T0 + S, [1, 2, 3, 4, 5], scale=4, offset=-3, zero=7, **MODEL
    )
    coarse = Request(**resource_of("a")).exponential(
        "edge.inference.duration", T0 + S, T0 + 2 * S, [10], scale=2, offset=0, negative=(0, 6), **MODEL
    )
    store.put([write(tmp_path, [fine.decoded(T0), coarse.decoded(T0)])])
    recompute(store)
    (row,) = hours_of(store, "edge.inference.duration")
    # Indices -3..1 at scale 4 are -1, -1, -1, 0, 0 at scale 2.
    assert (row["scale"], row["positive_offset"], row["positive_counts"]) == (2, -1, [6, 19])
    assert (row["zero_count"], row["negative_offset"], row["negative_counts"]) == (7, 1, [6])
    assert row["count"] == 38


def test_distribution_hours_hold_the_same_counts_by_cohort(store, tmp_path):
    batches = [
        device_window(device, T0, T0 + 900 * S, tier=tier).decoded(T0)
        for device, tier in (("a", "cam-v2"), ("b", "cam-v2"), ("c", "cam-v3"))
    ]
    store.put([write(tmp_path, batches)])
    recompute(store)
    table = store.query("distribution_hours", {"metric": "edge.inference.duration", **ALL}).to_pylist()
    cells = {(row["tier"], row["side"], row["bucket_index"]): row["n"] for row in table}
    assert cells == {("cam-v2", 1, -40): 10, ("cam-v2", 1, -39): 10, ("cam-v3", 1, -40): 5, ("cam-v3", 1, -39): 5}
    explicit = store.query("distribution_hours", {"metric": "edge.output.confidence", **ALL}).to_pylist()
    assert {(row["tier"], row["bucket_index"]): row["n"] for row in explicit if row["side"] == 2} == {
        ("cam-v2", 0): 2, ("cam-v2", 1): 4, ("cam-v2", 2): 20, ("cam-v3", 0): 1, ("cam-v3", 1): 2, ("cam-v3", 2): 10,
    }  # fmt: skip


def test_recomputing_again_changes_nothing_and_an_older_generation_cannot_hide_it(store, tmp_path):
    store.put([write(tmp_path, [device_window("a", T0, T0 + 900 * S).decoded(T0)])])
    recompute(store, gen=1000)
    before = hours_of(store, "edge.inference.duration")
    store.put([write(tmp_path, [device_window("a", T0 + 900 * S, T0 + 1800 * S, 1).decoded(T0)])])
    recompute(store, gen=5)
    after = hours_of(store, "edge.inference.duration")
    assert [row["count"] for row in before] == [10]
    assert [row["count"] for row in after] == [20]
    assert store.dirty_hours() == []


def test_late_data_of_another_day_is_summed_into_one_row(store, tmp_path):
    store.put([write(tmp_path, [device_window("a", T0, T0 + 900 * S, 0).decoded(T0 + HOUR)])])
    store.put([write(tmp_path, [device_window("a", T0 + 900 * S, T0 + 1800 * S, 1).decoded(T0 + DAY)])])
    recompute(store)
    (row,) = hours_of(store, "edge.inference.duration")
    assert (row["count"], row["positive_counts"]) == (20, [10, 10])
    (confidence,) = hours_of(store, "edge.output.confidence")
    assert confidence["counts"] == [2, 4, 20]
    (session,) = store.query("session_hours", ALL).to_pylist()
    assert session["observed_s"] == 1800.0


def test_foreign_and_cumulative_points_stay_out_of_roll_ups(store, tmp_path):
    request = Request(**resource_of("a"))
    request.exponential("edge.inference.duration", T0, T0 + S, [9], temporality=CUMULATIVE, **MODEL)
    request.sum("their.counter", T0, T0 + S, 4)
    store.put([write(tmp_path, [request.decoded(T0)])])
    recompute(store, SliSpec("fail", "failure", "edge.inference.duration"))
    assert hours_of(store, "edge.inference.duration") == []
    assert hours_of(store, "their.counter") == []
    assert store.query("sli_slots", {"slo": "fail", **ALL}).num_rows == 0


def test_sessions_count_time_starts_and_ends_in_the_hour_of_the_event(store, tmp_path):
    request = device_window("a", T0, T0 + 900 * S)
    request.sum("edge.session.starts", T0, T0 + 900 * S, 1)
    ends = [
        decoded_logs(session_end("a", T0 + 800 * S, reason="watchdog", expected=False), T0 + 5 * HOUR),
        decoded_logs(session_end("a", T0 + 3 * HOUR, reason="reboot"), T0 + 5 * HOUR),
    ]
    store.put([write(tmp_path, [request.decoded(T0), *ends])])
    recompute(store)
    rows = {}
    for row in store.query("session_hours", ALL).to_pylist():
        sums = rows.setdefault(row["hour_ns"], [0, 0, 0, 0])
        for at, name in enumerate(("observed_s", "starts", "expected_ends", "unexpected_ends")):
            sums[at] += row[name]
    assert rows == {T0: [900.0, 1, 0, 1], T0 + 2 * HOUR: [0, 0, 1, 0]}
    events = store.query("session_events", ALL).to_pylist()
    assert [(row["reason"], row["expected"]) for row in events] == [("watchdog", False), ("reboot", True)]


def slots(store, slo):
    return {
        (row["slot_ns"] - T0) // S: (row["good"], row["total"], row["devices"])
        for row in store.query("sli_slots", {"slo": slo, **ALL}).to_pylist()
    }


def test_latency_counts_whole_buckets_and_the_log_share_of_the_one_that_holds_the_threshold(store, tmp_path):
    # Scale 0: buckets (1, 2], (2, 4], (4, 8]; the threshold 2**1.25 is a quarter of the way through the second.
    good = Request(**resource_of("a")).exponential(
        "edge.inference.duration", T0, T0 + 200 * S, [8, 4, 2], scale=0, zero=1, negative=(3,), **MODEL
    )
    failed = Request(**resource_of("b")).exponential(
        "edge.inference.duration", T0, T0 + 200 * S, [5], scale=0, **MODEL, **{"error.type": "timeout"}
    )
    store.put([write(tmp_path, [good.decoded(T0), failed.decoded(T0)])])
    recompute(store, SliSpec("fast", "latency", "edge.inference.duration", threshold=2**1.25))
    ((at, (ok, total, devices)),) = slots(store, "fast").items()
    assert (at, total, devices) == (300, 23.0, 2)
    assert math.isclose(ok, 1 + 3 + 8 + 4 * 0.25)
    bad = store.query("sli_bad_devices", {"slo": "fast", **ALL}).to_pylist()
    assert {row["device_id"]: round(row["bad"], 9) for row in bad} == {"a": 5.0, "b": 5.0}


@pytest.mark.parametrize(
    ("threshold", "good"), [(0.25, 1.0), (0.5, 2.0), (0.6, 2 + 4 * 0.25), (0.9, 6.0), (5.0, 6.0), (0.95, 6.0)]
)
def test_latency_on_explicit_buckets_is_linear_and_never_counts_the_overflow_bucket(store, tmp_path, threshold, good):
    request = Request(**resource_of("a")).explicit("lat", T0, T0 + S, [0.5, 0.9], [2, 4, 8], **MODEL)
    store.put([write(tmp_path, [request.decoded(T0)])])
    recompute(store, SliSpec("fast", "latency", "lat", threshold=threshold))
    ((ok, total, _),) = slots(store, "fast").values()
    assert total == 14.0
    assert math.isclose(ok, good)


def test_failure_counts_runs_without_an_error_and_selects_model_and_version(store, tmp_path):
    request = Request(**resource_of("a"))
    request.exponential("edge.inference.duration", T0, T0 + 300 * S, [90], **MODEL)
    request.exponential("edge.inference.duration", T0, T0 + 300 * S, [10], **MODEL, **{"error.type": "timeout"})
    request.exponential("edge.inference.duration", T0, T0 + 300 * S, [50], **{**MODEL, "edge.model.version": "4"})
    store.put([write(tmp_path, [request.decoded(T0)])])
    every = SliSpec("all", "failure", "edge.inference.duration")
    recompute(store, every, SliSpec("v3", "failure", "edge.inference.duration", model="digits", version="3"))
    assert slots(store, "all") == {300: (140.0, 150.0, 1)}
    assert slots(store, "v3") == {300: (90.0, 100.0, 1)}


def test_crash_free_is_counted_in_device_hours(store, tmp_path):
    batches = [device_window(device, T0, T0 + 1800 * S).decoded(T0) for device in "abc"]
    crash = decoded_logs(session_end("b", T0 + 1000 * S, reason="oom_kill", expected=False), T0)
    reboot = decoded_logs(session_end("c", T0 + 1000 * S, reason="reboot"), T0)
    store.put([write(tmp_path, [*batches, crash, reboot])])
    recompute(store, SliSpec("stable", "crash_free", "edge.session.time"))
    found = store.query("sli_slots", {"slo": "stable", **ALL}).to_pylist()
    assert {row["slot_ns"] for row in found} == {T0 + HOUR}
    assert (sum(row["good"] for row in found), sum(row["total"] for row in found)) == (1.0, 1.5)
    bad = store.query("sli_bad_devices", {"slo": "stable", **ALL}).to_pylist()
    assert [(row["device_id"], row["bad"]) for row in bad] == [("b", 0.5)]


def test_a_crash_that_becomes_known_after_its_day_froze_still_takes_the_hour_back(tmp_path):
    clock = Clock(T0 + HOUR)
    store = open_store(tmp_path / "data", clock_ns=clock, threads=1)
    spec = SliSpec("stable", "crash_free", "edge.session.time")
    store.put([write(tmp_path, [device_window("a", T0, T0 + 1800 * S).decoded(T0 + HOUR)])])
    recompute(store, spec)
    clock.now_ns = T0 + 8 * DAY
    assert store.expire(clock.now_ns) == 7
    news = decoded_logs(session_end("a", T0 + 900 * S, reason="watchdog", expected=False), T0 + 8 * DAY)
    for gen in (2, 3):
        store.put([write(tmp_path, [news])])
        store.recompute(store.dirty_hours(), [spec], gen)
        found = store.query("sli_slots", {"slo": "stable", **ALL}).to_pylist()
        assert (sum(row["good"] for row in found), sum(row["total"] for row in found)) == (0.0, 0.5)
    store.close()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (SliSpec("x", "uptime", "m"), "not one of latency"),
        (SliSpec("x", "latency", "m"), "threshold above 0"),
        (SliSpec("x", "latency", "m", threshold=-1.0), "threshold above 0"),
    ],
)
def test_an_impossible_indicator_is_refused_and_nothing_is_written(store, tmp_path, spec, message):
    store.put([write(tmp_path, [device_window("a", T0, T0 + 900 * S).decoded(T0)])])
    with pytest.raises(ValueError, match=message):
        recompute(store, spec)
    assert len(store.dirty_hours()) == 1
    assert hours_of(store, "edge.inference.duration") == []


@pytest.mark.parametrize("seed", range(4))
def test_roll_ups_are_exact_while_copies_come_for_days_and_raw_expires(tmp_path, seed):
    """The fault simulation of research/clickhouse.md section 3: late, split, copied, re-sent, recomputed, expired."""
    rng = random.Random(seed)
    clock = Clock(T0)
    store = open_store(tmp_path / "data", clock_ns=clock, threads=1)
    truth: dict[str, int] = {}
    arrivals: list[tuple[int, object, int]] = []
    for device in "ab":
        for number in range(8):
            end = T0 + (number + 1) * 2 * HOUR
            request, value = Request(**resource_of(device)), rng.randrange(1, 30)
            request.sum("edge.output.predictions", end - HOUR, end, value, **MODEL)
            request.exponential(
                "edge.inference.duration", end - HOUR, end, [0, value], scale=rng.choice((2, 3)), **MODEL
            )
            truth[device] = truth.get(device, 0) + value
            first = end + rng.choice((0, 0, HOUR, 30 * HOUR, 3 * DAY))
            for delay in (0, *rng.sample((S, HOUR, 20 * HOUR, 25 * HOUR, 2 * DAY, 9 * DAY), rng.randrange(3))):
                lag = rng.choice((0, 0, 0, 15 * HOUR))
                arrivals.append((first + delay + lag, request, first + delay))
    arrivals.sort(key=lambda item: item[0])
    gen = 0
    for at, request, received in arrivals:
        clock.now_ns = max(clock.now_ns, at)
        store.put([write(tmp_path, [request.decoded(received)], received)])
        if rng.random() < 0.5:
            gen += 1
            store.recompute(store.dirty_hours(), [], gen)
        if rng.random() < 0.3:
            store.expire(clock.now_ns)
    store.recompute(store.dirty_hours(), [], gen + 1)
    store.expire(clock.now_ns)
    counted: dict[str, int] = {}
    bucketed: dict[str, int] = {}
    for row in hours_of(store, "edge.output.predictions"):
        counted[row["device_id"]] = counted.get(row["device_id"], 0) + row["value"]
    for row in hours_of(store, "edge.inference.duration"):
        bucketed[row["device_id"]] = bucketed.get(row["device_id"], 0) + sum(row["positive_counts"])
    cells = store.query("distribution_hours", {"metric": "edge.inference.duration", **ALL})
    store.close()
    assert counted == truth
    assert bucketed == truth
    assert sum(cells.column("n").to_pylist()) == sum(truth.values())


def test_a_copy_that_reaches_the_store_after_the_first_one_s_raw_is_gone_is_not_counted_again(tmp_path):
    midnight = T0 // DAY * DAY
    clock = Clock(midnight + 23 * HOUR)
    store = open_store(tmp_path / "data", clock_ns=clock, threads=1)
    window = device_window("a", midnight, midnight + 900 * S)
    store.put([write(tmp_path, [window.decoded(midnight + 23 * HOUR)])])
    recompute(store)
    clock.now_ns = midnight + 5 * DAY + 12 * HOUR
    assert store.expire(clock.now_ns) == 7
    left_on_disk = write(tmp_path, [window.decoded(midnight + 25 * HOUR)])
    result = store.put([left_on_disk])
    assert (result.points, result.late_points) == (0, 7)
    store.close()


def test_a_day_does_not_freeze_while_a_session_s_end_waits_for_its_roll_up(tmp_path):
    store = open_store(tmp_path / "data", clock_ns=Clock(T0), threads=1)
    store.put([write(tmp_path, [device_window("a", T0, T0 + 900 * S).decoded(T0)])])
    recompute(store)
    ended = session_end("a", T0 + 2 * HOUR, reason="unknown", expected=False)
    store.put([write(tmp_path, [decoded_logs(ended, T0)])])
    assert store.expire(T0 + 20 * DAY) == 0
    recompute(store)
    span = {"from_ns": 0, "to_ns": 2**62}
    assert sum(row["unexpected_ends"] for row in store.query("session_hours", span).to_pylist()) == 1
    store.close()


def test_raw_points_go_after_their_retention_but_never_before_their_roll_up(tmp_path):
    clock = Clock(T0)
    store = open_store(tmp_path / "data", clock_ns=clock, threads=1)
    store.put([write(tmp_path, [device_window("a", T0, T0 + 900 * S).decoded(T0)])])
    assert store.expire(T0 + 20 * DAY) == 0
    recompute(store)
    assert store.expire(T0 + 3 * DAY) == 0
    assert store.expire(T0 + 20 * DAY) == 7
    assert [row["count"] for row in hours_of(store, "edge.inference.duration")] == [10]
    assert store.query("totals").to_pylist()[0]["windows"] == 1
    store.expire(T0 + 50 * DAY)
    assert store.query("totals").to_pylist()[0]["windows"] == 0
    assert hours_of(store, "edge.inference.duration") == []
    store.close()


def test_nonsense_from_one_sender_is_stored_but_never_stops_or_spoils_the_judgement(store, tmp_path):
    good = device_window("a", T0, T0 + 900 * S)
    mad = Request(**resource_of("mad"))
    mad.sum("edge.session.starts", T0, T0 + S, 1e300).sum("edge.session.time", T0, T0 + S, math.inf)
    mad.sum("edge.output.predictions", T0, T0 + S, math.nan, **MODEL)
    mad.exponential("edge.inference.duration", T0, T0 + S, [2**62], **MODEL)
    mad.exponential("edge.inference.duration", T0, T0 + S, [3], scale=30_000, k="scale", **MODEL)
    mad.gauge("edge.window.sequence", T0 + S, 2**63 - 1, start=T0).sum("edge.window.count", T0, T0 + S, -(2**63))
    future = Request(**resource_of("mad")).exponential("edge.inference.duration", T0, 2**63 - 1, [1], **MODEL)
    store.put([write(tmp_path, [good.decoded(T0), mad.decoded(T0), future.decoded(T0)])])
    slis = (SliSpec("ok", "failure", "edge.inference.duration"), SliSpec("up", "crash_free", "edge.session.time"),
            SliSpec("fast", "latency", "edge.inference.duration", threshold=0.1))  # fmt: skip
    recompute(store, *slis)
    assert store.dirty_hours() == []
    assert {row["device_id"] for row in hours_of(store, "edge.inference.duration")} == {"a"}
    for spec in slis:
        assert all(math.isfinite(total) for _, total, _ in slots(store, spec.slo).values())
    assert slots(store, "ok") == {900: (10.0, 10.0, 1)}
    assert store.query("devices").num_rows == 2
    assert store.query("points", {"metric": "edge.inference.duration"}).num_rows == 4


def test_single_values_at_a_fine_scale_merge_into_a_bounded_row_with_every_count(store, tmp_path):
    request = Request(**resource_of("a"))
    for at, offset in enumerate((-(2**31), -5_000_000, 0, 7_000_000, 2**31 - 1)):
        request.exponential("edge.inference.duration", T0 + at, T0 + at + 1, [1], scale=20, offset=offset, **MODEL)
    other = Request(**resource_of("b")).exponential("edge.inference.duration", T0, T0 + 1, [1], scale=-2, **MODEL)
    store.put([write(tmp_path, [request.decoded(T0), other.decoded(T0)])])
    recompute(store)
    rows = {row["device_id"]: row for row in hours_of(store, "edge.inference.duration")}
    assert sum(rows["a"]["positive_counts"]) == 5
    assert len(rows["a"]["positive_counts"]) <= 1024
    assert (rows["a"]["scale"], rows["b"]["scale"]) == (-2, -2)
    cells = store.query("distribution_hours", {"metric": "edge.inference.duration", **ALL})
    assert sum(cells.column("n").to_pylist()) == 6


def test_folding_agrees_with_plain_addition_on_random_histograms():
    rng = np.random.default_rng(7)
    for _ in range(30):
        rows, groups = int(rng.integers(1, 40)), int(rng.integers(1, 6))
        group = rng.integers(0, groups, rows)
        shift, offset = rng.integers(0, 4, rows), rng.integers(-50, 50, rows)
        widths = rng.integers(0, 9, rows)
        starts = np.concatenate([[0], np.cumsum(widths)])
        values = rng.integers(0, 5, int(starts[-1]))
        plain: dict[tuple[int, int], int] = {}
        for row in range(rows):
            for position in range(int(widths[row])):
                key = (int(group[row]), int(offset[row] + position) >> int(shift[row]))
                plain[key] = plain.get(key, 0) + int(values[starts[row] + position])
        folded = fold_buckets(group, groups, shift, offset, Lists(starts, values))
        found = {
            (g, int(folded.offset[g]) + i): int(n)
            for g in range(groups)
            for i, n in enumerate(folded.counts.values[folded.counts.starts[g] : folded.counts.starts[g + 1]])
            if n
        }
        assert found == {key: n for key, n in plain.items() if n}
        for g in range(groups):
            dense = folded.counts.values[folded.counts.starts[g] : folded.counts.starts[g + 1]]
            assert not len(dense) or (dense[0] and dense[-1])

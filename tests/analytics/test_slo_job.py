"""SLO verdicts from a real store: a slow version pages, its neighbours do not."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from judgement_kit import DAY, HOUR, MINUTE, T0, Batch, Clock, fleet, opened, rows_of

from analytics import slo_job
from analytics.options import AnalyticsOptions
from analytics.slis import known_models, load_slos, roll_up, streams

WINDOW = 15 * MINUTE
SLO = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: digits-latency}
spec:
  service: vision
  indicator:
    spec:
      thresholdMetric:
        metricSource: {type: fleetpulse, spec: {kind: latency, threshold: 0.03, model: digits}}
  timeWindow: [{duration: 30d, isRolling: true}]
  budgetingMethod: %s
  objectives: [{target: 0.99%s}]
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "slos").mkdir()
    (tmp_path / "slos" / "a.yaml").write_text(SLO % ("Occurrences", ""))
    store = opened(tmp_path, Clock(T0 + 3 * DAY))
    yield store, tmp_path
    store.close()


def filled(place, *, bad_from_h=6.0, hours=9, bad_devices=None, slow=6, devices=12):
    """Two tiers: cam-v1 runs version 1, cam-v2 version 2, which turns slow; return (store, options)."""
    store, path = place
    batch = Batch(T0 + hours * HOUR)
    for step in range(hours * 4):
        start = T0 + step * WINDOW
        for index, device in enumerate(fleet(devices)):
            version = "1" if device.tier == "cam-v1" else "2"
            bad = version == "2" and start >= T0 + int(bad_from_h * HOUR)
            bad = bad and (bad_devices is None or index in bad_devices)
            batch.window(device, start, start + WINDOW, runs=30, slow=slow if bad else 0, version=version)
    batch.put(store, path / "segments")
    options = AnalyticsOptions(config_dir=path)
    roll_up(store, options, T0 + hours * HOUR, 1)
    return store, options


def test_a_slow_version_pages_for_itself_its_tier_and_no_other(place):
    store, options = filled(place)
    table = slo_job.run(store, options, T0, T0 + 9 * HOUR, 1)
    last = {(row["version"], row["cohort"]): row for row in rows_of(table, at_ns=T0 + 9 * HOUR)}
    tiers = {("", '{"edge.device.tier":"cam-v1"}'), ("", '{"edge.device.tier":"cam-v2"}')}
    assert set(last) == {("", "{}"), ("1", "{}"), ("2", "{}")} | tiers
    bad = last["2", "{}"]
    assert (bad["verdict"], bad["model"], bad["detail"]["severity"]) == ("fast_burn", "digits", "page")
    assert bad["devices"] == 6
    assert bad["detail"]["bad_devices"] == [f"dev-{i:03d}" for i in range(1, 12, 2)]
    # 6 of 30 runs are bad: a burn of 0.2 / 0.01 = 20 over the last hour
    assert bad["detail"]["burn"]["1h"] == pytest.approx(20, rel=1e-6)
    assert (bad["detail"]["window"], bad["detail"]["threshold"]) == ("1h/5m", 14.4)
    assert bad["detail"]["shortest_ns"] == WINDOW, "a five-minute window would be empty two times in three"
    assert bad["value"] == pytest.approx(1 - 0.2 * 3 / 9)
    assert bad["target"] == 0.99
    assert last["", '{"edge.device.tier":"cam-v2"}']["verdict"] == "fast_burn"
    for healthy in (last["1", "{}"], last["", '{"edge.device.tier":"cam-v1"}']):
        assert (healthy["verdict"], healthy["devices"], healthy["detail"]["budget_left"]) == ("on_pace", 0, 1.0)
    before = rows_of(table, at_ns=T0 + 6 * HOUR)
    assert {row["verdict"] for row in before} == {"on_pace"}


def test_the_page_comes_with_the_first_window_that_proves_it(place):
    store, options = filled(place)
    table = slo_job.run(store, options, T0 + 6 * HOUR, T0 + 9 * HOUR, 1)
    pages = [row["at_ns"] for row in rows_of(table, version="2") if row["detail"]["severity"] == "page"]
    plain = [row["at_ns"] for row in rows_of(table, version="2") if row["detail"]["burn"]["1h"] > 14.4]
    # at 20 times the even pace 14.4 is passed when three quarters of the hour are bad; without the worst of six devices
    # that would be a burn of 12.5, so the guard waits for the whole hour: 120 of 720, P(Bin(720, .144) >= 120) = .049
    assert min(plain) - T0 - 6 * HOUR == 45 * MINUTE
    assert min(pages) - T0 - 6 * HOUR == 60 * MINUTE
    assert len(pages) == len(range(60, 181, 5)), "fifteen-minute windows must not leave holes in the burn"


def test_one_slow_device_does_not_page(place):
    store, options = filled(place, bad_devices={1}, slow=29, devices=6)
    rows = rows_of(slo_job.run(store, options, T0 + 6 * HOUR, T0 + 9 * HOUR, 1), version="2")
    assert {row["verdict"] for row in rows} <= {"on_pace", "rising", "too_few_events"}
    refused = [row for row in rows if row["verdict"] == "too_few_events"]
    assert refused
    assert refused[-1]["detail"]["bad_devices"] == ["dev-001"]
    assert refused[-1]["detail"]["severity"] is None


def test_time_slices_judge_slices(tmp_path):
    (tmp_path / "slos").mkdir()
    (tmp_path / "slos" / "a.yaml").write_text(SLO % ("Timeslices", ", timeSliceTarget: 0.95, timeSliceWindow: 15m"))
    store = opened(tmp_path, Clock(T0 + 3 * DAY))
    store, options = filled((store, tmp_path))
    row = rows_of(slo_job.run(store, options, T0 + 8 * HOUR, T0 + 9 * HOUR, 1), version="2")[-1]
    assert row["n"] == 36
    assert row["value"] == pytest.approx(24 / 36)
    assert row["detail"]["burn"]["1h"] == pytest.approx(100)
    assert row["verdict"] == "fast_burn"
    store.close()


def test_a_slice_cut_by_the_period_counts_whole_whichever_instant_a_batch_begins_with():
    period, slot, slice_ns = 7 * DAY, 5 * MINUTE, 30 * MINUTE
    # every slice: 15 bad minutes, then 15 good ones; ten minutes of the oldest lie inside the period at ``last``
    ends = np.arange(1, 9 * 24 * 12 + 1, dtype=np.int64) * slot
    good = np.where(ends % slice_ns // slot % 6 > 3, 10.0, 0.0)
    slots = pl.DataFrame({"slot_ns": ends, "tier": "a", "good": good, "total": 10.0, "devices": 3})
    bad = pl.DataFrame({"slot_ns": ends, "tier": "a", "device_id": "d", "bad": 10.0 - good}).filter(pl.col("bad") > 0)
    objective = SimpleNamespace(
        name="x", period_ns=period, objective=Fraction("0.9"), method="Timeslices", slice_ns=slice_ns,
        slice_target=Fraction("0.95"), kind="latency",
    )  # fmt: skip
    stream = SimpleNamespace(slo=objective, sli="x", model="", version="")
    last = 8 * DAY + 20 * MINUTE
    found = []
    for instants in ([last], [last - 4 * slot, last]):
        shortest = np.full(len(instants), slot)
        table = slo_job.compute(stream, slots, bad, instants, shortest, AnalyticsOptions(), 1)
        found.append(rows_of(table, at_ns=last))
    assert found[0] == found[1]
    assert {(row["n"], row["value"]) for row in found[0]} == {(336.0, 0.0)}


def test_verdicts_do_not_depend_on_what_else_is_judged_with_them(place):
    store, options = filled(place)
    whole = slo_job.run(store, options, T0, T0 + 9 * HOUR, 1)
    parts = [
        row
        for begin, end in ((0, 2.5), (2.5, 7.25), (7.25, 9))
        for row in rows_of(slo_job.run(store, options, T0 + int(begin * HOUR), T0 + int(end * HOUR), 1))
    ]
    assert sorted(parts, key=str) == sorted(rows_of(whole), key=str)


def test_a_fleet_gone_quiet_is_no_data(place):
    store, options = filled(place, hours=2, bad_from_h=9)
    rows = rows_of(slo_job.run(store, options, T0, T0 + 10 * HOUR, 1), version="", cohort="{}")
    words = [(row["at_ns"] - T0) / HOUR for row in rows if row["verdict"] == "no_data"]
    assert min(words) == pytest.approx(2 + 6, abs=0.01), "the longest paging window is six hours"
    assert {row["verdict"] for row in rows} == {"on_pace", "no_data"}


def test_crash_free_burns_in_device_hours_with_windows_of_an_hour(tmp_path):
    store = opened(tmp_path, Clock(T0 + DAY))
    batch = Batch(T0 + 9 * HOUR)
    devices = fleet(20)
    for hour in range(9):
        for device in devices:
            batch.window(device, T0 + hour * HOUR, T0 + (hour + 1) * HOUR)
    for device in devices[:8]:
        for hour in (7, 8):
            batch.session_end(device, T0 + hour * HOUR + MINUTE)
    batch.put(store, tmp_path / "segments")
    options = AnalyticsOptions()
    roll_up(store, options, T0 + 9 * HOUR, 1)
    rows = rows_of(slo_job.run(store, options, T0 + 8 * HOUR, T0 + 9 * HOUR, 1), name="crash-free", cohort="{}")
    assert [row["verdict"] for row in rows] == ["fast_burn"] * 12
    assert rows[-1]["detail"]["burn"]["1h"] == pytest.approx(8 / 20 / 0.005)
    assert rows[-1]["n"] == 180
    store.close()


def test_indicators_are_narrowed_to_the_versions_that_an_slo_selects(place):
    store, options = filled(place, hours=1)
    assert set(known_models(store)) == {("digits", "1"), ("digits", "2")}
    found = streams(load_slos(options), [*known_models(store), ("magika", "1"), ("", "")])
    assert [stream.sli for stream in found] == ["digits-latency", "digits-latency|digits|1", "digits-latency|digits|2"]
    assert found[1].spec.threshold == 0.03


def test_a_version_first_seen_in_an_hour_is_counted_from_that_hour_on(place):
    store, _ = filled(place, hours=2)
    for version in ("1", "2"):
        slots = store.query("sli_slots", {"slo": f"digits-latency|digits|{version}", "from_ns": T0, "to_ns": T0 + DAY})
        assert float(np.sum(slots.column("total").to_numpy())) == 6 * 8 * 30

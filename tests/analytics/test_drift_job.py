import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from analytics.baseline import build_golden, to_tables
from analytics.drift_job import JOB
from analytics.drift_read import pin_field, read_chunks
from analytics.options import AnalyticsOptions
from analytics.rows import changed
from collector.storage.rows import VERDICTS

spec = importlib.util.spec_from_file_location("drift_store", Path(__file__).with_name("drift_store.py"))
kit = importlib.util.module_from_spec(spec)
sys.modules["drift_store"] = kit
spec.loader.exec_module(kit)
HOUR, START = kit.HOUR, kit.START
OPTIONS = AnalyticsOptions()
CAM2 = '{"edge.device.tier":"cam-v2"}'


def run(store, from_h, until_h, written=1):
    return JOB.run(store, OPTIONS, START + from_h * HOUR, START + until_h * HOUR, written)


def rows_of(table):
    return [{**row, "detail": json.loads(row["detail"]), "hour": (row["at_ns"] - START) // HOUR}
            for row in table.to_pylist()]  # fmt: skip


@pytest.fixture(scope="module")
def drifting(tmp_path_factory):
    """Sixteen and a half days; from hour 350 to 384 the input of one tier is half a sd up."""
    fleet = kit.StoreFleet(hours=396, drift=kit.Drift("cam-v2", 350, 0.5, until=384))
    store = kit.build(tmp_path_factory.mktemp("drifting"), fleet)
    yield store
    store.close()


@pytest.fixture(scope="module")
def judged(drifting):
    return run(drifting, 0, 396)


def test_the_job_is_hourly_and_its_rows_have_the_stores_schema(judged):
    assert (JOB.name, JOB.period_ns) == ("drift", HOUR)
    assert judged.schema.equals(VERDICTS)
    assert set(judged.column("kind").to_pylist()) == {"drift"}
    assert all(at % HOUR == 0 for at in judged.column("at_ns").to_pylist())


def test_the_first_day_has_no_reference_and_says_when_alerts_begin(judged):
    first = [row for row in rows_of(judged) if row["hour"] <= 24]
    assert {(row["verdict"], row["reason"]) for row in first} == {("insufficient", "reference")}
    assert {row["detail"]["alerts_from_ns"] for row in first} == {START + 14 * 24 * HOUR}
    newest = [row for row in first if row["hour"] == 24]
    assert sorted({row["name"] for row in newest}) == ["classes", "input:mean", "output:confidence"]
    assert {row["cohort"]: row["devices"] for row in newest} == {'{"edge.device.tier":"cam-v1"}': 14, CAM2: 12}


def test_until_fourteen_days_the_table_is_provisional_and_nothing_can_alarm(judged):
    middle = [row for row in rows_of(judged) if 25 <= row["hour"] <= 336]
    # In hour 25 one hour of data is all there is beside the reference: too few devices.
    assert {row["reason"] for row in middle if row["hour"] > 26} == {"provisional"}
    assert all(row["detail"]["sr"] is None for row in middle)
    assert all(row["detail"]["reference"]["provisional"] for row in middle)
    assert sorted({row["hour"] for row in middle}) == [*range(25, 73), *range(78, 337, 6)]
    # The q-value bounds the table: 92 looks at 6 streams of a healthy fleet.
    assert sum(row["verdict"] == "drift" for row in middle) <= 0.05 * len(middle)


def test_the_reference_is_pinned_once_and_every_later_hour_judged_by_it(judged, drifting):
    later = [row for row in rows_of(judged) if row["hour"] > 336]
    assert {row["hour"] for row in later} == set(range(337, 397))
    assert len(later) == 60 * 6
    # The detector, too, judges no hour of the reference window.
    assert all(row["detail"]["sr"]["onset_ns"] >= START + 336 * HOUR for row in later if row["detail"]["sr"])
    assert all(row["detail"]["sr"]["hours"] <= row["hour"] - 336 for row in later if row["detail"]["sr"])
    # The current window never reaches back into the reference.
    assert all(row["window_start_ns"] == START + max(row["hour"] - 24, 336) * HOUR for row in later)
    (head,) = drifting.query("baselines", {"model": "digits", "version": "3"}).to_pylist()
    assert (head["window_start_ns"], head["window_end_ns"]) == (START, START + 336 * HOUR)
    assert {row["detail"]["reference"]["baseline_id"] for row in later} == {head["baseline_id"]}
    assert {row["detail"]["reference"]["provisional"] for row in later} == {False}


def test_only_the_drifting_stream_alarms_soon_and_dated(judged):
    alarms = [row for row in rows_of(judged) if row["detail"]["sr"] and row["detail"]["sr"]["alarm"]]
    assert {(row["name"], row["cohort"]) for row in alarms} == {("input:mean", CAM2)}
    assert 351 < alarms[0]["hour"] <= 362
    onset = (alarms[0]["detail"]["sr"]["onset_ns"] - START) / HOUR
    assert abs(onset - 350) <= 3
    assert alarms[0]["detail"]["sr"]["shift_sd"] == pytest.approx(0.45, abs=0.15)
    assert alarms[0]["detail"]["sr"]["e"] >= alarms[0]["detail"]["sr"]["threshold"] == 720 * 6 / 0.05


def test_the_alarm_ends_after_the_drift_does(judged):
    hours = [row["hour"] for row in rows_of(judged) if row["detail"]["sr"] and row["detail"]["sr"]["alarm"]]
    assert 384 <= max(hours) <= 391


def test_the_table_calls_the_drift_with_its_size_and_leaves_the_rest_alone(judged):
    later = [row for row in rows_of(judged) if row["hour"] > 336]
    drift = [row for row in later if row["verdict"] == "drift"]
    assert {(row["name"], row["cohort"]) for row in drift} == {("input:mean", CAM2)}
    full = next(row for row in drift if row["hour"] == 376)
    assert full["value"] == pytest.approx(0.43, abs=0.1)
    assert full["low"] <= full["value"] <= full["high"]
    assert full["detail"]["q"] <= 0.05
    assert full["detail"]["strength"] == "major"
    assert full["detail"]["shift_sd"] > 0.3
    assert sum(full["detail"]["current_share"]) == pytest.approx(1.0, abs=1e-3)
    assert len(full["detail"]["reference_share"]) == len(full["detail"]["edges"]) + 1 == len(full["detail"]["scores"])
    assert (full["window_end_ns"] - full["window_start_ns"]) == 24 * HOUR


def test_no_row_holds_a_nan(judged):
    for row in judged.to_pylist():
        assert "NaN" not in row["detail"]
        assert "Infinity" not in row["detail"]
        assert all(row[name] is None or np.isfinite(row[name]) for name in ("value", "low", "high", "n"))


def test_any_slicing_gives_the_same_rows_and_a_second_run_changes_nothing(judged, drifting):
    sliced = pa.concat_tables([run(drifting, a, min(a + 37, 396)) for a in range(290, 396, 37)])
    wanted = judged.filter(pa.array([at > START + 290 * HOUR for at in judged.column("at_ns").to_pylist()]))
    assert changed(sliced, wanted, 2).num_rows == 0
    assert drifting.query("baselines", {"model": "digits", "version": "3"}).num_rows == 1


def test_an_hour_without_any_new_instant_is_an_empty_table(drifting):
    assert run(drifting, 396, 396).num_rows == 0
    assert JOB.run(drifting, OPTIONS, START + 5, START + HOUR - 1, 1).num_rows == 0


def test_a_model_version_that_stopped_reporting_is_not_judged_for_ever(drifting):
    assert {row["hour"] for row in rows_of(run(drifting, 396, 460))} <= set(range(397, 420))


def test_an_empty_store_has_no_verdicts(tmp_path):
    store = kit.open_store(tmp_path)
    assert JOB.run(store, OPTIONS, START, START + 48 * HOUR, 1).num_rows == 0
    store.close()


def test_a_previous_release_can_be_the_reference_from_the_first_hour(tmp_path):
    old = kit.StoreFleet(hours=15 * 24, version="4", tiers=(("cam-v1", 12), ("cam-v2", 9)))
    # It comes five days after the old one ended, to one of its two tiers.
    new = kit.StoreFleet(hours=21 * 24, version="5", tiers=(("cam-v1", 12),), begin=20 * 24, seed=8, drift=kit.Drift(
        "cam-v1", 0, 0.6))  # fmt: skip
    store = kit.build(tmp_path, old, new)
    head = pin_field(store, ("digits", "5"), START, START + 336 * HOUR, devices=12, now_ns=9, observed=("digits", "4"))
    rows = [row for row in rows_of(run(store, 480, 504)) if row["version"] == "5"]
    assert {row["detail"]["reference"]["baseline_id"] for row in rows} == {head.baseline_id}
    assert {row["hour"] for row in rows} == set(range(481, 505))
    assert {row["cohort"] for row in rows} == {'{"edge.device.tier":"cam-v1"}'}, (
        "nothing is said of tiers it never ran in"
    )
    assert {row["reason"] for row in rows} == {""}
    alarms = {row["name"] for row in rows if row["detail"]["sr"] and row["detail"]["sr"]["alarm"]}
    assert alarms == {"input:mean"}
    assert all(row["detail"]["reference"]["source"] == "field" for row in rows)
    store.close()


def test_a_device_with_a_wild_clock_does_not_become_the_reference(tmp_path):
    fleet = kit.StoreFleet(hours=50, tiers=(("cam-v1", 10),))
    wild = kit.StoreFleet(hours=3, tiers=(("wild", 1),), epoch=START - 400 * 24 * HOUR)
    store = kit.build(tmp_path, fleet, wild)
    rows = rows_of(run(store, 48, 50))
    assert {(row["verdict"], row["reason"]) for row in rows} == {("ok", "provisional")}
    assert {row["detail"]["alerts_from_ns"] for row in rows} == {START + 336 * HOUR}
    assert store.query("baselines", {"model": "digits", "version": "3"}).num_rows == 0
    store.close()


def test_a_window_without_signals_makes_no_baseline(tmp_path):
    store = kit.build(tmp_path, kit.StoreFleet(hours=30, tiers=(("cam-v1", 2),)))
    window = (START + 100 * HOUR, START + 101 * HOUR)
    assert pin_field(store, ("digits", "3"), *window, devices=1, now_ns=9) is None
    assert store.query("baselines", {"model": "digits", "version": "3"}).num_rows == 0
    store.close()


def test_a_short_accepted_baseline_serves_the_table_but_not_the_alert(tmp_path):
    store = kit.build(tmp_path, kit.StoreFleet(hours=60, tiers=(("cam-v1", 10),)))
    pin_field(store, ("digits", "3"), START, START + 24 * HOUR, devices=10, now_ns=9)
    rows = [row for row in rows_of(run(store, 40, 60)) if row["hour"] > 40]
    assert {row["reason"] for row in rows} == {"provisional"}
    assert {row["detail"]["sr"] for row in rows} == {None}
    assert {row["detail"]["alerts_from_ns"] for row in rows} == {START + 336 * HOUR}
    store.close()


def test_signals_that_vanish_and_tiers_too_small_are_named(tmp_path):
    fleet = kit.StoreFleet(hours=80, tiers=(("cam-v1", 10), ("rare", 3)))
    tables = kit.tables(fleet)
    points = tables["points"]
    gone = [series == kit.key("confidence", "3") and time > START + 40 * HOUR for series, time in zip(
        points.column("series").to_pylist(), points.column("time_ns").to_pylist(), strict=True)]  # fmt: skip
    tables["points"] = points.filter(pa.array([not one for one in gone]))
    store = kit.store_of(tmp_path, [tables], 80)
    found = Counter((row["name"], row["cohort"].split(":")[1], row["verdict"], row["reason"])
                    for row in rows_of(run(store, 71, 72)))  # fmt: skip
    assert found == {
        ("classes", '"cam-v1"}', "ok", "provisional"): 1,
        ("input:mean", '"cam-v1"}', "ok", "provisional"): 1,
        ("output:confidence", '"cam-v1"}', "insufficient", "no_data"): 1,
        ("classes", '"rare"}', "insufficient", "devices"): 1,
        ("input:mean", '"rare"}', "insufficient", "devices"): 1,
        ("output:confidence", '"rare"}', "insufficient", "no_data"): 1,
    }
    store.close()


def test_a_golden_data_set_shows_skew_and_never_drift(tmp_path):
    store = kit.build(tmp_path, kit.StoreFleet(hours=49, tiers=(("cam-v1", 10),)))
    other = kit.build(tmp_path / "golden", kit.StoreFleet(hours=24, tiers=(("bench", 1),), seed=3, drift=kit.Drift(
        "bench", 0, 3.0)))  # fmt: skip
    (chunk,) = read_chunks(other, START, START + 24 * HOUR, 1)
    golden = build_golden(chunk.rows["digits", "3"], model="digits", version="3", start_ns=START, end_ns=START + HOUR)
    for name, table in to_tables(golden, {"rows": 24}, 5).items():
        store.append(name, table)
    for from_h, until_h in ((23, 24), (47, 48)):
        rows = rows_of(run(store, from_h, until_h))
        assert rows
        assert not any(row["verdict"] == "drift" for row in rows)
        (row,) = [row for row in rows if row["name"] == "input:mean"]
        assert row["detail"]["skew"]["effect"] > 2
        assert row["detail"]["skew"]["shift_sd"] < -2
        assert row["reason"] == ("reference" if until_h == 24 else "provisional")
    other.close()
    store.close()

import numpy as np
import pytest

from analytics.baseline import Reference, SignalReference, TierScale
from analytics.bins import PinnedBins
from analytics.drift_counts import StreamCounts
from analytics.drift_judge import DriftSettings, judge_signal
from analytics.drift_rows import verdict_of

HOUR = 3_600_000_000_000
END_H = 336
SETTINGS = DriftSettings(delta=0.1, alpha=0.05, floor=0.05, looks=720)
HEALTHY, MOVED = np.array([0.25, 0.25, 0.25, 0.25]), np.array([0.1, 0.2, 0.3, 0.4])


def reference(devices=10, tier="cam", k1=(1.0,), kind="numeric", labels=(), resolved=True, provisional=False):
    """Fourteen days of 10 rows an hour, the same at every hour of the day."""
    names = tuple(f"d{i}" for i in range(devices))
    counts = np.full((24, devices, 4), 35.0)
    scores = np.array([-1.3, -0.3, 0.3, 1.3]) if kind == "numeric" else np.zeros(4)
    edges = np.array([-0.7, 0.0, 0.7]) if kind == "numeric" else np.zeros(0)
    bins = PinnedBins("s", kind, edges, labels, counts.sum(axis=(0, 1)), scores, np.zeros(4), 0.0, 1.0, resolved)
    hours = np.full((24, devices), 14, dtype=np.int64)
    scales = {tier: TierScale(0.0, 1.0, k1)}
    signal = SignalReference(bins, names, (tier,) * devices, counts, hours, scales)
    return Reference("b", "m", "1", "field", 0, END_H * HOUR, provisional, {"s": signal})


def current(hours, first_h, moved, devices=10, tiers=None, seed=1):
    """Ten rows a device and hour; ``moved(hour)`` says whether the shares are the moved ones."""
    rng = np.random.default_rng(seed)
    counts = np.stack([
        rng.multinomial(10, MOVED if moved(first_h + h) else HEALTHY, devices).astype(float) for h in range(hours)
    ])  # fmt: skip
    return StreamCounts(first_h * HOUR, counts, tiers or ("cam",) * devices)


def judged(ref, counts, hours):
    return judge_signal(ref, "s", counts, [h * HOUR for h in hours], SETTINGS)


def test_a_shift_inside_the_reference_window_is_neither_tested_nor_summed_up():
    counts = current(120, 264, lambda hour: 288 <= hour < END_H)
    rows = judged(reference(), counts, range(337, 385))
    assert not any(row.alarm.crossed for row in rows)
    assert all(row.window_ns[0] >= END_H * HOUR for row in rows)
    assert all(row.onset_ns >= END_H * HOUR for row in rows)
    assert max(row.alarm.log_e for row in rows) < 5
    assert sum(row.test.p <= 0.01 for row in rows if not row.reason) <= 3


def test_a_shift_after_it_alarms_with_its_onset_and_the_table_agrees():
    rows = judged(reference(), current(120, 336, lambda hour: hour >= 360), range(337, 457))
    first = next(row for row in rows if row.alarm and row.alarm.alarm)
    assert 361 <= first.at_ns // HOUR <= 369
    assert abs(first.onset_ns // HOUR - 360) <= 1
    last = rows[-1]
    assert verdict_of(last, last.test.p, 0.05) == "drift"
    assert last.test.shift == pytest.approx(0.45, abs=0.08)
    assert abs(last.mix_share) < 0.05


def test_a_provisional_reference_and_one_without_k1_run_no_detector():
    for ref in (reference(provisional=True), reference(k1=())):
        rows = judged(ref, current(60, 336, lambda hour: True), range(380, 396))
        assert all(row.alarm is None for row in rows)
        assert rows[-1].test.p < 0.01


@pytest.mark.parametrize(
    ("ref", "tiers", "empty", "reason"),
    [
        (reference(resolved=False), None, False, "resolution"),
        (reference(), None, True, "no_data"),
        (reference(devices=4), ("cam",) * 4, False, "devices"),
    ],
)
def test_what_cannot_be_judged_is_named_and_has_no_detector(ref, tiers, empty, reason):
    counts = current(30, 336, lambda hour: True, devices=len(tiers or ()) or 10, tiers=tiers)
    if empty:
        counts = StreamCounts(counts.first_ns, counts.counts * 0, counts.tiers)
    rows = judged(ref, counts, [360, 366])
    assert {row.reason for row in rows} == {reason}
    assert all(row.alarm is None for row in rows)
    assert {verdict_of(row, 0.0, 0.05) for row in rows} == {"insufficient"}


def test_a_tier_the_reference_never_saw_has_no_devices_to_match():
    ref = reference()
    block = current(30, 336, lambda hour: False, devices=20, tiers=("cam",) * 10 + ("new",) * 10)
    rows = {row.tier: row for row in judged(ref, block, [366])}
    assert rows["cam"].reason == ""
    assert rows["new"].reason == "devices"


def test_the_first_day_of_a_release_is_judged_by_the_reference_of_its_predecessor():
    # the reference window was over long before the release's first hour, 500, where its data begin
    rows = judged(reference(), current(40, 500, lambda hour: True), (502, 510, 524, 530))
    assert [row.reason for row in rows] == [""] * 4
    assert [row.test.rows for row in rows] == [200.0, 1000.0, 2400.0, 2400.0]
    assert all(row.test.p < 0.01 for row in rows)
    # less than a day cannot show who usually reports
    assert [np.isnan(row.mix_effect) for row in rows] == [True, True, False, False]


def test_a_device_that_changed_its_tier_is_judged_with_its_new_one():
    ref = reference(devices=20)
    block = current(30, 336, lambda hour: False, devices=20, tiers=("cam",) * 10 + ("cam-b",) * 10)
    rows = {row.tier: row for row in judged(ref, block, [366])}
    assert rows["cam"].test.devices == rows["cam-b"].test.devices == 10


def test_class_shares_have_a_detector_that_names_the_class():
    ref = reference(kind="categorical", labels=("a", "b", "c", "d"), k1=(1.0,) * 4)
    rows = judged(ref, current(72, 336, lambda hour: hour >= 360), range(337, 409))
    alarmed = [row for row in rows if row.alarm and row.alarm.alarm]
    assert alarmed
    assert alarmed[0].at_ns > 360 * HOUR
    assert alarmed[-1].alarm.score in (0, 3)
    assert rows[-1].test.effect == pytest.approx(0.2, abs=0.04)


def test_a_mix_of_day_and_night_devices_is_compared_hour_by_hour():
    ref = reference()
    signal = ref.signals["s"]
    signal.counts[:12] = np.array([60.0, 40, 25, 15])
    signal.counts[12:] = np.array([15.0, 25, 40, 60])
    rng = np.random.default_rng(3)
    night, day = signal.counts[0, 0] / 140, signal.counts[12, 0] / 140
    # Now only the night half of the day reports: pooled, that looks like a large shift.
    counts = np.zeros((24, 10, 4))
    for hour in range(12):
        counts[hour] = rng.multinomial(10, night, 10)
    (row,) = judged(ref, StreamCounts(END_H * HOUR, counts, ("cam",) * 10), [360])
    assert abs(day - night).sum() > 0.5
    assert row.test.p > 0.01
    assert abs(row.test.shift) < 0.1

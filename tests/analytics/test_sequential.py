import importlib.util
from pathlib import Path

import numpy as np
import pytest

from analytics import sequential
from analytics.sequential import HourlyShift, hourly_shift, log_threshold, shiryaev_roberts, variance_inflation

spec = importlib.util.spec_from_file_location("drift_fleet", Path(__file__).with_name("drift_fleet.py"))
fleets = importlib.util.module_from_spec(spec)
__import__("sys").modules["drift_fleet"] = fleets
spec.loader.exec_module(fleets)
HourlyFleet = fleets.HourlyFleet


def detector(rng, fleet, shift=0.0, onset=0, streams=1):
    """Run a fleet through reference, k1 and detector; return (alarms by hour, k1)."""
    n0, mean0, n1, mean1, ref_n, ref_mean = fleets.hourly(rng, fleet, shift, onset)
    hod = np.arange(len(ref_n)) % 24
    others = n0[hod] - ref_n
    left_out = (mean0[hod] * n0[hod] - ref_mean * ref_n) / np.maximum(others, 1)
    k1 = variance_inflation(hourly_shift(left_out[None], ref_mean[None], others, ref_n))
    hod = np.arange(len(n1)) % 24
    hours = hourly_shift(mean0[hod][None], mean1[None], n0[hod], n1)
    run = shiryaev_roberts(hours, delta=0.1, k1=k1, threshold=log_threshold(0.05, 720, streams), judged=len(n1))
    return run, float(k1[0])


def shifts(values, se=0.05):
    s = np.asarray(values, dtype=float)[None]
    return HourlyShift(s, np.where(np.isfinite(s), se, np.nan), np.full(s.shape[1], 9))


def test_windowed_evidence_equals_the_recursion_while_the_cap_is_out_of_reach():
    rng = np.random.default_rng(1)
    hours = HourlyShift(rng.normal(0.1, 0.1, (1, 60)), rng.uniform(0.05, 0.1, (1, 60)), np.full(60, 9))
    log_e = sequential.log_e_values(hours, 0.1, np.array([1.2]))
    r = np.zeros(8)
    wanted = []
    for h in range(60):
        r = (1 + r) * np.exp(log_e[:, h])
        wanted.append(np.log(r.mean()))
    run = shiryaev_roberts(hours, delta=0.1, k1=np.array([1.2]), threshold=9.0, judged=60)
    assert [one.log_e for one in run] == pytest.approx(wanted, abs=1e-9)


def test_an_hours_evidence_is_the_published_formula():
    log_e = sequential.log_e_values(shifts([0.3], se=0.05), 0.1, np.array([2.0]))[:, 0]
    up = [lam * (0.3 - 0.1) / (2.0 * 0.05) - lam**2 / 2 for lam in (0.5, 1.0, 2.0, 3.0)]
    down = [lam * (-0.3 - 0.1) / (2.0 * 0.05) - lam**2 / 2 for lam in (0.5, 1.0, 2.0, 3.0)]
    assert log_e.tolist() == pytest.approx([*up, *down])


def test_evidence_older_than_96_hours_is_forgotten():
    hours = shifts([0.5] * 10 + [np.nan] * 100)
    run = shiryaev_roberts(hours, delta=0.1, k1=np.ones(1), threshold=10.0, judged=110)
    assert run[9].crossed
    assert run[95].crossed
    assert not run[106].crossed
    assert run[106].log_e == pytest.approx(np.log(96), abs=1e-9)


def test_hours_without_devices_are_no_evidence_and_never_a_nan():
    run = shiryaev_roberts(shifts([np.nan] * 5), delta=0.1, k1=np.ones(1), threshold=5.0, judged=5)
    assert [one.log_e for one in run] == pytest.approx(np.log(np.arange(1, 6)))
    assert not any(one.alarm for one in run)
    empty = hourly_shift(np.zeros((1, 3, 0)), np.zeros((1, 3, 0)), np.zeros((3, 0)), np.zeros((3, 0)))
    assert np.isnan(empty.shift).all()
    assert variance_inflation(empty).tolist() == [1.0]
    assert shiryaev_roberts(empty, delta=0.1, k1=np.ones(1), threshold=5.0, judged=0) == []


def test_enormous_evidence_stays_a_number():
    run = shiryaev_roberts(shifts([5.0] * 96, se=1e-3), delta=0.1, k1=np.ones(1), threshold=9.0, judged=96)
    assert all(np.isfinite(one.log_e) for one in run)
    assert run[-1].log_e > 1e5
    assert run[-1].alarm


def test_the_e_value_of_symmetric_noise_has_mean_at_most_one():
    rng = np.random.default_rng(3)
    # Two-point and heavy-tailed device differences: self-normalisation needs symmetry, not a bell.
    for draw in (rng.choice((-1.0, 1.0), (200_000, 6)), rng.standard_t(1.5, (200_000, 6))):
        z = draw.sum(axis=1) / np.sqrt((draw**2).sum(axis=1))
        for lam in sequential.LAMBDAS:
            e = np.exp(lam * z - lam * lam / 2)
            assert e.mean() <= 1 + 4 * e.std() / np.sqrt(e.size)


def test_healthy_fleets_never_alarm_in_thirty_days_under_day_and_night_and_common_shocks():
    rng = np.random.default_rng(4)
    fleet = HourlyFleet(shock_sd=0.05)
    alarmed, k1s, longest = 0, [], 0.0
    for _ in range(24):
        run, k1 = detector(rng, fleet)
        alarmed += any(one.alarm for one in run)
        longest = max(longest, max(one.log_e for one in run))
        k1s.append(k1)
    # The claim is <= 5 %; 24 fleets without one reject a true rate above 12 % at 95 %. benchmarks/ runs hundreds.
    assert alarmed == 0
    assert longest < log_threshold(0.05, 720, 1)
    assert 1.1 < np.median(k1s) < 1.6


def test_a_reference_that_ignores_the_hour_would_alarm_on_every_healthy_fleet():
    rng = np.random.default_rng(5)
    for _ in range(4):
        n0, mean0, n1, mean1, _, _ = fleets.hourly(rng, HourlyFleet(hours=96))
        flat = (mean0 * n0).sum(axis=0) / n0.sum(axis=0)
        hours = hourly_shift(np.tile(flat, (1, 96, 1)), mean1[None], np.tile(n0.sum(axis=0), (96, 1)), n1)
        run = shiryaev_roberts(hours, delta=0.1, k1=np.ones(1), threshold=log_threshold(0.05, 720, 1), judged=96)
        assert any(one.crossed for one in run)


@pytest.mark.parametrize(("shift", "median_h", "streams"), [(0.25, 24, 1), (0.5, 6, 1), (0.5, 12, 1200), (-0.5, 6, 1)])
def test_a_shift_is_alarmed_within_the_published_delay_and_dated(shift, median_h, streams):
    rng = np.random.default_rng(6)
    delays, onsets = [], []
    for _ in range(11):
        run, _ = detector(rng, HourlyFleet(hours=216, shock_sd=0.05), shift, 72, streams)
        assert not any(one.alarm for one in run[:72])
        hit = next(h for h in range(72, 216) if run[h].alarm)
        delays.append(hit - 72 + 1)
        onsets.append(run[hit].onset)
        assert np.sign(run[hit].shift) == np.sign(shift)
    assert np.median(delays) <= median_h
    assert abs(np.median(onsets) - 72) <= 3


def test_a_shift_of_the_minimum_effect_never_alarms():
    rng = np.random.default_rng(7)
    for _ in range(6):
        run, _ = detector(rng, HourlyFleet(hours=240, day_night=0.3), 0.1, 0)
        assert not any(one.alarm for one in run)


def test_an_alarm_ends_when_the_shift_does_though_the_evidence_is_remembered():
    rng = np.random.default_rng(8)
    values = np.concatenate([rng.normal(0, 0.03, 24), rng.normal(0.5, 0.03, 40), rng.normal(0, 0.03, 20)])
    run = shiryaev_roberts(shifts(values), delta=0.1, k1=np.ones(1), threshold=10.0, judged=84)
    assert run[63].alarm
    assert run[70].crossed
    assert not run[72].alarm


def test_weather_widens_the_detector_and_its_absence_does_not_narrow_it():
    rng = np.random.default_rng(9)
    calm = hourly_shift(*_reference(rng, 0.0))
    windy = hourly_shift(*_reference(rng, 0.3))
    assert variance_inflation(calm)[0] == pytest.approx(1.0, abs=0.12)
    assert variance_inflation(windy)[0] > 1.3


def _reference(rng, shock):
    mean0 = np.zeros((1, 336, 20))
    mean1 = rng.normal(0, 0.3, (1, 336, 20)) + rng.normal(0, shock, (1, 336, 1))
    n = np.full((336, 20), 12.0)
    return mean0, mean1, 100 * n, n


def test_the_evidence_of_several_scores_is_averaged_and_the_guilty_one_named():
    rng = np.random.default_rng(10)
    shift = rng.normal(0, 0.05, (3, 30))
    shift[1, 10:] -= 0.6
    hours = HourlyShift(shift, np.full((3, 30), 0.05), np.full(30, 9))
    run = shiryaev_roberts(hours, delta=0.1, k1=np.ones(3), threshold=8.0, judged=30)
    assert run[-1].alarm
    assert run[-1].score == 1
    assert run[-1].shift < -0.4
    assert run[-1].onset == 10

"""Crash-free arithmetic: known values, and coverage of the intervals by seeded simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analytics.stability import (
    design_effect,
    device_sums,
    evidence_needed,
    intraclass_correlation,
    judge,
    rolling,
    wilson,
)  # fmt: skip


def test_wilson_agrees_with_scipy_without_design_effect():
    for good, n in ((0, 10), (3, 10), (10, 10), (999, 1000), (2994, 2995)):
        expected = stats.binomtest(good, n).proportion_ci(0.95, method="wilson")
        assert wilson(good, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_with_a_design_effect_is_wilson_on_fewer_trials():
    assert wilson(90, 100, deff=4) == pytest.approx(wilson(22.5, 25), abs=1e-12)
    assert wilson(90, 100, deff=0.3) == wilson(90, 100)


def test_no_trials_say_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    estimate = judge(0, 0, 1.0, 0.999)
    assert (estimate.verdict, estimate.value, estimate.low) == ("no_data", None, None)


@pytest.mark.parametrize(("target", "needed"), [(0.99, 299), (0.995, 598), (0.999, 2995)])
def test_evidence_needed_is_the_published_number_of_fault_free_hours(target, needed):
    assert math.ceil(evidence_needed(target)) == needed


@pytest.mark.parametrize("target", [0.0, 1.0, 1.5, -0.1])
def test_evidence_for_an_impossible_target_is_refused(target):
    with pytest.raises(ValueError, match="between 0 and 1"):
        evidence_needed(target)


@pytest.mark.parametrize(
    ("good", "n", "deff", "verdict", "reason"),
    [
        (2995.0, 2995.0, 1.0, "met", ""),
        (2994.0, 2994.0, 1.0, "insufficient", "evidence"),
        (6000.0, 6000.0, 3.0, "insufficient", "evidence"),
        (970.0, 1000.0, 1.0, "missed", ""),
        (2992.0, 3000.0, 1.0, "missed", ""),
        (2996.0, 3000.0, 1.0, "insufficient", "interval"),
    ],
)
def test_a_verdict_needs_evidence_and_says_what_is_missing(good, n, deff, verdict, reason):
    estimate = judge(good, n, deff, 0.999)
    assert (estimate.verdict, estimate.reason) == (verdict, reason)


def test_a_rate_that_should_be_low_is_judged_the_other_way_round():
    assert judge(0, 1000, 1, 0.01, lower_is_better=True).verdict == "met"
    assert judge(50, 1000, 1, 0.01, lower_is_better=True).verdict == "missed"
    assert judge(0, 100, 1, 0.01, lower_is_better=True).reason == "evidence"


def test_without_a_target_there_is_an_interval_but_no_verdict():
    estimate = judge(9, 10, 1, None)
    assert (estimate.verdict, estimate.reason) == ("insufficient", "no_target")
    assert estimate.low is not None


def test_design_effect_is_one_when_devices_are_alike_and_grows_when_one_repeats():
    size = np.full((50, 1), 168, np.int64)
    spread, repeated = np.zeros((50, 1), np.int64), np.zeros((50, 1), np.int64)
    spread[:20] = 1
    repeated[0] = 20
    alike, alone = (float(design_effect(device_sums(bad, size), 1.0, np.zeros(1))[0]) for bad in (spread, repeated))
    assert alike == 1.0
    # all crashes on one device: v_lin / v_binomial = D/(D-1) sum (k_d - p h)^2 / (n p (1-p)) = 20.0
    p = 20 / (50 * 168)
    by_hand = 50 / 49 * ((20 - p * 168) ** 2 + 49 * (p * 168) ** 2) / (50 * 168 * p * (1 - p))
    assert alone == pytest.approx(by_hand, rel=1e-9)


def test_a_quiet_week_keeps_the_design_effect_of_the_history():
    size = np.full((50, 1), 24, np.int64)
    quiet = device_sums(np.zeros_like(size), size)
    assert float(design_effect(quiet, 1.0, np.array([0.1]))[0]) == pytest.approx(1 + 0.1 * 23)


def test_intraclass_correlation_of_homogeneous_devices_is_near_zero_and_of_one_bad_device_near_one():
    generator = np.random.default_rng(3)
    size = np.full(200, 720.0)
    alike = intraclass_correlation(generator.binomial(720, 0.01, 200).astype(float), size)
    # its standard error under homogeneity is about sqrt(2/D)/h = 0.00014
    assert alike < 5e-4
    assert intraclass_correlation(np.array([720.0] + [0.0] * 199), size) > 0.99
    assert intraclass_correlation(np.zeros(200), size) == 0.0
    assert intraclass_correlation(np.array([5.0]), np.array([10.0])) == 0.0


def test_rolling_sums_do_not_depend_on_where_the_history_begins():
    generator = np.random.default_rng(5)
    matrix = generator.integers(0, 9, (4, 100))
    full = rolling(matrix, 24)
    assert np.array_equal(rolling(matrix[:, 40:], 24)[:, 23:], full[:, 63:])
    assert np.array_equal(full[:, 50], matrix[:, 27:51].sum(axis=1))


@pytest.mark.parametrize(
    ("devices", "hours", "rate", "shape"),
    [(200, 168, 0.001, 0.3), (1000, 168, 0.001, 0.1), (200, 168, 0.01, 0.3), (50, 168, 0.02, 0.5)],
)
def test_wilson_on_the_effective_sample_covers_where_plain_wilson_does_not(devices, hours, rate, shape):
    """95 % intervals should cover 93..99 %; with 600 fleets 3.3 standard errors are 2.9 points (docs/crash-free.md)."""
    generator = np.random.default_rng(devices + hours)
    fleets, history_hours = 600, 720
    covered = plain = 0
    for _ in range(fleets):
        volume = np.exp(generator.normal(0, 1, devices) - 0.5)
        size = np.maximum((hours * np.minimum(volume, 1.5)).astype(np.int64), 1)
        rates = np.minimum(generator.gamma(shape, rate / shape, devices), 1.0)
        truth = float((rates * size).sum() / size.sum())
        before = generator.binomial(history_hours, rates).astype(float)
        icc = intraclass_correlation(before, np.full(devices, float(history_hours)))
        bad = generator.binomial(size, rates)
        sums = device_sums(bad.reshape(-1, 1), size.reshape(-1, 1))
        deff = float(design_effect(sums, 1.0, np.array([icc]))[0])
        n = int(size.sum())
        low, high = wilson(n - bad.sum(), n, deff=deff)
        # the truth of the population the devices were drawn from
        covered += low <= 1 - rate <= high
        low, high = wilson(n - bad.sum(), n)
        plain += low <= 1 - rate <= high
        assert 0 <= truth <= 1
    assert covered / fleets >= 0.93 - 0.029
    assert plain / fleets < 0.93

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analytics import drift
from analytics.drift import Look, matched_test
from analytics.mix import composition_share, reweighting
from analytics.multiplicity import benjamini_hochberg

spec = importlib.util.spec_from_file_location("drift_fleet", Path(__file__).with_name("drift_fleet.py"))
fleets = importlib.util.module_from_spec(spec)
__import__("sys").modules["drift_fleet"] = fleets
spec.loader.exec_module(fleets)
Fleet = fleets.Fleet


def p_values(seed, fleet, repetitions, shift=0.0, family=1):
    rng = np.random.default_rng(seed)
    results = []
    for _ in range(repetitions):
        look, scores, sd = fleets.look(rng, fleet, shift)
        results.append(matched_test(look, scores, sd, family=family))
    return results


def rejections(results, alpha=0.05):
    return sum(one.p <= alpha for one in results)


def most(repetitions, rate):
    """The count that a true rate of ``rate`` exceeds once in 2000 runs of the test."""
    return stats.binom.ppf(1 - 1 / 2000, repetitions, rate)


def least(repetitions, rate):
    return stats.binom.ppf(1 / 2000, repetitions, rate)


# --- the null distribution -------------------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [1, 2, 5, 8, 12])
def test_the_exact_p_value_counts_every_sign_pattern(devices):
    y = np.random.default_rng(devices).normal(0.3, 1, (devices, 4))
    observed = np.sum(y.sum(axis=0) ** 2)
    signs = np.array(list(itertools.product((-1, 1), repeat=devices)))
    wanted = np.mean(np.sum((signs @ y) ** 2, axis=1) >= observed * (1 - 1e-12))
    p, method = drift.flip_p_value(y)
    assert method == "exact"
    assert p == pytest.approx(wanted, abs=1e-12)


def test_the_analytic_p_value_agrees_with_random_flips():
    rng = np.random.default_rng(5)
    for shift in (0.0, 0.05, 0.1):
        look, scores, sd = fleets.look(rng, Fleet(devices=40), shift)
        w = drift.weights(look.n0, look.n1)
        d = w[:, None] * (look.p1 - look.p0)
        y = drift.anderson_darling_scores(d, 0.5 * (w @ look.p0 + w @ look.p1))
        flips = rng.choice((-1.0, 1.0), (20_000, w.size)) @ y
        wanted = np.mean(np.sum(flips**2, axis=1) >= np.sum(y.sum(axis=0) ** 2))
        p, method = drift.flip_p_value(y)
        assert method == "pearson3"
        assert p == pytest.approx(wanted, abs=0.015)
        assert matched_test(look, scores, sd).p == pytest.approx(p)


def test_device_order_and_empty_devices_do_not_change_the_p_value():
    y = np.random.default_rng(1).normal(0.1, 1, (30, 6))
    p, _ = drift.flip_p_value(y)
    assert drift.flip_p_value(y[::-1])[0] == pytest.approx(p)
    assert drift.flip_p_value(np.vstack([y, np.zeros((9, 6))]))[0] == pytest.approx(p)


def test_many_devices_are_summed_into_panels_with_the_same_answer():
    y = np.random.default_rng(2).normal(0.02, 1, (4000, 6))
    assert drift.flip_p_value(y)[0] == pytest.approx(drift._pearson3_p(y), abs=0.05)


def test_identical_windows_are_no_evidence_and_give_no_nan():
    p = np.tile([0.5, 0.5, 0.0], (10, 1))
    result = matched_test(Look(np.full(10, 50.0), np.full(10, 50.0), p, p), np.arange(3.0), 1.0, family=5)
    assert (result.p, result.effect, result.shift, result.psi, result.ks) == (1.0, 0.0, 0.0, 0.0, 0.0)


# --- operating characteristics ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fleet", "seed"),
    [
        (Fleet(reporting=0.5), 11),
        (Fleet(reporting=0.4, biased_reporting=True), 12),
        (Fleet(devices=300, reporting=0.1, biased_reporting=True), 13),
        (Fleet(devices=8, volume_sd=0.5), 14),
        (Fleet(devices=40, rows=5), 15),
        (Fleet(devices=60, wobble_sd=0.3), 16),
    ],
    ids=["half report", "who reports depends on the value", "a tenth reports", "eight, exact", "five rows", "wobble"],
)
def test_a_healthy_fleet_alarms_at_the_nominal_rate(fleet, seed):
    n = 500
    tested = [one for one in p_values(seed, fleet, n) if not one.reason]
    assert len(tested) >= 0.6 * n
    assert rejections(tested) <= most(len(tested), 0.055)
    assert rejections(tested) >= least(len(tested), 0.02)


def test_pooling_the_same_rows_would_alarm_falsely():
    rng = np.random.default_rng(21)
    alarms = 0
    for _ in range(100):
        look, _, _ = fleets.look(rng, Fleet(reporting=0.4, biased_reporting=True))
        reference, _, _ = fleets.look(rng, Fleet())
        a = (reference.p0 * reference.n0[:, None]).sum(axis=0)
        b = (look.p1 * look.n1[:, None]).sum(axis=0)
        alarms += stats.chi2_contingency(np.stack([a, b])).pvalue <= 0.05
    assert alarms >= 80


@pytest.mark.parametrize(
    ("fleet", "shift", "rate", "seed"),
    [
        (Fleet(reporting=0.5), 0.25, 0.97, 31),
        (Fleet(), 0.1, 0.95, 32),
        (Fleet(devices=15), 0.25, 0.94, 33),
        (Fleet(devices=8, volume_sd=0.5), 0.5, 0.9, 34),
    ],
)
def test_a_shift_is_found_with_the_published_power(fleet, shift, rate, seed):
    results = [one for one in p_values(seed, fleet, 120, shift) if not one.reason]
    assert rejections(results) >= least(len(results), rate)


def test_the_ladder_pair_is_no_more_liberal_and_reaches_smaller_p_values():
    healthy = [one for one in p_values(41, Fleet(devices=16, volume_sd=0.5), 500, family=48) if not one.reason]
    assert {one.method for one in healthy} == {"pearson3+t"}
    assert rejections(healthy) <= most(len(healthy), 0.055)
    assert rejections(healthy, 0.005) <= most(len(healthy), 0.007)
    shifted = p_values(42, Fleet(devices=10, rows=200, volume_sd=0.3), 40, shift=0.5, family=48)
    assert sum(one.p < 2.0**-9 for one in shifted) >= 30


def test_the_table_keeps_the_false_discovery_rate_and_the_floor_stops_trifles():
    rng = np.random.default_rng(51)
    rates, trifles = [], 0
    for _ in range(60):
        truth = np.arange(24) < 6
        rows = []
        for is_true in truth:
            look, scores, sd = fleets.look(rng, Fleet(devices=20, rows=40, volume_sd=0.5), 0.4 if is_true else 0.0)
            rows.append(matched_test(look, scores, sd, family=24))
        called = benjamini_hochberg([one.p for one in rows]) <= 0.05
        rates.append((called & ~truth).sum() / max(called.sum(), 1))
        trifles += sum(one.effect >= 0.05 for one, c, t in zip(rows, called, truth, strict=True) if c and not t)
    assert np.mean(rates) <= 0.05 * 18 / 24 + 3.3 * np.std(rates) / np.sqrt(60)
    small = p_values(52, Fleet(devices=300, wobble_sd=0.0), 20, shift=0.03)
    assert rejections(small) >= 10
    assert sum(one.effect >= 0.05 for one in small) == 0


def test_sparse_categories_are_merged_by_the_reference_until_the_test_is_right():
    rng = np.random.default_rng(61)
    truth = np.array([0.6, 0.3, *([0.1 / 20] * 20)])
    alarms = 0
    for _ in range(400):
        p = rng.dirichlet(truth * 200, 30)
        n0, n1 = np.full(30, 40.0), np.full(30, 6.0)
        p0 = np.array([rng.multinomial(40, q) for q in p]) / 40
        p1 = np.array([rng.multinomial(6, q) for q in p]) / 6
        alarms += matched_test(Look(n0, n1, p0, p1), np.zeros(22), 1.0, categorical=True).p <= 0.05
    assert least(400, 0.02) <= alarms <= most(400, 0.06)


def test_rare_categories_share_one_bin_of_at_least_twenty_expected_rows():
    share = np.array([0.5, 0.4, 0.06, 0.02, 0.01, 0.01])
    group = drift.merge_rare(share, 300)
    expected = np.bincount(group, weights=share * 300)
    assert expected.min() >= 20 or expected.size == 1
    assert len(set(group[:2])) == 2
    assert drift.merge_rare(share, 10).max() == 0
    # Twelve and three expected rows are too few even together: the next class joins them.
    lonely = np.array([0.5, 0.45, 0.04, 0.01])
    assert np.bincount(drift.merge_rare(lonely, 300), weights=lonely * 300).tolist() == [150.0, 150.0]


# --- effects ---------------------------------------------------------------------------------------------------


def test_effects_have_their_defined_values():
    p0, p1 = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.5, 0.25])
    psi = -0.25 * np.log(0.5) + (0.25 - 1e-4) * np.log(0.25 / 1e-4)
    assert drift.psi(p0, p1) == pytest.approx(psi)
    middle = 0.5 * (p0 + p1)
    js = 0.5 * (stats.entropy(p0, middle, base=2) + stats.entropy(p1, middle, base=2))
    assert drift.js_distance(p0, p1) == pytest.approx(np.sqrt(js))
    n = np.full(9, 100.0)
    result = matched_test(Look(n, n, np.tile(p0, (9, 1)), np.tile(p1, (9, 1))), np.array([0.0, 1.0, 3.0]), 2.0)
    assert result.ks == pytest.approx(0.25)
    assert result.tvd == pytest.approx(0.25)
    assert result.shift == pytest.approx((0.25 * 3 - 0.0) / 2.0)
    # |S| = .25 at both edges, steps 1 and 2, over the sd 2; nine equal devices take off 1/9 of S².
    assert result.effect == pytest.approx(0.25 * np.sqrt(8 / 9) * 3 / 2.0)


def test_the_debiased_effect_is_near_zero_when_nothing_moves_and_near_the_shift_when_it_does():
    healthy = p_values(71, Fleet(devices=30, rows=5), 100)
    moved = p_values(72, Fleet(), 40, shift=0.5)
    # Pooled W1 on five rows a device is about .15 from noise alone.
    assert np.median([one.effect for one in healthy]) < 0.04
    sd = np.sqrt(1 + 0.25 + 0.01)
    assert np.median([one.effect for one in moved]) == pytest.approx(0.5 / sd, rel=0.06)
    assert np.median([one.shift for one in moved]) == pytest.approx(0.5 / sd, rel=0.06)


def test_the_band_covers_the_plain_distance_and_keeps_zero_when_nothing_drifts():
    truth = 0.25 / np.sqrt(1.26)
    moved = p_values(81, Fleet(devices=40), 150, shift=0.25)
    covered = sum(one.effect_low <= truth * 0.985 and one.effect_high >= truth * 0.985 for one in moved)
    assert covered >= least(150, 0.88)
    healthy = p_values(82, Fleet(devices=40), 150)
    assert sum(one.effect_low == 0.0 for one in healthy) >= least(150, 0.9)


# --- refusals --------------------------------------------------------------------------------------------------


def shares(devices, rows):
    p = np.tile([0.3, 0.7], (devices, 1))
    return Look(np.full(devices, 100.0), np.asarray(rows, dtype=float), p, p)


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (shares(0, []), "devices"),
        (shares(1, [500]), "devices"),
        (shares(7, [500] * 7), "devices"),
        (Look(np.array([1e6] * 2 + [1.0] * 8), np.array([1e6] * 2 + [1.0] * 8), *[np.tile([0.3, 0.7], (10, 1))] * 2),
         "effective_devices"),
        (shares(10, [2] * 10), "rows"),
    ],
)  # fmt: skip
def test_too_little_evidence_is_named_and_never_a_number(look, reason):
    for categorical in (False, True):
        result = matched_test(look, np.array([0.0, 1.0]), 1.0, categorical=categorical, family=3)
        assert result.reason == reason
        assert np.isnan(result.p)


def test_a_single_bin_says_nothing():
    look = Look(np.full(9, 50.0), np.full(9, 50.0), np.ones((9, 1)), np.ones((9, 1)))
    for categorical in (False, True):
        result = matched_test(look, np.zeros(1), 1.0, categorical=categorical)
        assert (result.p, result.effect) == (1.0, 0.0)


# --- multiplicity and mix --------------------------------------------------------------------------------------


def test_q_values_match_the_step_up_procedure():
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.005])
    assert benjamini_hochberg(p) == pytest.approx([0.02, np.nan, 0.04, 0.04, 0.02], nan_ok=True)
    assert np.isnan(benjamini_hochberg([np.nan])).all()
    assert benjamini_hochberg([]).size == 0
    assert benjamini_hochberg(np.random.default_rng(1).random(50)) == pytest.approx(
        stats.false_discovery_control(np.random.default_rng(1).random(50))
    )


def test_a_fleet_half_gone_dark_is_mix_and_a_shift_everywhere_is_not():
    rng = np.random.default_rng(91)
    offset = np.repeat([-0.7, 0.7], 50) + rng.normal(0, 0.2, 100)
    edges = fleets.pinned_edges(20, 1.25)
    step = np.diff(fleets.bin_scores(20, 1.25)) / 1.25
    n0, p0 = fleets.shares(rng, offset, np.full(100, 400), edges)
    n0 = n0.sum(axis=1)
    alive = np.where(np.arange(100) < 50, 20, 100)
    n1, p1 = fleets.shares(rng, offset, alive, edges)
    assert composition_share(n0, n1.sum(axis=1), p0, p1) == pytest.approx(1.0, abs=0.1)
    effect, p = reweighting(n0, n1.sum(axis=1), p0, step, 0.05)
    assert effect > 0.2
    assert p <= 0.01
    n1, p1 = fleets.shares(rng, offset + 0.5, np.full(100, 100), edges)
    assert composition_share(n0, n1.sum(axis=1), p0, p1) == pytest.approx(0.0, abs=0.05)
    effect, p = reweighting(n0, n1.sum(axis=1), p0, step, 0.05)
    assert effect < 0.05
    assert np.isnan(p)


def test_the_split_of_an_empty_window_is_no_number():
    none, p = np.zeros(3), np.zeros((3, 2))
    assert np.isnan(composition_share(none, none, p, p))
    assert np.isnan(reweighting(none, none, p, np.ones(1), 0.05)[0])

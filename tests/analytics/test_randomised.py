"""Estimates from randomised counts: unbiased, and as uncertain as they say; seeded, with derived tolerances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.randomised import channel, unbiased

TRUE = np.array([5000, 2500, 1500, 700, 200, 80, 15, 5, 0, 0])
DRAWS = 2000


def reports(random: np.random.Generator, epsilon: float) -> np.ndarray:
    """Randomise every observation of TRUE by the mechanism itself, not by its formula: tell the truth or pick a lie."""
    k = len(TRUE)
    chances = channel(k, epsilon)
    truth = np.repeat(np.arange(k), TRUE)
    honest = random.random(len(truth)) < chances.truthful
    lie = random.integers(0, k - 1, len(truth))
    return np.bincount(np.where(honest, truth, lie + (lie >= truth)), minlength=k)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_estimates_are_unbiased_and_their_covariance_is_what_the_formula_says(epsilon: float) -> None:
    """Over 2,000 seeded fleets: mean within 5 standard errors; variance within 5 of its own, which is sqrt(2/draws)."""
    random = np.random.default_rng(20261125)
    found = [unbiased(reports(random, epsilon).tolist(), epsilon) for _ in range(DRAWS)]
    counts = np.array([estimate.counts for estimate in found])
    p, q = channel(len(TRUE), epsilon).truthful, channel(len(TRUE), epsilon).other
    n = TRUE.sum()
    variance = (TRUE * p * (1 - p) + (n - TRUE) * q * (1 - q)) / (p - q) ** 2
    assert (np.abs(counts.mean(axis=0) - TRUE) <= 5 * np.sqrt(variance / DRAWS)).all()
    relative = counts.var(axis=0, ddof=1) / variance
    assert (np.abs(relative - 1) <= 5 * math.sqrt(2 / (DRAWS - 1))).all()
    told = np.mean([estimate.variance for estimate in found], axis=0)
    assert told == pytest.approx(variance, rel=0.01)  # linear in estimates whose mean is known to better than this
    sampled = np.cov(counts.T)
    stated = np.mean([estimate.covariance for estimate in found], axis=0)
    # the error of a sampled covariance of two nearly normal figures: sqrt((v_i v_j + c_ij^2) / draws)
    error = np.sqrt((np.outer(variance, variance) + stated**2) / DRAWS)
    assert (np.abs(sampled - stated) <= 5 * error).all()


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=40), st.floats(0.1, 6))
def test_the_whole_is_kept_exactly_and_variances_are_never_negative(reported: list[int], epsilon: float) -> None:
    estimate = unbiased(reported, epsilon)
    assert estimate.counts.sum() == pytest.approx(sum(reported), abs=1e-6 * (1 + sum(reported)) / epsilon)
    assert (estimate.variance >= -1e-6 * (1 + estimate.variance.max())).all()
    rows = estimate.covariance.sum(axis=1)  # the total is known, so it co-varies with nothing
    assert np.abs(rows).max() <= 1e-6 * (1 + estimate.variance.max())


@given(st.integers(2, 300), st.floats(0.01, 12))
def test_the_channel_is_one_and_its_ratio_is_the_privacy_loss(categories: int, epsilon: float) -> None:
    chances = channel(categories, epsilon)
    assert chances.truthful + (categories - 1) * chances.other == pytest.approx(1)
    assert chances.truthful / chances.other == pytest.approx(math.exp(epsilon), rel=1e-9)


def test_a_rare_category_costs_what_the_literature_says() -> None:
    k, epsilon, n = 34, 1.0, 100_000
    expected = n * (k - 2 + math.e**epsilon) / (math.e**epsilon - 1) ** 2
    q = channel(k, epsilon).other
    reported = [round(n * q)] * k  # as an empty category is expected to be reported
    reported[0] += n - sum(reported)
    assert unbiased(reported, epsilon).variance[-1] == pytest.approx(expected, rel=0.01)


def test_categories_that_nobody_reported_still_count() -> None:
    whole = unbiased([5, 3, 0, 0], 1.0)
    assert unbiased([5, 3], 1.0, categories=4).counts == pytest.approx(whole.counts)
    assert whole.counts[3] < 0  # left so: a clipped estimate would bias every sum


@pytest.mark.parametrize(
    ("reported", "epsilon", "categories", "words"),
    [
        ([1], 1.0, None, "at least 2"),
        ([1, 2], 0.0, None, "above 0"),
        ([1, 2], float("nan"), None, "above 0"),
        ([1, -2], 1.0, None, "from 0"),
        ([1, 2, 3], 1.0, 2, "3 counts of 2 categories"),
    ],
)
def test_what_cannot_be_is_said(reported: list[int], epsilon: float, categories: int | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        unbiased(reported, epsilon, categories)

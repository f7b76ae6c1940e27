"""Burn windows as data."""

from __future__ import annotations

from fractions import Fraction

import pytest

from analytics.options import DAY_NS, HOUR_NS, MINUTE_NS
from analytics.windows import burn_windows, duration_ns
from collector.errors import ConfigError


def test_thirty_days_are_the_workbooks_table():
    found = [(w.severity, w.name, w.burn) for w in burn_windows(30 * DAY_NS)]
    assert found == [
        ("page", "1h/5m", Fraction("14.4")),
        ("page", "6h/30m", Fraction(6)),
        ("ticket", "1d/2h", Fraction(3)),
        ("ticket", "3d/6h", Fraction(1)),
    ]


@pytest.mark.parametrize("days", [7, 28, 30, 90])
def test_a_burn_at_the_threshold_spends_exactly_the_budget_share(days):
    for window in burn_windows(days * DAY_NS):
        spent = window.burn * Fraction(window.long_ns, days * DAY_NS)
        assert spent == window.budget or window.burn == 1
        assert window.burn >= 1, "a burn below 1 alerts on an SLO that keeps its promise"
        assert window.short_ns * 12 == window.long_ns


def test_four_weeks_scale_with_the_period():
    assert burn_windows(28 * DAY_NS)[0].burn == Fraction("13.44")


def test_a_period_shorter_than_a_week_is_refused():
    with pytest.raises(ConfigError, match="at least 7d"):
        burn_windows(3 * DAY_NS)


@pytest.mark.parametrize(
    ("text", "ns"), [("5m", 5 * MINUTE_NS), ("1h", HOUR_NS), ("30d", 30 * DAY_NS), ("4w", 28 * DAY_NS)]
)
def test_durations_are_read(text, ns):
    assert duration_ns(text) == ns


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "1.5h", "1M", "0m", "1h30m", " 1h", "9999999d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="whole number"):
        duration_ns(text)

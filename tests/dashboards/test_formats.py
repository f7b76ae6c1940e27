from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from dashboards import formats
from dashboards.formats import DAY_NS, HOUR_NS, NS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "100"),
        (0.99996, "99.99+"),
        (0.9996, "99.96"),
        (0.999999, "99.99+"),
        (0.9988, "99.88"),
        (0.97, "97.0"),
        (0.5, "50"),
        (0.0, "0"),
        (0.00001, "<0.01"),
        (0.0008, "0.08"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_a_ratio_never_becomes_all_or_nothing_by_rounding(value: float | None, text: str) -> None:
    assert formats.share(value) == text


@pytest.mark.parametrize("value", [0.9949, 0.99949, 0.999949, 0.9999949])
@pytest.mark.parametrize("digits", [None, 0, 1, 2])
def test_only_exactly_one_is_a_hundred_per_cent(value: float, digits: int | None) -> None:
    assert not formats.share(value, digits).startswith("100")


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (0.0000005, ("0.50", "µs")),
        (0.0416, ("41.6", "ms")),
        (1.34, ("1.34", "s")),
        (600.0, ("10", "min")),
        (None, ("–", "")),
    ],
)
def test_seconds_choose_the_unit_that_reads_well(value: float | None, parts: tuple[str, str]) -> None:
    assert formats.seconds(value) == parts


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (40 * NS, "40 s"),
        (20 * 60 * NS, "20 m"),
        (7 * HOUR_NS + 14 * 60 * NS, "7 h 14 m"),
        (30 * HOUR_NS, "1 d 6 h"),
        (8 * DAY_NS + HOUR_NS, "8 d"),
        (-5, "0 s"),
    ],
)
def test_durations_show_their_two_largest_units(ns: int, text: str) -> None:
    assert formats.duration(ns) == text


def test_a_time_of_another_day_carries_its_day_in_the_readers_zone() -> None:
    at = 1_763_766_000 * NS  # 21 Nov 2025 23:00 UTC
    assert formats.clock(at, UTC) == "23:00"
    assert formats.clock(at, ZoneInfo("Europe/Berlin"), now_ns=at) == "00:00"
    assert formats.clock(at, UTC, now_ns=at + 2 * HOUR_NS) == "21 Nov 23:00"


def test_lists_in_sentences_count_what_they_leave_out() -> None:
    assert formats.listing(["a", "b"]) == "a and b"
    assert formats.listing(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert formats.listing([]) == ""

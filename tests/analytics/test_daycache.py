"""Days are read once while they are settled, and again when they are not."""

from __future__ import annotations

import polars as pl
import pytest
from judgement_kit import DAY, HOUR, T0

from analytics import daycache


class Source:
    """Rows at every hour; remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.value = 1

    def load(self, start_ns: int, end_ns: int) -> pl.DataFrame:
        self.asked.append(((start_ns - T0) // HOUR, (end_ns - T0) // HOUR))
        hours = list(range(start_ns + HOUR, end_ns + 1, HOUR))
        return pl.DataFrame(
            {"at_ns": hours, "value": [self.value] * len(hours)}, schema={"at_ns": pl.Int64, "value": pl.Int64}
        )


@pytest.mark.parametrize("split", [None, "at_ns"])
def test_every_reading_equals_a_fresh_one(split):
    source, cache = Source(), daycache.DayCache()
    for settled, until in ((50, 60), (60, 75), (75, 110), (30, 111), (111, 112)):
        bounds = (T0, T0 + settled * HOUR, T0 + until * HOUR)
        found = cache.read("a", *bounds, source.load, split)
        assert found.get_column("at_ns").to_list() == [T0 + hour * HOUR for hour in range(1, until + 1)]


@pytest.mark.parametrize("split", [None, "at_ns"])
def test_settled_days_are_not_read_again(split):
    source, cache = Source(), daycache.DayCache()
    cache.read("a", T0, T0 + 3 * DAY, T0 + 3 * DAY, source.load, split)
    source.asked.clear()
    cache.read("a", T0, T0 + 3 * DAY, T0 + 3 * DAY + HOUR, source.load, split)
    assert source.asked == [(72, 73)]


def test_days_after_the_settled_instant_are_read_anew():
    source, cache = Source(), daycache.DayCache()
    cache.read("a", T0, T0 + 3 * DAY, T0 + 3 * DAY, source.load)
    source.value = 2
    found = cache.read("a", T0, T0 + DAY + HOUR, T0 + 3 * DAY, source.load)
    assert found.get_column("value").to_list() == [1] * 24 + [2] * 48


def test_topics_are_apart_and_forgetting_reads_all():
    source, cache = Source(), daycache.DayCache()
    for topic in ("a", "b"):
        cache.read(topic, T0, T0 + DAY, T0 + DAY, source.load)
    cache.forget()
    cache.read("a", T0, T0 + DAY, T0 + DAY, source.load)
    assert source.asked == [(0, 24)] * 3


def test_without_a_scheduler_nothing_is_remembered():
    source = Source()
    for _ in range(2):
        daycache.read("a", T0, T0 + DAY, T0 + DAY, source.load)
    with daycache.using(daycache.DayCache()):
        for _ in range(2):
            daycache.read("a", T0, T0 + DAY, T0 + DAY, source.load)
    assert len(source.asked) == 3

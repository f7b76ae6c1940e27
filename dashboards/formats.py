"""Numbers, durations and times as an operator reads them. Pure: no clock, no I/O.

A ratio never becomes "100 %" by rounding (nor "0 %"), and nothing is shown with more digits than it carries.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, tzinfo
from typing import Final

NS: Final = 1_000_000_000
HOUR_NS: Final = 3600 * NS
DAY_NS: Final = 24 * HOUR_NS
DASH: Final = "–"
"""Stands where there is no number."""


def number(value: float | None) -> str:
    """Write a count with thousands separators, or a measured number with three significant digits."""
    if value is None or not math.isfinite(value):
        return DASH
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    if 0 < value < 0.001:
        return "<0.001"
    if abs(value) < 1:
        return f"{value:#.2g}"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}"


def share(value: float | None, digits: int | None = None) -> str:
    """Write a ratio 0..1 as per cent without the sign; see ``percent``."""
    if value is None or not math.isfinite(value):
        return DASH
    if value in (0, 1):
        return "0" if value == 0 else "100"
    scaled = value * 100
    if digits is None:
        distance = min(abs(scaled), abs(100 - scaled))
        digits = 2 if 0 < distance < 1 else 1 if 0 < distance < 20 else 0
    text = f"{scaled:.{digits}f}"
    if value < 1 and float(text) >= 100:
        return "99.99+" if scaled >= 99.99 else f"{math.floor(scaled * 100) / 100:.2f}"
    if value > 0 and float(text) == 0:
        return "<0.01" if digits >= 2 else f"<{10**-digits:g}"
    return text


def percent(value: float | None, digits: int | None = None) -> str:
    """Write a ratio 0..1 as "99.94 %"; 100 % only when it is exactly that."""
    text = share(value, digits)
    return text if text == DASH else f"{text} %"


def goal(value: float | None) -> str:
    """Write a target as somebody set it, without padding: "99.5 %"."""
    return DASH if value is None else f"{round(value * 100, 6):g} %"


def seconds(value: float | None) -> tuple[str, str]:
    """Split a duration in seconds into number and unit (us, ms, s, min, h) for big-number tiles."""
    if value is None or not math.isfinite(value):
        return DASH, ""
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min")):
        if abs(value) < limit:
            return number(round(value * factor, 2)), unit
    return number(round(value / 3600, 1)), "h"


def duration(ns: float | None) -> str:
    """Write a span as its two largest units: "7 h 14 m", "8 d", "40 s"."""
    if ns is None or not math.isfinite(ns):
        return DASH
    total = max(0, round(ns / NS))
    if total < 60:
        return f"{total} s"
    minutes = total // 60
    if minutes < 60:
        return f"{minutes} m"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} m" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours and days < 4 else f"{days} d"


def moment(ns: int, zone: tzinfo = UTC) -> datetime:
    """Return UTC epoch ``ns`` as a datetime in ``zone``."""
    return datetime.fromtimestamp(ns / NS, tz=zone)


def clock(ns: int | None, zone: tzinfo = UTC, *, now_ns: int | None = None) -> str:
    """Write a time of day; with ``now_ns`` the day is added as soon as it is not today."""
    if not ns:
        return DASH
    at = moment(ns, zone)
    if now_ns is not None and at.date() != moment(now_ns, zone).date():
        return f"{day(ns, zone)} {at:%H:%M}"
    return f"{at:%H:%M}"


def day(ns: int | None, zone: tzinfo = UTC) -> str:
    """Write a day as "13 Nov"."""
    if not ns:
        return DASH
    at = moment(ns, zone)
    return f"{at.day} {at:%b}"


def plural(count: float, noun: str, many: str | None = None) -> str:
    """Write "1 device", "3 devices"; ``many`` for irregular nouns."""
    return f"{number(count)} {noun if count == 1 else many or noun + 's'}"


WORDS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def counted(count: int, noun: str, many: str | None = None) -> str:
    """Write small counts as words, for sentences: "two things", "14 things"."""
    head = WORDS[count] if 0 <= count < len(WORDS) else number(count)
    return f"{head} {noun if count == 1 else many or noun + 's'}"


def listing(parts: list[str], limit: int = 3) -> str:
    """Join for a sentence: "a, b and c"; beyond ``limit`` the rest is counted."""
    if len(parts) > limit:
        parts = [*parts[:limit], f"{len(parts) - limit} more"]
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence(text: str) -> str:
    """Capitalise the first letter only (names inside keep theirs)."""
    return text[:1].upper() + text[1:]

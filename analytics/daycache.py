"""A memory of past days, so that a job that looks back a month does not read it again every five minutes.

Only the scheduler may use it: it promises that what lies before the instants it asks for has not changed since the same
job last ran, or else asks for earlier ones. Without it (a job called by hand) every day is read anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

import polars as pl

from analytics.options import DAY_NS

Load: TypeAlias = Callable[[int, int], pl.DataFrame]
"""Reads the rows of (start_ns, end_ns] as a frame that may be concatenated with those of other days."""


class DayCache:
    """Frames by (topic, day); a topic is a job and what it reads."""

    def __init__(self) -> None:
        self._frames: dict[str, dict[int, pl.DataFrame]] = {}

    def read(
        self, topic: str, start_ns: int, settled_ns: int, until_ns: int, load: Load, split: str | None = None
    ) -> pl.DataFrame:
        """Return the rows of (start, until]; whole days up to ``settled_ns`` come from memory where they are known.

        The days that are not known are loaded one by one or, when ``split`` names the column (ns) that tells to which
        day (begin, end] a row belongs, in one go.
        """
        known = self._frames.setdefault(topic, {})
        first, last = start_ns // DAY_NS, -(-until_ns // DAY_NS)
        for day in [day for day in known if day < first or (day + 1) * DAY_NS > settled_ns]:
            del known[day]
        frames: list[pl.DataFrame] = []
        if split is not None:
            missing = next((day for day in range(first, last) if day not in known), last)
            frames = [known[day] for day in range(first, missing)]
            rest_ns = max(missing * DAY_NS, start_ns)
            frame = load(rest_ns, max(until_ns, rest_ns))
            for day in range(-(-rest_ns // DAY_NS), settled_ns // DAY_NS):
                inside = (pl.col(split) > day * DAY_NS) & (pl.col(split) <= (day + 1) * DAY_NS)
                known[day] = frame.filter(inside)
            return pl.concat([*frames, frame])
        for day in range(first, last):
            begin_ns, end_ns = max(day * DAY_NS, start_ns), min((day + 1) * DAY_NS, until_ns)
            if begin_ns >= end_ns:
                continue
            whole = begin_ns == day * DAY_NS and end_ns == (day + 1) * DAY_NS
            frame = known[day] if whole and day in known else load(begin_ns, end_ns)
            if whole and end_ns <= settled_ns:
                known[day] = frame
            frames.append(frame)
        return pl.concat(frames) if frames else load(start_ns, start_ns)

    def forget(self) -> None:
        """Drop everything, after a job failed or the configuration changed."""
        self._frames.clear()


_current: ContextVar[DayCache | None] = ContextVar("analytics_daycache", default=None)


@contextmanager
def using(cache: DayCache) -> Iterator[None]:
    """Let jobs remember days in ``cache`` inside the block."""
    token = _current.set(cache)
    try:
        yield
    finally:
        _current.reset(token)


def read(
    topic: str, start_ns: int, settled_ns: int, until_ns: int, load: Load, split: str | None = None
) -> pl.DataFrame:
    """Return the rows of (start, until] as ``DayCache.read`` does, from the scheduler's memory where there is one."""
    return (_current.get() or DayCache()).read(topic, start_ns, settled_ns, until_ns, load, split)

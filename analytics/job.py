"""What a scheduled judgement is: a name, a period on the event-time grid, and a function that returns verdict rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from analytics.options import AnalyticsOptions
from collector.storage.base import Store


@dataclass(frozen=True, slots=True)
class Job:
    """One kind of judgement.

    ``run(store, options, from_ns, until_ns, now_ns)`` evaluates every grid instant T of ``(from_ns, until_ns]`` with
    ``T % period_ns == 0`` in one vectorised call and returns rows of ``collector.storage.rows.VERDICTS`` with
    ``at_ns = T``. It judges on event time; ``now_ns`` (wall clock) only stamps ``written_ns``. It must be harmless to
    run twice over the same instants: the newest written row of a key wins.
    """

    name: str
    period_ns: int
    run: Callable[[Store, AnalyticsOptions, int, int, int], pa.Table]

    def instants(self, from_ns: int, until_ns: int) -> range:
        """Return the grid instants of ``(from_ns, until_ns]`` in order."""
        first = (from_ns // self.period_ns + 1) * self.period_ns
        return range(first, until_ns + 1, self.period_ns)

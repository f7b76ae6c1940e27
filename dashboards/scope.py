"""What a page is asked to show: the time range, the filters, the reader and the reader's zone, frozen for one run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from typing import Final

from dashboards import formats
from dashboards.data import Reader
from dashboards.formats import DAY_NS, HOUR_NS
from dashboards.rows import Alert, Verdict
from device_sdk.contract import attributes as a

RANGES: Final = {"6h": 6 * HOUR_NS, "24h": DAY_NS, "7d": 7 * DAY_NS, "30d": 30 * DAY_NS}
RANGE_DEFAULT: Final = "24h"
POINTS_MAX: Final = 240
"""Points of one line at most: a longer history is asked for thinner."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Filters and time of one page run; times in UTC epoch ns, ``anchor_ns`` is the newest judged instant."""

    reader: Reader
    range_name: str
    model: str
    tier: str
    anchor_ns: int
    now_ns: int
    zone: tzinfo = UTC
    latest: tuple[Verdict, ...] = ()

    @property
    def span_ns(self) -> int:
        """Length of the range shown."""
        return RANGES[self.range_name]

    @property
    def from_ns(self) -> int:
        """Start of the range shown."""
        return self.anchor_ns - self.span_ns

    @property
    def range_words(self) -> str:
        """The range in words: "the last 24 h"."""
        return f"the last {self.range_name[:-1]} {self.range_name[-1]}"

    @property
    def time_format(self) -> str:
        """How a time axis of this range is written (d3)."""
        return "%H:%M" if self.span_ns <= DAY_NS else "%-d %b"

    def step_ns(self, grid_ns: int) -> int:
        """Return the spacing (a multiple of ``grid_ns``) at which a history stays under ``POINTS_MAX`` points."""
        times = -(-self.span_ns // (grid_ns * POINTS_MAX))
        return max(1, times) * grid_ns

    def history(self, endpoint: str, *, grid_ns: int = HOUR_NS, **filters: object) -> list[Verdict]:
        """Read verdict rows of the range, oldest first."""
        step = self.step_ns(grid_ns)
        if step > grid_ns:
            filters["step_ns"] = step
        found = self.reader.verdicts(endpoint, from_ns=self.from_ns, to_ns=self.anchor_ns, **filters)
        kept = found if step == grid_ns else [row for row in found if row.at_ns % step == 0]
        return sorted(kept, key=lambda row: row.at_ns)

    def kpis(self, *kinds: str, name: str = "") -> list[Verdict]:
        """Return the newest verdict rows of these kinds that the filters admit."""
        return [row for row in self.latest if row.kind in kinds and (not name or row.name == name) and self.admits(row)]

    def named(self, name: str) -> list[Verdict]:
        """Return the newest verdict rows of one name, unfiltered."""
        return [row for row in self.latest if row.name == name]

    def admits(self, row: Verdict) -> bool:
        """Say whether a row is inside the model and tier filters; rows not split by them pass."""
        return not ((self.model and row.model and row.model != self.model) or (self.tier and row.tier != self.tier))

    def admits_model(self, model: str) -> bool:
        """Say whether a model ('' for none in particular) is inside the model filter."""
        return not self.model or not model or model == self.model

    def admits_alert(self, alert: Alert) -> bool:
        """Say whether an alert is inside the filters; one without a tier of its own goes by the devices it names."""
        if not self.admits_model(alert.cohort.get(a.MODEL_NAME, "")):
            return False
        tier = alert.cohort.get(a.TIER, "")
        if not self.tier or tier:
            return not self.tier or tier == self.tier
        found = alert.evidence.get("device_ids")
        names = {str(name) for name in found} if isinstance(found, list) else set()
        tiers = {device.attribute(a.TIER) for device in self.reader.devices() if device.id in names} if names else set()
        return not tiers or self.tier in tiers

    def clock(self, ns: int | None) -> str:
        """Write a time in the reader's zone, with the day when it is not the anchor's."""
        return formats.clock(ns, self.zone, now_ns=self.anchor_ns)

    def age(self, ns: int) -> str:
        """Write how long before the anchor ``ns`` was."""
        return formats.duration(self.anchor_ns - ns)

    def query(self, **extra: str) -> dict[str, str]:
        """Return the filters as a page link carries them."""
        shown = "" if self.range_name == RANGE_DEFAULT else self.range_name
        return {"range": shown, "model": self.model, "tier": self.tier, **extra}

    def without_filters(self) -> Scope:
        """Return the same range over the whole fleet."""
        return replace(self, model="", tier="")

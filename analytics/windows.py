"""Burn windows: the SRE Workbook's table as data, and its rule for other periods."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from analytics.options import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS
from analytics.yaml_source import parse_documents, validated
from collector.errors import ConfigError

UNITS_NS: Final = {"s": SECOND_NS, "m": MINUTE_NS, "h": HOUR_NS, "d": DAY_NS, "w": 7 * DAY_NS}
PACKAGED_DAYS: Final = (30, 28, 7)
MINIMUM_BURN: Final = Fraction(1)
"""No window alerts below a burn of 1: at 1 the budget lasts exactly the period, which is what was promised."""

_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([smhdw])")


def duration_ns(text: str) -> int:
    """Return an OpenSLO duration (``5m``, ``1h``, ``30d``, ``4w``) in ns; raises ``ValueError`` for anything else."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write a whole number and one of s, m, h, d, w, like 30d")
    return int(match.group(1)) * UNITS_NS[match.group(2)]


@dataclass(frozen=True, slots=True)
class BurnWindow:
    """One pair of windows: it alerts while the burn over both exceeds ``burn``.

    ``budget`` is the share of the period's error budget that a burn of exactly ``burn`` spends in the long window.
    """

    severity: Literal["page", "ticket"]
    long_name: str
    short_name: str
    long_ns: int
    short_ns: int
    budget: Fraction
    burn: Fraction

    @property
    def name(self) -> str:
        """Return ``long/short``, like ``1h/5m``."""
        return f"{self.long_name}/{self.short_name}"


class _Window(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    severity: Literal["page", "ticket"]
    long: str
    short: str
    budget_percent: float


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    period: str
    source: str
    windows: list[_Window]


def _scaled(table: _Table, period_ns: int) -> tuple[BurnWindow, ...]:
    """Return the windows for a period: burn = budget x period / long window, never below ``MINIMUM_BURN``."""
    scaled = []
    for window in table.windows:
        long_ns, short_ns = duration_ns(window.long), duration_ns(window.short)
        budget = Fraction(str(window.budget_percent)) / 100
        burn = max(budget * Fraction(period_ns, long_ns), MINIMUM_BURN)
        scaled.append(BurnWindow(window.severity, window.long, window.short, long_ns, short_ns, budget, burn))
    return tuple(scaled)


@cache
def burn_windows(period_ns: int) -> tuple[BurnWindow, ...]:
    """Return the burn windows of an SLO period, most urgent first: packaged for 30, 28 and 7 days, else scaled from 30.

    Raises ``ConfigError`` for a period shorter than a week: its long windows would not fit.
    """
    if period_ns < 7 * DAY_NS:
        raise ConfigError(f"an SLO period of {period_ns / DAY_NS:g} days is too short; use at least 7d")
    days = next((days for days in PACKAGED_DAYS if days * DAY_NS == period_ns), PACKAGED_DAYS[0])
    name = f"windows_{days}d.yaml"
    text = files("analytics").joinpath(name).read_text(encoding="utf-8")
    return _scaled(validated(_Table, parse_documents(text, name)[0]), period_ns)

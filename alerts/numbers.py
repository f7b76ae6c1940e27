"""Numbers, times and cohorts in the words of a notice. Pure. 100 % is written only when it is exactly that."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Final

from device_sdk.contract import attributes as a

SECOND_NS: Final = 1_000_000_000
LABELS: Final[Mapping[str, str]] = {
    a.TIER: "tier",
    a.CHIPSET: "chipset",
    a.REGION: "region",
    a.SITE: "site",
    a.RING: "ring",
    a.FIRMWARE_VERSION: "firmware",
    a.ENVIRONMENT: "environment",
    a.SERVICE_NAME: "service",
    a.SERVICE_VERSION: "service version",
}
"""Cohort attributes in words, in the order of a sentence; labels of the operator come last under their own key."""


def number(value: float) -> str:
    """Write with at most three significant digits, whole counts in full: 0.031, 1.5, 21.3, 12,345."""
    if not math.isfinite(value):
        return "unknown"
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    text = f"{value:.{max(0, digits)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(ratio: float) -> str:
    """Write a ratio 0..1 as per cent with two digits; never rounded up to 100 %, never down to 0 %."""
    if not math.isfinite(ratio):
        return "unknown"
    scaled = Decimal(repr(ratio)) * 100
    text = scaled.quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN)
    if scaled < 100 <= text:
        text = scaled.quantize(Decimal("0.01"), rounding=ROUND_FLOOR)
    if scaled > 0 and text == 0:
        return "less than 0.01 %"
    return "100 %" if scaled == 100 else "0 %" if scaled == 0 else f"{text} %"


def seconds(value: float) -> str:
    """Write a latency: ms below 10 s, s above."""
    if not math.isfinite(value):
        return "unknown"
    return f"{number(value * 1000)} ms" if abs(value) < 10 else f"{number(value)} s"


def duration(ns: int) -> str:
    """Write a span as its two largest units: 2 h 05 m, 3 d 4 h, 40 s."""
    total = max(0, ns // SECOND_NS)
    if total < 60:
        return f"{total} s"
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if hours == 0:
        return f"{minutes} m"
    if days == 0:
        return f"{hours} h {minutes % 60:02d} m" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def moment(at_ns: int) -> str:
    """Write an instant for somebody just woken: 03:05 UTC on 12 Nov."""
    at = datetime.fromtimestamp(at_ns // SECOND_NS, tz=UTC)
    return f"{at:%H:%M} UTC on {at.day} {at:%b}"


def listing(parts: Sequence[str]) -> str:
    """Join as ``a, b and c``; '' for nothing."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""


def where(limits: Iterable[tuple[str, str]]) -> str:
    """Write what an alert is limited to: ``on digits 3 in tier cam-v2, firmware 4.2``, or ``across the fleet``."""
    values = dict(limits)
    model = " ".join(filter(None, (values.pop(a.MODEL_NAME, ""), values.pop(a.MODEL_VERSION, ""))))
    cohort = cohort_words(values)
    parts = [f"on {model}" if model else "", f"in {cohort}" if cohort else ""]
    return " ".join(filter(None, parts)) if values or model else "across the fleet"


def cohort_words(values: Mapping[str, str]) -> str:
    """Write a cohort as ``tier cam-v2, firmware 4.2``; '' for the whole fleet."""
    keys = [*(key for key in LABELS if key in values), *sorted(key for key in values if key not in LABELS)]
    return ", ".join(f"{LABELS.get(key, key.removeprefix(a.LABEL_PREFIX))} {values[key] or 'unknown'}" for key in keys)

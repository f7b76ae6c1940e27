"""Verdict rows over time -> the marks a timeline chart reads: gaps, lines, bands, ends, markers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from dashboards.rows import Alert, Verdict

MS = 1_000_000
Marks = list[dict[str, Any]]
Pick = Callable[[Verdict], float | None]


def spaced(rows: Sequence[Verdict]) -> int:
    """Return the usual distance between rows in ns (the median), 0 with fewer than two."""
    steps = sorted(later.at_ns - earlier.at_ns for earlier, later in pairwise(rows) if later.at_ns > earlier.at_ns)
    return steps[len(steps) // 2] if steps else 0


def gaps(rows: Sequence[Verdict], from_ns: int, to_ns: int, value: Pick) -> list[tuple[int, int]]:
    """Return the spans inside the data where nothing was measured for two usual steps or more."""
    times = [row.at_ns for row in rows]
    steps = [b - a for a, b in pairwise(times)]
    known = [index for index, row in enumerate(rows) if value(row) is not None]
    usual, holes = spaced(rows), []
    for i, j in pairwise(known):
        # history may be judged more seldom than the present: usual is what is usual around here
        near = sorted(steps[max(0, i - 3) : j + 3])
        a, b = times[i], times[j]
        if b - a > 2 * max(usual, near[len(near) // 2]) > 0 and from_ns <= a and b <= to_ns:
            holes.append((a, b))
    return holes


def line(
    rows: Sequence[Verdict],
    value: Pick,
    *,
    layer: str = "line",
    series: str = "",
    tip: Callable[[Verdict], str] | None = None,
    holes: Iterable[tuple[int, int]] = (),
) -> Marks:
    """Draw one value over time; a hole breaks the line instead of being bridged."""
    marks: Marks = [
        {"layer": layer, "series": series, "t": row.at_ns / MS, "y": value(row), "tip": tip(row) if tip else ""}
        for row in rows
        if value(row) is not None
    ]
    marks += [{"layer": layer, "series": series, "t": (a + 1) / MS + 1, "y": None} for a, _ in holes]
    return sorted(marks, key=lambda mark: mark["t"])


def band(
    rows: Sequence[Verdict], low: Pick, high: Pick, *, holes: Iterable[tuple[int, int]] = (), series: str = "band"
) -> Marks:
    """Draw an interval over time; each stretch between holes is an area of its own."""
    cuts = [a for a, _ in holes]
    marks: Marks = []
    for row in rows:
        lo, hi = low(row), high(row)
        if lo is not None and hi is not None:
            part = sum(row.at_ns > cut for cut in cuts)
            marks.append({"layer": "band", "series": f"{series}{part}", "t": row.at_ns / MS, "lo": lo, "hi": hi})
    return marks


def hole_marks(holes: Iterable[tuple[int, int]], span_ns: int) -> Marks:
    """Draw grey over the holes, named "no data" where the name fits."""
    marks: Marks = []
    for a, b in holes:
        marks.append({"layer": "gap", "t": a / MS, "t2": b / MS})
        if b - a > span_ns / 40:
            marks.append({"layer": "gapname", "t": (a + b) / 2 / MS, "label": "no data"})
    return marks


def end(marks: Sequence[dict[str, Any]], label: str, tone: str = "ref") -> Marks:
    """Name a line at its end."""
    known = [mark for mark in marks if mark.get("y") is not None]
    return [{"layer": "end", "t": known[-1]["t"], "y": known[-1]["y"], "label": label, "tone": tone}] if known else []


def apart(ends: Marks, low: float, high: float, room: float = 0.075) -> Marks:
    """Move end labels so that none covers another, keeping their order."""
    gap = (high - low) * room
    placed: Marks = []
    for mark in sorted(ends, key=lambda item: item["y"]):
        floor = placed[-1]["y"] + gap if placed else mark["y"]
        placed.append({**mark, "y": max(mark["y"], floor)})
    return placed


def goal(value: float | None, label: str, from_ns: int, *, under: bool = False) -> Marks:
    """Draw a target as a dashed line with its name at the left, above it or (where the data run above) under it."""
    if value is None:
        return []
    named = "targetunder" if under else "targetname"
    return [{"layer": "target", "y": value}, {"layer": named, "t": from_ns / MS, "y": value, "label": label}]


def extent(from_ns: int, to_ns: int, *values: float) -> Marks:
    """Hold the axes at the range shown, whatever the data cover (a mark without a height would not count)."""
    height = values or (0.0,)
    return [{"layer": "extent", "t": at / MS, "y": value} for at in (from_ns, to_ns) for value in height]


def marker(at_ns: int, label: str, from_ns: int, to_ns: int, tone: str = "bad") -> Marks:
    """Draw one instant as a rule with its name on the side that has room; nothing when out of range."""
    if not from_ns <= at_ns <= to_ns:
        return []
    rule = {"layer": "marker", "t": at_ns / MS, "tone": tone}
    if at_ns - from_ns < (to_ns - from_ns) * 0.3:
        return [{**rule, "label": ""}, {"layer": "markerleft", "t": at_ns / MS, "label": label}]
    return [{**rule, "label": label}]


def newest(alerts: Iterable[Alert], from_ns: int, to_ns: int) -> Alert | None:
    """Return the one alert worth a marker: the newest page (else ticket) that began inside the range."""
    inside = [alert for alert in alerts if from_ns <= alert.onset_ns <= to_ns and alert.state == "firing"]
    return max(inside, key=lambda alert: (alert.severity == "page", alert.onset_ns), default=None)

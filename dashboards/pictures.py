"""Specs of the charts that are not lines over time: forest, two distributions, heat map, lanes. See ``charts``."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Final

from dashboards.charts import SHAPES, TIP, Spec, chart, colour, hidden, layer, name, number, only, text, time_axis

MS_TICKS: Final = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]
BARE: Final[Spec] = {"domain": False, "ticks": False}
NAMES: Final[Spec] = {"title": None, **BARE, "labelFontSize": 12, "labelColor": "var(--fp-ink)", "labelPadding": 8}
DASHED: Final[Spec] = {"type": "rule", "color": "var(--fp-ink2)", "strokeDash": [4, 3]}


def _shape() -> Spec:
    scale = {"domain": list(SHAPES), "range": list(SHAPES.values())}
    return {"field": "tone", "type": "nominal", "legend": None, "scale": scale}


@lru_cache(maxsize=64)
def _forest(count: int, unit: str, value_format: str, width: int) -> Spec:
    y: Spec = {**name("series"), "sort": None, "axis": {**NAMES, "labelLimit": width, "minExtent": 40}}
    axis = {"title": unit or None, "format": value_format, "tickCount": 5, "domain": False, "labelOverlap": True}
    x: Spec = {**number("y"), "scale": {"zero": True, "nice": True}, "axis": {**axis, "labelSeparation": 6}}
    low, high = {**x, "field": "lo"}, {"field": "hi"}
    floor = {"type": "bar", "color": "var(--fp-ref)", "opacity": 0.22, "height": 14}
    dots = {
        "transform": only("dot"),
        "params": [{"name": "pick", "select": {"type": "point", "fields": ["series"]}}],
        "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1, "cursor": "pointer"},
        "encoding": {"y": y, "x": x, "color": colour(), "shape": _shape(), "tooltip": TIP},
    }
    layers = [
        layer(floor, ("dot",), y=y, x={**x, "field": "t"}, x2={"field": "t2"}),
        layer({"type": "rule", "size": 2}, ("dot",), y=y, x=low, x2=high, color=colour()),
        dots,
        layer(DASHED, ("target",), x=x),
        text(("dot",), {"align": "left", "dx": 10}, y=y, x={"value": "width"}),
        hidden("extent", x=x),
    ]
    return chart(max(60, 28 * count + 34), layers, left=8)


def forest(count: int, *, unit: str = "", value_format: str = ".2~f", width: int = 170) -> Spec:
    """Return the spec of ranked dots with intervals; t..t2 is the grey bar of what does not matter."""
    return copy.deepcopy(_forest(count, unit, value_format, width))


@lru_cache(maxsize=16)
def _densities(height: int, step: bool, ticks: int, labels: bool) -> Spec:
    curve = {"interpolate": "step-after" if step else "monotone"}
    axis = {"title": None, "grid": False, "tickCount": ticks, "format": ".3~g", "labelOverlap": True}
    x: Spec = {**number("t"), "scale": {"zero": False, "nice": True}, "axis": axis}
    heights = {"title": None, "format": ".0%", "tickCount": 5 if labels else 0, "labels": labels, **BARE}
    y: Spec = {**number("y"), "scale": {"zero": True}, "axis": heights}
    less = {"type": "area", "color": "var(--fp-ref)", "opacity": 0.3, **curve}
    more = {"type": "area", "color": "var(--fp-more)", "opacity": 0.5, **curve}
    before = {"type": "line", "color": "var(--fp-ref)", "strokeDash": [4, 3], "strokeWidth": 1.5, **curve}
    now = {"type": "line", "color": "var(--fp-cur)", "strokeWidth": 2, **curve}
    gain = {"fontWeight": 600, "dy": -10, "fontSize": 12, "color": "var(--fp-moretext)"}
    layers = [
        layer(less, ("bin",), x=x, y=y, y2={"field": "lo"}),
        layer(more, ("bin",), x=x, y={**y, "field": "hi"}, y2={"field": "y"}),
        layer(before, ("bin",), x=x, y=y),
        layer(now, ("bin",), x=x, y={**y, "field": "y2"}),
        text(("morename",), gain, x=x, y=y),
        hidden("bin", size=120, x=x, y={**y, "field": "hi"}, tooltip=TIP),
    ]
    return chart(height, layers)


def densities(*, height: int = 210, step: bool = False, ticks: int = 6, labels: bool = True) -> Spec:
    """Return the spec of a reference (dashed grey, y) and a current (blue, y2) distribution, difference filled."""
    return copy.deepcopy(_densities(height, step, ticks, labels))


@lru_cache(maxsize=16)
def _heat(time_format: str, height: int) -> Spec:
    x = time_axis(time_format)
    axis = {"title": "ms (log)", "format": "~g", "values": MS_TICKS, "labelOverlap": True, **BARE}
    y: Spec = {**number("lo"), "scale": {"type": "log", "nice": False, "zero": False}, "axis": axis}
    strength = {**number("y"), "legend": None, "scale": {"type": "sqrt", "range": [0.03, 1], "zero": True}}
    warm = {"color": "var(--fp-moretext)"}
    cell = {"type": "rect", "color": "var(--fp-cur)"}
    layers = [
        layer(cell, ("cell",), x=x, x2={"field": "t2"}, y=y, y2={"field": "hi"}, tooltip=TIP, opacity=strength),
        layer({"type": "rect", "color": "var(--fp-ref)", "opacity": 0.16}, ("gap",), x=x, x2={"field": "t2"}),
        layer(DASHED, ("target",), y=y),
        layer({"type": "line", "strokeWidth": 2, **warm}, ("line",), x=x, y=y),
        text(("end",), {"align": "left", "dx": 6, "fontSize": 12, **warm}, x=x, y=y),
        text(("gapname",), {"angle": 270}, x=x, y={"value": height // 2}),
        hidden("extent", x=x),
    ]
    return chart(height, layers)


def heat(*, time_format: str = "%H:%M", height: int = 270) -> Spec:
    """Return the spec of buckets over time: opacity is the bucket's share of its column, lines on top."""
    return copy.deepcopy(_heat(time_format, height))


@lru_cache(maxsize=16)
def _lanes(time_format: str, names: tuple[str, ...]) -> Spec:
    x = time_axis(time_format, grid=True)
    y: Spec = {
        **name("series"),
        "sort": list(names),
        "scale": {"domain": list(names)},
        "axis": {**NAMES, "labelLimit": 260},
    }
    bar = {"type": "bar", "height": 12, "cornerRadius": 1}
    dot = {"type": "point", "filled": True, "size": 75, "opacity": 1}
    layers = [
        layer(bar, ("span",), x=x, x2={"field": "t2"}, y=y, color=colour(), tooltip=TIP),
        layer(dot, ("dot",), x=x, y=y, color=colour(), shape=_shape(), tooltip=TIP),
        hidden("extent", x=x),
    ]
    return chart(34 * len(names) + 24, layers, left=10, right=12)


def lanes(names: tuple[str, ...], *, time_format: str = "%H:%M") -> Spec:
    """Return the spec of spans and dots on named lanes over one time axis."""
    return copy.deepcopy(_lanes(time_format, names))

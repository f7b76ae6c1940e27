"""Vega-Lite specs, built once per shape and without data; every chart reads one frame whose rows name their layer.

Colours are CSS variables, so one spec serves both themes. The frame's columns are those of ``FRAME``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa

Spec = dict[str, Any]

FRAME: Final = pa.schema(
    [("layer", pa.string())]
    + [(name, pa.float64()) for name in ("t", "t2", "y", "y2", "lo", "hi")]
    + [(name, pa.string()) for name in ("series", "label", "tone", "tip")]
)
"""t: UTC epoch ms (or an abscissa); y, lo, hi: values in the unit drawn; tone: one of ``TONES``."""

TONES: Final = {
    "bad": "var(--fp-bad)",
    "warn": "var(--fp-warn)",
    "ok": "var(--fp-ref)",
    "mix": "var(--fp-mix)",
    "fault": "var(--fp-fault)",
    "none": "var(--fp-ink3)",
    "cur": "var(--fp-cur)",
    "ref": "var(--fp-ref)",
    "more": "var(--fp-more)",
}
SHAPES: Final = {
    "bad": "square",
    "warn": "triangle-up",
    "ok": "circle",
    "mix": "diamond",
    "fault": "cross",
    "none": "circle",
    "cur": "circle",
    "ref": "circle",
    "more": "square",
}
CONFIG: Final[Spec] = {
    "background": "transparent",
    "font": "Inter, system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--fp-ink2)",
        "titleColor": "var(--fp-ink2)",
        "gridColor": "var(--fp-grid)",
        "domainColor": "var(--fp-line)",
        "tickColor": "var(--fp-line)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": 400,
        "labelPadding": 5,
        "tickSize": 4,
    },
    "text": {"font": "Inter, system-ui, sans-serif", "fontSize": 11, "color": "var(--fp-ink2)"},
}


def frame(marks: Iterable[Mapping[str, object]]) -> pa.Table:
    """Turn rows (any subset of ``FRAME``'s columns) into the frame a spec reads."""
    columns: dict[str, list[object]] = {name: [] for name in FRAME.names}
    for mark in marks:
        for name, values in columns.items():
            values.append(mark.get(name))
    return pa.table(columns, schema=FRAME)


def only(*names: str) -> list[Spec]:
    """Return the transform that keeps the rows of these layers."""
    return [{"filter": {"field": "layer", "oneOf": list(names)}}]


def colour() -> Spec:
    """Return the colour channel that draws ``tone``."""
    return {
        "field": "tone",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": list(TONES), "range": list(TONES.values())},
    }


def layer(mark: Spec, layers: tuple[str, ...], **encoding: Spec) -> Spec:
    """Return one layer: a mark over the rows of some layers, silent to screen readers (the chart has `alt`)."""
    return {"transform": only(*layers), "mark": {"aria": False, **mark}, "encoding": encoding}


def number(field: str) -> Spec:
    """Return a quantitative channel."""
    return {"field": field, "type": "quantitative"}


def name(field: str) -> Spec:
    """Return a nominal channel."""
    return {"field": field, "type": "nominal"}


TIP: Final[Spec] = {"field": "tip", "type": "nominal", "title": "value"}


@dataclass(frozen=True, slots=True)
class Timeline:
    """The shape of a chart over time: unit of the y axis, its format, whether it starts at zero, what is filled."""

    unit: str = ""
    value_format: str = ",.4~g"
    time_format: str = "%H:%M"
    zero: bool = True
    area: bool = False
    height: int = 236


FIT: Final[Spec] = {"type": "fit", "contains": "padding"}


def time_axis(time_format: str, *, grid: bool = False) -> Spec:
    """Return the x channel of a time axis."""
    axis = {"title": None, "grid": grid, "format": time_format, "tickCount": 8, "labelOverlap": True}
    return {"field": "t", "type": "temporal", "axis": axis}


def chart(height: int, layers: list[Spec], *, left: int = 2, right: int = 8) -> Spec:
    """Return a whole spec of layers, as wide as its card."""
    padding = {"left": left, "right": right, "top": 6, "bottom": 2}
    return {"config": CONFIG, "height": height, "layer": layers, "autosize": FIT, "padding": padding}


def text(layers: tuple[str, ...], mark: Spec, **encoding: Spec) -> Spec:
    """Return a layer that writes ``label``."""
    return layer({"type": "text", **mark}, layers, text=name("label"), **encoding)


def hidden(*layers: str, size: int = 30, **encoding: Spec) -> Spec:
    """Return an invisible layer: it holds an axis open or carries tooltips."""
    return layer({"type": "point", "opacity": 0, "size": size}, layers, **encoding)


def _areas(x: Spec, y: Spec, *, filled: bool) -> list[Spec]:
    """Return what lies under the lines: gaps, noise floor, the filled line, intervals, targets."""
    low, high = {**y, "field": "lo"}, {"field": "hi"}
    grey = {"color": "var(--fp-ref)", "opacity": 0.16}
    blue = {"type": "area", "color": "var(--fp-cur)"}
    under = [
        layer({"type": "rect", **grey}, ("gap",), x=x, x2={"field": "t2"}),
        layer({"type": "area", **grey}, ("noise",), x=x, y=low, y2=high),
        layer({**blue, "opacity": 0.2}, ("band", "fan"), x=x, y=low, y2=high, detail=name("series")),
        layer({"type": "rule", "color": "var(--fp-ink2)", "strokeDash": [4, 3]}, ("target",), y=y),
    ]
    return [layer({**blue, "opacity": 0.16}, ("line",), x=x, y=y), *under] if filled else under


def _strokes(x: Spec, y: Spec) -> list[Spec]:
    """Return the lines: references dashed grey, side lines thin, the one that matters blue, its forecast dashed."""

    def stroke(layers: tuple[str, ...], colour_name: str, width: float, dash: list[int] | None = None) -> Spec:
        mark: Spec = {"type": "line", "color": f"var(--fp-{colour_name})", "strokeWidth": width, "strokeJoin": "round"}
        return layer(mark | ({"strokeDash": dash} if dash else {}), layers, x=x, y=y, detail=name("series"))

    return [
        stroke(("even", "reference"), "ref", 1.4, [4, 3]),
        stroke(("side",), "ink3", 1.3),
        stroke(("forecast",), "cur", 2.0, [5, 4]),
        stroke(("line",), "cur", 2.0),
        layer({"type": "rule", "size": 1.3}, ("marker",), x=x, color=colour()),
    ]


def _labels(x: Spec, y: Spec, height: int) -> list[Spec]:
    """Return the direct labels: line ends, target, markers, gaps."""
    ends = {**colour(), "scale": {"domain": ["cur", "ref"], "range": ["var(--fp-cur)", "var(--fp-ink2)"]}}
    top = {"baseline": "top", "dy": 3}
    return [
        text(("end",), {"align": "left", "dx": 6, "fontSize": 12}, x=x, y=y, color=ends),
        text(("targetname",), {"align": "left", "baseline": "bottom", "dy": -3, "dx": 3}, x=x, y=y),
        text(("targetunder",), {"align": "left", "baseline": "top", "dy": 4, "dx": 3}, x=x, y=y),
        text(("marker",), {"align": "right", "dx": -6, **top}, x=x, y={"value": 0}),
        text(("markerleft",), {"align": "left", "dx": 6, **top}, x=x, y={"value": 0}),
        text(("gapname",), {"angle": 270}, x=x, y={"value": height // 2}),
    ]


@lru_cache(maxsize=64)
def _timeline(shape: Timeline) -> Spec:
    x = time_axis(shape.time_format)
    axis = {"title": shape.unit or None, "format": shape.value_format, "tickCount": 6, "domain": False, "ticks": False}
    y = {**number("y"), "scale": {"zero": shape.zero, "nice": True}, "axis": axis}
    layers = [*_areas(x, y, filled=shape.area), *_strokes(x, y), *_labels(x, y, shape.height)]
    layers += [hidden("extent", x=x, y=y), hidden("line", "side", size=160, x=x, y=y, tooltip=TIP)]
    return chart(shape.height, layers)


def timeline(shape: Timeline) -> Spec:
    """Return the spec of values over time: layers line, side, band, target, gap, marker, forecast and their labels."""
    return copy.deepcopy(_timeline(shape))

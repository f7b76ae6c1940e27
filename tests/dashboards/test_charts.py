from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest

from dashboards import charts, pictures, series
from dashboards.rows import Verdict, verdict_of
from dashboards.stylesheet import TOKENS, css

SPECS = {
    "timeline": charts.timeline(charts.Timeline(unit="ms", area=True)),
    "ratio": charts.timeline(charts.Timeline(zero=False, value_format=".3~%")),
    "forest": pictures.forest(5, unit="x"),
    "densities": pictures.densities(),
    "heat": pictures.heat(),
    "lanes": pictures.lanes(("a", "b")),
}
HOUR = 3600 * 10**9


def leaves(node: Any) -> list[dict[str, Any]]:
    return list(node["layer"])


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_spec_carries_no_data_and_no_colour_of_one_theme(name: str) -> None:
    text = json.dumps(SPECS[name])
    assert '"data"' not in text
    assert '"datasets"' not in text
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b", text)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_colour_a_spec_uses_is_a_token_of_both_themes(name: str) -> None:
    used = set(re.findall(r"var\(--fp-([a-z0-9]+)\)", json.dumps(SPECS[name])))
    assert used
    assert used <= set(TOKENS)


def test_the_styles_use_only_tokens_that_exist() -> None:
    used = set(re.findall(r"var\(--fp-([a-z0-9]+)\)", css()))
    assert used <= set(TOKENS)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_field_a_spec_reads_is_a_column_of_the_frame(name: str) -> None:
    fields = set(re.findall(r'"field": "(\w+)"', json.dumps(SPECS[name])))
    assert fields <= set(charts.FRAME.names)


def test_a_spec_handed_out_can_be_changed_without_changing_the_next() -> None:
    first = charts.timeline(charts.Timeline())
    first["layer"].clear()
    assert charts.timeline(charts.Timeline())["layer"]


def test_a_frame_holds_marks_of_any_shape_and_nulls_where_they_say_nothing() -> None:
    table = charts.frame([{"layer": "line", "t": 1.0, "y": 2.0}, {"layer": "gap", "t": 1.0, "t2": 3.0}])
    assert table.schema == charts.FRAME
    assert table.column("y").to_pylist() == [2.0, None]


def row(hour: int, value: float | None) -> Verdict:
    return verdict_of(
        {"name": "x", "value": value, "low": value, "high": value, "at_ns": hour * HOUR, "verdict": "met"}
    )


def value(item: Verdict) -> float | None:
    return item.value


def test_a_hole_in_the_data_breaks_the_line_and_is_drawn_grey() -> None:
    rows = [row(hour, 1.0) for hour in (1, 2, 3, 8, 9)]
    holes = series.gaps(rows, 0, 10 * HOUR, value)
    assert holes == [(3 * HOUR, 8 * HOUR)]
    marks = series.line(rows, value, holes=holes)
    assert [mark["y"] for mark in marks] == [1.0, 1.0, 1.0, None, 1.0, 1.0]
    assert {mark["layer"] for mark in series.hole_marks(holes, 10 * HOUR)} == {"gap", "gapname"}
    assert {mark["series"] for mark in series.band(rows, value, value, holes=holes)} == {"band0", "band1"}


def test_a_missing_value_is_never_interpolated() -> None:
    rows = [row(1, 1.0), row(2, None), row(3, None), row(4, None), row(5, 1.0)]
    assert series.gaps(rows, 0, 6 * HOUR, value) == [(1 * HOUR, 5 * HOUR)]


def test_a_history_judged_more_seldom_is_a_line_not_a_row_of_holes() -> None:
    rows = [row(hour, 1.0) for hour in (0, 6, 12, 18, *range(24, 48), 55, 56, 57)]
    assert series.gaps(rows, 0, 60 * HOUR, value) == [(47 * HOUR, 55 * HOUR)]


def test_end_labels_do_not_cover_each_other() -> None:
    ends = [{"layer": "end", "t": 1.0, "y": y, "label": str(y)} for y in (50.0, 51.0, 10.0)]
    heights = [mark["y"] for mark in series.apart(ends, 0.0, 100.0)]
    assert all(b - a >= 7.4 for a, b in pairwise(heights))


def test_a_marker_outside_the_range_is_left_out_and_its_name_stays_inside() -> None:
    assert series.marker(5, "x", 10, 20) == []
    assert [mark["layer"] for mark in series.marker(11, "x", 10, 20)] == ["marker", "markerleft"]
    assert [mark["layer"] for mark in series.marker(19, "x", 10, 20)] == ["marker"]

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest

from dashboards import markup
from dashboards.markup import Cell, Item, Tile

EVIL = '<script>alert("x")</script>\' onload="y"'


@pytest.mark.parametrize(
    "block",
    [
        markup.verdict("bad", EVIL, EVIL),
        markup.head(EVIL, EVIL),
        markup.tiles([Tile(EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, 1.0, (), markup.link("drift", tier=EVIL), EVIL)]),
        markup.items([Item(EVIL, EVIL, EVIL, EVIL, ((EVIL, markup.link("x", device=EVIL)),))]),
        markup.table([(EVIL, True)], [([Cell(EVIL, EVIL, True, EVIL, markup.link("d", device=EVIL))], True)]),
        markup.grid(EVIL, [EVIL], [(EVIL, [Cell(EVIL)])]),
        markup.bars([(EVIL, 1.0, EVIL, EVIL)]),
        markup.facts([(EVIL, EVIL)]),
        markup.banner(EVIL, EVIL, EVIL),
        markup.state(EVIL, EVIL, ((EVIL, EVIL),), EVIL),
        markup.chip(EVIL, EVIL),
    ],
)
def test_what_a_device_sends_never_becomes_markup(block: str) -> None:
    assert "<script" not in block
    assert not re.search(r"<[^>]*\sonload=", re.sub(r'"[^"]*"', '""', block))


def test_only_web_addresses_are_linked_outside() -> None:
    assert markup.safe_url("https://runbooks.example/x") == "https://runbooks.example/x"
    assert markup.safe_url("javascript:alert(1)") == ""


@pytest.mark.parametrize("word", sorted(markup.CHIPS))
def test_every_verdict_has_a_glyph_a_word_and_a_style(word: str) -> None:
    style, glyph, shown = markup.CHIPS[word]
    assert style in {"ok", "bad", "warn", "mix", "fault", "none"}
    assert glyph in markup.chip(word)
    assert shown in markup.chip(word)


def test_words_without_a_verdict_are_never_drawn_as_fine() -> None:
    for word in ("insufficient", "no_data", "too_few_events", "no_target", "unheard of"):
        assert "fp-ok" not in markup.chip(word)


def test_a_tile_carries_the_raw_value_for_machines() -> None:
    text = markup.tile(Tile("p95", "Latency p95", "41.6", "ms", "missed", "target", 0.0416))
    assert 'data-kpi="p95"' in text
    assert 'data-value="0.0416"' in text


def test_a_sparkline_breaks_at_a_gap_instead_of_bridging_it() -> None:
    whole = unquote(markup.sparkline([1.0, 2.0, 3.0, 4.0]))
    holed = unquote(markup.sparkline([1.0, 2.0, None, 4.0, 5.0]))
    assert (whole.count("M"), holed.count("M")) == (2, 4)  # the mask is written twice, with a vendor prefix
    assert markup.sparkline([1.0, 2.0]) == ""
    assert markup.sparkline([2.0, 2.0, 2.0])


def test_links_leave_empty_filters_out() -> None:
    assert markup.link("drift", tier="cam v2", model="") == "drift?tier=cam+v2"
    assert markup.link("") == "./"

"""HTML blocks of the pages: verdict, tiles, chips, lists, tables, states. Pure; everything from outside is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from dashboards import rows

CHIPS: Final[dict[str, tuple[str, str, str]]] = {
    "met": ("ok", "✓", "met"),
    "ok": ("ok", "✓", "ok"),
    "on_pace": ("ok", "✓", "on pace"),
    "missed": ("bad", "■", "missed"),
    "drift": ("bad", "■", "drift"),
    "fast_burn": ("bad", "■", "fast burn"),
    "page": ("bad", "■", "page"),
    "rising": ("warn", "▲", "rising"),
    "recovering": ("warn", "▲", "recovering"),
    "ticket": ("warn", "▲", "ticket"),
    "silent": ("warn", "▲", "silent"),
    "firing": ("bad", "■", "firing"),
    "pending": ("none", "○", "pending"),
    "held_back": ("none", "○", "held back"),
    "resolved": ("ok", "✓", "resolved"),
    "mix_shift": ("mix", "◆", "mix shift"),
    "sensor_fault": ("fault", "✕", "sensor fault"),
    "insufficient": ("none", "○", "too little data"),
    "too_few_events": ("none", "○", "too few events"),
    "no_data": ("none", "○", "no data"),
    "no_target": ("none", "○", "no target"),
    "interval": ("none", "○", "too close"),
    "provisional": ("none", "○", "provisional"),
}
"""Word of the API -> (style, glyph, word shown). Every verdict has all three."""


def chip(word: str, text: str = "") -> str:
    """Draw a verdict, severity or state as glyph, word and colour; unknown words are neutral."""
    style, glyph, shown = CHIPS.get(word, ("none", "○", word.replace("_", " ")))
    return f'<span class="fp-chip fp-{style}"><i aria-hidden="true">{glyph}</i>{escape(text or shown)}</span>'


def link(page: str, **query: str) -> str:
    """Return a relative address of a page with its filters set (empty ones left out)."""
    kept = {key: value for key, value in query.items() if value}
    return f"{quote(page) or './'}{'?' + urlencode(kept) if kept else ''}"


def safe_url(url: str) -> str:
    """Return an outside address only when it is http or https, else ''."""
    return url if urlsplit(url).scheme in {"http", "https"} else ""


def verdict(level: str, title: str, more: str) -> str:
    """Draw the sentence a page opens with, and the line that says how sure and what is fine."""
    return (
        f'<div class="fp-verdict fp-{escape(level)}" data-level="'
        f'{escape(level)}"><h1>{escape(title)}</h1><p>{escape(more)}</p></div>'
    )


def head(title: str, subtitle: str = "") -> str:
    """Draw a card's finding and what is drawn below it."""
    top = f"<h2>{escape(title)}</h2>" if title else ""
    tail = f"<p>{escape(subtitle)}</p>" if subtitle else ""
    return f'<div class="fp-head">{top}{tail}</div>'


def quiet(text: str) -> str:
    """Draw a calm sentence where a list is empty."""
    return f'<div class="fp-quiet">{escape(text)}</div>'


def sparkline(values: Sequence[float | None]) -> str:
    """Draw a trend as a mask (st.html strips svg), so its colour follows theme and verdict; '' below 3 points."""
    points = [(index, value) for index, value in enumerate(values) if value is not None and math.isfinite(value)]
    if len(points) < 3:
        return ""
    low, high = min(v for _, v in points), max(v for _, v in points)
    span = (high - low) or 1.0
    width = max(1, len(values) - 1)
    path, previous = "", -2
    for index, value in points:
        x, y = 2 + 66 * index / width, 3 + 20 * (1 - (value - low) / span) if high > low else 13.0
        path += f"{'L' if index == previous + 1 else 'M'}{x:.1f} {y:.1f}"
        previous = index
    end = f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.4'/>"
    svg = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 72 26'>"
        f"<path d='{path}' fill='none' stroke='#000' stroke-width='1.3' stroke-linejoin='round'/>{end}</svg>"
    )
    uri = f"url(&quot;data:image/svg+xml,{quote(svg)}&quot;)"
    return f'<span class="fp-spark" aria-hidden="true" style="-webkit-mask-image:{uri};mask-image:{uri}"></span>'


@dataclass(frozen=True, slots=True)
class Tile:
    """One indicator: big number with unit, verdict, trend, and a line with interval and target."""

    key: str
    name: str
    value: str
    unit: str
    word: str
    foot: str
    raw: float | None = None
    trend: tuple[float | None, ...] = ()
    href: str = ""
    hint: str = ""


def tile(item: Tile) -> str:
    """Draw one tile; the raw value rides along for tests and scripts."""
    level = {"firing": "bad", "ticket": "warn"}.get(item.word) or rows.level(item.word)
    if item.word == "met":
        mark = '<span class="fp-tick" title="met">✓</span>'
    else:
        thin = item.word in {"insufficient", "too_few_events"}
        mark = chip(item.word, "thin" if thin else "") if item.word else ""
    raw = "" if item.raw is None else repr(item.raw)
    unit = f"<small>{escape(item.unit)}</small>" if item.unit else ""
    title = escape(item.hint or f"{item.name}: {item.foot}")
    tag, address = ("a", f' href="{escape(item.href)}" target="_self"') if item.href else ("div", "")
    return (
        f'<{tag} class="fp-tile fp-{level}"{address} data-kpi="{escape(item.key)}" data-value="{raw}" title="{title}">'
        f'<div class="fp-top"><span class="fp-name">{escape(item.name)}</span>{mark}</div>'
        f'<div class="fp-mid"><span class="fp-value">{escape(item.value)}{unit}</span>{sparkline(item.trend)}</div>'
        f'<div class="fp-foot">{escape(item.foot)}</div></{tag}>'
    )


def tiles(items: Iterable[Tile], *, wide: bool = False) -> str:
    """Draw a wall of tiles as one element."""
    return f'<div class="fp-tiles{" fp-wide" if wide else ""}">{"".join(tile(item) for item in items)}</div>'


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a list: when, what, the facts, a chip, a sentence more; ``links`` are (text, address)."""

    when: str
    what: str
    sub: str = ""
    word: str = ""
    links: tuple[tuple[str, str], ...] = ()
    more: str = ""


def items(entries: Iterable[Item]) -> str:
    """Draw a list with the newest or most urgent first (as given)."""
    lines = []
    for entry in entries:
        links = " · ".join(
            f'<a href="{escape(url)}" target="_self">{escape(text)}</a>' for text, url in entry.links if url
        )
        sub = " · ".join(part for part in (escape(entry.sub), links) if part)
        more = f'<div class="fp-sub">{escape(entry.more)}</div>' if entry.more else ""
        lines.append(
            f'<div class="fp-item"><span class="fp-when">{escape(entry.when)}</span><div><b>{escape(entry.what)}</b>'
            f'<div class="fp-sub">{sub}</div>{more}</div>{chip(entry.word) if entry.word else "<span></span>"}</div>'
        )
    return f'<div class="fp-list">{"".join(lines)}</div>'


@dataclass(frozen=True, slots=True)
class Cell:
    """One table cell: text (escaped), a chip word, alignment, a link, a heat 0..1, a hatch for no verdict."""

    text: str = ""
    word: str = ""
    numeric: bool = False
    small: str = ""
    href: str = ""
    heat: float = 0.0
    hatch: bool = False
    nowrap: bool = False


def _cell(cell: Cell) -> str:
    inner = escape(cell.text)
    if cell.href:
        inner = f'<a href="{escape(cell.href)}" target="_self">{inner}</a>'
    if cell.word:
        inner += (" " if inner else "") + chip(cell.word)
    if cell.small:
        inner += f" <small>{escape(cell.small)}</small>"
    style = ""
    if cell.heat > 0:
        share = round(38 * min(1.0, cell.heat))
        style = f' style="background:color-mix(in srgb,var(--fp-bad) {share}%,var(--fp-well))"'
    names = " ".join(
        name for name, on in (("fp-num", cell.numeric), ("fp-hatch", cell.hatch), ("fp-nowrap", cell.nowrap)) if on
    )
    return f"<td{f' class={chr(34)}{names}{chr(34)}' if names else ''}{style}>{inner}</td>"


def table(header: Sequence[tuple[str, bool]], body: Iterable[tuple[Sequence[Cell], bool]]) -> str:
    """Draw a table; ``header`` is (name, numeric), each row is (cells, highlighted)."""
    top = "".join(
        f'<th scope="col"{" class=" + chr(34) + "fp-num" + chr(34) if num else ""}>{escape(name)}</th>'
        for name, num in header
    )
    lines = "".join(
        f"<tr{' class=' + chr(34) + 'fp-on' + chr(34) if on else ''}>{''.join(_cell(cell) for cell in cells)}</tr>"
        for cells, on in body
    )
    return f'<table class="fp-table"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'


def grid(corner: str, columns: Sequence[str], body: Iterable[tuple[str, Sequence[Cell]]]) -> str:
    """Draw a heat grid with named rows and columns; strength is never the only sign (cells carry a mark in text)."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in (corner, *columns))
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(_cell(cell) for cell in cells)}</tr>' for name, cells in body
    )
    return f'<table class="fp-table fp-cells"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'


def bars(entries: Iterable[tuple[str, float, str, str]]) -> str:
    """Draw (name, value, label, style) as horizontal bars from zero, on one scale."""
    found = list(entries)
    top = max((value for _, value, _, _ in found), default=0.0) or 1.0
    lines = "".join(
        f"<div>{escape(name)}</div>"
        f'<div><div class="fp-bar fp-{escape(style)}" style="width:{100 * value / top:.1f}%"></div></div>'
        f"<span>{escape(label)}</span>"
        for name, value, label, style in found
    )
    return f'<div class="fp-bars">{lines}</div>'


def facts(entries: Iterable[tuple[str, str]]) -> str:
    """Draw (name, value) pairs in a row."""
    return (
        '<div class="fp-facts">'
        + "".join(f"<div><span>{escape(k)}</span>{escape(v)}</div>" for k, v in entries)
        + "</div>"
    )


def links(entries: Iterable[tuple[str, str]]) -> str:
    """Draw (text, address) pairs as one flowing line."""
    shown = "".join(f'<a href="{escape(url)}" target="_self">{escape(text)}</a>' for text, url in entries)
    return f'<div class="fp-links">{shown}</div>'


def banner(title: str, text: str, style: str = "bad") -> str:
    """Draw a line above the page: something is wrong with what is shown."""
    return (
        f'<div class="fp-banner fp-{escape(style)}" role="status"><div><b>'
        f"{escape(title)}</b> {escape(text)}</div></div>"
    )


def state(title: str, text: str, steps: Sequence[tuple[str, str]] = (), waiting: str = "") -> str:
    """Draw a page that has nothing to show: why, and exactly what to do; ``steps`` are (sentence, code)."""
    listed = "".join(f"<li>{escape(say)}<pre>{escape(code)}</pre></li>" for say, code in steps)
    tail = f'<p class="fp-wait">{escape(waiting)}</p>' if waiting else ""
    return (
        f'<div class="fp-state"><h1>{escape(title)}</h1><p>{escape(text)}</p>'
        f"{f'<ol>{listed}</ol>' if listed else ''}{tail}</div>"
    )

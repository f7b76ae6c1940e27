"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from device_sdk.contract import attributes as a


def utc(time_ns: int | None) -> str:
    """Return a time as ``2026-11-21 19:00 UTC``; '-' for none."""
    if time_ns is None:
        return "-"
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")


def share(ratio: float | None) -> str:
    """Return a ratio as a percentage that is never rounded up to 100."""
    if ratio is None:
        return "-"
    percent = ratio * 100
    return f"{min(percent, 99.99) if ratio < 1 else 100:.2f} %"


def _whole(name: str) -> Column:
    """Return a column whose words are broken, never cut off: an id is there to be copied."""
    return Column(name, overflow="fold")


def device_table(items: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print devices."""
    table = Table(
        _whole("device"), "tier", "firmware", "region", "last seen", "complete", box=None, header_style="bold"
    )
    for item in items:
        resource = item["resource"]
        table.add_row(
            item["device_id"], resource.get(a.TIER, "-"), resource.get(a.FIRMWARE_VERSION, "-"),
            resource.get(a.REGION, "-"), utc(item["last_seen_ns"]), share(item["completeness"]),
        )  # fmt: skip
    (console or Console()).print(table)


def rows_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print any rows of text."""
    table = Table(*map(_whole, columns), title=title, title_justify="left", box=None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def budget(ratio: float | None) -> str:
    """Return what is left of an error budget; overspending has a word of its own."""
    if ratio is None:
        return "-"
    return f"spent {1 - ratio:.1f} x" if ratio < 0 else f"{ratio * 100:.0f} %"


def alert_list(items: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print alerts as a person reads them: state and rule in one line, the whole sentence below it."""
    screen = console or Console()
    if not items:
        screen.print("nothing fires")
    styles = {("firing", "page"): "bold red", ("firing", "ticket"): "yellow"}
    for item in items:
        style = styles.get((item["state"], item["severity"]), "dim")
        head = Text(f"{item['state']} {item['severity']}", style=style)
        screen.print(head.append(f"  {item['rule']}  since {utc(item['since_ns'])}", style="default"))
        screen.print(Padding(Text(item["summary"]), (0, 0, 1, 2)))

"""The demo's tables: faults beside the alerts that found them, healthy cohorts, totals. Pure: results in, rich out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulator.scoring import FaultScore, Scores
from simulator.truth import Mismatch

MISMATCHES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Totals:
    """What the whole run amounted to; ``counts_compared`` is 0 when the comparison could not be made."""

    devices: int
    days: int
    runs: int
    magika_runs: int
    windows: int
    points: int
    crashes: int
    undelivered: int
    counts_compared: int
    mismatches: tuple[Mismatch, ...]
    elapsed_s: float
    simulated_s: float
    judged_s: float

    @property
    def counts_equal(self) -> bool:
        """Return whether every compared sum was equal."""
        return self.counts_compared > 0 and not self.mismatches


def duration(ns: int | None) -> str:
    """Return a span as ``2 d 3 h``, ``1 h 05 min`` or ``10 min``; '-' for none."""
    if ns is None:
        return "-"
    sign, minutes = ("-" if ns < 0 else ""), abs(ns) // 60_000_000_000
    if minutes >= 2880:
        return f"{sign}{minutes // 1440} d {minutes % 1440 // 60} h"
    if minutes >= 60:
        return f"{sign}{minutes // 60} h {minutes % 60:02d} min"
    return f"{sign}{minutes} min"


def _outcome(score: FaultScore) -> Text:
    if score.missed:
        return Text("missed", style="bold red")
    if score.found:
        return Text("found" if score.fault.required else "expected, seen", style="green")
    return Text("none, as may be" if score.fault.end_ns is not None else "not required", style="dim")


def faults_table(scores: Scores) -> Table:
    """Return the table of injected faults and the first alert about each."""
    table = Table(title="Injected faults", title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in ("fault", "where", "devices", "outcome", "first alert", "time to detection", "alerts"):
        table.add_column(name, justify="right" if name in {"devices", "alerts"} else "left", overflow="fold")
    for score in scores.faults:
        first = score.alerts[0] if score.alerts else None
        table.add_row(
            score.fault.kind.value,
            score.fault.where,
            str(len(score.fault.device_ids)),
            _outcome(score),
            first.label if first else "-",
            duration(score.delay_ns),
            str(len(score.alerts)),
        )
    return table


def cohorts_table(scores: Scores) -> Table:
    """Return the table of healthy cohorts and their number of false alerts, the rest of the fleet last."""
    table = Table(title="Healthy cohorts", title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column("cohort")
    table.add_column("devices", justify="right")
    table.add_column("false alerts", justify="right")
    named: set[str] = set()
    for row in scores.cohorts:
        named |= {alert.alert_id for alert in row.false_alerts}
        style = "green" if not row.false_alerts else "bold red"
        table.add_row(row.cohort.label, str(row.cohort.devices), Text(str(len(row.false_alerts)), style=style))
    elsewhere = [alert for alert in scores.false_alerts if alert.alert_id not in named]
    table.add_row("anywhere else", "", Text(str(len(elsewhere)), style="green" if not elsewhere else "bold red"))
    return table


def totals_table(totals: Totals) -> Table:
    """Return the totals of the run."""
    table = Table(title="Totals", title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column("what")
    table.add_column("value")
    table.add_row("fleet", f"{totals.devices} devices, {totals.days} days of history")
    table.add_row("real inferences", f"{totals.runs + totals.magika_runs:,} ({totals.magika_runs:,} of them magika)")
    table.add_row("windows · points stored", f"{totals.windows:,} · {totals.points:,}")
    table.add_row("crashes", f"{totals.crashes:,}")
    if totals.undelivered:
        table.add_row("deliveries that failed", Text(f"{totals.undelivered:,}", style="bold red"))
    if not totals.counts_compared:
        equal = Text("not compared", style="yellow")
    elif totals.mismatches:
        equal = Text(f"no: {len(totals.mismatches)} of {totals.counts_compared:,} differ", style="bold red")
    else:
        equal = Text(f"yes, all {totals.counts_compared:,} (device x metric)", style="green")
    table.add_row("counts equal to the devices' own", equal)
    table.add_row(
        "time",
        f"{totals.elapsed_s:.0f} s in all: {totals.simulated_s:.0f} s simulated, {totals.judged_s:.0f} s judged after",
    )
    return table


def details(scores: Scores, mismatches: Sequence[Mismatch]) -> list[Text]:
    """Return one line for each false alert and for the first mismatches; empty when all is well."""
    lines = [
        Text(f"false alert: {alert.label}, {alert.devices} devices, since {alert.since_ns}", style="red")
        for alert in scores.false_alerts
    ]
    for row in mismatches[:MISMATCHES_SHOWN]:
        text = f"{row.device_id} {row.metric}: the device counted {row.counted:g}, the query API answers {row.stored:g}"
        lines.append(Text(text, style="red"))
    return lines


def report(scores: Scores, totals: Totals) -> RenderableType:
    """Return everything the demo prints at its end, the dashboard's address apart."""
    return Group(
        Text(), faults_table(scores), Text(), cohorts_table(scores), Text(), totals_table(totals),
        *details(scores, totals.mismatches),
    )  # fmt: skip

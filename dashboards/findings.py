"""The sentences: which rows head a page, and what they say in words. Pure over rows already read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dashboards import formats
from dashboards.naming import kpi_name, signal_name, slo_name
from dashboards.rows import Alert, Verdict, cohort_label, worst
from dashboards.scope import Scope
from device_sdk.contract import attributes as a

MODEL_KINDS = frozenset({"drift", "latency"})
P95_RUNS, P99_RUNS = 20, 300
"""Runs below which a percentile is not shown: fewer than one, three of them would lie beyond it."""


def filter_words(scope: Scope) -> str:
    """Write the standing filters: "model=x, tier=y"."""
    return ", ".join(f"{key}={value}" for key, value in (("model", scope.model), ("tier", scope.tier)) if value)


def anything(scope: Scope) -> bool:
    """Say whether the filters leave any row that is about them."""
    models = not scope.model or any(
        row.model == scope.model and (not scope.tier or row.tier == scope.tier) for row in scope.latest
    )
    tiers = not scope.tier or any(row.tier == scope.tier for row in scope.latest)
    return models and tiers


def scoped(scope: Scope, rows: Iterable[Verdict]) -> list[Verdict]:
    """Keep the rows of exactly the scope: the whole fleet, or the filtered tier alone; and the filtered model."""
    found = list(rows)
    cohorts = 1 if scope.tier else 0
    return [row for row in found if scope.admits(row) and len(row.cohort) == cohorts]


def scoped_or_fleet(scope: Scope, rows: Sequence[Verdict]) -> tuple[list[Verdict], str]:
    """Like ``scoped``; when nothing is split by tier, the fleet's rows and a note that says so."""
    found = scoped(scope, rows)
    found.sort(key=lambda row: row.model != scope.model)
    if found or not scope.tier:
        return found, ""
    return scoped(scope.without_filters(), rows), "whole fleet"


def headline_latency(scope: Scope) -> Verdict | None:
    """Return the latency row a page leads with: the worst verdict, then the most devices."""
    rows = scoped(scope, scope.kpis("latency", name="latency_p95"))
    judged = [row for row in worst(rows) if row.value is not None]
    if not judged or judged[0].level == "bad":
        return judged[0] if judged else None
    return max(judged, key=lambda row: (row.devices, row.n, row.version))


def milliseconds(value: float | None) -> str:
    """Write seconds with their unit: "74 ms"."""
    return " ".join(formats.seconds(value)).strip()


def amount(row: Verdict) -> str:
    """Write a verdict's value in its own unit."""
    if row.name.startswith("latency"):
        return milliseconds(row.value)
    return formats.number(row.value) if row.name == "crash_loop" else formats.percent(row.value)


def target(row: Verdict) -> str:
    """Write a verdict's target with its direction, '' without one."""
    if row.target is None:
        return ""
    low_is_good = row.name.startswith("latency") or row.name.endswith("failure_rate") or row.kind == "drift"
    return (
        f"target {'≤' if low_is_good else '≥'} "
        f"{milliseconds(row.target) if row.name.startswith('latency') else formats.goal(row.target)}"
    )


def why_not(row: Verdict) -> str:
    """Say why a row has no verdict."""
    known = {
        "devices": f"{formats.plural(row.devices, 'device')}, too few",
        "evidence": "too few for its target",
        "interval": "interval holds the target",
        "reference": "no reference yet",
        "events": "too few events",
        "no_target": "no target set",
        "provisional": "reference still short",
        "resolution": "buckets too coarse",
    }
    if row.verdict == "too_few_events":
        return "too few events"
    if row.reason in known:
        return known[row.reason]
    return row.reason.replace("_", " ") or (
        "no data" if row.verdict == "no_data" else f"n = {formats.number(row.n)}, too few"
    )


def interval(row: Verdict) -> str:
    """Write the interval without units: "99.92–99.96", '' when there is none."""
    if row.low is None or row.high is None or row.low == row.high:
        return ""
    if row.name.startswith("latency"):
        low, high = formats.seconds(row.low), formats.seconds(row.high)
        return f"{low[0]}–{high[0]}" if low[1] == high[1] else f"{' '.join(low)}–{' '.join(high)}"
    digits = 2 if row.value is not None and min(row.value, 1 - row.value) < 0.01 else 1
    return f"{formats.share(row.low, digits)}–{formats.share(row.high, digits)}"


def foot(row: Verdict, note: str = "") -> str:
    """Write a tile's third line: interval and target, or why there is no verdict."""
    if row.value is None:
        return why_not(row)
    blind = why_not(row) if row.level == "none" else ""
    return " · ".join(part for part in (interval(row), target(row) or blind, note) if part)


def alert_words(scope: Scope, alert: Alert, *, since: bool = True) -> str:
    """Say in a few words what an alert is about, where and since when; the full sentence is its summary."""
    facts = alert.evidence
    subject = " ".join(str(facts[key]) for key in ("model", "version") if facts.get(key))
    name = str(facts.get("name") or "")
    kind = str(facts.get("kind") or "")
    what = {
        "drift": f"the data of {subject or 'a model'} drifts",
        "slo": f"{name} burns its error budget",
        "silence": f"{formats.plural(alert.devices, 'device')} fell silent",
        "latency": f"{subject or name} is slow",
    }.get(
        kind,
        f"{kpi_name(name)} missed its target" if name else alert.summary.rstrip(".") or alert.rule.replace("_", " "),
    )
    if name == "crash_loop":
        what = f"{formats.plural(alert.devices, 'device')} crash in a loop"
    place = cohort_label({k: v for k, v in alert.cohort.items() if kind not in MODEL_KINDS or k not in a.MODEL_KEYS})
    where = f" on {place}" if place else ""
    return f"{what}{where}" + (f" since {scope.clock(alert.onset_ns)}" if since else "")


def fleet_sentence(
    scope: Scope, firing: Sequence[Alert], missed: Sequence[Verdict], judged: int
) -> tuple[str, str, str]:
    """Say whether anybody must act now: (level, sentence, what is fine and how sure)."""
    held = judged - len(missed)
    verb = "holds its" if judged == 1 else "hold their"
    second = f"{formats.number(held)} of {formats.plural(judged, 'indicator')} {verb} target"
    blind = sum(row.blind for row in scope.kpis("latency", "crash_free", "kpi"))
    if blind:
        second += (
            f"; {formats.plural(blind, 'figure')} of single cohorts {'has' if blind == 1 else 'have'} too little data"
        )
    second += "."
    if firing:
        count = formats.sentence(formats.counted(len(firing), "thing"))
        said = [alert_words(scope, alert) for alert in firing[:2]]
        rest = len(firing) - 2
        more = f", and {formats.WORDS[rest] if rest < len(formats.WORDS) else rest} more" if rest > 0 else ""
        need = "needs" if len(firing) == 1 else "need"
        level = "bad" if any(alert.severity == "page" for alert in firing) else "warn"
        return level, f"{count} {need} you: {'; '.join(said)}{more}.", second
    if missed:
        names = [f"{kpi_name(row.name)} of {row.subject or row.where}" for row in missed]
        verb = "misses its" if len(names) == 1 else "miss their"
        return "warn", f"No alert fires, but {formats.listing(names, 2)} {verb} target.", second
    if not judged:
        first = "The first verdicts come after the first full hour."
        return "none", "Nothing has been judged yet: too little data for any verdict.", first
    every = (
        "the one judged indicator holds its" if judged == 1 else f"all {formats.number(judged)} indicators hold their"
    )
    return "ok", f"Nothing needs you: {every} target.", second


def change(before: float | None, after: float | None, tolerance: float = 0.12) -> str:
    """Compare two values in words: "rose", "fell" or "held"."""
    if before is None or after is None or before == 0:
        return ""
    ratio = after / before
    return "rose" if ratio > 1 + tolerance else "fell" if ratio < 1 - tolerance else "held"


def edges(values: Sequence[float | None], part: float = 0.15) -> tuple[float | None, float | None]:
    """Return the medians of the first and the last part of a series (None where there is nothing)."""
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    size = max(1, round(len(known) * part))
    first, last = sorted(known[:size]), sorted(known[-size:])
    return first[len(first) // 2], last[len(last) // 2]


def latency_title(
    row: Verdict, p95: Sequence[float | None], p50: Sequence[float | None], former: Sequence[Verdict] = ()
) -> str:
    """Say what p95 did over the range, and whether the median did too; or how it differs from the former version."""
    before, after = edges(p95)
    newest = row.value if row.value is not None else after  # the number every tile and table shows
    old = edges([item.value for item in former])[1]
    if old is not None and after is not None and change(old, after) != "held":
        more = "slower" if after > old else "faster"
        return (
            f"{row.subject} is {more} than {former[0].version}: p95 {milliseconds(newest)} "
            f"against {milliseconds(former[-1].value)}"
        )
    how = change(before, after)
    if how in ("", "held"):
        return (
            f"p95 of {row.subject} holds at {milliseconds(newest)}"
            if after is not None
            else f"No latency of {row.subject} in this range"
        )
    median = change(*edges(p50))
    tail = "the median did not move" if median == "held" else "the median moved with it"
    return f"p95 of {row.subject} {how} from {milliseconds(before)} to {milliseconds(newest)}; {tail}"


def latency_sentence(scope: Scope, rows: Sequence[Verdict]) -> tuple[str, str, str]:
    """Say who is slow: (level, sentence, what holds)."""
    cells = [row for row in rows if row.tier]
    late = [row for row in worst(cells) if row.level == "bad"]
    whole = [row for row in worst(scoped(scope, rows)) if row.level == "bad"]
    fine = sum(row.level == "ok" for row in cells)
    blind = [row for row in cells if row.blind]
    free = [row for row in scoped(scope, rows) if row.word == "no_target" and row.value is not None]
    tail = (
        f"{formats.number(fine)} of {formats.plural(len(cells), 'cohort')} (tier × model × version) hold their target"
    )
    aimless = sum(row.tier != "" for row in rows if row.word == "no_target")
    if aimless:
        tail += f"; {formats.number(aimless)} {'has' if aimless == 1 else 'have'} no target"
    if blind:
        tail += f"; {formats.number(len(blind))} cannot be judged ({why_not(blind[0])})"
    head = late[0] if late else whole[0] if whole else None
    if head is None and free and not fine:
        slow = max(free, key=lambda row: row.value or 0.0)
        return (
            "none",
            f"p95 of {slow.subject} is {milliseconds(slow.value)}; no latency target is set, so nothing is judged.",
            ("Set latency_p95 per model in targets.yaml; an SLO with a threshold is judged without it."),
        )
    if head is None:
        if not fine:
            return "none", "No latency verdict yet: too few devices report.", tail + "."
        return "ok", "Every cohort that can be judged is fast enough.", tail + "."
    more = len(late) - 1
    others = (
        f" {formats.sentence(formats.counted(more, 'other cohort'))} {'misses' if more == 1 else 'miss'} too."
        if more > 0
        else ""
    )
    where = f" on {head.where}" if head.tier else ""
    return (
        "bad",
        (
            f"p95 of {head.subject}{where} is {milliseconds(head.value)}, "
            f"over its target of {milliseconds(head.target)}.{others}"
        ),
        tail + ".",
    )


def drift_sentence(rows: Sequence[Verdict], zone_day: str, provisional: bool) -> tuple[str, str, str]:
    """Say what moved, on what, since when; ``zone_day`` is the onset day in words or ''."""
    counts = {
        word: sum(row.verdict == word for row in rows)
        for word in ("drift", "sensor_fault", "mix_shift", "insufficient", "ok")
    }
    second = (
        f"{formats.number(counts['drift'] + counts['sensor_fault'])} of "
        f"{formats.plural(len(rows), 'signal')} drift beyond chance and the effect floor"
    )
    if counts["mix_shift"]:
        second += f", {formats.number(counts['mix_shift'])} only because the fleet mix moved"
    if counts["insufficient"]:
        second += f", {formats.number(counts['insufficient'])} have too little data"
    second += ". False discoveries are held at 5 %."
    bad = [row for row in worst(rows) if row.level == "bad"]
    if not rows:
        return (
            "none",
            "No drift verdict yet: the reference needs 24 hours of data.",
            "Then this page compares every signal with it.",
        )
    if not bad:
        if counts["ok"] == 0:
            return "none", "Too little data to say whether anything drifts.", second
        start = "So far the" if provisional else "The"
        return "ok", f"{start} models still see the world of their reference.", second
    head = bad[0]
    names = list(
        dict.fromkeys(signal_name(row.name) for row in bad if (row.model, row.tier) == (head.model, head.tier))
    )
    since = f"Since {zone_day} " if zone_day else ""
    verb = "drifts" if len(names) == 1 else "drift"
    where = f" on {head.where}" if head.tier else ""
    text = f"{since}{formats.listing(names)} of {head.subject} {verb}{where}."
    other = {(row.model, row.tier) for row in bad} - {(head.model, head.tier)}
    if other:
        text += (
            f" {formats.sentence(formats.counted(len(other), 'other cohort'))} "
            f"{'drifts' if len(other) == 1 else 'drift'} too."
        )
    return "bad", formats.sentence(text), second


def stability_sentence(
    rows: Sequence[Verdict], firmware: Verdict | None, judged: Verdict | None, loop: Verdict | None = None
) -> tuple[str, str, str]:
    """Say whether more devices crash and on which firmware; ``rows`` are the three crash-free figures of the scope."""
    crashes = (judged.number("crashes") if judged else None) or 0.0
    hours = (judged.number("device_hours") if judged else None) or 0.0
    second = (
        f"{formats.plural(crashes, 'crash', 'crashes')} in "
        f"{formats.number(round(hours))} device-hours over the last 24 h"
    )
    second += f", {formats.plural(judged.devices, 'device')}." if judged else "."
    missed = [row for row in rows if row.level == "bad"]
    if loop is not None:
        place = cohort_label(loop.cohort)
        tail = (
            f": {formats.percent(firmware.value)} crash-free time"
            if firmware is not None and firmware.cohort == loop.cohort
            else ""
        )
        return (
            "bad",
            f"{formats.plural(loop.devices, 'device')} crash in a loop on {place or 'the fleet'}{tail}.",
            second,
        )
    if firmware is not None and firmware.level == "bad":
        place = f" on {firmware.tier}" if firmware.tier else ""
        tail = f", target {formats.goal(firmware.target)}" if firmware.target is not None else ""
        return (
            "bad",
            f"Firmware {firmware.firmware} crashes{place}: {formats.percent(firmware.value)} crash-free time{tail}.",
            second,
        )
    if missed:
        return (
            "bad",
            (
                f"{formats.sentence(formats.listing([kpi_name(row.name) for row in missed]))} "
                f"{'is' if len(missed) == 1 else 'are'} under target."
            ),
            second,
        )
    if not any(row.level == "ok" for row in rows):
        return "none", "Too little data to judge stability.", second
    return "ok", "No firmware crashes more than its target allows.", second


def slo_sentence(
    scope: Scope, rows: Sequence[Verdict], empty_ns: int, early_ns: int, late_ns: int
) -> tuple[str, str, str]:
    """Say when the first budget runs out; ``rows`` are the newest fleet rows, most urgent first; 0 = it does not."""
    fine = sum(row.level == "ok" for row in rows)
    second = f"{formats.number(fine)} of {formats.plural(len(rows), 'SLO')} {'is' if fine == 1 else 'are'} on pace."
    if not rows:
        return (
            "none",
            "No SLO has been evaluated yet.",
            "SLOs are OpenSLO files; the first burn rates come after the first full hour.",
        )
    head = rows[0]
    spent = [slo_name(row) for row in rows if (left := row.number("budget_left")) is not None and left <= 0]
    if spent:
        word = "budget is" if len(spent) == 1 else "budgets are"
        return "bad", f"The {formats.listing(spent)} {word} spent.", second
    if head.level in ("bad", "warn") and empty_ns:
        away = formats.duration(empty_ns - scope.anchor_ns)
        between = (
            (
                f" (between {formats.duration(early_ns - scope.anchor_ns)} "
                f"and {formats.duration(late_ns - scope.anchor_ns)})"
            )
            if late_ns > early_ns
            else ""
        )
        return head.level, f"The {head.name} budget ends in {away} at this pace{between}.", second
    if head.level == "none" and not fine:
        return "none", "Too few events to say how fast any budget burns.", second
    return head.level if head.level != "none" else "ok", "No budget runs out within its window at this pace.", second

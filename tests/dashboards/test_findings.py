from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import Any

import pytest

from dashboards import findings
from dashboards.data import Reader
from dashboards.rows import Verdict, alert_of, verdict_of
from dashboards.scope import RANGES, Scope
from dashboards.views import slo, stability

Api = Callable[..., tuple[Any, str]]
Make = Callable[..., Reader]
HOUR = 3600 * 10**9
NOW = 1_763_766_000 * 10**9


def scope(latest: tuple[Verdict, ...] = (), **over: Any) -> Scope:
    values = {
        "range_name": "24h",
        "model": "",
        "tier": "",
        "anchor_ns": NOW,
        "now_ns": NOW,
        "zone": UTC,
        "latest": latest,
    }
    return Scope(Reader("http://127.0.0.1:9"), **{**values, **over})


def verdict(kind: str = "kpi", **over: Any) -> Verdict:
    return verdict_of({"kind": kind, "name": "crash_free_time", "verdict": "met", "value": 0.5, "at_ns": NOW, **over})


def alert(**over: Any) -> Any:
    facts = {"kind": "slo", "name": "inference-latency"}
    return alert_of(
        {"state": "firing", "severity": "page", "onset_ns": NOW - HOUR, "since_ns": NOW, "evidence": facts, **over}
    )


def test_a_firing_alert_heads_the_fleet_page_with_what_where_since_when() -> None:
    level, text, _ = findings.fleet_sentence(scope(), [alert(cohort={"edge.device.tier": "cam-v2"})], [], 9)
    assert (level, text) == (
        "bad",
        "One thing needs you: inference-latency burns its error budget on cam-v2 since 22:00.",
    )


@pytest.mark.parametrize(("count", "tail"), [(2, "."), (3, ", and one more."), (14, ", and 12 more.")])
def test_more_alerts_than_fit_are_counted(count: int, tail: str) -> None:
    text = findings.fleet_sentence(scope(), [alert()] * count, [], 9)[1]
    assert text.endswith(f"since 22:00{tail}")


def test_without_any_verdict_the_fleet_is_not_called_well() -> None:
    assert findings.fleet_sentence(scope(), [], [], 0)[0] == "none"


def test_all_held_is_said_with_how_many_and_how_many_are_blind() -> None:
    rows = (verdict(), verdict(verdict="insufficient", reason="devices", value=None))
    level, text, second = findings.fleet_sentence(scope(rows), [], [], 1)
    assert (level, text) == ("ok", "Nothing needs you: the one judged indicator holds its target.")
    assert "1 figure of single cohorts has too little data" in second


def test_latency_without_a_target_is_told_but_not_judged() -> None:
    rows = [
        verdict(
            "latency",
            name="latency_p95",
            model="m",
            version="1",
            value=0.05,
            verdict="insufficient",
            reason="no_target",
        )
    ]
    level, text, _ = findings.latency_sentence(scope(tuple(rows)), rows)
    assert level == "none"
    assert "p95 of m 1 is 50 ms; no latency target is set" in text


def test_drift_that_has_too_little_data_is_not_called_well() -> None:
    rows = [verdict("drift", name="input:x", verdict="insufficient", reason="devices")]
    assert findings.drift_sentence(rows, "", False)[0] == "none"
    assert findings.drift_sentence([], "", False)[0] == "none"


def test_drift_names_the_signals_the_cohort_and_the_day() -> None:
    rows = [
        verdict(
            "drift", name=f"input:{name}", verdict="drift", model="m", version="1", cohort={"edge.device.tier": "a"}
        )
        for name in ("x", "y")
    ]
    assert findings.drift_sentence(rows, "13 Nov", False)[1] == "Since 13 Nov x and y of m 1 drift on a."


def test_a_tier_filter_shows_the_tiers_row_and_says_when_only_the_fleet_is_judged() -> None:
    fleet, tier = verdict(value=0.9), verdict(value=0.7, cohort={"edge.device.tier": "a"})
    filtered = scope(tier="a")
    assert findings.scoped_or_fleet(filtered, [fleet, tier]) == ([tier], "")
    assert findings.scoped_or_fleet(filtered, [fleet]) == ([fleet], "whole fleet")
    assert findings.scoped(scope(), [fleet, tier]) == [fleet]


def test_a_version_that_is_slower_than_the_one_before_is_named() -> None:
    row = verdict("latency", name="latency_p95", model="m", version="2", value=0.06)
    former = [verdict("latency", model="m", version="1", value=0.02)] * 3
    assert (
        findings.latency_title(row, [0.06] * 4, [0.02] * 4, former) == "m 2 is slower than 1: p95 60 ms against 20 ms"
    )
    assert "rose from 30 ms to 60 ms" in findings.latency_title(row, [0.03] * 9 + [0.06] * 9, [0.01] * 18)


def test_the_forecast_is_the_one_judged_with_the_row() -> None:
    row = verdict(
        "slo",
        detail={"forecast": {"empty_ns": NOW + 5, "earliest_ns": NOW + 3, "latest_ns": None}},
        window={"start_ns": NOW - 100, "end_ns": NOW},
    )
    assert slo.forecast(row) == slo.Forecast(NOW + 5, NOW + 3, NOW + 100)
    assert slo.forecast(verdict("slo", detail={"forecast": None})) == slo.Forecast()


def test_a_spent_budget_is_said_so() -> None:
    row = verdict("slo", name="x", verdict="fast_burn", detail={"budget_left": -0.2})
    assert findings.slo_sentence(scope(), [row], 0, 0, 0)[:2] == ("bad", "The x budget is spent.")


@pytest.mark.parametrize(
    ("lowest", "floor"), [(0.9991, 0.999), (0.9954, 0.995), (0.93, 0.92), (0.99999, 0.99998), (0.1, 0.0)]
)
def test_the_axis_of_ratios_starts_at_a_round_value_below_the_lowest(lowest: float, floor: float) -> None:
    assert stability.floor_of([lowest, 1.0]) == pytest.approx(floor)
    assert stability.floor_of([lowest, 1.0]) < lowest


def test_a_long_history_is_asked_for_thinner_on_the_jobs_grid() -> None:
    assert scope().step_ns(HOUR) == HOUR
    for name, span in RANGES.items():
        step = scope(range_name=name).step_ns(300 * 10**9)
        assert step % (300 * 10**9) == 0
        assert span / step <= 240


def test_a_history_is_thinned_even_when_the_collector_answers_every_row(
    api: Api, reader: Callable[..., Reader]
) -> None:
    fleet, url = api("busy")
    wide = Scope(reader(url), "7d", "", "", fleet.now, fleet.now)
    rows = wide.history("slo", grid_ns=300 * 10**9, name="crash-free", tier="cam-v2")
    assert 100 < len(rows) <= 240
    assert [row.at_ns for row in rows] == sorted(row.at_ns for row in rows)

from __future__ import annotations

from typing import Any

import pytest

from dashboards import formats, naming
from dashboards.data import Reader
from dashboards.rows import Alert, alert_of, device_of, verdict_of
from dashboards.scope import Scope
from dashboards.views.parts import evidence, held_back, runbook_of

TIER = "edge.device.tier"


def alert(**over: Any) -> Alert:
    return alert_of({"state": "firing", "severity": "page", "devices": 3, **over})


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (0.898, "89.8 % left"),
        (0.0, "0 % over"),
        (-0.55, "55 % over"),
        (-1.0, "spent 2 times"),
        (-47.0, "spent 48 times"),
    ],
)
def test_an_overspent_budget_is_told_in_words_not_in_thousands_of_per_cent(left: float, text: str) -> None:
    assert naming.budget_words(left) == text


@pytest.mark.parametrize(
    ("rule", "text"),
    [("slo_fast_burn_page", "SLO fast burn"), ("crash_loop", "crash loop"), ("slow_start_ticket", "slow start")],
)
def test_a_rule_is_named_without_its_severity(rule: str, text: str) -> None:
    assert naming.rule_name(rule) == text


@pytest.mark.parametrize(
    ("note", "text"),
    [
        ("inhibited:crash_loop:388f17ed14a6cfc64977de03bb5c1264", "inhibited by crash loop"),
        ("more_specific:388f17ed14a6cfc64977de03bb5c1264", "a more specific alert fires"),
        ("history", "replayed history is not sent"),
        ("", ""),
    ],
)
def test_a_note_of_the_ledger_reads_without_ids(note: str, text: str) -> None:
    assert naming.note_words(note) == text


def test_an_slo_carries_its_model_unless_its_name_does() -> None:
    row = {"kind": "slo", "name": "digits-latency", "model": "digits"}
    assert naming.slo_name(verdict_of(row)) == "digits-latency"
    assert naming.slo_name(verdict_of({**row, "version": "2"})) == "digits-latency · digits 2"
    assert naming.slo_name(verdict_of({**row, "name": "success"})) == "success · digits"


@pytest.mark.parametrize(("value", "text"), [(0.995, "99.5 %"), (0.95, "95 %"), (0.9999, "99.99 %"), (None, "–")])
def test_a_target_is_shown_as_it_was_set(value: float | None, text: str) -> None:
    assert formats.goal(value) == text


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("/runbook?name=drift", "runbook?name=drift"),
        ("https://dash.example/runbook?name=drift", "runbook?name=drift"),
        ("docs/runbooks/drift.md", "runbook?name=drift"),
        ("https://wiki.example/oncall", "https://wiki.example/oncall"),
        ("javascript:alert(1)", ""),
        ("", ""),
    ],
)
def test_an_alert_links_its_runbook_on_this_dashboard_when_it_is_here(address: str, link: str) -> None:
    assert runbook_of(alert(runbook_url=address)) == link


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"kind": "slo", "name": "s", "value": 0.76, "target": 0.995}, "76 % good, objective 99.5 %"),
        ({"kind": "silence", "name": "silent_devices", "value": 3 / 35, "target": 0.0, "n": 35}, "8.6 % of 35"),
        ({"kind": "drift", "name": "input:std", "value": 0.99, "target": 0.05}, "distance 0.99, matters from 0.050"),
        ({"kind": "crash_free", "name": "crash_loop", "value": 9.0, "target": 0.0}, ""),
        ({}, ""),
    ],
)
def test_the_number_of_an_alert_has_the_unit_of_its_kind(facts: dict[str, Any], text: str) -> None:
    assert evidence(alert(evidence=facts)) == text


def test_only_a_pending_alert_is_held_back() -> None:
    facts = {"suppressed_by": "more_specific:1"}
    assert held_back(alert(state="pending", evidence=facts)) == "more_specific:1"
    assert held_back(alert(state="pending")) == ""
    assert held_back(alert(evidence=facts)) == ""


def test_an_alert_without_a_tier_concerns_the_tiers_of_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [device_of({"device_id": name, "resource": {TIER: name[0]}}) for name in ("a1", "b1")]
    monkeypatch.setattr(Reader, "devices", lambda _self, **_filters: known)

    def admits(tier: str, **over: Any) -> bool:
        return Scope(Reader("http://127.0.0.1:9"), "24h", "", tier, 1, 1).admits_alert(alert(**over))

    looping = {"cohort": {"edge.firmware.version": "2"}, "evidence": {"device_ids": ["a1"]}}
    assert admits("a", **looping)
    assert not admits("b", **looping)
    assert admits("", **looping)
    assert admits("b", cohort={})
    assert not admits("b", cohort={TIER: "a"})

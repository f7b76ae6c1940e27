"""Golden texts: one file a packaged rule and state. Regenerate with `UPDATE_GOLDEN=1` and read the difference."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alerts.evaluate import Machine
from alerts.message import SHORT_LENGTH_MAX
from alerts.notify.base import Notice
from alerts.options import AlertOptions
from alerts.rules import effective_rules
from alerts.verdict import Verdict
from alerts.writing import notice_of, state_row

GOLDEN = Path(__file__).parent / "golden"
STEP_NS = 300_000_000_000
HOUR_NS = 12 * STEP_NS
DAY_NS = 24 * HOUR_NS
T0 = 1_794_448_800_000_000_000
TIER = {"edge.device.tier": "cam-v2"}
OPTIONS = AlertOptions(dashboard_url="https://fleet.example/dash/", runbooks_url="https://fleet.example/runbooks")
Make = Callable[..., Verdict]


def _slo(make: Make, severity: str, at_ns: int, **more: Any) -> Verdict:
    page = severity == "page"
    detail = {
        "burn": {"1h": 21.34, "5m": 18.02, "6h": 4.1, "30m": 19.0, "1d": 3.2, "2h": 3.4, "3d": 1.1, "6h_": 4.1},
        "severity": severity,
        "budget_left": 0.614,
        "forecast": {"empty_ns": T0 + 40 * HOUR_NS},
        "window": "1h/5m" if page else "3d/6h",
        "threshold": 14.4 if page else 1.0,
        "bad": 1_312.0,
        "total": 1_405.0,
        "reporting": 42,
        "bad_devices": [f"cam-{n:03}" for n in range(7)],
    }
    return make(
        "slo", at_ns, value=0.98123, low=0.9805, high=0.9819, target=0.95, n=812_345.0, devices=7, detail=detail,
        window_start_ns=at_ns - 30 * DAY_NS, **more,
    )  # fmt: skip


def _drift(make: Make, name: str, value: float, at_ns: int, unit: str = "sd") -> Verdict:
    sr = {"e": 2_930.0, "threshold": 1_440.0, "alarm": True, "onset_ns": T0 - 5 * HOUR_NS}
    return make(
        "drift", at_ns, name=name, model="digits", version="3", cohort=TIER, value=value, low=value - 0.1,
        high=value + 0.1, target=0.05, n=4_032.0, devices=34, detail={"unit": unit, "sr": sr},
        window_start_ns=at_ns - DAY_NS,
    )  # fmt: skip


def _crash(make: Make, name: str, at_ns: int, **more: Any) -> Verdict:
    return make("crash_free", at_ns, name=name, verdict="missed", window_start_ns=at_ns - DAY_NS, **more)


def scenarios(make: Make) -> dict[str, list[Verdict]]:
    loop = {"looping_devices": ["hub-001", "hub-004"], "observed_devices": 12, "ends": 41}
    silent = {"silent": [f"cam-{n:03}" for n in range(5)], "since_ns": T0 - 7 * HOUR_NS}
    missed = {
        "crashes": 14,
        "device_hours": 960.0,
        "crashing_devices": ["hub-001", "hub-004", "hub-009"],
        "reasons": {"watchdog": 3, "native_crash": 11},
    }
    return {
        "slo_fast_burn_page": [_slo(make, "page", T0, cohort=TIER)],
        "slo_fast_burn_page_fleet": [
            *(_slo(make, "page", T0 + n * STEP_NS) for n in range(3)),
            *(_slo(make, "ticket", T0 + 2 * STEP_NS, cohort={"edge.device.tier": tier}) for tier in ("hub", "cam-v2")),
        ],
        "slo_fast_burn_ticket": [
            _slo(make, "ticket", T0 + n * STEP_NS, model="digits", version="3") for n in range(4)
        ],
        "drift": [
            _drift(make, "input:mean", 0.62, T0),
            _drift(make, "output:confidence", 0.413, T0),
            _drift(make, "classes", 0.31, T0, "tvd"),
            _drift(make, "input:contrast", 0.2, T0),
        ],
        "crash_loop": [
            _crash(make, "crash_loop", T0, cohort={"edge.firmware.version": "4.2"}, value=2.0, devices=2, n=12.0,
                   target=0.0, detail=loop, completeness=None),
        ],
        "crash_free_missed": [
            _crash(make, "crash_free_time", T0 + n * HOUR_NS, cohort=TIER, value=0.98541, low=0.97, high=0.99449,
                   target=0.995, n=960.0, devices=40, detail=missed)
            for n in range(2)
        ],
        "silent_devices": [
            make("silence", T0, cohort=TIER, value=5 / 60, n=60.0, devices=5, completeness=None,
                 window_start_ns=T0, detail=silent),
        ],
    }  # fmt: skip


def notices(make: Make, rows: list[Verdict]) -> list[Notice]:
    machine = Machine(effective_rules(None))
    rows = sorted(rows, key=lambda row: (row.at_ns, row.kind, row.key))
    clear = {"slo": "on_pace", "drift": "ok", "crash_free": "met", "silence": "met"}[rows[0].kind]
    last = rows[-1].at_ns
    quiet = [
        make(row.kind, last + HOUR_NS, name=row.name, model=row.model, version=row.version, cohort=row.cohort,
             verdict=clear, devices=0, detail={"sr": {"alarm": False}})
        for row in {row.key: row for row in rows}.values()
    ]  # fmt: skip
    changes = machine.advance([*rows, *quiet], dict.fromkeys(machine.kinds, last + DAY_NS))
    found = []
    for change in changes:
        row = state_row(change, OPTIONS)
        if change.step.action in {"firing", "resolved"}:
            found.append(notice_of(row, str(change.step.action), change.step.at_ns, change.step.reason))
    return found


NAMES = tuple(scenarios(lambda *_, **__: None))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("name", NAMES)
def test_a_notice_reads_as_its_golden_file(verdict: Make, name: str) -> None:
    made = notices(verdict, scenarios(verdict)[name])
    assert [notice.state for notice in made] == ["firing", "resolved"]
    text = "\n---\n".join(
        f"{notice.message.subject}\n{notice.message.short}\n\n{notice.message.text}" for notice in made
    )
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_every_packaged_rule_has_a_golden_file() -> None:
    assert {rule.name for rule in effective_rules(None)} <= {path.stem for path in GOLDEN.glob("*.txt")}


@pytest.mark.parametrize("name", NAMES)
def test_a_notice_says_what_where_since_when_how_many_and_how_sure(verdict: Make, name: str) -> None:
    for notice in notices(verdict, scenarios(verdict)[name]):
        sentence = notice.message.sentence
        assert "UTC on 1" in sentence
        assert "device" in sentence
        assert "sure" in sentence
        assert "https://fleet.example/dash/" in notice.message.text
        assert "https://fleet.example/runbooks/" in notice.message.text
        assert len(notice.message.short) <= SHORT_LENGTH_MAX


def test_the_page_link_carries_the_alerts_filters(verdict: Make) -> None:
    alert = notices(verdict, scenarios(verdict)["drift"])[0].alert
    assert alert["page_url"] == "https://fleet.example/dash/drift?model=digits&version=3&tier=cam-v2"
    assert alert["runbook_url"] == "https://fleet.example/runbooks/drift.md"


def test_an_end_without_knowledge_says_so(verdict: Make) -> None:
    machine = Machine(effective_rules(None))
    rows = scenarios(verdict)["drift"]
    last = [
        state_row(change, OPTIONS)
        for change in machine.advance(
            sorted(rows, key=lambda row: row.key), dict.fromkeys(machine.kinds, T0 + 3 * DAY_NS)
        )
    ][-1]
    notice = notice_of(last, "resolved", last.at_ns, "no_data")
    assert notice.message.sentence.startswith("Closed at 02:00 UTC on 13 Nov without knowing")

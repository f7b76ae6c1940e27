"""The service over a real store: states, ledger, notices, restarts, and that nothing is done twice."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from alerts.options import AlertOptions, WebhookOptions
from alerts.service import AlertService
from alerts.verdict import Verdict
from collector.errors import ConfigError
from collector.storage import open_store
from collector.storage.base import Store
from collector.storage.rows import JOB_RUNS, VERDICTS

STEP_NS = 300_000_000_000
HOUR_NS = 12 * STEP_NS
T0 = 1_794_448_800_000_000_000
TIER = {"edge.device.tier": "cam-v2"}
Make = Callable[..., Verdict]
PAGE = {
    "severity": "page",
    "burn": {"1h": 20.0, "5m": 22.0},
    "window": "1h/5m",
    "threshold": 14.4,
    "bad_devices": ["d1"],
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def put(store: Store, *rows: Verdict, written_ns: int = 1) -> None:
    records = [
        {
            **{name: getattr(row, name) for name in VERDICTS.names if hasattr(row, name)},
            "cohort": json.dumps(row.cohort, sort_keys=True, separators=(",", ":")),
            "detail": json.dumps(row.detail),
            "written_ns": written_ns,
        }
        for row in rows
    ]
    store.append("verdicts", pa.Table.from_pylist(records, schema=VERDICTS))


def done(store: Store, job: str, until_ns: int) -> None:
    row = dict.fromkeys(JOB_RUNS.names, 0) | {"job": job, "until_ns": until_ns, "outcome": "ok", "detail": ""}
    store.append("job_runs", pa.Table.from_pylist([row], schema=JOB_RUNS))


def states(store: Store) -> dict[str, str]:
    return {row["rule"]: row["state"] for row in store.query("alerts_latest", {}).to_pylist()}


def ledger(store: Store) -> list[tuple[str, str]]:
    rows = sorted(store.query("ledger", {"alert_id": ""}).to_pylist(), key=lambda row: row["written_ns"])
    return [(row["action"], json.loads(row["detail"]).get("reason", "")) for row in rows]


def counts(store: Store) -> tuple[int, int]:
    history = store.query("ledger", {"alert_id": ""}).num_rows
    return history, sum(row["rows_written"] for row in store.query("job_runs", {"job": "alerts"}).to_pylist())


def service(store: Store, now_ns: int = T0 + STEP_NS, **options: Any) -> AlertService:
    return AlertService(store, AlertOptions(**options), clock_ns=lambda: now_ns, sleep=lambda _: None)


def test_a_burn_fires_is_told_and_resolves(store: Store, verdict: Make, receivers: Callable[[], Any]) -> None:
    receiver = receivers()
    alerts = service(store, T0 + 30 * STEP_NS, webhooks=(WebhookOptions(receiver.url, "s"),), history_after_s=86400.0)
    put(store, verdict(at_ns=T0, cohort=TIER, detail=PAGE, devices=2))
    alerts.evaluate(T0 - STEP_NS, T0)
    assert states(store) == {"slo_fast_burn_page": "firing"}
    put(store, *(verdict(at_ns=T0 + n * STEP_NS, cohort=TIER, verdict="on_pace") for n in range(1, 15)))
    alerts.evaluate(T0, T0 + 14 * STEP_NS)
    assert states(store) == {"slo_fast_burn_page": "resolved"}
    assert [body["state"] for body in receiver.bodies()] == ["firing", "resolved"]
    assert [action for action, _ in ledger(store)] == ["firing", "notice_sent", "resolved", "notice_sent"]
    row = store.query("alerts_latest", {}).to_pylist()[0]
    assert (row["onset_ns"], row["since_ns"], row["devices"]) == (T0, T0, 2)
    assert json.loads(row["cohort"]) == TIER
    assert row["page_url"] == "http://127.0.0.1:8501/slo?tier=cam-v2"
    assert receiver.bodies()[0]["alert"].keys() >= {
        "id", "rule", "state", "severity", "cohort", "summary", "onset_ns", "since_ns", "devices", "evidence",
        "page_url", "runbook_url",
    }  # fmt: skip
    alerts.close()


def test_the_same_span_again_adds_nothing(store: Store, verdict: Make) -> None:
    alerts = service(store)
    put(store, verdict(at_ns=T0, cohort=TIER, detail=PAGE))
    alerts.evaluate(T0 - STEP_NS, T0)
    before = counts(store)
    alerts.evaluate(T0 - STEP_NS, T0)
    service(store).evaluate(T0 - 9 * STEP_NS, T0)
    assert counts(store) == before


def test_a_restated_past_verdict_changes_no_past_state(store: Store, verdict: Make) -> None:
    alerts = service(store)
    put(store, verdict(at_ns=T0, cohort=TIER, detail=PAGE))
    alerts.evaluate(T0 - STEP_NS, T0)
    put(store, verdict(at_ns=T0, cohort=TIER, verdict="on_pace"), written_ns=2)
    alerts.evaluate(T0 - STEP_NS, T0)
    assert ledger(store)[0] == ("firing", "")
    assert states(store) == {"slo_fast_burn_page": "firing"}


def test_a_restart_goes_on_where_the_last_process_ended(store: Store, verdict: Make) -> None:
    put(store, verdict(at_ns=T0, cohort=TIER, detail=PAGE))
    service(store).evaluate(T0 - STEP_NS, T0)
    put(store, *(verdict(at_ns=T0 + n * STEP_NS, cohort=TIER, verdict="on_pace") for n in range(1, 15)))
    for n in range(1, 15):
        service(store).evaluate(T0 + (n - 1) * STEP_NS, T0 + n * STEP_NS)
    found = [action for action, _ in ledger(store) if not action.startswith("notice")]
    assert found == ["firing", "resolved"]
    resolved = store.query("alerts_latest", {}).to_pylist()[0]
    assert resolved["at_ns"] == T0 + 13 * STEP_NS
    assert resolved["summary"].startswith("inference-latency burns its error budget 20 times too fast over 1h")


def test_a_gap_between_two_calls_is_made_up_for(store: Store, verdict: Make) -> None:
    alerts = service(store)
    alerts.evaluate(T0 - STEP_NS, T0)
    put(store, verdict(at_ns=T0 + STEP_NS, cohort=TIER, detail=PAGE))
    alerts.evaluate(T0 + 2 * STEP_NS, T0 + 3 * STEP_NS)
    assert states(store) == {"slo_fast_burn_page": "firing"}


def test_a_lagging_job_is_waited_for_and_loses_no_alert(store: Store, verdict: Make) -> None:
    alerts = service(store)
    alarm = {"sr": {"alarm": True, "e": 9.0, "threshold": 3.0, "onset_ns": T0 - HOUR_NS}}
    done(store, "drift", T0 - 3 * HOUR_NS)
    done(store, "slo", T0)
    put(store, verdict(at_ns=T0, cohort=TIER, detail=PAGE))
    alerts.evaluate(T0 - 4 * HOUR_NS, T0)
    assert states(store) == {"slo_fast_burn_page": "firing"}
    put(store, verdict("drift", T0 - HOUR_NS, model="digits", version="3", cohort=TIER, detail=alarm))
    done(store, "drift", T0)
    alerts.evaluate(T0, T0)
    assert states(store) == {"slo_fast_burn_page": "firing", "drift": "firing"}
    at = {row["rule"]: row["since_ns"] for row in store.query("alerts_latest", {}).to_pylist()}
    assert at["drift"] == T0 - HOUR_NS


def test_silence_ahead_of_the_data_does_not_hide_later_verdicts(store: Store, verdict: Make) -> None:
    alerts = service(store)
    done(store, "slo", T0)
    done(store, "silence", T0 + 4 * STEP_NS)
    alerts.evaluate(T0 - STEP_NS, T0 + 4 * STEP_NS)
    put(store, verdict(at_ns=T0 + STEP_NS, cohort=TIER, detail=PAGE))
    done(store, "slo", T0 + STEP_NS)
    alerts.evaluate(T0, T0 + 4 * STEP_NS)
    assert states(store) == {"slo_fast_burn_page": "firing"}


def test_a_suppressed_alert_is_in_the_ledger_with_its_reason_and_tells_nobody(
    store: Store, verdict: Make, receivers: Callable[[], Any]
) -> None:
    receiver = receivers()
    loop = {"looping_devices": ["d1", "d2"], "ends": 9}
    put(
        store,
        verdict("crash_free", T0, name="crash_loop", cohort={"edge.firmware.version": "4.2"}, devices=2, detail=loop),
        verdict("slo", T0, name="crash-free", cohort=TIER, detail=PAGE),
    )
    alerts = service(store, webhooks=(WebhookOptions(receiver.url, "s"),))
    alerts.evaluate(T0 - STEP_NS, T0)
    assert states(store) == {"crash_loop": "firing", "slo_fast_burn_page": "pending"}
    suppressed = [reason for action, reason in ledger(store) if action == "suppressed"]
    assert len(suppressed) == 1
    assert suppressed[0].startswith("inhibited:crash_loop:")
    assert [body["alert"]["rule"] for body in receiver.bodies()] == ["crash_loop"]
    alerts.close()


def test_history_is_judged_and_recorded_but_not_told(store: Store, verdict: Make, receivers: Callable[[], Any]) -> None:
    receiver = receivers()
    alerts = service(store, T0 + 2 * HOUR_NS, webhooks=(WebhookOptions(receiver.url, "s"),))
    put(store, verdict(at_ns=T0, cohort=TIER, detail=PAGE))
    alerts.evaluate(T0 - STEP_NS, T0)
    assert ledger(store) == [("firing", ""), ("notice_skipped", "history")]
    assert receiver.requests == []
    alerts.close()


def test_a_notice_that_failed_goes_out_after_a_restart_with_the_same_id(
    store: Store, verdict: Make, receivers: Callable[[], Any]
) -> None:
    receiver = receivers()
    receiver.answers = [(503, {})] * 3
    put(store, verdict(at_ns=T0, cohort=TIER, detail=PAGE))
    hooks = (WebhookOptions(receiver.url, "s"),)
    first = service(store, webhooks=hooks)
    first.evaluate(T0 - STEP_NS, T0)
    first.close()
    second = service(store, T0 + 9 * HOUR_NS, webhooks=hooks)
    second.evaluate(T0, T0 + STEP_NS)
    second.close()
    assert [action for action, _ in ledger(store)] == ["firing", "notice_failed", "notice_sent"]
    assert len({body["id"] for body in receiver.bodies()}) == 1
    assert len({body for _, _, body in receiver.requests}) == 1


class DyingStore:
    """A real store whose process dies before the n-th append; remembers the ledger entries it was given."""

    def __init__(self, store: Store, appends: int) -> None:
        self._store, self._left = store, appends
        self.entries: list[str] = []

    def append(self, table: str, rows: pa.Table) -> None:
        if not self._left:
            raise OSError("killed")
        self._left -= 1
        self._store.append(table, rows)
        if table == "alert_ledger":
            self.entries += rows.column("entry_id").to_pylist()

    def query(self, name: str, params: Any = None) -> pa.Table:
        return self._store.query(name, params)


@pytest.mark.parametrize("appends", [0, 1, 2, 3, 4])
def test_a_death_between_any_two_commits_loses_and_doubles_nothing(
    store: Store, verdict: Make, receivers: Callable[[], Any], appends: int
) -> None:
    receiver = receivers()
    hooks = (WebhookOptions(receiver.url, "s"),)
    put(store, verdict(at_ns=T0, cohort=TIER, detail=PAGE), verdict(at_ns=T0, detail=PAGE))
    dying, living = DyingStore(store, appends), DyingStore(store, 99)
    first = service(dying, webhooks=hooks)  # type: ignore[arg-type]
    if appends < 4:
        with pytest.raises(OSError, match="killed"):
            first.evaluate(T0 - STEP_NS, T0)
    else:
        first.evaluate(T0 - STEP_NS, T0)
    first.close()
    after = service(living, webhooks=hooks)  # type: ignore[arg-type]
    after.evaluate(T0 - STEP_NS, T0)
    after.evaluate(T0, T0 + STEP_NS)
    after.close()
    assert sorted(action for action, _ in ledger(store)) == ["firing", "notice_sent", "pending"]
    rows = store.query("alerts_latest", {}).to_pylist()
    assert sorted(row["state"] for row in rows) == ["firing", "pending"]
    assert len({*dying.entries, *living.entries}) == len([*dying.entries, *living.entries])
    # Only a death between sending and writing it down sends again, and then under the same id.
    assert len(receiver.requests) == (2 if appends == 3 else 1)
    assert len({body["id"] for body in receiver.bodies()}) == 1


@pytest.mark.parametrize("appends", [0, 1, 2, 3])
def test_a_death_keeps_the_state_of_what_began_and_ended_in_one_span(store: Store, verdict: Make, appends: int) -> None:
    put(store, *(verdict(at_ns=T0 + n * STEP_NS, cohort=TIER, detail=PAGE if n == 0 else {}) for n in range(15)))
    with pytest.raises(OSError, match="killed"):
        service(DyingStore(store, appends)).evaluate(T0 - STEP_NS, T0 + 14 * STEP_NS)  # type: ignore[arg-type]
    service(store).evaluate(T0 - STEP_NS, T0 + 14 * STEP_NS)
    assert states(store) == {"slo_fast_burn_page": "resolved"}
    assert [action for action, _ in ledger(store) if action[:6] != "notice"] == ["firing", "resolved"]


def test_a_broken_rule_file_stops_the_start(store: Store, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "own.yaml").write_text("name: own\nkind: slo\n")
    with pytest.raises(ConfigError, match=r"own\.yaml:1: field 'severity' is missing"):
        AlertService(store, AlertOptions(rules_dir=rules))


def test_no_address_reaches_the_log_or_the_ledger(
    store: Store, verdict: Make, receivers: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receivers()
    url = receiver.url + "/T0K3N?key=K3Y"
    receiver.answers = [(500, {})] * 9
    put(store, verdict(at_ns=T0, cohort=TIER, detail=PAGE))
    alerts = service(store, webhooks=(WebhookOptions(url, "S3CR3T"),), apprise_urls=("json://u:P4SS@127.0.0.1:9/x",))
    with caplog.at_level(logging.INFO):
        alerts.evaluate(T0 - STEP_NS, T0)
    alerts.close()
    shown = caplog.text + json.dumps(store.query("ledger", {"alert_id": ""}).to_pylist())
    for secret in ("T0K3N", "K3Y", "S3CR3T", "P4SS"):
        assert secret not in shown
    assert alerts.metrics()["notice_failed"] == 2


def test_an_alert_of_a_rule_that_is_gone_is_left_and_said(
    store: Store, verdict: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, verdict(at_ns=T0, cohort=TIER, detail=PAGE))
    service(store).evaluate(T0 - STEP_NS, T0)
    rules = tmp_path / "rules"
    rules.mkdir()
    off = "name: slo_fast_burn_page\nkind: slo\nwhen: {verdict: rising}\nseverity: page\nsummary: x\nrunbook: x\n"
    (rules / "off.yaml").write_text(off + "enabled: false\n")
    service(store, rules_dir=rules).evaluate(T0, T0 + STEP_NS)
    assert "which is gone" in caplog.text
    assert states(store) == {"slo_fast_burn_page": "firing"}


def test_metrics_count_what_was_done(store: Store, verdict: Make) -> None:
    alerts = service(store)
    put(store, verdict(at_ns=T0, cohort=TIER, detail=PAGE))
    alerts.evaluate(T0 - STEP_NS, T0)
    found = alerts.metrics()
    assert (found["verdicts"], found["firing"], found["alerts_firing"], found["notice_skipped"]) == (1, 1, 1, 1)


@pytest.mark.longest
def test_a_fleets_verdicts_are_judged_within_a_cpu_second_a_day(store: Store, verdict: Make) -> None:
    days, tiers = 4, [f"tier-{n}" for n in range(3)]
    shares = {"edges": [0.1 * n for n in range(40)], "current_share": [0.025] * 40, "reference_share": [0.025] * 40}
    rows = []
    for instant in range(days * 288):
        at = T0 + instant * STEP_NS
        bad = instant in range(500, 600)
        for tier in tiers:
            burning = bad and tier == "tier-1"
            rows.append(
                verdict("slo", at, cohort={"edge.device.tier": tier}, verdict="fast_burn" if burning else "on_pace",
                        detail=PAGE if burning else {"severity": None, "burn": {"1h": 0.1}})
            )  # fmt: skip
        if instant % 12 == 0:
            alarm = {"sr": {"alarm": instant > 800, "onset_ns": T0 + 700 * STEP_NS}, **shares}
            rows += [
                verdict("drift", at, name=f"input:{n}", model=model, version="1", cohort={"edge.device.tier": tier},
                        verdict="ok", detail=alarm if tier == "tier-2" and model == "a" else {**shares, "sr": None})
                for n in range(20) for tier in tiers for model in ("a", "b")
            ]  # fmt: skip
    put(store, *rows)
    alerts = service(store, T0 + 30 * 288 * STEP_NS)
    started = time.process_time()
    for day in range(days):
        alerts.evaluate(T0 - STEP_NS + day * 288 * STEP_NS, T0 + (day + 1) * 288 * STEP_NS)
    assert time.process_time() - started < days
    assert len(rows) > 14_000
    assert alerts.metrics()["firing"] == 2
    assert states(store) == {"slo_fast_burn_page": "resolved", "drift": "firing"}

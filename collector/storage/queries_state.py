# ruff: noqa: S608  (what is interpolated into SQL here are constants of this package; values are parameters)
"""Named queries over append-only state: verdicts, baselines, alerts, job runs. The newest written row of a key wins."""

from __future__ import annotations

from typing import Final

from collector.storage import rows
from collector.storage.named import ANY, INT, STR, NamedQuery, Param

_VERDICTS: Final = ", ".join(rows.VERDICTS.names)
_STATES: Final = ", ".join(rows.ALERT_STATES.names)
_LEDGER: Final = ", ".join(rows.ALERT_LEDGER.names)
_SETTINGS: Final = ", ".join(rows.SETTINGS.names)
_BASELINES: Final = ", ".join(rows.BASELINES.names)

_BETWEEN: Final = f"""
select {_VERDICTS} from verdicts
where at_ns > $from_ns and at_ns <= $to_ns and at_ns % $step_ns = 0
  and ($kind = '' or kind = $kind) and ($name = '' or name = $name)
qualify row_number() over (partition by kind, key, at_ns order by written_ns desc) = 1
order by at_ns, kind, key"""
_LATEST: Final = f"""
select {_VERDICTS} from verdicts
where at_ns <= $at_ns and ($kind = '' or kind = $kind) and ($name = '' or name = $name)
qualify row_number() over (partition by kind, key order by at_ns desc, written_ns desc) = 1
order by at_ns, kind, key"""
_CURRENT_STATES: Final = f"""
select {_STATES} from alert_states
qualify row_number() over (partition by alert_id order by written_ns desc, at_ns desc) = 1
order by onset_ns, alert_id"""
_HISTORY: Final = """
select l.entry_id, l.alert_id, l.at_ns, l.action, l.detail, l.written_ns, a.rule, a.severity, a.state, a.onset_ns,
       a.since_ns, a.cohort, a.summary, a.devices, a.evidence, a.page_url, a.runbook_url
from (select * from alert_ledger where at_ns >= $from_ns and at_ns < $to_ns
      qualify row_number() over (partition by entry_id order by written_ns) = 1) l
left join (
    select * from alert_states
    qualify row_number() over (partition by alert_id order by written_ns desc, at_ns desc) = 1
) a on a.alert_id = l.alert_id
order by l.at_ns, l.entry_id"""
_LEDGER_ROWS: Final = f"""
select {_LEDGER} from alert_ledger where $alert_id = '' or alert_id = $alert_id
qualify row_number() over (partition by entry_id order by written_ns) = 1
order by at_ns, entry_id"""
_BASELINE_ROWS: Final = f"""
select {_BASELINES} from baselines
where ($model = '' or model = $model) and ($version = '' or version = $version)
order by written_ns desc, baseline_id"""
_SETTINGS_ROWS: Final = f"""
select {_SETTINGS} from settings
qualify row_number() over (partition by selector order by written_ns desc) = 1
order by selector"""
_SETTINGS_APPLIED: Final = """
select l.time_ns, l.received_ns, l.attributes
from logs l join streams s on s.stream = l.stream
where l.event_name = 'edge.settings.applied' and s.device_id = $device
order by l.received_ns desc, l.time_ns desc limit 1"""

STATE_QUERIES: Final[dict[str, NamedQuery]] = {
    "verdicts_between": NamedQuery(
        _BETWEEN, {"kind": ANY, "name": ANY, "from_ns": INT, "to_ns": INT, "step_ns": Param("int", 1)}
    ),
    "verdicts_latest": NamedQuery(_LATEST, {"kind": ANY, "name": ANY, "at_ns": Param("int", 2**63 - 1)}),
    "baselines": NamedQuery(_BASELINE_ROWS, {"model": ANY, "version": ANY}),
    "baseline_devices": NamedQuery(
        f"select {', '.join(rows.BASELINE_DEVICES.names)} from baseline_devices where baseline_id = $baseline_id",
        {"baseline_id": STR},
    ),
    "baseline_bins": NamedQuery(
        f"select {', '.join(rows.BASELINE_BINS.names)} from baseline_bins where baseline_id = $baseline_id",
        {"baseline_id": STR},
    ),
    "alerts_latest": NamedQuery(_CURRENT_STATES),
    "alerts_history": NamedQuery(_HISTORY, {"from_ns": INT, "to_ns": INT}),
    "ledger": NamedQuery(_LEDGER_ROWS, {"alert_id": ANY}),
    "settings": NamedQuery(_SETTINGS_ROWS),
    "settings_applied": NamedQuery(_SETTINGS_APPLIED, {"device": STR}),
    "job_progress": NamedQuery(
        "select max(until_ns) as until_ns from job_runs where job = $job and outcome = 'ok'", {"job": STR}
    ),
    "job_runs": NamedQuery(
        f"select {', '.join(rows.JOB_RUNS.names)} from job_runs where $job = '' or job = $job "
        "order by started_ns desc, job limit 1000",
        {"job": ANY},
    ),
    "job_totals": NamedQuery(
        "select job, outcome, count(*) as runs, cast(sum(duration_ns) as bigint) as duration_ns, "
        "cast(max(until_ns) as bigint) as until_ns from job_runs group by job, outcome order by job, outcome"
    ),
}

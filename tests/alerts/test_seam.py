"""Rows that the real crash-free job makes, through the packaged rules: what jobs write is what alerts read."""

import pyarrow as pa

from alerts.evaluate import Machine
from alerts.options import AlertOptions
from alerts.rules import effective_rules
from alerts.verdict import verdicts_of
from alerts.writing import state_row
from analytics import crash_free_job
from analytics.options import AnalyticsOptions
from analytics.targets import load_targets

HOUR_NS = 3_600_000_000_000
T0 = 1_794_448_800_000_000_000
HOURS, UPDATE = 60, 40


def crash_verdicts() -> pa.Table:
    """Ten of forty devices get firmware 4.2 at hour 40 and crash in every hour from then on."""
    hours, events = [], []
    for device in range(40):
        tier = "hub" if device < 20 else "cam"
        for hour in range(HOURS):
            loops = device < 10 and hour >= UPDATE
            row = {"device_id": f"{tier}-{device:02}", "tier": tier, "firmware": "4.2" if loops else "4.1"}
            start = T0 + hour * HOUR_NS
            ends = {"starts": int(loops), "expected_ends": 0, "unexpected_ends": int(loops)}
            hours.append({"hour_ns": start, "observed_s": 3500.0, **ends, **row})
            if loops:
                end = {"time_ns": start + 1, "event_name": "session.end", "reason": "native_crash", "expected": False}
                events.append({**end, **row})
    options = AnalyticsOptions()
    instants = [T0 + hour * HOUR_NS for hour in range(1, HOURS + 1)]
    tables = pa.Table.from_pylist(hours), pa.Table.from_pylist(events)
    return crash_free_job.compute(*tables, instants, options, load_targets(options), 1)


def test_a_crash_looping_firmware_is_one_page_and_one_ticket_at_its_narrowest_cohort() -> None:
    table = crash_verdicts()
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    machine = Machine(effective_rules(None))
    rows = verdicts_of(columns, frozenset(machine.kinds))
    changes = machine.advance(rows, dict.fromkeys(machine.kinds, T0 + HOURS * HOUR_NS))
    states = [state_row(change, AlertOptions()) for change in changes]
    fired = {(row.rule, row.cohort): row for row in states if row.state == "firing"}
    ticket = ("crash_free_missed", '{"edge.device.tier":"hub","edge.firmware.version":"4.2"}')
    page = ("crash_loop", '{"edge.firmware.version":"4.2"}')
    assert fired.keys() == {ticket, page}
    assert (fired[page].devices, fired[ticket].devices) == (10, 10)
    assert set(fired[page].evidence["device_ids"]) == {f"hub-{device:02}" for device in range(10)}
    assert T0 + UPDATE * HOUR_NS < fired[ticket].since_ns <= T0 + (UPDATE + 3) * HOUR_NS
    assert T0 + UPDATE * HOUR_NS < fired[page].since_ns <= T0 + (UPDATE + 3) * HOUR_NS
    suppressed = {row.cohort for change, row in zip(changes, states, strict=True) if change.step.action == "suppressed"}
    assert suppressed == {"{}", '{"edge.device.tier":"hub"}', '{"edge.firmware.version":"4.2"}'}

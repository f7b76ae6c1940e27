# ruff: noqa: S608  (what is interpolated into SQL here are constants of this package; values are parameters)
"""Boots of a device that never met the network: where their data lie in time, from the boots around them.

Such a boot has no envelope of its own: its data come from the spool of a later boot. It began after the boot before it
had ended and it ended before the next one began; ``edge.boot.sequence`` in ``session.start`` tells the order. A boot
whose raw times lie there already is left alone. Else it is placed so that it ends where the next begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import duckdb

from collector.storage.clocks import JUDGEABLE_NS, TOLERANCE_NS

PLAUSIBLE_NS: Final = 1_577_836_800_000_000_000
"""2020-01-01: a clock that says less was never set."""

_NUMBER: Final = """
insert into boot_numbers (device_id, boot, sequence)
select x.device_id, x.boot, min(x.sequence)
from (
    select b.device_id, b.boot,
           try_cast(json_extract_string(l.attributes, '$."edge.boot.sequence"') as bigint) as sequence
    from t_logs l join boots b on b.stream = l.stream where l.event_name = 'session.start' and b.boot <> ''
) x
left join boot_numbers n on n.device_id = x.device_id and n.boot = x.boot
where x.sequence is not null and n.boot is null
group by x.device_id, x.boot returning device_id"""
# Every numbered boot of a device that has one without an envelope before one with.
_NUMBERED: Final = """
with known as (
    select n.device_id, n.boot, n.sequence, k.offset_ns,
           coalesce(k.quality in ('synced', 'estimated'), false) as measured
    from boot_numbers n left join newest_clocks k on k.device_id = n.device_id and k.boot = n.boot
    where n.device_id in (select unnest($devices))
)
select * from known where device_id in (
    select o.device_id from known o join known m on m.device_id = o.device_id and m.sequence > o.sequence
    where m.measured and not o.measured)
order by device_id, sequence desc, boot"""
_SPANS: Final = f"""
select b.device_id, b.boot, min(x.first_ns) as first_ns, max(x.last_ns) as last_ns
from (
    select stream, case when start_ns > 0 then start_ns else time_ns end as first_ns, time_ns as last_ns from windows
    where time_ns < {JUDGEABLE_NS}
    union all select stream, time_ns, time_ns from logs where time_ns < {JUDGEABLE_NS}
) x
join boots b on b.stream = x.stream
where b.device_id in (select unnest($devices)) group by b.device_id, b.boot"""
_RECORD: Final = """
insert into clocks (device_id, boot, offset_ns, measured_ns, quality, sent_ns, received_ns, written_ns)
values ($device, $boot, $offset, $offset, 'bounded', 0, 0, $now)"""


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot: raw time of its first and last sign, and its offset, None when nobody knows it."""

    device_id: str
    boot: str
    first_ns: int
    last_ns: int
    offset_ns: int | None
    measured: bool


def number(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Record the boot numbers that the batch's new ``session.start`` events tell; return their devices."""
    return [row[0] for row in connection.execute(_NUMBER).fetchall()]


def place(connection: duckdb.DuckDBPyConnection, devices: Sequence[str], now_ns: int) -> bool:
    """Place boots of ``devices`` that have no envelope between their neighbours; return whether anything moved."""
    if not devices:
        return False
    numbered = connection.execute(_NUMBERED, {"devices": list(devices)}).fetchall()
    if not numbered:
        return False
    concerned = sorted({row[0] for row in numbered})
    spans = {row[:2]: row[2:] for row in connection.execute(_SPANS, {"devices": concerned}).fetchall()}
    known = [
        Boot(device, boot, spans[device, boot][0], spans[device, boot][1], offset, measured)
        for device, boot, _sequence, offset, measured in numbered
        if (device, boot) in spans
    ]
    changed = False
    for _, group in groupby(known, key=lambda item: item.device_id):
        for boot, offset_ns in placed(list(group)):
            if abs(offset_ns - (boot.offset_ns or 0)) > TOLERANCE_NS and abs(offset_ns) < JUDGEABLE_NS:
                values = {"device": boot.device_id, "boot": boot.boot, "offset": offset_ns, "now": now_ns}
                connection.execute(_RECORD, values)
                changed = True
    return changed


def placed(newest_first: Sequence[Boot]) -> list[tuple[Boot, int]]:
    """Return the offset of each boot without an envelope that has a placed boot after it."""
    found: list[tuple[Boot, int]] = []
    next_start_ns: int | None = None
    for position, boot in enumerate(newest_first):
        if boot.measured:
            next_start_ns = boot.first_ns + (boot.offset_ns or 0)
            continue
        if next_start_ns is None:
            continue
        before = next((item for item in newest_first[position + 1 :] if item.measured), None)
        ended_ns = before.last_ns + (before.offset_ns or 0) if before else PLAUSIBLE_NS
        earliest_ns = max(ended_ns, PLAUSIBLE_NS) - TOLERANCE_NS
        fits = earliest_ns <= boot.first_ns and boot.last_ns <= next_start_ns + TOLERANCE_NS
        offset_ns = 0 if fits else next_start_ns - boot.last_ns
        found.append((boot, offset_ns))
        next_start_ns = boot.first_ns + offset_ns
    return found

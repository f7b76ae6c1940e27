"""Silence from a real store: a row when it changes, and once an hour."""

from __future__ import annotations

from judgement_kit import DAY, HOUR, MINUTE, T0, Batch, Clock, fleet, opened, rows_of

from analytics import silence_job
from analytics.options import AnalyticsOptions
from analytics.slis import roll_up

OPTIONS = AnalyticsOptions()
CAM2 = '{"edge.device.tier":"cam-v2"}'


def test_silent_devices_are_named_with_when_they_were_last_heard(tmp_path):
    store = opened(tmp_path, Clock(T0 + 2 * DAY))
    batch = Batch(T0 + DAY)
    devices = fleet(6)
    for step in range(40):
        start = T0 + step * 15 * MINUTE
        for device in devices:
            if device.name in ("dev-001", "dev-003") and step >= 8:
                continue
            batch.window(device, start, start + 15 * MINUTE)
    batch.put(store, tmp_path / "segments")
    roll_up(store, OPTIONS, T0 + 10 * HOUR, 1)
    table = silence_job.run(store, OPTIONS, T0, T0 + 10 * HOUR, 1)
    rows = rows_of(table, cohort=CAM2)
    silent = [row for row in rows if row["verdict"] == "missed"]
    # last heard at 2 h; more than three hours have passed at the first instant after 5 h
    assert silent[0]["at_ns"] == T0 + 5 * HOUR + 5 * MINUTE
    assert (silent[0]["devices"], silent[0]["n"]) == (2, 3)
    assert silent[0]["detail"]["silent"] == ["dev-001", "dev-003"]
    assert silent[0]["detail"]["since_ns"] == T0 + 2 * HOUR
    assert [row["at_ns"] for row in silent[1:]] == [T0 + hour * HOUR for hour in range(6, 11)]
    assert {row["verdict"] for row in rows_of(table, cohort='{"edge.device.tier":"cam-v1"}')} == {"met"}
    parts = [
        row
        for begin, end in ((0, 3), (3, 5.5), (5.5, 10))
        for row in rows_of(silence_job.run(store, OPTIONS, T0 + int(begin * HOUR), T0 + int(end * HOUR), 1))
    ]
    assert sorted(parts, key=str) == sorted(rows_of(table), key=str)
    store.close()


def test_an_empty_store_has_no_silence(tmp_path):
    store = opened(tmp_path, Clock(T0))
    assert silence_job.run(store, OPTIONS, T0, T0 + 5 * HOUR, 1).num_rows == 0
    store.close()

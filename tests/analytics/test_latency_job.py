"""Latency verdicts from a real store, by device class and version."""

from __future__ import annotations

import pytest
from judgement_kit import DAY, HOUR, MINUTE, T0, Batch, Clock, fleet, opened, rows_of

from analytics import latency_job
from analytics.options import AnalyticsOptions
from analytics.slis import roll_up

CAM2 = '{"edge.device.tier":"cam-v2"}'


@pytest.fixture
def filled(tmp_path):
    store = opened(tmp_path, Clock(T0 + DAY))
    batch = Batch(T0 + 3 * HOUR)
    for device in fleet(6):
        slow = device.tier == "cam-v2"
        for step in range(8):
            start = T0 + step * 15 * MINUTE
            batch.window(
                device, start, start + 15 * MINUTE, runs=100, slow=10 if slow else 0, failed=20, seconds=0.01,
                version="2" if slow else "1",
            )  # fmt: skip
    batch.put(store, tmp_path / "segments")
    roll_up(store, AnalyticsOptions(), T0 + 2 * HOUR, 1)
    yield store, tmp_path
    store.close()


def test_quantiles_by_class_and_version_every_hour(filled):
    store, _ = filled
    rows = rows_of(latency_job.run(store, AnalyticsOptions(), T0, T0 + 2 * HOUR, 1))
    assert len(rows) == 2 * 4
    row = next(row for row in rows if row["cohort"] == CAM2)
    assert (row["name"], row["version"], row["devices"], row["n"]) == ("latency_p95", "2", 3, 3 * 4 * 80)
    # an eighth of the runs that succeed take 0.1 s: p50 is fast, p95 is not; each within its bucket of 4.4 %
    assert row["detail"]["p50"] == pytest.approx(0.01, rel=0.045)
    assert row["value"] == pytest.approx(0.1, rel=0.045)
    assert row["low"] <= row["value"] <= row["high"]
    assert row["detail"]["error"] == pytest.approx(0.0443, abs=1e-4)
    assert (row["verdict"], row["reason"], row["target"]) == ("insufficient", "no_target", None)


def test_a_target_makes_a_verdict(filled):
    store, path = filled
    (path / "targets.yaml").write_text(
        "targets:\n  - {name: latency_p95, target: 0.05}\n  - {name: latency_p95, version: '1', target: 0.0101}\n"
    )
    rows = rows_of(latency_job.run(store, AnalyticsOptions(config_dir=path), T0, T0 + HOUR, 1))
    found = {(row["version"], row["cohort"]): (row["verdict"], row["reason"]) for row in rows}
    assert found["2", "{}"] == ("missed", "")
    # the bucket (0.0097, 0.0101] holds the target: a value beyond it inside that bucket proves nothing
    assert found["1", "{}"] == ("insufficient", "resolution")
    assert found["2", CAM2] == ("missed", "")


@pytest.mark.parametrize(
    ("n", "low", "high", "verdict"),
    [
        (100, 0.049, 0.05, ("met", "")),
        (100, 0.05, 0.051, ("missed", "")),
        (100, 0.0499, 0.0501, ("insufficient", "resolution")),
        (19, 0.039, 0.041, ("insufficient", "evidence")),
    ],
)
def test_the_bucket_must_lie_on_one_side_of_the_target(n, low, high, verdict):
    assert latency_job._verdict(n, low, high, 0.05) == verdict


def test_no_runs_are_no_rows(tmp_path):
    store = opened(tmp_path, Clock(T0))
    assert latency_job.run(store, AnalyticsOptions(), T0, T0 + 5 * HOUR, 1).num_rows == 0
    assert latency_job.run(store, AnalyticsOptions(), T0, T0 + MINUTE, 1).num_rows == 0
    store.close()

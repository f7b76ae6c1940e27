"""KPI targets: the last entry that fits wins, mistakes are named."""

from __future__ import annotations

import pytest

from analytics.options import AnalyticsOptions
from analytics.targets import Target, load_targets, target_for
from collector.errors import ConfigError


def test_packaged_targets_cover_every_kpi_but_latency():
    targets = load_targets(AnalyticsOptions())
    names = ("crash_free_time", "crash_free_sessions", "crash_free_devices", "inference_failure_rate",
             "telemetry_completeness", "devices_reporting")  # fmt: skip
    assert all(0 < (target_for(targets, name) or 0) < 1 for name in names)
    assert target_for(targets, "latency_p95", model="digits") is None


def test_the_last_entry_that_fits_wins():
    targets = (Target("latency_p95", 1.0), Target("latency_p95", 0.05, model="digits", tier="hub"))
    assert target_for(targets, "latency_p95", model="digits", tier="hub") == 0.05
    assert target_for(targets, "latency_p95", model="digits", tier="cam") == 1.0
    assert target_for(targets, "crash_free_time") is None


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("targets:\n  - {name: crash_fre_time, target: 0.9}\n", 2, "crash_free_time"),
        ("targets:\n  - {name: crash_free_time, goal: 0.9}\n", 2, "unknown field"),
        ("targets:\n  - {name: crash_free_time, target: 99.5}\n", 2, "0..1"),
        ("targets:\n  - name: crash_free_time\n", 2, "is required"),
        ("a: 1\n---\nb: 2\n", 1, "2 YAML documents"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, text, line, message):
    (tmp_path / "targets.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_targets(AnalyticsOptions(config_dir=tmp_path))
    assert f"targets.yaml:{line}: " in str(caught.value)
    assert message in str(caught.value)


def test_an_operators_file_replaces_the_packaged_one(tmp_path):
    (tmp_path / "targets.yaml").write_text("targets:\n  - {name: latency_p95, model: digits, target: 1.5}\n")
    assert load_targets(AnalyticsOptions(config_dir=tmp_path)) == (Target("latency_p95", 1.5, model="digits"),)

"""OpenSLO files: what is read, and that each mistake is named with file, line and the way out."""

from __future__ import annotations

from fractions import Fraction

import pytest
import yaml

from analytics.openslo import load, load_configured, parse
from analytics.options import DAY_NS, HOUR_NS
from analytics.yaml_source import parse_documents
from collector.errors import ConfigError

GOOD = """\
apiVersion: openslo/v1
kind: SLO
metadata:
  name: digits-latency
spec:
  description: Digits answer fast.
  service: vision
  indicator:
    spec:
      thresholdMetric:
        metricSource:
          type: fleetpulse
          spec:
            kind: latency
            metric: edge.inference.duration
            threshold: 0.05
            model: digits
  timeWindow:
    - duration: 28d
      isRolling: true
  budgetingMethod: Occurrences
  objectives:
    - target: 0.999
"""


def read(text: str):
    return parse(parse_documents(text, "slos/x.yaml")[0])


def test_an_occurrences_slo_is_read_exactly():
    slo = read(GOOD)
    assert (slo.name, slo.kind, slo.metric, slo.threshold) == (
        "digits-latency",
        "latency",
        "edge.inference.duration",
        0.05,
    )
    assert (slo.model, slo.version, slo.service, slo.period_ns) == ("digits", "", "vision", 28 * DAY_NS)
    assert slo.objective == Fraction(999, 1000)
    assert slo.line == 4


def test_time_slices_and_percent_targets_are_read():
    text = GOOD.replace("Occurrences", "Timeslices").replace(
        "target: 0.999", "targetPercent: 99.5\n      timeSliceTarget: 0.95\n      timeSliceWindow: 1h"
    )
    slo = read(text)
    assert (slo.objective, slo.slice_target, slo.slice_ns) == (Fraction(199, 200), Fraction(19, 20), HOUR_NS)


def test_the_objectives_value_is_the_threshold_of_a_threshold_metric():
    text = GOOD.replace("            threshold: 0.05\n", "").replace(
        "target: 0.999", "{op: lte, value: 0.2, target: 0.999}"
    )
    text = text.replace("- {op", "- {op")
    assert read(text).threshold == 0.2


def test_a_ratio_metric_needs_only_its_good_events():
    data = yaml.safe_load(GOOD)
    source = {"metricSource": {"type": "fleetpulse", "spec": {"kind": "failure"}}}
    data["spec"]["indicator"]["spec"] = {"ratioMetric": {"counter": True, "good": source, "total": source}}
    slo = read(yaml.safe_dump(data))
    assert (slo.kind, slo.metric, slo.threshold) == ("failure", "edge.inference.duration", None)
    source["metricSource"]["spec"]["kind"] = "crash_free"
    assert read(yaml.safe_dump(data)).metric == "edge.session.time"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("            threshold:", "            treshold:", 16, "unknown field; did you mean 'threshold'?"),
        ("  budgetingMethod:", "  budgetMethod:", 21, "unknown field; did you mean 'budgetingMethod'?"),
        ("      isRolling: true", "      isRolling: false", 20, "write isRolling: true"),
        ("duration: 28d", "duration: 1M", 19, "whole number"),
        ("duration: 28d", "duration: 2d", 19, "at least 7d"),
        ("target: 0.999", "target: 1.0", 23, "leaves no budget"),
        ("target: 0.999", "target: 99.9", 23, "between 0 and 1"),
        ("target: 0.999", "displayName: x", 23, "exactly one of target"),
        ("Occurrences", "RatioTimeslices", 21, "'Occurrences' or 'Timeslices'"),
        ("Occurrences", "Timeslices", 23, "needs timeSliceTarget"),
        ("type: fleetpulse", "type: prometheus", 12, "write type: fleetpulse"),
        ("kind: latency", "kind: speed", 14, "'latency', 'failure' or 'crash_free'"),
        ("metric: edge.inference.duration", "metric: edge.inference.durations", 15, "'edge.inference.duration'?"),
        ("metric: edge.inference.duration", "metric: edge.session.time", 15, "not a histogram of seconds"),
        ("threshold: 0.05", "threshold: -1", 16, "greater than 0"),
        ("threshold: 0.05", "threshold: .nan", 16, "finite number"),
        ("            threshold: 0.05\n", "", 13, "needs a threshold in seconds"),
        ("kind: latency", "kind: failure", 16, "has no threshold"),
        ("name: digits-latency", "name: Digits latency", 4, "lower-case letters"),
        ("kind: SLO", "kind: AlertPolicy", 2, "'SLO'"),
        ("apiVersion: openslo/v1", "apiVersion: openslo/v2", 1, "openslo/v1"),
        ("  service: vision\n", "", 5, "is required and missing"),
        ("model: digits", "version: '3'", 17, "needs a model"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_line_and_what_to_do(old, new, line, message):
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        read(GOOD.replace(old, new, 1))
    assert str(caught.value).startswith(f"slos/x.yaml:{line}: "), caught.value
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["- a", "just words", "42", "null"])
def test_a_document_that_is_no_mapping_is_refused(text):
    with pytest.raises(ConfigError, match="begins with apiVersion"):
        read(text)


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\tx: 1", "a: !!python/object:os.system {}", "{a: &x 1, b: *y}"])
def test_text_that_is_not_yaml_names_the_line(text):
    with pytest.raises(ConfigError, match=r"slos/x.yaml:1: not valid YAML"):
        read(text)


def test_two_objectives_of_one_name_are_refused_with_both_places(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text("# a comment\n" + GOOD)
    with pytest.raises(ConfigError, match=r"b\.yml:5: .*already defined in .*a\.yaml:4"):
        load(tmp_path)


def test_several_documents_and_files_are_read_and_empty_ones_skipped(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD + "---\n" + GOOD.replace("digits-latency", "b") + "---\n")
    (tmp_path / "c.yaml").write_text("")
    assert [slo.name for slo in load(tmp_path)] == ["b", "digits-latency"]


def test_an_operators_directory_replaces_the_packaged_objectives(tmp_path):
    assert [slo.name for slo in load_configured(tmp_path / "missing")] == [
        "crash-free", "inference-latency", "inference-success",
    ]  # fmt: skip
    assert load_configured(tmp_path) == ()
    (tmp_path / "a.yaml").write_text(GOOD)
    assert [slo.name for slo in load_configured(tmp_path)] == ["digits-latency"]


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="readable UTF-8"):
        load(tmp_path)

"""Verdict rows: canonical, free of NaN, and written once."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from analytics.rows import FLEET, VerdictRows, changed, clean, cohort_of, empty, finite, key_of
from collector.storage.rows import VERDICTS


def table(*rows, written_ns=1):
    found = VerdictRows("kpi", written_ns)
    for at_ns, name, value in rows:
        found.add(at_ns=at_ns, name=name, verdict="met", value=value, window_ns=(0, at_ns), detail={"x": value})
    return found.table()


def test_keys_are_canonical_whatever_the_order():
    cohort = cohort_of({"edge.region": "eu", "edge.device.tier": "hub"})
    assert cohort == '{"edge.device.tier":"hub","edge.region":"eu"}'
    assert json.loads(key_of("a", cohort, "m", "1")) == {
        "name": "a", "model": "m", "version": "1", "cohort": {"edge.device.tier": "hub", "edge.region": "eu"},
    }  # fmt: skip
    assert json.loads(key_of("a"))["cohort"] == json.loads(FLEET)


def test_no_nan_and_no_infinity_gets_out():
    found = VerdictRows("kpi", 1)
    found.add(
        at_ns=1, name="a", verdict="no_data", window_ns=(0, 1), value=math.nan, low=math.inf, n=math.nan,
        detail={"a": math.nan, "b": [math.inf, 1.0], "c": {"d": np.float64("nan")}, "e": np.int64(3)},
    )  # fmt: skip
    row = found.table().to_pylist()[0]
    assert (row["value"], row["low"], row["n"]) == (None, None, 0.0)
    assert json.loads(row["detail"]) == {"a": None, "b": [None, 1.0], "c": {"d": None}, "e": 3}
    assert found.table().schema.equals(VERDICTS)


def test_the_last_bits_of_a_sum_do_not_show():
    assert finite(0.1 + 0.2) == finite(0.3)
    assert clean(sum([0.1] * 10)) == 1.0
    assert finite(-0.0) == 0.0


def test_a_detail_that_is_not_json_is_a_fault_of_the_judge():
    with pytest.raises(TypeError, match="use JSON types"):
        clean({"a": object()})


def test_rows_equal_to_the_stored_ones_are_not_written_again():
    stored = table((1, "a", 0.5), (2, "a", None), written_ns=1)
    again = table((1, "a", 0.5), (2, "a", None), written_ns=9)
    assert changed(again, stored, 9).num_rows == 0
    assert changed(again, empty(), 9).num_rows == 2


def test_a_changed_row_is_written_and_one_taken_back_is_withdrawn():
    stored = table((1, "a", 0.5), (2, "a", 0.5), (3, "b", 0.5), written_ns=1)
    found = changed(table((1, "a", 0.5), (2, "a", 0.4), written_ns=9), stored, 9).to_pylist()
    assert [(row["at_ns"], row["name"], row["verdict"], row["reason"]) for row in found] == [
        (2, "a", "met", ""), (3, "b", "no_data", "withdrawn"),
    ]  # fmt: skip
    withdrawn = found[1]
    assert (withdrawn["value"], withdrawn["devices"], withdrawn["written_ns"]) == (None, 0, 9)


def test_what_is_withdrawn_stays_withdrawn_quietly():
    stored = table((3, "b", 0.5), written_ns=1)
    withdrawn = changed(table(written_ns=9), stored, 9)
    assert changed(table(written_ns=10), withdrawn, 10).num_rows == 0
    assert changed(table((3, "b", 0.5), written_ns=10), withdrawn, 10).num_rows == 1


def test_a_clock_set_back_cannot_hide_the_newer_judgement():
    stored = table((2, "a", 0.5), written_ns=100)
    assert changed(table((2, "a", 0.4), written_ns=7), stored, 7).to_pylist()[0]["written_ns"] == 101

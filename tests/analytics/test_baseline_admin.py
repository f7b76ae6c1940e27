import importlib.util
import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from analytics.baseline import to_tables
from analytics.baseline_admin import baselines_handler
from analytics.golden import from_payload, golden_reference, grids, to_payload

spec = importlib.util.spec_from_file_location("drift_store", Path(__file__).with_name("drift_store.py"))
kit = importlib.util.module_from_spec(spec)
sys.modules["drift_store"] = kit
spec.loader.exec_module(kit)
HOUR, START = kit.HOUR, kit.START


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    one = kit.build(tmp_path_factory.mktemp("admin"), kit.StoreFleet(hours=48, tiers=(("cam", 6),)))
    yield one
    one.close()


@pytest.fixture(scope="module")
def golden():
    segment = kit.tables(kit.StoreFleet(hours=40, tiers=(("bench", 1),), rows=50))
    return golden_reference(segment, "digits", "3")


def test_a_field_window_is_pinned_in_whole_hours_for_another_version(store):
    body = {
        "model": "digits",
        "version": "4",
        "observed_version": "3",
        "from_ns": START + 5,
        "to_ns": START + 30 * HOUR,
    }
    answer = baselines_handler(store, lambda: 77)({"source": "field", **body})
    assert answer["window"] == {"start_ns": START, "end_ns": START + 30 * HOUR}
    (head,) = store.query("baselines", {"model": "digits", "version": "4"}).to_pylist()
    assert (head["baseline_id"], head["written_ns"]) == (answer["baseline_id"], 77)
    assert json.loads(head["detail"])["observed"] == ["digits", "3"]
    assert store.query("baseline_devices", {"baseline_id": answer["baseline_id"]}).num_rows > 0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"model": "digits"}, "version, from_ns, to_ns"),
        ({"model": "digits", "version": "3", "from_ns": 0, "to_ns": "x"}, "not an integer"),
        ({"model": "digits", "version": "3", "from_ns": START, "to_ns": START + 1}, "no whole hour"),
        ({"model": "typo", "version": "3", "from_ns": START, "to_ns": START + HOUR}, "with data: digits 3"),
        ({"source": "guess"}, "'field' or 'golden'"),
        ({"source": "golden"}, "fleetpulse baseline build"),
        ({"source": "golden", "tables": {}}, "baseline_bins"),
    ],
)
def test_a_request_that_cannot_be_used_says_what_to_send(store, body, says):
    with pytest.raises(ValueError, match=says):
        baselines_handler(store, lambda: 1)(body)


def test_golden_output_of_the_sdk_becomes_bins_grids_and_a_stored_baseline(store, golden):
    assert set(golden.signals) == {"input:mean", "output:confidence", "classes"}
    centre, unit = grids(golden)["input:mean"]
    # The device's data are N(about 0, about 1) on the grid c=10;u=2.
    assert unit == pytest.approx(2.1, abs=0.4)
    assert abs(centre - 10) < 2
    payload = json.loads(json.dumps(to_payload(to_tables(golden, {"rows": 1}, 5))))
    answer = baselines_handler(store, lambda: 1)({"source": "golden", "tables": payload})
    assert sorted(answer["signals"]) == ["classes", "input:mean", "output:confidence"]
    stored = store.query("baseline_bins", {"baseline_id": golden.baseline_id})
    assert stored.num_rows == 3


def test_golden_tables_that_do_not_fit_are_refused(golden):
    payload = to_payload(to_tables(golden, {}, 5))
    with pytest.raises(ValueError, match="exactly one head row"):
        from_payload({**payload, "baselines": []})
    broken = [{**payload["baseline_bins"][0], "edges": "many"}]
    with pytest.raises(ValueError, match="baseline_bins"):
        from_payload({**payload, "baseline_bins": broken})
    with pytest.raises(ValueError, match="column"):
        from_payload({**payload, "baseline_bins": [{"signal": "input:mean"}]})


def test_a_run_without_the_model_names_the_ones_it_saw():
    segment = kit.tables(kit.StoreFleet(hours=2, tiers=(("bench", 1),)))
    with pytest.raises(ValueError, match=r"\('digits', '3'\)"):
        golden_reference(segment, "digits", "9")
    assert isinstance(segment["points"], pa.Table)

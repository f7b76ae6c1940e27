"""``explain``: what it says is what the bytes hold, it makes and sends nothing, and it compares contracts."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from sdk_kit import classifier

from device_sdk import Monitor
from device_sdk.__main__ import main
from device_sdk.cli.explain import WIDTH
from device_sdk.contract import BY_NAME, EVENTS
from device_sdk.contract import attributes as a
from device_sdk.contract.export import Effect, changes, exported

FROZEN = Path(__file__).parents[1] / "contract" / "v1" / "contract.json"


def told(*arguments: str | Path) -> str:
    said: list[str] = []
    assert main(["explain", *map(str, arguments)], said.append) == 0
    paths = ("  waits in", "  written")  # which are not broken
    assert max(len(line) for line in said if not line.startswith(paths)) <= WIDTH
    return "\n".join(said)


@pytest.fixture
def signals(tmp_path: Path) -> Path:
    file = tmp_path / "m.signals.toml"
    file.write_text(
        'classes = ["cat", "dog"]\n[[feature]]\nname = "brightness"\nkind = "mean"\ncenter = 0.3\nunit = 0.03\n'
        '[[feature]]\nname = "width"\ncolumn = 2\n'
    )
    return file


def test_every_word_and_value_of_the_bytes_is_told(
    tmp_path: Path, signals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "edge.device.tier=camera-v2,user.name=lovelace")
    text = told("--signals", signals, "--bytes", tmp_path / "window", "--hex", "--state-dir", tmp_path / "state")
    data = (tmp_path / "window").read_bytes()
    request = ExportMetricsServiceRequest.FromString(data)
    flat = " ".join(text.split())
    for resource in request.resource_metrics:
        for pair in resource.resource.attributes:
            assert pair.key in flat
            assert pair.value.string_value in flat
        for metric in resource.scope_metrics[0].metrics:
            assert metric.name in flat
            for point in getattr(metric, metric.WhichOneof("data")).data_points:
                for pair in point.attributes:
                    assert pair.key in flat
                    assert pair.value.string_value in flat
    assert "edge.device.tier camera-v2" in flat
    assert "stays here: user.name" in flat
    assert "lovelace" not in text
    assert {"cat", "dog", "brightness", "width"} <= set(flat.replace(",", " ").split())
    assert f"{len(data):,} as built" in flat
    dump = [line for line in text.splitlines() if re.match(r"  [0-9a-f]{6}  [0-9a-f]{2} ", line)]
    shown = "".join(line[10:57].replace(" ", "") for line in dump)
    assert data.hex() in shown


def test_every_metric_and_event_that_may_leave_is_named(tmp_path: Path) -> None:
    text = told("--state-dir", tmp_path / "state")
    for row in BY_NAME.values():
        assert (row.name in text) != row.reserved, row.name
    for event in EVENTS:
        assert (event.name in text) != event.reserved, event.name


def test_it_leaves_no_trace_and_speaks_of_this_devices_own_identity(tmp_path: Path, collector: Any) -> None:
    state = tmp_path / "state"
    text = told("--state-dir", state, "--endpoint", collector.url)
    assert not state.exists()
    assert not collector.requests
    assert "an example: the real one is made at the first start" in " ".join(text.split())
    monitor = Monitor(endpoint="http://127.0.0.1:9", state_dir=state)
    try:
        before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
        identity = json.loads((state / "installation.json").read_text())["id"]
        assert identity in told("--state-dir", state)  # beside a Monitor that holds the directory
        assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == before
    finally:
        monitor.close(0)


def test_a_real_model_is_run_with_synthetic_inputs(tmp_path: Path) -> None:
    model = classifier(tmp_path / "faces.onnx", columns=12)
    text = " ".join(told("--model", model, "--state-dir", tmp_path / "s").split())
    assert "edge.model.name faces" in text
    assert "x[11]" in text
    assert "edge.output.confidence 1 x buckets" in text


def test_privacy_settings_are_told_and_shape_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETPULSE_DEVICE_PRIVACY_MIN_COUNT", "40")
    monkeypatch.setenv("FLEETPULSE_DEVICE_PRIVACY_CLIP", "50")
    monkeypatch.setenv("FLEETPULSE_DEVICE_ENABLED", "false")
    text = " ".join(told("--state-dir", tmp_path / "s").split())
    assert "at least 40 observations a distribution; at most 50 observations" in text
    assert "the SDK is OFF" in text
    assert "edge.output.confidence 1 x buckets" in text
    assert "edge.privacy.held 1 x reading" in text
    monkeypatch.setenv("FLEETPULSE_DEVICE_ENABLED", "true")
    monkeypatch.setenv("FLEETPULSE_DEVICE_CONSENT", "false")
    text = " ".join(told("--state-dir", tmp_path / "s").split())
    assert "nothing is recorded before the user consents" in text
    assert "edge.output.confidence 1 x buckets" in text


@pytest.mark.parametrize("option", ["--signals", "--model"])
def test_a_file_that_cannot_be_used_is_said(tmp_path: Path, option: str) -> None:
    broken = tmp_path / "broken"
    broken.write_text("= [")
    said: list[str] = []
    assert main(["explain", option, str(broken), "--state-dir", str(tmp_path / "s")], said.append) == 1
    assert str(broken) in said[-1]


# --- two contracts ----------------------------------------------------------------------------------------------------


def test_the_exported_contract_is_this_one(tmp_path: Path) -> None:
    said: list[str] = []
    assert main(["explain", "--contract"], said.append) == 0
    assert json.loads(said[0]) == exported()
    kept = tmp_path / "v1.json"
    kept.write_text(said[0])
    assert main(["explain", "--diff", str(kept)], said.append) == 0
    assert said[-1].startswith("No difference")


def test_nothing_that_version_1_promised_is_broken_or_gone() -> None:
    """The file is never rewritten: when this fails, a receiver of version 1 would misread what is sent."""
    found = changes(json.loads(FROZEN.read_text(encoding="utf-8")), exported())
    assert not [change for change in found if change.effect is not Effect.MORE]


def test_a_difference_says_what_leaves_in_addition_what_no_longer_and_what_breaks(tmp_path: Path) -> None:
    old = copy.deepcopy(exported())
    del old["metrics"]["edge.session.time"]
    old["metrics"]["edge.spool.usage"]["unit"] = "KiBy"
    old["metrics"]["edge.session.starts"]["attributes"] = ["edge.old"]
    old["metrics"]["edge.gone"] = {**old["metrics"]["edge.spool.usage"], "reserved": False}
    old["resource"].remove(a.TIER)
    old["words"][a.LOSS_REASON] = ["capacity", "theft"]
    old["limits"]["series"] = 1000
    kept = tmp_path / "old.json"
    kept.write_text(json.dumps(old))
    said: list[str] = []
    assert main(["explain", "--diff", str(kept)], said.append) == 1
    text = "\n".join(said)
    assert max(map(len, said)) <= WIDTH
    more, less = text.index("Leaves in addition"), text.index("Leaves no longer")
    breaks = text.index("Changed under the same name")
    assert more < text.index("+ metric edge.session.time: Observed") < less
    assert more < text.index(f"+ resource attribute {a.TIER}") < less
    assert more < text.index("limit series: was 1000, is 1500") < less
    assert less < text.index("metric edge.session.starts: attribute edge.old is no longer sent") < breaks
    assert less < text.index("no longer theft") < breaks
    assert breaks < text.index("edge.spool.usage: unit was KiBy, is By")
    assert breaks < text.index("edge.gone is gone")


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"metrics": 3, "events": {}, "resource": [], "words": {}}'])
def test_a_file_that_is_no_contract_is_said(tmp_path: Path, content: str) -> None:
    kept = tmp_path / "x.json"
    kept.write_text(content)
    said: list[str] = []
    assert main(["explain", "--diff", str(kept)], said.append) == 2
    assert "explain --contract" in said[-1]

"""`fleetpulse devices settings` against a running stack: set, list, show, remove, and words for what is wrong."""

import json
import subprocess
import sys
import urllib.request

import pytest

from collector.ingest.device_settings import read
from fleetpulse.runtime import Stack
from fleetpulse.settings import load


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    data = tmp_path_factory.mktemp("stack") / "data"
    running = Stack(load({"data": str(data), "otlp_port": 0, "api_port": 0, "dashboard": False})[0])
    running.start()
    yield running
    running.stop()


@pytest.fixture
def verb(stack):
    def run(*words, ok=True):
        command = [sys.executable, "-m", "fleetpulse", "devices", "settings", *words, "--data", stack.settings.data]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode == 0) is ok, done
        assert "Traceback" not in done.stderr
        return done.stdout if ok else done.stderr

    return run


def _send(stack, device):
    attributes = [("device.id", device), ("service.instance.id", device), ("edge.device.tier", "cam-v2")]
    resource = {"attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes]}
    point = {"timeUnixNano": "1790000000000000000", "asInt": "1"}
    metric = {"name": "edge.window.sequence", "gauge": {"dataPoints": [point]}}
    body = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}
    request = urllib.request.Request(
        stack.otlp_url + "/v1/metrics", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers.get("FleetPulse-Settings")


def test_what_is_set_reaches_the_device_of_that_cohort_and_is_shown(stack, verb):
    assert _send(stack, "cam-1") is None
    said = verb("set", "tier=cam-v2", "--window-s", "300", "--signal-level", "outputs")
    identity = said.split()[0]
    assert _send(stack, "cam-1") == identity
    assert '{"signal_level": "outputs", "window_s": 300}' in said
    one = verb("set", "device=cam-1", "--sample-every", "8").split()[0]
    assert _send(stack, "cam-1") == one
    listed = verb("list")
    assert listed.index("device=cam-1") < listed.index("tier=cam-v2")
    shown = json.loads(verb("show", "cam-1"))
    assert (shown["id"], shown["selector"]) == (one, {"device": "cam-1"})
    verb("remove", "device=cam-1")
    assert _send(stack, "cam-1") == identity
    assert len(read(stack.settings.data_dir / "settings.json")) == 1


def test_a_document_from_a_file(verb, tmp_path):
    (tmp_path / "d.json").write_text('{"window_s": 120}')
    assert '{"window_s": 120}' in verb("set", "fleet", "--document", str(tmp_path / "d.json"))
    (tmp_path / "d.json").write_text("{")
    assert "not JSON" in verb("set", "fleet", "--document", str(tmp_path / "d.json"), ok=False)
    verb("remove", "fleet")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "tier=x"), "says nothing; give one of window_s"),
        (("set", "teir=x", "--window-s", "60"), "nothing that devices are selected by"),
        (("set", "cam-v2", "--window-s", "60"), "is not name=value"),
        (("set", "tier=a", "tier=b", "--window-s", "60"), "named twice"),
        (("set", "fleet", "--window-s", "0"), "1 to 86400 seconds"),
        (("set", "fleet", "--signal-level", "hgih"), "one of off, outputs, full"),
        (("remove", "tier=nobody"), "no settings for"),
        (("show", "nobody"), "no device 'nobody'"),
    ],
)
def test_a_mistake_is_one_clear_message(verb, words, said):
    assert said in verb(*words, ok=False)


def test_without_a_running_stack_the_verb_says_how_to_start_one(tmp_path):
    command = [sys.executable, "-m", "fleetpulse", "devices", "settings", "list", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "start one: fleetpulse up" in done.stderr

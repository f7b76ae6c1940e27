"""``bench`` and ``selftest``: open a model file on this device, measure or test it, send the result as ring ``lab``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from device_sdk.clock import SystemClock
from device_sdk.config import Config
from device_sdk.contract import attributes as a
from device_sdk.errors import LabError
from device_sdk.host.facts import hardware_facts
from device_sdk.host.host import Host
from device_sdk.host.tree import Tree
from device_sdk.lab import record
from device_sdk.lab.compare import compare
from device_sdk.lab.measure import IDLE_S, measure
from device_sdk.lab.models import Opened, open_model, random_feed
from device_sdk.lab.report import as_json, report
from device_sdk.monitor import Monitor
from device_sdk.runtimes import runtime_of
from device_sdk.runtimes.adapter import Facts, Label
from device_sdk.selftest import Golden, load_golden
from device_sdk.signals import Signals

Say = Callable[[str], None]
LAB_RING: Final = "lab"


def add_model_options(verb: argparse.ArgumentParser, *, bench: bool) -> None:
    """Add the options of ``bench`` or ``selftest``."""
    verb.add_argument("model", type=Path, help="model file: .onnx, .ort, .tflite or .xml")
    verb.add_argument("--golden", type=Path, required=not bench, help="golden set (.npz) to test it with")
    verb.add_argument("--json", action="store_true", help="print one JSON object instead of words")
    verb.add_argument("--runtime", help="onnxruntime, litert or openvino (default: by the file's ending)")
    verb.add_argument("--provider", help="execution provider or device (default: the runtime's choice)")
    verb.add_argument("--name", help="model name (default: the file's stem)")
    verb.add_argument("--version", help="model version (default: as Monitor.wrap finds it)")
    verb.add_argument("--no-send", action="store_true", help="send nothing to the collector")
    if not bench:
        return
    verb.add_argument("--seconds", type=_positive, default=10.0, help="how long to run it (default 10)")
    verb.add_argument("--threads", type=int, default=0, help="intra-op threads (default: the runtime's choice)")
    verb.add_argument("--idle", type=_positive, default=IDLE_S, help="seconds of rest first where power is metered")
    verb.add_argument("--baseline", type=Path, help="stored bench to compare with (default: in the state directory)")
    verb.add_argument("--save", action="store_true", help="keep this bench as the baseline")
    verb.add_argument("--tolerance", type=_positive, default=0.05, help="how much slower is no regression (0.05)")


def bench(config: Config, chosen: argparse.Namespace, say: Say) -> int:
    """Measure, compare, send; return 1 on a regression or a failed golden set."""
    golden = load_golden(chosen.golden) if chosen.golden else None
    opened = open_model(chosen.model, runtime=chosen.runtime, provider=chosen.provider, threads=chosen.threads)
    feed = _feed(opened, golden)
    facts = _facts(opened, chosen)
    with _lab_monitor(config, chosen) as monitor:
        session = monitor.wrap(opened.session, facts.model, facts.version)
        tested = monitor.selftest(golden, session) if golden is not None else None
        host = Host(config, SystemClock())
        measured = measure(
            lambda: opened.call(session, feed), host, facts.run, seconds=chosen.seconds, idle_s=chosen.idle
        )
        sent = None if chosen.no_send else monitor.flush(min(5.0, config.timeout_s))
    made = record.Bench(
        model=facts.model,
        version=facts.version,
        runtime=facts.runtime,
        runtime_version=facts.runtime_version,
        provider=facts.provider,
        hardware={key: str(value) for key, value in hardware_facts(Tree()).items()},
        load_s=opened.load_s,
        golden=None if tested is None else "pass" if tested.passed else "fail",
        measured=measured,
    )
    path = chosen.baseline or config.state_dir / LAB_RING / made.file_name
    then = record.load(path)
    changes = compare(measured, then.measured, chosen.tolerance) if then is not None else []
    if chosen.save:
        record.save(made, path)
    failed = any(change.worse for change in changes) or (tested is not None and not tested.passed)
    if chosen.json:
        say(json.dumps(as_json(made, changes, failed=failed, sent=sent)))
    else:
        for line in report(made, changes, then, tested):
            say(line)
        say(_closing(path, then is not None, chosen.save, sent, config.metrics_url))
    return 1 if failed else 0


def selftest(config: Config, chosen: argparse.Namespace, say: Say) -> int:
    """Test a model file against its golden set; return 1 when it fails."""
    golden = load_golden(chosen.golden)
    opened = open_model(chosen.model, runtime=chosen.runtime, provider=chosen.provider)
    facts = _facts(opened, chosen)
    with _lab_monitor(config, chosen) as monitor:
        result = monitor.selftest(golden, monitor.wrap(opened.session, facts.model, facts.version))
        if not chosen.no_send:
            monitor.flush(min(5.0, config.timeout_s))
    say(json.dumps(result.as_data()) if chosen.json else str(result))
    return 0 if result.passed else 1


def _facts(opened: Opened, chosen: argparse.Namespace) -> Facts:
    runtime = runtime_of(opened.session)
    if runtime is None:
        raise LabError(f"{chosen.model}: a {type(opened.session).__name__} is no session that the SDK knows")
    return runtime.facts_of(opened.session, Label(chosen.name or "", chosen.version or "", str(chosen.model)))


def _feed(opened: Opened, golden: Golden | None) -> Mapping[str, Any]:
    """Return the golden set's first sample, else random values of the inputs' types and shapes."""
    if golden is not None and golden.inputs:
        return {name: array[:1] for name, array in golden.inputs.items()}
    return random_feed(opened.inputs)


def _lab_monitor(config: Config, chosen: argparse.Namespace) -> Monitor:
    """Return a Monitor of its own: ring ``lab``, its own state beside the program's, counts and latency only."""
    return Monitor(
        endpoint=config.metrics_url.removesuffix("/v1/metrics"),
        token=config.token,
        state_dir=config.state_dir / LAB_RING / "state",
        resource={**dict(config.resource), a.RING: LAB_RING},
        signals=Signals(output="none"),
        enabled=config.enabled and not chosen.no_send,
    )


def _closing(path: Path, compared: bool, saved: bool, sent: bool | None, url: str) -> str:
    kept = f"saved as baseline {path}" if saved else "" if compared else "no baseline yet: --save keeps this one"
    told = {None: "not sent", True: f"sent to {url} as ring {LAB_RING}", False: f"{url} not reached: kept in the spool"}
    return "; ".join(filter(None, (kept, told[sent])))


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: give a number above 0")
    return value

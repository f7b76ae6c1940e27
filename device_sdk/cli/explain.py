"""``explain``: exactly what would leave this device, in words and as bytes; and what a new contract changes."""

from __future__ import annotations

import argparse
import gzip
import json
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from device_sdk._version import __version__
from device_sdk.cli.sample import Sample, take_sample
from device_sdk.config import Config
from device_sdk.contract import CONTRACT_VERSION, EVENTS, INSTRUMENTS, Instrument, Kind
from device_sdk.contract import attributes as a
from device_sdk.contract.export import Effect, changes, exported
from device_sdk.errors import DeviceSdkError
from device_sdk.privacy import allowed_resource

Say = Callable[[str], None]
WIDTH: Final = 100
"""Columns of the answer."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Metrics that answer one question: what for, and what of it stays on the device."""

    title: str
    why: str
    stays: str
    prefixes: tuple[str, ...]


_PARTS: Final = (
    _Part(
        "RUNS", "whether it is fast enough, how often it fails and how, where it was computed",
        "error messages, stacks, file names",
        ("edge.inference.", "edge.model.", "edge.startup.", "edge.pipeline.", "edge.signal."),
    ),
    _Part(
        "INPUTS", "whether the device still sees the world the model was trained on",
        "the inputs, and their sum, minimum and maximum: only counts of buckets leave", ("edge.input.",),
    ),
    _Part(
        "OUTPUTS", "whether the model is as sure as it was, and answers alike",
        "the outputs and every single score: only counts of buckets and classes leave",
        ("edge.output.", "edge.selftest."),
    ),
    _Part(
        "SESSION", "how long it runs without a crash, and how it ended",
        "exception messages, stacks, variables: a crash leaves its type and a hash", ("edge.session.",),
    ),
    _Part(
        "MACHINE", "whether the hardware is well",
        "host name, addresses, users, serial numbers, command lines, paths, other processes",
        ("process.", "system.", "hw.", "edge.host.", "edge.process.", "edge.throttle.", "edge.budget."),
    ),
    _Part("THIS SDK", "whether what arrived is complete, and what watching costs", "nothing", ("edge.",)),
)  # fmt: skip
_LEAVES: Final = {
    Kind.EXPONENTIAL: "buckets", Kind.EXPLICIT: "buckets", Kind.COUNTER: "count", Kind.UP_DOWN: "level",
    Kind.GAUGE: "reading",
}  # fmt: skip
_SIGNS: Final = {Effect.MORE: "+", Effect.LESS: "-", Effect.BREAKS: "!"}
_ORIGIN: Final = {
    a.INSTALLATION_ID: "random; delete installation.json to become a new device",
    a.SERVICE_INSTANCE_ID: "random, new at every start",
    a.BOOT_ID: "keyed hash of the kernel's boot id; the key stays here",
    a.SETTINGS_ID: "hash of the settings",
    a.DEVICE_ID: "given as device_id",
    a.IDENTITY_ROTATION: "seconds until this device becomes another",
}


def add_explain_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``explain`` to its parser."""
    parser.add_argument("--signals", type=Path, metavar="FILE", help="what to watch, a .signals.toml file")
    parser.add_argument("--model", type=Path, metavar="FILE", help="an ONNX model to run with synthetic inputs")
    parser.add_argument("--hex", action="store_true", help="print the bytes of the window")
    parser.add_argument("--bytes", type=Path, metavar="FILE", help="write the bytes of the window")
    parser.add_argument("--contract", action="store_true", help="print the contract as JSON, to keep and compare")
    parser.add_argument("--diff", type=Path, metavar="OLD", help="say what changed since a contract that was kept")


def explain(config: Config, say: Say, chosen: argparse.Namespace) -> int:
    """Say what one window and the events of a session of this device are made of, by the options ``chosen``."""
    try:
        sample = take_sample(config, chosen.signals, chosen.model)
        if chosen.bytes is not None:
            chosen.bytes.write_bytes(sample.window)
    except (DeviceSdkError, OSError) as error:
        say(f"explain: {error}")
        return 1
    window, logs = _parsed(sample)
    say(f"What leaves this device: contract version {CONTRACT_VERSION}, SDK {__version__}.")
    say("Measured values are synthetic; all else is this device's own, read back from the bytes to be sent.")
    _say_where(config, say)
    _say_resource(config, window, sample, say)
    _say_metrics(window, say)
    _say_texts(window, say)
    _say_events(logs, say)
    _say_bytes(config, sample, say)
    if chosen.bytes is not None:
        say(f"  written      {chosen.bytes} (a protobuf ExportMetricsServiceRequest)")
    if not chosen.hex:
        say("  see them     --hex prints them, --bytes FILE writes them")
        return 0
    for line in _hex(sample.window):
        say(line)
    return 0


def explain_difference(old: Path, say: Say) -> int:
    """Say how this contract differs from an exported one; return 1 when a receiver of the old one would misread it."""
    try:
        found = changes(json.loads(old.read_text(encoding="utf-8")), exported())
    except (OSError, ValueError) as error:
        say(f"--diff {old}: {error}; give a file that `explain --contract` wrote")
        return 2
    headings = {
        Effect.MORE: "Leaves in addition:",
        Effect.LESS: "Leaves no longer:",
        Effect.BREAKS: "Changed under the same name (a receiver of the old contract would misread it):",
    }
    for effect, heading in headings.items():
        texts = [change.text for change in found if change.effect is effect]
        if texts:
            say(heading)
            for text in texts:
                _say_wrapped(say, f"  {_SIGNS[effect]}", text, 4)
    if not found:
        say(f"No difference: the same leaves as under {old}.")
    return 1 if any(change.effect is Effect.BREAKS for change in found) else 0


def _parsed(sample: Sample) -> tuple[Any, list[Any]]:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    window = ExportMetricsServiceRequest.FromString(sample.window)
    return window, [ExportLogsServiceRequest.FromString(body) for body in sample.events]


def _say_where(config: Config, say: Say) -> None:
    policy = config.privacy
    own = []
    if policy.min_count > 1:
        own.append(f"at least {policy.min_count} observations a distribution")
    if policy.reports_max is not None:
        own.append(f"at most {policy.reports_max} observations a distribution and window")
    if policy.epsilon is not None:
        own.append(f"each randomised with epsilon {policy.epsilon:g}, at most {policy.epsilon_day:g} a day")
    if policy.rotation_s:
        own.append(f"a new identity every {policy.rotation_s / 3600:g} h")
    say("")
    say(f"  to           {config.metrics_url}, {config.logs_url.rpartition('/v1')[1]}/logs")
    state = "on" if config.enabled else "OFF: nothing is recorded or sent"
    if config.enabled and config.consent is not None:
        state += ", with the user's consent" if config.consent else ", but nothing is recorded before the user consents"
    every = f"a window every {config.window_ns / 1e9:g} s, events as they happen"
    _say_wrapped(say, "  when        ", f"{every}; the SDK is {state}")
    say(f"  waits in     {config.state_dir}")
    _say_wrapped(say, "  privacy     ", "; ".join(own) or "the closed contract alone; no further rule is on")


def _say_resource(config: Config, window: Any, sample: Sample, say: Say) -> None:
    say("")
    say("WITH EVERYTHING: who and what this device is")
    for pair in window.resource_metrics[0].resource.attributes:
        origin = _ORIGIN.get(pair.key, "")
        if pair.key == a.INSTALLATION_ID and not sample.own_identity:
            origin = "an example: the real one is made at the first start"
        _say_wrapped(say, f"  {pair.key:30}", f"{_value(pair.value)}{'   (' + origin + ')' if origin else ''}", 33)
    _, _, refused = allowed_resource(config.resource)
    if refused:
        _say_wrapped(say, "  stays here:", f"{', '.join(refused)}: given as resource attributes, not in the contract")


def _say_metrics(window: Any, say: Say) -> None:
    sent: dict[str, int] = {}
    for resource in window.resource_metrics:
        for metric in resource.scope_metrics[0].metrics:
            sent[metric.name] = len(getattr(metric, metric.WhichOneof("data")).data_points)
    left = {row.name: row for row in INSTRUMENTS if not row.reserved}
    for part in _PARTS:
        rows = [row for name, row in left.items() if name.startswith(part.prefixes)]
        left = {name: row for name, row in left.items() if not name.startswith(part.prefixes)}
        if not rows:
            continue
        say("")
        _say_wrapped(say, f"{part.title}: shows", part.why + ".", 4)
        _say_wrapped(say, "    Stays here:", part.stays + ".", 4)
        for row in rows:
            if row.name in sent:
                _say_row(row, sent[row.name], say)
        absent = [row.name for row in rows if row.name not in sent]
        if absent:
            _say_wrapped(say, "  when there is something to say:", ", ".join(absent), 4)


def _say_row(row: Instrument, series: int, say: Say) -> None:
    leaves = f"{series} x {_LEAVES[row.kind]}" + (", sum" if row.summed else "")
    _say_wrapped(say, f"  {row.name:28} {leaves:16}", row.meaning, 48)


def _say_texts(window: Any, say: Say) -> None:
    """Say every text in the points: names that somebody chose, and words of closed lists."""
    found: dict[str, dict[str, None]] = {}
    for resource in window.resource_metrics:
        for metric in resource.scope_metrics[0].metrics:
            for point in getattr(metric, metric.WhichOneof("data")).data_points:
                for pair in point.attributes:
                    found.setdefault(pair.key, {})[_value(pair.value)] = None
    say("")
    say("EVERY WORD IN THAT WINDOW: names given to models, features and classes, and closed lists")
    for key, values in sorted(found.items()):
        _say_wrapped(say, f"  {key:30}", ", ".join(values), 33)


def _say_events(logs: Iterable[Any], say: Say) -> None:
    say("")
    say("EVENTS of a session that starts, loads a model and ends")
    seen: dict[str, str] = {}
    for request in logs:
        for resource in request.resource_logs:
            for record in resource.scope_logs[0].log_records:
                told = ", ".join(f"{pair.key}={_value(pair.value)}" for pair in record.attributes)
                seen.setdefault(record.event_name, told)
    for name, told in seen.items():
        _say_wrapped(say, f"  {name}:", told, 4)
    others = [event.name for event in EVENTS if not event.reserved and event.name not in seen]
    _say_wrapped(say, "  when it happens:", ", ".join(others), 4)


def _say_bytes(config: Config, sample: Sample, say: Say) -> None:
    small = len(gzip.compress(sample.window, compresslevel=1, mtime=0))
    a_day = small * 86_400e9 / config.window_ns
    say("")
    say("BYTES")
    say(f"  a window     {len(sample.window):,} as built, {small:,} on the network (gzip)")
    say(f"  a day        about {a_day / 1e6:,.1f} MB of full windows, headers apart; an idle device sends less")


def _hex(data: bytes) -> Iterable[str]:
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"  {at:06x}  {row.hex(' '):47}  {shown}"


def _value(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return " ".join(_value(item) for item in value.array_value.values)
    plain = getattr(value, kind)
    return f"{plain:g}" if kind == "double_value" else str(plain).lower() if kind == "bool_value" else str(plain)


def _say_wrapped(say: Say, head: str, text: str, indent: int = 15) -> None:
    lines = textwrap.wrap(f"{head} {text}", WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)
    for line in lines:
        say(line)


def export_contract(say: Say) -> int:
    """Print the contract as JSON, to be kept and compared with a later one."""
    say(json.dumps(exported(), indent=1, sort_keys=True))
    return 0

"""``python -m device_sdk``: see what the SDK would do on this device, without an inference.

``doctor`` checks settings, state directory and collector; ``explain`` lists everything that may leave the device;
``spool`` says what waits. Exit status 0: fine, 1: something needs attention, 2: wrong usage.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from device_sdk._version import __version__
from device_sdk.clock import SystemClock
from device_sdk.config import Config, resolve
from device_sdk.contract.document import contract_document
from device_sdk.errors import DeviceSdkError
from device_sdk.privacy import allowed_resource
from device_sdk.spool import METRICS, scan_segment
from device_sdk.state import StateDir
from device_sdk.transport import MISCONFIGURED, Answer, HttpTransport

Say = Callable[[str], None]


def main(arguments: Sequence[str] | None = None, say: Say = print) -> int:
    """Run one verb and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m device_sdk", description="FleetPulse device SDK " + __version__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, summary in (
        ("doctor", "check settings, state directory and collector"),
        ("explain", "list everything that may leave this device"),
        ("spool", "say what waits to be sent"),
    ):
        verb = verbs.add_parser(name, help=summary)
        if name != "explain":
            verb.add_argument("--state-dir", help="state directory (default: as Monitor would choose)")
        if name == "doctor":
            verb.add_argument("--endpoint", help="collector address (default: as Monitor would choose)")
    chosen = parser.parse_args(arguments)
    if chosen.verb == "explain":
        say(contract_document().rstrip())
        return 0
    try:
        config = resolve(state_dir=chosen.state_dir, endpoint=getattr(chosen, "endpoint", None))
    except DeviceSdkError as error:
        say(f"settings   BAD   {error}")
        return 1
    return doctor(config, say) if chosen.verb == "doctor" else spool(config.state_dir, say)


def doctor(config: Config, say: Say) -> int:
    """Check each part and say what to do about what is wrong; return 1 when something is."""
    clock = SystemClock()
    _kept, _refused, keys = allowed_resource(config.resource)
    mode = "durable" if config.durable else "memory"
    say(f"settings   ok    {config.metrics_url}, window {config.window_ns / 1e9:g} s, spool {mode}")
    fine = True
    if keys:
        say(f"resource   note  not sent: {', '.join(keys)}; the contract's keys are in `explain`")
    say(f"clock      ok    source {clock.source}")
    fine &= _check_state(config.state_dir, say)
    fine &= _check_collector(config, say)
    return 0 if fine else 1


def _check_state(path: Path, say: Say) -> bool:
    try:
        state = StateDir.open(path)
        state.release()
        with tempfile.TemporaryFile(dir=path):
            pass
    except DeviceSdkError as error:
        say(f"state_dir  note  {error}")
        return True
    except OSError as error:
        say(f"state_dir  BAD   {path}: {error.strerror}; no crash can be found, make state_dir= a writable directory")
        return False
    say(f"state_dir  ok    {path}")
    return True


def _check_collector(config: Config, say: Say) -> bool:
    headers = {"Content-Type": "application/x-protobuf", **dict(config.headers)}
    if config.token:
        headers["Authorization"] = f"Bearer {config.token}"
    transport = HttpTransport(certificate=config.certificate)
    answer: Answer = transport.post(config.metrics_url, b"", headers, min(5.0, config.timeout_s))
    transport.close()
    if 200 <= answer.status < 300:
        say(f"collector  ok    {config.metrics_url} takes OTLP")
        return True
    if answer.status in MISCONFIGURED:
        say(f"collector  BAD   {config.metrics_url} answers {answer.status}; check token= and endpoint=")
    elif answer.status:
        say(f"collector  BAD   {config.metrics_url} answers {answer.status} to an empty request; is it an OTLP server?")
    else:
        say(f"collector  BAD   {config.metrics_url}: {answer.error}; start the collector or correct endpoint=")
    return False


def spool(state_dir: Path, say: Say) -> int:
    """Say what waits on disk; reads only, so it may run beside a Monitor."""
    directory = state_dir / "spool"
    paths = sorted(directory.glob("*.seg")) + sorted(directory.glob("*.open"))
    bad = sorted((directory / "bad").glob("*.bad"))
    windows = events = size = damaged = 0
    for path in paths:
        try:
            found, broken = scan_segment(path)
            size += path.stat().st_size
        except (OSError, DeviceSdkError) as error:
            say(f"{path}: {error}")
            damaged += 1
            continue
        windows += sum(kind == METRICS for kind, _, _ in found)
        events += sum(kind != METRICS for kind, _, _ in found)
        damaged += broken
    say(f"{directory}: {len(paths)} files, {size} bytes, {windows} windows and {events} events wait")
    if damaged or bad:
        say(f"{damaged} damaged records, {len(bad)} files set aside in {directory / 'bad'}")
    return 1 if damaged or bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""``doctor``: check each part of a Monitor's world on this device and say what to do about what is wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from device_sdk.clock import SystemClock
from device_sdk.config import Config
from device_sdk.credentials import Credentials
from device_sdk.errors import DeviceSdkError
from device_sdk.host.host import Host
from device_sdk.lifecycle.state import StateDir
from device_sdk.points import Points
from device_sdk.privacy import allowed_resource
from device_sdk.reach import Reach
from device_sdk.sending.transport import MISCONFIGURED, Answer, HttpTransport

Say = Callable[[str], None]


def doctor(config: Config, say: Say) -> int:
    """Check each part and say what to do about what is wrong; return 1 when something is."""
    clock = SystemClock()
    _kept, _refused, keys = allowed_resource(config.resource)
    mode = "durable" if config.durable else "memory"
    say(f"settings   ok    {config.metrics_url}, window {config.window_ns / 1e9:g} s, spool {mode}")
    fine = True
    if config.token:
        say(f"token      ok    from {config.token_file or 'the argument or environment'}")
    if keys:
        say(f"resource   note  not sent: {', '.join(keys)}; the contract's keys are in `explain`")
    if config.remote.followed:
        say(f"remote     ok    settings are followed; {_reach(config.remote.ceiling)} at most")
    say(f"clock      ok    source {clock.source}")
    fine &= _check_state(config.state_dir, say)
    _say_host(config, clock, say)
    fine &= _check_collector(config, say)
    return 0 if fine else 1


def _say_host(config: Config, clock: SystemClock, say: Say) -> None:
    """Say what the machine tells, and what it would tell to a program with more rights."""
    host = Host(config, clock)
    host.sample({})
    points = Points()
    host.emit(points)
    hardware = sorted(name for name in points.by_metric if name.startswith("hw."))
    say(f"host       ok    {', '.join(hardware) or 'nothing of its hardware is readable here'}")
    if host.refused:
        say(f"host       note  not readable without more rights: {', '.join(host.refused[:4])}")


def _reach(reach: Reach) -> str:
    level, every = reach.level, reach.sample_every
    return f"a window of {reach.window_ns / 1e9:g} s, signal level {level}, tensors of one run in {every}"


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
    headers |= Credentials(config.token, config.token_file).headers()
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

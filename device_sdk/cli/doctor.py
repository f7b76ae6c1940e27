"""``doctor``: check each part of a Monitor's world on this device and say what to do about what is wrong."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from device_sdk.clock import Clock, SystemClock
from device_sdk.config import ENV_PREFIX, Config
from device_sdk.contract.attributes import ClockSource
from device_sdk.credentials import Credentials
from device_sdk.errors import DeviceSdkError
from device_sdk.host.host import Host
from device_sdk.lifecycle.state import StateDir
from device_sdk.points import Points
from device_sdk.privacy import allowed_resource
from device_sdk.reach import Reach
from device_sdk.sending.transport import MISCONFIGURED, Answer, HttpTransport

Say = Callable[[str], None]
WRITTEN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def doctor(config: Config, say: Say, clock: Clock | None = None) -> int:
    """Check each part and say what to do about what is wrong; return 1 when something is."""
    clock = clock or SystemClock()
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
    fine &= _check_clock(clock, say)
    fine &= _check_state(config.state_dir, say)
    fine &= _check_disk(config, say)
    _check_permissions(config.state_dir, say)
    _say_runtimes(say)
    _say_host(config, clock, say)
    fine &= _check_collector(config, say)
    return 0 if fine else 1


def _check_clock(clock: Clock, say: Say) -> bool:
    """Say who sets the clock; one before this software was written is wrong, which TLS will not forgive."""
    now = dt.datetime.fromtimestamp(clock.wall_ns() / 1e9, dt.UTC)
    if now < WRITTEN:
        say(f"clock      BAD   it is not {now:%Y-%m-%d}: set it; event times are corrected, but TLS will not connect")
        return False
    word = "ok  " if clock.source != ClockSource.NONE else "note"
    rest = "" if clock.source != ClockSource.NONE else ": nobody sets it; the collector corrects event times"
    say(f"clock      {word}  {now:%Y-%m-%d %H:%M:%S} UTC, source {clock.source}{rest}")
    return True


def _check_disk(config: Config, say: Say) -> bool:
    """Say whether the spool's budget fits into what the file system of the state directory has left."""
    place = next((path for path in (config.state_dir, *config.state_dir.parents) if path.is_dir()), Path("/"))
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        say(f"disk       BAD   {place}: {error.strerror}")
        return False
    left, most = f"{free / 1e6:.0f} MB left", f"{config.limits.disk_bytes / 1e6:.0f} MB"
    if free < config.limits.disk_bytes:
        say(f"disk       BAD   {left}, the spool may take {most}: free some or set {ENV_PREFIX}SPOOL_BYTES")
        return False
    say(f"disk       ok    {left}, the spool takes at most {most}")
    return True


def _check_permissions(path: Path, say: Say) -> None:
    """Say who else can read the identity and the spool."""
    if os.name != "posix" or not path.is_dir():
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        say(f"rights     note  {path} is open to others ({mode:04o}): chmod 700 keeps the installation's secret")
    else:
        say(f"rights     ok    only its owner reads {path}")


def _say_runtimes(say: Say) -> None:
    """Say which runtimes this environment has."""
    found = []
    for module, package in (
        ("onnxruntime", "onnxruntime"),
        ("ai_edge_litert", "ai-edge-litert"),
        ("openvino", "openvino"),
    ):
        if importlib.util.find_spec(module) is None:
            continue
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "(a vendor's build)"
        found.append(f"{module} {version}")
    if not found:
        say("runtime    note  none of onnxruntime, ai_edge_litert, openvino is here; measure() times anything else")
        return
    say(f"runtime    ok    {', '.join(found)}")


def _say_host(config: Config, clock: Clock, say: Say) -> None:
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

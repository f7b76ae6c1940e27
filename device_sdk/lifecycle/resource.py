"""The resource of a stream: what this device, boot and installation say of themselves with everything they send."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import sys
from functools import cache

from device_sdk._version import __version__
from device_sdk.config import Config
from device_sdk.contract import attributes as a
from device_sdk.privacy import AttributeValue
from device_sdk.reach import Reach

DEFAULT_SERVICE = "edge-inference"


def resource_of(config: Config, given: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Return the resource attributes of this system, who it is (``Identity``) and the stream's own id apart."""
    resource: dict[str, AttributeValue] = {a.SERVICE_NAME: DEFAULT_SERVICE, **_system_facts(), **given}
    resource |= {
        a.SETTINGS_ID: settings_id(config, config.remote.local),
        "telemetry.sdk.name": "fleetpulse-device-sdk",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
    }
    if config.device_id:
        resource[a.DEVICE_ID] = config.device_id
    resource.pop(a.SERVICE_INSTANCE_ID, None)
    return resource


def settings_id(config: Config, reach: Reach) -> str:
    """Return 8 hex digits that change when a setting that shapes the data changes."""
    own: list[object] = [config.durable, config.limits.disk_bytes, bool(config.device_id), __version__, config.budgets]
    shaping = json.dumps([*own, *dataclasses.astuple(reach), *dataclasses.astuple(config.privacy)])
    return hashlib.sha256(shaping.encode()).hexdigest()[:8]


@cache
def _system_facts() -> dict[str, AttributeValue]:
    """Return what kind of system this is; never a host name or an address."""
    os_type = {"win32": "windows", "darwin": "darwin"}.get(sys.platform, sys.platform)
    facts: dict[str, AttributeValue] = {"os.type": os_type}
    machine = platform.machine().lower()
    if machine:
        facts["host.arch"] = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return facts

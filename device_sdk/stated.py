"""Whether the arguments of a Monitor are of the kind they should be: said at construction, where somebody reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Real
from typing import Any, Final

from device_sdk.clock import Clock, SystemClock
from device_sdk.errors import ConfigError
from device_sdk.privacy import is_text

DEVICE_ID_LENGTH_MAX: Final = 128

_TEXT: Final[tuple[Any, str]] = (str, "text")
_PATH: Final[tuple[Any, str]] = ((str, os.PathLike), "a path, as text or a pathlib.Path")
_NUMBER: Final[tuple[Any, str]] = (Real, "a number")
_SWITCH: Final[tuple[Any, str]] = (bool, "True or False")
_MAPPING: Final[tuple[Any, str]] = (Mapping, "a mapping with text as keys, like {'edge.device.tier': 'cam-v2'}")
_KINDS: Final = {
    "endpoint": _TEXT,
    "token": _TEXT,
    "state_dir": _PATH,
    "window_s": _NUMBER,
    "device_id": _TEXT,
    "resource": _MAPPING,
    "enabled": _SWITCH,
    "overhead_budget": _NUMBER,
    "privacy_min_count": _NUMBER,
    "privacy_clip": _NUMBER,
    "privacy_epsilon": _NUMBER,
    "privacy_epsilon_day": _NUMBER,
    "identity_rotation_s": _NUMBER,
    "consent": _SWITCH,
}


def refuse_wrong_kinds(arguments: Mapping[str, object]) -> None:
    """Raise ``ConfigError`` for the first argument that is given and of another kind than it can be."""
    for name, value in arguments.items():
        if value is None or name not in _KINDS:
            continue
        kind, words = _KINDS[name]
        fits = isinstance(value, kind) and not (kind is Real and isinstance(value, bool))
        if fits and kind is Mapping:
            fits = all(isinstance(key, str) for key in value)  # type: ignore[attr-defined]
        if fits and name == "state_dir":
            path = os.fspath(value)  # type: ignore[call-overload]
            fits = isinstance(path, str) and path != "" and "\0" not in path
        if not fits:
            shown = type(value).__name__ if name == "token" else f"{value!r:.80}"
            raise ConfigError(f"{name}={shown}: give {words}")


def clock_of(stated: Clock | None) -> Clock:
    """Return the clock to use, the machine's when none is given; raise ``ConfigError`` for what is no clock."""
    if stated is None:
        return SystemClock()
    if any(not hasattr(stated, name) for name in ("manual", "perf_ns", "boot_ns", "wall_ns", "boot_id")):
        raise ConfigError(f"clock={stated!r:.80}: give a clock, like device_sdk.testing.ManualClock")
    return stated


def device_id_of(stated: str | None) -> str | None:
    """Return a device id, None for an empty one; raise ``ConfigError`` for one that cannot travel."""
    if stated and (len(stated) > DEVICE_ID_LENGTH_MAX or not is_text(stated)):
        what = f"{len(stated)} characters"
        raise ConfigError(f"device_id={stated[:40]!r} ({what}): give 1 to {DEVICE_ID_LENGTH_MAX} characters of UTF-8")
    return stated or None

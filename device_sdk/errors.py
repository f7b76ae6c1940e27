"""Errors of the SDK, and the guard that keeps its faults out of the host program.

Construction and declarations raise ``DeviceSdkError`` leaves, because the developer is there to read them. Everything
after that runs in somebody else's program: a fault of the SDK is swallowed, counted, and logged at most once a minute.
Under test (``FLEETPULSE_DEVICE_RAISE=1`` or ``raise_swallowed(True)``) the same guard lets the fault through.
"""

from __future__ import annotations

import difflib
import logging
import os
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from device_sdk.locks import SafeLock

logger = logging.getLogger("device_sdk")

_LOG_INTERVAL_S = 60.0


class DeviceSdkError(Exception):
    """Root of every error the SDK raises; the message says what, the value, and how to fix it."""


class ConfigError(DeviceSdkError, ValueError):
    """An argument or environment variable of ``Monitor`` has an unknown name or an impossible value."""


class ModelNameError(DeviceSdkError, ValueError):
    """The session does not say which model it runs and the caller did not say it either."""


class SignalsError(DeviceSdkError, ValueError):
    """A signals declaration (in code or in ``<model>.signals.toml``) is not usable."""


class GoldenError(DeviceSdkError, ValueError):
    """A golden set (arrays, tolerances, waivers) is not usable."""


class LabError(DeviceSdkError, RuntimeError):
    """A model file cannot be opened or run by itself on this device."""


class StateDirError(DeviceSdkError, RuntimeError):
    """Another Monitor already holds this state directory."""


class SpoolFormatError(DeviceSdkError, ValueError):
    """A spool segment is not one of ours or is of a newer version."""


class _Guarding:
    """State of the guard: one for the process, because log lines are rationed for the whole process."""

    def __init__(self) -> None:
        self.lock = SafeLock()
        self.reraise = os.environ.get("FLEETPULSE_DEVICE_RAISE") == "1"
        self.count = 0
        self.next_log_s = 0.0


_guarding = _Guarding()


def raise_swallowed(value: bool) -> None:
    """Let the guard re-raise what it would swallow (for tests) or swallow again."""
    _guarding.reraise = value


def swallowed_count() -> int:
    """Return how many faults of the SDK this process has swallowed."""
    return _guarding.count


def log_rationed(level: int, message: str, *args: object) -> None:
    """Log one line, at most one a minute for the whole SDK; what falls inside the minute is dropped."""
    now = time.monotonic()
    with _guarding.lock:
        if now < _guarding.next_log_s:
            return
        _guarding.next_log_s = now + _LOG_INTERVAL_S
    logger.log(level, message, *args)


def swallow(where: str, error: BaseException) -> None:
    """Count a fault of the SDK in ``where``; re-raise it only under test."""
    with _guarding.lock:
        _guarding.count += 1
    if _guarding.reraise:
        raise error
    log_rationed(logging.WARNING, "%s failed and was skipped: %s: %s", where, type(error).__name__, error)


class Guard:
    """Context manager: an ``Exception`` inside is swallowed and counted, anything else passes."""

    __slots__ = ("_where",)

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        if _guarding.reraise:
            return False
        swallow(self._where, error)
        return True


def guard(where: str) -> Guard:
    """Return the guard for a boundary named ``where``: faults inside are swallowed, counted, logged once a minute."""
    return Guard(where)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the known word nearest to ``word``, or the list of all known ones."""
    words = sorted(str(item) for item in known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known are " + ", ".join(words)

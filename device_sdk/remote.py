"""Remote settings: heard of in export answers, fetched when their id changes, applied at a window's border.

Nothing that arrives is believed before it is checked: the size is bounded, the bytes must hash to the id, and every
entry is judged by the device's own policy. What cannot be used changes nothing and is asked for again later and later.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from device_sdk.contract import attributes as a
from device_sdk.contract import settings as wire
from device_sdk.contract.attributes import SignalLevel
from device_sdk.errors import log_rationed
from device_sdk.points import EventAttributes
from device_sdk.reach import Reach, RemotePolicy
from device_sdk.reading_files import read_regular
from device_sdk.sending.transport import Answer

FETCH_EVERY_S: Final = 300.0
"""Least time between two fetches, however often the id changes."""
RETRY_MAX_S: Final = 6 * 3600.0
_FILE: Final = "settings.json"
_ID: Final = re.compile(rf"[0-9a-f]{{{wire.ID_LENGTH}}}")
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Applied:
    """Settings as they are in force: the document's id ('' for none), where it came from, and what was refused."""

    version: str
    source: str
    reach: Reach
    refused: tuple[str, ...]

    def event(self) -> EventAttributes:
        """Return what ``edge.settings.applied`` says of them, the id of all settings together apart."""
        told: EventAttributes = [
            (a.SETTINGS_SOURCE, self.source),
            (a.WINDOW_LENGTH, self.reach.window_ns / 1e9),
            (a.SIGNAL_LEVEL, str(self.reach.level)),
            (a.SAMPLE_EVERY, self.reach.sample_every),
        ]
        if self.version:
            told.append((a.SETTINGS_VERSION, self.version))
        if self.refused:
            told.append((a.SETTINGS_REFUSED, self.refused))
        return told


class Source(Protocol):
    """Where documents come from: the sender."""

    settings_id: str

    def fetch_settings(self, document_id: str, timeout_s: float) -> Answer:
        """Return the answer of ``GET /v1/settings?id=``; never raises for what the network does."""
        ...


class Told(Protocol):
    """Who says that settings changed: the session."""

    def change_settings(self, reach: Reach, told: EventAttributes, at_ns: int, *, warn: bool) -> None:
        """Make windows from ``at_ns`` on under other settings, and say so."""
        ...


class RemoteSettings:
    """The settings of one Monitor. ``follow`` may be called by any thread, ``take`` under the engine's lock."""

    def __init__(self, policy: RemotePolicy, directory: Path | None, now_s: Callable[[], float]) -> None:
        self._policy = policy
        self._file = directory / _FILE if directory is not None and policy.followed else None
        self._now_s = now_s
        self._lock = threading.Lock()
        self._next_fetch_s = 0.0
        self._retry_s = FETCH_EVERY_S
        self.applied = Applied("", "default", policy.local, ())
        kept = self._kept()
        self._accepted = kept.version if kept else ""
        self._waiting = deque([kept] if kept else [], maxlen=1)  # its operations are atomic: no lock on the way in

    @property
    def window_ns(self) -> int:
        """The length of the windows from here on."""
        return self.applied.reach.window_ns

    def take(self) -> Applied | None:
        """Return settings that wait for a window's border and put them in force; None when none do."""
        if not self._waiting:
            return None
        self.applied = self._waiting.pop()
        return self.applied

    def turn(self, govern: Callable[[SignalLevel, int], None], session: Told, at_ns: int) -> None:
        """At a window's border ``at_ns``: let settings that wait govern from here on, and let the session tell."""
        settings = self.take()
        if settings is not None:
            govern(settings.reach.level, settings.reach.sample_every)
            session.change_settings(settings.reach, settings.event(), at_ns, warn=bool(settings.refused))

    def disown(self) -> None:
        """Leave the file to the parent of a forked child, which needs a lock of its own too."""
        self._lock = threading.Lock()
        self._file = None

    def follow(self, source: Source, timeout_s: float) -> None:
        """Fetch the document that the last export answer named, when it is another one and the time has come."""
        if not self._policy.followed or timeout_s <= 0 or not self._lock.acquire(blocking=False):
            return
        try:
            wanted = source.settings_id
            if _ID.fullmatch(wanted) is None or wanted == (self._accepted or wire.NOTHING_ID):
                return
            if wanted == wire.NOTHING_ID:
                self._await(Applied("", "default", self._policy.local, ()), b"")
            elif self._now_s() >= self._next_fetch_s:
                self._fetch(source, wanted, timeout_s)
        finally:
            self._lock.release()

    def _fetch(self, source: Source, wanted: str, timeout_s: float) -> None:
        answer = source.fetch_settings(wanted, timeout_s)
        fits = answer.status == _OK and len(answer.body) <= wire.DOCUMENT_BYTES_MAX
        if fits and wire.document_id(answer.body) == wanted:
            judged = self._judged(answer.body, wanted, "remote")
            if judged is not None:
                self._await(judged, answer.body)
                self._retry_s = FETCH_EVERY_S
                self._next_fetch_s = self._now_s() + FETCH_EVERY_S
                return
        self._next_fetch_s = self._now_s() + self._retry_s
        self._retry_s = min(RETRY_MAX_S, 2 * self._retry_s)
        problem = answer.error or (f"HTTP {answer.status}" if answer.status != _OK else "no usable document")
        log_rationed(logging.WARNING, "remote settings %s were not applied (%s)", wanted, problem)

    def _await(self, settings: Applied, text: bytes) -> None:
        """Let settings wait for the next border, and keep their document for the next start."""
        self._accepted = settings.version
        self._waiting.append(settings)
        self._keep(text)

    def _judged(self, text: bytes, version: str, source: str) -> Applied | None:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(document, dict):
            return None
        reach, refused = self._policy.judge(document)
        return Applied(version, source, reach, refused)

    def _kept(self) -> Applied | None:
        """Return what the session before had fetched, so that a restart neither fetches nor forgets."""
        if self._file is None:
            return None
        try:
            text = read_regular(self._file, wire.DOCUMENT_BYTES_MAX)
        except OSError:
            return None
        return self._judged(text, wire.document_id(text), "file")

    def _keep(self, text: bytes) -> None:
        if self._file is None:
            return
        try:
            temporary = self._file.with_suffix(".tmp")
            if text:
                temporary.write_bytes(text)
                os.replace(temporary, self._file)  # noqa: PTH105
            else:
                self._file.unlink(missing_ok=True)
        except OSError as error:  # a disk that takes nothing: the next start fetches again
            log_rationed(logging.WARNING, "remote settings cannot be kept in %s: %s", self._file, error.strerror)

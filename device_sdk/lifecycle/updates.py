"""Updates of firmware, app, model, runtime or settings: started, and how they ended, also over a restart.

An update under way is written to ``updates.json`` of the state directory before its event is told, so that the next
start can judge it by the version it finds in effect. An update that this process began is judged by the program alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from device_sdk.contract import attributes as a
from device_sdk.contract import events as e
from device_sdk.contract.attributes import UpdatePhase, UpdateTarget
from device_sdk.contract.events import Event
from device_sdk.errors import ConfigError, guard, nearest
from device_sdk.lifecycle.exceptions import exception_name
from device_sdk.lifecycle.state import read_json, write_json
from device_sdk.locks import SafeLock
from device_sdk.points import EventAttributes

PENDING_MAX: Final = 8
"""Most updates under way; one more gives the oldest up as failed."""
STARTS_MAX: Final = 20
"""Starts after which an update whose outcome nobody could tell has failed."""
_DURATION_MAX_NS: Final = 30 * 86_400_000_000_000
_NOTHING_REPLACED: Final = (None, UpdatePhase.DOWNLOAD, UpdatePhase.VERIFY)

Emit = Callable[[Event, EventAttributes], None]


@dataclass(frozen=True, slots=True)
class Pending:
    """An update under way, as it is kept on disk; ``session`` is the stream that began or resumed it."""

    id: str
    target: UpdateTarget
    from_version: str
    to_version: str
    session: str
    started_ns: int
    phase: UpdatePhase | None = None
    name: str = ""
    artifact_hash: str = ""
    deployment_id: str = ""
    confirm: bool = False
    starts: int = 0

    def attributes(self) -> EventAttributes:
        """Return the attributes that all events of this update share."""
        named = {UpdateTarget.MODEL: a.MODEL_NAME, UpdateTarget.RUNTIME: a.RUNTIME_NAME}.get(self.target)
        optional = (
            (a.UPDATE_PHASE, str(self.phase) if self.phase is not None else ""),
            (a.ARTIFACT_HASH, self.artifact_hash),
            (a.DEPLOYMENT_ID, self.deployment_id),
            (named or "", self.name if named else ""),
        )
        return [
            (a.UPDATE_ID, self.id),
            (a.UPDATE_TARGET, str(self.target)),
            (a.UPDATE_FROM, self.from_version),
            (a.UPDATE_TO, self.to_version),
            *((key, value) for key, value in optional if value),
        ]


class UpdateLog:
    """The updates under way of one Monitor; thread-safe."""

    def __init__(self, directory: Path | None, now_ns: Callable[[], int]) -> None:
        self._file = directory / "updates.json" if directory is not None else None
        self._now_ns = now_ns
        self._lock = SafeLock()
        self.session = ""
        self._pending: list[Pending] = []
        if self._file is not None:
            with guard("reading updates under way"):
                kept = read_json(self._file).get("pending")
                listed = kept[:PENDING_MAX] if isinstance(kept, list) else []
                found = [one for stored in listed if (one := _pending_of(stored)) is not None]
                self._pending = [replace(one, starts=one.starts + 1) for one in found]

    def explains_end_of(self, session: str, in_effect: dict[UpdateTarget, str]) -> bool:
        """Say whether a session ended for its update: that waited for the restart, or its version is in effect now."""
        return any(
            one.phase is UpdatePhase.BOOT or in_effect.get(one.target) == one.to_version
            for one in self._pending
            if one.session == session
        )

    def start(self, begun: Pending, emit: Emit) -> Pending:
        """Keep and tell of an update; one that an earlier session left under way is resumed without another event."""
        with self._lock:
            for one in self._pending:
                same = (one.target, one.name, one.from_version, one.to_version)
                if same == (begun.target, begun.name, begun.from_version, begun.to_version):
                    resumed = replace(one, session=self.session, phase=begun.phase or one.phase)
                    self._put(resumed, self._pending)
                    return resumed
            rivals = [one for one in self._pending if (one.target, one.name) == (begun.target, begun.name)]
            rivals = rivals or self._pending[: max(0, len(self._pending) + 1 - PENDING_MAX)]
            begun = replace(begun, session=self.session, started_ns=self._now_ns())
            self._put(begun, [one for one in self._pending if one not in rivals])
        for one in rivals:
            self._tell(e.UPDATE_FAILED, one, "superseded", emit)
        emit(e.UPDATE_STARTED, begun.attributes())
        return begun

    def advance(self, update_id: str, phase: UpdatePhase) -> None:
        """Note how far an update came."""
        with self._lock:
            for one in self._pending:
                if one.id == update_id:
                    self._put(replace(one, phase=phase), self._pending)
                    return

    def settle(self, update_id: str, event: Event, error_type: str, phase: UpdatePhase | None, emit: Emit) -> None:
        """Tell how an update ended, once."""
        with self._lock:
            ended = next((one for one in self._pending if one.id == update_id), None)
            if ended is None:
                return
            self._pending = [one for one in self._pending if one.id != update_id]
            self._save()
        self._tell(event, replace(ended, phase=phase or ended.phase), error_type, emit)

    def judge(self, target: UpdateTarget, version: str, emit: Emit, name: str = "") -> None:
        """Tell how updates of ``target`` that an earlier session left under way ended, now that ``version`` runs."""
        for one in list(self._pending):
            if one.target is target and one.session != self.session and one.name in ("", name):
                outcome = _outcome(one, version)
                if outcome is not None:
                    self.settle(one.id, outcome[0], outcome[1], None, emit)

    def expire(self, emit: Emit) -> None:
        """Give up updates whose outcome could not be told in many starts."""
        for one in list(self._pending):
            if one.starts > STARTS_MAX:
                self.settle(one.id, e.UPDATE_FAILED, "no_outcome", None, emit)
        with self._lock:
            if any(one.starts for one in self._pending):
                self._save()

    def disown(self) -> None:
        """Leave the file to whoever comes next: the parent of a forked child, the next start after a close."""
        self._lock, self._file, self._pending = SafeLock(), None, []

    def _put(self, changed: Pending, among: Iterable[Pending]) -> None:
        self._pending = [*(one for one in among if one.id != changed.id), changed]
        self._save()

    def _save(self) -> None:
        if self._file is not None:
            with guard("keeping updates under way"):
                write_json(self._file, {"pending": [asdict(one) for one in self._pending]})

    def _tell(self, event: Event, ended: Pending, error_type: str, emit: Emit) -> None:
        attributes = ended.attributes()
        duration_ns = self._now_ns() - ended.started_ns
        if 0 <= duration_ns <= _DURATION_MAX_NS:  # else the clock of the boot it began in was another one
            attributes.append((a.UPDATE_DURATION, duration_ns / 1e9))
        attributes.append((a.DEPLOYMENT_STATUS, "succeeded" if event is e.UPDATE_SUCCEEDED else "failed"))
        if error_type:
            attributes.append((a.ERROR_TYPE, error_type[: a.VALUE_LENGTH_MAX]))
        emit(event, attributes)


def _outcome(one: Pending, version: str) -> tuple[Event, str] | None:
    """Return how an update ended when ``version`` runs after a restart, None when that is for the program to say."""
    if version == one.to_version:
        return None if one.confirm else (e.UPDATE_SUCCEEDED, "")
    if version == one.from_version:
        return (e.UPDATE_FAILED, "interrupted") if one.phase in _NOTHING_REPLACED else (e.UPDATE_ROLLED_BACK, "")
    return e.UPDATE_FAILED, "other_version"


class Update:
    """An update under way; what ``Monitor.update`` returns.

    Say how it ended by ``succeeded``, ``failed`` or ``rolled_back``, once, or use it in ``with``: an exception means
    failed, the end of the block succeeded. A block left by ``SystemExit``, or in phase ``boot``, ends nothing: the next
    start judges by the version it finds.
    """

    def __init__(self, log: UpdateLog, begun: Pending, emit: Emit) -> None:
        self._log = log
        self._emit = emit
        self._id = begun.id
        self._phase = begun.phase

    @property
    def id(self) -> str:
        """The update's id, the same after a restart."""
        return self._id

    def phase(self, phase: str) -> None:
        """Note how far it came: ``download``, ``verify``, ``install``, ``boot`` (waits for a restart), ``selftest``."""
        with guard("noting the phase of an update"):
            self._phase = phase_of(phase)
            self._log.advance(self._id, self._phase)

    def succeeded(self) -> None:
        """Tell that the new version runs."""
        self._settle(e.UPDATE_SUCCEEDED, "", None)

    def failed(self, error_type: str, phase: str | None = None) -> None:
        """Tell that it did not come to its end; ``error_type`` is a word of the updater's own, never a message."""
        self._settle(e.UPDATE_FAILED, error_type, phase)

    def rolled_back(self, error_type: str = "", phase: str | None = None) -> None:
        """Tell that the version before it runs again."""
        self._settle(e.UPDATE_ROLLED_BACK, error_type, phase)

    def _settle(self, event: Event, error_type: str, phase: str | None) -> None:
        with guard("telling how an update ended"):
            known = phase_of(phase) if phase is not None else None
            self._log.settle(self._id, event, str(error_type), known, self._emit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._phase is UpdatePhase.BOOT or isinstance(error, SystemExit):
            return
        if error is None:
            self.succeeded()
        else:
            self.failed(exception_name(type(error)))


class Untold(Update):
    """What ``Monitor.update`` returns when the Monitor is disabled."""

    def __init__(self) -> None:
        begun = new_pending("app", "", "")
        super().__init__(UpdateLog(None, lambda: 0), begun, lambda _event, _attributes: None)


def new_pending(
    target: str,
    from_version: object,
    to_version: object,
    *,
    name: str = "",
    phase: str | None = None,
    update_id: str | None = None,
    artifact_hash: str = "",
    deployment_id: str = "",
    confirm: bool = False,
) -> Pending:
    """Return an update that is about to begin; raise ``ConfigError`` for a target or phase that does not exist."""
    try:
        known = UpdateTarget(target)
    except ValueError:
        raise ConfigError(f"update({target!r}): {nearest(str(target), list(UpdateTarget))}") from None
    return Pending(
        id=str(uuid.uuid4() if update_id is None else update_id) or str(uuid.uuid4()),
        target=known,
        from_version=str(from_version),
        to_version=str(to_version),
        session="",
        started_ns=0,
        phase=phase_of(phase) if phase is not None else None,
        name=str(name),
        artifact_hash=str(artifact_hash),
        deployment_id=str(deployment_id),
        confirm=bool(confirm),
    )


def phase_of(phase: str) -> UpdatePhase:
    """Return the phase of that name; raise ``ConfigError`` with the nearest one."""
    try:
        return UpdatePhase(phase)
    except ValueError:
        raise ConfigError(f"phase={phase!r}: {nearest(str(phase), list(UpdatePhase))}") from None


def _pending_of(stored: Any) -> Pending | None:
    try:
        return Pending(
            id=str(stored["id"]),
            target=UpdateTarget(stored["target"]),
            from_version=str(stored["from_version"]),
            to_version=str(stored["to_version"]),
            session=str(stored["session"]),
            started_ns=int(stored["started_ns"]),
            phase=UpdatePhase(stored["phase"]) if stored.get("phase") else None,
            name=str(stored.get("name", "")),
            artifact_hash=str(stored.get("artifact_hash", "")),
            deployment_id=str(stored.get("deployment_id", "")),
            confirm=bool(stored.get("confirm", False)),
            starts=int(stored.get("starts", 0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None

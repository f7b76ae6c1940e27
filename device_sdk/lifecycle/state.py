"""The state directory of one Monitor: who this installation is, which boot this is, and the lock and session mark.

Layout: ``installation.json`` (random id and secret; delete it to become a new device), ``boot.json`` (this boot's clock
anchor), ``session`` (lock and mark of the session that runs or ran last), ``spool/``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from device_sdk.clock import Clock
from device_sdk.errors import StateDirError, log_rationed
from device_sdk.reading_files import read_regular
from device_sdk.writing_files import replace_file

_JSON_BYTES_MAX: Final = 1 << 22
_SESSION_FILE: Final = "session"
_TIME_MAX_NS: Final = (1 << 63) - 1
_held_here: set[str] = set()
_held_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Installation:
    """The random identity of this installation; the secret never leaves the device."""

    installation_id: str
    secret: bytes

    @classmethod
    def new(cls) -> Installation:
        """Make up a new one."""
        return cls(str(uuid.uuid4()), secrets.token_bytes(16))


@dataclass(frozen=True, slots=True)
class Boot:
    """This boot: its pseudonymous id, its number on this installation, and epoch ns minus boot clock, fixed."""

    boot_id: str
    sequence: int
    anchor_ns: int


class StateDir:
    """An open, locked state directory; or with ``path`` None a stand-in that lives in memory only."""

    def __init__(self, path: Path | None, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> StateDir:
        """Lock ``path``, made when missing; raise ``StateDirError`` when a Monitor holds it, else ``OSError``."""
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = str(path.resolve())
        with _held_lock:
            if key in _held_here:
                raise StateDirError(_taken(path, os.getpid()))
            descriptor = os.open(path / _SESSION_FILE, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                _lock(descriptor)
            except OSError:
                os.close(descriptor)
                raise StateDirError(_taken(path, None)) from None
            _held_here.add(key)
        return cls(path.resolve(), descriptor)

    @classmethod
    def memory(cls) -> StateDir:
        """Return a stand-in for a directory that cannot be used; nothing survives the process."""
        return cls(None, None)

    def release(self) -> None:
        """Give the lock back; harmless when done twice."""
        if self._descriptor is None or self.path is None:
            return
        with _held_lock:
            os.close(self._descriptor)
            self._descriptor = None
            _held_here.discard(str(self.path))

    def disown(self) -> None:
        """Forget the directory without unlocking it: a forked child leaves it to its parent."""
        if self._descriptor is not None and self.path is not None:
            os.close(self._descriptor)  # the lock belongs to the open file, which the parent still holds
            _held_here.discard(str(self.path))
        self.path, self._descriptor = None, None

    def read_mark(self) -> bytes:
        """Return the bytes of the session mark, empty when there is none."""
        if self._descriptor is None:
            return b""
        return os.pread(self._descriptor, 1 << 20, 0) if hasattr(os, "pread") else _read_at(self._descriptor)

    def write_mark(self, data: bytes, offset: int) -> None:
        """Overwrite a part of the session mark in place (page cache: survives the process, not a power cut)."""
        if self._descriptor is None:
            return
        if hasattr(os, "pwrite"):
            os.pwrite(self._descriptor, data, offset)
        else:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            os.write(self._descriptor, data)

    def truncate_mark(self) -> None:
        """Forget the session mark."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)

    def installation(self) -> Installation:
        """Return the installation's identity, made on first use."""
        if self.path is None:
            return Installation.new()
        file = self.path / "installation.json"
        stored = read_json(file)
        try:
            return Installation(str(stored["id"]), bytes.fromhex(stored["secret"]))
        except (KeyError, ValueError, TypeError):
            made = Installation.new()
            write_json(file, {"id": made.installation_id, "secret": made.secret.hex()})
            return made

    def boot(self, clock: Clock, installation: Installation) -> Boot:
        """Return this boot; its anchor is fixed by the first session of the boot and kept for the later ones."""
        boot_id = hmac.new(installation.secret, clock.boot_id().encode(), hashlib.sha256).hexdigest()[:16]
        fresh = Boot(boot_id, 0, clock.wall_ns() - clock.boot_ns())
        if self.path is None:
            return fresh
        file = self.path / "boot.json"
        stored = read_json(file)
        try:
            known = Boot(str(stored["id"]), int(stored["sequence"]), int(stored["anchor_ns"]))
        except (KeyError, ValueError, TypeError, OverflowError):
            known = None
        if known is not None and not 0 <= known.anchor_ns + clock.boot_ns() <= _TIME_MAX_NS:
            known = None  # no time that the wire can carry
        if known is not None and known.boot_id == boot_id:
            return known
        boot = Boot(boot_id, known.sequence + 1 if known is not None else 0, fresh.anchor_ns)
        write_json(file, {"id": boot.boot_id, "sequence": boot.sequence, "anchor_ns": boot.anchor_ns})
        return boot


def _renew_lock_after_fork() -> None:
    """Give a forked child its own lock: a thread of the parent's may have held it at the moment of the fork."""
    global _held_lock
    _held_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock_after_fork)


def open_state(path: Path) -> StateDir:
    """Open the state directory; on one that cannot be used go on in memory and say so."""
    try:
        return StateDir.open(path)
    except OSError as error:
        say_unusable(path, error)
        return StateDir.memory()


def say_unusable(path: Path, error: OSError) -> None:
    """Say in the log that a state directory cannot be used, and what that means."""
    log_rationed(
        logging.WARNING, "state_dir %s: %s; this device gets a new identity at every start", path, error.strerror
    )


def _taken(path: Path, pid: int | None) -> str:
    who = f"this process ({pid})" if pid is not None else "another process"
    return f"state_dir {path} is held by a Monitor of {who}: close it, or give each Monitor its own state_dir="


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one when there is none or it cannot be read."""
    try:
        data = json.loads(read_regular(file, _JSON_BYTES_MAX))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def write_json(file: Path, data: dict[str, Any]) -> None:
    """Put an object in the place of what a JSON file holds."""
    replace_file(file, json.dumps(data).encode())


def _read_at(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 1 << 20)


def _lock_posix(descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_windows(descriptor: int) -> None:
    import importlib

    msvcrt = importlib.import_module("msvcrt")
    os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # a byte beyond the mark, which stays readable
    msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)


_lock: Callable[[int], None] = _lock_windows if sys.platform == "win32" else _lock_posix

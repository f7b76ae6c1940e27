"""Signals that end the process without Python: a note by the standard library's faulthandler, read at the next start.

Its handlers are C code that is safe inside a signal, and they hand the signal on to whoever was there before, so that a
process dies exactly as it would have. Two files of the state directory: ``fault`` for SIGSEGV, SIGABRT, SIGBUS, SIGFPE
and SIGILL, ``term`` for a SIGTERM that nobody handles. A program that uses faulthandler itself, or handles SIGTERM
itself, is left alone, also when it begins to later. Handlers are never removed again: to do so would restore what was
there before over whatever was installed since; they are pointed elsewhere instead.
"""

from __future__ import annotations

import faulthandler
import hashlib
import logging
import os
import re
import signal
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Final

from device_sdk.errors import guard, log_rationed
from device_sdk.reading_files import read_regular

_FAULT, _TERM, _LAST = "fault", "term", ".last"
_READ_MAX: Final = 1 << 16
_FRAMES_MAX: Final = 16
_FRAME: Final = re.compile(r'^  File "(.*)", line \S+ in (.+)$', re.MULTILINE)
_CAUSE: Final = re.compile(r"^(?:Fatal Python error|Windows fatal exception): (.*)$", re.MULTILINE)
_SIGNALS: Final = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
    "access violation": "SIGSEGV",
    "stack overflow": "SIGSEGV",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A native crash: the signal's name, and a hash that is the same for the same way to crash."""

    signal_name: str
    signature: str


@dataclass(frozen=True, slots=True)
class FatalSource:
    """Where the notes of one process are: the directory of its first Monitor and that Monitor's stream id."""

    directory: str
    instance_id: str


class _Notes:
    """An open file that closes itself, as faulthandler takes one; bound early, for it may go when the modules have."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        self._descriptor = os.open(path, flags, 0o600)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        try:
            close(self._descriptor)
        except OSError:  # the program has closed what is not its own
            return


class _Watch:
    """What this process has installed. Files belong to faulthandler alone: one that it lets go of is no longer ours."""

    def __init__(self) -> None:
        self.source: FatalSource | None = None
        self.fault: weakref.ref[_Notes] | None = None
        self.term: weakref.ref[_Notes] | None = None


_watch = _Watch()


def watch_fatal_signals(directory: Path | None, instance_id: str) -> FatalSource | None:
    """Let fatal signals be noted in ``directory``; return where the notes of this process are, if anywhere.

    The first Monitor of a process does it; the others point to the same notes.
    """
    if _watch.source is not None or directory is None:
        return _watch.source
    with guard("watching for fatal signals"):
        for name in (_FAULT, _TERM):
            _set_aside(directory / name)
        source = FatalSource(str(directory), instance_id)
        noted = _watch_faults(directory / _FAULT, instance_id)
        noted = _watch_sigterm(directory / _TERM, instance_id) or noted
        _watch.source = source if noted else None
    return _watch.source


def stop_watching(instance_id: str) -> None:
    """Point the handlers elsewhere when the Monitor that installed them ends or the process was forked."""
    source = _watch.source
    if source is None or source.instance_id != instance_id:
        return
    _watch.source = None
    with guard("letting go of fatal signals"):
        if _alive(_watch.fault):
            _enable(_opened(Path(os.devnull)))
        if _alive(_watch.term):
            _register(_opened(Path(os.devnull)))


def survived_bytes() -> int:
    """Return the length of the fault notes so far: a signal noted before a sign of life did not end the process."""
    file = _watch.fault() if _watch.fault is not None else None
    return os.fstat(file.fileno()).st_size if file is not None and _watch.source is not None else 0


def read_fault(source: FatalSource | None, survived: int) -> Fault | None:
    """Return the native crash that ended the process behind ``source``, None when there was none."""
    noted = _notes(source, _FAULT)
    return parse_fault(noted[survived:].decode("utf-8", "replace")) if len(noted) > survived else None


def read_sigterm(source: FatalSource | None) -> bool:
    """Say whether the process behind ``source`` got a SIGTERM that it did not handle."""
    return source is not None and len(_notes(source, _TERM)) > len(_heading(source.instance_id))


def parse_fault(text: str) -> Fault | None:
    """Return the crash that a faulthandler dump tells of: names of files and functions, no paths, lines or values."""
    causes = _CAUSE.findall(text)
    if not causes:
        return None
    name = _SIGNALS.get(causes[-1].strip(), "SIGNAL")
    last = text[text.rindex(causes[-1]) :]
    frames = [f"{PureWindowsPath(file).name}:{function}" for file, function in _FRAME.findall(last)]
    kept = frames[:_FRAMES_MAX][::-1]  # the dump begins with the innermost call
    return Fault(name, hashlib.sha256("|".join([name, *kept]).encode()).hexdigest()[:16])


def _watch_faults(path: Path, instance_id: str) -> bool:
    if faulthandler.is_enabled() and not _alive(_watch.fault):
        said = "faulthandler is this program's own: a native crash stays its to tell, and ends as %r here"
        log_rationed(logging.INFO, said, "unknown")
        return False
    _enable(_opened(path, instance_id))
    return True


def _watch_sigterm(path: Path, instance_id: str) -> bool:
    if not hasattr(faulthandler, "register") or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return False
    _register(_opened(path, instance_id))
    return True


def _enable(file: _Notes) -> None:
    faulthandler.enable(file, all_threads=False)
    _watch.fault = weakref.ref(file)


def _register(file: _Notes) -> None:
    faulthandler.register(signal.SIGTERM, file=file, all_threads=False, chain=True)
    _watch.term = weakref.ref(file)


def _alive(file: weakref.ref[_Notes] | None) -> bool:
    return file is not None and file() is not None


def _opened(path: Path, instance_id: str = "") -> _Notes:
    notes = _Notes(path)
    if instance_id:
        os.write(notes.fileno(), _heading(instance_id))
    return notes


def _heading(instance_id: str) -> bytes:
    return f"{instance_id}\n".encode()


def _set_aside(path: Path) -> None:
    """Keep the notes of the process before this one: other Monitors of that process have yet to read them."""
    if path.exists():
        path.replace(path.with_name(path.name + _LAST))


def _notes(source: FatalSource | None, name: str) -> bytes:
    if source is None:
        return b""
    for file in (Path(source.directory, name), Path(source.directory, name + _LAST)):
        try:
            noted = read_regular(file, _READ_MAX, cut=True)
        except OSError:
            continue
        if noted.startswith(_heading(source.instance_id)):
            return noted
    return b""

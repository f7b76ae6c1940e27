"""The exception that ends the program: the interpreter's hook, chained, and a signature without values."""

from __future__ import annotations

import hashlib
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from device_sdk.errors import guard

_CHAIN_MAX: Final = 8

_listeners: weakref.WeakSet[ExceptionSink] = weakref.WeakSet()
_previous_hook = None
_first_hook = None
_telling = False


class ExceptionSink:
    """Something that wants to know of the exception that ends the program."""

    def exception_ends_program(self, error: BaseException) -> None:
        """Take note of it, quickly."""
        raise NotImplementedError


def listen_for_exceptions(sink: ExceptionSink) -> None:
    """Tell ``sink`` of uncaught exceptions of the main thread; the host's own hook runs afterwards as ever."""
    global _previous_hook, _first_hook
    _listeners.add(sink)
    if sys.excepthook is not _hook:
        _previous_hook = sys.excepthook
        _first_hook = _first_hook or _previous_hook
        sys.excepthook = _hook


def stop_listening(sink: ExceptionSink) -> None:
    """Stop telling ``sink``; the last one out puts the previous hook back unless somebody hooked in after us."""
    _listeners.discard(sink)
    if not _listeners and sys.excepthook is _hook and _previous_hook is not None:
        sys.excepthook = _previous_hook


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    global _telling
    if _telling:  # the previous hook was itself put over ours, and hands the exception on to what it found
        (_first_hook or sys.__excepthook__)(kind, error, trace)
        return
    _telling = True
    try:
        if isinstance(error, kind) and _ends_program(error):
            for sink in list(_listeners):
                with guard("recording an uncaught exception"):
                    sink.exception_ends_program(error)
        (_previous_hook or sys.__excepthook__)(kind, error, trace)
    finally:
        _telling = False


def _ends_program(error: BaseException) -> bool:
    """Say whether the interpreter is about to end: not at a prompt, nor when a thread calls the hook by itself."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)) or hasattr(sys, "ps1") or sys.flags.interactive:
        return False
    return threading.current_thread() is threading.main_thread()


def chain_of(error: BaseException) -> Iterator[tuple[int, set[int]]]:
    """Yield (id, ids of its traceback's parts) of an exception and of those that it came from, at most 8."""
    link: BaseException | None = error
    for _ in range(_CHAIN_MAX):
        if link is None:
            return
        parts, trace = set(), link.__traceback__
        while trace is not None:
            parts.add(id(trace))
            trace = trace.tb_next
        yield id(link), parts
        link = link.__cause__ or link.__context__


def crash_signature(kind: type[BaseException], trace: TracebackType | None) -> str:
    """Return 16 hex digits that are the same for the same way to crash: type, file names and functions, no values."""
    frames = [f"{Path(frame.filename).name}:{frame.name}" for frame in traceback.extract_tb(trace)[-16:]]
    return hashlib.sha256("|".join([exception_name(kind), *frames]).encode()).hexdigest()[:16]


def exception_name(kind: type[BaseException]) -> str:
    """Return the qualified name of an exception's class."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"

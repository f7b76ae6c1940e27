"""Consent at run time: nothing is recorded or written before it is given, what is not sent goes when it is withdrawn.

A session that was wrapped, or a block that is measured, outlives the decision, so each is handed out behind a switch:
before consent and after its withdrawal it is the program's own object, in between the measured one.
"""

from __future__ import annotations

import functools
import inspect
import logging
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, ParamSpec, SupportsIndex, TypeVar, cast

from device_sdk.entered import Entered
from device_sdk.errors import ConfigError, DeviceSdkError, guard, log_rationed
from device_sdk.lifecycle.state import StateDir
from device_sdk.runtimes.callables import Measure

_P = ParamSpec("_P")
_R = TypeVar("_R")
_FILES: Final = (
    "boot.json", "fault", "fault.last", "inflight", "installation.json", "ledger", "settings.json", "spool", "term",
    "term.last", "updates.json",
)  # fmt: skip
"""What a Monitor keeps in its state directory, its lock and the ledger of privacy loss apart."""


class Switch:
    """Behaves as the session behind it: the program's own, or the measured one while there is consent."""

    def __init__(self, session: Any, measured: Callable[[], Any]) -> None:
        own = self.__dict__
        own["_session"] = own["_target"] = session
        own["_measured"] = measured

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.__dict__["_session"])

    def __getattr__(self, name: str) -> Any:
        target = self.__dict__.get("_target")
        if target is None:  # half-made, by copy or pickle
            raise AttributeError(name)
        return getattr(target, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._target, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._target, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call what is behind it, as OpenVINO's compiled models are."""
        return self._target(*args, **kwargs)

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Any:
        """Copy and pickle as the program's own session does: the copy is never measured."""
        return self._session.__reduce_ex__(protocol)

    def __dir__(self) -> list[str]:
        return dir(self._target)

    def __repr__(self) -> str:
        return f"<switch of {self._target!r}>"


class Switches:
    """All switches of one Monitor, held weakly."""

    def __init__(self) -> None:
        self._all: weakref.WeakSet[Switch] = weakref.WeakSet()

    def add(self, session: Any, measured: Callable[[], Any], *, on: bool) -> Switch:
        """Return a session behind a switch; ``measured`` makes what it becomes when it is turned on.

        Raises what ``measured`` raises when it is on from the start.
        """
        switch = Switch(session, measured)
        if on:
            vars(switch)["_target"] = measured()
        self._all.add(switch)
        return switch

    def turn(self, on: bool) -> None:
        """Measure all sessions from here on, or none; one that cannot be measured is said in the log and runs on."""
        for switch in list(self._all):
            own = vars(switch)
            own["_target"] = own["_session"]
            if on:
                with guard("measuring a session after consent"):
                    try:
                        own["_target"] = own["_measured"]()
                    except DeviceSdkError as error:
                        log_rationed(logging.WARNING, "a session is not measured: %s", error)


def asking(switches: Switches | None, name: str) -> Switches:
    """Return the switches of a Monitor that asks for consent; raise ``ConfigError`` for one that does not."""
    if switches is None:
        raise ConfigError(f"{name}(): this Monitor does not ask for consent; make it with consent=False (not yet)")
    return switches


class LaterMeasure:
    """A block or function that asks at every run whether it is measured."""

    def __init__(self, current: Callable[[], Measure]) -> None:
        self._current = current
        self._entered: Entered[Measure] = Entered()

    def __enter__(self) -> object:
        return self._entered.enter(self._current()).__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        measure = self._entered.leave()
        return None if measure is None else measure.__exit__(kind, error, trace)

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return ``function``, measured at every call while there is consent."""
        current: Callable[[], Any] = self._current
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def later(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                return await current()(function)(*args, **kwargs)

            return cast(Callable[_P, _R], later)

        @functools.wraps(function)
        def either(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            return cast(_R, current()(function)(*args, **kwargs))

        return either


def behind(session: object) -> object:
    """Return what a switch stands for at this moment, anything else as it is."""
    return vars(session)["_target"] if type(session) is Switch else session


def discard_state(path: Path) -> None:
    """Delete what a Monitor keeps in its state directory: what waits, the session's marks, and who the device is.

    The ledger of privacy loss stays, or withdrawing consent would renew the budget. Raises ``StateDirError`` when a
    Monitor holds the directory; what cannot be deleted is said in the log.
    """
    if not path.is_dir():
        return
    state = StateDir.open(path)
    try:
        state.truncate_mark()
        for name in _FILES:
            kept = path / name
            try:
                if kept.is_dir() and not kept.is_symlink():
                    shutil.rmtree(kept)
                else:
                    kept.unlink(missing_ok=True)
            except OSError as error:
                log_rationed(logging.WARNING, "%s could not be discarded: %s", kept, error.strerror)
    finally:
        state.release()

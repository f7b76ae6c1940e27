"""Which model a self-test is of: a session that a Monitor has wrapped, or a callable that its caller names."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

from device_sdk.contract import attributes as a
from device_sdk.errors import ConfigError, GoldenError, guard
from device_sdk.points import AttributePairs
from device_sdk.privacy import sendable_names
from device_sdk.runtimes import runtime_of
from device_sdk.runtimes.adapter import Facts, Label, Predict, Runtime
from device_sdk.selftest.golden import Golden, load_golden
from device_sdk.selftest.run import PreProcess
from device_sdk.selftest.standing import EVERY_S_MIN, Subject


class Wrapped:
    """A session that was wrapped; its facts come when its runtime knows them."""

    def __init__(self, runtime: Runtime, session: Any, label: Label) -> None:
        self._runtime = runtime
        self._session: Callable[[], Any] = lambda: session
        self._label = label
        self._measured: weakref.ref[Any] | None = None
        self.facts: Facts | None = None

    @property
    def subject(self) -> Subject:
        """The model under test; made anew each time, because to keep it would keep the session until a collection."""
        return Subject(self.run, self.predictor, self.alive)

    def measured_as(self, measured: Any) -> None:
        """Live as long as ``measured``: who holds a self-test must not keep a session that its host let go of."""
        self._measured = weakref.ref(measured)
        if measured is self._session():
            self._session = self._measured

    def is_of(self, session: object) -> bool:
        """Say whether ``session`` is the program's own."""
        return self._session() is session

    def run(self) -> AttributePairs:
        """Return the attributes of its runs."""
        if self.facts is not None:
            return sendable_names(self.facts.run)
        model, version = self._label.model or a.OTHER, self._label.version or a.OTHER
        return ((a.MODEL_NAME, model), (a.MODEL_VERSION, version), (a.RUNTIME_NAME, self._runtime.NAME))

    def predictor(self) -> Predict:
        """Return what runs it once, unmeasured."""
        return self._runtime.predictor(self._session())

    def alive(self) -> bool:
        """Say whether the host still has the session."""
        return self._measured is None or self._measured() is not None


class Subjects:
    """The sessions of one Monitor by their measured form; a session that its host lets go of is forgotten."""

    def __init__(self) -> None:
        self._wrapped: weakref.WeakKeyDictionary[Any, Wrapped] = weakref.WeakKeyDictionary()

    def add(self, measured: object, wrapped: Wrapped) -> None:
        """Remember that ``measured`` is the measured form of ``wrapped``."""
        with guard("remembering a session"):
            wrapped.measured_as(measured)
            self._wrapped[measured] = wrapped

    def __contains__(self, session: object) -> bool:
        """Say whether ``session`` is the measured form of one, not the program's own."""
        try:
            wrapped = self._wrapped.get(session)
        except TypeError:  # cannot be hashed or referred to weakly
            return False
        return wrapped is not None and not wrapped.is_of(session)

    def of(self, session: object, model: str | None, version: str | None) -> Subject:
        """Return the subject of a wrapped session or a named callable; raise ``ConfigError`` for anything else."""
        try:
            return self._wrapped[session].subject
        except (KeyError, TypeError):  # unknown; cannot be hashed or referred to weakly
            pass
        runtime = runtime_of(session)
        if runtime is not None:
            raise ConfigError(f"wrap() this {type(session).__name__} first: the self-test takes its names from there")
        if not callable(session):
            raise ConfigError(f"selftest() takes a wrapped session or a callable, not {type(session).__name__}")
        if not (model and version):
            raise ConfigError("a callable has no name of its own: pass model= and version= to selftest()")
        run = sendable_names(((a.MODEL_NAME, model), (a.MODEL_VERSION, version), (a.RUNTIME_NAME, "callable")))
        return Subject(lambda: run, lambda: session)


def checked(golden: Golden | str | os.PathLike[str], preprocess: PreProcess | None, every_s: float | None) -> Golden:
    """Return the golden set, read when it is a path; raise ``GoldenError`` or ``ConfigError`` for what cannot work."""
    if not isinstance(golden, (Golden, str, os.PathLike)):
        raise GoldenError(f"golden={golden!r:.80}: give a Golden, or the path of its .npz")
    chosen = golden if isinstance(golden, Golden) else load_golden(os.fspath(golden))
    if every_s is not None and not every_s >= EVERY_S_MIN:
        raise ConfigError(f"every_s={every_s!r}: repeat a self-test every {EVERY_S_MIN:g} seconds or more")
    if preprocess is not None and chosen.raw is None:
        raise ConfigError("preprocess= needs a golden set with raw samples (an array named raw)")
    if preprocess is None and not chosen.inputs:
        raise ConfigError("this golden set has raw samples only: pass preprocess=, from a sample to inputs by name")
    return chosen

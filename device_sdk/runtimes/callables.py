"""Any callable as an inference: a block, a function, or an async function, timed and counted; tensors are not seen."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Any, Final, ParamSpec, Protocol, Self, TypeVar

from device_sdk.contract.attributes import OTHER, Route
from device_sdk.entered import Entered, around
from device_sdk.errors import guard, log_rationed, nearest
from device_sdk.runtimes.failures import classify
from device_sdk.signals.recorder import Recorder

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Measure(Protocol):
    """What ``Monitor.measure`` returns: use it in ``with`` or as a decorator of a function or an async function."""

    def __enter__(self) -> object:
        """Start the time."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None:
        """Count the run; an exception is counted by its type and passes on."""
        ...

    def __call__(self, function: Callable[_P, _R], /) -> Callable[_P, _R]:
        """Return ``function``, measured at every call."""
        ...


_ROUTES: Final = ("", *Route)
CALLABLES_MAX: Final = 64
"""Most callables of one Monitor that have a recorder of their own."""
_COUNT_MAX: Final = 1 << 40
"""Most samples or input bytes of one run: what is above is a mistake, and would spoil the sums of all others."""
_NO_ARGUMENTS: Final[Mapping[str, Any]] = {}


class MeasuredRun:
    """One run of a measured callable.

    ``samples`` is how many it answers, ``route`` where ('' for not said), ``input_bytes`` what it was given; all may be
    set until it ends.
    """

    __slots__ = ("_recorder", "_started_ns", "input_bytes", "route", "samples")

    def __init__(self, recorder: Recorder, samples: int, route: str, input_bytes: int = 0) -> None:
        self._recorder = recorder
        self.samples = samples
        self.route = route
        self.input_bytes = input_bytes
        recorder.lane.enter()
        self._started_ns = recorder.perf_ns()

    def end(self, error: BaseException | None) -> None:
        """Count the run."""
        elapsed_ns = self._recorder.perf_ns() - self._started_ns
        self._recorder.lane.leave(error)
        with guard("measuring a block"):
            route = self.route if self.route in _ROUTES else ""
            if route != self.route:
                log_rationed(logging.WARNING, "route %r: %s", self.route, nearest(str(self.route), list(Route)))
            samples = _count("samples", self.samples, 1)
            if error is None:
                self._recorder.measured(elapsed_ns, samples, route, _count("input_bytes", self.input_bytes, 0))
            else:
                self._recorder.failed(elapsed_ns, classify(error), samples, route)


class CallableMeasure:
    """Measures blocks and functions for one recorder."""

    def __init__(self, recorder: Recorder, samples: int, route: str = "") -> None:
        self._recorder = recorder
        self._samples = samples
        self._route = route
        self._entered: Entered[MeasuredRun] = Entered()

    def _run(self, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] = _NO_ARGUMENTS) -> MeasuredRun:
        size = 0
        with guard("counting input bytes"):
            size = sum(map(_bytes_of, args)) + sum(map(_bytes_of, kwargs.values()))
        return MeasuredRun(self._recorder, self._samples, self._route, size)

    def __enter__(self) -> MeasuredRun:
        return self._entered.enter(self._run())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run = self._entered.leave()
        if run is not None:
            run.end(error)

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return ``function``, measured at every call."""
        return around(function, self._run)


def told_apart(known: Collection[tuple[str, str]], model: str, version: str) -> tuple[str, str]:
    """Return model and version, ``_OTHER`` beyond 64: a name made anew for every run must not make a recorder each."""
    key = (model, version)
    return key if key in known or len(known) < CALLABLES_MAX else (OTHER, OTHER)


def _count(name: str, value: object, otherwise: int) -> int:
    """Return a count that the caller stated; what is none is said in the log and counts as ``otherwise``."""
    try:
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        count = -1
    if 0 <= count <= _COUNT_MAX:
        return count
    log_rationed(logging.WARNING, "%s=%.40r of a measured run is no count; %d is taken", name, value, otherwise)
    return otherwise


def _bytes_of(value: object) -> int:
    """Return the bytes of an array or of bytes, 0 for anything else."""
    if isinstance(value, bytes | bytearray):
        return len(value)
    size = getattr(value, "nbytes", 0)
    return size if isinstance(size, int) else 0


class Unmeasured:
    """What ``Monitor.measure`` returns when the Monitor is disabled."""

    def __init__(self) -> None:
        self.samples, self.route, self.input_bytes = 1, "", 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return ``function`` itself."""
        return function

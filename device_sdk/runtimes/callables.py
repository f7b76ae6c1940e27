"""Any callable as an inference: a block, a function, or an async function, timed and counted; tensors are not seen."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar, cast

from device_sdk.errors import guard
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


class MeasuredRun:
    """One run of a measured callable."""

    __slots__ = ("_recorder", "_started_ns", "samples")

    def __init__(self, recorder: Recorder, samples: int) -> None:
        self._recorder = recorder
        self.samples = samples
        recorder.lane.enter()
        self._started_ns = recorder.perf_ns()

    def end(self, error: BaseException | None) -> None:
        """Count the run."""
        elapsed_ns = self._recorder.perf_ns() - self._started_ns
        self._recorder.lane.leave(error)
        with guard("measuring a block"):
            if error is None:
                self._recorder.measured(elapsed_ns, self.samples)
            else:
                self._recorder.failed(elapsed_ns, classify(error), self.samples)


_open_runs: ContextVar[tuple[MeasuredRun, ...]] = ContextVar("device_sdk_open_runs", default=())
"""Runs under way in this thread or task, the innermost last: one ``Measure`` may be entered by many at once."""


class CallableMeasure:
    """Measures blocks and functions for one recorder."""

    def __init__(self, recorder: Recorder, samples: int) -> None:
        self._recorder = recorder
        self._samples = samples

    def __enter__(self) -> MeasuredRun:
        run = MeasuredRun(self._recorder, self._samples)
        _open_runs.set((*_open_runs.get(), run))
        return run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        *outer, run = _open_runs.get()
        _open_runs.set(tuple(outer))
        run.end(error)

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return ``function``, measured at every call."""
        if inspect.iscoroutinefunction(function):
            return cast("Callable[_P, _R]", self._measured_coroutine(function))

        @functools.wraps(function)
        def measured(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            run = MeasuredRun(self._recorder, self._samples)
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                run.end(error)
                raise
            run.end(None)
            return result

        return measured

    def _measured_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def measured(*args: Any, **kwargs: Any) -> Any:
            run = MeasuredRun(self._recorder, self._samples)
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                run.end(error)
                raise
            run.end(None)
            return result

        return measured


class Unmeasured:
    """What ``Monitor.measure`` returns when the Monitor is disabled."""

    samples = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return ``function`` itself."""
        return function

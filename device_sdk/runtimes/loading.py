"""What it takes to make a session ready: how long each disjoint stage took, and why one failed.

A load goes through the runtime's own constructor or method. From it and its arguments the adapter reads what the
session will no longer know: the file, the providers that were asked for (ONNX Runtime forgets those it does not have),
and what to ask it to record.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import ErrorType, LoadStage
from device_sdk.points import AttributePairs, Points
from device_sdk.runtimes.failures import classify
from device_sdk.signals.models import with_error
from device_sdk.signals.summaries import DurationHistogram

LOADS_MAX: Final = 256
"""Most loads kept for one window; the oldest are dropped."""
_OF_LOADING: Final = frozenset(
    {ErrorType.OUT_OF_MEMORY, ErrorType.PROVIDER_FAILED, ErrorType.TIMEOUT, ErrorType.CANCELLED}
)


@dataclass(frozen=True, slots=True)
class Request:
    """What a call is about to load: which stage that is, from which file, for which providers, with which arguments."""

    runtime: str
    stage: LoadStage
    path: str | None = None
    requested: tuple[str, ...] = ()
    kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """One stage of making a session ready, done or failed."""

    model: str
    version: str
    runtime: str
    requested: tuple[str, ...]
    stage: LoadStage
    elapsed_ns: int
    cached: bool | None = None
    error: str = ""

    @property
    def attributes(self) -> AttributePairs:
        """Attributes of the point."""
        named: AttributePairs = (
            (a.MODEL_NAME, self.model),
            (a.MODEL_VERSION, self.version),
            (a.RUNTIME_NAME, self.runtime),
            (a.PROVIDER_REQUESTED, ",".join(self.requested) or "default"),
            (a.LOAD_STAGE, str(self.stage)),
        )
        cached: AttributePairs = () if self.cached is None else ((a.LOAD_CACHED, self.cached),)
        return with_error((*named, *cached), self.error)


class Loads:
    """Loads since the last window; any thread may add."""

    def __init__(self) -> None:
        self._waiting: deque[Load] = deque(maxlen=LOADS_MAX)

    def add(self, load: Load) -> None:
        """Keep a load for the next window."""
        self._waiting.append(load)

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        by_series: dict[AttributePairs, DurationHistogram] = {}
        for _ in range(len(self._waiting)):
            load = self._waiting.popleft()
            by_series.setdefault(load.attributes, DurationHistogram()).add(np.array([load.elapsed_ns]))
        for attributes, histogram in by_series.items():
            points.add(m.LOAD_DURATION.name, histogram.take(), attributes)


def load_error(error: BaseException) -> str:
    """Return the contract's word for what a load raised: of a load nearly everything is a failure to load."""
    word = classify(error)
    return word if word.startswith(ErrorType.UNSUPPORTED_OPERATOR) or word in _OF_LOADING else ErrorType.LOAD_FAILED


def argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], at: int, name: str) -> Any:
    """Return an argument of a call that may be given by place or by name, None when it is not given."""
    return args[at] if at < len(args) else kwargs.get(name)


def path_in(value: object) -> str | None:
    """Return a path, None for bytes and anything else."""
    return os.fspath(value) if isinstance(value, str | os.PathLike) else None


def module_of(factory: Callable[..., Any]) -> str:
    """Return the module that a constructor, function or bound method is from, '' when it does not say."""
    owner = getattr(factory, "__self__", None)
    found = getattr(factory if owner is None else type(owner), "__module__", None)
    return found if isinstance(found, str) else ""

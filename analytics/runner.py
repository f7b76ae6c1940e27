"""Where a job's mathematics runs: in place, or in one spawned child whose death or memory limit fails only the job.

A job's ``run`` reads from the store in its own process and hands plain data (Arrow tables, frames, dataclasses) to
``call(function, ...)``. The function must be importable by name and pure: no store, no clock.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ComputeError(RuntimeError):
    """The computing child died (memory limit, signal); the job failed, the store did not."""


class Runner(Protocol):
    """Runs a pure function somewhere and waits for its result."""

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``function(*args, **kwargs)``; raises what it raises, or ``ComputeError``."""
        ...

    def close(self) -> None:
        """Free what it holds; idempotent."""
        ...


class InlineRunner:
    """Runs in the caller's thread."""

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``function(*args, **kwargs)``."""
        return function(*args, **kwargs)

    def close(self) -> None:
        """Do nothing."""


def _limit_memory(limit_bytes: int) -> None:
    """Bound the child's data segment: an allocation beyond it raises MemoryError there, and nowhere else."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


class ChildRunner:
    """Runs in one spawned child, started at first use and again after a death."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._pool: ProcessPoolExecutor | None = None

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``function(*args, **kwargs)`` computed in the child; raises ``ComputeError`` when the child died."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                max_workers=1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_limit_memory,
                initargs=(self._memory_bytes,),
            )
        try:
            return self._pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool as error:
            self.close()
            raise ComputeError(
                f"the computing child died in {function.__module__}.{function.__qualname__}; "
                f"if memory was short raise compute_memory_bytes (now {self._memory_bytes})"
            ) from error

    def close(self) -> None:
        """End the child."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


_INLINE = InlineRunner()
_current: ContextVar[Runner | None] = ContextVar("analytics_runner", default=None)


@contextmanager
def using(runner: Runner) -> Iterator[None]:
    """Make ``runner`` the one that ``call`` uses inside the block (this thread's context only)."""
    token = _current.set(runner)
    try:
        yield
    finally:
        _current.reset(token)


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a pure function where the scheduler wants it to run; in place when nobody said."""
    return (_current.get() or _INLINE).run(function, *args, **kwargs)

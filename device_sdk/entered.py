"""What happens around a block or a call: where it begins, which one ends, and with which error."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")


class _Block(Generic[_T]):
    """One entry: by which object, what it stands for, and whether it has been left."""

    __slots__ = ("item", "over", "owner")

    def __init__(self, owner: Entered[_T], item: _T) -> None:
        self.owner = owner
        self.item = item
        self.over = False


class Entered(Generic[_T]):
    """What one object was entered with and not yet left.

    A block ends in the thread or task that began it, but a generator may be finished, or closed by the garbage
    collector, in another: then it is the object's own latest.
    """

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: list[_Block[_T]] = []

    def enter(self, item: _T) -> _T:
        """Note that a block begins."""
        block = _Block(self, item)
        self._blocks.append(block)
        _under_way.set((*(other for other in _under_way.get() if not other.over), block))
        return item

    def leave(self) -> _T | None:
        """Return what the block that ends was entered with, None when none is under way."""
        under_way = _under_way.get()
        mine = next((block for block in reversed(under_way) if block.owner is self and not block.over), None)
        try:
            block = self._taken(mine)
        except IndexError:
            return None
        block.over = True
        _under_way.set(tuple(other for other in under_way if not other.over))
        return block.item

    def _taken(self, mine: _Block[_T] | None) -> _Block[_T]:
        """Take ``mine`` out, or the latest; each is taken by one thread only, whatever others do meanwhile."""
        if mine is not None:
            try:
                self._blocks.remove(mine)
            except ValueError:  # another thread has just ended it
                pass
            else:
                return mine
        return self._blocks.pop()


_under_way: ContextVar[tuple[_Block[Any], ...]] = ContextVar("device_sdk_under_way", default=())
"""Blocks of this thread or task, the innermost last."""


class Begun(Protocol):
    """A call under way."""

    def end(self, error: BaseException | None) -> None:
        """Note that it has ended, and with which exception, None for none."""
        ...


def around(
    function: Callable[_P, _R], begin: Callable[[tuple[Any, ...], Mapping[str, Any]], Begun]
) -> Callable[_P, _R]:
    """Return ``function``, async or not: ``begin`` is given the arguments of every call and returns what is ended."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: _P.args, **kwargs: _P.kwargs) -> Any:
            call = begin(args, kwargs)
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                call.end(error)
                raise
            call.end(None)
            return result

        return cast("Callable[_P, _R]", awaited)

    @functools.wraps(function)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        call = begin(args, kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        call.end(None)
        return result

    return called

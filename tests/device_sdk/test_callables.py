"""Any callable is measured as an inference: blocks, functions, async functions; alone, nested, and many at once."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from sdk_kit import SECOND

from device_sdk import Monitor
from device_sdk.contract import attributes as a
from device_sdk.entered import Entered
from device_sdk.runtimes.failures import OPERATORS_MAX, classify


def seconds(world: Any) -> dict[str, float]:
    """Return the summed latency by model."""
    found: dict[str, float] = {}
    for at, point in world.named("edge.inference.duration"):
        found[at[a.MODEL_NAME]] = found.get(at[a.MODEL_NAME], 0) + point.sum
    return found


def counts(world: Any) -> dict[str | None, int]:
    return {at.get(a.ERROR_TYPE): point.as_int for at, point in world.named("edge.inference.samples")}


def test_an_async_function_is_timed_to_its_end_and_stays_one(bench: Any) -> None:
    world = bench()

    @world.monitor.measure("speech", "2")
    async def listen(text: str) -> str:
        """Listen."""
        world.clock.advance(SECOND)
        await asyncio.sleep(0)
        world.clock.advance(SECOND)
        if not text:
            raise TimeoutError
        return text

    assert inspect.iscoroutinefunction(listen)
    assert (listen.__name__, listen.__doc__) == ("listen", "Listen.")
    assert asyncio.run(listen("a")) == "a"
    with pytest.raises(TimeoutError):
        asyncio.run(listen(""))
    world.window()
    assert counts(world) == {None: 1, "timeout": 1}
    assert seconds(world) == {"speech": 4.0}


def test_a_cancelled_task_counts_as_cancelled(bench: Any) -> None:
    world = bench()

    @world.monitor.measure("speech")
    async def forever() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    world.window()
    assert counts(world) == {"cancelled": 1}


def test_one_measure_may_be_entered_by_many_tasks_and_nested(bench: Any) -> None:
    """Each entry has its own start, whichever ends first."""
    world = bench()
    measure = world.monitor.measure("shared")

    async def task(first: asyncio.Event, then: asyncio.Event, seconds: int) -> None:
        with measure:
            first.set()
            await then.wait()
            world.clock.advance(seconds * SECOND)

    async def main() -> None:
        started, go = asyncio.Event(), asyncio.Event()
        one = asyncio.create_task(task(started, go, 1))
        await started.wait()
        world.clock.advance(10 * SECOND)
        two = asyncio.create_task(task(go, started, 2))  # starts 10 s later, ends first
        await asyncio.gather(one, two)

    asyncio.run(main())
    with measure:
        world.clock.advance(SECOND)
        with measure:
            world.clock.advance(SECOND)
    world.window()
    assert counts(world) == {None: 4}
    assert seconds(world) == {"shared": (10 + 2 + 1) + 2 + 2 + 1}


def test_the_run_of_a_block_may_say_how_many_samples_it_answered(bench: Any) -> None:
    world = bench()
    with world.monitor.measure("ocr") as run:
        run.samples = 7
    world.window()
    assert counts(world) == {None: 7}


def test_a_disabled_monitor_measures_nothing_and_hands_back_the_function() -> None:
    monitor = Monitor(enabled=False)

    def work() -> int:
        return 3

    assert monitor.measure("m")(work) is work
    with monitor.measure("m") as run:
        run.samples = 2


def test_names_of_unsupported_operators_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_sdk.runtimes.failures._vocabulary", type(_vocabulary())())
    said = [classify(f"Encountered unresolved custom op: Op{n}.") for n in range(OPERATORS_MAX + 3)]
    assert said[0] == "unsupported_operator Op0"
    assert said[OPERATORS_MAX:] == ["unsupported_operator _OTHER"] * 3
    assert classify("Encountered unresolved custom op: Op0.") == "unsupported_operator Op0"


def test_a_long_operator_name_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_sdk.runtimes.failures._vocabulary", type(_vocabulary())())
    assert classify("unresolved custom op: " + "x" * 10_000) == "unsupported_operator " + "x" * 64


def _vocabulary() -> Any:
    from device_sdk.runtimes import failures

    return failures._vocabulary


def test_a_block_may_end_in_another_context_than_it_began_in(bench: Any) -> None:
    """What a generator dependency of a web framework does: entered on one thread, finished on another."""
    world = bench()

    def dependency() -> Iterator[None]:
        with world.monitor.measure("m", "1"):
            world.clock.advance(SECOND)
            yield

    first, second = dependency(), dependency()
    contextvars.copy_context().run(next, first)
    contextvars.copy_context().run(next, second)
    for generator in (first, second):  # not the order in which they would nest
        with pytest.raises(StopIteration):
            contextvars.copy_context().run(next, generator)
    world.window()
    counts = [(point.count, point.sum) for _, point in world.named("edge.inference.duration")]
    assert sum(count for count, _ in counts) == 2
    assert sum(total for _, total in counts) == 3.0


def test_two_blocks_that_end_elsewhere_at_the_same_moment_end_once_each() -> None:
    class Interrupted(list[Any]):
        """Another thread's block ends just before this one's is taken out."""

        def pop(self, *at: Any) -> Any:
            if not ended:
                ended.append(None)
                ended.append(contextvars.Context().run(entered.leave))
            return super().pop(*at)

        def remove(self, block: Any) -> None:
            if not ended:
                ended.append(None)
                ended.append(contextvars.Context().run(entered.leave))
            super().remove(block)

    ended: list[Any] = []
    entered: Entered[str] = Entered()
    entered._blocks = Interrupted()
    for name in ("first", "second"):
        contextvars.Context().run(entered.enter, name)
    ended.append(contextvars.Context().run(entered.leave))
    assert sorted(ended[1:]) == ["first", "second"]
    assert contextvars.Context().run(entered.leave) is None


def test_interleaved_generators_in_one_context_keep_their_own_times(bench: Any) -> None:
    world = bench()
    shared = world.monitor.measure("m", "1")

    def block() -> Iterator[None]:
        with shared:
            yield

    first, second = block(), block()
    next(first)
    world.clock.advance(SECOND)
    next(second)
    with pytest.raises(StopIteration):
        next(first)
    world.clock.advance(SECOND)
    with pytest.raises(StopIteration):
        next(second)
    world.window()
    assert sum(point.count for _, point in world.named("edge.inference.duration")) == 2

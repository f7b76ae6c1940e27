"""What the application says of its answers: stages of a pipeline, and outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sdk_kit import SECOND, Bench, attributes_of

from device_sdk import ConfigError, ModelNameError, Monitor, Signals
from device_sdk.contract import attributes as a
from device_sdk.contract.attributes import PipelineStage
from device_sdk.contract.metrics import BY_NAME
from device_sdk.signals.answers import AnswerBook

MS = 1_000_000


def stages(world: Bench) -> dict[tuple[str, str], tuple[int, float]]:
    """Return {(stage, error): (count, sum in ms)}."""
    return {
        (at[a.PIPELINE_STAGE], at.get(a.ERROR_TYPE, "")): (point.count, round(point.sum * 1000, 6))
        for at, point in world.named("edge.pipeline.duration")
    }


def test_an_answer_is_timed_by_stage_and_as_a_whole(bench: Any) -> None:
    world = bench()
    for _ in range(3):
        with world.monitor.pipeline("digits", "1") as answer:
            with answer.pre:
                world.clock.advance(2 * MS)
            world.clock.advance(1 * MS)  # between the stages
            with answer.run:
                world.clock.advance(5 * MS)
            with answer.post:
                world.clock.advance(3 * MS)
    world.window()
    assert stages(world) == {("pre", ""): (3, 6), ("run", ""): (3, 15), ("post", ""): (3, 9), ("total", ""): (3, 33)}
    for at, point in world.named("edge.pipeline.duration"):
        assert (at[a.MODEL_NAME], at[a.MODEL_VERSION]) == ("digits", "1")
        assert set(at) <= set(BY_NAME["edge.pipeline.duration"].attributes)
        assert point.scale <= 4


def test_blocks_of_one_stage_add_up_and_a_retry_counts_once_failed_once_good(bench: Any) -> None:
    world = bench()
    with world.monitor.pipeline("digits") as answer:
        with answer.run:
            world.clock.advance(2 * MS)
        with contextlib.suppress(MemoryError), answer.run:
            world.clock.advance(7 * MS)
            raise MemoryError
        with answer.run:
            world.clock.advance(3 * MS)
    world.window()
    assert stages(world) == {("run", ""): (1, 5), ("run", "out_of_memory"): (1, 7), ("total", ""): (1, 12)}


@pytest.mark.parametrize(
    ("error", "word"),
    [(TimeoutError(), "timeout"), (ValueError("odd"), a.OTHER), (KeyboardInterrupt(), "cancelled")],
)
def test_an_exception_is_counted_under_its_stage_and_passes_on(bench: Any, error: BaseException, word: str) -> None:
    world = bench()

    def failing() -> None:
        with world.monitor.pipeline("digits") as answer:
            with answer.pre:
                world.clock.advance(MS)
            with answer.post:
                world.clock.advance(MS)
                raise error

    with pytest.raises(type(error)) as caught:
        failing()
    assert caught.value is error
    world.window()
    assert stages(world) == {("pre", ""): (1, 1), ("post", word): (1, 1), ("total", word): (1, 2)}


def test_a_decorated_function_counts_answers(bench: Any) -> None:
    world = bench()

    @world.monitor.pipeline("digits")
    def answer(value: int) -> int:
        """Say twice."""
        world.clock.advance(MS)
        return 2 * value

    @world.monitor.pipeline("digits")
    async def answer_later(value: int) -> int:
        world.clock.advance(MS)
        await asyncio.sleep(0)
        if value < 0:
            raise ValueError("below zero")
        return 2 * value

    assert answer(4) == 8
    assert answer.__doc__ == "Say twice."
    assert asyncio.run(answer_later(5)) == 10
    with pytest.raises(ValueError, match="below zero"):
        asyncio.run(answer_later(-1))
    world.window()
    assert stages(world) == {("total", ""): (2, 2), ("total", a.OTHER): (1, 1)}


def test_overlapping_answers_of_one_pipeline_stay_apart(bench: Any) -> None:
    world = bench()
    pipeline = world.monitor.pipeline("digits")

    async def one(gate: asyncio.Event, opens: asyncio.Event) -> None:
        with pipeline as answer:
            with answer.pre:
                await gate.wait()
                world.clock.advance(MS)
            opens.set()
            with answer.run:
                await asyncio.sleep(0)

    async def all_of_them() -> None:
        gates = [asyncio.Event() for _ in range(4)]
        tasks = [asyncio.create_task(one(gates[n], gates[(n + 1) % 4])) for n in range(4)]
        await asyncio.sleep(0)
        gates[0].set()
        await asyncio.gather(*tasks)

    asyncio.run(all_of_them())
    world.window()
    assert stages(world)["pre", ""] == (4, 1 + 2 + 3 + 4)  # each waited for those before it
    assert stages(world)["total", ""][0] == 4

    def many() -> None:
        for _ in range(200):
            with pipeline as answer, answer.run:
                pass

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.window()
    assert [point.count for at, point in world.named("edge.pipeline.duration")][-1] == 800


def test_a_cancelled_task_counts_as_cancelled(bench: Any) -> None:
    world = bench()

    async def endless() -> None:
        with world.monitor.pipeline("digits") as answer, answer.run:
            await asyncio.Event().wait()

    async def cancelled() -> None:
        task = asyncio.create_task(endless())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    world.window()
    assert set(stages(world)) == {("run", "cancelled"), ("total", "cancelled")}


def test_a_generator_that_is_finished_elsewhere_harms_nobody(bench: Any) -> None:
    world = bench()

    def frames() -> Any:
        with world.monitor.pipeline("digits"):
            yield 1

    made = frames()
    thread = threading.Thread(target=lambda: next(made))
    thread.start()
    thread.join()
    made.close()
    world.window()
    assert stages(world) == {("total", "cancelled"): (1, 0.0)}


def test_more_answers_than_fit_are_folded_on_the_way(bench: Any) -> None:
    world = bench()
    for _ in range(10_000):
        with world.monitor.pipeline("digits"):
            pass
    assert world.monitor._engine.models.answers.backlog() < 8192
    world.window()
    assert stages(world)["total", ""][0] == 10_000


def test_the_fold_is_asked_for_before_callers_have_to_do_it() -> None:
    woken: list[int] = []
    book = AnswerBook(lambda: woken.append(book.backlog()))
    answers = book.of("digits", "1")
    for _ in range(8191):
        answers.took(PipelineStage.TOTAL, "", 1)
    assert (woken, book.backlog()) == ([4096], 8191)


def test_the_version_is_that_of_the_model_wrapped_last(bench: Any, digits: Any) -> None:
    world = bench(signals=Signals(output="none"))
    early = world.monitor.pipeline("m")
    world.monitor.wrap(digits, "m", "1")
    world.monitor.wrap(digits, "m", "2")
    with early, world.monitor.pipeline("other"):
        pass
    world.window()
    assert {(at[a.MODEL_NAME], at[a.MODEL_VERSION]) for at, _ in world.named("edge.pipeline.duration")} == {
        ("m", "2"),
        ("other", "0"),
    }


def test_the_seventeenth_pipeline_counts_as_other(bench: Any) -> None:
    world = bench()
    for number in range(20):
        with world.monitor.pipeline(f"m{number}"):
            pass
    world.window()
    counts = {at[a.MODEL_NAME]: point.count for at, point in world.named("edge.pipeline.duration")}
    assert len(counts) == 17
    assert counts[a.OTHER] == 4


@pytest.mark.parametrize(("model", "version"), [("", "1"), ("m" * 200, "1"), ("m", "v" * 200), ("m", "")])
def test_a_name_that_cannot_be_sent_is_refused_at_once(bench: Any, model: str, version: str) -> None:
    with pytest.raises(ModelNameError, match="1 to 128"):
        bench().monitor.pipeline(model, version)


def test_disabled_everything_passes_through(tmp_path: Any) -> None:
    monitor = Monitor(enabled=False, state_dir=tmp_path / "never")
    with monitor.pipeline("digits") as answer, answer.pre:
        pass
    assert monitor.pipeline("digits")(abs)(-1) == 1
    with pytest.raises(ConfigError):
        monitor.session_end("typo")
    monitor.outcome("digits", correct=True)


def test_outcomes_are_counted_on_the_run_that_they_judge(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits, "digits", "7")
    wrapped.run(None, {"x": np.zeros((1, 64), dtype=np.float32)})
    for correct in (True, True, False):
        world.monitor.outcome("digits", correct=correct)
    world.monitor.outcome("digits", correct=np.bool_(True), version="7", output="other", samples=40)
    world.window()
    found = {
        (at[a.OUTPUT_NAME], at[a.OUTPUT_OUTCOME]): point.as_int for at, point in world.named("edge.output.outcomes")
    }
    assert found == {("p", "correct"): 2, ("p", "incorrect"): 1, ("other", "correct"): 40}
    for at, _ in world.named("edge.output.outcomes"):
        assert at[a.RUNTIME_NAME] == "onnxruntime"
        assert set(at) <= set(BY_NAME["edge.output.outcomes"].attributes)
    world.window()
    assert len(world.named("edge.output.outcomes")) == 3


def test_an_outcome_of_an_unknown_model_is_said_and_not_counted(
    bench: Any, digits: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import device_sdk.errors as errors

    world = bench()
    world.monitor.wrap(digits, "digits", "7")
    for named in ({"model": "digit"}, {"model": "digits", "version": "8"}, {"model": "digits", "samples": -3}):
        errors._guarding.next_log_s = 0.0
        with caplog.at_level(logging.WARNING):
            world.monitor.outcome(correct=True, **named)
    assert caplog.text.count("is not counted") == 3
    assert "did you mean 'digits 7'" in caplog.text
    world.window()
    assert world.named("edge.output.outcomes") == []


def test_nothing_is_sent_for_a_window_without_answers(bench: Any) -> None:
    world = bench()
    with world.monitor.pipeline("digits"):
        world.clock.advance(SECOND)
    world.window()
    world.window()
    assert len(world.named("edge.pipeline.duration")) == 1


def test_a_forked_child_tells_of_its_own_answers_alone(collector: Any, tmp_path: Path) -> None:
    program = """
import os, sys
from device_sdk import Monitor
monitor = Monitor(endpoint=sys.argv[1], state_dir=sys.argv[2], window_s=3600)
pipeline = monitor.pipeline("m", "1")
with pipeline as answer, answer.run:
    pass
child = os.fork()
for _ in range(3 if child else 2):
    with pipeline as answer, answer.run:
        pass
if child:
    os.waitpid(child, 0)
    assert monitor.close(10)
else:
    assert monitor.flush(10)
    os._exit(0 if monitor.close(10) else 1)
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "FLEETPULSE_"))}
    subprocess.run(
        [sys.executable, "-c", program, collector.url, str(tmp_path / "state")],
        check=True, timeout=60, env=environment,
    )  # fmt: skip
    counts: dict[str, int] = {}
    for request in collector.metrics():
        for window in request.resource_metrics:
            stream = attributes_of(window.resource.attributes)[a.SERVICE_INSTANCE_ID]
            for metric in window.scope_metrics[0].metrics:
                if metric.name == "edge.pipeline.duration":
                    (total,) = [
                        point.count
                        for point in metric.exponential_histogram.data_points
                        if attributes_of(point.attributes)[a.PIPELINE_STAGE] == "total"
                    ]
                    counts[stream] = counts.get(stream, 0) + total
    assert sorted(counts.values()) == [2, 4]

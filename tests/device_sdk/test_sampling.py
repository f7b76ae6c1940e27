"""Which runs have their tensors looked at: levels, strides and the budget; counts are exact whatever is left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sdk import ConfigError, Feature, Monitor, Signals
from device_sdk.contract import attributes as a
from device_sdk.contract.attributes import Phase, SignalLevel
from device_sdk.points import Points
from device_sdk.signals.adapter import Adapter
from device_sdk.signals.models import ModelInputs, ModelRuns
from device_sdk.signals.recorder import Recorder
from device_sdk.signals.sampling import COUNTING_NS, SAMPLES_PER_S, STRIDE_MAX, Sampling

MICROSECOND = 1000.0
FEATURES = (Feature("mean", kind="mean", center=0.5, unit=0.05),)


def rows(n: int, columns: int = 64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((n, columns), dtype=np.float32)


def total(found: list[tuple[dict[str, Any], Any]]) -> int:
    return sum(point.count if hasattr(point, "count") else point.as_int for _, point in found)


def govern(world: Any, level: SignalLevel, every: int = 1) -> None:
    world.monitor._engine.govern(level, every)


@pytest.mark.parametrize(("level", "answers", "inputs"), [("off", 0, 0), ("outputs", 50, 0), ("full", 50, 50)])
def test_a_level_leaves_out_tensors_and_never_counts(
    bench: Any, digits: Any, level: str, answers: int, inputs: int
) -> None:
    world = bench(signals=Signals(features=FEATURES))
    govern(world, SignalLevel(level))
    wrapped = world.monitor.wrap(digits)
    for row in rows(50):
        wrapped.run(None, {"x": row[None]})
    world.window()
    assert total(world.named("edge.inference.duration")) == total(world.named("edge.inference.samples")) == 50
    assert total(world.named("edge.output.confidence")) == answers
    assert total(world.named("edge.input.value")) == inputs
    assert total(world.named("edge.signal.samples")) == answers


def test_a_level_that_changes_between_runs_counts_no_row_twice(bench: Any, digits: Any) -> None:
    world = bench(signals=Signals(features=FEATURES))
    wrapped = world.monitor.wrap(digits)
    for number, row in enumerate(rows(120)):
        govern(world, (SignalLevel.FULL, SignalLevel.OUTPUTS)[number % 2])
        wrapped.run(None, {"x": row[None]})
    world.window()
    assert total(world.named("edge.output.confidence")) == 120
    assert total(world.named("edge.input.value")) == 60


@pytest.mark.parametrize("batch", [1, 3])
def test_a_stride_thins_signals_and_says_so(bench: Any, digits: Any, batch: int) -> None:
    world = bench(signals=Signals(features=FEATURES))
    govern(world, SignalLevel.FULL, every=8)
    wrapped = world.monitor.wrap(digits)
    for _ in range(2000):
        wrapped.run(None, {"x": rows(batch)})
    world.window()
    assert total(world.named("edge.inference.duration")) == 2000
    assert total(world.named("edge.inference.samples")) == 2000 * batch
    taken = total(world.named("edge.signal.samples"))
    assert taken == total(world.named("edge.output.confidence")) == total(world.named("edge.input.value"))
    # gaps are even on 0..14: the number of copied runs has mean 250 and standard deviation sqrt(2000 * 18.67 / 8**3)
    assert abs(taken / batch - 250) < 5 * 8.6


def test_a_broken_answer_is_a_failure_also_where_its_tensors_are_left_out(bench: Any, digits: Any) -> None:
    world = bench()
    govern(world, SignalLevel.OFF)
    wrapped = world.monitor.wrap(digits)
    broken = rows(1)
    broken[0, 0] = np.nan
    for number in range(300):
        wrapped.run(None, {"x": broken if number % 3 == 0 else rows(1)})
    world.window()
    failed = [point.as_int for at, point in world.named("edge.inference.samples") if at.get(a.ERROR_TYPE)]
    assert failed == [100]
    assert total(world.named("edge.inference.samples")) == 300


def test_an_unknown_level_or_stride_is_refused(bench: Any) -> None:
    world = bench()
    with pytest.raises(ValueError, match="every=0"):
        govern(world, SignalLevel.FULL, every=0)
    with pytest.raises(ValueError, match="loud"):
        world.monitor._engine.govern("loud", 1)


@pytest.mark.parametrize("budget", [0, -1, 1.5, float("nan")])
def test_a_budget_is_a_share(tmp_path: Path, budget: float) -> None:
    with pytest.raises(ConfigError, match="overhead_budget"):
        Monitor(state_dir=tmp_path, overhead_budget=budget)


class TestTheStride:
    """The choice itself, fed with measurements."""

    @given(
        budget=st.floats(0.001, 1),
        run_us=st.floats(0.1, 1e5),
        tensors_us=st.floats(0.5, 500),
    )
    def test_keeps_the_budget_of_a_busy_model(self, budget: float, run_us: float, tensors_us: float) -> None:
        sampling = Sampling(budget)
        run_ns, tensors_ns = run_us * MICROSECOND, tensors_us * MICROSECOND
        sampling.observe(run_ns, tensors_ns, 1e9 / run_ns)
        busy = 1e9 / run_ns / SAMPLES_PER_S
        assert 1 <= sampling.stride <= STRIDE_MAX
        allowed = max(budget * run_ns - COUNTING_NS, budget * run_ns / 5)
        if sampling.stride < min(STRIDE_MAX, busy):
            assert tensors_ns / sampling.stride <= allowed * (1 + 1e-9)
        if sampling.stride > 1:  # and thins no more than a power of two needs
            assert tensors_ns / (sampling.stride / 2) > allowed * (1 - 1e-9)

    def test_thins_nothing_of_a_model_that_runs_seldom(self) -> None:
        sampling = Sampling(0.05)
        sampling.observe(7 * MICROSECOND, 5 * MICROSECOND, runs_per_s=20)
        assert sampling.stride == 1

    def test_does_not_move_with_noise(self) -> None:
        sampling, seen = Sampling(0.05), set()
        rng = np.random.default_rng(3)
        for _ in range(200):
            sampling.observe(100 * MICROSECOND, 30 * MICROSECOND * rng.uniform(0.9, 1.1), 1e4)
            seen.add(sampling.stride)
        assert seen == {8}

    def test_is_at_least_what_is_asked_from_outside(self) -> None:
        sampling = Sampling(0.05)
        sampling.limit(SignalLevel.FULL, 16)
        sampling.observe(1e6, 5 * MICROSECOND, 1000)
        assert sampling.stride == 16
        sampling.limit(SignalLevel.FULL, 1)
        assert sampling.stride == 1


def busy_recorder(samples_of: Callable[..., int], run_ns: int = 1000) -> tuple[Recorder, Any, list[int]]:
    """Return a recorder of a model that takes ``run_ns`` by a clock that only running moves, and its clock's cell."""
    clock = [0]
    runs = ModelRuns(((a.MODEL_NAME, "m"), (a.MODEL_VERSION, "1")), ModelInputs("m", "1"))
    recorder = Recorder(runs, Signals(output="value"), sampling=Sampling(0.05), perf_ns=lambda: clock[0])

    def inner(_names: Any, feed: Any, _options: Any = None) -> Any:
        clock[0] += run_ns
        return [feed["x"]]

    return recorder, recorder.bind(inner, Adapter(("x",), ("y",), lambda _e: "", samples_of)), clock


def test_inputs_that_take_turns_are_seen_in_their_true_shares() -> None:
    recorder, run, _ = busy_recorder(lambda _f, _r: 1)
    recorder.sampling.limit(SignalLevel.FULL, 2)
    cameras = [np.array([[-10.0]], dtype=np.float32), np.array([[10.0]], dtype=np.float32)]
    for number in range(4000):
        run(None, {"x": cameras[number % 2]})
        if number % 100 == 99:
            recorder.fold()
    points = Points()
    recorder.runs.inputs.emit(points)
    ((_, histogram),) = points.by_metric["edge.input.value"]
    assert isinstance(histogram.count, int)
    # a copied run is followed by a gap of 0, 1 or 2: binomial bounds of a fair coin, five standard deviations
    share = sum(histogram.negative.counts) / histogram.count
    assert abs(share - 0.5) < 5 * 0.5 / histogram.count**0.5


def test_a_model_of_a_microsecond_is_thinned_within_its_first_fold() -> None:
    recorder, run, clock = busy_recorder(lambda _f, _r: 1)
    feed = {"x": np.zeros((1, 1), dtype=np.float32)}
    for _ in range(1000):
        run(None, feed)
    recorder.fold()
    assert recorder.sampling.stride > 16
    before = recorder.runs.inputs.folded_samples
    for _ in range(20_000):
        run(None, feed)
    recorder.fold()
    thinned = recorder.runs.inputs.folded_samples - before
    assert 0 < thinned < 20_000 / 16
    points = Points()
    recorder.runs.emit(points)
    counted = {dict(at)[a.INFERENCE_PHASE]: h.count for at, h in points.by_metric["edge.inference.duration"]}
    assert counted == {str(Phase.FIRST): 1, str(Phase.STEADY): 20_999}
    assert clock[0] == 21_000 * 1000


def test_the_model_keeps_its_stride_only_while_it_is_busy() -> None:
    sampling = Sampling(0.05)
    sampling.observe(5 * MICROSECOND, 5 * MICROSECOND, 1e5)
    assert sampling.stride >= 16
    sampling.observe(5 * MICROSECOND, None, 10)
    assert sampling.stride == 1


def test_a_stride_holds_for_runs_that_end_elsewhere_too(bench: Any, digits: Any) -> None:
    world = bench()
    govern(world, SignalLevel.FULL, every=4)
    probe = vars(world.monitor.wrap(digits).run)["_probe"]  # what the callback of run_async reports to
    for row in rows(200):
        feed = {"x": row[None]}
        probe.ran(1000, None, feed, digits.run(None, feed))
    world.window()
    assert total(world.named("edge.inference.samples")) == 200
    assert 20 < total(world.named("edge.signal.samples")) < 100

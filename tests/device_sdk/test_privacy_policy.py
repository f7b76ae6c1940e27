"""Minimum counts and clips: nothing held is lost silently, what is thinned is thinned fairly."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from privacy_kit import Account

from device_sdk import ConfigError, Feature, Signals
from device_sdk.config import resolve
from device_sdk.contract import attributes as a
from device_sdk.contract.buckets import U1_BOUNDS
from device_sdk.points import ExplicitHistogram, ExponentialHistogram, Points, Side
from device_sdk.privacy import Policy
from device_sdk.privacy.contribution import Contribution
from device_sdk.privacy.distributions import Distribution, split

FEATURES = (Feature("c0", column=0), Feature("c1", column=1, unit=0.1))
SIGNALS = Signals(features=FEATURES, classes=tuple("abcdefghij"))
DISTRIBUTIONS = {
    "edge.output.confidence", "edge.output.entropy", "edge.output.margin", "edge.output.predictions",
    "edge.input.value", "edge.input.observations",
}  # fmt: skip


def rows(n: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((n, 64), dtype=np.float32)


def counts(world: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for metric, _, point in world.sent():
        if hasattr(point, "count"):
            found[metric] += point.count
        elif point.WhichOneof("value") == "as_int":
            found[metric] += point.as_int
    return found


def run_windows(world: Any, digits: Any, sizes: list[int]) -> list[Counter[str]]:
    """Run so many inferences in each window; return what had arrived after each."""
    session = world.monitor.wrap(digits, model="m", version="1", signals=SIGNALS)
    arrived = []
    for number, size in enumerate(sizes):
        for row in rows(size, number):
            session.run(None, {"x": row[None]})
        world.window()
        arrived.append(counts(world))
    return arrived


def test_distributions_below_the_minimum_are_carried_on_and_never_lost(bench: Any, digits: Any) -> None:
    world = bench(privacy_min_count=10)
    early, later, end = run_windows(world, digits, [4, 3, 5])
    assert not DISTRIBUTIONS & set(early)
    assert not DISTRIBUTIONS & set(later)
    assert early["edge.inference.duration"] == early["edge.inference.samples"] == 4  # latency and counts are exempt
    assert end["edge.inference.duration"] == 12
    assert {end[name] for name in DISTRIBUTIONS - {"edge.input.value", "edge.input.observations"}} == {12}
    assert end["edge.input.value"] == end["edge.input.observations"] == 24  # two features
    held = [point.as_int for _, point in world.named("edge.privacy.held")]
    assert held == [4 * 8, 7 * 8, 0]  # four output distributions, two inputs and their states


def test_what_is_held_at_the_end_is_told_as_lost_for_privacy_to_the_unit(bench: Any, digits: Any) -> None:
    world = bench(privacy_min_count=10)
    run_windows(world, digits, [12, 4])
    world.clock.advance(1_000_000_000)
    world.monitor.close(5)
    found = counts_of(world)
    losses = {at[a.LOSS_REASON]: point.as_int for _, at, point in found if _ == "edge.loss.measurements"}
    assert losses == {"privacy": 4 * 8}
    confidence = sum(point.count for name, _, point in found if name == "edge.output.confidence")
    assert confidence + losses["privacy"] // 8 == 16


def counts_of(world: Any) -> list[tuple[str, dict[str, Any], Any]]:
    from sdk_kit import points

    return points(world.sink.metrics())


def test_the_default_holds_and_clips_nothing_and_says_nothing(bench: Any, digits: Any) -> None:
    world = bench()
    (arrived,) = run_windows(world, digits, [1])
    assert arrived["edge.output.confidence"] == 1
    assert not world.named("edge.privacy.held")


def test_a_clip_bounds_every_distribution_but_no_latency_and_counts_the_excess(bench: Any, digits: Any) -> None:
    world = bench(privacy_clip=5)
    run_windows(world, digits, [8, 3])
    for name in DISTRIBUTIONS:
        by_window: Counter[tuple[int, str, str]] = Counter()
        for at, point in world.named(name):
            size = point.count if hasattr(point, "count") else point.as_int
            by_window[point.time_unix_nano, at.get(a.FEATURE_NAME, ""), at.get(a.OUTPUT_NAME, "")] += size
        assert sorted(by_window.values()) in ([3, 5], [3, 3, 5, 5]), name
    assert sum(point.count for _, point in world.named("edge.inference.duration")) == 11
    refused = [(at[a.PRIVACY_REASON], point.as_int) for at, point in world.named("edge.privacy.refused")]
    assert refused == [("over_clip", (8 - 5) * 8)]


@given(st.lists(st.integers(0, 40), min_size=2, max_size=9).filter(sum), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_thinning_takes_exactly_so_many_and_only_of_what_is_there(cells: list[int], most: int, seed: int) -> None:
    half = len(cells) // 2
    histogram = ExponentialHistogram(
        sum(cells), 3, cells[half], 0.02, Side(4, cells[half + 1 :]), Side(-3, cells[:half])
    )
    whole = Distribution("edge.input.value", (), {(): histogram})
    part = whole.thinned(most, np.random.default_rng(seed))
    assert part.total == min(most, sum(cells))
    (value,) = part.members.values()
    assert isinstance(value, ExponentialHistogram)
    for side, original in ((value.positive, histogram.positive), (value.negative, histogram.negative)):
        for position, count in enumerate(side.counts):
            assert count <= original.counts[side.offset + position - original.offset]
        assert not side.counts or (side.counts[0] and side.counts[-1])


def test_thinning_is_fair_to_every_observation() -> None:
    """Each of 1,000 observations survives with 1/4: the mean of 400 draws is within 5 standard errors of that."""
    cells = [600, 300, 90, 10]
    histogram = ExplicitHistogram(1000, U1_BOUNDS, [*cells, *[0] * 30])
    whole = Distribution("edge.output.confidence", (), {(): histogram})
    random, draws = np.random.default_rng(5), 400
    total = np.zeros(4)
    for _ in range(draws):
        (value,) = whole.thinned(250, random).members.values()
        assert isinstance(value, ExplicitHistogram)
        total += value.counts[:4]
    for mean, size in zip(total / draws, cells, strict=True):
        variance = 250 * (size / 1000) * (1 - size / 1000) * (750 / 999)  # hypergeometric
        assert abs(mean - size / 4) <= 5 * math.sqrt(variance / draws)


@given(st.lists(st.lists(st.integers(0, 12), min_size=3, max_size=3), min_size=1, max_size=8), st.integers(2, 30))
def test_held_sent_and_lost_add_up_whatever_arrives_when(windows: list[list[int]], minimum: int) -> None:
    contribution, account, sent = Contribution(Policy(min_count=minimum)), Account(), 0
    for number, classes in enumerate(windows):
        points = Points()
        for name, count in enumerate(classes):
            if count:
                points.add("edge.output.predictions", count, ((a.OUTPUT_NAME, "p"), (a.CLASS_NAME, str(name))))
        out = contribution.window(points, account, last=number == len(windows) - 1)
        _, distributions = split(out)
        assert all(found.total >= minimum for found in distributions)
        sent += sum(found.total for found in distributions)
    assert sent + account.losses["privacy"] == sum(map(sum, windows))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"privacy_min_count": 0}, "privacy_min_count=0"),
        ({"privacy_min_count": 2.5}, "privacy_min_count=2.5"),
        ({"privacy_min_count": True}, "privacy_min_count=True"),
        ({"privacy_clip": -1}, "privacy_clip=-1"),
        ({"privacy_clip": 5, "privacy_min_count": 10}, "below privacy_min_count=10"),
        ({"privacy_epsilon": 0}, "privacy_epsilon=0"),
        ({"privacy_epsilon": float("inf")}, "privacy_epsilon=inf"),
        ({"privacy_epsilon": 21.0}, "up to 20"),
        ({"privacy_epsilon": 2.0, "privacy_epsilon_day": 1.0}, "not even one report"),
        ({"identity_rotation_s": 60}, "from 3600"),
        ({"identity_rotation_s": 86_400, "device_id": "cam-1"}, "names the device for ever"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_their_name_and_value(arguments: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(**arguments, environ={})
    assert words in str(caught.value)


def test_settings_come_from_the_environment_and_the_argument_wins() -> None:
    env = {
        "FLEETPULSE_DEVICE_PRIVACY_MIN_COUNT": "20",
        "FLEETPULSE_DEVICE_PRIVACY_CLIP": "500",
        "FLEETPULSE_DEVICE_PRIVACY_EPSILON": "1.5",
        "FLEETPULSE_DEVICE_IDENTITY_ROTATION_S": "86400",
    }
    assert resolve(environ=env, privacy_clip=300).privacy == Policy(20, 300, 1.5, 8.0, 86_400)
    assert resolve(environ={}).privacy == Policy()
    assert not Policy().active
    with pytest.raises(ConfigError, match="PRIVACY_CLIP"):
        resolve(environ={"FLEETPULSE_DEVICE_PRIVACY_CLIP": "many"})


def test_the_facts_of_the_policy_are_attributes_of_the_settings_event() -> None:
    from device_sdk.contract.events import SETTINGS_APPLIED

    told = dict(Policy(20, 500, 1.0, 8.0, 86_400).facts())
    assert told == {
        a.PRIVACY_ENABLED: True, a.PRIVACY_MIN_COUNT: 20, a.PRIVACY_CLIP: 500, a.PRIVACY_ROTATION: 86_400,
        a.PRIVACY_EPSILON: 1.0,
    }  # fmt: skip
    assert set(told) <= set(SETTINGS_APPLIED.attributes)
    assert dict(Policy().facts()) == {a.PRIVACY_ENABLED: False, a.PRIVACY_MIN_COUNT: 1}

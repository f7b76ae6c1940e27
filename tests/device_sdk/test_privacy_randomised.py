"""Local differential privacy: OpenDP's mechanism as the contract says, and a ledger that keeps its word."""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from privacy_kit import Account
from sdk_kit import SECOND

from device_sdk import ConfigError, Feature, Signals
from device_sdk.config import resolve
from device_sdk.contract import attributes as a
from device_sdk.contract.buckets import RANDOMISED_FIRST, RANDOMISED_LAST, U1_BOUNDS, lower_bound
from device_sdk.points import ExponentialHistogram, Points, Side
from device_sdk.privacy.budget import EpsilonLedger
from device_sdk.privacy.distributions import Distribution
from device_sdk.privacy.randomised import Randomiser, _feature_cells, _feature_histogram, randomised_response

DAY = 24 * 3600 * SECOND
CLASSES = tuple("abcdefghij")
SIGNALS = Signals(features=(Feature("c0", column=0), Feature("c1", column=1, unit=0.1)), classes=CLASSES)
RANDOMISED = {
    "edge.output.confidence": len(U1_BOUNDS) + 1, "edge.output.entropy": 34, "edge.output.margin": 34,
    "edge.output.predictions": 11, "edge.input.value": 19, "edge.input.observations": 7,
}  # fmt: skip
"""Distributions of these signals, and how many categories each has."""


@pytest.mark.parametrize(
    ("categories", "epsilon"), list(itertools.product((2, 3, 11, 19, 34, 65), (0.1, 1.0, 2.5, 20.0)))
)
def test_the_certified_loss_is_at_most_what_the_ledger_counts(categories: int, epsilon: float) -> None:
    assert 0.999999 * epsilon <= randomised_response(categories, epsilon).map(1) <= epsilon  # type: ignore[attr-defined]


def run(world: Any, digits: Any, count: int, signals: Signals = SIGNALS) -> None:
    session = world.monitor.wrap(digits, model="m", version="1", signals=signals)
    for row in np.random.default_rng(3).random((count, 64), dtype=np.float32):
        session.run(None, {"x": row[None]})
    world.window()


def size(point: Any) -> int:
    return point.count if hasattr(point, "count") else point.as_int


def test_every_distribution_is_reports_only_and_says_so(bench: Any, digits: Any) -> None:
    world = bench(privacy_epsilon=2.0, privacy_epsilon_day=1000.0, privacy_clip=25)
    run(world, digits, 40)
    totals: Counter[str] = Counter()
    for name, categories in RANDOMISED.items():
        for at, point in world.named(name):
            assert at[a.PRIVACY_MECHANISM] == "krr"
            assert at[a.PRIVACY_EPSILON] == 2.0
            assert at[a.PRIVACY_CATEGORIES] == categories
            totals[name] += size(point)
    several = {"edge.input.value": 2, "edge.input.observations": 2}  # two features
    assert totals == {name: 25 * several.get(name, 1) for name in RANDOMISED}
    assert {at[a.CLASS_NAME] for at, _ in world.named("edge.output.predictions")} <= {*CLASSES, a.OTHER}
    ((_, spent),) = world.named("edge.privacy.epsilon_spent")
    assert spent.as_double == pytest.approx(2.0 * 25 * 8)
    ((at, refused),) = world.named("edge.privacy.refused")
    assert (at[a.PRIVACY_REASON], refused.as_int) == ("over_clip", 15 * 8)
    assert sum(size(point) for _, point in world.named("edge.inference.duration")) == 40  # exempt, exact


def test_classes_without_a_declaration_are_not_sent_and_are_counted(bench: Any, digits: Any) -> None:
    world = bench(privacy_epsilon=1.0, privacy_epsilon_day=1000.0, privacy_clip=100)
    run(world, digits, 12, Signals())
    assert not world.named("edge.output.predictions")
    assert world.named("edge.output.confidence")
    lost = {at[a.LOSS_REASON]: point.as_int for at, point in world.named("edge.loss.measurements")}
    assert lost == {"privacy": 12}


def test_without_a_clip_a_window_has_one_report_of_a_distribution(bench: Any, digits: Any) -> None:
    world = bench(privacy_epsilon=1.0, privacy_epsilon_day=100.0)
    run(world, digits, 9)
    assert [size(point) for _, point in world.named("edge.output.confidence")] == [1]
    assert sum(size(point) for _, point in world.named("edge.output.predictions")) == 1


def test_when_the_budget_is_spent_the_signals_stop_for_a_day_over_restarts(bench: Any, digits: Any) -> None:
    world = bench(privacy_epsilon=1.0, privacy_epsilon_day=5.0)
    run(world, digits, 9)  # eight distributions want a report each; five get one
    sent = sum(size(point) for name in RANDOMISED for _, point in world.named(name))
    assert sent == 5
    lost = sum(p.as_int for at, p in world.named("edge.loss.measurements") if at[a.LOSS_REASON] == "privacy")
    assert lost == 3
    world.monitor.close(5)
    again = bench(privacy_epsilon=1.0, privacy_epsilon_day=5.0)
    run(again, digits, 9)
    assert not [name for name in RANDOMISED if again.named(name)]
    assert not again.named("edge.privacy.epsilon_spent")
    assert sum(size(point) for _, point in again.named("edge.inference.duration")) == 9
    again.clock.advance(DAY)
    again.monitor.step()
    run(again, digits, 9)
    assert sum(size(point) for name in RANDOMISED for _, point in again.named(name)) == 5


def test_which_signal_gets_the_last_of_the_budget_is_drawn(tmp_path: Path) -> None:
    served: Counter[str] = Counter()
    for seed in range(40):
        ledger = EpsilonLedger(_fresh(tmp_path, seed), 1.0, lambda: 0)
        randomiser, sent = Randomiser(1.0, ledger, {}, np.random.default_rng(seed)), Points()
        found = [_states(name) for name in "xyz"]
        randomiser.window(found, sent, Account())
        served.update(str(dict(at)[a.FEATURE_NAME]) for at, _ in sent.by_metric["edge.input.observations"])
    assert sum(served.values()) == 40
    assert set(served) == {"x", "y", "z"}


def _fresh(path: Path, number: int) -> Path:
    (path / str(number)).mkdir()
    return path / str(number)


def _states(feature: str) -> Distribution:
    identity = ((a.FEATURE_NAME, feature),)
    return Distribution("edge.input.observations", identity, {(*identity, (a.FEATURE_STATE, "ok")): 3})


# --- the ledger -------------------------------------------------------------------------------------------------------


class Hands:
    def __init__(self) -> None:
        self.now_ns = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        return self.now_ns


def test_the_ledger_counts_reports_and_never_goes_over(tmp_path: Path) -> None:
    ledger = EpsilonLedger(tmp_path, 1.0, Hands())
    assert ledger.reports(0.1) == 10  # 0.1 * 10 is 1.0 in real numbers
    for _ in range(10):
        assert ledger.spend(0.1)
    assert ledger.reports(0.1) == 0
    assert not ledger.spend(0.1)
    assert EpsilonLedger(tmp_path, 1.0, Hands()).reports(0.1) == 0


def test_a_clock_that_jumps_frees_the_budget_at_most_once_and_never_blocks_it_longer_than_a_day(tmp_path: Path) -> None:
    now = Hands()
    ledger = EpsilonLedger(tmp_path, 1.0, now)
    assert ledger.spend(1.0)
    now.now_ns -= 20 * 365 * DAY  # back to the past: what is spent stays spent
    assert ledger.left() == 0
    now.now_ns += DAY - 1
    assert ledger.left() == 0
    now.now_ns += 1
    assert ledger.left() == 1.0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"start_ns": 1}', b'{"start_ns": 0, "spent": NaN}', b"\xff"])
def test_a_ledger_that_cannot_be_read_counts_as_spent_for_a_day(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "privacy.json").write_bytes(content)
    now = Hands()
    ledger = EpsilonLedger(tmp_path, 1.0, now)
    assert ledger.left() == 0
    now.now_ns += DAY
    assert ledger.left() == 1.0


def test_what_cannot_be_written_down_is_not_spent_and_nothing_is_reported(tmp_path: Path) -> None:
    missing = tmp_path / "gone"
    for folder in (None, missing):
        account, sent = Account(), Points()
        randomiser = Randomiser(1.0, EpsilonLedger(folder, 9.0, Hands()), {}, np.random.default_rng(1))
        randomiser.window([_states("x")], sent, account)
        assert sent.count == 0
        assert account.losses == {"privacy": 3}


def test_the_ledger_is_on_disk_before_anything_leaves(bench: Any, digits: Any, tmp_path: Path) -> None:
    world = bench(privacy_epsilon=1.0, privacy_epsilon_day=100.0)
    run(world, digits, 9)
    assert not world.sink.requests
    assert json.loads((tmp_path / "state" / "privacy.json").read_text())["spent"] == pytest.approx(8.0)


def test_what_is_spent_is_on_the_medium_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, synced = EpsilonLedger(tmp_path, 1.0, Hands()), []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    assert ledger.spend(0.1)
    assert synced == [(tmp_path / "privacy.json").stat().st_ino, tmp_path.stat().st_ino]


# --- category sets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1e3, -8.0, -7.9, -0.03, -0.01, 0.0, 0.01, 0.021, 0.5, 1.0, 2.0, 2.1, 4.0, 8.0, 1e3])
def test_a_features_value_is_in_the_category_whose_bounds_hold_it(value: float) -> None:
    """From the value to the fine bucket, to the category, to the bucket that is told: it still lies within."""
    positive, negative, zero = Side(), Side(), 0
    if abs(value) <= 0.02:
        zero = 1
    else:
        index = math.ceil(math.log2(abs(value)) * 8) - 1
        side = Side(index, [1])
        positive, negative = (side, negative) if value > 0 else (positive, side)
    told = _feature_histogram(_feature_cells(ExponentialHistogram(1, 3, zero, 0.02, positive, negative)))
    assert told.count == 1
    assert told.zero_count == zero
    for side, sign in ((told.positive, 1), (told.negative, -1)):
        for position, count in enumerate(side.counts):
            if count:
                low, high = (lower_bound(side.offset + position + more, 0) for more in (0, 1))
                bounded = min(max(sign * value, lower_bound(RANDOMISED_FIRST, 0)), lower_bound(RANDOMISED_LAST + 1, 0))
                assert low < bounded <= high


def test_the_cost_of_a_report_is_bounded(bench: Any) -> None:
    """A report is one call of OpenDP: well below a millisecond, and as rare as the budget makes it."""
    mechanism = randomised_response(34, 1.0)
    mechanism(3)
    started = time.thread_time()
    for _ in range(200):
        mechanism(3)
    assert (time.thread_time() - started) / 200 < 2e-3


def test_without_opendp_the_setting_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"fleetpulse-device-sdk\[privacy\]"):
        resolve(privacy_epsilon=1.0, environ={})
    assert resolve(environ={}).privacy.epsilon is None


def test_opendp_is_not_imported_before_it_is_needed(tmp_path: Path) -> None:
    from test_import import loaded_after

    code = f"from device_sdk import Monitor; m = Monitor(state_dir={str(tmp_path)!r}, privacy_epsilon=1.0); m.close(0)"
    assert "opendp" not in loaded_after(code)

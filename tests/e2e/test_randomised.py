"""Local differential privacy from the device to the estimate: what the SDK randomises, the server can invert."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from scipy.stats import chi2

from analytics.randomised import channel, unbiased
from device_sdk import Monitor, Signals
from device_sdk.contract import attributes as a
from device_sdk.privacy.randomised import randomised_response
from device_sdk.testing import ManualClock, MemorySink, connect

MODEL = Path(__file__).resolve().parents[2] / "simulator" / "models" / "digits.onnx"
CLASSES = tuple("0123456789")
RUNS = 3000


@pytest.mark.parametrize(("categories", "epsilon"), [(2, 0.5), (7, 1.0), (34, 4.0)])
def test_opendps_mechanism_has_the_chances_that_the_server_inverts(categories: int, epsilon: float) -> None:
    """Goodness of fit at one in a million, because OpenDP's randomness cannot be seeded."""
    mechanism, truth, draws = randomised_response(categories, epsilon), categories // 2, 4000
    told = np.bincount([mechanism(truth) for _ in range(draws)], minlength=categories)
    chances = channel(categories, epsilon)
    expected = np.full(categories, draws * chances.other)
    expected[truth] = draws * chances.truthful
    assert ((told - expected) ** 2 / expected).sum() <= chi2.isf(1e-6, categories - 1)


def test_the_estimate_of_a_fleet_finds_the_truth_again(tmp_path: Path) -> None:
    """Reports of 3,000 observations through the whole device; each estimate within 5 of its own standard errors."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    digits = onnxruntime.InferenceSession(str(MODEL), options)
    images = np.random.default_rng(3).random((RUNS, 64), dtype=np.float32) * 16
    truth = np.bincount(
        [int(digits.run(["probabilities"], {"image": row[None]})[0].argmax()) for row in images], minlength=11
    )
    clock, sink = ManualClock(1_800_000_000_000_000_000), MemorySink()
    monitor = Monitor(
        state_dir=tmp_path, clock=clock, privacy_epsilon=3.0, privacy_epsilon_day=1e6, privacy_clip=10_000
    )
    connect(monitor, sink)
    session = monitor.wrap(digits, "digits", "1", signals=Signals(classes=CLASSES))
    for row in images:
        session.run(None, {"image": row[None]})
    clock.advance(60_000_000_000)
    monitor.step()
    monitor.flush()
    monitor.close()
    told = {attributes[a.CLASS_NAME]: point.as_int for attributes, point in sink.points("edge.output.predictions")}
    estimate = unbiased([told.get(word, 0) for word in (*CLASSES, a.OTHER)], 3.0, categories=11)
    assert sum(told.values()) == RUNS
    assert (np.abs(estimate.counts - truth) <= 5 * np.sqrt(estimate.variance)).all()

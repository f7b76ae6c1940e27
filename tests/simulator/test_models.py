import argparse
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from simulator.models import (
    MAGIKA_PADDING,
    MODELS_DIR,
    SimulatedSession,
    SimulatorError,
    digits_images,
    digits_labels,
    digits_session,
    digits_signals,
    file_features,
    magika_inputs,
    magika_labels,
    magika_path,
    open_session,
)

ROOT = Path(__file__).parents[2]


class Clock:
    def __init__(self):
        self.ns = 0

    def advance(self, ns):
        self.ns += ns


@pytest.mark.parametrize("version", ["1", "2"])
def test_both_versions_read_the_held_out_digits_at_every_exposure(version):
    session = digits_session(version)
    for gain in (0.85, 1.0, 1.08):
        shown = np.clip(digits_images() * np.float32(gain), 0, 1)
        (probabilities,) = session.run(None, {"image": shown})
        assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
        assert (probabilities.argmax(axis=1) == digits_labels()).mean() > 0.95


def test_the_versions_are_different_models():
    image = {"image": digits_images()[:50]}
    assert not np.allclose(digits_session("1").run(None, image)[0], digits_session("2").run(None, image)[0])


def test_declared_grids_fit_the_data_they_are_for():
    for feature in digits_signals("1").features:
        if feature.kind in {"mean", "std"}:
            values = getattr(digits_images(), feature.kind)(axis=1)
            assert abs(values.mean() - feature.center) < 0.25 * feature.unit
            assert 0.8 < values.std() / feature.unit < 1.25


def test_an_unknown_version_is_named():
    with pytest.raises(SimulatorError, match=r"'7'.*1, 2"):
        digits_session("7")


def test_magika_knows_python_source_for_what_it_is():
    source = file_features(Path(argparse.__file__).read_bytes())
    (scores,) = open_session(magika_path()).run(None, {"bytes": source[None]})
    assert scores.shape == (1, len(magika_labels()))
    assert magika_labels()[int(scores[0].argmax())] == "python"


def test_file_features_hold_both_ends_and_pad_short_files():
    row = file_features(b"  abc  ")
    assert row.shape == (2048,)
    assert row[:5].tolist() == list(b"abc  ")
    assert row[5:-5].tolist() == [MAGIKA_PADDING] * 2038
    assert row[-5:].tolist() == list(b"  abc")
    long = bytes(range(33, 123)) * 100
    assert file_features(long)[:1024].tolist() == list(long[:1024])
    assert file_features(long)[1024:].tolist() == list(long[-1024:])


def test_magika_looks_at_real_files_of_several_kinds():
    assert magika_inputs().shape[0] >= 20
    assert magika_inputs().shape[1] == 2048
    assert len({tuple(row[:64]) for row in magika_inputs()}) >= 10


def test_a_simulated_session_answers_as_the_real_one_and_takes_the_drawn_time():
    clock = Clock()
    real = digits_session("1")
    session = SimulatedSession(real, clock)
    session.load([5_000_000, 7_000_000])
    image = {"image": digits_images()[:1]}
    assert np.array_equal(session.run(None, image)[0], real.run(None, image)[0])
    assert clock.ns == 5_000_000
    with pytest.raises(Exception, match="invalid dimensions"):
        session.run(None, {"image": digits_images()[:1, :32]})
    assert clock.ns == 12_000_000
    assert [value.name for value in session.get_inputs()] == ["image"]


def test_third_party_states_the_hash_of_every_file_shipped():
    text = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    stated = set(re.findall(r"`([0-9a-f]{64})`", text))
    shipped = [*MODELS_DIR.iterdir(), *(MODELS_DIR.parent / "data").iterdir()]
    for path in [*shipped, magika_path()]:
        assert hashlib.sha256(path.read_bytes()).hexdigest() in stated, path.name

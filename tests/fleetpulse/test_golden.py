"""Golden references: a data set through the real SDK and a real model."""

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from collector.errors import ConfigError, StackError
from device_sdk.signals import signals_from_mapping
from fleetpulse.golden import build, pinned_features, read_golden, signals_toml

ROOT = Path(__file__).parents[2] / "simulator"
NOW_NS = 1_795_000_000_000_000_000


@pytest.fixture
def model(tmp_path) -> Path:
    return Path(shutil.copy(ROOT / "models" / "digits.onnx", tmp_path / "digits.onnx"))


@pytest.fixture
def data(tmp_path) -> Path:
    images = np.load(ROOT / "data" / "digits.npz")["images"][:200].astype(np.float32) / 16
    np.savez(tmp_path / "golden.npz", image=images)
    return tmp_path / "golden.npz"


def test_every_row_of_the_data_set_is_in_the_reference(model, data):
    built = build(model, data, model="digits", version="1", now_ns=NOW_NS)
    assert (built.reference.model, built.reference.version, built.reference.source) == ("digits", "1", "golden")
    assert set(built.reference.signals) >= {"input:mean", "input:std", "output:confidence", "classes"}
    assert {int(signal.bins.counts.sum()) for signal in built.reference.signals.values()} == {200}
    assert built.tables["baselines"].num_rows == 1


def test_the_signals_file_is_what_the_sdk_reads_and_is_not_made_twice(model, data):
    first = build(model, data, model="digits", version="1", now_ns=NOW_NS)
    text = signals_toml(first.signals)
    assert signals_from_mapping(tomllib.loads(text)) == first.signals
    first.signals_file.write_text(text)
    again = build(model, data, model="digits", version="1", now_ns=NOW_NS)
    assert again.signals is None
    assert set(again.reference.signals) == set(first.reference.signals)


def test_a_narrow_table_gets_a_feature_a_column_on_its_own_grid():
    table = np.random.default_rng(1).normal([300.0, -2.0], [1.0, 0.1], (500, 2))
    features = pinned_features(table)
    assert [(feature.kind, feature.column) for feature in features] == [("column", 0), ("column", 1)]
    for feature, (center, unit) in zip(features, [(300.0, 1.0), (-2.0, 0.1)], strict=True):
        # five standard errors of the mean, five of the sd, and rounding to three digits
        assert abs(feature.center - center) < 5 * unit / np.sqrt(500) + 0.005 * abs(center)
        assert abs(feature.unit - unit) < 5 * unit / np.sqrt(1000) + 0.005 * unit


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.zeros((2, 3)), "y": np.zeros((2, 3))}, "no array for input 'image'"),
        ({"image": np.zeros((0, 3))}, "above 0"),
    ],
    ids=["other names", "no rows"],
)
def test_a_data_set_that_does_not_fit_says_how(tmp_path, arrays, says):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ConfigError, match=says):
        read_golden(tmp_path / "bad.npz", ["image"])


def test_a_file_that_is_no_archive_or_no_model_is_one_clear_error(tmp_path, data):
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"rubbish")
    with pytest.raises(ConfigError, match=r"not an \.npz archive"):
        read_golden(rubbish, ["image"])
    with pytest.raises(StackError, match="onnxruntime cannot load it"):
        build(rubbish, data, model=None, version=None, now_ns=NOW_NS)

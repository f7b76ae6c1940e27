"""Declarations: the same in code and in TOML, and one clear error for whatever cannot be."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_sdk import Feature, Output, Signals, SignalsError
from device_sdk.signals import load_signals, signals_from_mapping

EVERYTHING = """
classes = ["cat", "dog"]

[[feature]]
name = "age"
column = 2
center = 40.0
unit = 5
range = [0, 120]
input = "table"

[[feature]]
name = "room"
kind = "category"
column = 3
categories = ["kitchen", "bath"]

[[feature]]
name = "on"
kind = "category"
column = 4
categories = [false, true]

[[feature]]
name = "dark"
kind = "dark_share"
low = 0.1

[[feature]]
name = "clipped"
kind = "clipped_share"
high = 0.999

[[feature]]
name = "face"
kind = "projection"
projections = 4
seed = 7
unit = 0.125

[[output]]
name = "p"
kind = "probabilities"
classes = ["yes", "no"]

[[output]]
name = "boxes"
kind = "detections"
scores = "scores"
labels = "labels"
format = "cxcywh"
frame = [640, 480]
threshold = 0.25

[[output]]
name = "raw"
kind = "detections"
layout = "column"

[[output]]
name = "vector"
kind = "embedding"
projections = 2
"""
IN_CODE = Signals(
    classes=("cat", "dog"),
    features=(
        Feature("age", column=2, center=40.0, unit=5, range=(0, 120), input="table"),
        Feature("room", kind="category", column=3, categories=("kitchen", "bath")),
        Feature("on", kind="category", column=4, categories=(False, True)),
        Feature("dark", kind="dark_share", low=0.1),
        Feature("clipped", kind="clipped_share", high=0.999),
        Feature("face", kind="projection", projections=4, seed=7, unit=0.125),
    ),
    outputs=(
        Output("p", kind="probabilities", classes=("yes", "no")),
        Output(
            "boxes", kind="detections", scores="scores", labels="labels", format="cxcywh", frame=(640, 480),
            threshold=0.25,
        ),
        Output("raw", kind="detections", layout="column"),
        Output("vector", kind="embedding", projections=2),
    ),
)  # fmt: skip


def test_a_file_says_the_same_as_code(tmp_path: Path) -> None:
    assert signals_from_mapping(tomllib.loads(EVERYTHING)) == IN_CODE
    path = tmp_path / "m.signals.toml"
    path.write_text(EVERYTHING)
    assert load_signals(path) == IN_CODE


def test_every_field_can_be_written_in_a_file() -> None:
    for kind in (Feature, Output):
        written = {key for table in tomllib.loads(EVERYTHING)[kind.__name__.lower()] for key in table}
        assert {item.name for item in fields(kind)} - written <= {"center", "unit", "seed"}, kind


def test_lists_become_tuples_and_numpy_numbers_are_numbers() -> None:
    assert Signals(features=[Feature("x", column=np.int64(3), unit=np.float32(0.5))]).features[0].column == 3  # type: ignore[arg-type]
    assert hash(IN_CODE) == hash(signals_from_mapping(tomllib.loads(EVERYTHING)))


def test_classes_of_the_model_hold_for_every_output_without_its_own() -> None:
    named = {output.name: output.classes for output in IN_CODE.watched_outputs}
    assert named == {"p": ("yes", "no"), "boxes": ("cat", "dog"), "raw": ("cat", "dog"), "vector": ("cat", "dog")}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Feature("x", kind="sharpnes"), "did you mean 'sharpness'"),
        (lambda: Feature("x", kind="rms", column=1), "column= is not for kind 'rms'"),
        (lambda: Feature("x", kind="text_length", column=-1), "column=-1; give the column's index"),
        (lambda: Feature("x", kind="category", column=0), "categories= and kind = 'category' go together"),
        (lambda: Feature("x", column=0, categories=("a",)), "categories= and kind = 'category' go together"),
        (lambda: Feature("x", kind="category", column=0, categories=("a", "a")), "category 'a' is declared twice"),
        (lambda: Feature("x", kind="category", column=0, categories=(1, "1")), "category '1' is declared twice"),
        (lambda: Feature("x", kind="category", column=0, categories=("",)), "1 to 64 characters"),
        (lambda: Feature("x", kind="category", column=0, categories=(2**60,)), "whole numbers up to 2\\*\\*53"),
        (lambda: Feature("x", kind="category", column=0, categories=(1.5,)), "give text, whole numbers"),  # type: ignore[arg-type]
        (lambda: Feature("x", kind="category", column=0, categories=tuple(range(33))), "33 categories: at most 32"),
        (lambda: Feature("x", kind="category", column=0, categories="abc"), "categories='abc' has the wrong type"),  # type: ignore[arg-type]
        (lambda: Feature("x", kind="projection"), "projections= and kind = 'projection' go together"),
        (lambda: Feature("x", kind="mean", projections=2), "projections= and kind = 'projection' go together"),
        (lambda: Feature("x", kind="projection", projections=0), "projections=0; give 1 to 16"),
        (lambda: Feature("x", kind="projection", projections=2, seed=-1), "seed=-1; give a whole number from 0"),
        (lambda: Feature("x" * 60, kind="projection", projections=9), "with its seed the name is"),
        (lambda: Feature("x", kind="clipped_share"), "clipped_share needs high="),
        (lambda: Feature("x", column=0, center=float("nan")), "unit must be finite"),
        (lambda: Feature("x", column=True), "column=True has the wrong type; give a whole number"),
        (lambda: Feature("x", column=0, unit="1"), "unit='1' has the wrong type; give a number"),  # type: ignore[arg-type]
        (lambda: Feature("x", column=0, range=(0, "1")), "range=\\(0, '1'\\); give \\(lowest"),  # type: ignore[arg-type]
        (lambda: Feature("x", column=0, range=5), "range=5 has the wrong type"),  # type: ignore[arg-type]
        (lambda: Feature(3, column=0), "name=3 has the wrong type; give text"),  # type: ignore[arg-type]
        (lambda: Output("y", kind="probabilties"), "did you mean 'probabilities'"),
        (lambda: Output("y", kind="embedding"), "projections= and kind = 'embedding' go together"),
        (lambda: Output("y", kind="value", scores="s"), "scores= and labels= go with kind = 'detections'"),
        (lambda: Output(kind="detections", scores="s"), "detections need name="),
        (lambda: Output("y", kind="detections", format="xyhw"), "did you mean 'xy"),
        (lambda: Output("y", kind="detections", layout="rows"), "did you mean 'row'"),
        (lambda: Output("y", kind="detections", labels="l"), "labels='l' needs scores= too"),
        (lambda: Output("y", kind="detections", frame=(0, 480)), "give \\(width, height\\), both above 0"),
        (lambda: Output("y", kind="detections", frame=(640,)), "give \\(width, height\\), both above 0"),  # type: ignore[arg-type]
        (lambda: Output("y", kind="detections", frame=("a", 1)), "give \\(width, height\\), both above 0"),  # type: ignore[arg-type]
        (lambda: Output("y", kind="detections", threshold=float("nan")), "give the lowest score"),
        (lambda: Output("y", classes="ab"), "classes='ab' has the wrong type; give a list"),  # type: ignore[arg-type]
        (lambda: Output("y", classes=("",)), "a class name has 1 to 128 characters"),
        (lambda: Signals(output="detections"), "needs an \\[\\[output\\]\\] table"),
        (lambda: Signals(outputs=(Output("y"), Output("y"))), "each needs a name of its own"),
        (lambda: Signals(outputs=(Output(),)), "each needs a name of its own"),
        (lambda: Signals(outputs=(Output("y"),), output="value"), "say it one way"),
        (lambda: Signals(outputs=tuple(Output(f"y{n}") for n in range(9))), "9 outputs: at most 8"),
        (lambda: Signals(output_unit=0), "unit must be finite and above 0"),
        (lambda: Signals(features=({"name": "x"},)), "is no Feature; in a file write \\[\\[feature\\]\\] tables"),  # type: ignore[arg-type]
        (lambda: Signals(outputs=("y",)), "'y' is no Output"),  # type: ignore[arg-type]
        (
            lambda: Signals(features=tuple(Feature(f"p{n}", kind="projection", projections=16) for n in range(5))),
            "80 features: at most 64",
        ),
        (
            lambda: Signals(
                features=tuple(Feature(f"c{n}", kind="category", column=n, categories=(1,)) for n in range(9))
            ),
            "at most 8 features of kind 'category'",
        ),
        (
            lambda: Signals(features=(Feature("x:0[0]", column=0), Feature("x", kind="projection", projections=1))),
            "'x:0\\[0\\]' is declared twice",
        ),
        (lambda: signals_from_mapping({"feature": [{"name": "x", "colum": 1}]}), "did you mean 'column'"),
        (lambda: signals_from_mapping({"output": [{"name": "y", "treshold": 1}]}), "did you mean 'threshold'"),
        (lambda: signals_from_mapping({"output": [{"kind": "value"}]}), "an? \\[\\[output\\]\\] has no name"),
        (lambda: signals_from_mapping({"output": {"name": "y"}}), "output: write \\[\\[output\\]\\] tables"),
        (lambda: signals_from_mapping({"output": [3]}), "write a \\[\\[output\\]\\] table"),
        (lambda: signals_from_mapping({"outputs": []}), "did you mean 'output'"),
        (lambda: signals_from_mapping({"features": []}), "did you mean 'feature'"),
        (lambda: signals_from_mapping({"classes": "ab"}), "classes='ab' has the wrong type"),
    ],
)
def test_what_cannot_be_is_said_with_its_cure(made: Any, said: str) -> None:
    with pytest.raises(SignalsError, match=said):
        made()

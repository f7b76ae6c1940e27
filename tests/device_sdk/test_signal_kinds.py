"""Each kind of feature against numpy on the whole sample, how much of a large one is read, and what hostile ones do."""

from __future__ import annotations

import math
import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from device_sdk.contract.attributes import FeatureState
from device_sdk.points import Points
from device_sdk.signals import Feature, Signals
from device_sdk.signals.categories import CategoryTable, Vocabulary
from device_sdk.signals.declare import SOUND_KINDS, SPREAD_KINDS, TEXT_KINDS
from device_sdk.signals.infer import inferred_features
from device_sdk.signals.inputs import NumericInput, TextInput, input_captures
from device_sdk.signals.models import ModelInputs, ModelRuns
from device_sdk.signals.reading import ELEMENTS_MAX, patches_of, runs_of
from device_sdk.signals.reduce import Layout, Reducer, directions
from device_sdk.signals.text import MISSING, UNSEEN, category_code, is_textual, text_numbers

RNG = np.random.default_rng(11)


def value_of(tensor: NDArray[Any], **kind: Any) -> float:
    """Return one feature of a batch of one, by the same way that a run takes."""
    feature = Feature("f", **kind)
    capture = NumericInput("x", tensor, feature.expanded())
    rows = capture.rows_of({"x": tensor}, 1)
    assert rows is not None
    reducer = Reducer(capture.numbers, Layout(capture.sample_shape, capture.numbers))
    with np.errstate(all="ignore"):  # as in the fold
        return float(reducer.values(rows.astype(capture.dtype))[0, 0])


SOUND = np.sin(np.arange(1000) / 7).astype(np.float32)[None]
TRUTH: dict[str, Any] = {
    "mean": lambda x: x.mean(),
    "std": lambda x: x.std(),
    "dark_share": lambda x: (x <= 0.25).mean(),
    "saturated_share": lambda x: (x >= 0.75).mean(),
}


@pytest.mark.parametrize("kind", SPREAD_KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint8, np.int64, np.bool_])
def test_statistics_of_a_small_sample_are_those_of_all_of_it(kind: str, dtype: Any) -> None:
    tensor = (RNG.random((1, 30, 30)) * (1 if np.dtype(dtype).kind == "f" else 3)).astype(dtype)
    expected = TRUTH[kind](tensor.astype(np.float64))
    assert value_of(tensor, kind=kind, low=0.25, high=0.75) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_statistics_of_a_sound_of_eight_runs_are_those_of_all_of_it() -> None:
    sound = (0.8 * RNG.standard_normal((1, 1024))).astype(np.float32)
    x = sound[0].astype(np.float64)
    assert value_of(sound, kind="rms") == pytest.approx(np.sqrt((x**2).mean()), rel=1e-6)
    assert value_of(sound, kind="peak") == pytest.approx(np.abs(x).max())
    assert value_of(sound, kind="clipped_share", high=1.0) == (np.abs(x) >= 1).mean()
    pieces = x.reshape(8, 128)
    crossed = ((pieces[:, 1:] >= 0) != (pieces[:, :-1] >= 0)).mean()
    assert value_of(sound, kind="zero_crossing_rate") == pytest.approx(crossed)


@pytest.mark.parametrize("shape", [(1, 48_000), (1, 1, 48_000), (1, 2, 48_000), (1, 48_000, 2)])
def test_a_tone_is_read_in_contiguous_runs_wherever_the_time_axis_is(shape: tuple[int, ...]) -> None:
    axis = int(np.argmax(shape))
    time = np.arange(48_000).reshape([-1 if place == axis else 1 for place in range(len(shape))])
    tone = np.broadcast_to(np.sin(2 * np.pi * time / 32 + 0.1), shape).astype(np.float32)
    assert value_of(tone, kind="zero_crossing_rate") == pytest.approx(2 / 32, abs=8 / (8 * 127))  # one a run at most
    assert value_of(tone, kind="rms") == pytest.approx(math.sqrt(0.5), rel=1e-4)  # runs hold whole periods


def laplacian_variance(image: NDArray[Any]) -> float:
    x = image.astype(np.float64)
    inner = 4 * x[1:-1, 1:-1] - x[:-2, 1:-1] - x[2:, 1:-1] - x[1:-1, :-2] - x[1:-1, 2:]
    return float(inner.var())


def test_sharpness_of_a_small_image_is_the_variance_of_its_laplacian() -> None:
    image = RNG.random((1, 8, 8)).astype(np.float32)  # all sixteen patches are the image
    assert value_of(image, kind="sharpness") == pytest.approx(laplacian_variance(image[0]), rel=1e-6)
    assert value_of(np.full((1, 8, 8), 7.0), kind="sharpness") == 0


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_sharpness_of_noise_is_near_that_of_the_whole_and_blur_lowers_it(dtype: Any) -> None:
    noise = RNG.integers(0, 256, (224, 224)).astype(dtype)
    # 576 Laplacians of white noise with the squared correlations of the kernel summing to 1.69: 4.5 standard errors
    bound = 4.5 * math.sqrt(2 * 1.69 / 576)
    assert value_of(noise[None], kind="sharpness") == pytest.approx(laplacian_variance(noise), rel=bound)
    smooth = noise.astype(np.float32)
    blurred = sum(np.roll(smooth, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)) / 9
    assert value_of(blurred[None], kind="sharpness") < value_of(noise[None], kind="sharpness") / 10


def test_the_layout_of_channels_changes_nothing() -> None:
    first = RNG.random((1, 3, 60, 50)).astype(np.float32)
    last = np.ascontiguousarray(first.transpose(0, 2, 3, 1))
    assert value_of(first, kind="sharpness") == value_of(last, kind="sharpness")
    assert value_of(first.transpose(0, 2, 3, 1), kind="sharpness") == value_of(last, kind="sharpness")  # not contiguous


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=3).map(tuple))
def test_places_lie_inside_and_are_few(shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    for places in (runs_of(shape), patches_of(shape)):
        assert places.size <= ELEMENTS_MAX
        assert places.size == 0 or (places.min() >= 0 and places.max() < size)
    assert runs_of(shape).size > 0


def test_gigabytes_cost_no_more_than_their_slice() -> None:
    huge = np.broadcast_to(np.float32(0.5), (1, 3, 40_000, 40_000))  # 19 GB, were it real
    features = (
        Feature("mean", kind="mean"), Feature("rms", kind="rms"), Feature("sharpness", kind="sharpness"),
        *Feature("e", kind="projection", projections=4).expanded(),
    )  # fmt: skip
    tracemalloc.start()
    capture = NumericInput("x", huge, features)
    rows = capture.rows_of({"x": huge}, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows is not None
    assert rows.shape == (1, capture.width)
    assert capture.width <= 3 * ELEMENTS_MAX
    assert peak < 4 * 1024 * 1024


@pytest.mark.parametrize("kind", [*SPREAD_KINDS, *SOUND_KINDS, "sharpness"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_partly_no_number_is_not_taken_for_one(kind: str, bad: float) -> None:
    tensor = RNG.random((1, 256) if kind in SOUND_KINDS else (1, 16, 16)).astype(np.float32)
    tensor.reshape(-1)[137] = bad
    value = value_of(tensor, kind=kind, low=0.1, high=0.9)
    if math.isnan(bad):
        assert math.isnan(value)
    else:
        assert not math.isfinite(value) or "share" in kind or "rate" in kind


@pytest.mark.parametrize("kind", [*SPREAD_KINDS, *SOUND_KINDS])
def test_a_sample_of_one_element_has_every_statistic(kind: str) -> None:
    assert math.isfinite(value_of(np.array([[0.5]], dtype=np.float32), kind=kind, low=0.1, high=0.9))


class TestOtherShapes:
    """A model with dynamic axes is watched whatever comes, where the statistic allows it."""

    def rows(self, planned: tuple[int, ...], given_shape: tuple[int, ...], *kinds: str) -> NDArray[Any] | None:
        features = tuple(Feature(kind, kind=kind, low=0.1, high=0.9) for kind in kinds)
        capture = NumericInput("x", np.zeros((1, *planned), dtype=np.float32), features)
        return capture.rows_of({"x": np.ones((1, *given_shape), dtype=np.float32)}, 1)

    @pytest.mark.parametrize("size", [8, 31, 224, 1000])
    def test_images(self, size: int) -> None:
        assert self.rows((3, 224, 224), (3, size, size), "mean", "sharpness") is not None

    def test_an_image_too_small_for_the_patches_is_left_out(self) -> None:
        assert self.rows((3, 224, 224), (3, 4, 4), "sharpness") is None
        assert self.rows((3, 224, 224), (3, 4, 4), "mean") is not None

    def test_sounds(self) -> None:
        assert self.rows((16_000,), (48_000,), "rms", "mean") is not None
        assert self.rows((512,), (16_000,), "rms") is not None
        assert self.rows((16_000,), (90,), "rms") is None
        assert self.rows((16_000,), (0,), "rms") is None

    def test_the_places_of_many_shapes_are_not_hoarded(self) -> None:
        capture = NumericInput("x", np.zeros((1, 3, 64, 64), dtype=np.float32), (Feature("m", kind="mean"),))
        read = [
            capture.rows_of({"x": np.ones((1, 3, size, size), dtype=np.float32)}, 1) is not None
            for size in range(65, 165)
        ]
        assert sum(read) == 32


class TestProjections:
    def test_directions_are_orthonormal(self) -> None:
        onto = directions(384, 8, 20)
        assert np.abs(onto @ onto.T - np.eye(8)).max() < 1e-12

    def test_directions_are_those_of_the_formula(self) -> None:
        """The same in plain integers and floats: what an emitter in another language has to compute."""
        mask = 2**64 - 1

        def mix64(z: int) -> int:
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
            return z ^ (z >> 31)

        size, count, seed = 5, 3, 7
        rows: list[list[float]] = []
        for j in range(count):
            row = [
                2 * (mix64((mix64(seed) + (j * size + i + 1) * 0x9E3779B97F4A7C15) & mask) >> 11) / 2**53 - 1
                for i in range(size)
            ]
            for earlier in rows:
                along = math.fsum(x * y for x, y in zip(row, earlier, strict=True))
                row = [x - along * y for x, y in zip(row, earlier, strict=True)]
            length = math.sqrt(math.fsum(x * x for x in row))
            rows.append([x / length for x in row])
        assert np.abs(directions(size, count, seed) - np.array(rows)).max() < 1e-12
        assert mix64(1) == 0x5692161D100B05E5  # SplitMix64's finaliser, so that a typo here shows

    def test_another_seed_is_another_feature_and_neighbouring_seeds_are_unrelated(self) -> None:
        names = [one.name for one in Feature("e", kind="projection", projections=2, seed=9).expanded()]
        assert names == ["e:9[0]", "e:9[1]"]
        # cosines of random directions of 512 have a standard deviation of 1/sqrt(512)
        assert np.abs(directions(512, 4, 1) @ directions(512, 4, 2).T).max() < 5 / math.sqrt(512)

    def test_a_projection_is_the_product_with_its_direction(self) -> None:
        vector = RNG.standard_normal((1, 64)).astype(np.float32)
        expected = vector[0].astype(np.float64) @ directions(64, 1, 3)[0]
        assert value_of(vector, kind="projection", projections=1, seed=3) == pytest.approx(expected, rel=1e-5)

    def test_as_many_as_elements_keep_the_length(self) -> None:
        vector = RNG.standard_normal(16)
        assert np.linalg.norm(directions(16, 16, 0) @ vector) == pytest.approx(np.linalg.norm(vector))


class TestText:
    @pytest.mark.parametrize(
        ("text", "numbers"),
        [
            ("ab 1!", (5, 0.4, 0.2, 0.2, 0.2, 0)),
            (b"ab 1!\xff", (6, 2 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 6)),
            ("Größe", (5, 1, 0, 0, 0, 0)),
            ("\u4f60\u597d\uff0c", (3, 2 / 3, 0, 0, 0, 1 / 3)),
            ("\ud800x", (2, 0.5, 0, 0, 0, 0.5)),
            ("\u0663", (1, 0, 1, 0, 0, 0)),
            ("a" * 1_000_000, (1e6, 1, 0, 0, 0, 0)),
            ("é" * 1_000_000, (1e6, 1, 0, 0, 0, 0)),
        ],
    )
    def test_length_and_classes(self, text: str | bytes, numbers: tuple[float, ...]) -> None:
        assert text_numbers(text) == pytest.approx(numbers)

    @pytest.mark.parametrize("nothing", ["", b"", None, 3.5, [], {}, float("nan")])
    def test_what_is_no_text_is_missing(self, nothing: object) -> None:
        assert all(math.isnan(number) for number in text_numbers(nothing))

    @given(st.one_of(st.text(st.characters(exclude_categories=()), min_size=1), st.binary(min_size=1)))
    def test_shares_of_any_text_sum_to_one(self, text: str | bytes) -> None:
        length, *shares = text_numbers(text)
        assert length == len(text)
        assert math.fsum(shares) == pytest.approx(1)
        assert all(0 <= share <= 1 for share in shares)

    @given(st.text("ab1 !é中", min_size=1, max_size=200))
    def test_the_two_ways_agree(self, text: str) -> None:
        plain = text.encode("ascii", "replace").decode().replace("?", "a")  # é and 中 are letters, as a is
        assert text_numbers(text) == pytest.approx(text_numbers(plain))

    def test_nothing_of_a_text_is_in_the_ring(self) -> None:
        capture = TextInput("x", tuple(Feature(kind, kind=kind) for kind in TEXT_KINDS))
        rows = capture.rows_of({"x": np.array([["secret 1234"]], dtype=object)}, 1)
        assert rows is not None
        assert rows.tolist() == [[11, *(n / 11 for n in (6, 4, 1, 0, 0))]]

    @pytest.mark.parametrize(
        "value",
        [
            np.array(["a", "b"]), np.array([["a"], ["b"]], dtype=object), np.array([b"a", b"b"]), ["a", "b"],
            [["a"], ["b"]], [["a", "x"], ["b"]], ("a", b"b"), [None, "b"],
        ],
    )  # fmt: skip
    def test_arrays_and_lists_of_texts_are_read_ragged_ones_too(self, value: Any) -> None:
        assert is_textual(value)
        capture = TextInput("x", (Feature("n", kind="text_length"),))
        assert capture.samples_in({"x": value}) == 2
        rows = capture.rows_of({"x": value}, 1)
        assert rows is not None
        assert rows.shape == (2, 6)

    def test_of_a_table_of_texts_a_column_is_read_and_a_cell_that_is_not_there_is_missing(self) -> None:
        capture = TextInput("x", (Feature("n", kind="text_length", column=1),))
        rows = capture.rows_of({"x": [["a", "four"], ["b"]]}, 1)
        assert rows is not None
        assert rows[0, 0] == 4
        assert math.isnan(rows[1, 0])

    @pytest.mark.parametrize("value", [[], [1.0, 2.0], np.zeros(3), np.empty((2, 2, 2), dtype=object), None, 7])
    def test_anything_else_is_no_text(self, value: Any) -> None:
        assert not is_textual(value)


class TestCategories:
    @pytest.mark.parametrize(
        ("value", "code"),
        [
            ("red", 0), (b"red", 0), (np.str_("red"), 0), ("Red", UNSEEN), ("", MISSING), (b"", MISSING),
            (None, MISSING),
            (float("nan"), MISSING), (np.float32("nan"), MISSING), (7, 1), (7.0, 1), (np.int64(7), 1), ("7", 1),
            (7.5, UNSEEN),
            (True, 2), (np.True_, 2), (False, UNSEEN), (float("inf"), UNSEEN), (10**300, UNSEEN), ([], UNSEEN),
            ("\ud800", UNSEEN), (b"\xff" * 10_000, UNSEEN),
        ],
    )  # fmt: skip
    def test_a_value_of_any_type_has_a_code(self, value: object, code: float) -> None:
        assert category_code(value, {"red": 0, "7": 1, "true": 2}) == code

    def test_numbers_are_looked_up_exactly(self) -> None:
        feature = Feature("c", kind="category", column=0, categories=(30, -1, 2**53))
        values = np.array([30, -1, 2**53, 31, 30.5, np.nan, np.inf, -np.inf])
        assert Vocabulary(feature).codes(values).tolist() == [0, 1, 2, -1, -1, -3, -4, -4]

    def test_states_and_categories_of_a_table(self) -> None:
        feature = Feature("c", kind="category", column=0, categories=("a", "b"))
        table = CategoryTable((feature,))
        table.add(np.array([[0.0], [1.0], [1.0], [UNSEEN], [MISSING], [-3.0], [-4.0]]))
        table.add_missing(5)
        ((of, categories, states),) = table.take()
        assert of is feature
        assert categories == [("a", 1), ("b", 2), ("_OTHER", 1)]
        assert dict(states) == {
            FeatureState.OK: 3, FeatureState.UNSEEN: 1, FeatureState.MISSING: 6, FeatureState.NAN: 1,
            FeatureState.INFINITE: 1,
        }  # fmt: skip
        assert table.take() == []

    def test_a_boolean_column_of_a_numeric_table(self) -> None:
        feature = Feature("flag", kind="category", column=1, categories=(False, True))
        tensor = np.array([[5, 1], [6, 0], [7, 1]], dtype=np.int64)
        runs = ModelRuns((), ModelInputs("m", "1"))
        capture = NumericInput("x", tensor, (feature,))
        capture.bind(runs)
        rows = capture.rows_of({"x": tensor}, 1)
        assert rows is not None
        capture.fold(rows)
        points = Points()
        runs.inputs.emit(points)
        counted = {dict(at)["edge.feature.category"]: n for at, n in points.by_metric["edge.input.categories"]}
        assert counted == {"false": 1, "true": 2}


class TestInference:
    """Without a declaration only what leaves no doubt is watched."""

    @pytest.mark.parametrize(
        ("name", "tensor", "kinds"),
        [
            ("x", np.zeros((1, 16), np.float32), "column " * 16),
            ("x", np.zeros((1, 17), np.float32), ""),
            ("age", np.zeros((5, 1), np.int64), "column"),
            ("input_ids", np.zeros((1, 8), np.int64), ""),
            ("x", np.zeros((1, 3, 32, 32), np.uint8), "mean std dark_share saturated_share"),
            ("x", np.zeros((1, 32, 32, 1), np.float32), "mean std dark_share saturated_share"),
            ("x", np.full((1, 3, 32, 32), -2.0, np.float32), "mean std"),
            ("x", np.full((1, 3, 32, 32), 200.0, np.float32), "mean std"),
            ("x", np.full((1, 3, 32, 32), np.nan, np.float32), "mean std dark_share saturated_share"),
            ("x", np.zeros((1, 64, 7, 7), np.float32), ""),
            ("x", np.zeros((1, 3, 4, 4), np.float32), ""),
            ("x", np.zeros((1, 3, 32, 32), np.int64), ""),
            ("audio_signal", np.zeros((1, 16_000), np.float32), "rms zero_crossing_rate clipped_share"),
            ("waveform", np.full((1, 1, 512), -1.0, np.float32), "rms zero_crossing_rate clipped_share"),
            ("audio", np.full((1, 16_000), 9.0, np.float32), ""),
            ("embedding", np.zeros((1, 16_000), np.float32), ""),
            ("audio", np.zeros((1, 80), np.float32), ""),
        ],
    )
    def test_of_tensors(self, name: str, tensor: NDArray[Any], kinds: str) -> None:
        features, reasons = inferred_features({name: tensor}, {})
        assert [feature.kind for feature in features] == kinds.split()
        assert len(reasons) == bool(kinds)
        assert all(feature.input == name for feature in features)

    def test_no_more_than_64_features_and_names_that_fit(self) -> None:
        many = {f"t{n}": np.zeros((1, 9), np.float32) for n in range(10)}
        features, reasons = inferred_features(many, {})
        assert (len(features), len(reasons)) == (63, 7)

    def test_two_inputs_whose_cut_names_are_equal_are_watched_once(self) -> None:
        feed = {f"{'long' * 30}{n}": np.zeros((1, 2), np.float32) for n in range(2)}
        captures, _ = input_captures(feed, Signals())
        assert len(captures) == 1


class TestMisfits:
    """What of a declaration does not fit the first run is left out, and said in words."""

    @pytest.mark.parametrize(
        ("feature", "said"),
        [
            (
                Feature("f", kind="mean", input="y"),
                "no numeric or text input 'y' in the first run; known are t, x",
            ),
            (Feature("f", column=9, input="x"), "no column 9 \\(of 4"),
            (Feature("f", kind="text_length", input="x"), "holds numbers, no text"),
            (Feature("f", kind="mean", input="t"), "holds text, which has kind 'category'"),
            (Feature("f", kind="sharpness", input="x"), "no image of at least 3 x 3"),
            (Feature("f", kind="projection", projections=5, input="x"), "has 4 elements, so at most as many"),
            (Feature("f", kind="category", column=0, categories=("a",), input="x"), "categories as numbers"),
            (Feature("f", kind="category", column=4, categories=(1,), input="x"), "no column 4"),
        ],
    )
    def test_each_is_named(self, feature: Feature, said: str) -> None:
        feed = {"x": np.zeros((1, 4), np.float32), "t": np.array(["a"])}
        captures, complaints = input_captures(feed, Signals(features=(feature,)))
        assert captures == []
        (complaint,) = complaints
        assert "feature 'f' is not watched" in complaint
        assert re.search(said, complaint)

"""What to watch of a model's inputs and outputs, declared in code or in ``<model>.signals.toml`` beside the model.

A feature is one number (or category) a sample: a column of a table-like input, or a cheap statistic of an image, a
sound, a text or an embedding. Its grid (``center`` and ``unit``, in the feature's own unit) pins the histogram's
buckets, so that a baseline and a thousand devices speak of the same bins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Final

from device_sdk.contract.attributes import VALUE_LENGTH_MAX
from device_sdk.errors import SignalsError, nearest

COLUMN: Final = "column"
CATEGORY: Final = "category"
PROJECTION: Final = "projection"
SPREAD_KINDS: Final = ("mean", "std", "dark_share", "saturated_share")
"""Statistics of elements read at an even stride."""
SOUND_KINDS: Final = ("rms", "peak", "zero_crossing_rate", "clipped_share")
"""Statistics of contiguous runs along the longest axis."""
PATCH_KINDS: Final = ("sharpness",)
"""Statistics of contiguous patches of an image."""
TEXT_KINDS: Final = ("text_length", "letter_share", "digit_share", "space_share", "punctuation_share", "other_share")
"""Statistics of a text or of bytes."""
FEATURE_KINDS: Final = (COLUMN, CATEGORY, *SPREAD_KINDS, *PATCH_KINDS, *SOUND_KINDS, PROJECTION, *TEXT_KINDS)

AUTO: Final = "auto"
PROBABILITIES: Final = "probabilities"
LOGITS: Final = "logits"
VALUE: Final = "value"
EMBEDDING: Final = "embedding"
DETECTIONS: Final = "detections"
NONE: Final = "none"
OUTPUT_KINDS: Final = (AUTO, PROBABILITIES, LOGITS, VALUE, EMBEDDING, DETECTIONS, NONE)
BOX_FORMATS: Final = ("xyxy", "yxyx", "xywh", "cxcywh")
LAYOUTS: Final = ("row", "column")

FEATURES_MAX: Final = 64
NAME_LENGTH_MAX: Final = 64
CATEGORY_FEATURES_MAX: Final = 8
CATEGORIES_MAX: Final = 32
PROJECTIONS_MAX: Final = 16
OUTPUTS_MAX: Final = 8
_EXACT_INT_MAX: Final = 2**53
_SEED_MAX: Final = 2**63 - 1

_TYPES: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    **dict.fromkeys(("name", "kind", "layout", "format", "output"), ((str,), "text")),
    **dict.fromkeys(("input", "scores", "labels", "output_name"), ((str, type(None)), "text")),
    **dict.fromkeys(("center", "unit", "threshold", "output_center", "output_unit"), ((Real,), "a number")),
    **dict.fromkeys(("low", "high"), ((Real, type(None)), "a number")),
    **dict.fromkeys(("column", "projections"), ((Integral, type(None)), "a whole number")),
    "seed": ((Integral,), "a whole number"),
    **dict.fromkeys(("range",), ((tuple, list, type(None)), "a list of two numbers")),
    **dict.fromkeys(("frame",), ((tuple, list), "a list of two numbers")),
    **dict.fromkeys(("classes", "categories", "features", "outputs"), ((tuple, list), "a list")),
}
"""What each field takes; a boolean is no number here."""

_NEEDS: Final = {"dark_share": "low", "saturated_share": "high", "clipped_share": "high"}
_MEANING: Final = {
    "dark_share": "elements at or below it count as dark",
    "saturated_share": "elements at or above it count as saturated",
    "clipped_share": "elements whose size is at or above it count as clipped",
}


@dataclass(frozen=True, slots=True)
class Feature:
    """One number or category a sample, and the grid its histogram is pinned to.

    ``kind`` is ``column`` (then ``column`` is its index in a 2-D input), ``category`` (a column whose values are
    counted by ``categories``, at most 32 of text, whole numbers or booleans), ``projection`` (an embedding on
    ``projections`` fixed directions made from ``seed``), or a statistic of the sample:

    * of any numeric tensor ``mean``, ``std``, ``dark_share`` (share of elements <= ``low``), ``saturated_share``
      (share >= ``high``);
    * of an image ``sharpness`` (variance of the Laplacian);
    * of a sound ``rms``, ``peak``, ``zero_crossing_rate``, ``clipped_share`` (share of absolute values >= ``high``);
    * of text or bytes ``text_length`` and the shares of letters, digits, spaces, punctuation and anything else.

    ``range`` is the physically possible interval: values outside count as ``below_range`` or ``above_range``.
    ``input`` names the model input (default: the first one).
    """

    name: str
    kind: str = COLUMN
    column: int | None = None
    center: float = 0.0
    unit: float = 1.0
    low: float | None = None
    high: float | None = None
    range: tuple[float, float] | None = None
    input: str | None = None
    categories: tuple[str | int | bool, ...] = ()
    projections: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        label = f"feature {self.name!r}"
        _check_types(label, self)
        if not self.name or len(self.name) > NAME_LENGTH_MAX:
            raise SignalsError(f"{label}: a name has 1 to {NAME_LENGTH_MAX} characters")
        if self.kind not in FEATURE_KINDS:
            raise SignalsError(f"{label}: kind {self.kind!r}: {nearest(str(self.kind), FEATURE_KINDS)}")
        self._check_column(label)
        _check_grid(label, self.center, self.unit)
        needed = _NEEDS.get(self.kind)
        if needed and getattr(self, needed) is None:
            raise SignalsError(f"{label}: {self.kind} needs {needed}= ({_MEANING[self.kind]})")
        if self.range is not None:
            if not (len(self.range) == 2 and _numbers(self.range) and self.range[0] < self.range[1]):
                raise SignalsError(f"{label}: range={self.range!r}; give (lowest, highest)")
            object.__setattr__(self, "range", tuple(self.range))
        object.__setattr__(self, "categories", tuple(self.categories))
        if bool(self.categories) != (self.kind == CATEGORY):
            raise SignalsError(f"{label}: kind {self.kind!r}: categories= and kind = {CATEGORY!r} go together")
        if self.kind == CATEGORY:
            self._check_categories(label)
        if (self.projections is not None) != (self.kind == PROJECTION):
            raise SignalsError(f"{label}: kind {self.kind!r}: projections= and kind = {PROJECTION!r} go together")
        if self.projections is not None:
            _check_projections(label, self.name, self.projections, self.seed)

    def _check_column(self, label: str) -> None:
        if self.kind in (COLUMN, CATEGORY, *TEXT_KINDS):
            if (self.column is None and self.kind not in TEXT_KINDS) or (self.column is not None and self.column < 0):
                raise SignalsError(f"{label}: column={self.column!r}; give the column's index, 0 for the first")
        elif self.column is not None and self.kind != PROJECTION:
            raise SignalsError(f"{label}: column= is not for kind {self.kind!r}, which reads the whole sample")

    def _check_categories(self, label: str) -> None:
        names = self.category_names
        if len(names) > CATEGORIES_MAX:
            raise SignalsError(f"{label}: {len(names)} categories: at most {CATEGORIES_MAX}; the rest counts as _OTHER")
        for value, name in zip(self.categories, names, strict=True):
            if not isinstance(value, (str, int)) or (isinstance(value, int) and abs(value) > _EXACT_INT_MAX):
                raise SignalsError(f"{label}: category {value!r}: give text, whole numbers up to 2**53 or booleans")
            if not name or len(name) > NAME_LENGTH_MAX:
                raise SignalsError(f"{label}: category {value!r}: 1 to {NAME_LENGTH_MAX} characters")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SignalsError(f"{label}: category {twice[0]!r} is declared twice")

    @property
    def grid(self) -> str:
        """The wire's text of this grid, ``c=<centre>;u=<unit>``."""
        return f"c={_number_text(self.center)};u={_number_text(self.unit)}"

    @property
    def category_names(self) -> list[str]:
        """The wire's names of the categories; booleans are ``true`` and ``false``."""
        return [str(value).lower() if isinstance(value, bool) else str(value) for value in self.categories]

    def expanded(self) -> tuple[Feature, ...]:
        """Return one feature a number: the seed is part of a projection's name, for another seed is another feature."""
        if self.projections is None:
            return (self,)
        names = projection_names(self.name, self.projections, self.seed)
        return tuple(replace(self, name=name, column=place) for place, name in enumerate(names))


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a model, and how to read it.

    ``kind``: ``auto`` takes a 2-D float output whose first rows are probabilities (within 0..1, summing to 1 within
    0.001), or a single float a sample as a value; logits are never guessed, declare ``logits``. ``value`` takes up to
    8 floats a sample, ``embedding`` their projections as ``Feature`` does; ``center`` and ``unit`` pin their grid.

    ``detections``: ``name`` is the output of boxes ``[N, 4]`` and ``scores`` that of ``[N]`` or ``[N, classes]``, with
    ``labels`` (class numbers ``[N]``) if there are; or without ``scores`` one output of rows x, y, x, y, score, class
    (``layout = "row"``, ``[N, 5]`` or wider) or of columns of four coordinates and a score a class (``column``,
    ``[4 + classes, N]``, candidates before suppression). Any may have a leading batch axis. ``format`` is the order of
    the coordinates, ``frame`` the frame's (width, height) in their unit (default 1, 1: they are shares of it), and
    what scores at least ``threshold`` is a detection.
    """

    name: str = ""
    kind: str = AUTO
    classes: tuple[str, ...] = ()
    center: float = 0.0
    unit: float = 1.0
    projections: int | None = None
    seed: int = 0
    scores: str | None = None
    labels: str | None = None
    layout: str = "row"
    format: str = "xyxy"
    frame: tuple[float, float] = (1.0, 1.0)
    threshold: float = 0.5

    def __post_init__(self) -> None:
        label = f"output {self.name!r}"
        _check_types(label, self)
        object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        _check_classes(self.classes)
        if self.kind not in OUTPUT_KINDS:
            raise SignalsError(f"{label}: kind {self.kind!r}: {nearest(str(self.kind), OUTPUT_KINDS)}")
        _check_grid(label, self.center, self.unit)
        if (self.projections is not None) != (self.kind == EMBEDDING):
            raise SignalsError(f"{label}: kind {self.kind!r}: projections= and kind = {EMBEDDING!r} go together")
        if self.projections is not None:
            _check_projections(label, self.name, self.projections, self.seed)
        if self.kind == DETECTIONS:
            self._check_detections(label)
        elif self.scores is not None or self.labels is not None:
            raise SignalsError(f"{label}: scores= and labels= go with kind = {DETECTIONS!r}")

    def _check_detections(self, label: str) -> None:
        if not self.name:
            raise SignalsError(f"{label}: detections need name= (the output of the boxes)")
        if self.layout not in LAYOUTS:
            raise SignalsError(f"{label}: layout {self.layout!r}: {nearest(str(self.layout), LAYOUTS)}")
        if self.format not in BOX_FORMATS:
            raise SignalsError(f"{label}: format {self.format!r}: {nearest(str(self.format), BOX_FORMATS)}")
        if self.labels is not None and self.scores is None:
            raise SignalsError(f"{label}: labels={self.labels!r} needs scores= too (or one output of rows)")
        if len(self.frame) != 2 or not (_numbers(self.frame) and all(0 < side < math.inf for side in self.frame)):
            raise SignalsError(f"{label}: frame={self.frame!r}; give (width, height), both above 0")
        object.__setattr__(self, "frame", tuple(self.frame))
        if not math.isfinite(self.threshold):
            raise SignalsError(f"{label}: threshold={self.threshold!r}; give the lowest score of a detection")


@dataclass(frozen=True, slots=True)
class Signals:
    """Which features, classes and outputs to watch; everything has a sensible default.

    ``outputs`` (at most 8) names each output to watch; ``output``, ``output_name``, ``output_center`` and
    ``output_unit`` are short for a single one. ``output="none"`` watches no output. ``classes`` holds for every output
    that declares none.
    """

    features: tuple[Feature, ...] = ()
    classes: tuple[str, ...] = ()
    output: str = AUTO
    output_name: str | None = None
    output_center: float = 0.0
    output_unit: float = 1.0
    outputs: tuple[Output, ...] = ()

    def __post_init__(self) -> None:
        _check_types("signals", self)
        object.__setattr__(self, "features", tuple(self.features))
        object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        _check_classes(self.classes)
        object.__setattr__(self, "outputs", tuple(self.outputs))
        self._check_features()
        if self.output not in OUTPUT_KINDS:
            raise SignalsError(f"output {self.output!r}: {nearest(str(self.output), OUTPUT_KINDS)}")
        if self.output in (DETECTIONS, EMBEDDING):
            raise SignalsError(f"output {self.output!r}: needs an [[output]] table (in code Output) for its fields")
        _check_grid("output", self.output_center, self.output_unit)
        if self.outputs and (self.output != AUTO or self.output_name is not None):
            raise SignalsError("outputs= and output= or output_name=: say it one way, every output in outputs=")
        if len(self.outputs) > OUTPUTS_MAX:
            raise SignalsError(f"{len(self.outputs)} outputs: at most {OUTPUTS_MAX} a model; drop some")
        names = [output.name for output in self.outputs]
        if not all(names) or len(set(names)) < len(names):
            raise SignalsError(f"outputs {names!r}: each needs a name of its own")

    def _check_features(self) -> None:
        for key, kind in (("features", Feature), ("outputs", Output)):
            other = [item for item in getattr(self, key) if not isinstance(item, kind)]
            if other:
                raise SignalsError(f"{key}: {other[0]!r} is no {kind.__name__}; in a file write [[{key[:-1]}]] tables")
        single = [one for feature in self.features for one in feature.expanded()]
        if len(single) > FEATURES_MAX:
            raise SignalsError(f"{len(single)} features: at most {FEATURES_MAX} a model; drop some")
        if sum(feature.kind == CATEGORY for feature in single) > CATEGORY_FEATURES_MAX:
            raise SignalsError(f"at most {CATEGORY_FEATURES_MAX} features of kind {CATEGORY!r} a model; drop some")
        names = [feature.name for feature in single]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SignalsError(f"feature {twice[0]!r} is declared twice; names must differ")

    @property
    def watched_outputs(self) -> tuple[Output, ...]:
        """The outputs to watch, one without a name where it is to be found; classes filled in."""
        if not self.outputs:
            name, center, unit = self.output_name or "", self.output_center, self.output_unit
            return (Output(name, self.output, self.classes, center, unit),)
        return tuple(replace(one, classes=one.classes or self.classes) for one in self.outputs)

    def refuse_unknown_names(self, inputs: Iterable[str], outputs: Iterable[str]) -> None:
        """Raise ``SignalsError`` with the nearest name for an input or output that a session does not have."""
        known = {"input": set(inputs), "output": set(outputs)}
        named = [(f"feature {one.name!r}", "input", one.input) for one in self.features]
        for output in self.watched_outputs:
            named += [("signals", "output", name) for name in (output.name, output.scores, output.labels)]
        for label, kind, name in named:
            if name and name not in known[kind]:
                raise SignalsError(f"{label}: the session has no {kind} {name!r}; {nearest(name, known[kind])}")


def _check_types(label: str, declared: Any) -> None:
    """Raise ``SignalsError`` for the first field whose value is of another type than it takes."""
    for name in type(declared).__slots__:
        kinds, words = _TYPES[name]
        value = getattr(declared, name)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise SignalsError(f"{label}: {name}={value!r} has the wrong type; give {words}")


def _check_classes(classes: tuple[str, ...]) -> None:
    long = [name for name in classes if not 1 <= len(name) <= VALUE_LENGTH_MAX]
    if long:
        raise SignalsError(f"class {long[0][:40]!r}: a class name has 1 to {VALUE_LENGTH_MAX} characters")


def _numbers(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, Real) and not isinstance(value, bool) for value in values)


def projection_names(name: str, projections: int, seed: int) -> list[str]:
    """Return the wire's names of an embedding's projections."""
    return [f"{name}:{seed}[{place}]" for place in range(projections)]


def _check_projections(label: str, name: str, projections: int, seed: int) -> None:
    if not 1 <= projections <= PROJECTIONS_MAX:
        raise SignalsError(f"{label}: projections={projections!r}; give 1 to {PROJECTIONS_MAX}")
    if not 0 <= seed <= _SEED_MAX:
        raise SignalsError(f"{label}: seed={seed!r}; give a whole number from 0 to 2**63 - 1, the same on every device")
    longest = projection_names(name, projections, seed)[-1]
    if len(longest) > NAME_LENGTH_MAX:
        raise SignalsError(f"{label}: with its seed the name is {longest!r}; at most {NAME_LENGTH_MAX} characters")


def _check_grid(label: str, center: float, unit: float) -> None:
    if not (math.isfinite(center) and math.isfinite(unit) and unit > 0):
        raise SignalsError(f"{label}: center={center!r}, unit={unit!r}; unit must be finite and above 0")


def _number_text(value: float) -> str:
    """Return the shortest text that reads back as the same double, ``0`` rather than ``0.0``."""
    text = repr(float(value))
    return text.removesuffix(".0")

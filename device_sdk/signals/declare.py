"""What to watch of a model's inputs and outputs, declared in code or in ``<model>.signals.toml`` beside the model.

A feature is one number a sample: a column of a table-like input, or a cheap statistic of an image or any other large
tensor. Its grid (``center`` and ``unit``, in the feature's own unit) pins the histogram's buckets, so that a baseline
and a thousand devices speak of the same bins.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from device_sdk.contract.attributes import VALUE_LENGTH_MAX
from device_sdk.errors import SignalsError, nearest

COLUMN: Final = "column"
FEATURE_KINDS: Final = (COLUMN, "mean", "std", "dark_share", "saturated_share")
OUTPUT_KINDS: Final = ("auto", "probabilities", "logits", "value", "none")
FEATURES_MAX: Final = 64
NAME_LENGTH_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Feature:
    """One number a sample, and the grid its histogram is pinned to.

    ``kind`` is ``column`` (then ``column`` is its index in a 2-D input) or a statistic over the sample's elements:
    ``mean``, ``std``, ``dark_share`` (share of elements <= ``low``), ``saturated_share`` (share >= ``high``).
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

    def __post_init__(self) -> None:
        label = f"feature {self.name!r}"
        if not self.name or len(self.name) > NAME_LENGTH_MAX:
            raise SignalsError(f"{label}: a name has 1 to {NAME_LENGTH_MAX} characters")
        if self.kind not in FEATURE_KINDS:
            raise SignalsError(f"{label}: kind {self.kind!r}: {nearest(str(self.kind), FEATURE_KINDS)}")
        if self.kind == COLUMN and (self.column is None or self.column < 0):
            raise SignalsError(f"{label}: column={self.column!r}; give the column's index, 0 for the first")
        if not (math.isfinite(self.center) and math.isfinite(self.unit) and self.unit > 0):
            raise SignalsError(f"{label}: center={self.center!r}, unit={self.unit!r}; unit must be finite and above 0")
        if self.kind == "dark_share" and self.low is None:
            raise SignalsError(f"{label}: dark_share needs low= (elements at or below it count as dark)")
        if self.kind == "saturated_share" and self.high is None:
            raise SignalsError(f"{label}: saturated_share needs high= (elements at or above it count as saturated)")
        if self.range is not None and not (len(self.range) == 2 and self.range[0] < self.range[1]):
            raise SignalsError(f"{label}: range={self.range!r}; give (lowest, highest)")

    @property
    def grid(self) -> str:
        """The wire's text of this grid, ``c=<centre>;u=<unit>``."""
        return f"c={_number_text(self.center)};u={_number_text(self.unit)}"


@dataclass(frozen=True, slots=True)
class Signals:
    """Which features, classes and output to watch; everything has a sensible default.

    ``output``: ``auto`` takes the first 2-D float output whose first rows are probabilities (within 0..1, summing to 1
    within 0.001), or a single float a sample as a value; logits are never guessed, declare ``logits``. ``none``
    watches no output. ``output_center`` and ``output_unit`` pin the grid of a value.
    """

    features: tuple[Feature, ...] = ()
    classes: tuple[str, ...] = ()
    output: str = "auto"
    output_name: str | None = None
    output_center: float = 0.0
    output_unit: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self.features))
        object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        long = [name for name in self.classes if not 1 <= len(name) <= VALUE_LENGTH_MAX]
        if long:
            raise SignalsError(f"class {long[0][:40]!r}: a class name has 1 to {VALUE_LENGTH_MAX} characters")
        if self.output not in OUTPUT_KINDS:
            raise SignalsError(f"output {self.output!r}: {nearest(str(self.output), OUTPUT_KINDS)}")
        if len(self.features) > FEATURES_MAX:
            raise SignalsError(f"{len(self.features)} features: at most {FEATURES_MAX} a model; drop some")
        names = [feature.name for feature in self.features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SignalsError(f"feature {twice[0]!r} is declared twice; names must differ")
        if not (math.isfinite(self.output_center) and math.isfinite(self.output_unit) and self.output_unit > 0):
            raise SignalsError(f"output_unit={self.output_unit!r}: must be finite and above 0")


def load_signals(path: Path) -> Signals:
    """Read a ``.signals.toml`` file; raise ``SignalsError`` that names the file and the key."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SignalsError(f"{path}: {error}") from None
    try:
        return signals_from_mapping(data)
    except SignalsError as error:
        raise SignalsError(f"{path}: {error}") from None


def signals_from_mapping(data: Mapping[str, object]) -> Signals:
    """Build ``Signals`` from the keys of its TOML form (``[[feature]]`` tables and the names of the fields)."""
    known = {item.name for item in fields(Signals)} - {"features"} | {"feature"}
    _refuse_unknown(data, known, "signals")
    tables = data.get("feature", [])
    if not isinstance(tables, list):
        raise SignalsError("feature: write [[feature]] tables")
    rest = {key: value for key, value in data.items() if key != "feature"}
    try:
        features = tuple(_feature(table) for table in tables)
        return Signals(features=features, **rest)  # type: ignore[arg-type]
    except TypeError as error:
        raise SignalsError(f"a value has the wrong type: {error}") from None


def signals_beside(model_path: str) -> Signals | None:
    """Return the declaration in ``<model>.signals.toml`` beside the model file, None when there is none."""
    beside = Path(model_path).with_suffix(".signals.toml")
    return load_signals(beside) if beside.is_file() else None


def _feature(table: object) -> Feature:
    if not isinstance(table, dict):
        raise SignalsError(f"feature {table!r}: write a [[feature]] table")
    _refuse_unknown(table, {item.name for item in fields(Feature)}, f"feature {table.get('name', '?')!r}")
    if "name" not in table:
        raise SignalsError('a [[feature]] has no name; add name = "..."')
    values = dict(table)
    if isinstance(values.get("range"), list):
        values["range"] = tuple(values["range"])
    return Feature(**values)


def _refuse_unknown(data: Mapping[str, object], known: set[str], label: str) -> None:
    for key in data:
        if key not in known:
            raise SignalsError(f"{label}: no key {key!r}; {nearest(key, known)}")


def _number_text(value: float) -> str:
    """Return the shortest text that reads back as the same double, ``0`` rather than ``0.0``."""
    text = repr(float(value))
    return text.removesuffix(".0")

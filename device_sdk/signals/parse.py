"""A declaration from TOML or from any mapping: the same fields as in code, and an error that names the nearest one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar

from device_sdk.errors import SignalsError, nearest
from device_sdk.reading_files import read_regular
from device_sdk.signals.declare import Feature, Output, Signals

_T = TypeVar("_T")
_FILE_BYTES_MAX: Final = 1 << 20


def load_signals(path: Path) -> Signals:
    """Read a ``.signals.toml`` file; raise ``SignalsError`` that names the file and the key."""
    try:
        data = tomllib.loads(read_regular(path, _FILE_BYTES_MAX).decode("utf-8-sig"))  # editors put a mark before it
    except (OSError, ValueError, RecursionError) as error:
        raise SignalsError(f"{path}: {error}") from None
    try:
        return signals_from_mapping(data)
    except SignalsError as error:
        raise SignalsError(f"{path}: {error}") from None


def signals_from_mapping(data: Mapping[str, object]) -> Signals:
    """Build ``Signals`` from the keys of its TOML form: names of the fields, ``[[feature]]`` and ``[[output]]`` tables.

    ``output`` is either the kind of the single output to watch or the list of ``[[output]]`` tables.
    """
    known = {item.name for item in fields(Signals)} - {"features", "outputs"} | {"feature"}
    _refuse_unknown(data, known, "signals")
    rest: dict[str, Any] = dict(data)
    features = tuple(_row(table, Feature, "feature") for table in _tables(rest.pop("feature", []), "feature"))
    if not isinstance(rest.get("output", ""), str):
        rest["outputs"] = tuple(_row(table, Output, "output") for table in _tables(rest.pop("output"), "output"))
    return Signals(features=features, **rest)


def signals_beside(model_path: str) -> Signals | None:
    """Return the declaration in ``<model>.signals.toml`` beside the model file, None when there is none."""
    beside = Path(model_path).with_suffix(".signals.toml")
    return load_signals(beside) if beside.is_file() else None


def _tables(value: object, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise SignalsError(f"{key}: write [[{key}]] tables")
    return value


def _row(table: object, kind: type[_T], key: str) -> _T:
    if not isinstance(table, dict):
        raise SignalsError(f"{key} {table!r}: write a [[{key}]] table")
    label = f"{key} {table.get('name', '?')!r}"
    _refuse_unknown(table, {item.name for item in fields(kind)}, label)  # type: ignore[arg-type]
    if "name" not in table:
        raise SignalsError(f'a [[{key}]] has no name; add name = "..."')
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    return kind(**values)


def _refuse_unknown(data: Mapping[str, object], known: set[str], label: str) -> None:
    for key in data:
        if key not in known:
            raise SignalsError(f"{label}: no key {key!r}; {nearest(key, known)}")

"""What a named query is: its SQL, its typed parameters, and what is done to its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from collector.storage.base import Parameter


class _Required:
    """Marks a parameter without a default."""


REQUIRED: Final = _Required()
KINDS: Final = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter's type (``int``, ``float``, ``str``, ``bool``) and default."""

    kind: str
    default: Parameter | _Required = REQUIRED


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One query that readers can name. Parameters appear in ``sql`` as ``$name``."""

    sql: str
    params: Mapping[str, Param] = field(default_factory=dict)
    finish: Callable[[pa.Table], pa.Table] | None = None


INT: Final = Param("int")
STR: Final = Param("str")
ANY: Final = Param("str", "")
"""A filter: the empty string takes everything."""


def bind(query: NamedQuery, params: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return the parameters to run with; raises ``ValueError`` for missing, unknown or mistyped ones."""
    unknown = set(params) - set(query.params)
    if unknown:
        raise ValueError(f"unknown parameters {sorted(unknown)}; this query takes {sorted(query.params)}")
    bound: dict[str, Parameter] = {}
    for name, param in query.params.items():
        value = params.get(name, param.default)
        if isinstance(value, _Required):
            raise ValueError(f"parameter {name!r} ({param.kind}) is missing")
        fits = isinstance(value, KINDS[param.kind]) and (param.kind == "bool" or not isinstance(value, bool))
        if not fits:
            raise ValueError(f"parameter {name!r} is {value!r}; it must be of type {param.kind}")
        bound[name] = float(value) if param.kind == "float" and isinstance(value, int) else value
    return bound

"""The registry of named queries: the only way to read the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from collector.errors import UnknownQueryError
from collector.storage.named import NamedQuery, bind
from collector.storage.queries_api import API_QUERIES
from collector.storage.queries_rollup import ROLLUP_QUERIES
from collector.storage.queries_state import STATE_QUERIES

__all__ = ["QUERIES", "bind", "lookup"]

QUERIES: Final[Mapping[str, NamedQuery]] = {**ROLLUP_QUERIES, **STATE_QUERIES, **API_QUERIES}


def lookup(name: str) -> NamedQuery:
    """Return the query of that name; raises ``UnknownQueryError``."""
    query = QUERIES.get(name)
    if query is None:
        raise UnknownQueryError(f"no query is named {name!r}; known: {', '.join(sorted(QUERIES))}")
    return query

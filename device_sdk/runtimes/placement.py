"""Which provider the nodes of a graph were given, and whether that is the one that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_ANYWHERE: Final = ("AUTO", "MULTI")
_WRAPPERS: Final = ("AUTO", "MULTI", "HETERO", "BATCH")
_PLAIN_CPU: Final = ("CPU", "CPUExecutionProvider")


def preferred(requested: Sequence[str]) -> str:
    """Return the provider that was asked for first, '' when any would do.

    OpenVINO's combining devices name theirs after a colon (``HETERO:GPU,CPU``); ``AUTO`` alone leaves the choice to it.
    """
    if not requested:
        return ""
    combining, _, devices = requested[0].partition(":")
    if combining.upper() not in _WRAPPERS:
        return requested[0]
    first = devices.partition(",")[0].partition("(")[0].strip()
    return first or ("" if combining.upper() in _ANYWHERE else combining)


def fell_back(requested: Sequence[str], providers: Sequence[str], nodes: Sequence[tuple[str, int]]) -> bool:
    """Say whether a part of the graph runs elsewhere than on the provider that was asked for first.

    Where the runtime does not tell of nodes, a provider that is not even there says so.
    """
    wanted = preferred(requested)
    if not wanted or wanted in _PLAIN_CPU:
        return False
    if nodes:
        return any(count and not _same(wanted, provider) for provider, count in nodes)
    return bool(providers) and not any(_same(wanted, provider) for provider in providers)


def placed(requested: Sequence[str], nodes: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Return the nodes by provider, with a 0 for the provider that was asked for first and got none."""
    wanted = preferred(requested)
    if nodes and wanted and wanted not in _PLAIN_CPU and not any(_same(wanted, provider) for provider, _ in nodes):
        return (*nodes, (wanted, 0))
    return tuple(nodes)


def _same(wanted: str, provider: str) -> bool:
    """Say whether two names are of one provider: ``GPU`` is ``GPU.0`` too."""
    return wanted == provider or wanted == provider.partition(".")[0]

"""Counts for drift: signal rows of a stretch of hours as dense hours x devices x bins blocks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics.baseline import latest_tiers
from analytics.bins import PinnedBins, fill
from analytics.signals import HOUR_NS, SignalRows

Reals = NDArray[np.float64]
ModelVersion = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Signal rows of the hours [first_ns, first_ns + hours) by model version."""

    first_ns: int
    hours: int
    rows: dict[ModelVersion, list[SignalRows]]


@dataclass(frozen=True, slots=True, eq=False)
class StreamCounts:
    """Current counts of one signal: hours x devices x bins from ``first_ns``; ``tiers`` is each device's own.

    The reference's devices come first, in its order, then devices it does not know.
    """

    first_ns: int
    counts: Reals
    tiers: tuple[str, ...]


def stream_counts(
    chunks: Sequence[Chunk], key: ModelVersion, bins: PinnedBins, known: Iterable[tuple[str, str]]
) -> StreamCounts:
    """Return one signal's dense counts over the chunks; ``known`` gives the reference's (device, tier) first."""
    parts = [(chunk, rows) for chunk in chunks for rows in chunk.rows.get(key, ()) if rows.signal == bins.signal]
    tiers = dict(known)
    for _, rows in parts:
        tiers.update(latest_tiers(rows))
    index = {device: i for i, device in enumerate(tiers)}
    spans = [(chunk.first_ns, chunk.first_ns + chunk.hours * HOUR_NS) for chunk in chunks]
    first_ns, end_ns = min(span[0] for span in spans), max(span[1] for span in spans)
    counts = np.zeros(((end_ns - first_ns) // HOUR_NS, len(index), bins.size))
    for chunk, rows in parts:
        at = (chunk.first_ns - first_ns) // HOUR_NS
        counts[at : at + chunk.hours] += fill(rows, bins, index, chunk.first_ns, chunk.hours, HOUR_NS)
    return StreamCounts(first_ns, counts, tuple(tiers.values()))

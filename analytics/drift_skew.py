"""Training-serving skew: the fleet's last day beside the golden data set. It is shown, never called drift.

A data set has no devices to match, so composition and change cannot be told apart and no test is made. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analytics.baseline import Reference
from analytics.drift import js_distance, psi
from analytics.drift_counts import Chunk, ModelVersion, stream_counts
from analytics.drift_judge import WINDOW_HOURS
from analytics.rows import finite
from analytics.signals import CATEGORICAL, HOUR_NS


def skew_by_tier(
    golden: Reference, chunks: Sequence[Chunk], key: ModelVersion, instants: Sequence[int]
) -> dict[tuple[int, str, str], dict[str, Any]]:
    """Return the skew of each (T, signal, tier) with data in the 24 hours before T.

    ``effect`` is the plain W1 over the golden sd (numeric) or TVD (categorical), ``shift_sd`` the mean's difference.
    """
    result: dict[tuple[int, str, str], dict[str, Any]] = {}
    if not instants or not chunks:
        return result
    for name, signal in golden.signals.items():
        bins = signal.bins
        total = float(bins.counts.sum())
        if total <= 0 or bins.size < 2:
            continue
        share0 = bins.counts / total
        current = stream_counts(chunks, key, bins, ())
        tiers = np.array(current.tiers, dtype=np.str_)
        for tier in sorted(set(current.tiers)):
            hourly = current.counts[:, tiers == tier].sum(axis=1)
            for at_ns in instants:
                b = (at_ns - current.first_ns) // HOUR_NS
                counts = hourly[max(b - WINDOW_HOURS, 0) : b].sum(axis=0)
                if counts.sum() < 1:
                    continue
                share1 = counts / counts.sum()
                change = share1 - share0
                if bins.kind == CATEGORICAL:
                    effect, shift = 0.5 * float(np.abs(change).sum()), None
                else:
                    effect = float(np.abs(np.cumsum(change)[:-1]) @ np.diff(bins.scores) / bins.spread)
                    shift = finite(float(change @ bins.scores / bins.spread), 5)
                result[at_ns, name, tier] = {
                    "baseline_id": golden.baseline_id,
                    "effect": finite(effect, 5),
                    "shift_sd": shift,
                    "psi": finite(psi(share0, share1), 5),
                    "js": finite(js_distance(share0, share1), 5),
                    "n": float(counts.sum()),
                    "edges": [finite(edge, 5) for edge in bins.edges.tolist()],
                    "labels": list(bins.labels),
                    "reference_share": [finite(share, 5) for share in share0.tolist()],
                    "current_share": [finite(share, 5) for share in share1.tolist()],
                }
    return result

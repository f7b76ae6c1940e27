"""Did the fleet change, or only who reports? The device-level split of a difference, and the test of its mix part.

Kitagawa's decomposition with the device as the stratum: the part of a pooled change that happens inside devices, and
the part that comes from devices reporting more, less, newly or no longer. Pure.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]

MIX_ALPHA: Final = 0.01
_PERMUTATIONS: Final = 199


def composition_share(n0: Reals, n1: Reals, p0: Reals, p1: Reals) -> float:
    """Return the share of the pooled change that is composition: <total, composition>/|total|² on cumulative shares.

    A row per device that reported in either window; ``p0`` (``p1``) is ignored where ``n0`` (``n1``) is 0. It can
    leave [0, 1] when the two parts pull in opposite directions; NaN when nothing changed or a window is empty.
    """
    if n0.sum() <= 0 or n1.sum() <= 0:
        return float("nan")
    w0, w1 = n0 / n0.sum(), n1 / n1.sum()
    total = w1 @ p1 - w0 @ p0
    both = (n0 > 0) & (n1 > 0)
    within = (0.5 * (w0 + w1))[both] @ (p1 - p0)[both]
    cumulative = np.cumsum(total)[:-1]
    size = float(cumulative @ cumulative)
    if size <= 1e-18:
        return float("nan")
    return float(cumulative @ np.cumsum(total - within)[:-1] / size)


def reweighting(n0: Reals, n1: Reals, p0: Reals, step: Reals | None, floor: float) -> tuple[float, float]:
    """Return (effect, p) of re-weighting the reference by each device's reporting ratio n1/n0.

    The effect is W1 with the distances ``step`` between bins (in sd), or TVD when ``step`` is None; p comes from 199
    permutations of the ratios over devices with a fixed seed and is NaN while the effect is under ``floor``.
    """
    known = n0 > 0
    n0, p0 = n0[known], p0[known]
    ratio = n1[known] / n0 if n0.size else n0
    if n0.size < 2 or ratio.sum() <= 0:
        return float("nan"), float("nan")
    base = n0 @ p0 / n0.sum()

    def distance(ratios: Reals) -> Reals:
        weight = ratios * n0
        change = weight @ p0 / weight.sum(axis=1, keepdims=True) - base
        if step is None:
            return np.asarray(0.5 * np.abs(change).sum(axis=1))
        return np.asarray(np.abs(np.cumsum(change, axis=1)[:, :-1]) @ step)

    effect = float(distance(ratio[None, :])[0])
    if effect < floor:
        return effect, float("nan")
    rng = np.random.default_rng(20260102)
    permuted = rng.permuted(np.tile(ratio, (_PERMUTATIONS, 1)), axis=1)
    return effect, float((1 + np.sum(distance(permuted) >= effect * (1 - 1e-12))) / (_PERMUTATIONS + 1))

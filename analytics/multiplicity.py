"""Many tests at once: the false discovery rate of a table of verdicts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return the q-value of each p-value: the smallest FDR at which its row would be called.

    Step-up procedure of Benjamini and Hochberg (1995), valid for independent and positively dependent tests. A NaN
    stands for a test that could not be made: it stays NaN and does not count as a test.
    """
    p = np.asarray(p_values, dtype=np.float64)
    q = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    if tested.size == 0:
        return q
    order = tested[np.argsort(p[tested], kind="stable")]
    stepped = p[order] * tested.size / np.arange(1, tested.size + 1)
    q[order] = np.minimum(1.0, np.minimum.accumulate(stepped[::-1])[::-1])
    return q

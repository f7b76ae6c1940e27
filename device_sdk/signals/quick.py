"""The usual run: one sample, one watched input and one watched output of known shapes, copied without a detour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_sdk.signals.rings import Rings


@dataclass(frozen=True, slots=True)
class Quick:
    """What a run of one sample must look like to be copied the quick way, and where to."""

    names: Any
    input: str
    in_shape: tuple[int, ...]
    in_type: np.dtype[Any]
    in_ring: NDArray[Any] | None
    flat: slice | NDArray[np.intp] | None
    out_at: Any
    out_shape: tuple[int, ...] | None
    out_type: np.dtype[Any] | None
    out_ring: NDArray[Any] | None

    def fits(self, names: Any, row: Any, result: Any) -> bool:
        """Say whether a run is of this kind; anything may come in ``row`` and ``result``."""
        try:
            if row.shape != self.in_shape or row.dtype != self.in_type or names != self.names:
                return False
            if self.out_shape is None:
                return True
            answer = result[self.out_at]
            return bool(answer.shape == self.out_shape and answer.dtype == self.out_type)
        except Exception:  # noqa: BLE001 - a list, a map, nothing at all, an object that raises what it likes
            return False


def quick_way(
    rings: Rings,
    names: Sequence[str] | None,
    places: Mapping[str, Any],
    feed: Mapping[str, Any],
    outputs: Mapping[str, Any],
    input_names: Sequence[str],
) -> Quick | None:
    """Return the quick way of runs like this one, of one sample; None when more than two tensors are watched.

    ``places`` says where in the result each output is.
    """
    first = feed.get(input_names[0]) if input_names else None
    if not isinstance(first, np.ndarray) or len(rings.inputs) > 1 or len(rings.outputs) > 1:
        return None
    captured = rings.inputs[0] if rings.inputs else None
    if captured is not None and (captured.name != input_names[0] or not captured.is_one_row(first)):
        return None
    answer, place = None, None
    watched = rings.outputs[0] if rings.outputs else None
    if watched is not None:
        answer = outputs.get(watched.name)
        if not isinstance(answer, np.ndarray) or not watched.is_one_row(answer):
            return None
        place = places[watched.name]
    return Quick(
        names=names,
        input=input_names[0],
        in_shape=first.shape,
        in_type=first.dtype,
        in_ring=captured.ring if captured is not None else None,
        flat=captured.flat if captured is not None and first.shape != (1, captured.width) else None,
        out_at=place,
        out_shape=answer.shape if answer is not None else None,
        out_type=answer.dtype if answer is not None else None,
        out_ring=watched.ring if watched is not None else None,
    )

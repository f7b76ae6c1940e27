"""What the recorder asks of a watched tensor: its ring, the rows that a run has for it, and their fold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.signals.models import ModelRuns

NUMERIC: Final = "fiub"


class Capture:
    """A watched part of a run: its ring of rows of one width, and where the fold takes them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.width = 0
        self.dtype: np.dtype[Any] = np.dtype(np.float64)
        self.flat: slice | NDArray[np.intp] = slice(None)
        """Which elements of one flattened sample are a row: what the quick way copies."""
        self.ring: NDArray[Any] = np.empty((0, 0))
        self.missed = 0
        """Samples of runs without this tensor, not yet folded."""

    def allocate(self, rows: int) -> None:
        """Make the ring."""
        self.ring = np.zeros((rows, self.width), dtype=self.dtype)

    def keep(self, slots: list[int], rows: NDArray[Any]) -> None:
        """Copy rows into the ring; one row, the usual case, without the price of an index array."""
        if len(slots) == 1:
            self.ring[slots[0]] = rows[0]
        else:
            self.ring[slots] = rows

    def absent(self, values: Mapping[str, Any]) -> bool:
        """Say whether a run has none of this: an optional input left out, an output that was not asked for."""
        return values.get(self.name) is None

    def is_one_row(self, tensor: NDArray[Any]) -> bool:  # noqa: ARG002
        """Say whether the quick way may copy a tensor: it is exactly one sample of the planned shape."""
        return False

    def bind(self, runs: ModelRuns) -> None:
        """Connect the ring to the model's summary."""
        raise NotImplementedError

    def samples_in(self, values: Mapping[str, Any]) -> int | None:
        """Return how many rows a run has for the ring, None when it is not what was planned."""
        raise NotImplementedError

    def rows_of(self, values: Mapping[str, Any], step: int) -> NDArray[Any] | None:
        """Return every ``step``-th sample of a run as a row of the ring, None when it is not what was planned."""
        raise NotImplementedError

    def fold(self, rows: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Fold rows of the ring; an output says for each whether the model answered at all."""
        raise NotImplementedError

    def fault(self, values: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Return the error type of a run whose watched output is no answer, '' for a sound one."""
        return ""

    def count_missing(self, samples: int) -> None:
        """Count samples that came without this tensor."""


class TensorCapture(Capture):
    """A numeric tensor whose first axis is the batch (or which is one sample as a whole)."""

    sample_shape: tuple[int, ...]
    batched: bool

    def plan(self, sample: NDArray[Any], *, batched: bool = True) -> None:
        """Take shape and type from the first run."""
        self.sample_shape = sample.shape[1:] if batched else sample.shape
        self.batched = batched
        exact = sample.dtype.itemsize <= (4 if sample.dtype.kind == "f" else 2)
        self.dtype = np.dtype(np.float32 if exact else np.float64)

    def is_one_row(self, tensor: NDArray[Any]) -> bool:
        """Say whether a tensor is exactly one sample of the planned shape."""
        expected = (1, *self.sample_shape) if self.batched else self.sample_shape
        one = tensor.shape == expected or (tensor.shape == (1,) and self.sample_shape == (1,))
        return one and tensor.dtype.kind in NUMERIC

    def samples_in(self, values: Mapping[str, Any]) -> int | None:
        """Return the length of the batch axis."""
        tensor = values.get(self.name)
        if not isinstance(tensor, np.ndarray) or tensor.dtype.kind not in NUMERIC:
            return None
        return len(tensor) if self.batched and tensor.ndim else 1

    def rows_of(self, values: Mapping[str, Any], step: int) -> NDArray[Any] | None:
        """Return every ``step``-th sample as a row of the ring's width, None when it is not what was planned."""
        tensor = values[self.name]
        whole: NDArray[Any] = tensor[::step] if self.batched and tensor.ndim else tensor[None]
        if whole.ndim == 1 and self.sample_shape == (1,):
            whole = whole[:, None]
        return self._picked(whole)

    def _picked(self, whole: NDArray[Any]) -> NDArray[Any] | None:
        if whole.shape[1:] != self.sample_shape:
            return None
        size = math.prod(self.sample_shape)
        if not whole[:1].flags.c_contiguous:  # flattening would copy all of it
            flat = self.flat
            return picked(whole, np.arange(0, size, flat.step or 1) if isinstance(flat, slice) else flat)
        rows: NDArray[Any] = whole.reshape(len(whole), size)[:, self.flat]
        return rows


def picked(whole: NDArray[Any], places: NDArray[np.intp]) -> NDArray[Any]:
    """Return elements of each sample by place in the flattened sample, copying no more than those."""
    index: tuple[Any, ...] = (slice(None), *np.unravel_index(places, whole.shape[1:]))
    rows: NDArray[Any] = whole[index]
    return rows


@dataclass(frozen=True, slots=True)
class Batch:
    """What one run has for the rings: ``length`` rows for each of ``copies``; bit n of ``holes``: capture n has none.

    ``absent`` are the captures whose tensors the run did not have, ``misfit`` says that one was not what was planned.
    """

    copies: list[tuple[Capture, NDArray[Any]]]
    length: int
    holes: int
    absent: list[Capture]
    misfit: bool


def read_batch(parts: Sequence[tuple[Capture, Mapping[str, Any] | None]], samples: int, rows_max: int) -> Batch:
    """Read at most ``rows_max`` evenly spaced samples for each capture from its values (None: not to be looked at).

    Captures of another number of samples than the run has (failing that, than the last capture has) do not fit.
    """
    totals: list[int | None] = []
    absent = []
    for capture, values in parts:
        gone = values is not None and capture.absent(values)
        absent += [capture] if gone else []
        totals.append(None if values is None or gone else capture.samples_in(values))
    known = [total for total in totals if total is not None]
    total = samples if samples in known else known[-1] if known else 0
    step = max(1, -(-total // rows_max))
    copies, holes = [], 0
    for number, ((capture, values), own) in enumerate(zip(parts, totals, strict=True)):
        rows = capture.rows_of(values, step) if values is not None and own == total and total else None
        if rows is None:
            holes |= 1 << number
        else:
            copies.append((capture, rows))
    looked_at = sum(values is not None for _, values in parts) - len(absent)
    misfit = len(copies) < looked_at and known != [0] * looked_at
    return Batch(copies, len(range(0, total, step)) if copies else 0, holes, absent, misfit)

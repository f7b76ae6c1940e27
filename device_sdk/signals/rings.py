"""What waits for the fold: rings of copied rows, and the durations of every run. The fold empties them."""

from __future__ import annotations

import struct
import time
from array import array
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.contract.attributes import ErrorType, Phase
from device_sdk.signals.captures import Capture
from device_sdk.signals.models import ModelRuns
from device_sdk.signals.sampling import Sampling

BATCH_ROWS_MAX: Final = 64
"""Most rows of one batch that are copied; a larger batch is sampled evenly."""
FOLD_ROWS: Final = 256
"""Most rows folded in one go: more would hold the interpreter lock longer, fewer would cost more a row."""
NOTHING: Final = -1
"""Stands for a duration that was not taken: only the first row of a batch carries the cost of copying it."""
_ANSWERED: Final = (ErrorType.NAN_OUTPUT, ErrorType.EMPTY_OUTPUT)
"""Failures that the model itself made out of a run that did not raise."""
_RING_BYTES: Final = 256 * 1024
_IN_FLIGHT_MAX: Final = 32
_FACTS: Final = struct.Struct("qqqq")
_MARGINAL_ROWS: Final = 128
_TYPICAL: Final = 63
_RATE_RUNS: Final = 512
_RATE_NS: Final = 1_000_000_000


Pending = tuple[int, int, Phase, str, str, int]
"""ns, samples, phase, error type, route and further input bytes of a run."""


class Rings:
    """Buffers of one recorder. Callers' threads append, one thread at a time folds; every append is atomic."""

    def __init__(self, runs: ModelRuns, sampling: Sampling, perf_ns: Callable[[], int]) -> None:
        self._runs = runs
        self._sampling = sampling
        self._perf_ns = perf_ns
        self.plain: array[float] = array("d")
        """Seconds of steady runs of one sample."""
        self._facts = bytearray()  # plain bytes: a list of tuples would have the host's garbage collector run
        self.pending: list[Pending] = []
        """Any other run."""
        self.sizes: array[int] = array("q")
        """Input bytes of runs, where they are not the same for every sample."""
        self.sample_bytes = 0
        """Input bytes of a sample, where they are the same for every one."""
        self.route = ""
        """Where runs are answered, '' when nobody said so."""
        self.inputs: list[Capture] = []
        self.outputs: list[Capture] = []
        self.asked = False
        """Whether the fold has been asked to come."""
        self.mask = 0
        self.wake_mask = 0
        self.limit = 0
        self._rate_from_ns = perf_ns()
        self._rate_runs = 0

    def lay_out(self, inputs: list[Capture], outputs: list[Capture], rows_max: int) -> None:
        """Make a ring for each capture: of one length, a power of two, at most 256 KiB or two batches."""
        captures = [*inputs, *outputs]
        if not captures:
            return
        self.inputs, self.outputs = inputs, outputs
        widest = max(capture.width * capture.dtype.itemsize for capture in captures)
        rows = max(2 * BATCH_ROWS_MAX, min(rows_max, _RING_BYTES // widest))
        rows = 1 << (rows.bit_length() - 1)
        for capture in captures:
            capture.allocate(rows)
            capture.bind(self._runs)
        self.mask, self.wake_mask, self.limit = rows - 1, rows // 4 - 1, rows - _IN_FLIGHT_MAX

    def commit(self, slot: int, run_ns: int, copy_ns: int, holes: int) -> None:
        """Hand a copied row to the fold: its slot, ns of the run and of copying; bit n of holes: capture n has none."""
        self._facts += _FACTS.pack(slot, run_ns, copy_ns, holes)

    def copied(self) -> int:
        """Return how many copied rows wait."""
        return len(self._facts) // _FACTS.size

    def backlog(self) -> int:
        """Return how many rows and runs wait for the fold."""
        return self.copied() + len(self.plain) + len(self.pending)

    def discard(self) -> None:
        """Forget what was recorded."""
        self.asked = False
        for waiting in (self._facts, self.plain, self.pending, self.sizes):
            del waiting[:]

    def fold(self, pause: Callable[[], None] | None = None) -> None:
        """Fold everything recorded so far, by one thread at a time.

        With ``pause`` at most 256 rows are folded at once and it is called after each capture; without, nobody waits.
        """
        self.asked = False
        copied = self.copied()
        durations, copy_ns, tensors_ns = self._fold_copied(copied, pause) if copied else ([], 0, None)
        plain = self.plain[:]
        del self.plain[: len(plain)]
        plain_ns = np.rint(np.frombuffer(plain, dtype=np.float64) * 1e9).astype(np.int64)
        if plain:
            self._add(plain_ns, len(plain), Phase.STEADY)
        pending = self.pending[:]
        del self.pending[: len(pending)]
        self._fold_pending(pending)
        sizes = self.sizes[:]
        del self.sizes[: len(sizes)]
        self._runs.inputs.add_size(sum(sizes), self.route)
        typical = plain_ns[:_TYPICAL].tolist() or durations or [run[0] for run in pending[:_TYPICAL]]
        runs = len(plain) + len(pending) + len(durations)
        run_ns = sum(durations) + sum(run[0] for run in pending) + (int(plain_ns.sum()) if plain else 0)
        self._sampling.used(runs, run_ns, copy_ns)
        self._choose(typical, tensors_ns, runs)

    def _fold_pending(self, pending: list[Pending]) -> None:
        groups: dict[tuple[Phase, str, str], list[tuple[int, int]]] = {}
        for elapsed, samples, phase, error, route, size_bytes in pending:
            groups.setdefault((phase, error, route), []).append((elapsed, samples))
            self._runs.inputs.add_size(size_bytes, route)
        for (phase, error, route), members in groups.items():
            elapsed_ns = np.array([elapsed for elapsed, _ in members], dtype=np.int64)
            self._add(elapsed_ns, sum(samples for _, samples in members), phase, error, route)

    def _add(
        self, elapsed_ns: NDArray[np.int64], samples: int, phase: Phase, error: str = "", route: str | None = None
    ) -> None:
        """Count runs and, of those that were answered, the bytes they were given."""
        route = self.route if route is None else route
        self._runs.add_runs(elapsed_ns, samples, phase, error, route)
        if self.sample_bytes and (not error or error in _ANSWERED):
            self._runs.inputs.add_size(samples * self.sample_bytes, route)

    def _fold_copied(self, rows: int, pause: Callable[[], None] | None) -> tuple[list[int], int, float | None]:
        """Fold copied rows; return durations of their runs, ns of copying, and ns that the tensors of one run cost."""
        started = time.thread_time_ns()
        taken, copying = [], []
        chunk = min(FOLD_ROWS, self.mask + 1) if pause is not None else rows
        with np.errstate(all="ignore"):
            for first in range(0, rows, chunk):
                size = min(chunk, rows - first) * _FACTS.size
                facts = np.frombuffer(self._facts[:size], dtype=np.int64).reshape(-1, 4)
                self._fold_rows(facts[:, 0], facts[:, 1], facts[:, 3], size, pause)
                taken += facts[facts[:, 1] >= 0, 1].tolist()
                copying += facts[facts[:, 2] >= 0, 2].tolist()
        if rows < _MARGINAL_ROWS or not copying:  # of fewer rows the fixed cost of a fold is what one would see
            return taken, sum(copying), None
        copying.sort()
        per_row = (time.thread_time_ns() - started) / rows
        return taken, sum(copying), copying[len(copying) // 2] + per_row * rows / len(copying)

    def _choose(self, durations: list[int], tensors_ns: float | None, runs: int) -> None:
        """Let the sampling adapt to what this fold has seen of run time, cost and rate."""
        self._rate_runs += runs
        now = self._perf_ns()
        passed_ns = now - self._rate_from_ns
        if durations and (self._rate_runs >= _RATE_RUNS or passed_ns >= _RATE_NS):
            typical_ns = sorted(durations)[len(durations) // 2]
            self._sampling.observe(typical_ns, tensors_ns, self._rate_runs * 1e9 / max(1, passed_ns))
            self._rate_runs, self._rate_from_ns = 0, now

    def _fold_rows(
        self,
        slots: NDArray[np.int64],
        elapsed: NDArray[np.int64],
        holes: NDArray[np.int64],
        size: int,
        pause: Callable[[], None] | None,
    ) -> None:
        """Fold one chunk of copied rows, then give their slots back to the ring."""
        copies = [(capture, capture.ring[slots]) for capture in (*self.inputs, *self.outputs)]
        del self._facts[:size]
        some_missing = bool(holes.any())
        answered = np.ones(len(slots), dtype=np.bool_)
        for number, (capture, rows) in enumerate(copies):
            places = np.flatnonzero(holes >> number & 1 == 0) if some_missing else slice(None)
            sound = capture.fold(rows[places])
            if sound is not None:
                answered[places] &= sound
            if pause is not None:
                pause()
        self._runs.inputs.folded_samples += len(slots)
        timed = elapsed >= 0  # of a batch the duration was counted apart
        if answered.all():
            good, bad = elapsed[timed], elapsed[:0]
        else:
            good, bad = elapsed[timed & answered], elapsed[timed & ~answered]
        if len(good):
            self._add(good, len(good), Phase.STEADY)
        if len(bad):
            self._add(bad, len(bad), Phase.STEADY, ErrorType.NAN_OUTPUT)
            self._sampling.answer_broken()

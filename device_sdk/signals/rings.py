"""What waits for the fold: rings of copied rows, and the durations of every run. The fold empties them."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Final

import numpy as np

from device_sdk.contract.attributes import ErrorType, Phase
from device_sdk.signals.captures import Capture
from device_sdk.signals.models import ModelRuns
from device_sdk.signals.sampling import Sampling

FOLD_ROWS: Final = 64
"""Most rows folded in one go, so that the interpreter lock is never held long."""
NOTHING: Final = -1
"""Stands for a duration that was not taken: only the first row of a batch carries the cost of copying it."""
_RING_BYTES: Final = 256 * 1024
_IN_FLIGHT_MAX: Final = 32
_MARGINAL_ROWS: Final = 32
_RATE_RUNS: Final = 512
_RATE_NS: Final = 1_000_000_000


class Rings:
    """Buffers of one recorder. Callers' threads append, one thread at a time folds; every append is atomic."""

    def __init__(self, runs: ModelRuns, sampling: Sampling, perf_ns: Callable[[], int]) -> None:
        self._runs = runs
        self._sampling = sampling
        self._perf_ns = perf_ns
        self.plain: array[int] = array("q")
        """ns of steady runs of one sample."""
        self.slots: list[tuple[int, int, int, int]] = []
        """(slot, ns of the run, ns of copying, holes) of each copied row; bit n of holes: capture n has no row."""
        self.pending: list[tuple[int, int, Phase, str]] = []
        """(ns, samples, phase, error type) of any other run."""
        self.inputs: list[Capture] = []
        self.outputs: list[Capture] = []
        self.mask = 0
        self.limit = 0
        self._rate_from_ns = perf_ns()
        self._rate_runs = 0

    def lay_out(self, inputs: list[Capture], outputs: list[Capture], rows_max: int) -> None:
        """Make a ring for each capture: of one length, a power of two, at most 256 KiB each."""
        captures = [*inputs, *outputs]
        if not captures:
            return
        self.inputs, self.outputs = inputs, outputs
        widest = max(capture.width * capture.dtype.itemsize for capture in captures)
        rows = max(64, min(rows_max, _RING_BYTES // widest))
        rows = 1 << (rows.bit_length() - 1)
        for capture in captures:
            capture.allocate(rows)
            capture.bind(self._runs)
        self.mask, self.limit = rows - 1, rows - _IN_FLIGHT_MAX

    def backlog(self) -> int:
        """Return how many rows and runs wait for the fold."""
        return len(self.slots) + len(self.plain) + len(self.pending)

    def discard(self) -> None:
        """Forget what was recorded."""
        for waiting in (self.slots, self.plain, self.pending):
            del waiting[:]

    def fold(self, pause: Callable[[], None] | None = None) -> None:
        """Fold everything recorded so far, by one thread at a time.

        With ``pause`` at most 64 rows are folded at once and it is called in between; without, nobody is waiting.
        """
        waiting, tensors_ns, rows = len(self.slots), None, self.slots[:FOLD_ROWS]
        if waiting:
            started = time.thread_time_ns()
            chunk = FOLD_ROWS if pause is not None else waiting
            with np.errstate(all="ignore"):
                for first in range(0, waiting, chunk):
                    self._fold_rows(self.slots[: min(chunk, waiting - first)])
                    if pause is not None:
                        pause()
            copying = [spent for _, _, spent, _ in rows if spent >= 0]
            if waiting >= _MARGINAL_ROWS and copying:  # of fewer rows the fixed cost of a fold is what one would see
                per_row = (time.thread_time_ns() - started) / waiting
                tensors_ns = float(np.median(copying)) + per_row * len(rows) / len(copying)
        plain = self.plain[:]
        del self.plain[: len(plain)]
        if plain:
            self._runs.add_runs(np.frombuffer(plain, dtype=np.int64), len(plain), Phase.STEADY)
        pending = self.pending[:]
        del self.pending[: len(pending)]
        groups: dict[tuple[Phase, str], list[tuple[int, int]]] = {}
        for elapsed, samples, phase, error in pending:
            groups.setdefault((phase, error), []).append((elapsed, samples))
        for (phase, error), members in groups.items():
            durations = np.array([elapsed for elapsed, _ in members], dtype=np.int64)
            self._runs.add_runs(durations, sum(s for _, s in members), phase, error)
        timed = [elapsed for _, elapsed, _, _ in rows if elapsed >= 0] or [elapsed for elapsed, _, _, _ in pending]
        self._choose(plain[:FOLD_ROWS].tolist() or timed, tensors_ns, len(plain) + waiting + len(pending))

    def _choose(self, durations: list[int], tensors_ns: float | None, runs: int) -> None:
        """Let the sampling adapt to what this fold has seen of run time, cost and rate."""
        self._rate_runs += runs
        now = self._perf_ns()
        passed_ns = now - self._rate_from_ns
        if durations and (self._rate_runs >= _RATE_RUNS or passed_ns >= _RATE_NS):
            self._sampling.observe(float(np.median(durations)), tensors_ns, self._rate_runs * 1e9 / max(1, passed_ns))
            self._rate_runs, self._rate_from_ns = 0, now

    def _fold_rows(self, slots: list[tuple[int, int, int, int]]) -> None:
        """Fold one chunk of committed slots, then give them back to the ring."""
        index = np.array([slot for slot, _, _, _ in slots])
        elapsed = np.array([elapsed_ns for _, elapsed_ns, _, _ in slots], dtype=np.int64)
        copies = [(capture, capture.ring[index]) for capture in (*self.inputs, *self.outputs)]
        del self.slots[: len(slots)]
        holes = np.array([hole for *_, hole in slots]) if any(hole for *_, hole in slots) else None
        answered = np.ones(len(slots), dtype=np.bool_)
        for number, (capture, rows) in enumerate(copies):
            places = np.arange(len(slots)) if holes is None else np.flatnonzero(holes >> number & 1 == 0)
            sound = capture.fold(rows if holes is None else rows[places])
            if sound is not None:
                answered[places] &= sound
        self._runs.inputs.folded_samples += len(slots)
        timed = elapsed >= 0  # of a batch the duration was counted apart
        if timed.any():
            good, bad = elapsed[timed & answered], elapsed[timed & ~answered]
            self._runs.add_runs(good, len(good), Phase.STEADY)
            if len(bad):
                self._runs.add_runs(bad, len(bad), Phase.STEADY, ErrorType.NAN_OUTPUT)
                self._sampling.answer_broken()

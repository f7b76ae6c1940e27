"""The hot path: what happens on the caller's thread around one run, and the rings it writes to.

On the usual run (same shapes as before) the caller pays two clock reads, a copy of a bounded slice of input and output
into preallocated rings, and one list append. The rest (other batch sizes, first run, failures) takes a slower way
through the same rings. Slots are handed out by ``itertools.count`` and committed by ``list.append``, both atomic, so
any number of threads may run the same session.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from device_sdk.contract.attributes import ErrorType, Phase
from device_sdk.errors import guard, log_rationed, swallow
from device_sdk.signals import Signals
from device_sdk.signals.captures import Capture, input_captures, output_captures
from device_sdk.signals.models import ModelRuns

FOLD_ROWS: Final = 64
"""Most rows folded in one go, so that the interpreter lock is never held long."""
BATCH_ROWS_MAX: Final = 64
"""Most rows of one batch that are copied; a larger batch is sampled evenly."""
_RING_BYTES: Final = 256 * 1024
_IN_FLIGHT_MAX: Final = 32
_NO_DURATION: Final = -1
"""Stands for the duration of a row that came with others; below it, bit n of the difference: capture n has no row."""
_PENDING_MAX: Final = 8192


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a runtime's module tells the recorder: names of inputs and outputs, and how to read errors and batches.

    ``samples_of(feed, result)`` gets no result (None) when the run raised.
    """

    inputs: Sequence[str]
    outputs: Sequence[str]
    classify: Callable[[BaseException], ErrorType]
    samples_of: Callable[[Mapping[str, Any], Sequence[Any] | None], int]


class Recorder:
    """Rings of one wrapped session (or measured callable) and their fold into the model's summary."""

    def __init__(
        self,
        runs: ModelRuns,
        signals: Signals,
        *,
        perf_ns: Callable[[], int],
        rows_max: int = 2048,
        on_full: Callable[[Recorder, bool], bool] = lambda _recorder, _must: False,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.runs = runs
        self.signals = signals
        self.retired = False
        self.perf_ns = perf_ns
        self._rows_max = rows_max
        self._on_full = on_full
        self._wake = wake
        self._pending: list[tuple[int, int, Phase, str]] = []
        self._plain: list[int] = []
        self._slots: list[tuple[int, int]] = []  # (slot, elapsed ns)
        self._sequence = itertools.count()
        self._inputs: list[Capture] = []
        self._outputs: list[Capture] = []
        self._mask = 0
        self._limit = 0
        self._plan_lock = threading.Lock()
        self._overrun_lock = threading.Lock()
        self._overrun = 0
        self._planned = False
        self._phase = Phase.FIRST

    # --- on the caller's thread ---------------------------------------------------------------------------------

    def failed(self, elapsed_ns: int, error: ErrorType, samples: int) -> None:
        """Count a run that raised."""
        self._append(elapsed_ns, samples, error)

    def measured(self, elapsed_ns: int, samples: int) -> None:
        """Count a run of a callable, tensors unseen."""
        self._append(elapsed_ns, samples, "")
        self._phase = Phase.STEADY

    def _append(self, elapsed_ns: int, samples: int, error: str) -> None:
        self._pending.append((elapsed_ns, samples, self._phase, str(error)))
        if len(self._pending) >= _PENDING_MAX:
            self._on_full(self, True)

    def bind(self, inner: Callable[..., Any], adapter: Adapter) -> Callable[..., Any]:
        """Return a ``run(output_names, input_feed, run_options=None)`` that measures ``inner``.

        Whatever ``inner`` returns or raises passes through untouched; a fault of the measuring is swallowed.
        """
        perf_ns, slots, commit, plain = self.perf_ns, self._slots, self._slots.append, self._plain.append
        sequence, wake = self._sequence, self._wake
        first_input = adapter.inputs[0] if adapter.inputs else ""
        queue: Sequence[object] = slots
        in_shape = out_shape = in_ring = out_ring = flat = usual_names = None  # set by the first run that suits
        out_at = mask = limit = 0

        def slow(elapsed: int, names: Sequence[str] | None, feed: Mapping[str, Any], result: Sequence[Any]) -> None:
            nonlocal in_shape, out_shape, in_ring, out_ring, flat, usual_names, out_at, mask, limit, queue
            asked = list(names) if names else list(adapter.outputs)
            fast = self._slow(elapsed, asked, feed, result, adapter)
            if fast is not None:
                usual_names = names[:] if names else names  # the caller may change its list
                in_shape, in_ring, flat, out_at, out_shape, out_ring, mask, limit = fast
                queue = slots if mask else self._plain

        def run(output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
            start = perf_ns()
            try:
                result = inner(output_names, input_feed, run_options)
            except BaseException as error:
                self._raised(perf_ns() - start, error, input_feed, adapter)
                raise
            elapsed = perf_ns() - start
            try:
                try:
                    row = input_feed[first_input]
                    shape = row.shape
                except (AttributeError, KeyError, TypeError):  # a list, an absent optional input, something odd
                    shape = None
                if (
                    shape is None
                    or shape != in_shape
                    or output_names != usual_names
                    or len(queue) >= limit
                    or (out_ring is not None and result[out_at].shape != out_shape)
                ):
                    slow(elapsed, output_names, input_feed, result)
                elif mask == 0:
                    plain(elapsed)
                else:
                    slot = next(sequence) & mask
                    if in_ring is not None:
                        in_ring[slot] = row if flat is None else row.reshape(-1)[flat]
                    if out_ring is not None:
                        out_ring[slot] = result[out_at]
                    commit((slot, elapsed))
                    if not slot & 511:
                        wake()
            except Exception as error:  # noqa: BLE001 - the host's run has succeeded: nothing of ours may undo that
                swallow("recording a run", error)
            return result

        return run

    def _raised(self, elapsed_ns: int, error: BaseException, feed: Any, adapter: Adapter) -> None:
        try:
            samples = adapter.samples_of(feed, None) if isinstance(feed, Mapping) else 1
            self.failed(elapsed_ns, adapter.classify(error), samples)
        except Exception as fault:  # noqa: BLE001 - the host's own exception is on its way and must arrive unchanged
            swallow("counting a failed run", fault)

    def _slow(
        self,
        elapsed_ns: int,
        asked: list[str],
        feed: Mapping[str, Any],
        result: Sequence[Any],
        adapter: Adapter,
    ) -> tuple[Any, ...] | None:
        """Record any run; return what the quick way needs when this run's shapes suit it."""
        samples = adapter.samples_of(feed, result)
        outputs = dict(zip(asked, result, strict=False))
        with self._plan_lock, guard("planning what to watch"):  # of two first runs the second waits for the plan
            if not self._planned:
                self._plan(feed, outputs)
        error = next((fault for capture in self._outputs if (fault := capture.fault(outputs))), "") if samples else ""
        self._append(elapsed_ns, samples, error)
        self._phase = Phase.STEADY
        if self._mask and error != ErrorType.EMPTY_OUTPUT:
            self._copy_batch(feed, outputs, samples)
        return self._quick_way(asked, feed, outputs, adapter.inputs, samples)

    def _plan(self, feed: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Look at the first successful run and lay out the rings; what cannot be watched is said once in the log."""
        self._planned = True
        self._inputs, complaints = input_captures(feed, self.signals)
        self._outputs = output_captures(outputs, self.signals)
        for complaint in complaints:
            log_rationed(logging.WARNING, "%s", complaint)
        captures = [*self._inputs, *self._outputs]
        if not captures:
            return
        widest = max(capture.width * capture.dtype.itemsize for capture in captures)
        rows = max(64, min(self._rows_max, _RING_BYTES // widest))
        rows = 1 << (rows.bit_length() - 1)
        for capture in captures:
            capture.allocate(rows)
            capture.bind(self.runs, self.signals)
        self._mask, self._limit = rows - 1, rows - _IN_FLIGHT_MAX

    def _quick_way(
        self,
        asked: list[str],
        feed: Mapping[str, Any],
        outputs: Mapping[str, Any],
        input_names: Sequence[str],
        samples: int,
    ) -> tuple[Any, ...] | None:
        first = feed.get(input_names[0]) if input_names else None
        if samples != 1 or not isinstance(first, np.ndarray) or len(self._inputs) > 1 or len(self._outputs) > 1:
            return None
        if not self._mask:
            return first.shape, None, None, 0, None, None, 0, _PENDING_MAX
        captured = self._inputs[0] if self._inputs else None
        if captured is not None and (captured.name != input_names[0] or not captured.is_one_row(first)):
            return None
        answer, place = None, 0
        watched = self._outputs[0] if self._outputs else None
        if watched is not None:
            answer = outputs.get(watched.name)
            if not isinstance(answer, np.ndarray) or not watched.is_one_row(answer):
                return None
            place = asked.index(watched.name)
        flat = captured.flat if captured is not None and first.shape != (1, captured.width) else None
        return (
            first.shape,
            captured.ring if captured is not None else None,
            flat,
            place,
            answer.shape if answer is not None else None,
            watched.ring if watched is not None else None,
            self._mask,
            self._limit,
        )

    def _copy_batch(self, feed: Mapping[str, Any], outputs: Mapping[str, Any], samples: int) -> None:
        """Copy up to 64 evenly spaced rows of a batch into the rings, all captures at the same rows.

        A capture whose tensor is absent from this run has a hole there; one that is not what was planned spoils it.
        """
        parts = [(capture, feed) for capture in self._inputs] + [(capture, outputs) for capture in self._outputs]
        present, holes = [], 0
        for number, (capture, values) in enumerate(parts):
            if capture.absent(values):
                with self._overrun_lock:
                    capture.missed += samples
                holes |= 1 << number
            else:
                present.append((capture, values))
        totals = {capture.samples_in(values) for capture, values in present}
        if not totals or totals == {0}:
            return
        total = totals.pop()
        if total is None or totals:  # of several lengths, or not what was planned
            self._lose(1)
            return
        step = -(-total // BATCH_ROWS_MAX)
        wanted = len(range(0, total, step))
        copies = [(capture, capture.rows_of(values, step)) for capture, values in present]
        if any(rows is None for _, rows in copies):
            self._lose(1)
            return
        if len(self._slots) + wanted > self._limit and not self._on_full(self, False):
            self._lose(wanted)
            return
        slots = [next(self._sequence) & self._mask for _ in range(wanted)]
        for capture, rows in copies:
            capture.ring[slots] = rows
        self._slots.extend((slot, _NO_DURATION - holes) for slot in slots)

    def _lose(self, rows: int) -> None:
        self._wake()
        with self._overrun_lock:
            self._overrun += rows

    # --- in the fold ---------------------------------------------------------------------------------------------

    def backlog(self) -> int:
        """Return how many rows and runs wait for the fold."""
        return len(self._slots) + len(self._plain) + len(self._pending)

    def discard(self) -> None:
        """Forget what was recorded (a forked child leaves it to its parent)."""
        for waiting in (self._slots, self._plain, self._pending):
            waiting.clear()
        self._plan_lock, self._overrun_lock = threading.Lock(), threading.Lock()
        self._overrun = 0

    def take_overrun(self) -> int:
        """Return how many rows did not fit into the rings since the last call."""
        with self._overrun_lock:
            lost, self._overrun = self._overrun, 0
        return lost

    def fold(self, pause: Callable[[], None] | None = None) -> None:
        """Fold everything recorded so far, by one thread at a time.

        With ``pause`` at most 64 rows are folded at once and it is called in between; without, nobody is waiting.
        """
        waiting = len(self._slots)
        if waiting:
            chunk = FOLD_ROWS if pause is not None else waiting
            with np.errstate(all="ignore"):
                for first in range(0, waiting, chunk):
                    self._fold_rows(self._slots[: min(chunk, waiting - first)])
                    if pause is not None:
                        pause()
        for capture in self._inputs:
            if capture.missed:
                with self._overrun_lock:
                    missed, capture.missed = capture.missed, 0
                capture.count_missing(missed)
        plain = self._plain[:]
        del self._plain[: len(plain)]
        if plain:
            self.runs.add_runs(plain, len(plain), Phase.STEADY)
        pending = self._pending[:]
        del self._pending[: len(pending)]
        groups: dict[tuple[Phase, str], list[tuple[int, int]]] = {}
        for elapsed, samples, phase, error in pending:
            groups.setdefault((phase, error), []).append((elapsed, samples))
        for (phase, error), members in groups.items():
            self.runs.add_runs([elapsed for elapsed, _ in members], sum(s for _, s in members), phase, error)

    def _fold_rows(self, slots: list[tuple[int, int]]) -> None:
        """Fold one chunk of committed slots, then give them back to the ring."""
        index = np.array([slot for slot, _ in slots])
        elapsed = [elapsed_ns for _, elapsed_ns in slots]
        copies = [(capture, capture.ring[index]) for capture in (*self._inputs, *self._outputs)]
        del self._slots[: len(slots)]
        holes = [max(0, _NO_DURATION - elapsed_ns) for elapsed_ns in elapsed]
        failed: set[int] = set()
        for number, (capture, rows) in enumerate(copies):
            places = np.array([not hole >> number & 1 for hole in holes]) if any(holes) else slice(None)
            sound = capture.fold(rows[places])
            if sound is not None and not sound.all():
                failed.update(np.arange(len(slots))[places][~sound].tolist())
        self.runs.inputs.folded_samples += len(slots)
        self._count_runs(elapsed, failed)

    def _count_runs(self, elapsed: list[int], failed: set[int]) -> None:
        """Count the runs of a chunk whose duration rode in the ring; a broken output makes its run a failure."""
        good = [value for row, value in enumerate(elapsed) if value >= 0 and row not in failed]
        if good:
            self.runs.add_runs(good, len(good), Phase.STEADY)
        bad = [elapsed[row] for row in failed if elapsed[row] >= 0]
        if bad:
            self.runs.add_runs(bad, len(bad), Phase.STEADY, ErrorType.NAN_OUTPUT)

"""The hot path: what happens on the caller's thread around one run, and the rings it writes to.

A run of one sample whose tensors are not due (see ``sampling``) costs the caller two clock reads and one append. When
they are due, a bounded slice of input and output is copied into preallocated rings too. The rest (batches, first run,
failures) takes a slower way through the same rings. Slots are handed out by ``itertools.count`` and committed by
``list.append``, both atomic, so any number of threads may run the same session.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from device_sdk.contract.attributes import ErrorType, Phase, SignalLevel
from device_sdk.errors import guard, log_rationed, swallow
from device_sdk.locks import SafeLock
from device_sdk.signals import Signals
from device_sdk.signals.adapter import Adapter
from device_sdk.signals.captures import read_batch
from device_sdk.signals.inputs import input_captures
from device_sdk.signals.lane import Lane
from device_sdk.signals.models import ModelRuns
from device_sdk.signals.outputs import output_captures
from device_sdk.signals.quick import Quick, quick_way
from device_sdk.signals.rings import BATCH_ROWS_MAX, NOTHING, Rings
from device_sdk.signals.sampling import IDLE_GAP, Sampling

_PENDING_MAX: Final = 8192
_PLAIN_MAX: Final = 65_536


class Recorder:
    """Rings of one wrapped session (or measured callable) and their fold into the model's summary."""

    def __init__(
        self,
        runs: ModelRuns,
        signals: Signals,
        *,
        perf_ns: Callable[[], int],
        sampling: Sampling | None = None,
        rows_max: int = 2048,
        on_full: Callable[[Recorder, bool], bool] = lambda _recorder, _must: False,
        wake: Callable[[], None] = lambda: None,
        open_lane: Callable[[], Lane] = Lane,
        on_answer: Callable[[], None] | None = None,
    ) -> None:
        self.runs = runs
        self.signals = signals
        self.sampling = sampling or Sampling(None)
        self.retired = False
        self.perf_ns = perf_ns
        self._seconds = time.perf_counter if perf_ns is time.perf_counter_ns else lambda: perf_ns() / 1e9
        self.rings = Rings(runs, self.sampling, perf_ns)
        self._rows_max = rows_max
        self._on_full = on_full
        self._wake = wake
        self._open_lane = open_lane
        self.lane = open_lane()  # of runs that are timed from outside; each ``bind`` has its own
        self.lanes = [self.lane]
        self._sequence = itertools.count()
        self._plan_lock = SafeLock()
        self._overrun_lock = SafeLock()
        self._overrun = 0
        self._planned = False
        self._phase = Phase.FIRST
        self._answer_at: Any = None
        self._on_answer: Callable[[], None] | None = on_answer

    # --- on the caller's thread ---------------------------------------------------------------------------------

    def failed(self, elapsed_ns: int, error: str, samples: int, route: str | None = None) -> None:
        """Count a run that raised."""
        self._append(elapsed_ns, samples, error, route)

    def measured(self, elapsed_ns: int, samples: int, route: str | None = None, input_bytes: int = 0) -> None:
        """Count a run of a callable, tensors unseen."""
        self._append(elapsed_ns, samples, "", route, input_bytes)
        self._phase = Phase.STEADY

    def _append(self, elapsed_ns: int, samples: int, error: str, route: str | None = None, size: int = 0) -> None:
        route = self.rings.route if route is None else route
        self.rings.pending.append((elapsed_ns, samples, self._phase, str(error), route, size))
        if len(self.rings.pending) >= _PENDING_MAX // 2:
            self._ask_fold()
            if len(self.rings.pending) >= _PENDING_MAX:
                self._on_full(self, True)
        if self._on_answer is not None and not error:
            tell, self._on_answer = self._on_answer, None
            if tell is not None:  # another thread was first
                tell()

    def bind(
        self, inner: Callable[..., Any], adapter: Adapter, names: Sequence[str] | None = None
    ) -> Callable[..., Any]:
        """Return a ``run(output_names, input_feed, run_options=None)`` that measures ``inner``.

        Whatever ``inner`` returns or raises passes through untouched; a fault of the measuring is swallowed. ``names``
        is what ``inner`` is asked for where the caller asks for None.
        """
        # seconds as floats: the interpreter makes and subtracts them in half the time of long integers
        clock, plain, other = self._seconds, self.rings.plain.append, self.watcher(adapter)
        first_input = adapter.inputs[0] if adapter.inputs else ""
        due = 0  # number of the next run that may be copied
        lane = self._open_lane()
        self.lanes.append(lane)
        cells, begun, ended = lane.cells, 0, 0  # this closure is their only writer: see Lane
        look: Any = None  # where the answer is whose first number must be one

        def moved() -> None:
            nonlocal cells, begun, ended, due
            cells, begun, ended, due = lane.cells, 0, 0, 0

        lane.moved = moved

        def run(output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
            nonlocal due, look, begun, ended
            start = clock()
            begun += 1
            cells[0] = begun
            try:
                result = inner(names if output_names is None else output_names, input_feed, run_options)
                end = clock()  # in here: an interrupt on the way must not leave the run in flight for ever
            except BaseException as error:
                ended += 1
                cells[1] = ended
                lane.raised(error)
                self.raised(_whole_ns(clock() - start), error, input_feed, adapter)
                raise
            ended += 1
            cells[1] = ended
            try:
                if (
                    begun < due
                    and len(input_feed[first_input]) == 1
                    and (look is None or (number := result[look].item(0)) == number)
                ):
                    plain(end - start)
                    return result
            except Exception:  # noqa: BLE001, S110 - the run has succeeded: nothing of its feed or answer may undo that
                pass  # an absent optional input, a scalar, an empty answer, something odd: the other way knows
            try:
                left, look = other(max(0, due - begun), _whole_ns(end - start), output_names, input_feed, result)
                due = begun + left + 1 if left else 0
            except Exception as error:  # noqa: BLE001 - the host's run has succeeded: nothing of ours may undo that
                swallow("recording a run", error)
            return result

        return run

    def watcher(self, adapter: Adapter) -> Callable[..., tuple[int, Any]]:
        """Return the way of every run that is not just counted.

        It takes ``left``, the runs to leave out before the next copy, and facts of the run: how long it took, the names
        that were asked for, feed and result. It returns the next ``left``, and where the answer is whose first number
        tells whether it is one (None: nowhere).
        """
        sampling = self.sampling
        quick: Quick | None = None

        def other(
            left: int, elapsed: int, names: Any, feed: Mapping[str, Any], result: Sequence[Any]
        ) -> tuple[int, Any]:
            nonlocal quick
            end_ns = self.perf_ns()
            if self._planned and (left or not self.rings.mask or sampling.level is SignalLevel.OFF):
                samples, outputs = _read(adapter, names if sampling.looks else (), feed, result)
                self._append(elapsed, samples, self._fault(outputs, samples) if sampling.looks else "")
                left = left - 1 if left else sampling.gap() if self.rings.mask else IDLE_GAP
            else:
                if quick is None or not self._copy_one(quick, end_ns, elapsed, names, feed, result):
                    quick = self._ran(end_ns, elapsed, names, feed, result, adapter)
                left = sampling.gap() if self.rings.mask else IDLE_GAP if self._planned else 0
            if len(self.rings.plain) >= _PLAIN_MAX // 2:
                self._ask_fold()
                if len(self.rings.plain) >= _PLAIN_MAX:
                    self._on_full(self, True)
            return left, self._answer_at if sampling.looks else None

        return other

    def _copy_one(
        self, quick: Quick, end_ns: int, elapsed: int, names: Any, feed: Mapping[str, Any], result: Sequence[Any]
    ) -> bool:
        """Copy the tensors of a run of one sample; say whether it was of the usual kind."""
        rings, out_ring, in_ring = self.rings, quick.out_ring, quick.in_ring
        try:
            row = feed[quick.input]
            if not quick.fits(names, row, result):
                return False
            answer = None if out_ring is None else result[quick.out_at]
        except Exception:  # noqa: BLE001 - a list, None, a mapping of the host's own: not the usual kind
            return False
        if rings.copied() >= rings.limit and not self._on_full(self, False):
            rings.plain.append(elapsed / 1e9)
            self._lose(1)
            return True
        slot, holes = next(self._sequence) & rings.mask, 0
        if in_ring is not None:
            if self.sampling.level is SignalLevel.FULL:
                if quick.flat is None:
                    in_ring[slot] = row
                else:  # flattening a transposed tensor would copy all of it
                    in_ring[slot] = (row.reshape(-1) if row.flags.c_contiguous else row.flat)[quick.flat]
            else:
                holes = 1
        if out_ring is not None:
            out_ring[slot] = answer
        rings.commit(slot, elapsed, self.perf_ns() - end_ns, holes)
        if not slot & rings.wake_mask:
            self._ask_fold()
        return True

    def raised(self, elapsed_ns: int, error: BaseException | str, feed: Any, adapter: Adapter) -> None:
        """Count a run that raised; nothing of this may stand in the way of the host's own exception."""
        try:
            samples = max(1, _read(adapter, (), feed, None)[0]) if isinstance(feed, Mapping) else 1
            self.failed(elapsed_ns, adapter.classify(error), samples)
        except Exception as fault:  # noqa: BLE001 - the host's own exception is on its way and must arrive unchanged
            swallow("counting a failed run", fault)

    def _ran(
        self,
        end_ns: int,
        elapsed_ns: int,
        names: Sequence[str] | None,
        feed: Mapping[str, Any],
        result: Sequence[Any] | Mapping[str, Any],
        adapter: Adapter,
    ) -> Quick | None:
        """Record any run that succeeded; return what the quick way needs when this run's shapes suit it."""
        samples, outputs = _read(adapter, names, feed, result)
        asked = list(names) if names else list(adapter.outputs)
        with self._plan_lock, guard("planning what to watch"):  # of two first runs the second waits for the plan
            if not self._planned and samples:  # an empty batch shows nothing
                try:
                    self._plan(feed, outputs)
                finally:
                    self._planned = True
        error = self._fault(outputs, samples)
        self._append(elapsed_ns, samples, error)
        self._phase = Phase.STEADY
        if error:
            self.sampling.answer_broken()
        if self.rings.mask and error != ErrorType.EMPTY_OUTPUT:
            self._copy_batch(end_ns, feed, outputs, samples)
        watched = self.rings.outputs[0].name if self.rings.outputs else None
        places: Sequence[Any] = asked if outputs is result else range(len(asked))
        places_by_name = dict(zip(asked, places, strict=True))
        self._answer_at = places_by_name.get(watched) if watched is not None else None
        if samples != 1 or not self.rings.mask:
            return None
        usual = names[:] if names else names  # the caller may change its list
        return quick_way(self.rings, usual, places_by_name, feed, outputs, adapter.inputs)

    def _fault(self, outputs: Mapping[str, Any], samples: int) -> str:
        """Return the error type of a run with a watched output that is no answer, '' for a sound one."""
        with guard("looking for a broken answer"):
            return next((fault for each in self.rings.outputs if (fault := each.fault(outputs))), "") if samples else ""
        return ""

    def _plan(self, feed: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Look at the first successful run and lay out the rings; what cannot be watched is said once in the log."""
        inputs, complaints = input_captures(feed, self.signals)
        watched, more = output_captures(outputs, self.signals)
        for complaint in (*complaints, *more):
            log_rationed(logging.WARNING, "%s", complaint)
        self.rings.lay_out(inputs, watched, self._rows_max)

    def _copy_batch(self, end_ns: int, feed: Mapping[str, Any], outputs: Mapping[str, Any], samples: int) -> None:
        """Copy up to 64 evenly spaced rows of a batch into the rings, all captures at the same rows.

        A capture whose tensor is absent from this run, or not what was planned, has a hole there.
        """
        level, rings = self.sampling.level, self.rings
        if level is SignalLevel.OFF:
            return
        seen = feed if level is SignalLevel.FULL else None
        parts = [*((capture, seen) for capture in rings.inputs), *((capture, outputs) for capture in rings.outputs)]
        batch = read_batch(parts, samples, BATCH_ROWS_MAX)
        if batch.absent:
            with self._overrun_lock:
                for capture in batch.absent:
                    capture.missed += samples
        if batch.misfit:
            self._lose(1)
        wanted = batch.length
        if not wanted:
            return
        if rings.copied() + wanted > rings.limit and not self._on_full(self, False):
            self._lose(wanted)
            return
        slots = [next(self._sequence) & rings.mask for _ in range(wanted)]
        for capture, rows in batch.copies:
            capture.keep(slots, rows)
        rings.commit(slots[0], NOTHING, self.perf_ns() - end_ns, batch.holes)
        for slot in slots[1:]:
            rings.commit(slot, NOTHING, NOTHING, batch.holes)
        if rings.copied() > rings.limit // 2:
            self._ask_fold()

    def _ask_fold(self) -> None:
        """Wake the fold, once until it has come: while it waits for the interpreter there are more runs."""
        if not self.rings.asked:
            self.rings.asked = True
            self._wake()

    def _lose(self, rows: int) -> None:
        self._ask_fold()
        with self._overrun_lock:
            self._overrun += rows

    # --- for the engine ------------------------------------------------------------------------------------------

    def backlog(self) -> int:
        """Return how many rows and runs wait for the fold."""
        return self.rings.backlog()

    def discard(self) -> None:
        """Forget what was recorded (a forked child leaves it to its parent)."""
        self.rings.discard()
        for capture in self.rings.inputs:
            capture.missed = 0
        self._plan_lock, self._overrun_lock = SafeLock(), SafeLock()
        self._overrun = 0

    def take_overrun(self) -> int:
        """Return how many rows did not fit into the rings since the last call."""
        with self._overrun_lock:
            lost, self._overrun = self._overrun, 0
        return lost

    def fold(self, pause: Callable[[], None] | None = None) -> None:
        """Fold everything recorded so far, by one thread at a time; see ``Rings.fold``."""
        for capture in self.rings.inputs:
            if capture.missed:
                with self._overrun_lock:
                    missed, capture.missed = capture.missed, 0
                capture.count_missing(missed)
        self.rings.fold(pause)


def _whole_ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _read(adapter: Adapter, names: Sequence[str] | None, feed: Any, result: Any) -> tuple[int, Mapping[str, Any]]:
    """Return samples and outputs by name; one and none where that cannot be said, for the run is counted anyway."""
    with guard("reading the tensors of a run"):
        return adapter.samples_of(feed, result), adapter.by_name(names, result)
    return 1, {}

"""The models of one Monitor: recorders, the fold of what those saw into aggregates, and the aggregates."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from device_sdk.clock import Clock
from device_sdk.contract import attributes as a
from device_sdk.contract.attributes import LossReason
from device_sdk.host.startup import Startup
from device_sdk.ledger import Ledger
from device_sdk.lifecycle.session import Session
from device_sdk.overhead import Overhead
from device_sdk.points import AttributePairs
from device_sdk.privacy import sendable_names
from device_sdk.runtimes.loading import Loads
from device_sdk.sending.stream import Emitter
from device_sdk.signals import Signals
from device_sdk.signals.answers import AnswerBook
from device_sdk.signals.models import ModelInputs, ModelRuns, model_of
from device_sdk.signals.recorder import Recorder

MODELS_MAX: Final = 16
"""Most model-runtime-provider combinations of one process; further ones are counted together as ``_OTHER``."""
_PAUSE_S: Final = 20e-6  # after a sleep of 0 the fold has the interpreter again before the host's threads wake
_ROWS_MAX_MANUAL: Final = 256
_ROWS_MAX: Final = 2048


class Models:
    """Everything that is counted by model; the engine's lock serialises all calls but ``room_for``."""

    def __init__(
        self,
        clock: Clock,
        ledger: Ledger,
        session: Session,
        overhead: Overhead,
        room_for: Callable[[Recorder, bool], bool],
        wake: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._session = session
        self._overhead = overhead
        self._room_for = room_for
        self._wake = wake
        self._runs: dict[AttributePairs, ModelRuns] = {}
        self._inputs: dict[tuple[str, str], ModelInputs] = {}
        self.recorders: list[Recorder] = []
        self.answers = AnswerBook(wake)
        self.loads = Loads()
        self._startup = Startup(clock, first_of_boot=session.first_of_boot)

    def recorder(self, run: AttributePairs, signals: Signals) -> Recorder:
        """Return a new recorder that counts into the model named by the run attributes ``run``."""
        run = sendable_names(run)
        known = self._runs.get(run)
        if known is None and len(self._runs) >= MODELS_MAX:
            self._ledger.measurements_lost(LossReason.CARDINALITY, 1)
            run = ((a.MODEL_NAME, a.OTHER), (a.MODEL_VERSION, a.OTHER))
            signals = Signals(output="none")
            known = self._runs.get(run)
        if known is None:
            key = model_of(run)
            known = self._runs[run] = ModelRuns(run, self._inputs.setdefault(key, ModelInputs(*key)))
            self._session.declare(*key, signals)
        self.answers.measured(known)
        known.sessions += 1
        recorder = Recorder(
            known,
            signals,
            sampling=self._overhead.sampling(),
            perf_ns=self._clock.perf_ns,
            rows_max=_ROWS_MAX_MANUAL if self._clock.manual else _ROWS_MAX,
            on_full=self._room_for,
            wake=self._wake,
            open_lane=self._session.lane_opener(run),
            on_answer=self._startup.watch(known.inputs),
        )
        self.recorders.append(recorder)
        return recorder

    def backlog(self) -> int:
        """Return how many rows, runs and answers wait for the fold."""
        return self.answers.backlog() + sum(recorder.backlog() for recorder in self.recorders)

    def fold(self) -> int:
        """Fold what was recorded; return how many rows there were."""
        started = time.thread_time_ns()
        # a wrapped session that its host has let go of records no more: this fold is its last
        retired = [recorder for recorder in self.recorders if recorder.retired]
        rows = self.backlog()
        pause = None if self._clock.manual else (lambda: time.sleep(_PAUSE_S))
        self.answers.fold()
        for recorder in self.recorders:
            recorder.fold(pause)
            self._ledger.measurements_lost(LossReason.RING_OVERRUN, recorder.take_overrun())
        for recorder in retired:
            self.recorders.remove(recorder)
            recorder.runs.sessions -= 1
            self._session.release_lanes(recorder.lanes)
        self._overhead.folded(time.thread_time_ns() - started, self._clock.perf_ns(), self._ledger)
        return rows

    def emitters(self) -> list[Emitter]:
        """Return what adds a window's points, model by model."""
        models = [*(inputs.emit for inputs in self._inputs.values()), *(runs.emit for runs in self._runs.values())]
        return [*models, self.answers.emit, self.loads.emit]

    def total_runs(self) -> int:
        """Return how many runs were folded since the start."""
        return sum(runs.total_runs for runs in self._runs.values())

    def take_loads(self) -> dict[AttributePairs, tuple[int, int]]:
        """Return (time in runs, longest run) of each model since the last call, ns."""
        return {runs.identity: runs.take_load() for runs in self._runs.values()}

    def restart_in_child(self, ledger: Ledger) -> None:
        """Forget in a forked child what the parent recorded; sessions and their recorders go on."""
        self._ledger = ledger
        self.answers.discard()
        self._startup.over = True
        for recorder in self.recorders:
            recorder.discard()

"""What runs behind a Monitor: the window schedule, and when what is recorded is folded, queued, sent and ended."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Final

from device_sdk.clock import AwakeTime, Clock
from device_sdk.config import Config
from device_sdk.contract.attributes import SignalLevel
from device_sdk.contract.events import UPDATE_SUCCEEDED, Event
from device_sdk.errors import guard
from device_sdk.forks import forget, start_over_in_children
from device_sdk.host.host import Host, with_hardware_facts
from device_sdk.ledger import Ledger
from device_sdk.lifecycle.exceptions import ExceptionSink, listen_for_exceptions, stop_listening
from device_sdk.lifecycle.leaving import close_at_exit_of_fork
from device_sdk.lifecycle.session import Session
from device_sdk.meters import Meters
from device_sdk.models import Models
from device_sdk.overhead import Overhead
from device_sdk.points import AttributePairs, EventAttributes, Points
from device_sdk.remote import RemoteSettings
from device_sdk.selftest.standing import Selftests
from device_sdk.sending.sender import Sender
from device_sdk.sending.stream import Emitter
from device_sdk.sending.transport import HttpTransport
from device_sdk.signals import Signals
from device_sdk.signals.recorder import Recorder
from device_sdk.workers import TURN_S, Workers

CATCH_UP_WINDOWS_MAX: Final = 48
"""Most windows closed in one go when time has moved on; beyond, one window covers the whole gap."""
_SEND_ROUND_S: Final = 60.0


class Engine(ExceptionSink):
    """Owns everything of one Monitor. Public methods are safe to call from any thread."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.config = config = config if clock.manual else with_hardware_facts(config)
        self.clock = clock
        self.closed = False
        self._ledger = Ledger()
        self._lock = threading.RLock()
        self._overhead = Overhead(None if clock.manual else config.overhead_budget, clock.perf_ns())
        self._overhead.govern(config.remote.local.level, config.remote.local.sample_every)
        self.host = None if clock.manual else Host(config, clock)  # a simulated device has no host of its own
        self.meters, self._dormant = Meters(config, clock), False
        self._workers = self._new_workers()
        self._awake_time = AwakeTime(clock.perf_ns)
        self.session = Session(config, clock, self._ledger)
        wake = lambda: self._workers.wake()  # noqa: E731 - a forked child has other workers
        self.models = Models(clock, self._ledger, self.session, self._overhead, self._room_for, wake)
        self.remote = RemoteSettings(config.remote, self.session.directory, lambda: clock.boot_ns() / 1e9)
        self.remote.turn(self.govern, self.session, self.session.stream.window_start_ns)
        self._due_ns = self.session.stream.window_start_ns + self.remote.window_ns
        self.sender = self._new_sender()
        self.selftests = Selftests(self.emit_event, self.session.now_ns, threaded=not clock.manual)
        if not clock.manual:
            listen_for_exceptions(self)
            start_over_in_children(self)
            self._workers.start()

    def _new_sender(self) -> Sender:
        transport = HttpTransport(certificate=self.config.certificate)
        envelope = self.session.envelope
        sent, spool = self._note_progress, self.session.spool
        return Sender(self.config, spool, self._ledger, transport=transport, envelope=envelope, on_progress=sent)

    def _new_workers(self) -> Workers:
        return Workers(self._fold_turn, self._fold_in_s, self._send_turn, self._send_in_s)

    # --- models -----------------------------------------------------------------------------------------------

    def recorder(self, run: AttributePairs, signals: Signals) -> Recorder:
        """Return a new recorder that counts into the model named by the run attributes ``run``."""
        with self._lock:
            return self.models.recorder(run, signals)

    def govern(self, level: SignalLevel, every: int = 1) -> None:
        """Set the most that is looked at: the level, and tensors of at most one run in ``every``; counts stay exact.

        For settings that come from outside (a file, the collector); the device's own budget may take less but never
        more. Takes effect with the next copied run of each session, for sessions wrapped later too. Raises
        ``ValueError`` for an unknown level or a stride below 1.
        """
        with self._lock:
            self._overhead.govern(level, every)

    def _room_for(self, recorder: Recorder, must: bool) -> bool:
        """Make room: inline when it must be (counts are never dropped) or when there is no thread; else ask for it."""
        if not (must or self.clock.manual):
            self._workers.wake()
            return False
        with self._lock:
            recorder.fold()
        return True

    # --- windows ----------------------------------------------------------------------------------------------

    def fold(self) -> int:
        """Fold what was recorded; return how many rows there were."""
        with self._lock:
            return self.models.fold()

    def step(self) -> int:
        """Fold, and close every window that is due; return how many were closed.

        When time has moved on by several windows that the program was awake for, the earlier ones are empty and the
        last one holds what was recorded; after a suspension (or a very long gap) one window covers all of it.
        """
        if closed := self._close_due():
            self.meters.window_closed()
            if self.session.spool.settle():  # slow on a slow disk: without the lock that the host's threads wait for
                self._note_progress()
        return closed

    def _close_due(self) -> int:
        with self._lock:
            if self.closed or self._dormant:
                return 0
            self.fold()
            if self.clock.manual:
                self.sample_host()
            now, start, window_ns = self.session.now_ns(), self.session.stream.window_start_ns, self.remote.window_ns
            turn_ns = self.session.turn_at(now)
            if turn_ns is not None:  # the device becomes another; its windows get another phase, which would tell it
                self._close_window(turn_ns, late_ns=now - turn_ns)
                self._due_ns = turn_ns + 1 + secrets.randbelow(window_ns)
                return 1
            if now < self._due_ns:
                return 0
            asleep_ns = (now - start) - self._awake_time.since_ns()
            closed = 0
            if asleep_ns < window_ns and (now - self._due_ns) // window_ns < CATCH_UP_WINDOWS_MAX:
                while self._due_ns + window_ns <= now:
                    self._close_window(self._due_ns, empty=True)
                    self._due_ns += window_ns
                    closed += 1
            self._close_window(now)
            self.selftests.run_due()
            window_ns = self.remote.window_ns
            self._due_ns += window_ns * (1 + (now - self._due_ns) // window_ns)
            return closed + 1

    def _close_window(self, end_ns: int, *, empty: bool = False, late_ns: int = 0) -> None:
        """Encode and queue the open window, ended ``late_ns`` ago; ``empty`` leaves what was folded to a later one."""
        started = time.thread_time_ns()
        length_ns = end_ns - self.session.stream.window_start_ns
        observed_ns = self._awake_time.skip(length_ns) if empty else self._awake_time.take(late_ns)
        emitters: list[Emitter] = [] if empty else self._model_emitters()
        emitters += [self.session.report.emit, self.selftests.emit]
        folded = None if empty else self.models.total_runs()
        self.session.close_window(end_ns, max(0, min(observed_ns, length_ns)), emitters, runs=folded)
        if not (empty or self.session.stream.ending):
            self.remote.turn(self.govern, self.session, end_ns)
        self._workers.to_send()
        self._overhead.exported(time.thread_time_ns() - started, self._ledger)

    def _model_emitters(self) -> list[Emitter]:
        return [*self.models.emitters(), *([] if self.host is None else [self.host.emit])]

    def sample_host(self) -> None:
        """Read the host if that is due; not under the lock, where a slow sensor would hold up a thread that infers."""
        if self.host is not None:
            self._ledger.spent("fold", self.host.turn(self._loads))

    def _loads(self) -> dict[AttributePairs, tuple[int, int]]:
        with self._lock:
            return self.models.take_loads()

    def tell(self, note: Callable[[Session], None]) -> None:
        """Let ``note`` say something of the session, if one is under way."""
        with self._lock:
            if not (self.closed or self._dormant):
                note(self.session)
        self._workers.to_send()

    def emit_event(self, event: Event, attributes: EventAttributes, severity: int | None = None) -> None:
        """Queue one event of this session."""
        self.tell(lambda session: session.emit(event, attributes, severity=severity))
        if event is UPDATE_SUCCEEDED:
            self.selftests.run_after_update()

    # --- sending ----------------------------------------------------------------------------------------------

    def flush(self, timeout_s: float) -> bool:
        """Send everything queued; with the machine's clock the open window is closed first. Say whether all went."""
        with self._lock:
            if not self._awake():
                return True
            self.fold()
            if not self.clock.manual and self.session.now_ns() > self.session.stream.window_start_ns:
                self._close_window(self.session.now_ns())
        self.meters.flushed()
        return self._send(_bounded_s(timeout_s), patient=True)

    def _send(self, timeout_s: float, *, patient: bool) -> bool:
        started, deadline_s = time.thread_time_ns(), time.monotonic() + timeout_s
        sent = self.sender.send_all(timeout_s, wait=self._workers.pause, patient=patient)
        if not self.closed:  # consent may have been withdrawn meanwhile
            self.remote.follow(self.sender, deadline_s - time.monotonic())
        with self._lock:
            self._overhead.exported(time.thread_time_ns() - started, self._ledger)
        return sent

    def _note_progress(self) -> None:
        """Bring the mark up to date: something left memory, so that a death now would lose less."""
        with self._lock:
            if not (self.closed or self._dormant):
                self.session.write_mark()

    # --- the workers' turns -------------------------------------------------------------------------------------

    def _fold_in_s(self) -> float:
        return TURN_S if self._dormant else max(0.0, (self._due_ns - self.session.now_ns()) / 1e9)

    def _fold_turn(self) -> None:
        if self._awake():
            self.session.pulse()
            self.sample_host()
            self.step()

    def _send_in_s(self) -> float | None:
        return self.sender.resting_s() if self.session.spool.waiting() else None

    def _send_turn(self) -> None:
        self._send(_SEND_ROUND_S, patient=False)

    # --- death ------------------------------------------------------------------------------------------------

    def exception_ends_program(self, error: BaseException) -> None:
        """Note the exception that ends the program."""
        self.tell(lambda session: session.exception(error))

    def close(self, timeout_s: float) -> bool:
        """End the session: last fold, last window, end event, send, keep on disk what could not be sent.

        ``timeout_s`` 0 sends nothing. A last window of no length is left out unless something was recorded in it.
        """
        timeout_s = _bounded_s(timeout_s)
        deadline = time.monotonic() + timeout_s
        self.meters.collect()
        self._workers.stop(min(1.0, timeout_s))
        with self._lock:
            if self.closed:
                return True
            if not self._awake():
                self.abandon()
                return True
            if not self.session.stream.ending:  # else another thread, or what a signal handler interrupted, closes too
                self._end_session()
        sent = False
        with guard("sending at close"):
            sent = self.sender.send_all(deadline - time.monotonic(), wait=time.sleep, patient=False)
        with self._lock, guard("closing"):
            self.session.spool.surrender()
            self.session.mark_told()
        self.abandon()
        return sent

    def _end_session(self) -> None:
        with guard("closing the last window"):
            self.session.tell_own_end()
            recorded = self.fold() > 0
            closed = self.step()
            now, start = self.session.now_ns(), self.session.stream.window_start_ns
            if now > start or (recorded and not closed):
                self._close_window(max(now, start + 1))

    def abandon(self) -> None:
        """Let go of files, connections and threads without a word: what a dying process does."""
        self._workers.stop(1.0)
        self.meters.stop()
        with self._lock:
            self.closed = True
            self.session.release()
        self.sender.close()
        stop_listening(self)
        forget(self)

    # --- fork -------------------------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Keep nothing of the parent's in a forked child: counts, files, connections and threads are all the parent's.

        The child's own session begins when it first records something: most children never infer.
        """
        self._lock = threading.RLock()
        self._ledger = Ledger()
        self._workers = self._new_workers()
        self._dormant = True
        self.meters = Meters(self.config, self.clock)
        self.session.restart_in_child(self._ledger)  # first: whatever goes wrong below, the files stay the parent's
        self.models.restart_in_child(self._ledger)
        for emit in self.models.emitters():
            with guard("forgetting what the parent counted"):  # a thread of the parent's may have been halfway through
                emit(Points())
        self.selftests = Selftests(self.emit_event, self.session.now_ns, threaded=not self.clock.manual)
        self.remote.disown()
        self.sender = self._new_sender()
        self.host = Host(self.config, self.clock, machine=False)
        if not self.closed:
            close_at_exit_of_fork(self)
            self._workers.start()

    def _awake(self) -> bool:
        """Say whether a session is under way; a forked child's begins here, with the first that it recorded."""
        with self._lock:
            if self._dormant and not self.closed and self.models.backlog():
                self._begin_in_child()
            return not (self.closed or self._dormant)

    def _begin_in_child(self) -> None:
        with self._lock:
            self._awake_time = AwakeTime(self.clock.perf_ns)
            self.session.begin_in_child()
            self._due_ns = self.session.stream.window_start_ns + self.remote.window_ns
            self._dormant = False


def _bounded_s(seconds: float) -> float:
    """Return a time to wait that the system's calls take: none for what is no number, a day for what is endless."""
    return min(max(0.0, seconds), 86_400.0)

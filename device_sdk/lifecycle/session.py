"""One observed session: its identity, its stream of windows and events, its mark on disk, and how it ends."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from device_sdk.clock import Clock
from device_sdk.config import Config
from device_sdk.contract import attributes as a
from device_sdk.contract import events as e
from device_sdk.contract.attributes import EXPECTED_ENDS, EndReason, UpdateTarget
from device_sdk.contract.events import Event, Severity
from device_sdk.errors import guard, log_rationed, nearest
from device_sdk.ledger import Ledger
from device_sdk.lifecycle.accounts import Accounts
from device_sdk.lifecycle.aftermath import Aftermath
from device_sdk.lifecycle.dead import read_dead_session
from device_sdk.lifecycle.ends import crash_attributes, end_attributes, end_severity, is_crash, priority_of
from device_sdk.lifecycle.exceptions import chain_of, crash_signature, exception_name
from device_sdk.lifecycle.fatal import stop_watching, survived_bytes, watch_fatal_signals
from device_sdk.lifecycle.flags import Flags
from device_sdk.lifecycle.identity import Identity
from device_sdk.lifecycle.inflight import Cell, InflightMark, Loading
from device_sdk.lifecycle.kernel import KernelReader
from device_sdk.lifecycle.mark import Mark, SessionHeader, Vital
from device_sdk.lifecycle.resource import resource_of, settings_id
from device_sdk.lifecycle.state import Installation, StateDir, open_state, say_unusable
from device_sdk.lifecycle.updates import UpdateLog
from device_sdk.points import AttributePairs, EventAttributes
from device_sdk.privacy import AttributeValue, Gate, allowed_resource
from device_sdk.reach import Reach
from device_sdk.sending.stream import Emitter, Stream
from device_sdk.signals import Signals
from device_sdk.signals.lane import Lane
from device_sdk.signals.summaries import CLASSES_MAX
from device_sdk.spool import LOGS, METRICS, Reports, Spool, SpoolReport


class Session:
    """What is told of this process's life. The engine's lock serialises all calls."""

    def __init__(self, config: Config, clock: Clock, ledger: Ledger) -> None:
        self._config = config
        self._clock = clock
        self._ledger = ledger
        self._window_ns = config.window_ns
        self._kernel = None if clock.manual else KernelReader()  # a simulated device has no kernel of its own
        self._state = open_state(config.state_dir)
        try:
            installation = self._state.installation()
            self._boot = self._state.boot(clock, installation)
        except OSError as error:
            say_unusable(config.state_dir, error)
            self._state.release()
            self._state = StateDir.memory()
            installation = Installation.new()
            self._boot = self._state.boot(clock, installation)
        self._gate = Gate(config.privacy, folder=self._state.path, now_ns=self.now_ns)
        given, refused, keys = allowed_resource(config.resource)
        for reason, count in refused.items():
            ledger.refused(reason, count)
        for key in keys:
            log_rationed(logging.WARNING, "resource attribute %r is not sent; %s", key, nearest(key, a.RESOURCE_KEYS))
        self._identity = Identity(installation, self._boot, config.privacy.rotation_s)
        self._resource = resource_of(config, given)
        self._accounts = Accounts(self._state.path, ledger)
        self.spool = self._new_spool(self._state.path / "spool" if self._state.path else None)
        self._flags = Flags(_listed(self._resource.get(a.FLAGS, ())))
        self.updates = UpdateLog(self._state.path, self.now_ns)
        self._begin(self._read_dead_session())
        for target, version in self._in_effect().items():
            self.updates.judge(target, version, self.emit)
        self.updates.expire(self.emit)

    def now_ns(self) -> int:
        """Return the stream clock: epoch ns as this boot began to count them; wall clock jumps never move it."""
        return self._boot.anchor_ns + self._clock.boot_ns()

    def declare(self, model: str, version: str, signals: Signals) -> None:
        """Note which classes and categories a model's signals name: reports are randomised over no other."""
        categories = {feature.name: feature.category_names for feature in signals.features}
        self._gate.declare(model, version, {"": signals.classes[:CLASSES_MAX], **categories})

    # --- birth ------------------------------------------------------------------------------------------------

    def _new_spool(self, directory: Path | None) -> Spool:
        ledger = self._ledger
        reports = Reports(
            lost=lambda kind, reason, count: ledger.lost(kind == METRICS, reason, count),
            untold=ledger.untold,
            segments_corrupt=ledger.segment_corrupt,
        )
        spool = Spool(
            directory,
            self._config.limits,
            durable=self._config.durable,
            reports=reports,
            boot_ns=self._clock.boot_ns,
            boot=bytes.fromhex(self._boot.boot_id),
        )
        self._accounts.resume(spool)
        return spool

    def _begin(self, previous: SessionHeader | None) -> None:
        """Start: a fresh stream, its start event, its marks."""
        now = self.now_ns()
        self.report = SpoolReport(self.spool)
        self._runs_at: deque[tuple[int, int]] = deque()  # (window, runs up to its end) of windows not yet safe
        self.first_of_boot = previous is None or previous.boot_id != self._boot.boot_id
        instance_id = self._start_stream(now, previous)
        self.inflight = InflightMark(self._state.path, instance_id, resident=self._kernel is not None)
        fatal = watch_fatal_signals(self._state.path, instance_id) if self._kernel is not None else None
        self._header = SessionHeader(
            session_id=self.stream.session_id,
            instance_id=instance_id,
            boot_id=self._boot.boot_id,
            started_ns=now,
            window_ns=self._window_ns,
            resource=self.stream.resource,
            memory_group=self._kernel.group if self._kernel is not None else "",
            fatal=(fatal.directory, fatal.instance_id) if fatal is not None else None,
        )
        self._mark = Mark(self._state, self._header)
        self._note_memory()
        self.write_mark()

    def _start_stream(self, now_ns: int, previous: SessionHeader | None) -> str:
        """Begin a stream under the identity of this time, with its start event; return its id."""
        self._resource |= self._identity.attributes(now_ns)
        self._period = self._identity.period_of(now_ns)
        self.stream = Stream(self._resource, self._gate, started_ns=now_ns)
        self.vital = Vital(last_sign_ns=now_ns)
        attributes: EventAttributes = []
        if previous is not None and previous.resource.get(a.INSTALLATION_ID) == self._resource[a.INSTALLATION_ID]:
            attributes.append((a.SESSION_PREVIOUS_ID, previous.session_id))
        if not self._identity.rotation_s:  # the number of boots would link one pseudonym to the next
            attributes.append((a.BOOT_SEQUENCE, self._boot.sequence))
        self._ledger.session_started()
        self.emit(e.SESSION_START, attributes, time_ns=now_ns)
        self.updates.session = self.stream.instance_id
        return self.stream.instance_id

    def restart_in_child(self, ledger: Ledger) -> None:
        """Forget everything of the parent's in a forked child; ``begin_in_child`` starts the child's own session."""
        self._ledger = ledger
        self._gate = Gate(self._config.privacy)
        stop_watching(self.stream.instance_id)
        self.inflight.detach()
        self.updates.disown()
        self._state.disown()
        self.spool.disown()
        self._accounts.close()
        self._accounts = Accounts(None, ledger)
        self.spool = self._new_spool(None)

    def begin_in_child(self) -> None:
        """Start the session of a forked child, in memory only: the state directory is the parent's."""
        self._begin(None)

    def _read_dead_session(self) -> SessionHeader | None:
        """Tell of the session before this one when it could not do so itself; return its header."""
        dead = None
        with guard("reading what the previous session left"):
            dead = read_dead_session(self._state, self._boot.boot_id, self._kernel, self._ended_for_update)
        if dead is None:
            return None
        Aftermath(self._gate, self._ledger, self.spool, self._accounts, self.now_ns).settle(dead)
        return dead.header

    # --- life -------------------------------------------------------------------------------------------------

    def close_window(
        self, end_ns: int, observed_ns: int, emitters: Iterable[Emitter], *, runs: int | None = None
    ) -> None:
        """Queue the open window as ending at ``end_ns``, and leave a sign of life.

        ``runs`` is how many runs are in this and all earlier windows together, None for no more than before.
        """
        turns = self.turn_at(end_ns) is not None
        if turns:
            self._part_from_identity(end_ns)
        window = self.stream.close_window(end_ns, observed_ns, self._ledger, emitters)
        self.spool.put(METRICS, window, stream=self.stream.checksum, losses=self._ledger.told())
        cells = self.inflight.cells
        if runs is not None:
            cells[Cell.FOLDED] = runs
        self.vital.last_sign_ns = end_ns
        self.vital.last_sequence = self.stream.next_sequence - 1
        self.vital.observed_ns += observed_ns
        self._runs_at.append((self.vital.last_sequence, cells[Cell.FOLDED]))
        if turns:
            self._take_identity(end_ns)
        self._relabel()
        self._note_memory()
        self.write_mark()

    def turn_at(self, now_ns: int) -> int | None:
        """Return where the open window must end for this device to take another identity, None while it need not."""
        if self.stream.ending or self._identity.period_of(now_ns) == self._period:
            return None
        began_ns = self._identity.began_ns(now_ns)
        return began_ns if began_ns > self.stream.window_start_ns else now_ns

    def _part_from_identity(self, now_ns: int) -> None:
        """End the session of an identity that is given up: to the server the device leaves as if it had exited."""
        self.stream.ending = True
        self._ledger.session_ended(EndReason.EXIT, expected=True)
        lasted_ns = now_ns - self.stream.started_ns
        told = end_attributes(EndReason.EXIT, self.vital, None, duration_ns=lasted_ns, accuracy_ns=0)
        self.emit(e.SESSION_END, told, time_ns=now_ns)

    def _take_identity(self, now_ns: int) -> None:
        """Go on as another device: new names, a new stream from 0, the same process and its in-flight mark."""
        end, shift = self.vital.end, self.vital.last_sequence + 1  # windows before count backwards from -1
        self._runs_at = deque((window - shift, runs) for window, runs in self._runs_at)
        instance_id = self._start_stream(now_ns, None)
        self.vital.end = end
        self.inflight.rename(instance_id)
        names = {"session_id": self.stream.session_id, "instance_id": instance_id, "resource": self.stream.resource}
        self._header = replace(self._header, started_ns=now_ns, **names)  # type: ignore[arg-type]
        self._mark = Mark(self._state, self._header)

    def pulse(self) -> None:
        """Leave a sign of life between two windows."""
        if self._kernel is not None:
            self.inflight.cells[Cell.PULSE_NS] = self.now_ns()
            self.inflight.cells[Cell.RESIDENT_BYTES] = self._kernel.resident_bytes()

    def _note_memory(self) -> None:
        """Note what the next start needs to recognise a kill for lack of memory, and a fatal signal survived."""
        if self._kernel is None:
            return
        memory, cells = self._kernel.memory(), self.inflight.cells
        cells[Cell.RESIDENT_BYTES], cells[Cell.LIMIT_BYTES] = memory.resident_bytes, memory.limit_bytes
        cells[Cell.GROUP_KILLS], cells[Cell.MACHINE_KILLS] = memory.group_kills, memory.machine_kills
        cells[Cell.FAULT_BYTES] = survived_bytes()

    def _in_effect(self) -> dict[UpdateTarget, str]:
        """Return the versions that this process knows to be running, models and runtimes apart."""
        keys = {UpdateTarget.FIRMWARE: a.FIRMWARE_VERSION, UpdateTarget.APP: a.SERVICE_VERSION}
        return {target: str(self._resource[key]) for target, key in keys.items() if key in self._resource}

    def _ended_for_update(self, instance_id: str) -> bool:
        return self.updates.explains_end_of(instance_id, self._in_effect())

    def flag(self, key: str, variant: str, provider: str) -> None:
        """Put a feature flag to a variant: an event if that changes it, and in the resource from the next window on."""
        if self._flags.change(key, variant):
            self._resource[a.FLAGS] = self._flags.pairs()
            told: EventAttributes = [(a.FLAG_KEY, key), (a.FLAG_VARIANT, variant)]
            self.emit(e.FLAG_EVALUATION, told + ([(a.FLAG_PROVIDER, provider)] if provider else []))

    def _relabel(self) -> None:
        """Take over flags that changed during the window that was just closed."""
        if self._resource.get(a.FLAGS) != self.stream.resource.get(a.FLAGS):
            self.stream.relabel(self._resource)
            self._header = replace(self._header, resource=self.stream.resource)
            self._mark.write_header(self._header)

    def lane_opener(self, run: AttributePairs) -> Callable[[], Lane]:
        """Return what opens lanes of the in-flight mark for one session of the model that the run attributes name."""
        names = dict(run)
        for target, name, version in (
            (UpdateTarget.MODEL, a.MODEL_NAME, a.MODEL_VERSION),
            (UpdateTarget.RUNTIME, a.RUNTIME_NAME, a.RUNTIME_VERSION),
        ):
            self.updates.judge(target, str(names.get(version, "")), self.emit, name=str(names.get(name, "")))
        model, version = str(names[a.MODEL_NAME]), str(names[a.MODEL_VERSION])
        runtime, provider = str(names.get(a.RUNTIME_NAME, "")), str(names.get(a.PROVIDER_NAME, ""))
        return self.inflight.opener(model=model, version=version, runtime=runtime, provider=provider)

    def loading(self, model: str, version: str, runtime: str, provider: str) -> Loading:
        """Mark a model as being loaded for as long as the block lasts."""
        return self.inflight.loading(model=model, version=version, runtime=runtime, provider=provider)

    def release_lanes(self, lanes: Iterable[Lane]) -> None:
        """Take back the lanes of a session that the host has let go of."""
        self.inflight.release(lanes)

    def emit(
        self, event: Event, attributes: EventAttributes, *, severity: int | None = None, time_ns: int | None = None
    ) -> None:
        """Queue one event of now or of ``time_ns``, on disk at once: events are few and a crash must not eat them."""
        at_ns = self.now_ns() if time_ns is None else time_ns
        encoded = self.stream.event(event, attributes, self._ledger, time_ns=at_ns, severity=severity)
        if encoded is not None:
            self.spool.put(LOGS, encoded, priority=priority_of(event), durable=True)

    @property
    def directory(self) -> Path | None:
        """The state directory, None when everything is in memory."""
        return self._state.path

    def change_settings(self, reach: Reach, told: EventAttributes, at_ns: int, *, warn: bool) -> None:
        """Make windows from ``at_ns`` on under other settings, and say so; ``told`` is the event but for the id."""
        changed = settings_id(self._config, reach)
        self._resource = {**self._resource, a.SETTINGS_ID: changed}
        self.stream.relabel(self._resource)
        self._window_ns = reach.window_ns
        self._header = replace(self._header, window_ns=reach.window_ns, resource=self.stream.resource)
        self._mark.write_header(self._header)
        severity = int(Severity.WARN) if warn else None
        in_force = [(a.SETTINGS_ID, changed), *told, *self._config.privacy.facts()]
        self.emit(e.SETTINGS_APPLIED, in_force, severity=severity, time_ns=at_ns)

    def envelope(self) -> bytes:
        """Return the envelope of one attempt to send."""
        now = self.now_ns()
        return self.stream.envelope(now, self._clock.wall_ns() - now, self._clock.source)

    def write_mark(self) -> None:
        """Bring the mark up to date."""
        self.vital.unsent_windows = self.spool.volatile_windows
        while self._runs_at and self._runs_at[0][0] <= self.vital.last_sequence - self.vital.unsent_windows:
            self.inflight.cells[Cell.SAFE] = self._runs_at.popleft()[1]
        self.vital.events = self.stream.next_event
        self._mark.write(self.vital)
        self._accounts.note(self.spool)

    # --- end --------------------------------------------------------------------------------------------------

    def declare_end(self, reason: EndReason) -> None:
        """Note why the session is about to end; the mark has it at once."""
        self.vital.end = reason
        self.write_mark()

    def exception(self, error: BaseException) -> None:
        """Note the exception that ends the program; the session's end or the next start tells of it."""
        self.vital.last_sign_ns = self.now_ns()
        self.vital.end = EndReason.EXCEPTION
        self.vital.exception_type = exception_name(type(error))
        self.vital.signature = crash_signature(type(error), error.__traceback__)
        for raised, traces in chain_of(error):
            self.inflight.note_raised(raised, traces)
        self.write_mark()

    def tell_own_end(self) -> None:
        """Queue the end of this session, to be counted in its last window."""
        self.stream.ending = True
        reason, flight = self.vital.end or EndReason.EXIT, self.inflight.read()
        duration_ns = self.now_ns() - self.stream.started_ns
        self._ledger.session_ended(reason, expected=reason in EXPECTED_ENDS)
        self.emit(
            e.SESSION_END,
            end_attributes(reason, self.vital, flight, duration_ns=duration_ns, accuracy_ns=0),
            severity=end_severity(reason),
        )
        if is_crash(reason):
            self.emit(e.APP_CRASH, crash_attributes(self.stream.session_id, reason, self.vital, flight))
        self.mark_told()  # at once: a process killed while it sends its last windows must not count as a crash

    def mark_told(self) -> None:
        """Note that this session's end is told; the next start has only its lost windows left to count."""
        self.vital.told = True
        self.write_mark()

    def release(self) -> None:
        """Let go of files and the lock."""
        self.spool.close()
        self.updates.disown()  # what ends later is judged by the next start: nobody is left to tell
        stop_watching(self.stream.instance_id)
        self.inflight.detach()
        self._accounts.close()
        self._state.release()


def _listed(value: AttributeValue) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()

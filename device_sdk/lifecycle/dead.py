"""The session before this one: what it left behind, read together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from device_sdk.contract import events as e
from device_sdk.contract.attributes import EndReason
from device_sdk.contract.events import Event
from device_sdk.lifecycle.ends import (
    Evidence,
    crash_attributes,
    end_attributes,
    end_severity,
    is_crash,
    reason_of,
)
from device_sdk.lifecycle.fatal import FatalSource, read_fault, read_sigterm
from device_sdk.lifecycle.inflight import Cell, Flight, read_flight_of
from device_sdk.lifecycle.kernel import KernelReader, MemoryState, killed_for_memory
from device_sdk.lifecycle.mark import SessionHeader, Vital, read_session
from device_sdk.lifecycle.state import StateDir
from device_sdk.points import EventAttributes

PULSE_NS: Final = 1_000_000_000
"""How often a running session leaves a sign of life in the in-flight mark."""


@dataclass(frozen=True, slots=True)
class DeadSession:
    """A session that ended, as its mark and in-flight mark left it."""

    header: SessionHeader
    vital: Vital
    flight: Flight | None
    reason: EndReason
    last_sign_ns: int
    accuracy_ns: int

    @property
    def lost_runs(self) -> int:
        """How many finished runs were neither sent nor on disk when the process died."""
        if self.flight is None:
            return 0
        finished = self.flight[Cell.FOLDED] if self.vital.told else self.flight.ended
        return max(0, finished - self.flight[Cell.SAFE])


def read_dead_session(
    state: StateDir, boot_id: str, kernel: KernelReader | None, ended_for_update: Callable[[str], bool]
) -> DeadSession | None:
    """Return the session that a state directory tells of, None when there is none or its mark cannot be read.

    ``ended_for_update`` says of a stream's id whether its session ended to let an update take effect.
    """
    found = read_session(state.read_mark())
    if found is None:
        return None
    header, vital = found
    flight = read_flight_of(state.path)
    if flight is not None and flight.instance_id != header.instance_id:
        flight = None  # of another session: this one could not map its own
    source = FatalSource(*header.fatal) if header.fatal is not None else None
    fault = read_fault(source, flight[Cell.FAULT_BYTES] if flight is not None else 0)
    evidence = Evidence(
        boot_changed=header.boot_id != boot_id,
        fault=fault,
        sigterm=read_sigterm(source),
        memory_kill=_memory_kill(header, flight, kernel),
        watchdog_reset=kernel is not None and kernel.watchdog_reset(),
        update_took_effect=ended_for_update(header.instance_id),
    )
    reason = reason_of(vital.end, evidence)
    if reason is EndReason.NATIVE_CRASH and fault is not None:
        vital.exception_type, vital.signature = fault.signal_name, fault.signature
    pulse_ns = flight[Cell.PULSE_NS] if flight is not None else 0
    if pulse_ns > vital.last_sign_ns:
        return DeadSession(header, vital, flight, reason, pulse_ns, min(2 * PULSE_NS, header.window_ns))
    return DeadSession(header, vital, flight, reason, vital.last_sign_ns, header.window_ns)


def _memory_kill(header: SessionHeader, flight: Flight | None, kernel: KernelReader | None) -> bool:
    if flight is None or kernel is None:
        return False
    before = MemoryState(
        flight[Cell.RESIDENT_BYTES],
        flight[Cell.LIMIT_BYTES],
        flight[Cell.GROUP_KILLS],
        flight[Cell.MACHINE_KILLS],
    )
    now = replace(kernel.memory(), group_kills=kernel.kills_in(header.memory_group))
    return killed_for_memory(before, now)


def last_events(dead: DeadSession) -> Iterator[tuple[Event, EventAttributes, int, int | None]]:
    """Yield (event, attributes, its number, severity) of what a dead session could not tell itself."""
    header, vital, reason, flight = dead.header, dead.vital, dead.reason, dead.flight
    lasted_ns = dead.last_sign_ns - header.started_ns
    told = end_attributes(reason, vital, flight, duration_ns=lasted_ns, accuracy_ns=dead.accuracy_ns)
    yield e.SESSION_END, told, vital.events, end_severity(reason)
    if is_crash(reason):
        yield e.APP_CRASH, crash_attributes(header.session_id, reason, vital, flight), vital.events + 1, None

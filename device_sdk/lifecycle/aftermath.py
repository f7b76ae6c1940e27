"""What a session leaves to the next one: its end, when it could not tell of it itself, and what died in its memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from device_sdk.contract.attributes import EXPECTED_ENDS
from device_sdk.errors import guard
from device_sdk.ledger import Ledger
from device_sdk.lifecycle.accounts import Accounts
from device_sdk.lifecycle.dead import DeadSession, last_events
from device_sdk.lifecycle.ends import priority_of
from device_sdk.lifecycle.saved import saved_of
from device_sdk.privacy import Gate
from device_sdk.sending.otlp import Encoder
from device_sdk.sending.stream import encode_event
from device_sdk.spool import LOGS, Spool


@dataclass(frozen=True, slots=True)
class Aftermath:
    """Where a dead session is told of and counted: through this session's gate, in its spool and its books."""

    gate: Gate
    ledger: Ledger
    spool: Spool
    accounts: Accounts
    now_ns: Callable[[], int]

    def settle(self, dead: DeadSession) -> None:
        """Tell of a dead session what it could not, and count what it could not save."""
        if not dead.vital.told:
            with guard("telling of the previous session's end"):
                self._tell_of(dead)
        with guard("counting what died with the previous session"):
            self._count_lost(dead)

    def _tell_of(self, dead: DeadSession) -> None:
        for event, attributes, number, severity in last_events(dead):
            encoded = encode_event(
                Encoder(dead.header.resource),
                event,
                self.gate.event(event, attributes, self.ledger) or [],
                instance_id=dead.header.instance_id,
                session_id=dead.header.session_id,
                number=number,
                time_ns=dead.last_sign_ns,
                observed_ns=self.now_ns(),
                severity=severity,
            )
            self.spool.put(LOGS, encoded, priority=priority_of(event), durable=True)
        self.ledger.session_ended(dead.reason, expected=dead.reason in EXPECTED_ENDS)

    def _count_lost(self, dead: DeadSession) -> None:
        """Count what a session could not save, also one that told of its own end."""
        vital, instance_id = dead.vital, dead.header.instance_id
        safe = vital.last_sequence - vital.unsent_windows
        saved = saved_of(self.spool, instance_id, safe=safe, last=vital.last_sequence)
        windows, runs = vital.unsent_windows - saved.windows, dead.lost_runs - saved.runs
        self.accounts.count_dead(instance_id, max(0, windows), max(0, runs), self.spool)

"""The wire: every metric, event, attribute and bucket scheme. Standard library only, no I/O; the server imports it."""

from device_sdk.contract.events import EVENTS, Event, Severity
from device_sdk.contract.metrics import BY_NAME, CONTRACT_VERSION, INSTRUMENTS, SCOPE_NAME, Instrument, Kind

__all__ = [
    "BY_NAME",
    "CONTRACT_VERSION",
    "EVENTS",
    "INSTRUMENTS",
    "SCOPE_NAME",
    "Event",
    "Instrument",
    "Kind",
    "Severity",
]

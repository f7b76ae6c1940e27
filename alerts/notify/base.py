"""What a receiver is: it is handed a notice and says sent, try again, or failed for good; it does not raise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol, TypeAlias

from alerts.message import Message


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. ``id`` is the same whenever and however often it is sent: receivers drop copies by it.

    ``state`` is firing or resolved; ``alert`` has the query API's shape of an alert; ``at_ns`` is event time.
    """

    id: str
    state: str
    at_ns: int
    alert: Mapping[str, Any]
    message: Message


@dataclass(frozen=True, slots=True)
class Sent:
    """The receiver took it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """It may go through later; ``after_s`` is the receiver's own wish, if it has one."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """It will never go through like this: trying again is useless."""

    reason: str


Outcome: TypeAlias = Sent | Retry | Failed


class Notifier(Protocol):
    """One receiver. ``label`` names it in logs and in the ledger and holds no secret."""

    @property
    def label(self) -> str:
        """Return a name without secrets, stable over restarts."""
        ...

    def send(self, notice: Notice) -> Outcome:
        """Try once, within the receiver's own timeout."""
        ...

    def close(self) -> None:
        """Give connections back; idempotent."""
        ...


def safe_label(scheme: str, url: str, host: str = "") -> str:
    """Return a receiver's name that gives nothing away: scheme, host where it is no secret, a short hash."""
    short = blake2b(url.encode(), digest_size=4).hexdigest()
    return f"{scheme}://{host}#{short}" if host else f"{scheme}#{short}"

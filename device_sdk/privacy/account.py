"""Where everything that stays on the device is counted."""

from __future__ import annotations

from typing import Protocol

from device_sdk.contract.attributes import LossReason


class Account(Protocol):
    """The ledger, as the gate needs it."""

    def refused(self, reason: str, count: int) -> None:
        """Count what is outside the contract, or over the clip."""
        ...

    def measurements_lost(self, reason: LossReason, count: int) -> None:
        """Count measurements that arrive with less detail, or not at all."""
        ...

"""What the privacy tests count with."""

from __future__ import annotations

from collections import Counter

from device_sdk.contract.attributes import LossReason


class Account:
    """What stayed on the device, by reason."""

    def __init__(self) -> None:
        self.refusals: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()

    def refused(self, reason: str, count: int) -> None:
        self.refusals[reason] += count

    def measurements_lost(self, reason: LossReason, count: int) -> None:
        self.losses[str(reason)] += count

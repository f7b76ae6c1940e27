"""What must outlive a process in the books: losses not yet safely told, whom they were counted for, budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from device_sdk.contract.attributes import LossReason
from device_sdk.ledger import Ledger
from device_sdk.spool import Book, Spool

_ROUND_BYTES: Final = 64 * 1024


class Accounts:
    """Keeps the loss ledger of ``ledger`` and the budgets of a spool in the file ``ledger`` of a directory.

    A loss is kept here until a window that tells of it is on disk or was acknowledged. A death between that moment and
    the next note counts it twice; never does one get lost.
    """

    def __init__(self, directory: Path | None, ledger: Ledger) -> None:
        self._ledger = ledger
        self._book = Book(directory / "ledger" if directory is not None else None)
        stored = self._book.content.get("losses")
        self._counted = str(self._book.content.get("counted", ""))
        if isinstance(stored, dict):
            losses = {k: v for k, v in stored.items() if isinstance(v, int) and "|" in k}
            ledger.untold({(key.split("|")[0], key.split("|")[1]): count for key, count in losses.items()})

    def resume(self, spool: Spool) -> None:
        """Go on with the budgets as the process before left them."""
        for name, budget in (("writing", spool.writing), ("sending", spool.sending)):
            left = self._book.content.get(name)
            if isinstance(left, int | float):
                budget.resume(float(left))

    def count_dead(self, instance_id: str, windows: int, runs: int, spool: Spool) -> None:
        """Count windows and runs that died in the memory of an earlier session, once however often this is asked."""
        if self._counted != instance_id and (windows > 0 or runs > 0):
            self._counted = instance_id
            self._ledger.lost(True, LossReason.SHUTDOWN, windows)
            self._ledger.runs_lost(LossReason.SHUTDOWN, runs)
            self.note(spool)

    def note(self, spool: Spool) -> None:
        """Write down what changed."""
        losses = self._ledger.losses()
        for key, count in spool.volatile_losses().items():
            losses[key] = losses.get(key, 0) + count
        content: dict[str, object] = {"losses": {"|".join(key): count for key, count in sorted(losses.items())}}
        if self._counted:
            content["counted"] = self._counted
        for name, budget in (("writing", spool.writing), ("sending", spool.sending)):
            if budget.limited:
                content[name] = round(budget.left() / _ROUND_BYTES) * _ROUND_BYTES
        self._book.write(content)

    def close(self) -> None:
        """Let go of the file."""
        self._book.close()

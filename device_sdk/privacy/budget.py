"""The ledger of privacy loss: how much of the budget of 24 hours is spent, kept over restarts.

What is spent is on disk before anything randomised with it leaves. A ledger that cannot be written gives nothing away;
one that cannot be read counts as spent for the next 24 hours.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_sdk.errors import log_rationed
from device_sdk.reading_files import read_regular
from device_sdk.writing_files import replace_file

_FILE_BYTES_MAX: Final = 1 << 16
PERIOD_NS: Final = 24 * 3600 * 1_000_000_000
LEDGER_FILE: Final = "privacy.json"
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class _Page:
    """What was spent since ``start_ns`` (epoch ns of the stream clock)."""

    start_ns: int
    spent: float


class EpsilonLedger:
    """Spends a budget of epsilon in periods of 24 hours of the stream clock.

    A clock that goes back starts a new period and keeps what is spent, so that no wrong clock frees the budget twice or
    blocks it for longer than a day; one that jumps ahead by a day frees it once.
    """

    def __init__(self, folder: Path | None, budget: float, now_ns: Callable[[], int]) -> None:
        self._file = folder / LEDGER_FILE if folder is not None else None
        self._budget = budget
        self._now_ns = now_ns
        self._page = self._read()

    def left(self) -> float:
        """Return how much may still be spent in this period."""
        self._turn()
        return max(0.0, self._budget - self._page.spent)

    def reports(self, epsilon: float) -> int:
        """Return how many reports of ``epsilon`` each may still be made in this period."""
        return math.floor(self.left() / epsilon + _ROUNDING)

    def spend(self, amount: float) -> bool:
        """Write down that ``amount`` is spent; say whether it is written, and may thus be used."""
        self._turn()
        page = _Page(self._page.start_ns, self._page.spent + amount)
        if page.spent > self._budget * (1 + _ROUNDING) or not self._write(page):
            return False
        self._page = page
        return True

    def _turn(self) -> None:
        now = self._now_ns()
        if now < self._page.start_ns:
            self._page = _Page(now, self._page.spent)
        elif now - self._page.start_ns >= PERIOD_NS:
            self._page = _Page(now, 0.0)

    def _read(self) -> _Page:
        now = self._now_ns()
        if self._file is None or not self._file.exists():
            return _Page(now, 0.0)
        try:
            stored = json.loads(read_regular(self._file, _FILE_BYTES_MAX))
            page = _Page(int(stored["start_ns"]), float(stored["spent"]))
            if not 0 <= page.spent < math.inf:
                raise ValueError(page.spent)
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            log_rationed(
                logging.WARNING,
                "privacy ledger %s cannot be read (%s): nothing randomised is sent for 24 h",
                self._file,
                type(error).__name__,
            )
            return _Page(now, self._budget)
        return page

    def _write(self, page: _Page) -> bool:
        if self._file is None:
            return False
        try:
            replace_file(self._file, json.dumps({"start_ns": page.start_ns, "spent": page.spent}).encode())
        except OSError as error:
            log_rationed(
                logging.WARNING, "privacy ledger %s: %s: nothing randomised is sent", self._file, error.strerror
            )
            return False
        return True

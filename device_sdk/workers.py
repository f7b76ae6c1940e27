"""The two threads behind a Monitor: one folds and closes windows, one sends. With a manual clock there are none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from device_sdk.errors import guard

TURN_S: Final = 1.0
"""Longest pause between two turns of the fold."""


class Workers:
    """Runs ``fold`` at least once a second or when woken, and ``send`` when there is something to send.

    ``fold_in_s`` says how long until a fold is due, ``send_in_s`` how long the sender may rest, None for until woken.
    A fault of either is swallowed and counted; the thread goes on.
    """

    def __init__(
        self,
        fold: Callable[[], None],
        fold_in_s: Callable[[], float],
        send: Callable[[], None],
        send_in_s: Callable[[], float | None],
    ) -> None:
        self._fold, self._fold_in_s = fold, fold_in_s
        self._send, self._send_in_s = send, send_in_s
        self._stop, self._wake, self._to_send = threading.Event(), threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start both, as daemons: they never keep a program from ending."""
        for name, loop in (("fold", self._fold_loop), ("send", self._send_loop)):
            thread = threading.Thread(target=loop, name=f"device_sdk-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def wake(self) -> None:
        """Let the fold have its turn now: rings fill up."""
        self._wake.set()

    def to_send(self) -> None:
        """Let the sender look: something is queued."""
        self._to_send.set()

    def pause(self, seconds: float) -> object:
        """Sleep until ``seconds`` have passed or the workers are to stop."""
        return self._stop.wait(seconds)

    def stop(self, timeout_s: float) -> None:
        """End both, waiting at most ``timeout_s`` for each; may be called from one of them."""
        for event in (self._stop, self._wake, self._to_send):
            event.set()
        current = threading.current_thread()
        for thread in self._threads:
            if thread is not current:
                thread.join(timeout_s)
        self._threads = []

    def _fold_loop(self) -> None:
        stop, wake = self._stop, self._wake
        while not stop.is_set():
            wake.wait(min(self._fold_in_s() + 0.001, TURN_S))
            wake.clear()
            if not stop.is_set():
                with guard("folding"):
                    self._fold()

    def _send_loop(self) -> None:
        stop, to_send = self._stop, self._to_send
        while not stop.is_set():
            rest_s = self._send_in_s()
            to_send.wait(None if rest_s is None else max(TURN_S, rest_s))
            to_send.clear()
            if not stop.is_set():
                with guard("sending"):
                    self._send()

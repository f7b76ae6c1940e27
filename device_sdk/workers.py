"""The two threads behind a Monitor: one folds and closes windows, one sends. With a manual clock there are none."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Final

from device_sdk.errors import guard

TURN_S: Final = 1.0
"""Longest pause between two turns of the fold."""


class Bell:
    """Rings once for the one thread that waits for it.

    An ``Event`` that Ctrl-C interrupts at the wrong instruction stays locked, and the host's next call would hang; here
    either side is one call into C.
    """

    __slots__ = ("_silence",)

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """Let whoever waits, or the next who does, go on."""
        with contextlib.suppress(RuntimeError):  # it has rung already
            self._silence.release()

    def wait(self, seconds: float | None) -> bool:
        """Wait for the bell, at most ``seconds`` (None: for ever); say whether it rang."""
        return self._silence.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))


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
        self._stopped, self._wake, self._to_send = Bell(), Bell(), Bell()
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start both, as daemons: they never keep a program from ending."""
        for name, loop in (("fold", self._fold_loop), ("send", self._send_loop)):
            thread = threading.Thread(target=loop, name=f"device_sdk-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def wake(self) -> None:
        """Let the fold have its turn now: rings fill up."""
        self._wake.ring()

    def to_send(self) -> None:
        """Let the sender look: something is queued."""
        self._to_send.ring()

    def pause(self, seconds: float) -> None:
        """Sleep until ``seconds`` have passed or the workers are to stop."""
        if self._stopped.wait(seconds):
            self._stopped.ring()  # for the next

    def stop(self, timeout_s: float) -> None:
        """End both, waiting at most ``timeout_s`` for each; may be called from one of them."""
        self._stopping = True
        for bell in (self._stopped, self._wake, self._to_send):
            bell.ring()
        current = threading.current_thread()
        for thread in self._threads:
            if thread is not current:
                thread.join(timeout_s)
        self._threads = []

    def _fold_loop(self) -> None:
        while not self._stopping:
            self._wake.wait(min(self._fold_in_s() + 0.001, TURN_S))
            if not self._stopping:
                with guard("folding"):
                    self._fold()

    def _send_loop(self) -> None:
        while not self._stopping:
            rest_s = self._send_in_s()
            self._to_send.wait(None if rest_s is None else max(TURN_S, rest_s))
            if not self._stopping:
                with guard("sending"):
                    self._send()

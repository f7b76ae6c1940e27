"""Child processes: started with inherited sockets, restarted with back-off, ended when their parent is gone."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from collector.errors import StackError

logger = logging.getLogger(__name__)

GIVE_UP: Final = 3
"""Exit code of a child whose error a restart cannot mend; its last line says what to do."""

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 30.0
HEALTHY_S: Final = 60.0
"""A child that ran this long is started again as if for the first time."""


def listen(host: str, port: int, purpose: str) -> socket.socket:
    """Return a listening socket; raises ``StackError`` when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    option = purpose.replace(" ", "-") + "-port"
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise StackError(
            f"{purpose} port {host}:{port} cannot be used: {error.strerror}; "
            f"end what holds it or choose another with --{option}"
        ) from None
    listener.set_inheritable(True)
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the http URL of a listening socket; a wildcard address is shown as loopback."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def exit_with_parent(parent_fd: int) -> None:
    """End this process when the other end of the pipe closes, however the parent died."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(parent_fd, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@dataclass(slots=True)
class Child:
    """One supervised process. ``arguments`` follow ``python -m fleetpulse.child`` or are a whole command."""

    name: str
    command: Sequence[str]
    sockets: Sequence[socket.socket] = ()
    environment: dict[str, str] = field(default_factory=dict)
    stop_timeout_s: float = 30.0
    process: subprocess.Popen[bytes] | None = None
    backoff_s: float = BACKOFF_FIRST_S
    due_at: float = 0.0
    started_at: float = 0.0
    restarts: int = 0

    def start(self, parent_fd: int) -> None:
        """Start the process; it inherits the sockets and the read end of the parent's pipe."""
        self.process = subprocess.Popen(
            list(self.command),
            pass_fds=[parent_fd, *(listener.fileno() for listener in self.sockets)],
            env={**os.environ, **self.environment},
            start_new_session=True,
        )

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return None if self.process is None else self.process.poll()

    def stop(self) -> None:
        """Ask the process to end, wait, and end it by force when it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(self.stop_timeout_s)
        except subprocess.TimeoutExpired:
            logger.error("%s did not end within %.0f s and is killed", self.name, self.stop_timeout_s)
            self.process.kill()
            self.process.wait()


def python_child(role: str, settings: dict[str, object], fds: dict[str, int], parent_fd: int) -> list[str]:
    """Return the command of one of our own children; secrets travel in the environment, never here."""
    payload = json.dumps({"role": role, "fds": fds, "parent_fd": parent_fd, "settings": settings})
    return [sys.executable, "-m", "fleetpulse.child", payload]


class Supervisor:
    """Keeps children running: restarts one that ended, with back-off; stops all in reverse order."""

    def __init__(self, children: Sequence[Child], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.children = list(children)
        self._monotonic = monotonic
        self._read_fd, self._write_fd = os.pipe()
        os.set_inheritable(self._read_fd, True)

    @property
    def parent_fd(self) -> int:
        """Return the read end of the pipe that children watch."""
        return self._read_fd

    def start(self) -> None:
        """Start every child, in order."""
        for child in self.children:
            child.started_at = self._monotonic()
            child.start(self._read_fd)

    def check(self) -> None:
        """Restart children that ended; raises ``StackError`` for one that a restart cannot mend."""
        now = self._monotonic()
        for child in self.children:
            code = child.poll()
            if code is None:
                continue
            if code == GIVE_UP:
                raise StackError(f"{child.name} cannot run; its message above says why")
            if child.due_at == 0.0:
                if now - child.started_at > HEALTHY_S:
                    child.backoff_s = BACKOFF_FIRST_S
                child.due_at = now + child.backoff_s
                child.backoff_s = min(child.backoff_s * 2, BACKOFF_MAX_S)
                logger.error("%s ended with code %s; starting it again", child.name, code)
            elif now >= child.due_at:
                child.due_at = 0.0
                child.restarts += 1
                child.started_at = now
                child.start(self._read_fd)

    def stop(self) -> None:
        """Stop all children, the last started first, and close the pipe."""
        for child in reversed(self.children):
            child.stop()
        for fd in (self._read_fd, self._write_fd):
            with contextlib.suppress(OSError):
                os.close(fd)

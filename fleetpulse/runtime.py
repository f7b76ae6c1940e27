"""The composition root: what `fleetpulse up` runs, as an object that tests and the demo can start and stop."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import os
import secrets
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Final

from collector.api.auth import is_loopback_host, read_tokens
from collector.errors import StackError
from fleetpulse.datadir import DataDirectory, Running
from fleetpulse.processes import Child, Supervisor, listen, python_child, url_of
from fleetpulse.settings import SECRETS, Settings

logger = logging.getLogger(__name__)

READY_TIMEOUT_S: Final = 60.0
LOCAL_TOKEN_VARIABLE: Final = "FLEETPULSE_LOCAL_TOKEN"  # noqa: S105  # a variable's name
LOCAL_READ_TOKEN_VARIABLE: Final = "FLEETPULSE_LOCAL_READ_TOKEN"  # noqa: S105  # likewise
PAGE_LIBRARIES: Final = ("streamlit", "altair")
INSTALL_PAGES: Final = "install it with: pip install '.[dashboards]'"


def _missing_page_library() -> str:
    """Return a library of the extra ``dashboards`` that is not installed, '' when all are."""
    return next((name for name in PAGE_LIBRARIES if importlib.util.find_spec(name) is None), "")


def _require_tokens_beyond_loopback(settings: Settings) -> None:
    for option, host in (("--host", settings.host), ("--api-host", settings.api_host)):
        if not is_loopback_host(host) and all(token.revoked for token in read_tokens(settings.tokens_path)):
            raise StackError(
                f"{option} {host} is reachable from other machines and there is no token in {settings.tokens_path}; "
                "create one first: fleetpulse token create --scope ingest"
            )


class Stack:
    """Device port, store, schedule, alerts and dashboard of one data directory."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.directory = DataDirectory(settings.data_dir)
        self.otlp_url = self.api_url = self.dashboard_url = ""
        self._supervisor: Supervisor | None = None
        self._sockets: list[socket.socket] = []

    def start(self) -> None:
        """Take the directory, bind every port, start the children, return when all of them serve.

        Raises ``StackError`` (a port in use, a held or newer directory, a broken rule file) with nothing left running.
        """
        _require_tokens_beyond_loopback(self.settings)
        if self.settings.grpc_port:
            logger.warning(
                "grpc_port = %d: this version serves OTLP over HTTP only; point exporters at the otlp address",
                self.settings.grpc_port,
            )
        self.directory.acquire()
        try:
            self._start_children()
        except BaseException:
            self.stop()
            raise

    def _start_children(self) -> None:
        settings = self.settings
        otlp = self._listen(settings.host, settings.otlp_port, "otlp")
        api = self._listen(settings.api_host, settings.api_port, "api")
        self.otlp_url, self.api_url = url_of(otlp), url_of(api)
        missing = _missing_page_library()
        if settings.dashboard and missing:
            logger.warning("no dashboard: it needs %s; %s", missing, INSTALL_PAGES)
        elif settings.dashboard:
            probe = listen(settings.dashboard_host, settings.dashboard_port, "dashboard")
            self.dashboard_url = url_of(probe)
            probe.close()  # streamlit binds the port itself
        local_token = secrets.token_urlsafe(32)
        supervisor = Supervisor([])
        self._supervisor = supervisor
        supervisor.children = self._children(supervisor.parent_fd, otlp, api, local_token)
        supervisor.start()
        self._wait_ready()
        self.directory.announce(Running(os.getpid(), self.otlp_url, self.api_url, self.dashboard_url, local_token))

    def _listen(self, host: str, port: int, purpose: str) -> socket.socket:
        listener = listen(host, port, purpose)
        self._sockets.append(listener)
        return listener

    def _children(self, parent_fd: int, otlp: socket.socket, api: socket.socket, local_token: str) -> list[Child]:
        plain = dataclasses.asdict(self.settings)
        plain.update(dict.fromkeys(SECRETS, ""), public_url=self.settings.public_url or self.dashboard_url)
        private = {
            f"FLEETPULSE_{name.upper()}": getattr(self.settings, name)
            for name in SECRETS
            if getattr(self.settings, name)
        }
        read_token = secrets.token_urlsafe(32)
        private |= {LOCAL_TOKEN_VARIABLE: local_token, LOCAL_READ_TOKEN_VARIABLE: read_token}
        children = [
            Child(
                "store",
                python_child("store", plain, {"api": api.fileno()}, parent_fd),
                sockets=[api],
                environment=private,
            )
        ]
        for number in range(self.settings.workers):
            role = python_child("ingest", {**plain, "worker": f"w{number}"}, {"otlp": otlp.fileno()}, parent_fd)
            children.append(Child(f"ingest worker {number}", role, sockets=[otlp]))
        if self.dashboard_url:
            port = int(self.dashboard_url.rsplit(":", 1)[1])
            command, environment = dashboard_child(self.settings.dashboard_host, port, self.api_url, read_token)
            children.append(Child("dashboard", command, environment=environment, stop_timeout_s=5))
        return children

    def _wait_ready(self) -> None:
        assert self._supervisor is not None
        checks = [f"{self.otlp_url}/readyz", f"{self.api_url}/readyz"]
        if self.dashboard_url:
            checks.append(f"{self.dashboard_url}/_stcore/health")
        deadline = time.monotonic() + READY_TIMEOUT_S
        for url in checks:
            while not _answers(url):
                self._supervisor.check()
                if time.monotonic() > deadline:
                    raise StackError(f"{url} did not answer within {READY_TIMEOUT_S:.0f} s; see the log above")
                time.sleep(0.05)

    @property
    def ready_line(self) -> str:
        """Return the one line that `up` prints when it serves."""
        return f"ready otlp={self.otlp_url} api={self.api_url} dashboard={self.dashboard_url or 'off'}"

    def watch(self, stopping: Callable[[], bool]) -> None:
        """Keep the children running until ``stopping()``; raises ``StackError`` when one cannot run any more."""
        assert self._supervisor is not None
        while not stopping():
            self._supervisor.check()
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop workers first, let the store take in what they acknowledged, give the directory back; idempotent."""
        if self._supervisor is not None:
            self._supervisor.stop()
            self._supervisor = None
        for listener in self._sockets:
            listener.close()
        self._sockets.clear()
        self.directory.release()


def dashboard_child(host: str, port: int, api_url: str, token: str) -> tuple[list[str], dict[str, str]]:
    """Return command and environment of the dashboard; raises ``StackError`` when its libraries are missing."""
    try:
        from dashboards.server import dashboard_command, dashboard_environment
    except ModuleNotFoundError as error:
        raise StackError(f"the dashboard needs {error.name}; {INSTALL_PAGES}") from None
    return dashboard_command(host, port, api_url), dashboard_environment(os.environ, token=token)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=0.5) as answer:  # noqa: S310  # our own loopback URL
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def call_admin(running: Running, action: str, body: dict[str, object], timeout_s: float = 600.0) -> dict[str, object]:
    """POST one admin action to a running store and return its answer; raises ``StackError`` with the store's words."""
    request = urllib.request.Request(  # noqa: S310  # the address comes from run.json
        f"{running.api_url}/api/v1/admin/{action}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {running.operate_token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            return dict(json.loads(answer.read()))
    except urllib.error.HTTPError as error:
        detail = error.read().decode(errors="replace")
        raise StackError(f"the store refused {action}: {error.code} {detail}") from None
    except (urllib.error.URLError, OSError) as error:
        raise StackError(f"the store at {running.api_url} does not answer: {error}") from None

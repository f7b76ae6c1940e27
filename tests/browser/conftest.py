"""Fixtures of the browser tests: the dashboard as a process, over the fake query API, in headless Chromium."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from dashboards.server import dashboard_command, dashboard_environment

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
FAKES = Path(__file__).parents[1] / "dashboards"
START_S = 30.0


def fakes() -> ModuleType:
    """Import the fake query API of the dashboard tests."""
    if str(FAKES) not in sys.path:
        sys.path.append(str(FAKES))
    spec = importlib.util.spec_from_file_location("fake_api", FAKES / "fake_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chromium() -> str:
    """Return the browser to use, '' when there is none."""
    found = os.environ.get("FLEETPULSE_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    return found or ""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start one headless Chromium for the module, or skip with the reason.

    Not for the session: while Playwright is up its event loop runs in this thread, and other tests have their own.
    """
    sync = pytest.importorskip("playwright.sync_api", reason="browser tests need the playwright package")
    path = chromium()
    if not path:
        pytest.skip("browser tests need Chromium: install it or name it in FLEETPULSE_TEST_CHROMIUM")
    with sync.sync_playwright() as play:
        started = play.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a URL answers 200; fail with what the process said when it ended or time is up."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    pytest.fail(f"the dashboard did not answer at {url} within {START_S:g} s (exit code {process.poll()})")


@pytest.fixture(scope="module")
def dashboard(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[Any, str]]]:
    """Start dashboards: ``dashboard("busy")`` -> (made-up fleet, URL); one process a scenario, stopped at the end."""
    api = fakes()
    started: dict[str, tuple[Any, str]] = {}
    with ExitStack() as stack:

        def start(scenario: str) -> tuple[Any, str]:
            if scenario not in started:
                fleet = api.Fleet(scenario)
                server, api_url = api.serve(fleet)
                stack.callback(server.server_close)
                stack.callback(server.shutdown)
                port = free_port()
                log = stack.enter_context((tmp_path_factory.mktemp("dash") / f"{scenario}.log").open("wb"))
                environment = dashboard_environment(os.environ)
                process = subprocess.Popen(
                    dashboard_command("127.0.0.1", port, api_url), env=environment, stdout=log, stderr=log
                )
                stack.callback(process.wait, 10)
                stack.callback(process.terminate)
                url = f"http://127.0.0.1:{port}"
                wait_until(f"{url}/healthz", process)
                started[scenario] = (fleet, url)
            return started[scenario]

        yield start

"""Fixtures of the dashboard tests: the fake query API over real HTTP."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

import fake_api

from dashboards.data import Reader


@pytest.fixture
def api() -> Iterator[Callable[..., tuple[Any, str]]]:
    """Start fake query APIs: ``api("busy")`` -> (fleet, base URL)."""
    servers = []

    def start(scenario: str = "busy") -> tuple[Any, str]:
        fleet = fake_api.Fleet(scenario)
        server, url = fake_api.serve(fleet)
        servers.append(server)
        return fleet, url

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def reader() -> Iterator[Callable[..., Reader]]:
    """Make readers of the query API that are closed after the test."""
    readers: list[Reader] = []

    def make(url: str, token: str = "", **clocks: Any) -> Reader:
        readers.append(Reader(url, token, **clocks))
        return readers[-1]

    yield make
    for one in readers:
        one.close()

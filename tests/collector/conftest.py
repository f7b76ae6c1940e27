"""Makes the builders beside the tests importable (importlib mode puts no test folder on the path); an operator port."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from store_kit import Clock, serving

from collector.api.operator_app import create_operator_app
from collector.api.options import ApiOptions
from collector.errors import ConfigError, QueryTimeoutError
from collector.storage import open_store


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    opened = open_store(tmp_path / "data", clock_ns=clock, threads=1)
    yield opened
    opened.close()


def _operator_app(store, data_dir, clock):
    def fail(body):
        raise {"value": ValueError, "stack": ConfigError, "timeout": QueryTimeoutError}[body["how"]]("because")

    admin = {
        "drain": lambda body: {"echo": body},
        "jobs/run": lambda body: {"horizon_ns": body["until_ns"]},
        "fail": fail,
    }
    options = ApiOptions(data_dir)
    return create_operator_app(
        store, options=options, admin=admin, metrics=lambda: {"drain_failures_total": 2}, clock_ns=clock
    )


@pytest.fixture
def client(store, tmp_path, clock):
    """An HTTP client of a served operator port; its ``fail`` action raises what the body says."""
    with serving(_operator_app(store, tmp_path / "data", clock)) as opened:
        yield opened


@pytest.fixture(scope="module")
def empty_client(tmp_path_factory):
    """The same over a store without data, shared by tests that change nothing."""
    data_dir = tmp_path_factory.mktemp("empty") / "data"
    opened = open_store(data_dir, clock_ns=Clock(), threads=1)
    with serving(_operator_app(opened, data_dir, Clock())) as connected:
        yield connected
    opened.close()

"""Entry point of our own child processes: an ingest worker, or the store with its schedule and alerts."""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import uvicorn

from collector.errors import StackError
from fleetpulse.processes import GIVE_UP, exit_with_parent
from fleetpulse.settings import Settings, load

logger = logging.getLogger(__name__)


def _settings(values: dict[str, Any]) -> Settings:
    """Return the parent's settings; secrets come through this process's environment."""
    plain = {name: value for name, value in values.items() if value != "" and name != "worker"}
    return load(plain)[0]


def _serve(app: Any, fd: int) -> None:
    """Serve an ASGI app on an inherited socket until SIGTERM; finishes the requests under way."""
    config = uvicorn.Config(
        app, log_config=None, log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=10,
        timeout_keep_alive=75, h11_max_incomplete_event_size=64 * 1024, server_header=False,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])


def run_ingest(values: dict[str, Any], fds: Mapping[str, int]) -> None:
    """Run one ingest worker."""
    from collector.api.ingest_app import create_ingest_app, settle_memory
    from collector.api.options import IngestOptions

    settings = _settings(values)
    options = IngestOptions(
        data_dir=settings.data_dir,
        worker=str(values["worker"]),
        bind_host=settings.host,
        tokens_path=settings.tokens_path,
    )
    settle_memory()
    _serve(create_ingest_app(options, clock_ns=time.time_ns), fds["otlp"])


def run_store(values: dict[str, Any], fds: Mapping[str, int]) -> None:
    """Run the store: writer, query API, schedule and alerts."""
    from fleetpulse.storeprocess import StoreProcess

    settings = _settings(values)
    process = StoreProcess(settings)
    process.start()
    try:
        _serve(process.app, fds["api"])
    finally:
        process.stop()


ROLES: Mapping[str, Callable[[dict[str, Any], Mapping[str, int]], None]] = {"ingest": run_ingest, "store": run_store}


def _exit(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    sys.exit(0)


def main() -> None:
    """Run the role that the parent asked for; exits with ``GIVE_UP`` when a restart would not help."""
    payload = json.loads(sys.argv[1])
    logging.basicConfig(
        level=payload["settings"].get("log_level", "INFO"),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)  # uvicorn raises the signal again when it is done: leave through `finally`
    for chatty in ("apscheduler", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    exit_with_parent(int(payload["parent_fd"]))
    try:
        ROLES[payload["role"]](payload["settings"], payload["fds"])
    except StackError as error:
        print(f"fleetpulse {payload['role']}: {error}", file=sys.stderr, flush=True)
        sys.exit(GIVE_UP)


if __name__ == "__main__":
    main()

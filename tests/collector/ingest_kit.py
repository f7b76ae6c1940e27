"""A real ingest worker on 127.0.0.1 and readers of what it made durable."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import uvicorn

from collector.api.ingest_app import IngestApp, create_ingest_app
from collector.api.options import IngestOptions
from collector.storage.rows import SEGMENT_TABLES
from collector.storage.segment_file import read_segment

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
T = 1_790_000_000_000_000_000
MINUTE = 60_000_000_000


def columns(name: str) -> list[str]:
    return SEGMENT_TABLES[name].names


def rows(batch: Any, table: str = "points") -> list[dict[str, Any]]:
    """Rows of a decoded batch by column name."""
    found = getattr(batch, table)
    found = found.values() if isinstance(found, dict) else found
    return [dict(zip(columns(table), row, strict=True)) for row in found]


def stored(data_dir: Path) -> dict[str, pa.Table]:
    """Everything acknowledged so far."""
    segments = [read_segment(path) for path in sorted((data_dir / "segments").glob("*.seg"))]
    return {
        name: pa.concat_tables([segment[name] for segment in segments]) if segments else schema.empty_table()
        for name, schema in SEGMENT_TABLES.items()
    }


@dataclass
class Served:
    url: str
    port: int
    data_dir: Path
    app: IngestApp
    client: httpx.Client

    def post(self, path: str = "/v1/metrics", content: Any = b"", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(self.url + path, content=content, headers={**PROTOBUF, **named})

    def metrics(self) -> set[str]:
        return set(stored(self.data_dir)["series"]["metric"].to_pylist())


@contextmanager
def serving(options: IngestOptions, **kwargs: Any) -> Iterator[Served]:
    app = create_ingest_app(options, **kwargs)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server did not start in 20 s"
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(timeout=20, trust_env=False) as client:
        yield Served(f"http://127.0.0.1:{port}", port, options.data_dir, app, client)
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive(), "the server did not stop"

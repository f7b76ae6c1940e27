"""Options of the two HTTP applications; ``fleetpulse.settings`` composes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """Options of one ingest worker on the device port.

    ``bind_host`` is the address the socket listens on: beyond loopback every request needs a token of scope
    ``ingest``. Sizes are bytes.
    """

    data_dir: Path
    worker: str = "w0"
    bind_host: str = "127.0.0.1"
    tokens_path: Path | None = None
    """Default: ``data_dir/tokens.json``."""
    body_bytes_max: int = 64 << 20
    """Most bytes of a request body, before and after decompression; beyond is 413."""
    inflight_bytes_max: int = 256 << 20
    """Most bytes of request bodies held at one time; beyond is 503."""
    backlog_bytes_max: int = 2 << 30
    """Most bytes of segments the store has not drained; beyond is 503."""
    free_bytes_min: int = 64 << 20
    """Least free bytes of the data directory's disk; below is 503."""
    commit_tick_s: float = 0.005
    """How long a group commit waits for company."""
    read_timeout_s: float = 60.0
    """How long a client may take to send its body; beyond is 408."""
    retry_after_s: int = 5
    """What ``Retry-After`` says with a 503."""
    report_interval_s: float = 1.0
    """How often the worker's counters are written and the backlog is measured."""

    @property
    def segments_dir(self) -> Path:
        """Return where segments are written."""
        return self.data_dir / "segments"

    @property
    def counters_path(self) -> Path:
        """Return where this worker's counters are written."""
        return self.data_dir / "workers" / f"{self.worker}.json"

    @property
    def tokens_file(self) -> Path:
        """Return where the hashed tokens live."""
        return self.tokens_path or self.data_dir / "tokens.json"

    @property
    def settings_file(self) -> Path:
        """Return where the store process publishes the devices' settings."""
        return self.data_dir / "settings.json"


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Options of the operator application."""

    data_dir: Path
    bind_host: str = "127.0.0.1"
    tokens_path: Path | None = None
    """Default: ``data_dir/tokens.json``."""
    local_token: str = ""
    """The running store's own operate token, from ``DIR/run.json``; '' = none."""
    local_read_token: str = ""
    """The token of the dashboard that was started with the store; '' = none."""
    public_url: str = ""
    """The dashboard's address, for links."""

    @property
    def tokens_file(self) -> Path:
        """Return where the hashed tokens live."""
        return self.tokens_path or self.data_dir / "tokens.json"

    @property
    def workers_dir(self) -> Path:
        """Return where ingest workers write their counters."""
        return self.data_dir / "workers"

"""What one ingest worker counts about itself, and the file through which the operator port publishes it.

``DIR/workers/<worker>.json`` is replaced atomically every second: ``{"worker", "pid", "started_ns", "at_ns",
"requests": {"<signal> <status>": n}, "accepted": {"<signal>": n}, "rejected": {"<signal> <reason>": n},
"exemplars_dropped", "body_bytes", "segments", "segment_bytes", "write_failures", "internal_errors", "inflight_bytes",
"backlog_bytes", "free_bytes", "ack": {"bounds": [s...], "counts": [n...], "sum", "count"}}``. Counts begin at zero with
the process; ``accepted`` counts points or records acknowledged as durable, copies among them.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ACK_BOUNDS_S: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(slots=True)
class IngestCounters:
    """The counts of one worker."""

    worker: str
    started_ns: int
    requests: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    exemplars_dropped: int = 0
    body_bytes: int = 0
    internal_errors: int = 0
    ack_counts: list[int] = field(default_factory=lambda: [0] * (len(ACK_BOUNDS_S) + 1))
    ack_sum_s: float = 0.0

    def acknowledged(self, seconds: float) -> None:
        """Count one answered request that took ``seconds`` from its last body byte to durability."""
        self.ack_counts[bisect_left(ACK_BOUNDS_S, seconds)] += 1
        self.ack_sum_s += seconds

    def snapshot(self, at_ns: int, **gauges: int) -> dict[str, Any]:
        """Return everything as one JSON object; ``gauges`` are added as they are."""
        return {
            "worker": self.worker,
            "pid": os.getpid(),
            "started_ns": self.started_ns,
            "at_ns": at_ns,
            "requests": dict(self.requests),
            "accepted": dict(self.accepted),
            "rejected": dict(self.rejected),
            "exemplars_dropped": self.exemplars_dropped,
            "body_bytes": self.body_bytes,
            "internal_errors": self.internal_errors,
            **gauges,
            "ack": {
                "bounds": list(ACK_BOUNDS_S),
                "counts": list(self.ack_counts),
                "sum": self.ack_sum_s,
                "count": sum(self.ack_counts),
            },
        }


def write_counters(path: Path, snapshot: dict[str, Any]) -> None:
    """Replace the worker's file atomically; raises ``OSError``. Not synced: it describes only the running process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(snapshot), encoding="utf-8")
    temporary.replace(path)


def read_counters(directory: Path) -> list[dict[str, Any]]:
    """Return the newest snapshot of every worker, by worker; a file that cannot be read is left out."""
    found: list[dict[str, Any]] = []
    for path in sorted(directory.glob("*.json")):
        try:
            snapshot = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(snapshot, dict):
            found.append(snapshot)
    return found

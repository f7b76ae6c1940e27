"""What it costs to put a window onto the disk for good, beside SQLite in WAL mode with synchronous=FULL.

One process, interleaved rounds, requests of ``--bytes`` (a window of about 30 series). Enqueue: one request queued and
on the medium. Life: the same, and later the acknowledgement (SQLite: a delete in a transaction of its own). CPU is
``process_time``, bytes are ``write_bytes`` of /proc/self/io. ``new`` is a spool whose file grows, as off line;
``steady`` one that was acknowledged in between, whose file is written anew, as on line. Medians over rounds.

Run: ``.venv/bin/python benchmarks/spool_enqueue.py [--rounds 9] [--requests 120] [--bytes 8192] [--numpy]``
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from device_sdk.limits import Limits
from device_sdk.spool import METRICS, Spool, crc32c

CPU_MAX = 0.8
BYTES_MAX = 0.5
Figure = tuple[float, float]


def written() -> int:
    """Return the bytes this process caused to be written."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise SystemExit("this kernel does not count written bytes; run on Linux with task I/O accounting")


def measure(work: Callable[[], None], requests: int) -> Figure:
    """Return (CPU us, bytes written) a request."""
    before, started = written(), time.process_time()
    work()
    return (time.process_time() - started) / requests * 1e6, (written() - before) / requests


class Sqlite:
    """A queue in one table, one transaction a request."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("pragma journal_mode=wal")
        self.connection.execute("pragma synchronous=full")
        self.connection.execute("create table queue (id integer primary key, payload blob)")

    def enqueue(self, payloads: list[bytes]) -> None:
        """Put each in."""
        for payload in payloads:
            self.connection.execute("insert into queue (payload) values (?)", (payload,))

    def acknowledge(self) -> None:
        """Take each out."""
        for (number,) in self.connection.execute("select id from queue order by id").fetchall():
            self.connection.execute("delete from queue where id = ?", (number,))


def put(spool: Spool, payloads: list[bytes]) -> None:
    """Put each in and bring it to the medium."""
    for payload in payloads:
        spool.put(METRICS, payload)
        spool.settle()


def acknowledge(spool: Spool) -> None:
    """Take each out, one by one as an answer would."""
    while records := spool.head(METRICS, 1):
        spool.done(records)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=120)
    parser.add_argument("--bytes", type=int, default=8192)
    parser.add_argument("--numpy", action="store_true", help="as where no C library for the checksum is installed")
    chosen = parser.parse_args()
    if chosen.numpy:
        sys.modules["google_crc32c"] = None  # type: ignore[assignment]
    n = chosen.requests
    kept: dict[str, list[Figure]] = {}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        base = Path(folder)
        sqlite, steady = Sqlite(base / "queue.db"), Spool(base / "steady", Limits(), durable=True)
        for number in range(chosen.rounds + 1):
            payloads = [os.urandom(chosen.bytes) for _ in range(n)]
            few = payloads[: max(1, 200_000 // chosen.bytes)]
            growing = Spool(base / f"new{number}", Limits(), durable=True)
            found = {
                "sqlite enqueue": measure(lambda p=payloads: sqlite.enqueue(p), n),  # type: ignore[misc]
                "sqlite acknowledge": measure(sqlite.acknowledge, n),
                "spool new enqueue": measure(lambda s=growing, p=payloads: put(s, p), n),  # type: ignore[misc]
                "spool steady enqueue": measure(lambda p=few: put(steady, p), len(few)),  # type: ignore[misc]
                "spool steady acknowledge": measure(lambda: acknowledge(steady), len(few)),
            }
            growing.close()
            for name, figure in found.items() if number else ():  # the first round warms caches and makes files
                kept.setdefault(name, []).append(figure)
        steady.close()
    figures = {
        name: tuple(statistics.median(column) for column in zip(*rows, strict=True)) for name, rows in kept.items()
    }
    print(f"checksum by {crc32c.implementation()}, {chosen.bytes} bytes a request")
    for name, (cpu_us, size) in figures.items():
        print(f"{name:26s} {cpu_us:8.1f} us CPU {size:9.0f} bytes written")
    whole = {
        k: [sum(x) for x in zip(figures[f"{k} enqueue"], figures[f"{k} acknowledge"], strict=True)]
        for k in ("sqlite", "spool steady")
    }
    fine = True
    for name, ours, theirs in (
        ("enqueue, file grows", figures["spool new enqueue"], figures["sqlite enqueue"]),
        ("enqueue, steady", figures["spool steady enqueue"], figures["sqlite enqueue"]),
        ("enqueue and acknowledge", whole["spool steady"], whole["sqlite"]),
    ):
        cpu, size = ours[0] / theirs[0], ours[1] / theirs[1]
        fine = fine and cpu <= CPU_MAX and size <= BYTES_MAX
        print(f"{name:26s} {cpu:8.2f} x CPU (at most {CPU_MAX}) {size:8.2f} x bytes (at most {BYTES_MAX})")
    print("holds" if fine else "DOES NOT HOLD")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())

"""What it costs to put a window onto the disk for good, beside SQLite in WAL mode with synchronous=FULL.

One process, interleaved rounds, requests of ``--bytes`` (a window of about 30 series). Enqueue: one request queued and
on the medium. Life: the same, and later the acknowledgement (SQLite: a delete in a transaction of its own). CPU is
``process_time``, bytes are ``write_bytes`` of /proc/self/io. ``new`` is a spool whose file grows, as off line,
``steady`` one that was acknowledged in between, whose file is written anew, as on line. Medians over rounds, of
ratios within each round. The steady ones must hold, with the C library for the checksum (``--numpy``: without it).

Run: ``.venv/bin/python benchmarks/spool_enqueue.py [--rounds 25] [--requests 24] [--bytes 8192] [--numpy]``
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
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--requests", type=int, default=24)
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
    print(f"checksum by {crc32c.implementation()}, {chosen.bytes} bytes a request")
    for name, rows in kept.items():
        cpu_us, size = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name:26s} {cpu_us:8.1f} us CPU {size:9.0f} bytes written")
    enqueue, acknowledge_sqlite = kept["sqlite enqueue"], kept["sqlite acknowledge"]
    steady_life = added(kept["spool steady enqueue"], kept["spool steady acknowledge"])
    fine = True
    for name, ours, theirs, must in (
        ("enqueue, steady", kept["spool steady enqueue"], enqueue, True),
        ("enqueue and acknowledge", steady_life, added(enqueue, acknowledge_sqlite), True),
        ("enqueue, file grows", kept["spool new enqueue"], enqueue, False),
    ):
        cpu = statistics.median(our[0] / their[0] for our, their in zip(ours, theirs, strict=True))
        size = statistics.median(our[1] / their[1] for our, their in zip(ours, theirs, strict=True))
        held = cpu <= CPU_MAX and size <= BYTES_MAX
        fine = fine and (held or not must)
        print(f"{name:26s} {cpu:8.2f} x CPU {size:8.2f} x bytes" + ("" if must else "   (for information)"))
    print(f"at most {CPU_MAX} x CPU and {BYTES_MAX} x bytes: " + ("holds" if fine else "DOES NOT HOLD"))
    return 0 if fine else 1


def added(one: list[Figure], two: list[Figure]) -> list[Figure]:
    """Return the sums of two columns, round by round."""
    return [(a[0] + b[0], a[1] + b[1]) for a, b in zip(one, two, strict=True)]


if __name__ == "__main__":
    sys.exit(main())

"""A fleet's telemetry as segment tables, put into a real store: windows, runs, sessions, crashes."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from collector.storage import open_store
from collector.storage.rows import SEGMENT_TABLES
from collector.storage.segment_file import write_segment

S = 1_000_000_000
MINUTE = 60 * S
HOUR = 60 * MINUTE
DAY = 24 * HOUR
T0 = 1_790_000_000 * S // DAY * DAY
_counter = itertools.count()


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def ident(*parts: Any) -> bytes:
    return hashlib.blake2b(canonical(parts).encode(), digest_size=16).digest()


class Clock:
    """A clock that stands still until told."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


@dataclass
class Device:
    name: str
    tier: str = "cam-v1"
    firmware: str = "1.0.0"
    stream: str = ""

    @property
    def labels(self) -> dict[str, str]:
        return {"edge.device.tier": self.tier, "edge.firmware.version": self.firmware}


@dataclass
class Batch:
    """Collects telemetry and writes it as one segment."""

    received_ns: int
    tables: dict[str, list[tuple[Any, ...]]] = field(default_factory=lambda: {name: [] for name in SEGMENT_TABLES})
    seen: set[Any] = field(default_factory=set)

    def _once(self, table: str, key: bytes, row: tuple[Any, ...]) -> bytes:
        if (table, key) not in self.seen:
            self.seen.add((table, key))
            self.tables[table].append(row)
        return key

    def _who(self, device: Device) -> tuple[bytes, bytes, bytes]:
        labels = canonical(device.labels)
        instance = device.stream or f"{device.name}-1"
        resource = canonical({**device.labels, "device.id": device.name, "service.instance.id": instance})
        resource_id = self._once("resources", ident(resource), (ident(resource), resource))
        cohort = ident(labels)
        self._once("cohorts", cohort, (cohort, labels, device.tier, "", "", device.firmware))
        stream = ident("i:" + instance)
        row = (stream, device.name, instance, "", resource_id, cohort, self.received_ns)
        self._once("streams", stream, row)
        return stream, resource_id, cohort

    def _series(self, metric: str, kind: str, unit: str, attributes: dict[str, str]) -> bytes:
        key = ident(metric, attributes)
        model, version = attributes.get("edge.model.name", ""), attributes.get("edge.model.version", "")
        row = (key, metric, kind, unit, "delta", kind == "sum" or None, "device_sdk", "1", canonical(attributes), [],
               model, version)  # fmt: skip
        return self._once("series", key, row)

    def _point(self, who: tuple[bytes, bytes, bytes], series: bytes, start: int, end: int, **values: Any) -> None:
        names = SEGMENT_TABLES["points"].names[8:]
        empty = {"positive_counts": [], "negative_counts": [], "counts": [], "quantiles": [], "quantile_values": []}
        filled = {**dict.fromkeys(names), **empty, **values}
        stream, resource, cohort = who
        self.tables["points"].append(
            (stream, series, resource, cohort, start, end, self.received_ns, False, *(filled[name] for name in names))
        )

    def window(
        self, device: Device, start: int, end: int, *, sequence: int | None = None, observed_s: float | None = None,
        runs: int = 0, seconds: float = 0.01, slow: int = 0, failed: int = 0, model: str = "digits", version: str = "1",
        starts: int = 0,
    ) -> Batch:  # fmt: skip
        """A device's window: ``runs`` of about ``seconds`` of which ``slow`` take ten times that; some ``failed``."""
        who = self._who(device)
        count = None if sequence is None else 1
        self.tables["windows"].append((who[0], start, end, self.received_ns, sequence, count, None))
        seen = (end - start) / S if observed_s is None else observed_s
        self._point(who, self._series("edge.session.time", "sum", "s", {}), start, end, value_double=seen)
        if starts:
            series = self._series("edge.session.starts", "sum", "{session}", {})
            self._point(who, series, start, end, value_int=starts)
        attributes = {"edge.model.name": model, "edge.model.version": version}
        for n, time, extra in ((runs - slow - failed, seconds, {}), (slow, 10 * seconds, {}),
                               (failed, seconds, {"error.type": "timeout"})):  # fmt: skip
            if n > 0:
                index = int(np.ceil(np.log2(time) * 16)) - 1
                labels = {**attributes, **extra, "edge.inference.phase": "steady" if time == seconds else "first"}
                series = self._series("edge.inference.duration", "exponential_histogram", "s", labels)
                self._point(
                    who, series, start, end, count=n, sum=n * time, scale=4, zero_count=0, zero_threshold=0.0,
                    positive_offset=index, positive_counts=[n], negative_offset=0,
                )  # fmt: skip
        return self

    def session_end(self, device: Device, at_ns: int, *, reason: str = "native_crash", expected: bool = False) -> Batch:
        stream, resource, cohort = self._who(device)
        attributes = canonical({"edge.session.end.reason": reason, "edge.session.end.expected": expected})
        uid = f"{device.name}:{at_ns}:{next(_counter)}"
        self.tables["logs"].append(
            (
                uid,
                stream,
                resource,
                cohort,
                at_ns,
                at_ns,
                self.received_ns,
                "session.end",
                9,
                "INFO",
                "",
                "",
                "",
                attributes,
            )
        )
        return self

    def put(self, store: Any, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.received_ns:020d}-w0-{next(_counter):08d}.seg"
        tables = {}
        for name, schema in SEGMENT_TABLES.items():
            columns = list(zip(*self.tables[name], strict=True)) or [[] for _ in schema.names]
            tables[name] = pa.table(
                [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)], schema=schema
            )
        write_segment(path, tables)
        store.put([path])


def fleet(count: int, *, tiers: tuple[str, ...] = ("cam-v1", "cam-v2")) -> list[Device]:
    return [Device(f"dev-{i:03d}", tiers[i % len(tiers)]) for i in range(count)]


def opened(directory: Path, clock: Clock) -> Any:
    return open_store(directory, clock_ns=clock, threads=2)


def rows_of(table: pa.Table, **where: Any) -> list[dict[str, Any]]:
    """Verdict rows as dicts with parsed detail, filtered by equal columns."""
    found = [row for row in table.to_pylist() if all(row[key] == value for key, value in where.items())]
    return [{**row, "detail": json.loads(row["detail"])} for row in found]

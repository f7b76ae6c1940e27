"""``/metrics`` in Prometheus text: the store's own health and, with few labels, the fleet's latest figures."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from collector.api import shapes
from collector.api.health import backlog_of
from collector.ingest.counters import read_counters
from collector.storage.base import Store
from device_sdk.contract.attributes import TIER

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "fleetpulse_"
_NAME: Final = re.compile(r"[^a-zA-Z0-9_]")
_ESCAPES: Final = {"\\": r"\\", '"': r"\"", "\n": r"\n"}
FLEET_KINDS: Final = ("kpi", "latency", "crash_free", "slo")


class Exposition:
    """Collects families of samples and writes them as text."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str, list[str]]] = {}

    def add(self, name: str, kind: str, meaning: str, value: float | None, /, **labels: str) -> None:
        """Add one sample; ``kind`` is counter or gauge. None (unknown) is left out."""
        if value is None:
            return
        name = PREFIX + _NAME.sub("_", name)
        _, _, samples = self._families.setdefault(name, (kind, meaning, []))
        inside = ",".join(f'{key}="{escaped(text)}"' for key, text in labels.items())
        samples.append(f"{name}{{{inside}}} {written(value)}" if inside else f"{name} {written(value)}")

    def text(self) -> str:
        """Return everything in the text format."""
        lines: list[str] = []
        for name, (kind, meaning, samples) in self._families.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *samples]
        return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return a label value as the format wants it."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def written(value: float) -> str:
    """Return a number as the format writes it."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def router(
    store: Store, data_dir: Path, workers_dir: Path, extra: Callable[[], Mapping[str, Any]], clock_ns: Callable[[], int]
) -> APIRouter:
    """Return ``/metrics``; ``extra`` gives further numbers by name (``*_total`` are counters)."""
    routes = APIRouter(tags=["health"])

    @routes.get("/metrics", response_model=None)
    def metrics() -> Response:
        """Return own health and the fleet's KPIs."""
        out = Exposition()
        _store_metrics(out, store, data_dir, clock_ns())
        _worker_metrics(out, read_counters(workers_dir) if workers_dir.is_dir() else [])
        _job_metrics(out, store)
        _fleet_metrics(out, store)
        for name, value in extra().items():
            if isinstance(value, int | float):
                kind = "counter" if name.endswith("_total") else "gauge"
                out.add(name, kind, "From the store process.", value)
        return PlainTextResponse(out.text(), media_type=MEDIA_TYPE)

    return routes


def _store_metrics(out: Exposition, store: Store, data_dir: Path, now_ns: int) -> None:
    totals = store.query("totals").to_pylist()[0]
    for name, value in totals.items():
        out.add(f"stored_{name}", "gauge", "Rows kept now (points and logs until their retention).", value)
    for row in store.query("ingest_outcomes").to_pylist():
        meaning = "Points and records that were not stored anew, by reason."
        out.add("ingest_refused_total", "counter", meaning, row["n"], reason=row["reason"])
    health = store.health()
    out.add("database_size_bytes", "gauge", "Size of the database and its log.", health.size_bytes)
    out.add("database_schema_version", "gauge", "Schema version.", health.schema_version)
    backlog = backlog_of(data_dir / "segments")
    out.add("segments_waiting", "gauge", "Acknowledged segments not yet in the store.", backlog.segments)
    out.add("segments_waiting_bytes", "gauge", "Their bytes.", backlog.size_bytes)
    out.add("segments_bad", "gauge", "Segments set aside because they cannot be read.", backlog.bad_segments)
    waited = max(now_ns - backlog.oldest_ns, 0) / 1e9 if backlog.oldest_ns else 0.0
    out.add("segments_oldest_age_seconds", "gauge", "How long the oldest of them has waited.", waited)


def _worker_metrics(out: Exposition, workers: Sequence[Mapping[str, Any]]) -> None:
    accepted: defaultdict[str, int] = defaultdict(int)
    rejected: defaultdict[tuple[str, str], int] = defaultdict(int)
    requests: defaultdict[tuple[str, str], int] = defaultdict(int)
    for worker in workers:
        for signal, n in worker.get("accepted", {}).items():
            accepted[signal] += n
        for key, n in worker.get("rejected", {}).items():
            signal, _, reason = key.partition(" ")
            rejected[signal, reason] += n
        for key, n in worker.get("requests", {}).items():
            signal, _, status = key.partition(" ")
            requests[signal, status] += n
    for signal, n in accepted.items():
        out.add("ingest_accepted_total", "counter", "Points or records acknowledged.", n, signal=signal)
    for (signal, reason), n in rejected.items():
        meaning = "Points or records refused by a worker."
        out.add("ingest_rejected_total", "counter", meaning, n, signal=signal, reason=reason)
    for (signal, status), n in requests.items():
        out.add("ingest_requests_total", "counter", "Requests answered.", n, signal=signal, status=status)


def _job_metrics(out: Exposition, store: Store) -> None:
    for row in store.query("job_totals").to_pylist():
        labels = {"job": row["job"], "outcome": row["outcome"]}
        out.add("job_runs_total", "counter", "Runs of jobs.", row["runs"], **labels)
        out.add("job_seconds_total", "counter", "Time spent in jobs.", row["duration_ns"] / 1e9, **labels)
        if row["outcome"] == "ok":
            meaning = "Event time up to which a job has judged."
            out.add("job_until_seconds", "gauge", meaning, row["until_ns"] / 1e9, job=row["job"])


def _fleet_metrics(out: Exposition, store: Store) -> None:
    """Add the latest verdicts of the fleet and of each device class: nothing finer, so that labels stay few."""
    for kind in FLEET_KINDS:
        for row in store.query("verdicts_latest", {"kind": kind}).to_pylist():
            cohort = shapes.parsed(row["cohort"])
            if set(cohort) - {TIER}:
                continue
            labels = {
                "name": row["name"],
                "tier": str(cohort.get(TIER, "")),
                "model": row["model"],
                "version": row["version"],
            }
            latest = "Latest value judged, fleet-wide and by device class."
            out.add(f"fleet_{kind}", "gauge", latest, row["value"], **labels)
            burn = shapes.parsed(row["detail"]).get("burn") if kind == "slo" else None
            for window, rate in burn.items() if isinstance(burn, dict) else ():
                if isinstance(rate, int | float):
                    meaning = "Error budget burn rate, 1 = exactly used up over the SLO's period."
                    out.add("fleet_slo_burn", "gauge", meaning, rate, window=str(window), **labels)

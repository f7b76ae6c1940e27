"""Which indicators the roll-up counts: every SLO, and for inference SLOs every version of every model as well."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from analytics import openslo, targets
from analytics.openslo import Slo
from analytics.options import DAY_NS, HOUR_NS, AnalyticsOptions
from collector.storage.base import DirtyHour, SliSpec, Store

CHUNK_NS: Final = DAY_NS
"""Hours rolled up in one transaction: at most a day."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One indicator that is counted: an SLO as it is written, or narrowed to one version of a model."""

    slo: Slo
    model: str
    version: str

    @property
    def sli(self) -> str:
        """Return the indicator's name in the roll-up: the SLO's, with model and version when narrowed."""
        narrowed = (self.model, self.version) != (self.slo.model, self.slo.version)
        return f"{self.slo.name}|{self.model}|{self.version}" if narrowed else self.slo.name

    @property
    def spec(self) -> SliSpec:
        """Return how the store counts it."""
        return SliSpec(self.sli, self.slo.kind, self.slo.metric, self.slo.threshold, self.model, self.version)


def streams(slos: Iterable[Slo], models: Iterable[tuple[str, str]]) -> tuple[Stream, ...]:
    """Return the SLOs as written, then those of inference narrowed to each known (model, version) they select."""
    found = []
    known = sorted(set(models))
    for slo in slos:
        found.append(Stream(slo, slo.model, slo.version))
        if slo.kind == "crash_free" or slo.version:
            continue
        found.extend(
            Stream(slo, model, version) for model, version in known if model and version and slo.model in ("", model)
        )
    return tuple(found)


_lock: Final = threading.Lock()
_loaded: dict[tuple[object, ...], tuple[Slo, ...]] = {}


def _signature(directory: Path | None) -> tuple[object, ...]:
    if directory is None or not directory.is_dir():
        return ("packaged",)
    entries = sorted((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in directory.glob("*.y*ml"))
    return (str(directory), *entries)


def load_slos(options: AnalyticsOptions) -> tuple[Slo, ...]:
    """Return the SLOs in force, read again when a file changed; raises ``ConfigError``."""
    signature = _signature(options.slo_dir)
    with _lock:
        if signature not in _loaded:
            slos = openslo.load_configured(options.slo_dir)
            _loaded.clear()
            _loaded[signature] = slos
        return _loaded[signature]


def check_config(options: AnalyticsOptions) -> None:
    """Raise ``ConfigError`` when an SLO or target file is not valid."""
    load_slos(options)
    targets.load_targets(options)


def known_models(store: Store) -> dict[tuple[str, str], int]:
    """Return each (model, version) seen with the first hour of its data, ns."""
    table = store.query("models", {})
    return {
        (row["model"], row["version"]): int(row["first_ns"])
        for row in table.select(["model", "version", "first_ns"]).to_pylist()
    }


def current_streams(store: Store, options: AnalyticsOptions) -> tuple[Stream, ...]:
    """Return the indicators of the SLOs in force for the models seen so far."""
    return streams(load_slos(options), known_models(store))


def roll_up(store: Store, options: AnalyticsOptions, horizon_ns: int, gen: int) -> list[int]:
    """Roll up the dirty hours that begin at or before the horizon; return them.

    A version that is first seen in a chunk has no indicator of its own yet: its hours are rolled up once more with it.
    """
    hours = sorted((hour for hour in store.dirty_hours() if hour.hour_ns <= horizon_ns), key=lambda hour: hour.hour_ns)
    slos = load_slos(options)
    models = known_models(store)
    for chunk in _chunks(hours):
        gen += 1
        store.recompute(chunk, [stream.spec for stream in streams(slos, models)], gen)
        after = known_models(store)
        new = {pair: first for pair, first in after.items() if pair not in models}
        models = after
        if new:
            gen += 1
            again = [hour for hour in chunk if hour.hour_ns + HOUR_NS > min(new.values())]
            store.recompute(again or chunk, [stream.spec for stream in streams(slos, models)], gen)
    return [hour.hour_ns for hour in hours]


def _chunks(hours: list[DirtyHour]) -> list[list[DirtyHour]]:
    chunks: dict[int, list[DirtyHour]] = {}
    for hour in hours:
        chunks.setdefault(hour.hour_ns // CHUNK_NS, []).append(hour)
    return list(chunks.values())

"""References: what each device showed, by hour of the day, on pinned bins; and their rows in the store.

A *field* reference comes from a window of the fleet's own data and knows devices: drift is judged against it. A
*golden* reference comes from a data set run through the SDK and knows none: it can show skew, never drift. Pure:
signal rows in, frozen references and Arrow tables out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analytics.bins import PinnedBins, fill, pin
from analytics.sequential import hourly_shift, variance_inflation
from analytics.signals import HOUR_NS, Buckets, SignalRows
from collector.storage.rows import BASELINE_BINS, BASELINE_DEVICES, BASELINES
from device_sdk.contract.attributes import TIER

Reals = NDArray[np.float64]
Chunks = Callable[[], Iterable[tuple[int, int, Iterable[SignalRows]]]]
"""Gives the reference window again and again as (first hour, hours, rows of the model version) in time order."""

FIELD: Final = "field"
GOLDEN: Final = "golden"
DAY_HOURS: Final = 24
DAY_NS: Final = DAY_HOURS * HOUR_NS


@dataclass(frozen=True, slots=True)
class TierScale:
    """Of one tier in the reference: mean and sd of the signal, and the detector's k1 of each score ((): unknown)."""

    center: float
    spread: float
    k1: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SignalReference:
    """One signal's reference. ``counts`` is hour of day x devices x bins; empty along devices when golden."""

    bins: PinnedBins
    devices: tuple[str, ...]
    tiers: tuple[str, ...]
    counts: Reals
    hours: NDArray[np.int64]
    scales: Mapping[str, TierScale]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What a model version is compared with."""

    baseline_id: str
    model: str
    version: str
    source: str
    start_ns: int
    end_ns: int
    provisional: bool
    signals: Mapping[str, SignalReference]

    @property
    def streams(self) -> int:
        """Return the number of signal x tier streams: the detector's multiplicity."""
        return sum(len(signal.scales) for signal in self.signals.values())

    def as_provisional(self) -> Reference:
        """Return the same reference marked provisional: good for a table, too short for alerts."""
        return replace(self, provisional=True)


@dataclass(frozen=True, slots=True)
class StoredBaseline:
    """One row of ``baselines``: an accepted reference and its window [start, end)."""

    baseline_id: str
    model: str
    version: str
    source: str
    start_ns: int
    end_ns: int
    written_ns: int


def baseline_id(model: str, version: str, source: str, start_ns: int, end_ns: int) -> str:
    """Return the deterministic id of a baseline: the same window twice is the same baseline."""
    text = json.dumps([model, version, source, start_ns, end_ns], separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def hour_of_day(hour_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the UTC hour of day (0..23) of hour starts in epoch ns."""
    return np.asarray(hour_ns // HOUR_NS % DAY_HOURS, dtype=np.int64)


@dataclass(slots=True)
class _Found:
    """What the first pass learns of a signal."""

    kind: str
    parts: list[tuple[Buckets, Reals]] = field(default_factory=list)
    tiers: dict[str, str] = field(default_factory=dict)


def build_field(
    chunks: Chunks, *, model: str, version: str, start_ns: int, end_ns: int, provisional: bool = False
) -> Reference:
    """Build the reference of a window [start, end) of field data in two passes: pin the bins, then count on them.

    Memory is hour of day x devices x bins per signal, whatever the window's length. k1 is measured by leaving each day
    out of its own reference and stays unknown for a provisional reference.
    """
    found: dict[str, _Found] = {}
    for _, _, rows_of_chunk in chunks():
        for rows in rows_of_chunk:
            signal = found.setdefault(rows.signal, _Found(rows.kind))
            signal.parts.append((rows.buckets, rows.mass))
            signal.tiers.update(latest_tiers(rows))
    counters = {
        name: _Counter(pin(name, one.kind, one.parts), one.tiers, start_ns, end_ns) for name, one in found.items()
    }
    for first_ns, hours, rows_of_chunk in chunks():
        for rows in rows_of_chunk:
            counters[rows.signal].add(rows, first_ns, hours)
    return Reference(
        baseline_id=baseline_id(model, version, FIELD, start_ns, end_ns),
        model=model,
        version=version,
        source=FIELD,
        start_ns=start_ns,
        end_ns=end_ns,
        provisional=provisional,
        signals={name: counter.reference(provisional) for name, counter in sorted(counters.items())},
    )


def latest_tiers(rows: SignalRows) -> dict[str, str]:
    """Return the tier of each device in its newest hour."""
    order = np.argsort(rows.hours_ns, kind="stable")
    last = dict(zip(rows.device[order].tolist(), rows.tier[order].tolist(), strict=True))
    return {rows.device_names[device]: rows.tier_names[tier] for device, tier in last.items()}


class _Counter:
    """Second pass of one signal: counts by hour of day, and hourly scores for k1."""

    def __init__(self, bins: PinnedBins, tiers: Mapping[str, str], start_ns: int, end_ns: int) -> None:
        self.bins = bins
        self.devices = tuple(sorted(tiers))
        self.tiers = tuple(tiers[device] for device in self.devices)
        self._index = {device: i for i, device in enumerate(self.devices)}
        self._start_ns = start_ns
        total_hours = max((end_ns - start_ns) // HOUR_NS, 1)
        self._scores = bins.standard_scores(1.0)
        shape = (total_hours, len(self.devices))
        self._counts = np.zeros((DAY_HOURS, len(self.devices), bins.size))
        self._hours = np.zeros((DAY_HOURS, len(self.devices)), dtype=np.int64)
        self._hourly_n = np.zeros(shape)
        self._hourly_score = np.zeros((self._scores.shape[0], *shape))

    def add(self, rows: SignalRows, first_ns: int, hours: int) -> None:
        counts = fill(rows, self.bins, self._index, first_ns, hours, HOUR_NS)
        at = (first_ns - self._start_ns) // HOUR_NS
        hod = hour_of_day(first_ns + np.arange(hours, dtype=np.int64) * HOUR_NS)
        n = counts.sum(axis=2)
        np.add.at(self._counts, hod, counts)
        np.add.at(self._hours, hod, (n > 0).astype(np.int64))
        self._hourly_n[at : at + hours] += n
        self._hourly_score[:, at : at + hours] += np.moveaxis(counts @ self._scores.T, 2, 0)

    def reference(self, provisional: bool) -> SignalReference:
        tiers = np.array(self.tiers)
        scales = {}
        for tier in sorted(set(self.tiers)):
            mine = np.flatnonzero(tiers == tier)
            center, spread = self.bins.tier_scale(self._counts[:, mine].sum(axis=(0, 1)))
            k1 = () if provisional else self._k1(mine, spread)
            scales[tier] = TierScale(center, spread, k1)
        return SignalReference(self.bins, self.devices, self.tiers, self._counts, self._hours, scales)

    def _k1(self, devices: NDArray[np.int64], spread: float) -> tuple[float, ...]:
        """Return k1 from the z of each reference hour against the other days of its hour of day."""
        n = self._hourly_n[:, devices]
        score = self._hourly_score[:, :, devices]
        hod = hour_of_day(self._start_ns + np.arange(n.shape[0], dtype=np.int64) * HOUR_NS)
        n_sum = np.zeros((DAY_HOURS, devices.size))
        np.add.at(n_sum, hod, n)
        score_by_hod = np.zeros((DAY_HOURS, score.shape[0], devices.size))
        np.add.at(score_by_hod, hod, np.moveaxis(score, 1, 0))
        score_sum = np.moveaxis(score_by_hod, 0, 1)
        others_n = n_sum[hod] - n
        unit = 1.0 if self.bins.kind == "categorical" else spread
        mean0 = (score_sum[:, hod] - score) / np.maximum(others_n, 1.0) / unit
        mean1 = score / np.maximum(n, 1.0) / unit
        inflation = variance_inflation(hourly_shift(mean0, mean1, others_n, n))
        return tuple(inflation.tolist())


def to_tables(reference: Reference, detail: Mapping[str, Any], written_ns: int) -> dict[str, pa.Table]:
    """Return the rows of a reference for ``baselines``, ``baseline_devices`` and ``baseline_bins``."""
    head = pa.table(
        {
            "baseline_id": [reference.baseline_id],
            "model": [reference.model],
            "version": [reference.version],
            "source": [reference.source],
            "window_start_ns": [reference.start_ns],
            "window_end_ns": [reference.end_ns],
            "detail": [json.dumps(dict(detail), sort_keys=True)],
            "written_ns": [written_ns],
        },
        schema=BASELINES,
    )
    bins = [_bins_row(reference.baseline_id, signal) for signal in reference.signals.values()]
    devices = [_device_rows(reference.baseline_id, name, signal) for name, signal in reference.signals.items()]
    return {
        "baseline_bins": pa.Table.from_pylist(bins, schema=BASELINE_BINS),
        "baseline_devices": pa.concat_tables([BASELINE_DEVICES.empty_table(), *devices]),
        "baselines": head,
    }


def _bins_row(identity: str, signal: SignalReference) -> dict[str, Any]:
    bins = signal.bins
    detail = {
        "scores": bins.scores.tolist(),
        "variances": bins.variances.tolist(),
        "resolved": bins.resolved,
        "tiers": {
            tier: {"center": scale.center, "spread": scale.spread, "k1": list(scale.k1)}
            for tier, scale in signal.scales.items()
        },
    }
    return {
        "baseline_id": identity,
        "signal": bins.signal,
        "kind": bins.kind,
        "edges": bins.edges.tolist(),
        "labels": list(bins.labels),
        "counts": np.rint(bins.counts).astype(np.int64).tolist(),
        "center": bins.center,
        "spread": bins.spread,
        "detail": json.dumps(detail, sort_keys=True),
    }


def _device_rows(identity: str, name: str, signal: SignalReference) -> pa.Table:
    counts = np.rint(signal.counts).astype(np.int64)
    n = counts.sum(axis=2)
    hod, device = np.nonzero(n > 0)
    chosen = counts[hod, device]
    mean = chosen @ signal.bins.scores / n[hod, device]
    offsets = np.arange(chosen.shape[0] + 1, dtype=np.int32) * signal.bins.size
    cohorts = [json.dumps({TIER: tier} if tier else {}, separators=(",", ":")) for tier in signal.tiers]
    return pa.table(
        {
            "baseline_id": [identity] * hod.size,
            "device_id": [signal.devices[d] for d in device],
            "cohort": [cohorts[d] for d in device],
            "signal": [name] * hod.size,
            "hour_of_day": hod.astype(np.int16),
            "hours": signal.hours[hod, device],
            "n": n[hod, device],
            "mean": mean,
            "counts": pa.ListArray.from_arrays(pa.array(offsets), pa.array(chosen.ravel())),
        },
        schema=BASELINE_DEVICES,
    )


def from_tables(head: StoredBaseline, bins: pa.Table, devices: pa.Table) -> Reference:
    """Return the reference of a ``baselines`` row and its rows; rows written twice count once."""
    signals = {}
    encoded = devices.column("signal").combine_chunks().dictionary_encode()
    names = {name: code for code, name in enumerate(encoded.dictionary.to_pylist())}
    codes = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
    for row in bins.to_pylist():
        mine = np.flatnonzero(codes == names.get(row["signal"], -1))
        signals[row["signal"]] = _signal_from_rows(row, devices.take(pa.array(mine, pa.int64())))
    return Reference(
        baseline_id=head.baseline_id,
        model=head.model,
        version=head.version,
        source=head.source,
        start_ns=head.start_ns,
        end_ns=head.end_ns,
        provisional=False,
        signals=dict(sorted(signals.items())),
    )


def _signal_from_rows(row: Mapping[str, Any], devices: pa.Table) -> SignalReference:
    detail = json.loads(row["detail"])
    bins = PinnedBins(
        signal=row["signal"],
        kind=row["kind"],
        edges=np.array(row["edges"], dtype=np.float64),
        labels=tuple(row["labels"]),
        counts=np.array(row["counts"], dtype=np.float64),
        scores=np.array(detail["scores"], dtype=np.float64),
        variances=np.array(detail["variances"], dtype=np.float64),
        center=row["center"],
        spread=row["spread"],
        resolved=bool(detail["resolved"]),
    )
    names, code = np.unique(np.array(devices.column("device_id").to_pylist(), dtype=np.str_), return_inverse=True)
    code = code.ravel()
    cohorts = np.full(names.size, "{}", dtype=object)
    cohorts[code] = devices.column("cohort").to_pylist()
    hod = np.asarray(devices.column("hour_of_day").to_numpy(), dtype=np.int64)
    counts = np.zeros((DAY_HOURS, names.size, bins.size))
    hours = np.zeros((DAY_HOURS, names.size), dtype=np.int64)
    flat = devices.column("counts").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    counts[hod, code] = np.asarray(flat, dtype=np.float64).reshape(-1, bins.size)
    hours[hod, code] = np.asarray(devices.column("hours").to_numpy(), dtype=np.int64)
    scales = {
        tier: TierScale(scale["center"], scale["spread"], tuple(scale["k1"])) for tier, scale in detail["tiers"].items()
    }
    tiers = {text: str(json.loads(text).get(TIER, "")) for text in set(cohorts.tolist())}
    return SignalReference(bins, tuple(names.tolist()), tuple(tiers[text] for text in cohorts), counts, hours, scales)


def build_golden(rows: Iterable[SignalRows], *, model: str, version: str, start_ns: int, end_ns: int) -> Reference:
    """Build the reference of a golden data set run through the SDK: pinned bins and their counts, no devices."""
    found: dict[str, _Found] = {}
    for one in rows:
        found.setdefault(one.signal, _Found(one.kind)).parts.append((one.buckets, one.mass))
    signals = {}
    for name, signal in sorted(found.items()):
        bins = pin(name, signal.kind, signal.parts)
        none = np.zeros((DAY_HOURS, 0), dtype=np.int64)
        signals[name] = SignalReference(bins, (), (), np.zeros((DAY_HOURS, 0, bins.size)), none, {})
    identity = baseline_id(model, version, GOLDEN, start_ns, end_ns)
    return Reference(identity, model, version, GOLDEN, start_ns, end_ns, False, signals)

"""A bench in words, for a person at a terminal, and as data, for a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from device_sdk.lab.compare import Change
from device_sdk.lab.record import Bench, to_json
from device_sdk.selftest import SelftestResult


def report(made: Bench, changes: Sequence[Change], then: Bench | None, tested: SelftestResult | None) -> Iterator[str]:
    """Yield the lines of a report, at most 100 columns."""
    measured = made.measured
    yield f"{made.model} {made.version} on {made.runtime} {made.runtime_version}, {made.provider}"
    yield f"  load         {_time(made.load_s)}, first run {_time(measured.first_s)}"
    quantiles = "  ".join(f"{name} {_time(value)}" for name, value in measured.quantiles.items())
    yield f"  latency      {quantiles}  ({measured.calls} runs in {measured.seconds:.1f} s)"
    yield f"  CPU          {_time(measured.cpu_s)} a run"
    if measured.memory_bytes is not None:
        yield f"  memory       {_bytes(measured.memory_bytes)} resident, peak {_bytes(measured.memory_peak_bytes or 0)}"
    yield f"  energy       {_energy(made)}"
    heat = "no sensor" if measured.temperature is None else f"{measured.temperature:.0f} Celsius at most"
    slowed = ", ".join(f"{cause} {seconds:.1f} s" for cause, seconds in measured.throttled_s.items())
    yield f"  heat         {heat}; " + (f"THROTTLED: {slowed}" if slowed else "no throttling seen")
    if tested is not None:
        yield from (f"  {line}" for line in str(tested).splitlines())
    if then is not None:
        yield from _changes(made, changes, then)


def as_json(made: Bench, changes: Sequence[Change], *, failed: bool, sent: bool | None) -> dict[str, Any]:
    """Return the same as data."""
    compared = [
        {"name": c.name, "now": c.now, "then": c.then, "ratio": c.ratio, "low": c.low, "high": c.high, "worse": c.worse}
        for c in changes
    ]
    return {**to_json(made), "compared": compared, "failed": failed, "sent": sent}


def _changes(made: Bench, changes: Sequence[Change], then: Bench) -> Iterator[str]:
    yield f"  against the baseline{'' if then.version == made.version else f' of version {then.version}'}:"
    for change in changes:
        shown = _bytes if change.name == "memory peak" else _joules if change.name == "energy" else _time
        between = f" (95 %: {change.low:.2f} to {change.high:.2f})" if change.low and change.high else ""
        word = "REGRESSION" if change.worse else "ok"
        times = f"x{change.ratio:.2f}{between}"
        yield f"    {change.name:12} {shown(change.then)} -> {shown(change.now)}  {times}  {word}"
    if then.hardware != made.hardware or then.runtime_version != made.runtime_version:
        yield "    note: the baseline is of other hardware or another runtime version"


def _energy(made: Bench) -> str:
    measured = made.measured
    if measured.energy_j is None:
        return "no readable power meter, or it saw no rest before the runs"
    return f"{_joules(measured.energy_j)} a run, +- {_joules(measured.energy_error_j or 0)} ({measured.energy_source})"


def _time(seconds: float) -> str:
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def _bytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB"


def _joules(value: float) -> str:
    return f"{value * 1e3:.3g} mJ" if abs(value) < 1 else f"{value:.3g} J"

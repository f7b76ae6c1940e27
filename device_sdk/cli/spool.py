"""``spool``: say what waits on disk, check it, repair it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from device_sdk.errors import DeviceSdkError
from device_sdk.spool import METRICS, Priority, scan

Say = Callable[[str], None]
_SUFFIXES = (".seg", ".out", ".open")


def spool(state_dir: Path, say: Say) -> int:
    """Say what waits on disk; reads only, so it may run beside a Monitor."""
    directory = state_dir / "spool"
    paths = sorted(path for path in directory.glob("*") if path.suffix in _SUFFIXES)
    bad = sorted((directory / "bad").glob("*.bad"))
    windows = events = size = damaged = mergers = 0
    classes: Counter[str] = Counter()
    for path in paths:
        try:
            found = scan(path.read_bytes(), finished=path.suffix != ".open")
            size += path.stat().st_size
        except (OSError, DeviceSdkError) as error:
            say(f"{path}: {error}")
            damaged += 1
            continue
        for record in found.records:
            windows += record.facts.windows
            mergers += record.facts.windows > 1
            events += record.facts.kind != METRICS
            classes[Priority(record.facts.priority).name.lower()] += 1
        damaged += found.damaged
    say(f"{directory}: {len(paths)} files, {size} bytes, {windows} windows and {events} events wait")
    if classes:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(classes.items()))
        offered = sum(path.suffix != ".seg" for path in paths)
        say(f"requests by class: {counts}; {mergers} hold merged windows; {offered} files may have been offered")
    if damaged or bad:
        say(f"{damaged} damaged records, {len(bad)} files set aside in {directory / 'bad'}")
    return 1 if damaged or bad else 0

"""``spool``: say what waits on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from device_sdk.errors import DeviceSdkError
from device_sdk.spool import METRICS, scan_segment

Say = Callable[[str], None]


def spool(state_dir: Path, say: Say) -> int:
    """Say what waits on disk; reads only, so it may run beside a Monitor."""
    directory = state_dir / "spool"
    paths = sorted(directory.glob("*.seg")) + sorted(directory.glob("*.open"))
    bad = sorted((directory / "bad").glob("*.bad"))
    windows = events = size = damaged = 0
    for path in paths:
        try:
            found, broken = scan_segment(path)
            size += path.stat().st_size
        except (OSError, DeviceSdkError) as error:
            say(f"{path}: {error}")
            damaged += 1
            continue
        windows += sum(kind == METRICS for kind, _, _ in found)
        events += sum(kind != METRICS for kind, _, _ in found)
        damaged += broken
    say(f"{directory}: {len(paths)} files, {size} bytes, {windows} windows and {events} events wait")
    if damaged or bad:
        say(f"{damaged} damaged records, {len(bad)} files set aside in {directory / 'bad'}")
    return 1 if damaged or bad else 0

"""Instruments of the session and of the SDK's own work: windows, clock, spool, losses, budget, privacy."""

from __future__ import annotations

from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract.instrument import Instrument, Kind

SESSION_TIME: Final = Instrument(
    "edge.session.time", Kind.COUNTER, "s", (),
    "Observed seconds alive, sent in empty windows too: heartbeat and denominator of crash-free time.", 1,
)  # fmt: skip
SESSION_STARTS: Final = Instrument(
    "edge.session.starts", Kind.COUNTER, "{session}", (), "Sessions started.", 1,
)  # fmt: skip
SESSION_ENDS: Final = Instrument(
    "edge.session.ends", Kind.COUNTER, "{session}", (a.SESSION_END_REASON, a.SESSION_END_EXPECTED),
    "Sessions ended, as found out by the sender; the true time of an end is on its event.", 12,
)  # fmt: skip
WINDOW_SEQUENCE: Final = Instrument(
    "edge.window.sequence", Kind.GAUGE, "{window}", (), "Number of the last base window inside, from 0 per stream.", 1,
)  # fmt: skip
WINDOW_COUNT: Final = Instrument(
    "edge.window.count", Kind.COUNTER, "{window}", (),
    "Base windows inside: the interval [sequence - count + 1, sequence] proves gaps.", 1,
)  # fmt: skip
WINDOW_POINTS: Final = Instrument(
    "edge.window.points", Kind.COUNTER, "{data_point}", (),
    "Data points of this window, this one included: a window with all of them is sealed.", 1,
)  # fmt: skip
CLOCK_OFFSET: Final = Instrument(
    "edge.clock.offset", Kind.GAUGE, "s", (a.CLOCK_SOURCE,),
    "Wall clock minus stream clock at sending, in the envelope of each attempt.", 1,
)  # fmt: skip
SPOOL_USAGE: Final = Instrument(
    "edge.spool.usage", Kind.UP_DOWN, "By", (a.SPOOL_MEDIUM,), "Bytes waiting to be sent.", 2,
)  # fmt: skip
SPOOL_LIMIT: Final = Instrument(
    "edge.spool.limit", Kind.UP_DOWN, "By", (a.SPOOL_MEDIUM,), "Bytes that may wait.", 2,
)  # fmt: skip
SPOOL_AGE: Final = Instrument(
    "edge.spool.age", Kind.GAUGE, "s", (), "Age of the oldest request that waits, in time the device was up.", 1,
)  # fmt: skip
SPOOL_WRITTEN: Final = Instrument(
    "edge.spool.written", Kind.COUNTER, "By", (), "Bytes written to the disk: flash wears.", 1,
)  # fmt: skip
SPOOL_MERGES: Final = Instrument(
    "edge.spool.merges", Kind.COUNTER, "{window}", (),
    "Windows that became part of a neighbour to save room: time coarsens, counts do not change.", 1,
)  # fmt: skip
SPOOL_CORRUPT: Final = Instrument(
    "edge.spool.corrupt_segments", Kind.COUNTER, "{segment}", (), "Damaged spool files that were set aside.", 1,
)  # fmt: skip
LOSS_WINDOWS: Final = Instrument(
    "edge.loss.windows", Kind.COUNTER, "{window}", (a.LOSS_REASON,), "Windows that will never arrive.", 8,
)  # fmt: skip
LOSS_EVENTS: Final = Instrument(
    "edge.loss.events", Kind.COUNTER, "{event}", (a.LOSS_REASON,), "Events that will never arrive.", 8,
)  # fmt: skip
LOSS_MEASUREMENTS: Final = Instrument(
    "edge.loss.measurements", Kind.COUNTER, "{measurement}", (a.LOSS_REASON,),
    "Tensor measurements that were not folded; runs and latency are never among them.", 8,
)  # fmt: skip
LOSS_RUNS: Final = Instrument(
    "edge.loss.runs", Kind.COUNTER, "{run}", (a.LOSS_REASON,),
    "Runs that a dead process had finished and that will never arrive: of its open window and of windows in memory.", 8,
)  # fmt: skip
EXPORT_SIZE: Final = Instrument(
    "edge.export.size", Kind.COUNTER, "By", (a.EXPORT_KIND, a.ERROR_TYPE), "Bytes the SDK put on the network.", 12,
)  # fmt: skip
SDK_TIME: Final = Instrument(
    "edge.sdk.time", Kind.COUNTER, "s", (a.SDK_ACTIVITY,), "CPU time of the SDK itself, by activity.", 3,
)  # fmt: skip
SDK_DEGRADED_TIME: Final = Instrument(
    "edge.sdk.degraded.time", Kind.COUNTER, "s", (a.SDK_LEVEL,),
    "Seconds at a level of reduced tensor sampling, because the SDK went over its budget.", 4,
)  # fmt: skip
PRIVACY_HELD: Final = Instrument(
    "edge.privacy.held", Kind.GAUGE, "{measurement}", (),
    "Measurements below the minimum count, carried on to a later window.", 1,
)  # fmt: skip
PRIVACY_EPSILON_SPENT: Final = Instrument(
    "edge.privacy.epsilon_spent", Kind.COUNTER, "1", (), "Privacy loss spent by randomised points.", 1,
)  # fmt: skip
PRIVACY_REFUSED: Final = Instrument(
    "edge.privacy.refused", Kind.COUNTER, "{measurement}", (a.PRIVACY_REASON,),
    "What was kept on the device: attributes, points and events outside the contract, and observations over the clip.",
    5,
)  # fmt: skip

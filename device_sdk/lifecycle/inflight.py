"""The in-flight mark: what the process is inferring at this moment, in memory that the kernel keeps when it dies.

A file of the state directory, mapped: a store into it is in the page cache at once and survives any death of the
process, SIGKILL included. It costs no system call. A power cut leaves what the kernel had written back by then, which
may be half a minute old. Every session makes a new file, so that the mapping of an earlier one is never cut short.

Layout, 64-bit cells: a header, then a place for each session or callable: eight lanes (runs begun, runs ended) and the
names of what runs there.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import sys
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Final

from device_sdk.contract.events import InflightPhase
from device_sdk.errors import log_rationed
from device_sdk.locks import SafeLock
from device_sdk.reading_files import read_regular
from device_sdk.signals.lane import Lane

FILE_NAME: Final = "inflight"
PLACES_MAX: Final = 63
"""Most sessions and callables of one process that are told apart; what comes later is measured, but not marked."""
UNREADABLE: Final = -1
_HEADER_CELLS: Final = 64
_PLACE_CELLS: Final = 64
_LANE_PAIRS: Final = 8
_FILE_BYTES: Final = 8 * (_HEADER_CELLS + _PLACE_CELLS * PLACES_MAX)
_MAGIC: Final = int.from_bytes(b"FPFLY\x00\x00\x01", sys.byteorder, signed=True)
_NAMES_BYTES: Final = 8 * (_PLACE_CELLS - 2 * _LANE_PAIRS)
_NAME_BYTES: Final = (_NAMES_BYTES - 1) // 4 - 1
_LOAD: Final = 1
"""The last byte of a place where a model is loaded and not run: nothing there counts as a run."""


class Cell(IntEnum):
    """What the cells of the header say."""

    MAGIC = 0
    INSTANCE = 1  # and 2: the stream's id
    RELEASED = 3  # runs ended on lanes that were given back
    FOLDED = 4  # runs in closed windows
    SAFE = 5  # of these, runs in windows that a death cannot take
    PULSE_NS = 6  # last sign of life, stream clock
    RESIDENT_BYTES = 7
    LIMIT_BYTES = 8  # memory the process may use
    GROUP_KILLS = 9  # out-of-memory kills in its cgroup, and on the machine
    MACHINE_KILLS = 10
    FAULT_BYTES = 11  # length of the file of fatal signals at the last sign of life
    RAISED = 12  # 1 + the lane whose run raised the exception that ended the program


@dataclass(frozen=True, slots=True)
class Running:
    """What was being inferred: names, phase, and how many such runs at once."""

    model: str
    version: str
    runtime: str
    provider: str
    phase: InflightPhase
    runs: int


@dataclass(frozen=True, slots=True)
class Flight:
    """An in-flight mark as it was read."""

    instance_id: str
    cells: tuple[int, ...]
    ended: int
    running: tuple[Running, ...]
    raised: Running | None

    def __getitem__(self, cell: Cell) -> int:
        return self.cells[cell]


class InflightMark:
    """The mark of the session that runs; without a directory, or where it cannot be mapped, in private memory."""

    def __init__(self, directory: Path | None, instance_id: str, *, resident: bool = True) -> None:
        self._map = _mapped(directory / FILE_NAME) if directory is not None else None
        self._buffer: mmap.mmap | bytearray = self._map if self._map is not None else bytearray(_FILE_BYTES)
        if self._map is not None and resident:
            _keep_resident(self._map)
        self._bytes = memoryview(self._buffer)
        self.cells: memoryview = self._bytes.cast("q")
        self._places: list[list[Lane] | None] = [None] * PLACES_MAX
        self._failed_load: list[Lane] = []
        self._lock = SafeLock()
        self.rename(instance_id)
        self.cells[Cell.MAGIC] = _MAGIC
        self.cells[Cell.GROUP_KILLS] = self.cells[Cell.MACHINE_KILLS] = UNREADABLE

    def rename(self, instance_id: str) -> None:
        """Say which stream the mark belongs to."""
        self._bytes[8:24] = uuid.UUID(instance_id).bytes

    @property
    def mapped(self) -> bool:
        """Whether the mark outlives the process."""
        return self._map is not None

    def opener(
        self, *, model: str, version: str, runtime: str, provider: str, load: bool = False
    ) -> Callable[[], Lane]:
        """Return what opens the lanes of one session or callable: one for each of its ways to run."""
        names = b"\0".join(name.encode()[:_NAME_BYTES] for name in (model, version, runtime, provider))
        place: list[Lane] = []
        with self._lock:
            number = next((at for at, taken in enumerate(self._places) if taken is None), None)
            if number is not None:
                self._places[number] = place
                start = 8 * (_place_at(number) + _LANE_PAIRS * 2)
                self._bytes[start : 8 * _place_at(number + 1)] = names.ljust(_NAMES_BYTES, b"\0")
                self._bytes[8 * _place_at(number + 1) - 1] = _LOAD * load
        if number is None:
            log_rationed(logging.WARNING, "more than %d sessions at once: a crash in %r is not told", PLACES_MAX, model)

        def open_lane() -> Lane:
            with self._lock:
                if number is None or self._places[number] is not place or len(place) == _LANE_PAIRS:
                    return Lane()
                at = _place_at(number) + 2 * len(place)
                lane = Lane(self.cells[at : at + 2])
                place.append(lane)
                return lane

        return open_lane

    def release(self, lanes: Iterable[Lane]) -> None:
        """Take back the lanes of a session that nobody runs any more; its runs stay counted."""
        gone = {id(lane) for lane in lanes}
        with self._lock:
            for number, place in enumerate(self._places):
                if place is not None and any(id(lane) in gone for lane in place):
                    load = self._bytes[8 * _place_at(number + 1) - 1] == _LOAD
                    for lane in place:
                        self.cells[Cell.RELEASED] += 0 if load else lane.cells[1]
                        lane.cells[0] = lane.cells[1] = 0
                        lane.detach()
                    self._places[number] = None

    def loading(self, *, model: str, version: str, runtime: str, provider: str) -> Loading:
        """Mark a model as being loaded for as long as the returned block lasts."""
        return Loading(self, self.opener(model=model, version=version, runtime=runtime, provider=provider, load=True)())

    def load_failed(self, lane: Lane) -> None:
        """Keep the place of a failed load until the next one fails: it may be what ends the program."""
        failed, self._failed_load = self._failed_load, [lane]
        self.release(failed)

    def note_raised(self, error_id: int, trace_ids: set[int]) -> None:
        """Note the lane whose run raised the exception of this id, if one did, by a part of its traceback."""
        for number, place in enumerate(self._places):
            if any(lane.last_raised[0] == error_id and lane.last_raised[1] in trace_ids for lane in place or ()):
                self.cells[Cell.RAISED] = 1 + number

    def read(self) -> Flight | None:
        """Return what the mark says now."""
        return read_flight(bytes(self._buffer))

    def detach(self) -> None:
        """Leave the mark as it is: whoever still runs counts in private memory (end of session, forked child)."""
        for place in self._places:
            for lane in place or ():
                lane.detach()
        self._places = [None] * PLACES_MAX
        self._buffer = bytearray(_FILE_BYTES)
        self._bytes = memoryview(self._buffer)
        self.cells = self._bytes.cast("q")
        self._map = None  # unmapped when the last view of it is gone
        self._lock = SafeLock()


class Loading:
    """A block in which a model is loaded."""

    def __init__(self, mark: InflightMark, lane: Lane) -> None:
        self._mark = mark
        self._lane = lane

    def __enter__(self) -> None:
        self._lane.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lane.leave(error)
        if error is None:
            self._mark.release([self._lane])
        else:
            self._mark.load_failed(self._lane)


def read_flight(data: bytes) -> Flight | None:
    """Return what an in-flight mark says, None when it is not one."""
    if len(data) != _FILE_BYTES:
        return None
    cells = memoryview(data).cast("q")
    if cells[Cell.MAGIC] != _MAGIC:
        return None
    ended, running = cells[Cell.RELEASED], []
    raised = None
    for number in range(PLACES_MAX):
        at = _place_at(number)
        pairs = cells[at : at + 2 * _LANE_PAIRS]
        begun, done = sum(pairs[0::2]), sum(pairs[1::2])
        if begun <= 0 or done < 0:
            continue
        load = data[8 * _place_at(number + 1) - 1] == _LOAD
        ended += 0 if load else done
        names = data[8 * (at + 2 * _LANE_PAIRS) : 8 * _place_at(number + 1)].split(b"\0")
        if len(names) < 4:
            continue
        model, version, runtime, provider = (name.decode(errors="ignore") for name in names[:4])
        first = done == 0 or (done == 1 and cells[Cell.RAISED] == 1 + number)
        phase = InflightPhase.LOAD if load else InflightPhase.FIRST if first else InflightPhase.STEADY
        here = Running(model, version, runtime, provider, phase, begun - done)
        if here.runs > 0:
            running.append(here)
        if cells[Cell.RAISED] == 1 + number:
            raised = here
    header = tuple(cells[:_HEADER_CELLS])
    return Flight(str(uuid.UUID(bytes=data[8:24])), header, ended, tuple(running), raised)


def read_flight_of(directory: Path | None) -> Flight | None:
    """Return the mark that the session before this one left in ``directory``."""
    if directory is None:
        return None
    try:
        return read_flight(read_regular(directory / FILE_NAME, _FILE_BYTES))
    except OSError:
        return None


def _place_at(number: int) -> int:
    return _HEADER_CELLS + _PLACE_CELLS * number


def _mapped(path: Path) -> mmap.mmap | None:
    """Make a new file and map it; None where that is not possible.

    Real zeros are written first: a store into a hole of a full disk would be a SIGBUS in the host's thread.
    """
    fresh = path.with_suffix(".tmp")
    try:
        fresh.unlink(missing_ok=True)
        fresh.write_bytes(bytes(_FILE_BYTES))
        fresh.chmod(0o600)
        fresh.replace(path)
        with path.open("r+b") as file:
            return mmap.mmap(file.fileno(), _FILE_BYTES)
    except (OSError, ValueError) as error:
        log_rationed(logging.WARNING, "%s: %s; a crash will not say which model was running", path, error)
        return None


def _keep_resident(mapped: mmap.mmap) -> None:
    """Lock the pages into memory if allowed: a page that must be read back from a dying disk would be a SIGBUS."""
    if sys.platform != "linux":
        return
    try:
        where = ctypes.c_char.from_buffer(mapped)
        ctypes.CDLL(None, use_errno=True).mlock(ctypes.c_void_p(ctypes.addressof(where)), ctypes.c_size_t(_FILE_BYTES))
        del where
    except (OSError, AttributeError, ValueError):
        return

"""Two counters of one caller of a model: runs begun and runs ended, kept where they outlive the process if they can.

``cells[0]`` counts runs begun, ``cells[1]`` runs ended: one plain store each on the hot path. Their difference is what
is in flight, so that runs on several threads never hide one another.
"""

from __future__ import annotations

from collections.abc import Callable


class Lane:
    """Counters of one writer; in memory of its own unless it was given a place in the in-flight mark."""

    __slots__ = ("cells", "last_raised", "moved")

    def __init__(self, cells: memoryview | None = None) -> None:
        self.cells: memoryview = cells if cells is not None else _private()
        self.last_raised: tuple[int, int] = (0, 0)
        self.moved: Callable[[], None] | None = None

    def enter(self) -> None:
        """Note that a run begins."""
        self.cells[0] += 1

    def leave(self, error: BaseException | None = None) -> None:
        """Note that a run ended; of one that raised remember which exception it was, without holding on to it."""
        self.cells[1] += 1
        if error is not None:
            self.raised(error)

    def give_up(self) -> None:
        """Note that what was under way will never be seen to end."""
        self.cells[0] = self.cells[1]

    def raised(self, error: BaseException) -> None:
        """Remember the exception a run raised: should it end the program, the run was at fault."""
        self.last_raised = (id(error), id(error.__traceback__))

    def detach(self) -> None:
        """Count in private memory from here on; whoever keeps ``cells`` at hand is told by ``moved``."""
        self.cells = _private()
        if self.moved is not None:
            self.moved()


def _private() -> memoryview:
    return memoryview(bytearray(16)).cast("q")

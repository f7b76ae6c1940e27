"""Use and memory of accelerators whose drivers tell it in files: AMD, Intel, Jetson, Qualcomm, Rockchip."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.host.names import distinct
from device_sdk.host.reader import EVERY_ROUND, Board
from device_sdk.host.tree import Tree, integer_of
from device_sdk.points import Points

ACCELERATORS_MAX: Final = 4
_KIND: Final = re.compile(r"(gpu|npu|tpu|vpu|dla|dsp)(?![a-z])")
_FILES: Final = (
    ("sys/class/drm/card*/device/gpu_busy_percent", 100),
    ("sys/class/kgsl/kgsl-3d*/gpu_busy_percentage", 100),
    ("sys/devices/gpu.*/load", 1000),
    ("sys/devices/platform/*.gpu/load", 1000),
    ("sys/devices/platform/bus@0/*.gpu/load", 1000),
    ("sys/class/devfreq/*/load", 100),
)
"""Files that hold a share of the time an accelerator was busy, and what stands for all of it."""

Probe = Callable[[int | None], float | None]


class AcceleratorReader:
    """Reads at most 4 accelerators; what is told of use is the mean over a window's samples."""

    every_ns = EVERY_ROUND

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._use: dict[str, Probe] = {}
        self._memory: dict[str, str] = {}
        self._seen: dict[str, list[float]] = {}
        self._used: dict[str, int | None] = {}
        for pattern, whole in _FILES:
            for path in tree.find(pattern):
                self._found(path, _share_probe(tree, path, whole))
        for path in tree.find("sys/class/accel/accel*/device/npu_busy_time_us"):
            self._found(path, _busy_time_probe(tree, path))

    def _found(self, path: str, probe: Probe) -> None:
        kind = _KIND.search(path)
        if kind is None or not self._tree.readable(path) or len(self._use) >= ACCELERATORS_MAX:
            return
        name = distinct(kind.group(1), self._use)
        self._use[name] = probe
        for used in ("mem_info_vram_used", "npu_memory_utilization"):
            beside = f"{path.rpartition('/')[0]}/{used}"
            if self._tree.readable(beside):
                self._memory[name] = beside

    def sample(self, now_ns: int, elapsed_ns: int | None, board: Board) -> None:  # noqa: ARG002
        """Read every accelerator; one that sleeps says nothing."""
        for name, probe in self._use.items():
            use = probe(elapsed_ns)
            if use is not None and 0 <= use <= 1:
                self._seen.setdefault(name, []).append(use)
        self._used = {name: self._tree.integer(path) for name, path in self._memory.items()}

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        for name, seen in self._seen.items():
            if seen:
                points.add(m.GPU_UTILIZATION.name, sum(seen) / len(seen), ((a.HW_ID, name),))
                seen.clear()
        for name, used in self._used.items():
            if used is not None and used >= 0:
                points.add(m.GPU_MEMORY.name, used, ((a.HW_ID, name),))


def _share_probe(tree: Tree, path: str, whole: int) -> Probe:
    def probe(_elapsed_ns: int | None) -> float | None:
        text = tree.text(path) or ""
        share = integer_of(text.partition("@")[0].rstrip(" %"))  # "57@1000000000Hz", "57 %", "57"
        return share / whole if share is not None else None

    return probe


def _busy_time_probe(tree: Tree, path: str) -> Probe:
    """Return a probe of a counter of busy microseconds."""
    before: int | None = None

    def probe(elapsed_ns: int | None) -> float | None:
        nonlocal before
        earlier, before = before, tree.integer(path)
        if earlier is None or before is None or before < earlier or not elapsed_ns:
            return None
        return min(1.0, (before - earlier) * 1000 / elapsed_ns)

    return probe

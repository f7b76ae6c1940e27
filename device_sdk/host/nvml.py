"""NVIDIA GPUs through the driver's own library, NVML: use, memory, temperature, power, and why clocks are held down."""

from __future__ import annotations

import ctypes
from typing import Any, Final

from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.attributes import ThrottleCause
from device_sdk.host.reader import EVERY_ROUND, SELDOM_NS, Board
from device_sdk.host.tree import Tree
from device_sdk.points import Points

GPUS_MAX: Final = 4
TOGETHER: Final = "nvidia"
"""The ``hw.id`` of what is told of all GPUs together: power and energy added up, the hottest temperature."""
LIBRARY: Final = "libnvidia-ml.so.1"
_DEVICES: Final = "proc/driver/nvidia/gpus/*"
_DRIVER: Final = "proc/driver/nvidia/version"
_CORE_TEMPERATURE: Final = 0
_POWER: Final = 0x4 | 0x80  # the software's cap, the external brake
_THERMAL: Final = 0x20 | 0x40
_SLOWED: Final = 0x8  # by the hardware, for a reason that the other bits tell where the driver knows it


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Gpu:
    def __init__(self, library: Any, handle: ctypes.c_void_p) -> None:
        self._library, self._handle = library, handle
        self.joules_before: float | None = None

    def _ask(self, function: str, answer: Any, *arguments: Any) -> Any:
        """Return ``answer`` filled by an NVML function, None where this GPU or driver does not know it."""
        call = getattr(self._library, function, None)
        return answer if call is not None and call(self._handle, *arguments, ctypes.byref(answer)) == 0 else None

    def use(self) -> float | None:
        told = self._ask("nvmlDeviceGetUtilizationRates", _Utilization())
        return told.gpu / 100 if told is not None and told.gpu <= 100 else None

    def memory_bytes(self) -> int | None:
        told = self._ask("nvmlDeviceGetMemoryInfo", _Memory())
        return int(told.used) if told is not None else None

    def celsius(self) -> float | None:
        told = self._ask("nvmlDeviceGetTemperature", ctypes.c_uint(), ctypes.c_uint(_CORE_TEMPERATURE))
        return float(told.value) if told is not None and told.value < 150 else None

    def watts(self) -> float | None:
        told = self._ask("nvmlDeviceGetPowerUsage", ctypes.c_uint())
        return told.value / 1000 if told is not None else None

    def joules(self) -> float | None:
        told = self._ask("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong())
        return told.value / 1000 if told is not None else None

    def throttles(self) -> frozenset[ThrottleCause]:
        reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons", ctypes.c_ulonglong())
        if reasons is None:
            reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong())
        held = reasons.value if reasons is not None else 0
        causes = {
            cause for bits, cause in ((_POWER, ThrottleCause.POWER), (_THERMAL, ThrottleCause.THERMAL)) if held & bits
        }
        return frozenset(causes or ({ThrottleCause.OTHER} if held & _SLOWED else ()))


class NvidiaReader:
    """Reads at most 4 GPUs. Without the driver the library is not even looked for.

    A GPU that may sleep by itself (its runtime power control says ``auto``) is asked every ten seconds and not while it
    sleeps, because a question a second would keep it awake and cost a laptop its battery.
    """

    def __init__(self, tree: Tree, library: Any = None) -> None:
        self._tree = tree
        self._power = [f"sys/bus/pci/devices/{path.rpartition('/')[2]}/power/" for path in tree.find(_DEVICES)]
        may_sleep = any(tree.text(path + "control") == "auto" for path in self._power)
        self.every_ns = SELDOM_NS if may_sleep else EVERY_ROUND
        self._wanted = tree.readable(_DRIVER)
        self._library = library
        self._gpus: list[_Gpu] = []
        self._use: dict[int, list[float]] = {}
        self._memory: list[int | None] = []
        self._celsius: float | None = None
        self._peak_c: float | None = None
        self._watts: float | None = None
        self._joules: float | None = None

    def _open(self) -> None:
        """Load the library and find the GPUs, once; a machine whose library is missing or another's has none."""
        self._wanted = False
        try:
            library = self._library if self._library is not None else ctypes.CDLL(LIBRARY)
            count = ctypes.c_uint()
            if library.nvmlInit_v2() != 0 or library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
                return
            for index in range(min(GPUS_MAX, count.value)):
                handle = ctypes.c_void_p()
                if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) == 0:
                    self._gpus.append(_Gpu(library, handle))
        except (OSError, AttributeError):
            return

    def sample(self, now_ns: int, elapsed_ns: int | None, board: Board) -> None:  # noqa: ARG002
        """Ask every GPU."""
        board.accelerator_throttles = frozenset()
        self._memory = [None] * len(self._gpus)
        self._celsius = self._watts = None  # of a GPU that sleeps nothing is known
        if any(self._tree.text(path + "runtime_status") == "suspended" for path in self._power):
            return
        if self._wanted:
            self._open()
        for index, gpu in enumerate(self._gpus):
            use = gpu.use()
            if use is not None:
                self._use.setdefault(index, []).append(use)
            board.accelerator_throttles |= gpu.throttles()
            before, gpu.joules_before = gpu.joules_before, gpu.joules()
            if before is not None and gpu.joules_before is not None and gpu.joules_before >= before:
                self._joules = (self._joules or 0.0) + gpu.joules_before - before
        self._memory = [gpu.memory_bytes() for gpu in self._gpus]
        self._celsius = max((told for told in (gpu.celsius() for gpu in self._gpus) if told is not None), default=None)
        watts = [told for told in (gpu.watts() for gpu in self._gpus) if told is not None]
        self._watts = sum(watts) if watts else None
        if self._celsius is not None:
            self._peak_c = max(self._celsius, self._peak_c if self._peak_c is not None else self._celsius)
            board.temperature_c = max(self._celsius, board.temperature_c or self._celsius)

    def emit(self, points: Points) -> None:
        """Add this window's points and start anew."""
        for index, used in enumerate(self._memory):
            seen = self._use.pop(index, [])
            name = (a.HW_ID, f"{TOGETHER}_{index}")
            points.add(m.GPU_UTILIZATION.name, sum(seen) / len(seen) if seen else None, (name,))
            points.add(m.GPU_MEMORY.name, used, (name,))
        together = (a.HW_ID, TOGETHER)
        points.add(m.TEMPERATURE.name, self._celsius, (together,))
        points.add(m.TEMPERATURE_PEAK.name, self._peak_c, (together,))
        points.add(m.POWER.name, self._watts, (together, (a.HW_TYPE, "gpu")))
        points.add(m.ENERGY.name, self._joules, (together, (a.HW_TYPE, "gpu")))
        self._joules = None if self._joules is None else 0.0
        self._peak_c = None

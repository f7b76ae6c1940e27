"""Instruments of the machine and the host process; names of OpenTelemetry's conventions wherever they exist."""

from __future__ import annotations

from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.contract.instrument import Instrument, Kind

GPU_UTILIZATION: Final = Instrument(
    "hw.gpu.utilization", Kind.GAUGE, "1", (a.HW_ID,), "Use of an accelerator, 0..1, over the window.", 8,
)  # fmt: skip
GPU_MEMORY: Final = Instrument(
    "hw.gpu.memory.usage", Kind.UP_DOWN, "By", (a.HW_ID,), "Memory of an accelerator in use.", 8,
)  # fmt: skip
TEMPERATURE: Final = Instrument(
    "hw.temperature", Kind.GAUGE, "Cel", (a.HW_ID,), "Temperature of a zone.", 8,
)  # fmt: skip
TEMPERATURE_PEAK: Final = Instrument(
    "edge.host.temperature.peak", Kind.GAUGE, "Cel", (a.HW_ID,), "Highest reading of a zone in the window.", 8,
)  # fmt: skip
CPU_SPEED: Final = Instrument(
    "hw.cpu.speed", Kind.GAUGE, "Hz", (a.HW_ID,), "Clock of a group of cores.", 8,
)  # fmt: skip
CPU_SPEED_LIMIT: Final = Instrument(
    "hw.cpu.speed.limit", Kind.GAUGE, "Hz", (a.HW_ID, a.HW_LIMIT_TYPE),
    "Clock that the group may reach now, or at all.", 16,
)  # fmt: skip
THROTTLE_TIME: Final = Instrument(
    "edge.throttle.time", Kind.COUNTER, "s", (a.THROTTLE_CAUSE,), "Seconds below full speed, by cause.", 4,
)  # fmt: skip
POWER: Final = Instrument(
    "hw.power", Kind.GAUGE, "W", (a.HW_ID, a.HW_TYPE), "Power of a rail.", 8,
)  # fmt: skip
ENERGY: Final = Instrument(
    "hw.energy", Kind.COUNTER, "J", (a.HW_ID, a.HW_TYPE), "Energy of a rail.", 8,
)  # fmt: skip
VOLTAGE: Final = Instrument(
    "hw.voltage", Kind.GAUGE, "V", (a.HW_ID,), "Voltage of a rail or battery.", 8,
)  # fmt: skip
BATTERY_CHARGE: Final = Instrument(
    "hw.battery.charge", Kind.GAUGE, "1", (a.HW_ID,), "Charge of a battery, 0..1.", 2,
)  # fmt: skip
BATTERY_TIME_LEFT: Final = Instrument(
    "hw.battery.time_left", Kind.GAUGE, "s", (a.HW_ID,), "Time until a battery is empty.", 2,
)  # fmt: skip
BUDGET_TIME: Final = Instrument(
    "edge.budget.time", Kind.COUNTER, "s", (a.BUDGET_NAME, a.BUDGET_STATE),
    "Seconds within and over each declared budget.", 10,
)  # fmt: skip
PROCESS_CPU_TIME: Final = Instrument(
    "process.cpu.time", Kind.COUNTER, "s", (a.CPU_MODE,), "CPU time of the host process, by mode.", 2,
)  # fmt: skip
PROCESS_MEMORY: Final = Instrument(
    "process.memory.usage", Kind.UP_DOWN, "By", (), "Resident memory of the host process.", 1,
)  # fmt: skip
PROCESS_MEMORY_PEAK: Final = Instrument(
    "edge.process.memory.peak", Kind.GAUGE, "By", (), "Highest resident memory seen in the window.", 1,
)  # fmt: skip
PROCESS_MEMORY_SLOPE: Final = Instrument(
    "edge.process.memory.slope", Kind.GAUGE, "By/h", (),
    "Growth of resident memory per hour of inference, fitted over this session; the last value counts.", 1,
)  # fmt: skip
PROCESS_DISK_IO: Final = Instrument(
    "process.disk.io", Kind.COUNTER, "By", (a.DISK_IO_DIRECTION,), "Bytes the host process read and wrote.", 2,
)  # fmt: skip
PROCESS_UPTIME: Final = Instrument(
    "process.uptime", Kind.GAUGE, "s", (), "Age of the host process.", 1,
)  # fmt: skip
SYSTEM_UPTIME: Final = Instrument(
    "system.uptime", Kind.GAUGE, "s", (), "Time since boot.", 1,
)  # fmt: skip
SYSTEM_CPU_TIME: Final = Instrument(
    "system.cpu.time", Kind.COUNTER, "s", (a.CPU_MODE,), "CPU time of all cores together, by mode.", 8,
)  # fmt: skip
SYSTEM_MEMORY_LIMIT: Final = Instrument(
    "system.memory.limit", Kind.UP_DOWN, "By", (), "Memory of the machine.", 1,
)  # fmt: skip
SYSTEM_MEMORY_AVAILABLE: Final = Instrument(
    "system.memory.linux.available", Kind.UP_DOWN, "By", (), "Memory that programs can still have.", 1,
)  # fmt: skip
FILESYSTEM_USAGE: Final = Instrument(
    "system.filesystem.usage", Kind.UP_DOWN, "By", (a.FILESYSTEM_STATE,),
    "Use of the file system that holds the state directory.", 3,
)  # fmt: skip
FILESYSTEM_LIMIT: Final = Instrument(
    "system.filesystem.limit", Kind.UP_DOWN, "By", (), "Size of that file system.", 1,
)  # fmt: skip

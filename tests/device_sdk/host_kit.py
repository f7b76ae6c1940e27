"""Machines as files: what /proc and /sys of real devices look like, written below a directory to point readers at.

Paths, units, labels and quirks are those of the named kernels; values are of a machine at rest.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdk_kit import SECOND

from device_sdk.testing import attach_host

SECRET = "SN-7XK29Q4Z11"
"""Stands in every file that names a unit: it must never be seen again."""

_CPU = "sys/devices/system/cpu/"
_PROC = {
    "proc/self/stat": (
        "4242 (my (app) 1) S 1 4242 4242 0 -1 4194560 900 0 0 0 1500 300 0 0 20 0 9 0 5000 900000000 20480 1 1 1 0 0"
    ),
    "proc/self/statm": "220000 20480 9000 1 0 90000 0",
    "proc/self/io": "rchar: 9\nwchar: 9\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 0",
    "proc/stat": "cpu  1000 10 500 90000 200 5 15 0 0 0\ncpu0 1000 10 500 90000 200 5 15 0 0 0\nintr 1 0 0",
    "proc/meminfo": "MemTotal:        3884272 kB\nMemFree:          200000 kB\nMemAvailable:    3000000 kB",
    "sys/class/dmi/id/product_serial": SECRET,
    "sys/class/dmi/id/product_uuid": SECRET,
    "sys/class/dmi/id/board_asset_tag": SECRET,
    "proc/device-tree/serial-number": SECRET + "\0",
}  # fmt: skip


def _zone(number: int, kind: str, temp: str) -> dict[str, str]:
    return {f"sys/class/thermal/thermal_zone{number}/{name}": text for name, text in (("type", kind), ("temp", temp))}


def _cooler(number: int, kind: str) -> dict[str, str]:
    at = f"sys/class/thermal/cooling_device{number}/"
    return {at + "type": kind, at + "cur_state": "0", at + "max_state": "4"}


def _policy(number: int, top: int, now: int) -> dict[str, str]:
    at = f"{_CPU}cpufreq/policy{number}/"
    return {at + "cpuinfo_max_freq": str(top), at + "scaling_max_freq": str(top), at + "scaling_cur_freq": str(now)}


def _hwmon(number: int, name: str, **files: str) -> dict[str, str]:
    at = f"sys/class/hwmon/hwmon{number}/"
    return {at + "name": name} | {at + key: text for key, text in files.items()}


PI4 = {
    **_PROC,
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/device-tree/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0",
    "proc/cpuinfo": f"processor\t: 0\n\nSerial\t\t: {SECRET}\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4",
    **_zone(0, "cpu-thermal", "48686"),
    **_cooler(0, "cpufreq-cpu0"),
    **_policy(0, 1800000, 600000),
    **_hwmon(0, "cpu_thermal", temp1_input="48686"),
    **_hwmon(1, "rpi_volt", in0_lcrit_alarm="0"),
    "sys/devices/platform/soc/soc:firmware/get_throttled": "0",
}

PI5 = {
    **_PROC,
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
    **_zone(0, "cpu-thermal", "52900"),
    **_cooler(0, "pwm-fan"),
    **_cooler(1, "cpufreq-cpu0"),
    **_policy(0, 2400000, 1500000),
    **_hwmon(0, "cpu_thermal", temp1_input="52900"),
    **_hwmon(1, "rp1_adc", temp1_input="55123", in1_input="1465"),
    **_hwmon(2, "pwmfan", fan1_input="2400"),
    **_hwmon(3, "rpi_volt", in0_lcrit_alarm="0"),
}

ORIN = {
    **_PROC,
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)",
    **_zone(0, "cpu-thermal", "51125"),
    **_zone(1, "gpu-thermal", "50031"),
    **_zone(2, "cv0-thermal", "-256000"),
    **_zone(3, "cv1-thermal", "-256000"),
    **_zone(4, "cv2-thermal", "-256000"),
    **_zone(5, "soc0-thermal", "49843"),
    **_zone(6, "soc1-thermal", "50468"),
    **_zone(7, "soc2-thermal", "50281"),
    **_zone(8, "tj-thermal", "51125"),
    **_cooler(0, "cpufreq-cpu0"),
    **_cooler(1, "cpufreq-cpu4"),
    **_cooler(2, "devfreq-17000000.gpu"),
    **_cooler(3, "pwm-fan"),
    **_policy(0, 1728000, 729600),
    **_policy(4, 1728000, 729600),
    **_hwmon(
        1, "ina3221",
        in1_label="VDD_IN", in1_input="5072", curr1_input="920", in2_label="VDD_CPU_GPU_CV", in2_input="5072",
        curr2_input="112", in3_label="VDD_SOC", in3_input="5072", curr3_input="288", in4_label="Sum of shunt voltages",
        in4_input="3",
    ),
    "sys/devices/platform/bus@0/17000000.gpu/load": "0",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000",
}  # fmt: skip

LAPTOP = {
    **_PROC,
    "sys/class/dmi/id/sys_vendor": "LENOVO",
    "sys/class/dmi/id/product_name": "20L8S2N80A",
    "proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz",
    **_zone(0, "acpitz", "44000"),
    **_zone(1, "INT3400 Thermal", "20000"),
    **_zone(2, "x86_pkg_temp", "45000"),
    **_zone(3, "iwlwifi_1", ""),
    **_cooler(0, "Processor"),
    **_cooler(1, "intel_powerclamp"),
    **{key: text for n in range(8) for key, text in _policy(n, 4200000, 800000 + n).items()},
    **_hwmon(0, "AC"),
    **_hwmon(1, "acpitz", temp1_input="44000"),
    **_hwmon(2, "BAT0", in0_input="11832", power1_input="7012000"),
    **_hwmon(3, "nvme", temp1_label="Composite", temp1_input="36850", temp2_label="Sensor 1", temp2_input="36850"),
    **_hwmon(
        4, "coretemp", temp1_label="Package id 0", temp1_input="45000", temp2_label="Core 0", temp2_input="44000",
        temp3_label="Core 1", temp3_input="99000", temp4_label="Core 2", temp4_input="44000", temp5_label="Core 3",
        temp5_input="43000",
    ),
    _CPU + "cpu0/topology/physical_package_id": "0",
    _CPU + "cpu0/thermal_throttle/package_throttle_count": "17",
    _CPU + "cpu0/thermal_throttle/package_throttle_total_time_ms": "4321",
    _CPU + "cpu1/topology/physical_package_id": "0",
    _CPU + "cpu1/thermal_throttle/package_throttle_count": "17",
    _CPU + "cpu1/thermal_throttle/package_throttle_total_time_ms": "4321",
    "sys/class/powercap/intel-rapl/enabled": "1",
    "sys/class/powercap/intel-rapl:0/name": "package-0",
    "sys/class/powercap/intel-rapl:0/energy_uj": "262143000000",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850",
    "sys/class/powercap/intel-rapl:0:0/name": "core",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "1000000",
    "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj": "262143328850",
    "sys/class/powercap/intel-rapl:0:1/name": "uncore",
    "sys/class/powercap/intel-rapl:0:1/energy_uj": "2000000",
    "sys/class/powercap/intel-rapl:0:1/max_energy_range_uj": "262143328850",
    "sys/class/power_supply/AC/type": "Mains",
    "sys/class/power_supply/AC/online": "0",
    "sys/class/power_supply/BAT0/type": "Battery",
    "sys/class/power_supply/BAT0/serial_number": SECRET,
    "sys/class/power_supply/BAT0/status": "Discharging",
    "sys/class/power_supply/BAT0/capacity": "81",
    "sys/class/power_supply/BAT0/energy_now": "40500000",
    "sys/class/power_supply/BAT0/energy_full": "50000000",
    "sys/class/power_supply/BAT0/power_now": "9000000",
    "sys/class/power_supply/BAT0/voltage_now": "11832000",
    "sys/class/power_supply/hid-d8:0f:99:12:34:56-battery/type": "Battery",
    "sys/class/power_supply/hid-d8:0f:99:12:34:56-battery/scope": "Device",
    "sys/class/power_supply/hid-d8:0f:99:12:34:56-battery/capacity": "3",
}  # fmt: skip

RK3588 = {
    **_PROC,
    "proc/device-tree/model": "Radxa ROCK 5B\0",
    "proc/device-tree/compatible": "radxa,rock-5b\0rockchip,rk3588\0",
    **_zone(0, "soc-thermal", "42000"),
    **_zone(1, "bigcore0-thermal", "41000"),
    **_zone(2, "npu-thermal", "40000"),
    **_policy(0, 1800000, 408000),
    **_policy(4, 2400000, 408000),
    **_policy(6, 2400000, 408000),
    "sys/class/devfreq/fb000000.gpu/load": "12@300000000Hz",
    "sys/class/devfreq/fdab0000.npu/load": "57@1000000000Hz",
    "sys/class/devfreq/dmc/load": "30@528000000Hz",
}

DESKTOP = {
    **_PROC,
    "sys/class/dmi/id/sys_vendor": "To Be Filled By O.E.M.",
    "sys/class/dmi/id/board_vendor": "ASRock",
    "sys/class/dmi/id/product_name": "System Product Name",
    "sys/class/dmi/id/board_name": "B650M Pro RS",
    "proc/cpuinfo": "model name\t: AMD Ryzen 7 7700 8-Core Processor",
    **_hwmon(0, "k10temp", temp1_label="Tctl", temp1_input="41250"),
    **_hwmon(1, "amdgpu", temp1_label="edge", temp1_input="38000", power1_label="PPT", power1_average="21000000"),
    "sys/class/drm/card0/device/gpu_busy_percent": "7",
    "sys/class/drm/card0/device/mem_info_vram_used": "536870912",
    "sys/class/accel/accel0/device/npu_busy_time_us": "1000000",
    "sys/class/accel/accel0/device/npu_memory_utilization": "2097152",
}

CONTAINER = {key: text for key, text in _PROC.items() if key.startswith(("proc/self", "proc/stat", "proc/meminfo"))}

MACHINES: dict[str, Mapping[str, str]] = {
    "pi4": PI4, "pi5": PI5, "orin": ORIN, "laptop": LAPTOP, "rk3588": RK3588, "desktop": DESKTOP,
    "container": CONTAINER, "nothing": {},
}  # fmt: skip


class Machine:
    """A directory with the files of one machine; values change as they would on it."""

    def __init__(self, root: Path, files: Mapping[str, str]) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.set(files)

    def set(self, files: Mapping[str, str]) -> None:
        for path, text in files.items():
            at = self.root / path
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_text(text + "\n")

    def remove(self, *paths: str) -> None:
        for path in paths:
            (self.root / path).unlink()

    def add(self, path: str, amount: int) -> None:
        self.set({path: str(int((self.root / path).read_text()) + amount)})

    def attach(self, world: Any) -> None:
        attach_host(world.monitor, os.fspath(self.root))


def ticks(world: Any, seconds: int) -> None:
    """Let seconds pass one by one, a round of the host in each."""
    for _ in range(seconds):
        world.clock.advance(SECOND)
        world.monitor.step()


def values(world: Any, metric: str, *keys: str) -> dict[Any, float]:
    """Return the last value of each series of a metric, by the values of ``keys`` (of one key: bare)."""
    found = {}
    for attributes, point in world.named(metric):
        key = tuple(attributes[key] for key in keys)
        found[key[0] if len(key) == 1 else key] = point.as_int if point.HasField("as_int") else point.as_double
    return found


def summed(world: Any, metric: str, key: str) -> dict[Any, float]:
    found: dict[Any, float] = {}
    for attributes, point in world.named(metric):
        value = point.as_int if point.HasField("as_int") else point.as_double
        found[attributes[key]] = found.get(attributes[key], 0) + value
    return found

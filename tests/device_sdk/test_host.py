"""What a host tells, on recorded trees of real machines and on broken ones, by a clock that the test turns."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from host_kit import MACHINES, ORIN, SECRET, Machine, summed, ticks, values
from sdk_kit import SECOND, points

from device_sdk.__main__ import main
from device_sdk.config import resolve
from device_sdk.contract import BY_NAME, metrics_host
from device_sdk.contract import attributes as a
from device_sdk.contract.instrument import Instrument
from device_sdk.errors import ConfigError, raise_swallowed, swallowed_count
from device_sdk.host.facts import hardware_facts
from device_sdk.host.host import COST_SHARE, Host
from device_sdk.host.names import distinct, hardware_name
from device_sdk.host.slope import POINTS_MAX, MemorySlope
from device_sdk.host.thermal import ThermalReader
from device_sdk.host.tree import Tree, integer_of
from device_sdk.points import Points
from device_sdk.testing import ManualClock, MemorySink, attach_host

HOST_ROWS = [row for row in vars(metrics_host).values() if isinstance(row, Instrument)]


def test_every_row_of_the_contracts_host_tables_is_sent_by_some_machine(tmp_path: Path, bench: Any) -> None:
    seen = set()
    for name, files in MACHINES.items():
        budgets = {"cpu": 1, "latency": 1}
        world = bench(budgets=budgets, clock=ManualClock(1), state_dir=tmp_path / f"state-{name}")
        made = Machine(tmp_path / name, files)
        made.attach(world)
        for second in range(90):
            with world.monitor.measure("m"):
                world.clock.advance(SECOND)
            if "proc/self/statm" in files:
                made.set({"proc/self/statm": f"9 {20000 + second} 1"})
            if name == "pi4":
                made.set({"sys/class/thermal/cooling_device0/cur_state": "1"})
            world.monitor.step()
        world.window()
        seen |= {metric for metric, _, _ in world.sent()}
    assert seen >= {row.name for row in HOST_ROWS}


@pytest.mark.parametrize("name", MACHINES)
def test_every_machine_is_read_within_the_contracts_bounds_and_names_no_unit(
    bench: Any, machine: Any, name: str
) -> None:
    world = bench(budgets={"cpu": 1, "memory": 1e9, "temperature": 80, "power": 10, "latency": 1})
    machine(name).attach(world)
    ticks(world, 61)
    sent = [(metric, attributes) for metric, attributes, _ in world.sent()]
    series: dict[str, set[Any]] = {}
    for metric, attributes in sent:
        row = BY_NAME[metric]
        assert not row.reserved
        assert set(attributes) <= set(row.attributes)
        if row in HOST_ROWS:
            series.setdefault(metric, set()).add(tuple(sorted(attributes.items())))
        assert SECRET not in str(attributes)
        for value in attributes.values():
            if "hw.id" in attributes and value == attributes["hw.id"]:
                assert hardware_name(value, "") == value  # small letters, digits, underscores: no path, no address
    assert all(len(found) <= BY_NAME[metric].series_max for metric, found in series.items())
    assert SECRET not in str(world.sink.requests)
    assert ("process.memory.usage" in series) is (name != "nothing")


@pytest.mark.parametrize(
    ("name", "chipset", "model", "maker"),
    [
        ("pi4", "bcm2711", "Raspberry Pi 4 Model B Rev 1.4", "Raspberry Pi"),
        ("pi5", "bcm2712", "Raspberry Pi 5 Model B Rev 1.0", "Raspberry Pi"),
        (
            "orin",
            "tegra234",
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"[:64].rstrip(),
            "NVIDIA",
        ),
        ("laptop", "Intel Core i7-8650U", "20L8S2N80A", "LENOVO"),
        ("desktop", "AMD Ryzen 7 7700", "B650M Pro RS", "ASRock"),
        ("rk3588", "rk3588", "Radxa ROCK 5B", "Radxa"),
    ],
)
def test_the_device_says_what_it_is(machine: Any, name: str, chipset: str, model: str, maker: str) -> None:
    assert hardware_facts(Tree(machine(name).root)) == {
        a.CHIPSET: chipset,
        a.DEVICE_MODEL: model,
        a.DEVICE_MANUFACTURER: maker,
    }


def test_a_machine_that_says_nothing_has_no_facts_and_placeholders_are_none(tmp_path: Path) -> None:
    assert hardware_facts(Tree(tmp_path)) == {}
    dmi = "sys/class/dmi/id/"
    for text in (
        "Default string",
        "To be filled by O.E.M.",
        "None",
        "Unknown",
        "0000",
        " ",
        "\x00\x01",
        "Not Specified",
    ):
        files = {dmi + name: text for name in ("sys_vendor", "board_vendor", "product_name", "board_name")}
        assert hardware_facts(Tree(Machine(tmp_path / "m", files).root)) == {}, text
    Machine(tmp_path / "m", {dmi + "sys_vendor": "x" * 500, "proc/cpuinfo": "Hardware\t: BCM2835\nSerial\t: 1"})
    assert hardware_facts(Tree(tmp_path / "m")) == {a.DEVICE_MANUFACTURER: "x" * 64, a.CHIPSET: "BCM2835"}


def test_zones_are_the_processors_first_and_keep_their_peak(bench: Any, machine: Any) -> None:
    world, orin = bench(), machine("orin")
    orin.attach(world)
    ticks(world, 30)
    orin.set({"sys/class/thermal/thermal_zone1/temp": "88500"})
    ticks(world, 1)
    orin.set({"sys/class/thermal/thermal_zone1/temp": "61000"})
    ticks(world, 29)
    now, peak = values(world, "hw.temperature", "hw.id"), values(world, "edge.host.temperature.peak", "hw.id")
    assert (now["gpu_thermal"], peak["gpu_thermal"]) == (61.0, 88.5)
    assert now["cpu_thermal"] == peak["cpu_thermal"] == 51.125
    assert len(now) <= 8
    assert not [name for name in now if now[name] < 0]
    ticks(world, 60)
    assert values(world, "edge.host.temperature.peak", "hw.id")["gpu_thermal"] == 61.0


def test_a_zone_is_not_told_twice_and_cores_stand_behind_the_package(machine: Any) -> None:
    assert ThermalReader(Tree(machine("pi4").root)).names == ["cpu_thermal"]
    names = ThermalReader(Tree(machine("laptop").root)).names
    assert names == [
        "acpitz", "int3400_thermal", "x86_pkg_temp", "iwlwifi_1", "nvme_composite", "nvme_sensor_1",
        "coretemp_package_id_0",
    ]  # fmt: skip


def test_process_and_machine_are_counted_by_difference(bench: Any, machine: Any) -> None:
    world, pi = bench(), machine("pi4")
    pi.attach(world)
    ticks(world, 30)
    stat = (pi.root / "proc/self/stat").read_text().replace(" 1500 300 ", " 1750 310 ")
    pi.set(
        {
            "proc/self/stat": stat.strip(),
            "proc/self/statm": "220000 30720 9000 1 0 90000 0",
            "proc/self/io": "read_bytes: 5096\nwrite_bytes: 8192",
            "proc/stat": "cpu  1300 10 500 89990 200 5 35 0 0 0",
        }
    )
    ticks(world, 1)
    pi.set({"proc/self/statm": "220000 20480 9000 1 0 90000 0"})
    ticks(world, 29)
    assert summed(world, "process.cpu.time", "cpu.mode") == {"user": 2.5, "system": pytest.approx(0.1)}
    modes = summed(world, "system.cpu.time", "cpu.mode")
    assert (modes["user"], modes["interrupt"], modes["idle"]) == (3.0, 0.2, 0.0)  # idle went backwards
    assert summed(world, "process.disk.io", a.DISK_IO_DIRECTION) == {"read": 1000, "write": 0}
    assert values(world, "process.memory.usage") == {(): 20480 * 4096}
    assert values(world, "edge.process.memory.peak") == {(): 30720 * 4096}
    assert values(world, "system.memory.limit") == {(): 3884272 * 1024}
    assert values(world, "system.memory.linux.available") == {(): 3000000 * 1024}
    assert values(world, "process.uptime") == {(): 10.0}  # booted 60 s ago, started 50 s after boot
    assert values(world, "system.uptime") == {(): 60.0}


def test_the_disk_of_the_state_directory_is_told(bench: Any, machine: Any) -> None:
    world = bench()
    machine("container").attach(world)
    ticks(world, 60)
    used = values(world, "system.filesystem.usage", a.FILESYSTEM_STATE)
    assert sum(used.values()) == values(world, "system.filesystem.limit")[()] > 0


def test_clocks_of_core_groups_and_their_limits(bench: Any, machine: Any) -> None:
    world = bench()
    machine("rk3588").attach(world)
    ticks(world, 60)
    assert values(world, "hw.cpu.speed", "hw.id") == {"policy0": 408_000_000, "policy4": 408_000_000}
    limits = values(world, "hw.cpu.speed.limit", "hw.id", "hw.limit_type")
    assert limits[("policy4", "max")] == limits[("policy4", "throttled")] == 2_400_000_000


class TestThrottling:
    @pytest.mark.parametrize(
        ("name", "files", "cause"),
        [
            ("pi4", {"sys/devices/platform/soc/soc:firmware/get_throttled": "50005"}, "undervoltage"),
            ("pi4", {"sys/devices/platform/soc/soc:firmware/get_throttled": "80008"}, "thermal"),
            ("pi4", {"sys/devices/platform/soc/soc:firmware/get_throttled": "20002"}, "thermal"),
            ("pi5", {"sys/class/hwmon/hwmon3/in0_lcrit_alarm": "1"}, "undervoltage"),
            ("pi5", {"sys/class/thermal/cooling_device1/cur_state": "2"}, "thermal"),
            ("orin", {"sys/class/thermal/cooling_device2/cur_state": "1"}, "thermal"),
            ("orin", {"sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1036800"}, "other"),
        ],
    )
    def test_ten_seconds_of_a_state_are_ten_seconds_by_its_cause(
        self, bench: Any, machine: Any, name: str, files: dict[str, str], cause: str
    ) -> None:
        world, made = bench(), machine(name)
        made.attach(world)
        ticks(world, 20)
        made.set(files)
        ticks(world, 10)
        made.set({path: MACHINES[name][path] for path in files})
        ticks(world, 30)
        assert summed(world, "edge.throttle.time", a.THROTTLE_CAUSE) == {cause: 10.0}

    @pytest.mark.parametrize(
        "files",
        [
            {"sys/devices/platform/soc/soc:firmware/get_throttled": "f0000"},  # has been, is no more
            {"sys/devices/platform/soc/soc:firmware/get_throttled": "rubbish"},
            {"sys/class/thermal/cooling_device0/cur_state": "-1"},
            {"sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": ""},
            {"sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "200000"},  # slow because idle
        ],
    )
    def test_what_is_no_throttling_counts_nothing(self, bench: Any, machine: Any, files: dict[str, str]) -> None:
        world, made = bench(), machine("pi4")
        made.attach(world)
        ticks(world, 20)
        made.set(files)
        ticks(world, 40)
        assert summed(world, "edge.throttle.time", a.THROTTLE_CAUSE) == {}

    def test_a_fan_that_turns_is_no_throttling(self, bench: Any, machine: Any) -> None:
        world, made = bench(), machine("pi5")
        made.set({"sys/class/thermal/cooling_device0/cur_state": "4"})
        made.attach(world)
        ticks(world, 60)
        assert world.named("edge.throttle.time") == []

    def test_intels_own_account_is_exact_and_never_more_than_the_time_that_passed(
        self, bench: Any, machine: Any
    ) -> None:
        world, laptop = bench(), machine("laptop")
        counter = "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_total_time_ms"
        laptop.attach(world)
        ticks(world, 10)
        laptop.add(counter, 250)
        ticks(world, 1)
        laptop.add(counter, 90_000)
        ticks(world, 1)
        laptop.set({counter: "7"})  # a reset
        ticks(world, 48)
        assert summed(world, "edge.throttle.time", a.THROTTLE_CAUSE) == {"thermal": pytest.approx(1.25)}

    def test_a_processor_that_only_counts_events_has_the_interval_of_each(self, bench: Any, machine: Any) -> None:
        world, laptop = bench(), machine("laptop")
        for cpu in ("cpu0", "cpu1"):
            laptop.remove(f"sys/devices/system/cpu/{cpu}/thermal_throttle/package_throttle_total_time_ms")
        laptop.attach(world)
        ticks(world, 10)
        laptop.add("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", 5)
        ticks(world, 50)
        assert summed(world, "edge.throttle.time", a.THROTTLE_CAUSE) == {"thermal": 1.0}

    def test_of_two_packages_the_longer_time_counts_not_the_sum_nor_the_last(self, bench: Any, machine: Any) -> None:
        world, laptop = bench(), machine("laptop")
        laptop.set({"sys/devices/system/cpu/cpu1/topology/physical_package_id": "1"})
        laptop.attach(world)
        ticks(world, 10)
        laptop.add("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_total_time_ms", 750)
        laptop.add("sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_total_time_ms", 500)
        ticks(world, 50)
        assert summed(world, "edge.throttle.time", a.THROTTLE_CAUSE) == {"thermal": 0.75}

    def test_a_power_mode_that_somebody_chose_is_no_throttling(self, bench: Any, machine: Any) -> None:
        world, orin = bench(), machine("orin")
        orin.set({"sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1036800"})
        orin.attach(world)
        ticks(world, 60)
        assert world.named("edge.throttle.time") == []

    def test_nothing_is_counted_for_time_asleep(self, bench: Any, machine: Any) -> None:
        world, made = bench(), machine("pi5")
        made.set({"sys/class/thermal/cooling_device1/cur_state": "2"})
        made.attach(world)
        ticks(world, 10)
        world.clock.suspend(3600 * SECOND)
        world.monitor.step()
        ticks(world, 50)
        # nine intervals before the sleep, and 49 after it: the one across it is nobody's
        assert summed(world, "edge.throttle.time", a.THROTTLE_CAUSE) == {"thermal": 58.0}


class TestBudgets:
    def test_seconds_within_and_over_are_counted_by_budget(self, bench: Any, machine: Any) -> None:
        world = bench(budgets={"cpu": 0.5, "memory": 100e6, "temperature": 60, "latency": 0.1})
        pi = machine("pi4")
        pi.attach(world)
        run = world.monitor.measure("m")
        ticks(world, 1)
        for second in range(1, 60):  # 59 intervals; the window closes with the last
            pi.set({"proc/self/stat": f"1 (a) S 1 1 1 0 -1 4 9 0 0 0 {1500 + 25 * second} 300 0 0 20 0 9 0 5000"})
            if second % 2 == 1:
                with run:
                    world.clock.advance(SECOND // 5)
                world.clock.advance(SECOND * 4 // 5)
            else:
                world.clock.advance(SECOND)
            if second == 30:
                used = 1500 + 25 * second + 40
                pi.set({"proc/self/stat": f"1 (a) S 1 1 1 0 -1 4 9 0 0 0 {used} 300 0 0 20 0 9 0 5000"})
                pi.set({"proc/self/statm": "9 25000 1", "sys/class/thermal/thermal_zone0/temp": "60001"})
            world.monitor.step()
        found: dict[Any, float] = {}
        for attributes, point in world.named("edge.budget.time"):
            key = attributes[a.BUDGET_NAME], attributes[a.BUDGET_STATE]
            found[key] = found.get(key, 0) + point.as_double
        assert found[("cpu", "over")] == 1.0
        assert found[("cpu", "within")] == 58.0
        assert found[("memory", "over")] == 30.0
        assert found[("memory", "within")] == found[("temperature", "within")] == 29.0
        assert found[("temperature", "over")] == 30.0
        assert ("latency", "within") not in found
        assert found[("latency", "over")] == 30.0

    def test_a_budget_that_is_just_met_is_kept(self, bench: Any, machine: Any) -> None:
        world = bench(budgets={"temperature": 48.686})
        machine("pi4").attach(world)
        ticks(world, 60)
        assert summed(world, "edge.budget.time", a.BUDGET_STATE) == {"within": 59.0}

    def test_a_budget_for_what_cannot_be_read_is_not_counted_and_said_once(
        self, bench: Any, machine: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        import device_sdk.errors as errors

        errors._guarding.next_log_s = 0.0
        world = bench(budgets={"temperature": 60})
        machine("container").attach(world)
        with caplog.at_level(logging.WARNING):
            ticks(world, 130)
        assert world.named("edge.budget.time") == []
        assert [record.message for record in caplog.records] == [
            "budget temperature: nothing readable here tells it, so it is not counted"
        ]


class TestMemorySlope:
    def test_a_steady_leak_is_found_exactly_and_told_late_enough(self) -> None:
        slope = MemorySlope()
        for second in range(1, 61):
            slope.add(float(second), 100_000_000 + 5000 * second)
            assert slope.bytes_per_hour() is None
        slope.add(61.0, 100_000_000 + 5000 * 61)
        assert slope.bytes_per_hour() == pytest.approx(5000 * 3600)

    def test_no_growth_is_zero_and_room_is_fixed_over_a_month(self) -> None:
        slope = MemorySlope()
        for hour in range(30 * 24 * 4):
            slope.add(900.0 * (hour + 1), 80_000_000)
        assert slope.bytes_per_hour() == 0
        assert len(slope._points) < POINTS_MAX

    def test_a_quarter_of_wild_readings_does_not_move_it_far(self) -> None:
        """Theil-Sen's breakdown point is 1 - sqrt(1/2), 29 %: with 25 % upward spikes the clean pairs still decide."""
        slope = MemorySlope()
        for second in range(1, 4001):
            wild = 500_000_000 if second % 4 == 0 else 0
            slope.add(float(second), 100_000_000 + 1000 * second + wild)
        told = slope.bytes_per_hour()
        assert told is not None
        assert abs(told - 3_600_000) < 3_600_000

    def test_a_start_that_allocates_once_is_no_leak(self) -> None:
        slope = MemorySlope()
        for second in range(1, 2001):
            slope.add(float(second), 100_000_000 if second < 100 else 180_000_000)
        assert slope.bytes_per_hour() == pytest.approx(0)

    def test_it_goes_by_time_spent_inferring_and_reaches_the_wire(self, bench: Any, machine: Any) -> None:
        world, pi = bench(), machine("pi4")
        pi.attach(world)
        run = world.monitor.measure("m")
        for second in range(130):
            pi.set({"proc/self/statm": f"9 {20000 + second} 1"})
            with run:
                world.clock.advance(SECOND // 2)
            world.clock.advance(SECOND // 2)
            world.monitor.step()
        world.window()
        # a page a second, of which half is inference
        assert values(world, "edge.process.memory.slope")[()] == pytest.approx(2 * 4096 * 3600)


class TestBrokenHosts:
    def test_files_that_vanish_or_hold_rubbish_are_left_out_and_never_an_error(self, bench: Any, machine: Any) -> None:
        world, orin = bench(budgets={"temperature": 80, "power": 10}), machine("orin")
        orin.attach(world)
        ticks(world, 5)
        rubbish = ["", "-", "nan", "1e99", "\x00\xff", "9" * 400, "-9" * 30, " ", "12 13", "0x12"]
        for number, path in enumerate(sorted(ORIN)):
            if number % 3:
                orin.set({path: rubbish[number % len(rubbish)]})
            else:
                orin.remove(path)
        before = swallowed_count()
        ticks(world, 120)
        assert swallowed_count() == before
        assert world.named("edge.session.time")

    def test_directories_in_place_of_files_and_a_missing_root(self, bench: Any, tmp_path: Path) -> None:
        for path in ("proc/stat", "proc/self/statm", "proc/self/stat", "sys/class/thermal/thermal_zone0/temp"):
            (tmp_path / "odd" / path).mkdir(parents=True)
        for root in ("odd", "absent"):
            world = bench(state_dir=tmp_path / f"state-{root}", clock=ManualClock(1))
            attach_host(world.monitor, tmp_path / root)
            ticks(world, 61)
            assert world.named("process.cpu.time")
            assert not world.named("hw.temperature")

    def test_a_reader_that_raises_is_left_out_counted_and_said_once(
        self, bench: Any, machine: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        import device_sdk.errors as errors

        calls = []

        def broken(*_: Any) -> None:
            calls.append(1)
            raise ZeroDivisionError("sensor")

        raise_swallowed(False)
        errors._guarding.next_log_s = 0.0
        monkeypatch.setattr(ThermalReader, "sample", broken)
        before = swallowed_count()
        world = bench()
        machine("pi4").attach(world)
        ticks(world, 61)
        assert len(calls) == 1
        assert swallowed_count() == before + 1
        assert "ThermalReader, now left out" in caplog.text
        assert world.named("hw.cpu.speed")
        assert not world.named("hw.temperature")

    def test_wall_clock_steps_change_no_interval(self, bench: Any, machine: Any) -> None:
        world, pi = bench(budgets={"memory": 1e9}), machine("pi4")
        pi.attach(world)
        for second in range(60):
            world.clock.set_wall(world.clock.wall_ns() + (-1) ** second * 10**9 * 86400)
            ticks(world, 1)
        assert summed(world, "edge.budget.time", a.BUDGET_NAME) == {"memory": 59.0}


def test_a_slow_reader_rests_a_hundred_times_what_it_took(tmp_path: Path, bench: Any, clock: ManualClock) -> None:
    reads = []

    class Slow:
        every_ns = 0

        def sample(self, now_ns: int, elapsed_ns: int | None, board: Any) -> None:
            reads.append(now_ns)
            clock.advance(SECOND // 10)

        def emit(self, points: Any) -> None:
            return None

    host = Host(bench().monitor.config, clock, Tree(tmp_path))
    host.sample({})
    host._slots.append(type(host._slots[0])(Slow()))
    for _ in range(35):
        clock.advance(SECOND)
        host.turn(dict)
    assert len(reads) == 4
    assert reads[1] - reads[0] >= COST_SHARE * SECOND // 10


def test_the_rate_of_rounds_is_bounded_however_often_it_is_asked(bench: Any, machine: Any, monkeypatch: Any) -> None:
    rounds = []
    real = Host.sample
    monkeypatch.setattr(Host, "sample", lambda self, loads: (rounds.append(1), real(self, loads))[1])
    world = bench()
    machine("pi4").attach(world)
    for _ in range(100):
        world.clock.advance(SECOND // 20)
        world.monitor.step()
    assert len(rounds) <= 6


def test_a_simulated_device_has_no_host_unless_it_is_given_one(bench: Any) -> None:
    world = bench()
    world.window()
    assert not [name for name, _, _ in world.sent() if name.startswith(("hw.", "system.", "process."))]


def test_the_operators_word_on_what_a_device_is_comes_before_the_machines(tmp_path: Path, monkeypatch: Any) -> None:
    from device_sdk import Monitor
    from device_sdk.testing import connect

    found = {a.CHIPSET: "found", a.DEVICE_MODEL: "board"}
    monkeypatch.setattr("device_sdk.host.host.hardware_facts", lambda _tree: found)
    sink = MemorySink()
    given = {a.CHIPSET: "given"}
    with Monitor(endpoint="http://127.0.0.1:9", state_dir=tmp_path / "s", resource=given, window_s=3600) as monitor:
        connect(monitor, sink)
        with monitor.measure("m"):
            pass
        assert monitor.flush(10)
    (resource, *_) = sink.metrics()[0].resource_metrics
    told = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert (told[a.CHIPSET], told[a.DEVICE_MODEL]) == ("given", "board")
    assert a.DEVICE_MANUFACTURER not in told
    names = {metric.name for metric in resource.scope_metrics[0].metrics}
    assert {"process.cpu.time", "process.memory.usage"} <= names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x86_pkg_temp", "x86_pkg_temp"), ("CPU-therm", "cpu_therm"), ("Package id 0", "package_id_0"),
        ("INT3400 Thermal", "int3400_thermal"), ("hid-d8:0f:99:12:34:56-battery", "other"), ("", "other"),
        ("../../etc/passwd", "etc_passwd"), ("a" * 33, "other"), ("ABC123456", "other"), ("5f2a9c31", "other"),
        ("d80f99123456", "other"), (None, "other"), ("ÄÖ", "other"), ("soc:firmware", "soc_firmware"),
    ],
)  # fmt: skip
def test_a_name_is_a_word_and_no_identifier(text: str | None, name: str) -> None:
    assert hardware_name(text, "other") == name
    assert distinct(name, [name, f"{name}_2"]) == f"{name}_3"


@pytest.mark.parametrize(
    ("text", "value"),
    [("12", 12), ("-3", -3), ("", None), (None, None), ("1_000", 1000), ("9" * 30, None), ("1.5", None), ("٣", 3),
     (str(1 << 64), None), (str((1 << 64) - 1), (1 << 64) - 1)],
)  # fmt: skip
def test_a_number_is_at_most_64_bits(text: str | None, value: int | None) -> None:
    assert integer_of(text) == value


def test_a_machine_at_rest_is_not_held_up_by_a_sensor_that_hangs(machine: Any, bench: Any, clock: ManualClock) -> None:
    """A window closes while a sensor is being read: it goes without the host, whose counts come with the next."""
    host = Host(bench(budgets={"memory": 1e9}).monitor.config, clock, Tree(machine("pi4").root))
    asked, answer = threading.Event(), threading.Event()

    class Hanging:
        every_ns = 0

        def sample(self, now_ns: int, elapsed_ns: int | None, board: Any) -> None:
            asked.set()
            assert answer.wait(30)

        def emit(self, points: Points) -> None:
            return None

    host.turn(dict)
    host._slots.append(type(host._slots[0])(Hanging()))
    clock.advance(SECOND)
    thread = threading.Thread(target=host.turn, args=(dict,))
    thread.start()
    assert asked.wait(30)
    during = Points()
    host.emit(during)
    answer.set()
    thread.join()
    assert during.count == 0
    after = Points()
    host.emit(after)
    assert [value for _, value in after.by_metric["edge.budget.time"]] == [1.0]


def test_windows_in_which_nothing_was_recorded_leave_the_host_to_the_last(bench: Any, machine: Any) -> None:
    world = bench(budgets={"memory": 1e9})
    machine("pi4").attach(world)
    ticks(world, 1)
    world.clock.advance(299 * SECOND)
    assert world.monitor.step() == 5
    ((_, kept),) = world.named("edge.budget.time")
    assert (kept.as_double, kept.time_unix_nano - kept.start_time_unix_nano) == (299.0, 60 * SECOND)


def test_a_forked_child_tells_of_itself_alone(bench: Any, machine: Any, clock: ManualClock) -> None:
    host = Host(bench(budgets={"cpu": 1}).monitor.config, clock, Tree(machine("laptop").root), machine=False)
    for _ in range(3):
        host.turn(dict)
        clock.advance(SECOND)
    points = Points()
    host.emit(points)
    assert {name.partition(".")[0] for name in points.by_metric} == {"process", "edge"}
    assert {name for name in points.by_metric if name.startswith("edge")} == {
        "edge.process.memory.peak",
        "edge.budget.time",
    }


def test_a_real_process_on_a_real_machine_tells_of_itself(collector: Any, tmp_path: Path) -> None:
    """No manual clock, no recorded tree: the background thread reads this machine and a window arrives over HTTP."""
    code = f"""
import time
from device_sdk import Monitor
arguments = {{"endpoint": {collector.url!r}, "state_dir": {str(tmp_path / "s")!r}, "window_s": 0.5}}
with Monitor(**arguments, budgets={{"cpu": 64}}) as monitor:
    ends = time.monotonic() + 2.5
    while time.monotonic() < ends:
        with monitor.measure("m"):
            time.sleep(0.05)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    sent = points(collector.metrics())
    names = {name for name, _, _ in sent}
    assert names >= {"process.memory.usage", "edge.process.memory.peak", "process.uptime", "edge.budget.time"}
    if Path("/proc/stat").exists():
        assert names >= {"system.cpu.time", "system.memory.limit", "system.filesystem.usage"}
    assert not [name for name, _, _ in sent if BY_NAME[name].reserved]
    assert not [at for name, at, _ in sent if name == "edge.privacy.refused"]
    kept = sum(point.as_double for name, _, point in sent if name == "edge.budget.time")
    assert 0.9 <= kept <= 5.0


@pytest.mark.parametrize(
    ("budgets", "said"),
    [
        ({"cpus": 1}, "did you mean 'cpu'"),
        ({"cpu": 0}, "cpu=0: write a finite number above 0"),
        ({"cpu": -1}, "above 0"),
        ({"cpu": float("nan")}, "above 0"),
        ({"cpu": float("inf")}, "above 0"),
        ({"cpu": True}, "cpu=True"),
        ({"cpu": "half"}, "cpu='half'"),
        ({"cpu": None}, "cpu=None"),
        ({"cpu": 10**400}, "above 0"),
        ({1: 1}, "no budget is called 1"),
        ([("cpu", 1)], "give a mapping"),
        ("cpu=1", "give a mapping"),
    ],
)
def test_a_budget_that_cannot_work_is_named_with_its_cure(budgets: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        resolve(budgets=budgets, environ={})


def test_budgets_come_from_the_environment_too_and_the_argument_wins() -> None:
    environ = {"FLEETPULSE_DEVICE_BUDGETS": "cpu=0.5, latency=0.1"}
    assert dict(resolve(environ=environ).budgets) == {"cpu": 0.5, "latency": 0.1}
    assert dict(resolve(environ=environ, budgets={"power": 5}).budgets) == {"power": 5.0}
    assert resolve(environ={}).budgets == ()
    with pytest.raises(ConfigError, match="write a finite number above 0"):
        resolve(environ={"FLEETPULSE_DEVICE_BUDGETS": "cpu=lots"})


def test_doctor_says_what_the_machine_tells_and_what_it_refuses(
    machine: Any, tmp_path: Path, collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access
    refuse = lambda path, mode: not (mode == os.R_OK and "energy_uj" in str(path)) and real(path, mode)  # noqa: E731
    monkeypatch.setattr(os, "access", refuse)
    monkeypatch.setattr("device_sdk.host.tree.ROOT", str(machine("laptop").root))
    said: list[str] = []
    assert main(["doctor", "--endpoint", collector.url, "--state-dir", str(tmp_path / "s")], said.append) == 0
    host = [line for line in said if line.startswith("host")]
    assert "hw.battery.charge" in host[0]
    assert "sys/class/powercap/intel-rapl:0/energy_uj" in host[1]
    assert SECRET not in "\n".join(said)

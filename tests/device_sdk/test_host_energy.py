"""Power, energy and accelerators: meters that wrap, sleep and lie, and what is said of a model's energy."""

from __future__ import annotations

import ctypes
import os
import random
from pathlib import Path
from typing import Any

import pytest
from host_kit import MACHINES, Machine, summed, ticks, values
from sdk_kit import SECOND

from device_sdk.contract import attributes as a
from device_sdk.contract.attributes import EnergySource
from device_sdk.host.battery import BatteryReader
from device_sdk.host.energy import ACCURACY, IDLE_MIN, InferenceEnergy
from device_sdk.host.nvml import NvidiaReader
from device_sdk.host.rails import RailsReader
from device_sdk.host.reader import Board, Load, Metered
from device_sdk.host.tree import Tree
from device_sdk.points import AttributePairs, Points

RAPL = "sys/class/powercap/intel-rapl:0/energy_uj"
RAPL_RANGE_UJ = 262_143_328_850
BATTERY = "sys/class/power_supply/BAT0/"
MODEL: AttributePairs = ((a.MODEL_NAME, "m"), (a.MODEL_VERSION, "1"))


class Laptop:
    """A laptop whose package draws 5 W at rest, and a program that infers on it, second by second."""

    def __init__(self, world: Any, machine: Machine) -> None:
        self.world, self.machine = world, machine
        self.counter_uj = int((machine.root / RAPL).read_text())
        machine.attach(world)

    def second(self, *runs: tuple[str, float], joules: float = 5.0) -> None:
        """Let a second pass in which models run so long each and the package spends so much."""
        left = SECOND
        for model, seconds in runs:
            with self.world.monitor.measure(model):
                self.world.clock.advance(int(seconds * SECOND))
            left -= int(seconds * SECOND)
        self.world.clock.advance(max(0, left))
        self.counter_uj = (self.counter_uj + round(joules * 1e6)) % RAPL_RANGE_UJ
        self.machine.set({RAPL: str(self.counter_uj)})
        self.world.monitor.step()

    def rest(self, seconds: int) -> None:
        for _ in range(seconds):
            self.second()

    def energy(self) -> dict[str, tuple[float, float]]:
        joules = summed(self.world, "edge.inference.energy", a.MODEL_NAME)
        error = summed(self.world, "edge.inference.energy_error", a.MODEL_NAME)
        return {model: (joules[model], error[model]) for model in joules}


@pytest.fixture
def laptop(bench: Any, machine: Any) -> Laptop:
    return Laptop(bench(), machine("laptop"))


class TestInferenceEnergy:
    def test_it_is_what_was_drawn_above_rest_with_source_and_half_width(self, laptop: Laptop) -> None:
        laptop.rest(30)  # the counter starts over in the first second
        for _ in range(10):
            laptop.second(("m", 0.2), joules=5.0 + 3.0)
            laptop.second()
        laptop.rest(70)
        assert laptop.energy() == {"m": (pytest.approx(30.0), pytest.approx(30 * 0.05 + 10 * 2 * 0.001 * 8))}
        ((attributes, _),) = laptop.world.named("edge.inference.energy")
        assert attributes[a.ENERGY_SOURCE] == "rapl"

    def test_models_share_by_their_time_in_runs(self, laptop: Laptop) -> None:
        laptop.rest(30)
        laptop.second(("small", 0.1), ("large", 0.3), joules=5.0 + 4.0)
        laptop.rest(29)
        assert {model: joules for model, (joules, _) in laptop.energy().items()} == {
            "small": pytest.approx(1.0),
            "large": pytest.approx(3.0),
        }

    def test_a_run_of_seconds_has_the_energy_of_the_seconds_it_began_in(self, laptop: Laptop) -> None:
        laptop.rest(30)
        with laptop.world.monitor.measure("slow"):
            for _ in range(4):
                laptop.second(joules=11.0)
            laptop.world.clock.advance(SECOND // 2)
        laptop.world.clock.advance(SECOND // 2)
        laptop.counter_uj += 8_000_000
        laptop.machine.set({RAPL: str(laptop.counter_uj % RAPL_RANGE_UJ)})
        laptop.world.monitor.step()
        laptop.rest(25)
        assert laptop.energy()["slow"][0] == pytest.approx(4 * 6.0 + 3.0)

    def test_the_truth_is_inside_the_half_width_when_rest_is_restless(self, laptop: Laptop) -> None:
        noise = random.Random(5)
        for _ in range(60):
            laptop.second(joules=5 + noise.uniform(-0.5, 0.5))
        truth = 0.0
        for _ in range(60):
            spent = noise.uniform(1.0, 3.0)
            truth += spent
            laptop.second(("m", 0.5), joules=5 + noise.uniform(-0.5, 0.5) + spent)
        joules, error = laptop.energy()["m"]
        # 60 intervals, idle noise of +-0.5 W: the idle quantiles alone allow some 0.4 J for each
        assert abs(joules - truth) < error
        assert error < 0.05 * truth + 60 * 0.55

    def test_nothing_is_said_without_enough_rest_to_compare_with(self, laptop: Laptop) -> None:
        laptop.rest(10)
        for _ in range(50):
            laptop.second(("m", 0.9), joules=20.0)
        assert laptop.energy() == {}

    def test_a_program_that_works_without_inferring_is_not_at_rest(self, laptop: Laptop) -> None:
        for second in range(60):
            stat = f"1 (a) S 1 1 1 0 -1 4 9 0 0 0 {1500 + 50 * second} 300 0 0 20 0 9 0 5000"
            laptop.machine.set({"proc/self/stat": stat})
            laptop.second(joules=12.0)
        laptop.second(("m", 0.5), joules=14.0)
        laptop.rest(59)
        assert laptop.energy() == {}

    def test_what_other_programs_used_meanwhile_widens_the_interval(self, laptop: Laptop) -> None:
        laptop.rest(30)
        laptop.machine.set({"proc/stat": "cpu  1080 10 500 90000 200 5 15 0 0 0"})
        laptop.machine.set({"proc/self/stat": "1 (a) S 1 1 1 0 -1 4 9 0 0 0 1520 300 0 0 20 0 9 0 5000"})
        laptop.second(("m", 0.2), joules=5.0 + 10.0)
        laptop.rest(29)
        joules, error = laptop.energy()["m"]
        assert joules == pytest.approx(10.0)
        assert error == pytest.approx(10.0 * (0.05 + 0.6 / 0.8) + 2 * 0.001 * 15)

    def test_noise_about_nothing_is_never_negative_and_cancels_over_windows(self, laptop: Laptop) -> None:
        laptop.rest(30)
        laptop.second(("m", 0.1), joules=3.0)
        laptop.rest(29)
        assert laptop.energy() == {}
        laptop.second(("m", 0.1), joules=5.0 + 6.0)
        laptop.rest(59)
        assert laptop.energy()["m"][0] == pytest.approx(4.0)

    def test_a_sleep_is_nobodys_energy(self, laptop: Laptop) -> None:
        laptop.rest(30)
        laptop.counter_uj = 7  # the counter was reset in it
        laptop.world.clock.suspend(3600 * SECOND)
        laptop.machine.set({RAPL: "7"})
        laptop.world.monitor.step()
        laptop.second(("m", 0.5), joules=900.0)
        laptop.second(("m", 0.5), joules=8.0)
        laptop.rest(50)
        assert laptop.energy()["m"][0] == pytest.approx(3.0)

    def test_a_run_across_a_sleep_claims_nothing_from_before_it(self, laptop: Laptop) -> None:
        laptop.rest(30)
        with laptop.world.monitor.measure("slow"):
            for _ in range(4):
                laptop.second(joules=11.0)
            laptop.world.clock.suspend(3600 * SECOND)
            laptop.second(joules=11.0)
            laptop.world.clock.advance(SECOND // 2)
        laptop.second(joules=5.0 + 6.0)
        laptop.rest(50)
        assert laptop.energy()["slow"][0] == pytest.approx(11.0 - 1.5 * 5.0)  # the one interval since, of 1.5 s

    def test_the_spread_of_rest_is_part_of_the_half_width(self, laptop: Laptop) -> None:
        for second in range(40):
            laptop.second(joules=4.0 if second % 2 else 6.0)
        laptop.second(("m", 0.1), joules=10.0)
        laptop.rest(19)
        joules, error = laptop.energy()["m"]
        assert joules in (pytest.approx(4.0), pytest.approx(6.0))
        assert error == pytest.approx(0.05 * joules + 1.0 + 2 * 0.001 * 10)

    def test_more_models_than_series_are_told_together(self, laptop: Laptop) -> None:
        laptop.rest(30)
        for number in range(12):
            laptop.second((f"m{number}", 0.1), joules=6.0)
        laptop.rest(18)
        told = laptop.energy()
        assert len(told) == 8
        assert told[a.OTHER][0] == pytest.approx(5.0)

    def test_every_source_has_its_accuracy(self) -> None:
        assert set(ACCURACY) == set(EnergySource)

    def test_the_estimator_keeps_a_fixed_amount(self) -> None:
        energy, board = InferenceEnergy(), Board(power_w=1.0, cpu_s=0.0, machine_cpu_s=0.0)
        for second in range(5000):
            board.metered = [Metered(1.0, 5.0 + 2 * (second % 50 == 0), 0.0, EnergySource.RAPL)]
            board.loads = {MODEL: Load(10**8, 10**8)} if second % 50 == 0 else {}
            energy.sample(second, SECOND, board)
        assert len(energy._idle) + len(energy._recent) < 150
        points = Points()
        energy.emit(points)
        ((_, joules),) = points.by_metric["edge.inference.energy"]
        assert joules == pytest.approx(2.0 * sum(second > IDLE_MIN + 16 for second in range(0, 5000, 50)))


class TestMeters:
    @pytest.mark.parametrize(
        ("name", "meter", "source"),
        [
            ("orin", ["vdd_in"], "ina3221"),
            ("laptop", ["package_0"], "rapl"),
            ("desktop", ["amdgpu_ppt"], "hwmon"),
            ("pi4", [], ""),
            ("container", [], ""),
        ],
    )
    def test_the_meter_is_what_stands_for_the_machine(
        self, machine: Any, name: str, meter: list[str], source: str
    ) -> None:
        rails = RailsReader(Tree(machine(name).root))
        assert [rail.name for rail in rails.meter] == meter
        assert {str(rail.source) for rail in rails.meter} <= {source}

    def test_ina_rails_without_an_input_rail_are_added_up(self, tmp_path: Path) -> None:
        xavier = {"sys/class/hwmon/hwmon0/name": "ina3221"}
        for number, label in enumerate(("GPU", "CPU", "SOC", "NC"), 1):
            at = "sys/class/hwmon/hwmon0/"
            xavier |= {
                f"{at}in{number}_label": label,
                f"{at}in{number}_input": "19000",
                f"{at}curr{number}_input": "100",
            }
        rails = RailsReader(Tree(Machine(tmp_path / "xavier", xavier).root))
        assert [rail.name for rail in rails.meter] == ["gpu", "cpu", "soc"]
        board = Board()
        rails.sample(0, None, board)
        assert board.power_w == pytest.approx(3 * 1.9)
        assert board.metered == []

    def test_a_jetsons_rails_are_told_in_watts_and_volts(self, bench: Any, machine: Any) -> None:
        world, orin = bench(), machine("orin")
        orin.attach(world)
        ticks(world, 60)
        assert values(world, "hw.power", "hw.id", "hw.type") == {
            ("vdd_in", "power_supply"): pytest.approx(4.66624),
            ("vdd_cpu_gpu_cv", "cpu"): pytest.approx(0.568064),
            ("vdd_soc", "power_supply"): pytest.approx(1.460736),
        }
        assert values(world, "hw.voltage", "hw.id")["vdd_in"] == 5.072

    def test_a_counter_wraps_and_resets_without_inventing_energy(self, bench: Any, machine: Any) -> None:
        world, laptop = bench(), machine("laptop")
        laptop.attach(world)
        ticks(world, 1)
        laptop.set({RAPL: str(262_143_000_000 + 5_000_000 - RAPL_RANGE_UJ)})  # over the top
        ticks(world, 1)
        for reading in ("garbage", "-5", "9" * 30, str(1 << 63), "0", "260000000000"):
            laptop.set({RAPL: reading})
            ticks(world, 1)
        laptop.set({RAPL: "260002000000"})
        ticks(world, 52)
        assert summed(world, "hw.energy", "hw.id")["package_0"] == pytest.approx(5.0 + 2.0)

    def test_each_window_has_its_own_energy(self, laptop: Laptop) -> None:
        laptop.rest(1)
        laptop.rest(179)
        told = [point.as_double for at, point in laptop.world.named("hw.energy") if at["hw.id"] == "package_0"]
        assert told == [pytest.approx(59 * 5.0), pytest.approx(300.0), pytest.approx(300.0)]

    def test_counters_that_only_root_may_read_are_left_out(
        self, bench: Any, machine: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.access
        monkeypatch.setattr(
            os, "access", lambda path, mode: not (mode == os.R_OK and "energy_uj" in str(path)) and real(path, mode)
        )
        laptop = machine("laptop")
        tree = Tree(laptop.root)
        assert RailsReader(tree).meter == []
        assert len(tree.refused) == 3
        world = bench()
        laptop.attach(world)
        ticks(world, 60)
        assert world.named("hw.energy") == []
        assert values(world, "hw.power", "hw.id") == {"bat0": 9.0}  # what remains is the battery


class TestBattery:
    def test_charge_time_left_voltage_and_power(self, bench: Any, machine: Any) -> None:
        world = bench()
        machine("laptop").attach(world)
        ticks(world, 60)
        assert values(world, "hw.battery.charge", "hw.id") == {"bat0": 0.81}
        assert values(world, "hw.battery.time_left", "hw.id") == {"bat0": 40.5 / 9 * 3600}
        assert values(world, "hw.voltage", "hw.id") == {"bat0": 11.832}
        assert values(world, "hw.power", "hw.id", "hw.type")[("bat0", "battery")] == 9.0

    def test_a_battery_that_tells_amperes_and_one_that_tells_nonsense(self, bench: Any, tmp_path: Path) -> None:
        files = {
            "type": "Battery", "status": "Discharging", "capacity": "300", "charge_now": "2000000",
            "charge_full": "4000000", "current_now": "-500000", "voltage_now": "3700000",
        }  # fmt: skip
        phone = Machine(
            tmp_path / "phone", {f"sys/class/power_supply/bms/{name}": text for name, text in files.items()}
        )
        world = bench()
        phone.attach(world)
        ticks(world, 60)
        assert values(world, "hw.battery.time_left", "hw.id") == {"bms": 4 * 3600.0}
        assert values(world, "hw.power", "hw.id") == {"bms": pytest.approx(1.85)}
        assert world.named("hw.battery.charge") == []
        phone.set({"sys/class/power_supply/bms/status": "Charging"})
        ticks(world, 60)
        assert len(world.named("hw.battery.time_left")) == 1

    def test_a_discharging_battery_meters_a_device_that_has_nothing_better(self, bench: Any, tmp_path: Path) -> None:
        at = "sys/class/power_supply/bms/"
        files = {at + "type": "Battery", at + "status": "Discharging", at + "power_now": "2000000"}
        phone = Machine(tmp_path / "phone", files | dict(MACHINES["container"]))
        world = bench(budgets={"power": 3})
        phone.attach(world)
        ticks(world, 400)
        for _ in range(3):
            phone.set({at + "power_now": "4000000"})
            for _ in range(20):
                with world.monitor.measure("m"):
                    world.clock.advance(SECOND // 2)
                world.clock.advance(SECOND // 2)
                world.monitor.step()
            phone.set({at + "power_now": "2000000"})
            ticks(world, 40)
        ticks(world, 60)
        (joules,) = summed(world, "edge.inference.energy", a.MODEL_NAME).values()
        (error,) = summed(world, "edge.inference.energy_error", a.MODEL_NAME).values()
        assert abs(joules - 3 * 20 * 2.0) < error  # 2 W more for three times 20 s, seen every ten seconds
        budget = summed(world, "edge.budget.time", a.BUDGET_STATE)
        assert budget["over"] == pytest.approx(60, abs=3 * 10)
        phone.set({at + "status": "Charging"})
        ticks(world, 120)
        assert world.monitor._engine.host.board.power_w is None

    def test_a_device_that_charges_one_of_two_batteries_is_not_metered(self, tmp_path: Path) -> None:
        at = "sys/class/power_supply/"
        files = {
            f"{at}BAT{n}/{key}": text for n in (0, 1) for key, text in (("type", "Battery"), ("power_now", "2000000"))
        }
        files |= {f"{at}BAT0/status": "Discharging", f"{at}BAT1/status": "Charging"}
        reader, board = BatteryReader(Tree(Machine(tmp_path / "two", files).root), meters=True), Board()
        reader.sample(0, None, board)
        assert board.power_w is None
        Machine(tmp_path / "two", {f"{at}BAT1/status": "Full"})
        reader.sample(1, SECOND, board)
        assert board.power_w == 2.0


class TestAccelerators:
    @pytest.mark.parametrize(
        ("name", "used"),
        [("rk3588", {"gpu": 0.12, "npu": 0.57}), ("orin", {"gpu": 0.0}), ("desktop", {"gpu": 0.07, "npu": 0.0})],
    )
    def test_use_is_read_from_each_makers_file(self, bench: Any, machine: Any, name: str, used: Any) -> None:
        world = bench()
        machine(name).attach(world)
        ticks(world, 60)
        assert values(world, "hw.gpu.utilization", "hw.id") == pytest.approx(used)

    def test_use_is_the_mean_over_the_window_and_busy_time_a_difference(self, bench: Any, machine: Any) -> None:
        world, desktop = bench(), machine("desktop")
        desktop.attach(world)
        busy, percent = "sys/class/accel/accel0/device/npu_busy_time_us", "sys/class/drm/card0/device/gpu_busy_percent"
        for second in range(60):
            desktop.set({percent: "100" if second % 2 else "0"})
            desktop.add(busy, 250_000)
            ticks(world, 1)
        found = values(world, "hw.gpu.utilization", "hw.id")
        assert found == {"gpu": pytest.approx(0.5), "npu": pytest.approx(0.25)}
        assert values(world, "hw.gpu.memory.usage", "hw.id") == {"gpu": 536870912, "npu": 2097152}

    @pytest.mark.parametrize("reading", ["101", "-1", "", "x@y", "@", "NaN%"])
    def test_nonsense_is_not_told(self, bench: Any, machine: Any, reading: str) -> None:
        world, rock = bench(), machine("rk3588")
        rock.set({"sys/class/devfreq/fb000000.gpu/load": reading, "sys/class/devfreq/fdab0000.npu/load": reading})
        rock.attach(world)
        ticks(world, 60)
        assert world.named("hw.gpu.utilization") == []


class FakeNvml:
    """Stands in for NVIDIA's library, which needs its hardware: same names, arguments and return codes."""

    def __init__(self) -> None:
        self.watts_mw, self.energy_mj, self.reasons, self.calls = 30_000, 1_000_000, 0, 0

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, handle: Any) -> int:  # noqa: N802
        handle._obj.value = index.value + 1
        return 0

    def nvmlDeviceGetUtilizationRates(self, handle: Any, rates: Any) -> int:  # noqa: N802
        self.calls += 1
        rates._obj.gpu = 40 if handle.value == 1 else 80
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:  # noqa: N802
        memory._obj.used = 1 << 30
        return 0

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: Any, celsius: Any) -> int:  # noqa: N802
        celsius._obj.value = 60 + handle.value
        return 0

    def nvmlDeviceGetPowerUsage(self, handle: Any, milliwatts: Any) -> int:  # noqa: N802
        milliwatts._obj.value = self.watts_mw
        return 0 if handle.value == 1 else 3  # not supported

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, millijoules: Any) -> int:  # noqa: N802
        millijoules._obj.value = self.energy_mj
        return 0 if handle.value == 1 else 3

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any, reasons: Any) -> int:  # noqa: N802
        reasons._obj.value = self.reasons
        return 0


class TestNvidia:
    driver = {  # noqa: RUF012
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.124.06",
        "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: NVIDIA RTX",
        "sys/bus/pci/devices/0000:01:00.0/power/control": "on",
        "sys/bus/pci/devices/0000:01:00.0/power/runtime_status": "active",
    }

    def test_gpus_are_told_apart_in_use_and_together_in_power(self, tmp_path: Path) -> None:
        library = FakeNvml()
        reader = NvidiaReader(Tree(Machine(tmp_path / "pc", self.driver).root), library)
        board = Board(temperature_c=50.0)
        reader.sample(0, None, board)
        library.energy_mj += 90_000
        library.reasons = 0x4 | 0x20
        reader.sample(SECOND, SECOND, board)
        points = Points()
        reader.emit(points)
        told = {(name, dict(at)["hw.id"]): value for name, found in points.by_metric.items() for at, value in found}
        assert told == {
            ("hw.gpu.utilization", "nvidia_0"): 0.4,
            ("hw.gpu.utilization", "nvidia_1"): 0.8,
            ("hw.gpu.memory.usage", "nvidia_0"): 1 << 30,
            ("hw.gpu.memory.usage", "nvidia_1"): 1 << 30,
            ("hw.temperature", "nvidia"): 62.0,
            ("edge.host.temperature.peak", "nvidia"): 62.0,
            ("hw.power", "nvidia"): 30.0,
            ("hw.energy", "nvidia"): 90.0,
        }
        assert board.temperature_c == 62.0
        assert {str(cause) for cause in board.accelerator_throttles} == {"power", "thermal"}
        library.reasons = 0x8
        reader.sample(2 * SECOND, SECOND, board)
        assert {str(cause) for cause in board.accelerator_throttles} == {"other"}

    def test_a_gpu_that_sleeps_is_left_asleep(self, tmp_path: Path) -> None:
        pc = Machine(tmp_path / "pc", self.driver)
        pc.set({"sys/bus/pci/devices/0000:01:00.0/power/control": "auto"})
        pc.set({"sys/bus/pci/devices/0000:01:00.0/power/runtime_status": "suspended"})
        library = FakeNvml()
        reader = NvidiaReader(Tree(pc.root), library)
        assert reader.every_ns == 10 * SECOND
        reader.sample(0, None, Board())
        assert library.calls == 0
        pc.set({"sys/bus/pci/devices/0000:01:00.0/power/runtime_status": "active"})
        reader.sample(SECOND, SECOND, Board())
        assert library.calls == 2
        reader.emit(Points())
        pc.set({"sys/bus/pci/devices/0000:01:00.0/power/runtime_status": "suspended"})
        reader.sample(2 * SECOND, SECOND, Board())
        told = Points()
        reader.emit(told)  # how warm it was before is not how warm it is
        assert not {"hw.temperature", "hw.power", "hw.gpu.memory.usage"} & set(told.by_metric)

    @pytest.mark.parametrize("library", [object(), None])
    def test_a_driver_without_its_library_and_a_library_of_others_say_nothing(
        self, tmp_path: Path, library: Any
    ) -> None:
        reader = NvidiaReader(Tree(Machine(tmp_path / "pc", self.driver).root), library)
        reader.sample(0, None, Board())
        points = Points()
        reader.emit(points)
        assert points.count == 0

    def test_throttled_seconds_of_a_gpu_are_counted(self, bench: Any, tmp_path: Path, monkeypatch: Any) -> None:
        library = FakeNvml()
        monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
        world = bench()
        Machine(tmp_path / "pc", self.driver).attach(world)
        ticks(world, 10)
        library.reasons = 0x80
        ticks(world, 10)
        library.reasons = 0x1  # idle is no throttling
        ticks(world, 40)
        assert summed(world, "edge.throttle.time", a.THROTTLE_CAUSE) == {"power": 10.0}

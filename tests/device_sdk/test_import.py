"""What an import brings along, and the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import device_sdk
from device_sdk import Monitor
from device_sdk.__main__ import main
from device_sdk.cli.doctor import doctor
from device_sdk.config import resolve
from device_sdk.contract.attributes import ClockSource
from device_sdk.testing import ManualClock, MemorySink, connect

HEAVY = ("onnxruntime", "opentelemetry", "google.protobuf", "requests", "pydantic", "duckdb", "pyarrow", "fastapi")


def loaded_after(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(out.stdout.split())


def test_the_import_brings_neither_runtime_nor_opentelemetry_nor_server() -> None:
    loaded = loaded_after("import device_sdk")
    assert not {name for name in loaded if name.startswith(HEAVY)}
    assert not {name for name in loaded if name.split(".")[0] in {"collector", "analytics", "alerts", "fleetpulse"}}


def test_a_system_without_boottime_boot_id_and_fcntl_can_import_and_observe(tmp_path: Path) -> None:
    code = f"""
import sys, time
if hasattr(time, "CLOCK_BOOTTIME"): del time.CLOCK_BOOTTIME
from pathlib import Path
import device_sdk.clock, device_sdk.host.tree
device_sdk.clock._BOOT_ID = Path("/nowhere/boot_id")
device_sdk.host.tree.ROOT = "/nowhere"
sys.platform = "darwin"
from device_sdk import Monitor
m = Monitor(endpoint="http://127.0.0.1:9", state_dir={str(tmp_path / "s")!r}, window_s=3600)
with m.measure("x"): pass
assert m.flush(0.1) is False
m.close(0)
"""
    assert "google.protobuf" not in loaded_after(code)  # windows are written without it


def test_there_are_at_most_ten_public_names_and_all_exist() -> None:
    assert len(device_sdk.__all__) <= 10
    assert all(hasattr(device_sdk, name) for name in device_sdk.__all__)


def test_doctor_is_content_with_a_collector_and_a_writable_directory(collector: Any, tmp_path: Path) -> None:
    said: list[str] = []
    assert main(["doctor", "--endpoint", collector.url, "--state-dir", str(tmp_path / "s")], said.append) == 0
    assert all(" ok " in line or line.startswith("clock      note") for line in said)  # nobody may set this clock


def test_doctor_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=x")
    said: list[str] = []
    arguments = ["doctor", "--endpoint", "http://127.0.0.1:9", "--state-dir", str(tmp_path / "file" / "s")]
    assert main(arguments, said.append) == 1
    text = "\n".join(said)
    assert "make state_dir= a writable directory" in text
    assert "start the collector" in text
    assert "not sent: host.name" in text
    monkeypatch.setenv("FLEETPULSE_DEVICE_SPOOL", "disk")
    assert main(["doctor"], said.append) == 1
    assert "known are durable, memory" in said[-1]


def test_doctor_recognises_a_refusal(collector: Any, tmp_path: Path) -> None:
    said: list[str] = []
    collector.answers = [(401, {}, b"")]
    assert main(["doctor", "--endpoint", collector.url, "--state-dir", str(tmp_path)], said.append) == 1
    assert "check token=" in said[-1]


def test_spool_counts_what_waits(bench: Any, tmp_path: Path) -> None:
    world = bench(spool="durable")
    world.window()
    world.window()
    said: list[str] = []
    assert main(["spool", "--state-dir", str(tmp_path / "state")], said.append) == 0
    assert "2 windows and 1 events wait" in said[0]
    segment = max((tmp_path / "state" / "spool").glob("*.open"))
    data = bytearray(segment.read_bytes())
    data[100] ^= 1  # in the first of two records
    segment.write_bytes(data)
    assert main(["spool", "--state-dir", str(tmp_path / "state")], said.append) == 1
    assert "1 damaged" in said[-1]


def test_wrong_usage_exits_with_two() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["docter"])
    assert ended.value.code == 2


def doctors_words(collector: Any, path: Path, clock: ManualClock | None = None) -> tuple[int, str]:
    said: list[str] = []
    code = doctor(resolve(endpoint=collector.url, state_dir=path), said.append, clock)
    return code, "\n".join(said)


def test_doctor_names_a_clock_that_cannot_be_right(collector: Any, tmp_path: Path) -> None:
    code, text = doctors_words(collector, tmp_path / "s", ManualClock(86_400_000_000_000))
    assert code == 1
    assert "clock      BAD   it is not 1970-01-02" in text
    code, text = doctors_words(
        collector, tmp_path / "s", ManualClock(1_800_000_000_000_000_000, source=ClockSource.NONE)
    )
    assert code == 0
    assert "nobody sets it" in text


def test_doctor_compares_the_spools_budget_with_the_disk(
    collector: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "disk       ok" in doctors_words(collector, tmp_path / "s")[1]
    monkeypatch.setenv("FLEETPULSE_DEVICE_SPOOL_BYTES", "1e18")
    code, text = doctors_words(collector, tmp_path / "s")
    assert code == 1
    assert "set FLEETPULSE_DEVICE_SPOOL_BYTES" in text


def test_doctor_names_runtimes_and_open_directories(collector: Any, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)
    text = doctors_words(collector, tmp_path / "s")[1]
    assert "is open to others (0755): chmod 700" in text
    assert "runtime    ok    onnxruntime 1." in text


def test_the_sink_reads_points_and_events_for_a_users_test(tmp_path: Path) -> None:
    clock, sink = ManualClock(1_800_000_000_000_000_000), MemorySink()
    monitor = Monitor(state_dir=tmp_path / "s", clock=clock)
    connect(monitor, sink)
    with monitor.measure("ocr", "2"):
        clock.advance(5_000_000)
    clock.advance(60_000_000_000)
    monitor.step()
    monitor.flush()
    monitor.close()
    ((attributes, point),) = sink.points("edge.inference.duration")
    assert (attributes["edge.model.name"], point.count, point.sum) == ("ocr", 1, 0.005)
    assert [name for name, _ in sink.events()][:1] == ["session.start"]

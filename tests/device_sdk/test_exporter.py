"""The spool as an OpenTelemetry exporter, alone and behind ``monitor.meter``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from sdk_kit import SECOND, START_NS, attributes_of

from device_sdk.errors import ConfigError, StateDirError
from device_sdk.exporter import SpoolBuffer, SpoolLogRecordExporter, SpoolMetricExporter

EXAMPLE = Path(__file__).parents[2] / "examples" / "opentelemetry_buffer.py"
AWAY = "http://127.0.0.1:9"


def readings(collector: Any, name: str) -> list[Any]:
    return [
        point
        for request in collector.metrics()
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.sum.data_points
    ]


def bodies(collector: Any) -> list[str]:
    return [
        record.body.string_value
        for request in collector.logs()
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


@pytest.fixture
def program() -> Any:
    providers: list[Any] = []

    def make(buffer: SpoolBuffer) -> tuple[Any, Any]:
        reader = PeriodicExportingMetricReader(SpoolMetricExporter(buffer), export_interval_millis=float("inf"))
        meters, loggers = MeterProvider([reader]), LoggerProvider()
        loggers.add_log_record_processor(SimpleLogRecordProcessor(SpoolLogRecordExporter(buffer)))
        providers.extend((meters, loggers))
        return meters, loggers

    yield make
    for provider in providers:
        provider.shutdown()


def run_example(endpoint: str, directory: Path) -> str:
    command = [sys.executable, str(EXAMPLE), "--endpoint", endpoint, "--directory", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_the_example_keeps_what_the_collector_could_not_take_for_the_next_run(collector: Any, tmp_path: Path) -> None:
    directory = tmp_path / "buffer"
    assert "wait in" in run_example(AWAY, directory)
    assert run_example(collector.url, directory) == "all sent\n"
    assert [point.as_int for point in readings(collector, "example.jobs")] == [10, 10]
    assert sorted(bodies(collector)) == sorted([f"job {number} is done" for number in range(10)] * 2)


def test_every_record_outlives_the_process_that_exported_it(collector: Any, tmp_path: Path) -> None:
    code = f"""
import os, signal
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from device_sdk.exporter import SpoolBuffer, SpoolLogRecordExporter
loggers = LoggerProvider()
loggers.add_log_record_processor(SimpleLogRecordProcessor(SpoolLogRecordExporter(
    SpoolBuffer({str(tmp_path / "b")!r}, endpoint={AWAY!r}))))
for number in range(20):
    loggers.get_logger("x").emit(LogRecord(body=str(number)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -9
    buffer = SpoolBuffer(tmp_path / "b", endpoint=collector.url)
    assert buffer.flush(20)
    buffer.close()
    assert sorted(bodies(collector), key=int) == [str(number) for number in range(20)]


def test_cumulative_readings_of_a_foreign_program_are_never_merged(
    collector: Any, tmp_path: Path, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETPULSE_DEVICE_SPOOL_BYTES", "65536")
    buffer = SpoolBuffer(tmp_path / "b", endpoint=AWAY)
    meters, _ = program(buffer)
    counter = meters.get_meter("m").create_counter("n", description="x" * 2000)
    for _ in range(120):
        counter.add(1)
        meters.force_flush(50)
    assert buffer.usage()[1] <= 65536
    buffer.close(0)
    again = SpoolBuffer(tmp_path / "b", endpoint=collector.url)
    lost = sum(again.losses().values())
    assert again.flush(20)
    again.close()
    arrived = [request for request in collector.metrics() if request.resource_metrics]
    requests = sum(len(request.resource_metrics) for request in arrived)
    assert lost > 0
    assert requests + lost == 120
    assert all(point.start_time_unix_nano < point.time_unix_nano for point in readings(collector, "n"))


def test_a_directory_has_one_buffer_and_settings_are_checked(tmp_path: Path) -> None:
    buffer = SpoolBuffer(tmp_path / "b", endpoint=AWAY)
    with pytest.raises(StateDirError, match="held by"):
        SpoolBuffer(tmp_path / "b", endpoint=AWAY)
    buffer.close(0)
    SpoolBuffer(tmp_path / "b", endpoint=AWAY).close(0)
    with pytest.raises(ConfigError, match="http"):
        SpoolBuffer(tmp_path / "c", endpoint="ftp://nowhere")


def test_a_directory_that_cannot_be_used_costs_only_the_disk(collector: Any, tmp_path: Path, program: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    buffer = SpoolBuffer(tmp_path / "file" / "b", endpoint=collector.url)
    _, loggers = program(buffer)
    loggers.get_logger("x").emit(LogRecord(severity_number=SeverityNumber.INFO, body="kept"))
    assert buffer.flush(10)
    buffer.close()
    assert bodies(collector) == ["kept"]


def test_after_close_an_export_says_that_it_failed(tmp_path: Path) -> None:
    buffer = SpoolBuffer(tmp_path / "b", endpoint=AWAY)
    buffer.close(0)
    assert buffer.close(0)
    assert not buffer.accept(0, b"")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_the_directory_to_its_parent(collector: Any, tmp_path: Path, program: Any) -> None:
    buffer = SpoolBuffer(tmp_path / "b", endpoint=collector.url)
    _, loggers = program(buffer)
    logger = loggers.get_logger("x")
    child = os.fork()
    if child == 0:
        try:
            logger.emit(LogRecord(body="child"))
            ok = buffer.flush(20)
        finally:
            os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    logger.emit(LogRecord(body="parent"))
    assert buffer.flush(20)
    buffer.close()
    assert sorted(bodies(collector)) == ["child", "parent"]


def test_the_meter_rides_the_spool_under_the_monitors_identity_and_clock(bench: Any) -> None:
    world = bench()
    counter = world.monitor.meter.create_counter("app.jobs", "{job}")
    level = world.monitor.meter.create_up_down_counter("app.queue")
    for number in range(3):
        counter.add(number + 1)
        level.add(1)
        world.window()
    assert world.monitor.flush(5)
    found = []
    for request in world.sink.metrics():
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name.startswith("app."):
                        identity = attributes_of(resource.resource.attributes)
                        found += [(metric.name, point, identity) for point in metric.sum.data_points]
    jobs = [point for name, point, _ in found if name == "app.jobs"]
    assert [point.as_int for point in jobs] == [1, 2, 3]  # deltas
    assert [point.as_int for name, point, _ in found if name == "app.queue"] == [1, 2, 3]  # a level
    assert [point.time_unix_nano for point in jobs] == [START_NS + 60 * SECOND * n for n in (1, 2, 3)]
    assert [point.start_time_unix_nano for point in jobs[1:]] == [point.time_unix_nano for point in jobs[:-1]]
    windows = [r.resource for q in world.sink.metrics() for r in q.resource_metrics]
    assert {i["service.instance.id"] for _, _, i in found} == {
        attributes_of(w.attributes)["service.instance.id"] for w in windows
    }


def test_a_disabled_monitor_has_a_meter_that_does_nothing(bench: Any) -> None:
    world = bench
    from device_sdk import Monitor

    monitor = Monitor(enabled=False)
    monitor.meter.create_counter("x").add(1)
    monitor.close()
    assert world is not None


def test_a_callback_that_raises_reaches_nobody(bench: Any) -> None:
    world = bench()

    def broken(_options: Any) -> Any:
        raise RuntimeError("the program's own fault")

    world.monitor.meter.create_observable_gauge("app.broken", [broken])
    world.monitor.meter.create_counter("app.fine").add(1)
    world.window()
    assert "app.fine" in {
        m.name
        for q in world.sent() and world.sink.metrics()
        for r in q.resource_metrics
        for s in r.scope_metrics
        for m in s.metrics
    }

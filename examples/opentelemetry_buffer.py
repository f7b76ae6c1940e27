"""A plain OpenTelemetry program that keeps its metrics and logs through an outage of the collector.

Nothing of FleetPulse but the exporters is used: instruments, readers, loggers and processors are OpenTelemetry's own.
The program counts ten jobs, logs each, and ends; what the collector could not take stays on disk for the next run.

Run: ``python examples/opentelemetry_buffer.py --endpoint http://localhost:4318 --directory ./buffer``
"""

from __future__ import annotations

import argparse

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from device_sdk.exporter import SpoolBuffer, SpoolLogRecordExporter, SpoolMetricExporter

JOBS = 10


def main() -> None:
    """Count and log some jobs, whether or not somebody listens."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--endpoint", default="http://localhost:4318")
    parser.add_argument("--directory", default="./buffer")
    chosen = parser.parse_args()

    buffer = SpoolBuffer(chosen.directory, endpoint=chosen.endpoint)
    resource = Resource.create({"service.name": "plain-opentelemetry"})
    meters = MeterProvider(
        resource=resource, metric_readers=[PeriodicExportingMetricReader(SpoolMetricExporter(buffer))]
    )
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(BatchLogRecordProcessor(SpoolLogRecordExporter(buffer)))

    jobs = meters.get_meter("example").create_counter("example.jobs", "{job}")
    logger = loggers.get_logger("example")
    for number in range(JOBS):
        jobs.add(1)
        logger.emit(LogRecord(severity_number=SeverityNumber.INFO, body=f"job {number} is done"))

    meters.shutdown()
    loggers.shutdown()
    sent = buffer.close(timeout_s=2)
    _memory, disk = buffer.usage()
    print("all sent" if sent else f"the collector is away: {disk} bytes wait in {chosen.directory} for the next run")


if __name__ == "__main__":
    main()

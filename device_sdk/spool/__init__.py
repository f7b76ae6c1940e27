"""Store and forward: a bounded, crash-safe queue of encoded requests: memory first, disk when that fills up."""

from device_sdk.spool.book import Book
from device_sdk.spool.files import SEGMENT_BYTES
from device_sdk.spool.format import LOGS, MAGIC, METRICS, Priority, Scan, scan
from device_sdk.spool.records import Record, Reports
from device_sdk.spool.report import SpoolReport
from device_sdk.spool.store import Spool

__all__ = [
    "LOGS",
    "MAGIC",
    "METRICS",
    "SEGMENT_BYTES",
    "Book",
    "Priority",
    "Record",
    "Reports",
    "Scan",
    "Spool",
    "SpoolReport",
    "scan",
]

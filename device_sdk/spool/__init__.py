"""Store and forward: a bounded, crash-safe queue of encoded requests: memory first, disk when that fills up."""

from device_sdk.spool.store import LOGS, MAGIC, METRICS, SEGMENT_BYTES, Record, Spool, scan_segment

__all__ = ["LOGS", "MAGIC", "METRICS", "SEGMENT_BYTES", "Record", "Spool", "scan_segment"]

"""The two HTTP applications: the device port's and the operator port's."""

from __future__ import annotations

from collector.api.ingest_app import create_ingest_app
from collector.api.operator_app import create_operator_app

__all__ = ["create_ingest_app", "create_operator_app"]

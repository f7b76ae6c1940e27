"""The store process: one writer, the query API, the schedule and the alerts, wired together."""

from __future__ import annotations

import base64
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from alerts.options import AlertOptions, WebhookOptions
from alerts.service import AlertService
from analytics.drift_read import pin_field
from analytics.options import AnalyticsOptions
from analytics.scheduler import Scheduler
from collector.api.operator_app import create_operator_app
from collector.api.options import ApiOptions
from collector.storage import open_store
from collector.storage.writer import Drain
from fleetpulse.runtime import LOCAL_TOKEN_VARIABLE
from fleetpulse.settings import Settings

logger = logging.getLogger(__name__)


BASELINE_TABLES: Final = frozenset({"baselines", "baseline_devices", "baseline_bins"})


def _alert_options(settings: Settings, config: Path) -> AlertOptions:
    webhooks = (WebhookOptions(settings.webhook_url, settings.webhook_secret),) if settings.webhook_url else ()
    return AlertOptions(
        rules_dir=config / "rules",
        dashboard_url=settings.public_url,
        webhooks=webhooks,
        apprise_urls=tuple(settings.apprise_urls.split()),
        notify_history=settings.notify_history,
    )


class StoreProcess:
    """Everything that lives beside the one open database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        config = Path(settings.config)
        self.store = open_store(settings.data_dir)
        self._drain = Drain(self.store, settings.data_dir / "segments")
        self._alerts = AlertService(self.store, _alert_options(settings, config), clock_ns=time.time_ns)
        self._scheduler = Scheduler(
            self.store,
            AnalyticsOptions(config_dir=config, public_url=settings.public_url, tick_s=settings.judge_interval_s),
            clock_ns=time.time_ns,
            after=(self._alerts.evaluate,),
        )
        self.app = create_operator_app(
            self.store,
            options=ApiOptions(
                data_dir=settings.data_dir,
                bind_host=settings.api_host,
                tokens_path=settings.tokens_path,
                local_token=os.environ.get(LOCAL_TOKEN_VARIABLE, ""),
                public_url=settings.public_url,
            ),
            admin=self._admin_actions(),
            metrics=self._metrics,
        )

    def start(self) -> None:
        """Start taking in segments and judging."""
        self._drain.start()
        self._scheduler.start()

    def stop(self) -> None:
        """Stop judging, take in what is on disk, close the database."""
        self._scheduler.stop()
        self._drain.stop()
        self.store.close()

    def _admin_actions(self) -> Mapping[str, Any]:
        return {
            "jobs/run": self._run_jobs,
            "drain": self._drain_now,
            "baselines/add": self._add_baseline,
            "baselines/field": self._accept_field,
        }

    def _run_jobs(self, body: dict[str, Any]) -> dict[str, Any]:
        return dict(self._scheduler.run_until(body.get("until_ns")))

    def _drain_now(self, body: dict[str, Any]) -> dict[str, Any]:
        del body
        stored = self._drain.drain_once()
        return {"segments": stored.segments, "points": stored.points, "logs": stored.logs}

    def _add_baseline(self, body: dict[str, Any]) -> dict[str, Any]:
        tables = body.get("tables")
        if not isinstance(tables, dict) or not set(tables) <= BASELINE_TABLES:
            raise ValueError(f"tables: expected base64 Arrow streams of {', '.join(sorted(BASELINE_TABLES))}")
        decoded = {name: pa.ipc.open_stream(base64.b64decode(text)).read_all() for name, text in tables.items()}
        for name, rows in decoded.items():
            self.store.append(name, rows)
        return {name: rows.num_rows for name, rows in decoded.items()}

    def _accept_field(self, body: dict[str, Any]) -> dict[str, Any]:
        key = (str(body["model"]), str(body["version"]))
        observed = (key[0], str(body.get("observed_version") or key[1]))
        start_ns, end_ns = int(body["start_ns"]), int(body["end_ns"])
        known = {(row["model"], row["version"]): row for row in self.store.query("models").to_pylist()}
        devices = int(known.get(observed, {}).get("devices", 0))
        head = pin_field(self.store, key, start_ns, end_ns, devices=devices, now_ns=time.time_ns(), observed=observed)
        if head is None:
            raise ValueError(
                f"no signal of {observed[0]} {observed[1]} between {start_ns} and {end_ns}; widen the window"
            )
        return {"baseline_id": head.baseline_id}

    def _metrics(self) -> Mapping[str, Any]:
        return {}

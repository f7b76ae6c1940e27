"""The store process: one writer, the query API, the schedule and the alerts, wired together."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alerts.options import AlertOptions, WebhookOptions
from alerts.service import AlertService
from analytics.baseline_admin import baselines_handler
from analytics.options import AnalyticsOptions
from analytics.scheduler import Scheduler
from collector.api.device_settings import SettingsDesk
from collector.api.operator_app import create_operator_app
from collector.api.options import ApiOptions
from collector.errors import ConfigError
from collector.storage import open_store
from collector.storage.writer import Drain
from fleetpulse.runtime import LOCAL_READ_TOKEN_VARIABLE, LOCAL_TOKEN_VARIABLE
from fleetpulse.settings import Settings

logger = logging.getLogger(__name__)


def _alert_options(settings: Settings, config: Path) -> AlertOptions:
    webhooks = (WebhookOptions(settings.webhook_url, settings.webhook_secret),) if settings.webhook_url else ()
    return AlertOptions(
        rules_dir=config / "rules",
        dashboard_url=settings.public_url,
        webhooks=webhooks,
        apprise_urls=tuple(settings.apprise_urls.split()),
        notify_history=settings.notify_history,
        runbooks_url=settings.runbooks_url,
    )


class StoreProcess:
    """Everything that lives beside the one open database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        if settings.store:
            raise ConfigError(f"store = {settings.store!r}: this version keeps data in DuckDB only; leave it empty")
        config = Path(settings.config)
        self.store = open_store(settings.data_dir, raw_retention_days=settings.raw_retention_days)
        self._drain = Drain(self.store, settings.data_dir / "segments")
        self._alerts = AlertService(self.store, _alert_options(settings, config), clock_ns=time.time_ns)
        self._scheduler = Scheduler(
            self.store,
            AnalyticsOptions(
                config_dir=config,
                tick_s=settings.judge_interval_s,
                compute_child=True,
            ),
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
                local_read_token=os.environ.get(LOCAL_READ_TOKEN_VARIABLE, ""),
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
        self._alerts.close()
        self._drain.stop()
        self.store.close()

    def _admin_actions(self) -> Mapping[str, Any]:
        return {
            "jobs/run": self._run_jobs,
            "drain": self._drain_now,
            "baselines": baselines_handler(self.store, time.time_ns),
            **SettingsDesk(self.store, self._settings.data_dir / "settings.json", time.time_ns).actions(),
        }

    def _run_jobs(self, body: dict[str, Any]) -> dict[str, Any]:
        return dict(self._scheduler.run_until(body.get("until_ns")))

    def _drain_now(self, body: dict[str, Any]) -> dict[str, Any]:
        del body
        stored = self._drain.drain_once()
        return {"segments": stored.segments, "points": stored.points, "logs": stored.logs}

    def _metrics(self) -> Mapping[str, Any]:
        judged = dataclasses.asdict(self._scheduler.counters)
        return {
            **self._drain.metrics(),
            **self._alerts.metrics(),
            **{f"judgement_{name}_total": count for name, count in judged.items()},
        }

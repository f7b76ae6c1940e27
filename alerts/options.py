"""The settings of alerting, composed by ``fleetpulse.settings``; each span names its unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from collector.errors import ConfigError


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """One receiver of signed JSON notices. The secret never shows in ``repr``, logs or the ledger.

    Raises ``ConfigError`` for an address that is not http(s) or a missing secret.
    """

    url: str = field(repr=False)
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"webhook_url with scheme {parts.scheme!r} is not an http(s) address; write https://...")
        if not self.secret:
            raise ConfigError(
                "webhook_secret is empty; receivers verify notices by it: set FLEETPULSE_WEBHOOK_SECRET or "
                "FLEETPULSE_WEBHOOK_SECRET_FILE"
            )


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """How alerts are judged and told.

    ``rules_dir`` holds rule files over the packaged ones (may be absent). ``apprise_urls`` are secrets.
    ``dashboard_url`` and ``runbooks_url`` are what links in notices begin with.
    Event times older than ``history_after_s`` of wall clock are recorded, not sent, unless ``notify_history``.
    A notice is tried ``send_attempts`` times in one call and in at most ``notice_rounds`` calls; all sending of one
    call ends after ``send_budget_s``.
    """

    rules_dir: Path | None = None
    dashboard_url: str = "http://127.0.0.1:8501"
    runbooks_url: str = ""
    """A site with NAME.md for each runbook; empty = the dashboard's own page."""
    webhooks: tuple[WebhookOptions, ...] = ()
    apprise_urls: tuple[str, ...] = field(default=(), repr=False)
    notify_history: bool = False
    history_after_s: float = 3600.0
    send_timeout_s: float = 5.0
    send_attempts: int = 3
    notice_rounds: int = 10
    send_budget_s: float = 30.0
    chunk_hours: int = 24

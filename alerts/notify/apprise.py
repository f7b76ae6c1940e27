"""Apprise URLs (chat, mail, pagers: one URL each). The URL is a secret: only scheme and a short hash are ever shown."""

from __future__ import annotations

import logging
from typing import Final

import apprise

from alerts.notify.base import Failed, Notice, Outcome, Retry, Sent, safe_label
from collector.errors import ConfigError

KINDS: Final = {"firing": {"page": apprise.NotifyType.FAILURE, "ticket": apprise.NotifyType.WARNING}}
"""Apprise's colour by state and severity; what is over is a success."""


class AppriseReceiver:
    """Sends notices through one Apprise URL. Raises ``ConfigError`` for a URL that Apprise does not understand."""

    def __init__(self, url: str) -> None:
        self._label = safe_label(f"apprise+{url.partition('://')[0].lower()[:20]}", url)
        self._client = apprise.Apprise(
            asset=apprise.AppriseAsset(app_id="FleetPulse", app_desc="FleetPulse alerts", async_mode=False)
        )
        library = logging.getLogger("apprise")
        if library.level == logging.NOTSET:
            library.setLevel(logging.WARNING)
        # While it parses, Apprise logs addresses that it does not understand, secrets and all.
        was_disabled, library.disabled = library.disabled, True
        try:
            understood = self._client.add(url)
        finally:
            library.disabled = was_disabled
        if not understood:
            raise ConfigError(
                f"apprise_urls: {self._label} is not a URL that Apprise understands; "
                "see github.com/caronc/apprise/wiki for the form of each service"
            )

    @property
    def label(self) -> str:
        """Return scheme and a short hash."""
        return self._label

    def send(self, notice: Notice) -> Outcome:
        """Send once; Apprise says only yes or no, so a no may be tried again."""
        severity = str(notice.alert.get("severity"))
        kind = KINDS.get(notice.state, {}).get(severity, apprise.NotifyType.SUCCESS)
        try:
            delivered = self._client.notify(
                body=notice.message.text,
                title=notice.message.subject,
                notify_type=kind,
                body_format=apprise.NotifyFormat.TEXT,
            )
        except TypeError as error:
            return Failed(f"Apprise refuses the notice: {type(error).__name__}")
        return Sent() if delivered else Retry("Apprise could not deliver it")

    def close(self) -> None:
        """Nothing to give back: Apprise opens a connection for each notice."""

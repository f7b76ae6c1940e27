"""Who this device is to the server: its installation, or a pseudonym of it that changes at fixed instants.

A pseudonym is a keyed hash of the installation and the number of the period, so that nothing has to be stored and a
restart within a period keeps it. Periods begin at the same instants of UTC on every device: all of a fleet change
together, and each hides among the others.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from dataclasses import dataclass

from device_sdk.contract import attributes as a
from device_sdk.lifecycle.state import Boot, Installation
from device_sdk.privacy import AttributeValue


@dataclass(frozen=True, slots=True)
class Identity:
    """An installation and boot, and the seconds after which they take another name (0: never)."""

    installation: Installation
    boot: Boot
    rotation_s: int

    def attributes(self, now_ns: int) -> dict[str, AttributeValue]:
        """Return the resource attributes that name this device at a time of the stream clock."""
        if not self.rotation_s:
            return {a.INSTALLATION_ID: self.installation.installation_id, a.BOOT_ID: self.boot.boot_id}
        period = self.period_of(now_ns)
        name = uuid.UUID(bytes=self._hash("installation", period)[:16], version=4)
        boot_id = self._hash(f"boot/{self.boot.boot_id}", period).hex()[:16]
        return {a.INSTALLATION_ID: str(name), a.BOOT_ID: boot_id, a.IDENTITY_ROTATION: self.rotation_s}

    def period_of(self, now_ns: int) -> int:
        """Return the number of the period that a time of the stream clock is in, always 0 without rotation."""
        return now_ns // (self.rotation_s * 1_000_000_000) if self.rotation_s else 0

    def began_ns(self, now_ns: int) -> int:
        """Return when that period began."""
        return self.period_of(now_ns) * self.rotation_s * 1_000_000_000

    def _hash(self, what: str, period: int) -> bytes:
        text = f"{what}/{self.rotation_s}/{period}"
        return hmac.new(self.installation.secret, text.encode(), hashlib.sha256).digest()

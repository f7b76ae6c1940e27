"""When ``Monitor.meter`` is used, and not before: brings OpenTelemetry's SDK in and asks it for readings."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, cast

from device_sdk.clock import Clock
from device_sdk.config import Config
from device_sdk.errors import guard
from device_sdk.lifecycle.session import Session

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from device_sdk.metering import Metering


class Meters:
    """The meters of one Monitor; nothing is imported or done until the first is asked for."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._interval_s = math.inf if clock.manual else config.window_ns / 1e9
        self._driven = clock.manual
        self._lock = threading.Lock()
        self._metering: Metering | None = None

    def meter(self, name: str, session: Session) -> Meter:
        """Return the meter of this name, whose readings ride the session's spool."""
        from device_sdk.metering import Metering

        with self._lock:
            if self._metering is None:
                resource, spool, now_ns = session.stream.resource, session.spool, session.now_ns
                self._metering = Metering(resource, spool, now_ns, interval_s=self._interval_s)
            return self._metering.meter(name)

    def window_closed(self) -> None:
        """Take readings with each window of a manual clock; with the machine's, a thread of OpenTelemetry's does."""
        if self._driven:
            self.collect()

    def flushed(self) -> None:
        """Take readings for a flush; with a manual clock only what belongs to closed windows is sent."""
        if not self._driven:
            self.collect()

    def collect(self) -> None:
        """Take readings now; callbacks of the program's run here, so no lock may be held."""
        if self._metering is not None:
            with guard("collecting the program's own metrics"):
                self._metering.collect()

    def stop(self) -> None:
        """Take no more."""
        if self._metering is not None:
            with guard("stopping the program's own metrics"):
                self._metering.stop()


class ApplicationMeter:
    """``Monitor.meter``: a standard OpenTelemetry meter whose readings ride the Monitor's spool, under its identity.

    Imports opentelemetry-sdk on first use; a no-op meter when the Monitor is disabled or the SDK cannot start.
    """

    def __get__(self, monitor: Any, _owner: type) -> Meter:
        """Return the meter of this Monitor (asked of the class, the descriptor)."""
        if monitor is None:
            return self  # type: ignore[return-value]
        engine = monitor._engine  # noqa: SLF001 - this descriptor is a part of Monitor
        if engine is not None:
            with guard("making a meter"):
                return cast("Meter", engine.meters.meter("application", engine.session))
        from opentelemetry.metrics import NoOpMeter

        return NoOpMeter("application")

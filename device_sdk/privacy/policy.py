"""What an operator may ask for beyond the closed schema; everything is off by default."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from device_sdk.contract import attributes as a
from device_sdk.errors import ConfigError
from device_sdk.points import EventAttributes

ROTATION_MIN_S: Final = 3600
ROTATION_MAX_S: Final = 366 * 86_400
EPSILON_MAX: Final = 20.0
_COUNT_MAX: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Policy:
    """Privacy settings of one Monitor.

    ``min_count``: fewest observations that a distribution is sent with. ``clip``: most observations of one distribution
    a window. ``epsilon``: privacy loss of one randomised report (local differential privacy), ``epsilon_day``: most of
    it in 24 hours over all signals. ``rotation_s``: seconds after which the device becomes another to the server.
    """

    min_count: int = 1
    clip: int | None = None
    epsilon: float | None = None
    epsilon_day: float = 8.0
    rotation_s: int = 0

    def __post_init__(self) -> None:
        _whole("privacy_min_count", self.min_count, 1, _COUNT_MAX)
        if self.clip is not None:
            _whole("privacy_clip", self.clip, 1, _COUNT_MAX)
            if self.clip < self.min_count:
                raise ConfigError(
                    f"privacy_clip={self.clip}: below privacy_min_count={self.min_count}, so that every distribution"
                    " would be sent with less than the minimum; raise the one or lower the other"
                )
        if self.epsilon is not None:
            _between("privacy_epsilon", self.epsilon, 0.0, EPSILON_MAX)
            _between("privacy_epsilon_day", self.epsilon_day, 0.0, math.inf)
            if self.epsilon_day < self.epsilon:
                raise ConfigError(
                    f"privacy_epsilon_day={self.epsilon_day:g}: not even one report of privacy_epsilon="
                    f"{self.epsilon:g} fits into it; raise it"
                )
        if self.rotation_s:
            _whole("identity_rotation_s", self.rotation_s, ROTATION_MIN_S, ROTATION_MAX_S)

    @property
    def reports_max(self) -> int | None:
        """Most observations of one distribution a window; randomised ones are one report each unless said otherwise."""
        return 1 if self.clip is None and self.epsilon is not None else self.clip

    @property
    def active(self) -> bool:
        """Whether anything here is on."""
        return self != Policy(epsilon_day=self.epsilon_day)

    def facts(self) -> EventAttributes:
        """Return the settings in force as ``edge.settings.applied`` tells them."""
        told: EventAttributes = [(a.PRIVACY_ENABLED, self.active), (a.PRIVACY_MIN_COUNT, self.min_count)]
        if self.reports_max is not None:
            told.append((a.PRIVACY_CLIP, self.reports_max))
        if self.rotation_s:
            told.append((a.PRIVACY_ROTATION, self.rotation_s))
        if self.epsilon is not None:
            told.append((a.PRIVACY_EPSILON, self.epsilon))
        return told


def _whole(name: str, value: object, lowest: int, highest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ConfigError(f"{name}={value!r}: give a whole number from {lowest} to {highest}")


def _between(name: str, value: object, above: float, most: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and above < value <= most
    if not number or not math.isfinite(value):  # type: ignore[arg-type]
        bound = f" up to {most:g}" if math.isfinite(most) else ""
        raise ConfigError(f"{name}={value!r}: give a number above {above:g}{bound}")

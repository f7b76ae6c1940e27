"""How much a device looks at and sends: window length, sampling, signal level; and who may change it how far.

What the device does by itself is the ``local`` reach. A remote document may change it only below the ``ceiling``, which
nothing but the device's own configuration sets; without one the ceiling is the local reach, so that remote settings
can only reduce.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from device_sdk.contract import settings as wire
from device_sdk.contract.attributes import SignalLevel
from device_sdk.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Reach:
    """Window length in ns, tensors of one run in ``sample_every``, and the signal level."""

    window_ns: int
    sample_every: int = 1
    level: SignalLevel = SignalLevel.FULL

    def least(self, other: Reach) -> Reach:
        """Return what sends least of both, entry by entry: the longer window, the sparser sample, the lower level."""
        return Reach(
            max(self.window_ns, other.window_ns),
            max(self.sample_every, other.sample_every),
            min(self.level, other.level, key=wire.LEVELS.index),
        )

    def with_document(self, document: Mapping[str, object]) -> Reach:
        """Return this with the entries of a document that is known to be valid."""
        window = document.get(wire.WINDOW_S)
        every = document.get(wire.SAMPLE_EVERY)
        return Reach(
            round(window * 1e9) if isinstance(window, (int, float)) else self.window_ns,
            every if isinstance(every, int) else self.sample_every,
            SignalLevel(str(document.get(wire.SIGNAL_LEVEL, self.level))),
        )

    def differing(self, other: Reach) -> tuple[str, ...]:
        """Return the names of the entries in which the two differ."""
        mine = (self.window_ns, self.sample_every, self.level)
        theirs = (other.window_ns, other.sample_every, other.level)
        return tuple(name for name, one, two in zip(wire.KEYS, mine, theirs, strict=True) if one != two)


@dataclass(frozen=True, slots=True)
class RemotePolicy:
    """What the device does by itself, how far a document may go, and whether documents are followed at all."""

    local: Reach
    ceiling: Reach
    followed: bool

    def judge(self, document: Mapping[str, object]) -> tuple[Reach, tuple[str, ...]]:
        """Return the reach under a document, and the entries that were refused: invalid, unknown or above the ceiling.

        An unknown name is refused as ``unknown``: text from outside is not repeated.
        """
        valid = {key: value for key, value in document.items() if not wire.problem_with(key, value)}
        refused = [key if key in wire.KEYS else "unknown" for key in document if key not in valid]
        wanted = self.local.with_document(valid)
        granted = wanted.least(self.ceiling)
        return granted, tuple(sorted({*refused, *granted.differing(wanted)}))


def policy(
    window_ns: int, *, level: str | None, every: str | None, follow: str, ceiling: tuple[tuple[str, str], ...]
) -> RemotePolicy:
    """Return the policy of a configuration; raises ``ConfigError`` for values that cannot work."""
    local = Reach(window_ns).with_document(_checked({wire.SIGNAL_LEVEL: level, wire.SAMPLE_EVERY: every}))
    if follow not in ("reduce", "off"):
        raise ConfigError(f"remote_settings={follow!r}: one of reduce, off")
    most = local.with_document(_checked(dict(ceiling)))
    stricter = local.least(most).differing(local)
    if stricter:
        raise ConfigError(
            f"remote_ceiling: {', '.join(stricter)} is below what the device does itself; "
            "the ceiling is how far remote settings may go, so let it allow at least that"
        )
    return RemotePolicy(local, most, follow == "reduce")


def _checked(entries: Mapping[str, str | None]) -> dict[str, object]:
    """Return entries given as text with their types; raises ``ConfigError``."""
    found: dict[str, object] = {}
    for key, text in entries.items():
        if text is None:
            continue
        value: object = text
        if key in (wire.WINDOW_S, wire.SAMPLE_EVERY):
            try:
                value = float(text) if key == wire.WINDOW_S else int(text)
            except ValueError:
                value = text
        if problem := wire.problem_with(key, value):
            raise ConfigError(problem)
        found[key] = value
    return found

"""Feature flags in force: at most sixteen ``key=variant`` of the resource, sorted, changed while the program runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from device_sdk.privacy import FLAGS_MAX, is_text

_PART_LENGTH_MAX: Final = 64


class Flags:
    """The flags of one Monitor; the caller serialises calls."""

    def __init__(self, pairs: Iterable[str]) -> None:
        self._variants: dict[str, str] = {}
        for pair in pairs:
            key, _, variant = str(pair).partition("=")
            self._variants[key] = variant

    def change(self, key: str, variant: str) -> bool:
        """Put a flag to a variant; say whether that changed anything.

        Raise ``ValueError`` for a name that is empty, too long or holds ``=``, and for a seventeenth flag.
        """
        if not key or "=" in key or max(len(key), len(variant)) > _PART_LENGTH_MAX or not is_text(key + variant):
            said = f"1 to {_PART_LENGTH_MAX} characters of UTF-8 each, no '=' in the key"
            raise ValueError(f"flag {key[:80]!r}={variant[:80]!r}: {said}")
        if self._variants.get(key) == variant:
            return False
        if key not in self._variants and len(self._variants) >= FLAGS_MAX:
            raise ValueError(f"flag {key!r}: {FLAGS_MAX} flags are set already")
        self._variants[key] = variant
        return True

    def pairs(self) -> tuple[str, ...]:
        """Return the flags as the resource carries them."""
        return tuple(sorted(f"{key}={variant}" for key, variant in self._variants.items()))

"""What a sensor, a rail or a battery is called on the wire: its driver's word, never what singles out a unit."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

NAME_LENGTH_MAX: Final = 32

_OUTSIDE: Final = re.compile(r"[^a-z0-9]+")
_ADDRESS: Final = re.compile(r"(?:(?<![0-9a-z])[0-9a-f]{2}(?![0-9a-z])[^0-9a-z]?){4}")
_SERIAL: Final = re.compile(r"\d{5}|(?=[a-z_]*\d)(?<![0-9a-z])[0-9a-f]{8}")


def hardware_name(text: str | None, fallback: str) -> str:
    """Return ``text`` in small letters, digits and underscores, or ``fallback`` for one that looks like an identifier.

    No names are: more than 32 characters, five digits in a row, a hardware address.
    """
    lowered = (text or "").lower()
    if _ADDRESS.search(lowered):
        return fallback
    name = _OUTSIDE.sub("_", lowered).strip("_")
    if not name or len(name) > NAME_LENGTH_MAX or _SERIAL.search(name):
        return fallback
    return name


def distinct(name: str, taken: Collection[str]) -> str:
    """Return ``name``, or ``name_2``, ``name_3``... when it is taken."""
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    return unique

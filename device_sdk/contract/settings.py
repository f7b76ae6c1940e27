"""Remote settings on the wire: what a document may hold, how it is named, and where it is fetched.

An export answer may carry ``FleetPulse-Settings: <id>``; ``GET /v1/settings?id=<id>`` returns the document. The id is
made of the document's own bytes, so that what arrives proves itself.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Final

from device_sdk.contract.attributes import SignalLevel

HEADER: Final = "FleetPulse-Settings"
PATH: Final = "/v1/settings"
ID_LENGTH: Final = 16
DOCUMENT_BYTES_MAX: Final = 4096

WINDOW_S: Final = "window_s"
SAMPLE_EVERY: Final = "sample_every"
SIGNAL_LEVEL: Final = "signal_level"
KEYS: Final = (WINDOW_S, SAMPLE_EVERY, SIGNAL_LEVEL)
WINDOW_S_MIN, WINDOW_S_MAX = 1, 86_400
SAMPLE_EVERY_MAX: Final = 1_000_000

LEVELS: Final = (SignalLevel.OFF, SignalLevel.OUTPUTS, SignalLevel.FULL)
"""Signal levels, the least first."""


def document_id(text: bytes) -> str:
    """Return the id of a document: the first 16 hex digits of the SHA-256 of its bytes as served."""
    return hashlib.sha256(text).hexdigest()[:ID_LENGTH]


def canonical(document: Mapping[str, object]) -> bytes:
    """Return a document as it is served: JSON with sorted keys and no spaces, whole numbers as integers."""
    plain = {key: _whole(value) for key, value in document.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


NOTHING: Final = canonical({})
NOTHING_ID: Final = document_id(NOTHING)
"""The id that tells a device to go back to its own settings; nothing has to be fetched for it."""


def problem_with(key: str, value: object) -> str:
    """Return what is wrong with one entry of a document, '' when nothing is."""
    if key == WINDOW_S:
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not (number and WINDOW_S_MIN <= value <= WINDOW_S_MAX):  # type: ignore[operator]
            return f"{key} = {value!r}: a window lasts {WINDOW_S_MIN} to {WINDOW_S_MAX} seconds"
    elif key == SAMPLE_EVERY:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= SAMPLE_EVERY_MAX:
            return f"{key} = {value!r}: look at one run in 1 to {SAMPLE_EVERY_MAX}, a whole number"
    elif key == SIGNAL_LEVEL:
        if value not in [str(level) for level in LEVELS]:
            return f"{key} = {value!r}: one of {', '.join(LEVELS)}"
    else:
        close = difflib.get_close_matches(str(key), KEYS, n=1)
        return f"{str(key)[:80]!r} is no remote setting; " + (f"did you mean {close[0]!r}?" if close else _known())
    return ""


def _known() -> str:
    return "known are " + ", ".join(KEYS)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value

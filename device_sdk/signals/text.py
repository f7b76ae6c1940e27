"""Texts and bytes as numbers: length and shares of character classes; a category as its place in the vocabulary.

The content itself is never copied: what goes into a ring is six numbers, or one.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from device_sdk.signals.declare import TEXT_KINDS

BYTES_READ_MAX: Final = 1024
"""Bytes, or ASCII characters, of one text whose class is counted; a longer one is read at an even stride."""
CHARACTERS_READ_MAX: Final = 256
"""The same for a text with other characters, which are classified one by one."""
CATEGORY_LENGTH_MAX: Final = 256
NUMBERS: Final = len(TEXT_KINDS)
UNSEEN: Final = -1.0
"""Code of a category outside the vocabulary."""
MISSING: Final = -2.0
"""Code of a category that is not there."""

_CLASSES: Final = "LDSP"
_CACHE_MAX: Final = 4096
_class_cache: dict[str, str] = {}


def _class_of(character: str) -> str:
    """Return L, D, S, P or O: letter, digit, space, punctuation (ASCII's, or other printable signs), anything else."""
    if character.isalpha():
        return "L"
    if character.isdecimal():
        return "D"
    if character.isspace():
        return "S"
    return "P" if character in string.punctuation else "O"


_ASCII_TABLE: Final = "".join(_class_of(chr(code)) for code in range(128)).encode() + b"O" * 128


def text_numbers(text: object) -> tuple[float, ...]:
    """Return the numbers of ``TEXT_KINDS`` in their order, all NaN for what is empty or no text.

    Letters, decimal digits and spaces are Unicode's, punctuation is ASCII's; bytes are read as ASCII, and what is none
    of these is other. The length is in characters, or bytes.
    """
    if not isinstance(text, (str, bytes)) or not text:
        return _NOTHING
    if isinstance(text, bytes) or text.isascii():
        part = text[:: -(-len(text) // BYTES_READ_MAX)]
        raw = part if isinstance(part, bytes) else part.encode("ascii")
        filed = raw.translate(_ASCII_TABLE)
        counts = [filed.count(word) for word in _CLASSES.encode()]
    else:
        part = text[:: -(-len(text) // CHARACTERS_READ_MAX)]
        classes = [_class_cache.get(character) or _cached(character) for character in part]
        counts = [classes.count(word) for word in _CLASSES]
    read = len(part)
    return (float(len(text)), *(count / read for count in counts), (read - sum(counts)) / read)


_NOTHING: Final = (math.nan,) * NUMBERS


def _cached(character: str) -> str:
    if len(_class_cache) >= _CACHE_MAX:
        _class_cache.clear()
    word = _class_cache[character] = _class_of(character)
    return word


def category_code(value: object, vocabulary: dict[str, int]) -> float:
    """Return the place of a value in the vocabulary, ``UNSEEN`` or ``MISSING`` (None, NaN, an empty text)."""
    if isinstance(value, bytes):
        value = value[: CATEGORY_LENGTH_MAX + 1].decode("utf-8", "replace")
    if isinstance(value, str):
        return float(vocabulary.get(value, UNSEEN)) if value else MISSING
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return MISSING
    if isinstance(value, (bool, np.bool_)):
        return float(vocabulary.get(str(bool(value)).lower(), UNSEEN))
    if isinstance(value, (float, np.floating)):
        value = int(value) if math.isfinite(value) and value == int(value) else None
    if isinstance(value, (int, np.integer)) and -(2**63) <= value < 2**63:
        return float(vocabulary.get(str(int(value)), UNSEEN))
    return UNSEEN


def cell(sample: Any, column: int | None) -> Any:
    """Return one value of a sample: itself when it is a text or a number, else its ``column`` (None: 0), or None."""
    if isinstance(sample, (list, tuple)) or (isinstance(sample, np.ndarray) and sample.ndim):
        at = column or 0
        return sample[at] if at < len(sample) else None
    if isinstance(sample, np.ndarray):
        return sample.item()
    return sample if not column else None


def is_textual(value: object) -> bool:
    """Say whether an input holds texts, bytes or objects: an array of them, or a list whose first value is one."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "OUS" and value.ndim <= 2
    if isinstance(value, (str, bytes)):
        return True
    if not isinstance(value, (list, tuple)) or not value:
        return False
    first: object = cell(value[0], 0)
    return first is None or isinstance(first, (str, bytes))


def samples_of(value: Any) -> Sequence[Any]:
    """Return the samples of a textual input: a single text is one sample."""
    if isinstance(value, (str, bytes)) or (isinstance(value, np.ndarray) and not value.ndim):
        return [value]
    samples: Sequence[Any] = value
    return samples

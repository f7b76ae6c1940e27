"""A small JSON file that survives ``kill -9``: what was lost and not yet safely told, and what is left of the budgets.

Two slots are overwritten in turn, each with a checksum, so that a torn write costs the last change and nothing else. It
is written only when something changed and left to the page cache: flash is not worn for it.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import zlib
from pathlib import Path
from typing import Any, Final

from device_sdk.errors import log_rationed

_SLOT_BYTES: Final = 4096
_FLAGS: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_HEAD: Final = struct.Struct("<QII")


class Book:
    """The file; with ``path`` None nothing is kept. Never raises for what the disk does."""

    def __init__(self, path: Path | None) -> None:
        self._descriptor: int | None = None
        self._generation = 0
        self.content: dict[str, Any] = {}
        if path is None:
            return
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
            data = os.read(self._descriptor, 2 * _SLOT_BYTES)
        except OSError as error:
            log_rationed(logging.WARNING, "%s: %s; losses are not remembered over a crash", path, error.strerror)
            return
        for slot in range(2):
            self._generation, self.content = max(
                (self._generation, self.content), _read(data[slot * _SLOT_BYTES :]), key=lambda pair: pair[0]
            )

    def write(self, content: dict[str, Any]) -> None:
        """Keep ``content`` when it differs from what is kept."""
        if self._descriptor is None or content == self.content:
            return
        body = json.dumps(content, separators=(",", ":")).encode()
        if _HEAD.size + len(body) > _SLOT_BYTES:
            return
        self.content = content
        self._generation += 1
        whole = _HEAD.pack(self._generation, len(body), zlib.crc32(body)) + body
        at = (self._generation % 2) * _SLOT_BYTES
        try:
            if hasattr(os, "pwrite"):
                os.pwrite(self._descriptor, whole, at)
            else:
                os.lseek(self._descriptor, at, os.SEEK_SET)
                os.write(self._descriptor, whole)
        except OSError as error:
            log_rationed(logging.WARNING, "the loss ledger could not be written: %s", error.strerror)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _read(slot: bytes) -> tuple[int, dict[str, Any]]:
    if len(slot) < _HEAD.size:
        return 0, {}
    generation, length, check = _HEAD.unpack_from(slot)
    body = slot[_HEAD.size : _HEAD.size + length]
    if len(body) != length or zlib.crc32(body) != check:
        return 0, {}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return 0, {}
    return (generation, content) if isinstance(content, dict) else (0, {})

"""The bearer token, from an argument or from a file that is read again when it is rotated; never shown.

A file must belong to its owner alone: one that others may read is refused at construction, and a rotated one that is
not usable leaves the last good token in force.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Final

from device_sdk.errors import ConfigError, log_rationed

FILE_BYTES_MAX: Final = 16 * 1024
_OTHERS: Final = 0o077

_Stamp = tuple[int, int, int, int]


def sendable(token: str | None) -> str | None:
    """Return a token as an HTTP header can carry it; raise ``ConfigError`` without showing it."""
    bare = token.strip() if token is not None else None
    if bare and not (bare.isascii() and bare.isprintable()):
        raise ConfigError("token=***: holds characters that no HTTP header carries; copy it again")
    return bare


def read_token(path: Path) -> str:
    """Return the token in ``path``; raise ``ConfigError`` that names the file, never its content.

    The file must be a regular one of at most 16 KiB whose mode gives group and others nothing.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[str, _Stamp]:
    try:
        # not blocking: a FIFO put in the file's place must not stall the program
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise ConfigError(f"token file {path}: {error.strerror}; name a readable file") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"token file {path}: is not a regular file; write the token into one")
        mode = stat.S_IMODE(status.st_mode)
        if os.name == "posix" and mode & _OTHERS:
            raise ConfigError(
                f"token file {path}: mode {mode:04o} lets others read or change it; run: chmod 600 {path}"
            )
        data = os.read(descriptor, FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"token file {path}: {error.strerror}; name a readable file") from None
    finally:
        os.close(descriptor)
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"token file {path}: holds more than {FILE_BYTES_MAX} bytes; it must hold one token alone")
    try:
        token = sendable(data.decode("ascii"))
    except UnicodeDecodeError:
        token = sendable("\x00")  # raises: no header carries it
    if not token:
        raise ConfigError(f"token file {path}: is empty; write the token into it")
    return token, _stamp_of(status)


def _stamp_of(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


class Credentials:
    """The token to send now. One thread at a time; nothing here raises after construction."""

    def __init__(self, token: str | None, path: Path | None) -> None:
        self._token = token
        self._path = path
        self._stamp: _Stamp | None = None

    def __repr__(self) -> str:
        return f"Credentials({'***' if self._token else None!r}, {self._path!r})"

    def headers(self) -> dict[str, str]:
        """Return the header that proves who sends, empty without a token; a rotated file is read again."""
        if self._path is not None and self._now_stamp() != self._stamp:
            self.renew()
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def renew(self) -> bool:
        """Read the file again and say whether it holds another token than the one in force."""
        if self._path is None:
            return False
        self._stamp = self._now_stamp()
        try:
            found, self._stamp = _read(self._path)
        except ConfigError as error:
            log_rationed(logging.WARNING, "%s; the last good token stays in force", error)
            return False
        changed, self._token = found != self._token, found
        return changed

    def _now_stamp(self) -> _Stamp | None:
        try:
            return _stamp_of(os.stat(self._path)) if self._path is not None else None  # noqa: PTH116
        except OSError:
            return None

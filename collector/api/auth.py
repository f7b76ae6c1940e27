"""Who may call: hashed bearer tokens with a scope, and the guard of a server that has none.

Tokens live in one JSON file (mode 0600) as SHA-256 digests: ``{"tokens": [{"id", "scope", "hash", "created_ns",
"revoked"}]}``. A token is 256 random bits, so an unsalted digest is as good as a salted one. Workers re-read the file
when it changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import ipaddress
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from collector.errors import ConfigError

TOKEN_PREFIX: Final = "fp_"  # noqa: S105  # lets a secret scanner recognise a token
_FORWARDED: Final = frozenset(
    {"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-real-ip"}
)
_FORWARDED_PREFIX: Final = "x-forwarded-"


class Scope(StrEnum):
    """What a token is for; ``operate`` may also read."""

    INGEST = "ingest"
    READ = "read"
    OPERATE = "operate"


_GRANTS: Final = {
    Scope.INGEST: frozenset({Scope.INGEST}),
    Scope.READ: frozenset({Scope.READ}),
    Scope.OPERATE: frozenset({Scope.READ, Scope.OPERATE}),
}


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One token as the file keeps it."""

    id: str
    scope: Scope
    hash: str
    created_ns: int
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a request is refused: 401 (who are you) or 403 (not you)."""

    status: int
    message: str


def digest_of(token: str) -> str:
    """Return the hexadecimal SHA-256 of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def read_tokens(path: Path) -> list[TokenRecord]:
    """Return the tokens of a file, none when it does not exist; raises ``ConfigError`` when it is not a token file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return [
            TokenRecord(
                id=str(item["id"]),
                scope=Scope(item["scope"]),
                hash=str(item["hash"]),
                created_ns=int(item["created_ns"]),
                revoked=bool(item.get("revoked", False)),
            )
            for item in document["tokens"]
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: not a readable token file ({error}); restore it or make a new one with `fleetpulse token create`"
        ) from error


def create_token(path: Path, scope: str, *, clock_ns: Callable[[], int] = time.time_ns) -> str:
    """Add a token of ``scope`` (ingest, read, operate) to the file and return it: it is shown only this once.

    Raises ``ConfigError`` for an unknown scope or a broken file.
    """
    try:
        wanted = Scope(scope)
    except ValueError:
        raise ConfigError(f"scope {scope!r} does not exist; use one of: {', '.join(Scope)}") from None
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    with _exclusive(path):
        record = TokenRecord(secrets.token_hex(4), wanted, digest_of(token), clock_ns())
        _write(path, [*read_tokens(path), record])
    return token


def revoke_token(path: Path, token_id: str) -> None:
    """Mark a token revoked; raises ``ConfigError`` when no token has that id."""
    with _exclusive(path):
        records = read_tokens(path)
        if all(record.id != token_id for record in records):
            known = ", ".join(record.id for record in records) or "none"
            raise ConfigError(f"{path}: no token has id {token_id!r}; known: {known}")
        _write(
            path,
            [
                TokenRecord(record.id, record.scope, record.hash, record.created_ns, True)
                if record.id == token_id
                else record
                for record in records
            ],
        )


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Keep other processes from changing the file meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, records: list[TokenRecord]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"tokens": [asdict(record) for record in records]}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class Tokens:
    """The tokens of a file, re-read when it changes. A file that breaks later keeps the last good state."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._records: list[TokenRecord] = []
        self.broken = ""
        """Why the file could not be read when it last changed; '' when it could."""
        self._stamp = self._now_stamp()
        self._records = read_tokens(path)

    def _now_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def active(self) -> list[TokenRecord]:
        """Return the tokens that are not revoked."""
        stamp = self._now_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._records = read_tokens(self._path)
                self.broken = ""
            except ConfigError as error:
                self.broken = str(error)
        return [record for record in self._records if not record.revoked]

    def scope_of(self, token: str) -> Scope | None:
        """Return the scope of an active token, None when there is none; takes the same time for every token."""
        digest = digest_of(token)
        found: Scope | None = None
        for record in self.active():
            if hmac.compare_digest(record.hash.encode(), digest.encode()):
                found = record.scope
        return found


def is_loopback_host(host: str) -> bool:
    """Say whether a ``Host`` header or bind address (with or without port) names this machine only."""
    name = host.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """Decides about one request from its headers (lowercase names).

    On loopback no token is needed, but then a request must come straight from this machine: its Host is loopback (a
    web page that rebinds its name cannot get in) and no proxy has handed it on. Everywhere else, and wherever a token
    is presented while tokens exist, the token decides.
    """

    def __init__(self, tokens: Tokens, bind_host: str, extra: Mapping[str, Scope] | None = None) -> None:
        self._tokens = tokens
        self._local = is_loopback_host(bind_host)
        self._extra = {digest_of(token): scope for token, scope in (extra or {}).items() if token}

    def check(self, headers: Mapping[str, str], wanted: Scope) -> Denied | None:
        """Return None when the request may have scope ``wanted``."""
        kind, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip() if kind.lower() == "bearer" else ""
        active = self._tokens.active()
        if token and (active or self._extra):
            scope = self._scope_of(token)
            if scope is None:
                return Denied(401, "the token is unknown or revoked; make one with `fleetpulse token create`")
            if wanted not in _GRANTS[scope]:
                return Denied(403, f"the token has scope {scope}, this needs {wanted}")
            return None
        if not self._local:
            return Denied(401, f"this address needs `Authorization: Bearer` with a token of scope {wanted}")
        forwarded = next((name for name in headers if name in _FORWARDED or name.startswith(_FORWARDED_PREFIX)), None)
        if forwarded:
            return Denied(403, f"header {forwarded!r} shows a proxy; requests from elsewhere need a token")
        host = headers.get("host", "")
        if not is_loopback_host(host):
            return Denied(403, f"Host {host[:100]!r} is not loopback; requests from elsewhere need a token")
        return None

    def _scope_of(self, token: str) -> Scope | None:
        digest = digest_of(token)
        found = self._tokens.scope_of(token)
        for known, scope in self._extra.items():
            if hmac.compare_digest(known, digest):
                found = scope
        return found

"""Schema migrations: numbered SQL files, applied once in order, checked by hash, never undone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

import duckdb

from collector.errors import DataDirectoryError

_NAME: Final = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_LEDGER: Final = """
create table if not exists schema_migrations (
    version integer not null, name varchar not null, checksum varchar not null, applied_ns bigint not null
)"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One forward step of the schema."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Return the hash that tells an edited file from the one that was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def packaged_migrations() -> tuple[Migration, ...]:
    """Return the migrations shipped with this version, oldest first; raises ``ValueError`` for gaps in the numbers."""
    found: list[Migration] = []
    for entry in resources.files("collector.storage").joinpath("migrations").iterdir():
        match = _NAME.match(entry.name)
        if match:
            found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.version)
    numbers = [migration.version for migration in found]
    if numbers != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations are numbered {numbers}; they must run from 1 without gaps")
    return tuple(found)


def applied_versions(connection: duckdb.DuckDBPyConnection) -> dict[int, tuple[str, str]]:
    """Return (name, checksum) by version of what the database has; empty for a fresh one."""
    known = connection.execute(
        "select count(*) from information_schema.tables where table_name = 'schema_migrations'"
    ).fetchall()
    if not known[0][0]:
        return {}
    found = connection.execute("select version, name, checksum from schema_migrations").fetchall()
    return {int(version): (str(name), str(checksum)) for version, name, checksum in found}


def check(applied: dict[int, tuple[str, str]], migrations: Sequence[Migration], where: str) -> None:
    """Raise ``DataDirectoryError`` when the database is newer than ``migrations`` or was made by edited ones."""
    newest = max(applied, default=0)
    if newest > len(migrations):
        raise DataDirectoryError(
            f"{where}: the database has schema version {newest}, this version of fleetpulse knows {len(migrations)}; "
            "install the newer fleetpulse again, or restore a backup made before the upgrade into another directory"
        )
    for migration in migrations:
        found = applied.get(migration.version)
        if found is not None and found[1] != migration.checksum:
            raise DataDirectoryError(
                f"{where}: migration {migration.version:04d}_{found[0]} was applied with checksum {found[1][:12]}, but "
                f"the installed file has {migration.checksum[:12]}; a released migration must never be edited: "
                "reinstall fleetpulse, or start on a fresh --data directory"
            )


def migrate(connection: duckdb.DuckDBPyConnection, migrations: Sequence[Migration], now_ns: int, where: str) -> int:
    """Bring the schema forward, each step in its own transaction; return the version reached.

    Raises ``DataDirectoryError`` for a newer or edited schema, with nothing changed.
    """
    applied = applied_versions(connection)
    check(applied, migrations, where)
    connection.execute(_LEDGER)
    for migration in migrations:
        if migration.version in applied:
            continue
        connection.execute("begin")
        try:
            connection.execute(migration.sql)
            connection.execute(
                "insert into schema_migrations values (?, ?, ?, ?)",
                [migration.version, migration.name, migration.checksum, now_ns],
            )
            connection.execute("commit")
        except BaseException:
            connection.execute("rollback")
            raise
    return len(migrations)

"""Every setting of the server: argument > environment ``FLEETPULSE_<SETTING>`` > ``fleetpulse.toml`` > default.

A secret may also come from a file named by ``FLEETPULSE_<SETTING>_FILE``. ``fleetpulse settings`` prints each value
with its source; secrets show as ``***``.
"""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, TypeAlias

from collector.errors import ConfigError

Value: TypeAlias = "str | int | float | bool | None"

CONFIG_FILE: Final = "fleetpulse.toml"
ENVIRONMENT_PREFIX: Final = "FLEETPULSE_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name (with dashes on the command line), type, default and help line."""

    name: str
    kind: type[str | int | float | bool]
    default: Value
    help: str
    secret: bool = False

    @property
    def environment(self) -> str:
        """Return the environment variable's name."""
        return ENVIRONMENT_PREFIX + self.name.upper()


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("data", str, "./fleetpulse-data", "data directory; a fresh one just works"),
    Setting("host", str, "127.0.0.1", "address of the device port; beyond loopback it needs tokens"),
    Setting("otlp_port", int, 4318, "device port, OTLP/HTTP; 0 picks a free one"),
    Setting("grpc_port", int, 0, "device port, OTLP/gRPC; this version does not serve it yet and says so; 0 = off"),
    Setting("api_host", str, "127.0.0.1", "address of the operator port; beyond loopback it needs tokens"),
    Setting("api_port", int, 8400, "operator port: query API, /metrics, /docs; 0 picks a free one"),
    Setting("dashboard_host", str, "127.0.0.1", "address of the dashboard"),
    Setting("dashboard_port", int, 8501, "port of the dashboard; 0 picks a free one"),
    Setting("dashboard", bool, True, "whether `up` serves the dashboard"),
    Setting("workers", int, 1, "ingest worker processes that share the device port"),
    Setting("store", str, "", "engine URL; empty = DuckDB in the data directory"),
    Setting(
        "config", str, "./fleetpulse.d", "directory with rules/, slos/ and targets.yaml over the packaged defaults"
    ),
    Setting("public_url", str, "", "the dashboard's address as notices should link it; empty = where it listens"),
    Setting("runbooks_url", str, "", "a site with NAME.md for each runbook; empty = the dashboard's own page"),
    Setting("api_url", str, "", "query API that `dash` and the client verbs read; empty = the running store's"),
    Setting("tokens_file", str, "", "token file; empty = DIR/tokens.json"),
    Setting("api_token", str, "", "bearer token that the dashboard and client verbs send", secret=True),
    Setting("webhook_url", str, "", "receiver of signed JSON notices; its path is often a secret", secret=True),
    Setting("webhook_secret", str, "", "key of the notices' HMAC-SHA256 signature", secret=True),
    Setting("apprise_urls", str, "", "receivers as Apprise URLs, separated by spaces", secret=True),
    Setting("notify_history", bool, False, "send notices for instants older than an hour too"),
    Setting("raw_retention_days", int, 4, "days that raw points are kept after arrival"),
    Setting("judge_interval_s", float, 10.0, "seconds between two looks of the scheduler"),
    Setting("log_level", str, "INFO", "DEBUG, INFO, WARNING or ERROR"),
)

LEAST: Final = {"workers": 1, "raw_retention_days": 2, "judge_interval_s": 1}
"""Least values; raw points are kept two days because copies are recognised for one."""

SECRETS: Final = tuple(setting.name for setting in SETTINGS if setting.secret)
"""Settings that no command line of a child and no page may show."""

BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective settings."""

    data: str
    host: str
    otlp_port: int
    grpc_port: int
    api_host: str
    api_port: int
    dashboard_host: str
    dashboard_port: int
    dashboard: bool
    workers: int
    store: str
    config: str
    public_url: str
    runbooks_url: str
    api_url: str
    tokens_file: str
    api_token: str
    webhook_url: str
    webhook_secret: str
    apprise_urls: str
    notify_history: bool
    raw_retention_days: int
    judge_interval_s: float
    log_level: str

    @property
    def data_dir(self) -> Path:
        """Return the data directory."""
        return Path(self.data)

    @property
    def tokens_path(self) -> Path:
        """Return where the hashed tokens live."""
        return Path(self.tokens_file) if self.tokens_file else self.data_dir / "tokens.json"


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, list(BY_NAME), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; valid: {', '.join(sorted(BY_NAME))}"


def _parsed(setting: Setting, raw: object, source: str) -> Value:
    """Return ``raw`` as the setting's type; raises ``ConfigError`` naming setting, value and source."""
    text = str(raw).strip()
    try:
        if setting.kind is bool:
            words = {
                "1": True,
                "true": True,
                "yes": True,
                "on": True,
                "0": False,
                "false": False,
                "no": False,
                "off": False,
            }
            return words[text.lower()]
        value = setting.kind(text)
    except (KeyError, ValueError):
        raise ConfigError(
            f"{setting.name} = {text!r} ({source}) is not {_words(setting.kind)}; {setting.help}"
        ) from None
    if setting.name.endswith("_port") and not 0 <= int(value) <= 65535:
        raise ConfigError(f"{setting.name} = {value} ({source}) is not a port; use 0..65535, 0 picks a free one")
    least = LEAST.get(setting.name)
    if least is not None and not least <= float(value) < math.inf:
        raise ConfigError(f"{setting.name} = {value} ({source}) does not fit; the least is {least}")
    return value


def _words(kind: type[object]) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]


def _from_file(path: Path) -> Mapping[str, object]:
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for name in table:
        if name not in BY_NAME:
            raise ConfigError(f"{path}: unknown setting {name!r}{_nearest(name)}")
    return table


def _from_environment(setting: Setting, environment: Mapping[str, str]) -> tuple[object, str] | None:
    if setting.environment in environment:
        return environment[setting.environment], setting.environment
    file_name = environment.get(setting.environment + "_FILE") if setting.secret else None
    if file_name is None:
        return None
    try:
        return Path(file_name).read_text(encoding="utf-8").strip(), setting.environment + "_FILE"
    except OSError as error:
        raise ConfigError(f"{setting.environment}_FILE = {file_name!r} cannot be read: {error.strerror}") from None


def load(
    arguments: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    config_file: Path | None = None,
) -> tuple[Settings, dict[str, str]]:
    """Return the effective settings and, by name, where each came from. Raises ``ConfigError``."""
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    surroundings = os.environ if environment is None else environment
    path = config_file or Path(CONFIG_FILE)
    table = _from_file(path)
    values: dict[str, Value] = {}
    sources: dict[str, str] = {}
    for setting in SETTINGS:
        found = _from_environment(setting, surroundings)
        if setting.name in given:
            raw, source = given[setting.name], "argument"
        elif found is not None:
            raw, source = found
        elif setting.name in table:
            raw, source = table[setting.name], str(path)
        else:
            raw, source = setting.default, "default"
        values[setting.name] = _parsed(setting, raw, source)
        sources[setting.name] = source
    return Settings(**values), sources  # type: ignore[arg-type]  # names and types are those of SETTINGS, held by a test


def shown(settings: Settings) -> dict[str, str]:
    """Return every setting as text, secrets as ``***``."""
    return {
        field.name: "***"
        if BY_NAME[field.name].secret and getattr(settings, field.name)
        else str(getattr(settings, field.name))
        for field in fields(settings)
    }

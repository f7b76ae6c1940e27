"""Settings of a Monitor: argument > ``FLEETPULSE_DEVICE_<ARG>`` > ``OTEL_EXPORTER_OTLP_*`` > default."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from device_sdk.contract.attributes import BudgetName
from device_sdk.credentials import read_token, sendable
from device_sdk.errors import ConfigError, nearest
from device_sdk.limits import Limits
from device_sdk.privacy import Policy, is_text, require_opendp
from device_sdk.reach import RemotePolicy, policy
from device_sdk.stated import device_id_of, refuse_wrong_kinds

ENV_PREFIX: Final = "FLEETPULSE_DEVICE_"
DEFAULT_ENDPOINT: Final = "http://localhost:4318"
SPOOL_MODES: Final = ("memory", "durable")
SPOOL_BYTES_MIN: Final = 64 * 1024
_TIMEOUT_S_MAX: Final = 3600.0

_ENV_NAMES: Final = frozenset(
    {
        "ENDPOINT", "TOKEN", "TOKEN_FILE", "STATE_DIR", "WINDOW_S", "DEVICE_ID", "RESOURCE", "SIGNALS", "ENABLED",
        "SIGNAL_LEVEL", "SAMPLE_EVERY", "REMOTE_SETTINGS", "REMOTE_CEILING",
        "SPOOL", "TIMEOUT_S", "SPOOL_BYTES", "SPOOL_MEMORY_BYTES", "SPOOL_AGE_S", "SPOOL_WRITTEN_BYTES_PER_DAY",
        "SENT_BYTES_PER_DAY", "OVERHEAD_BUDGET", "BUDGETS", "RAISE",
        "PRIVACY_MIN_COUNT", "PRIVACY_CLIP", "PRIVACY_EPSILON", "PRIVACY_EPSILON_DAY", "IDENTITY_ROTATION_S",
        "CONSENT",
    }
)  # fmt: skip
"""What may follow the prefix; any other name in the environment is a typing error and is reported as one."""

_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Config:
    """The effective settings of one Monitor; make it with ``resolve``."""

    metrics_url: str
    logs_url: str
    token: str | None = field(repr=False)
    token_file: Path | None
    """Where the token was read from and is read again when it is rotated; None when it was given directly."""
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    state_dir: Path
    window_ns: int
    device_id: str | None
    resource: tuple[tuple[str, object], ...]
    signals_path: Path | None
    enabled: bool
    durable: bool
    timeout_s: float
    limits: Limits
    certificate: str | None
    compressed: bool
    overhead_budget: float
    privacy: Policy
    consent: bool | None
    """Whether the user agrees; None when nobody is asked."""
    remote: RemotePolicy
    """Window length, sampling and signal level: what the device does itself, and how far remote settings may go."""
    budgets: tuple[tuple[str, float], ...] = ()


def resolve(
    *,
    endpoint: str | None = None,
    token: str | None = None,
    state_dir: str | os.PathLike[str] | None = None,
    window_s: float | None = None,
    device_id: str | None = None,
    resource: Mapping[str, object] | None = None,
    enabled: bool | None = None,
    spool: str | None = None,
    overhead_budget: float | None = None,
    budgets: Mapping[str, float] | None = None,
    privacy_min_count: int | None = None,
    privacy_clip: int | None = None,
    privacy_epsilon: float | None = None,
    privacy_epsilon_day: float | None = None,
    identity_rotation_s: int | None = None,
    consent: bool | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Return the effective settings; raise ``ConfigError`` naming the setting, its value and the nearest valid one."""
    refuse_wrong_kinds(locals())
    env = os.environ if environ is None else environ
    _refuse_unknown_names(env)
    metrics_url, logs_url = _urls(endpoint, env)
    window = window_s if window_s is not None else _number(env, "WINDOW_S", 60.0)
    if not 0.05 <= window <= 86_400:
        raise ConfigError(f"window_s={window!r}: a window lasts from 0.05 to 86400 seconds")
    mode = spool if spool is not None else env.get(ENV_PREFIX + "SPOOL", "memory")
    if mode not in SPOOL_MODES:
        raise ConfigError(f"spool={mode!r}: {nearest(str(mode), SPOOL_MODES)}")
    given_token, token_file = _token(token, env)
    budget = overhead_budget if overhead_budget is not None else _number(env, "OVERHEAD_BUDGET", 0.05)
    if not 0.001 <= budget <= 1:
        raise ConfigError(f"overhead_budget={budget!r}: a share of inference time, from 0.001 to 1 (0.05 is 5 %)")
    directory = state_dir if state_dir is not None else env.get(ENV_PREFIX + "STATE_DIR") or None
    named = device_id_of(device_id if device_id is not None else env.get(ENV_PREFIX + "DEVICE_ID"))
    own = (privacy_min_count, privacy_clip, privacy_epsilon, privacy_epsilon_day, identity_rotation_s)
    return Config(
        metrics_url=metrics_url,
        logs_url=logs_url,
        token=given_token,
        token_file=token_file,
        headers=_pairs(env.get("OTEL_EXPORTER_OTLP_HEADERS", ""), "OTEL_EXPORTER_OTLP_HEADERS"),
        state_dir=Path(directory) if directory is not None else default_state_dir(env),
        window_ns=round(window * 1e9),
        device_id=named,
        resource=_resource(resource, env),
        signals_path=_path(env, "SIGNALS"),
        enabled=enabled if enabled is not None else _boolean(env, "ENABLED", True),
        durable=mode == "durable",
        timeout_s=_number(env, "TIMEOUT_S", _otel_timeout_s(env), most=_TIMEOUT_S_MAX),
        limits=_limits(env),
        certificate=_certificate(env, metrics_url + logs_url),
        compressed=env.get("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip").lower() != "none",
        overhead_budget=float(budget),
        remote=_remote(env, round(window * 1e9)),
        consent=consent if consent is not None else _consent(env),
        privacy=_privacy(env, own, named),
        budgets=_budgets(budgets, env),
    )


def _certificate(env: Mapping[str, str], urls: str) -> str | None:
    name = "OTEL_EXPORTER_OTLP_CERTIFICATE"
    if env.get(name) and "https:" in urls and not Path(env[name]).is_file():
        raise ConfigError(
            f"{name}={env[name]!r}: no such file; name the file of the authority that signed the server's"
        )
    return env.get(name) or None


def _path(env: Mapping[str, str], name: str) -> Path | None:
    text = env.get(ENV_PREFIX + name)
    return Path(text) if text else None


def _consent(env: Mapping[str, str]) -> bool | None:
    return _boolean(env, "CONSENT", False) if ENV_PREFIX + "CONSENT" in env else None


_PRIVACY: Final = ("PRIVACY_MIN_COUNT", "PRIVACY_CLIP", "PRIVACY_EPSILON", "PRIVACY_EPSILON_DAY", "IDENTITY_ROTATION_S")


def _privacy(env: Mapping[str, str], given: Sequence[float | None], device_id: str | None) -> Policy:
    """Return the privacy settings: an argument, else its variable, else the default."""
    chosen: dict[str, float] = {}
    for name, argument in zip(_PRIVACY, given, strict=True):
        value: float | None = argument
        if value is None and ENV_PREFIX + name in env:
            value = _number(env, name, 0.0)
            value = int(value) if value.is_integer() and "EPSILON" not in name else value
        if value is not None:
            chosen[name.removeprefix("PRIVACY_").removeprefix("IDENTITY_").lower()] = value
    policy = Policy(**chosen)  # type: ignore[arg-type]
    if policy.rotation_s and device_id:
        raise ConfigError(f"device_id={device_id!r}: names the device for ever; leave it out, or identity_rotation_s")
    if policy.epsilon is not None:
        require_opendp()
    return policy


def _remote(env: Mapping[str, str], window_ns: int) -> RemotePolicy:
    return policy(
        window_ns,
        level=env.get(ENV_PREFIX + "SIGNAL_LEVEL"),
        every=env.get(ENV_PREFIX + "SAMPLE_EVERY"),
        follow=env.get(ENV_PREFIX + "REMOTE_SETTINGS", "reduce"),
        ceiling=_pairs(env.get(ENV_PREFIX + "REMOTE_CEILING", ""), ENV_PREFIX + "REMOTE_CEILING"),
    )


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Return where a user's program may keep state on this system."""
    home = Path(environ.get("HOME") or Path("~").expanduser())
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home) / "fleetpulse"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "fleetpulse"
    return Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "fleetpulse"


def _refuse_unknown_names(env: Mapping[str, str]) -> None:
    for name in env:
        if name.startswith(ENV_PREFIX) and name.removeprefix(ENV_PREFIX) not in _ENV_NAMES:
            hint = nearest(name, [ENV_PREFIX + known for known in _ENV_NAMES])
            raise ConfigError(f"environment variable {name}: no such setting; {hint}")


def _urls(endpoint: str | None, env: Mapping[str, str]) -> tuple[str, str]:
    own = endpoint if endpoint is not None else env.get(ENV_PREFIX + "ENDPOINT")
    base = (own if own is not None else env.get("OTEL_EXPORTER_OTLP_ENDPOINT") or DEFAULT_ENDPOINT).strip()
    if "?" in base or "#" in base:
        raise ConfigError(
            "endpoint=***: holds a query or a fragment; give the base address alone, and token= or its file"
        )
    metrics_url = base.rstrip("/") + "/v1/metrics"
    logs_url = base.rstrip("/") + "/v1/logs"
    if own is None:
        metrics_url = env.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") or metrics_url
        logs_url = env.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT") or logs_url
    for url in (metrics_url, logs_url):
        _check_url(url)
    return metrics_url, logs_url


_SECRET_IN_URL: Final = "endpoint=***: holds a user name or password; give the address alone, and token= or its file"  # noqa: S105


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        if "@" in url:
            raise ConfigError(_SECRET_IN_URL) from None
        raise ConfigError(f"endpoint {url!r}: {error}; write it like {DEFAULT_ENDPOINT}") from None
    if "@" in parts.netloc:
        raise ConfigError(_SECRET_IN_URL)
    if not url.isprintable() or " " in url or not is_text(url) or not parts.path.isascii():
        raise ConfigError(f"endpoint {url!r}: holds a blank or another character that no address may have")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"endpoint {url!r}: needs http:// or https:// and a host; write it like {DEFAULT_ENDPOINT}")


def _token(given: str | None, env: Mapping[str, str]) -> tuple[str | None, Path | None]:
    """Return the token and the file that it came from, if any."""
    direct = given if given is not None else env.get(ENV_PREFIX + "TOKEN")
    if direct or given is not None:
        return sendable(direct), None
    path = env.get(ENV_PREFIX + "TOKEN_FILE")
    return (read_token(Path(path)), Path(path)) if path else (None, None)


def _resource(given: Mapping[str, object] | None, env: Mapping[str, str]) -> tuple[tuple[str, object], ...]:
    merged: dict[str, object] = dict(_pairs(env.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES"))
    if env.get("OTEL_SERVICE_NAME"):
        merged["service.name"] = env["OTEL_SERVICE_NAME"]
    merged.update(_pairs(env.get(ENV_PREFIX + "RESOURCE", ""), ENV_PREFIX + "RESOURCE"))
    if given is not None:
        merged.update(given)
    return tuple(merged.items())


def _pairs(text: str, name: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{name}: {part!r} is not key=value; separate pairs by commas")
        pairs.append((key.strip(), unquote(value.strip())))
    return tuple(pairs)


def _budgets(given: object, env: Mapping[str, str]) -> tuple[tuple[str, float], ...]:
    """Return declared budgets by name; each a finite number above 0."""
    pairs: Iterable[tuple[object, object]] = _pairs(env.get(ENV_PREFIX + "BUDGETS", ""), ENV_PREFIX + "BUDGETS")
    if given is not None:
        if not isinstance(given, Mapping):
            raise ConfigError(f"budgets={given!r}: give a mapping, like {{'cpu': 0.5, 'latency': 0.1}}")
        pairs = given.items()
    budgets = []
    for name, limit in pairs:
        if name not in list(BudgetName):
            raise ConfigError(f"budgets: no budget is called {name!r}; {nearest(str(name), BudgetName)}")
        try:
            value = math.nan if isinstance(limit, bool) else float(limit)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if not 0 < value < math.inf:
            raise ConfigError(f"budgets: {name}={limit!r}: write a finite number above 0")
        budgets.append((str(name), value))
    return tuple(budgets)


def _limits(env: Mapping[str, str]) -> Limits:
    base = Limits()
    sent = ENV_PREFIX + "SENT_BYTES_PER_DAY"
    limits = Limits(
        memory_bytes=int(_number(env, "SPOOL_MEMORY_BYTES", base.memory_bytes)),
        disk_bytes=int(_number(env, "SPOOL_BYTES", base.disk_bytes)),
        age_ns=int(_number(env, "SPOOL_AGE_S", base.age_ns / 1e9) * 1e9),
        written_bytes_per_day=_number(env, "SPOOL_WRITTEN_BYTES_PER_DAY", base.written_bytes_per_day or 0),
        sent_bytes_per_day=_number(env, "SENT_BYTES_PER_DAY", 0) if sent in env else None,
    )
    for name, size in (("SPOOL_MEMORY_BYTES", limits.memory_bytes), ("SPOOL_BYTES", limits.disk_bytes)):
        if size < SPOOL_BYTES_MIN:
            raise ConfigError(f"{ENV_PREFIX}{name}={size}: too small to hold windows; give {SPOOL_BYTES_MIN} or more")
    return limits


def _number(env: Mapping[str, str], name: str, default: float, *, most: float = 1e18) -> float:
    text = env.get(ENV_PREFIX + name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"{ENV_PREFIX}{name}={text!r}: write a number, like {default:g}") from None
    if not 0 < value <= most:
        most_said = f"above 0, at most {most:g}, like {default:g}"
        raise ConfigError(f"{ENV_PREFIX}{name}={text!r}: write a finite number {most_said}")
    return value


def _boolean(env: Mapping[str, str], name: str, default: bool) -> bool:
    text = env.get(ENV_PREFIX + name)
    if text is None:
        return default
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ConfigError(f"{ENV_PREFIX}{name}={text!r}: {nearest(text.lower(), (*_TRUE, *_FALSE))}")


def _otel_timeout_s(env: Mapping[str, str]) -> float:
    """Return OpenTelemetry's exporter timeout (its variable is in milliseconds), 10 s by default."""
    text = env.get("OTEL_EXPORTER_OTLP_TIMEOUT", "10000")
    try:
        return min(max(0.1, float(text) / 1000), _TIMEOUT_S_MAX)
    except ValueError:
        raise ConfigError(f"OTEL_EXPORTER_OTLP_TIMEOUT={text!r}: write milliseconds, like 10000") from None

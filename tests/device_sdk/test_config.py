"""Settings, declarations and the allow-list: precedence, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from device_sdk import ConfigError, Feature, Monitor, Signals, SignalsError
from device_sdk.config import resolve
from device_sdk.contract.attributes import LABEL_LENGTH_MAX
from device_sdk.privacy import allowed_resource
from device_sdk.signals import load_signals


def test_argument_beats_own_variable_beats_opentelemetrys_beats_default() -> None:
    otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:1"}
    own = {"FLEETPULSE_DEVICE_ENDPOINT": "http://own:2/", **otel}
    assert resolve(environ={}).metrics_url == "http://localhost:4318/v1/metrics"
    assert resolve(environ=otel).logs_url == "http://otel:1/v1/logs"
    assert resolve(environ=own).metrics_url == "http://own:2/v1/metrics"
    assert resolve(endpoint="https://arg:3", environ=own).metrics_url == "https://arg:3/v1/metrics"


def test_opentelemetrys_exporter_variables_are_honoured() -> None:
    config = resolve(
        environ={
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://m:1/custom",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-team=a%20b,api-key=k",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
            "OTEL_RESOURCE_ATTRIBUTES": "edge.region=eu,service.name=was",
            "OTEL_SERVICE_NAME": "camera",
        }
    )
    assert (config.metrics_url, config.logs_url) == ("http://m:1/custom", "http://localhost:4318/v1/logs")
    assert config.headers == (("x-team", "a b"), ("api-key", "k"))
    assert (config.timeout_s, config.compressed, config.certificate) == (2.5, False, "/ca.pem")
    assert dict(config.resource) == {"edge.region": "eu", "service.name": "camera"}


@pytest.mark.parametrize(
    ("environ", "arguments", "said"),
    [
        ({"FLEETPULSE_DEVICE_ENDPIONT": "x"}, {}, "did you mean 'FLEETPULSE_DEVICE_ENDPOINT'"),
        ({"FLEETPULSE_DEVICE_WINDOW_S": "soon"}, {}, "FLEETPULSE_DEVICE_WINDOW_S='soon': write a number"),
        ({"FLEETPULSE_DEVICE_TIMEOUT_S": "-1"}, {}, "above 0"),
        ({"FLEETPULSE_DEVICE_ENABLED": "flase"}, {}, "did you mean 'false'"),
        ({"FLEETPULSE_DEVICE_TOKEN_FILE": "/nowhere/token"}, {}, "name a readable file"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "5s"}, {}, "milliseconds"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "region"}, {}, "not key=value"),
        ({}, {"spool": "durabel"}, "did you mean 'durable'"),
        ({}, {"window_s": 0}, "window_s=0: a window lasts"),
        ({}, {"window_s": float("nan")}, "a window lasts"),
        ({}, {"endpoint": "localhost:4318"}, "needs http"),
        ({}, {"endpoint": "http://host:port"}, "write it like http://localhost:4318"),
        ({}, {"endpoint": ""}, "needs http"),
        ({}, {"endpoint": "https://me:s3cret@host:4318"}, r"endpoint=\*\*\*: holds a user name or password"),
        ({}, {"endpoint": "https://me:s3cret@host:port"}, r"endpoint=\*\*\*: holds a user name or password"),
    ],
)
def test_a_value_that_cannot_work_is_named_with_its_cure(environ: Any, arguments: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        resolve(environ=environ, **arguments)


def test_the_token_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    (tmp_path / "token").chmod(0o600)
    config = resolve(environ={"FLEETPULSE_DEVICE_TOKEN_FILE": str(tmp_path / "token")})
    assert config.token == "s3cret"
    assert "s3cret" not in repr(config)


def test_a_token_is_stripped_and_one_no_header_can_carry_is_refused_unseen() -> None:
    assert resolve(token=" t0k\n", environ={}).token == "t0k"
    for token in ("se\ncret", "s€cret"):
        with pytest.raises(ConfigError, match="copy it again") as caught:
            resolve(token=token, environ={})
        assert "cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["SPOOL_BYTES", "TIMEOUT_S"])
def test_an_infinite_number_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="write a finite number"):
        resolve(environ={"FLEETPULSE_DEVICE_" + name: "inf"})


def test_the_monitor_takes_signals_from_a_file_named_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.toml").write_text('output = "logitz"')
    monkeypatch.setenv("FLEETPULSE_DEVICE_SIGNALS", str(tmp_path / "s.toml"))
    with pytest.raises(SignalsError, match=r"s\.toml: output 'logitz': did you mean 'logits'"):
        Monitor(state_dir=tmp_path / "state")
    with pytest.raises(ConfigError, match="give a Signals"):
        Monitor(state_dir=tmp_path / "state", signals=[Feature("x", column=0)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("feature = 3", "write \\[\\[feature\\]\\] tables"),
        ("fetaure = []", "did you mean 'feature'"),
        ('[[feature]]\nname = "a"\ncolum = 1', "did you mean 'column'"),
        ("[[feature]]\ncolumn = 1", "has no name"),
        ('[[feature]]\nname = "a"\nkind = "meen"', "did you mean 'mean'"),
        ('[[feature]]\nname = "a"', "give the column's index"),
        ('[[feature]]\nname = "a"\ncolumn = 0\nunit = 0', "unit must be finite and above 0"),
        ('[[feature]]\nname = "a"\nkind = "dark_share"', "needs low="),
        ('[[feature]]\nname = "a"\ncolumn = 0\nrange = [2, 1]', "give \\(lowest, highest\\)"),
        ('[[feature]]\nname = "a"\ncolumn = "one"', "wrong type"),
        ('[[feature]]\nname = "a"\ncolumn = 0\n[[feature]]\nname = "a"\ncolumn = 1', "declared twice"),
        ("this is not toml", "s.signals.toml"),
    ],
)
def test_a_broken_declaration_names_file_key_and_cure(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "s.signals.toml"
    path.write_text(text)
    with pytest.raises(SignalsError, match=said) as caught:
        load_signals(path)
    assert str(path) in str(caught.value)


def test_more_than_64_features_are_refused() -> None:
    with pytest.raises(SignalsError, match="65 features: at most 64"):
        Signals(features=tuple(Feature(f"f{i}", column=i) for i in range(65)))


@pytest.mark.parametrize(
    ("center", "unit", "grid"),
    [(0.0, 1.0, "c=0;u=1"), (0.1, 0.05, "c=0.1;u=0.05"), (-3, 1e-9, "c=-3;u=1e-09"), (1e22, 2.5, "c=1e+22;u=2.5")],
)
def test_a_grid_reads_back_as_the_same_numbers(center: float, unit: float, grid: str) -> None:
    made = Feature("x", column=0, center=center, unit=unit).grid
    assert made == grid
    c, u = (float(part[2:]) for part in made.split(";"))
    assert (c, u) == (center, unit)


def test_the_allow_list_keeps_contract_keys_and_eight_labels() -> None:
    labels = [(f"edge.label.l{i}", "v") for i in range(10)]
    kept, refused, keys = allowed_resource(
        [
            ("edge.device.tier", "a"),
            ("host.name", "secret"),
            ("edge.site", "x" * 129),
            ("edge.label.long", "y" * (LABEL_LENGTH_MAX + 1)),
            ("edge.region", ""),
            ("edge.label.", "no key"),
            ("edge.flags", ["b", "a"]),
            ("service.version", 3),
            *labels,
        ]
    )
    assert set(kept) == {"edge.device.tier", "edge.flags", "service.version", *(key for key, _ in labels[:8])}
    assert kept["edge.flags"] == ("a", "b")
    assert refused == {"unknown_attribute": 4, "free_text": 2}
    assert "host.name" in keys


def test_the_spool_takes_its_budgets_from_the_environment() -> None:
    day = {"SPOOL_WRITTEN_BYTES_PER_DAY": "1e6", "SENT_BYTES_PER_DAY": "5e5", "SPOOL_AGE_S": "3600"}
    sizes = {"SPOOL_BYTES": "5e6", "SPOOL_MEMORY_BYTES": "65536"}
    limits = resolve(environ={f"FLEETPULSE_DEVICE_{k}": v for k, v in {**day, **sizes}.items()}).limits
    assert (limits.disk_bytes, limits.memory_bytes, limits.age_ns) == (5_000_000, 65_536, 3600 * 10**9)
    assert (limits.written_bytes_per_day, limits.sent_bytes_per_day) == (1e6, 5e5)
    assert resolve(environ={}).limits.sent_bytes_per_day is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SPOOL_BYTES", "1000", "too small to hold windows; give 65536 or more"),
        ("SPOOL_MEMORY_BYTES", "1", "too small to hold windows"),
        ("SPOOL_AGE_S", "-5", "finite number above 0"),
        ("SENT_BYTES_PER_DAY", "lots", "write a number"),
        ("SENT_BYTE_PER_DAY", "5", "FLEETPULSE_DEVICE_SENT_BYTES_PER_DAY"),
    ],
)
def test_a_budget_that_cannot_work_is_refused_with_what_would(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        resolve(environ={f"FLEETPULSE_DEVICE_{name}": value})

"""Settings: precedence, sources, clear errors."""

import socket
from dataclasses import fields
from pathlib import Path

import pytest

from collector.errors import ConfigError
from fleetpulse.runtime import Stack
from fleetpulse.settings import BY_NAME, SECRETS, SETTINGS, Settings, load, shown


def _load(tmp_path: Path, arguments=None, environment=None, toml: str = ""):
    path = tmp_path / "fleetpulse.toml"
    path.write_text(toml)
    return load(arguments or {}, environment or {}, path)


def test_an_argument_beats_the_environment_beats_the_file_beats_the_default(tmp_path):
    environment = {"FLEETPULSE_API_PORT": "2", "FLEETPULSE_OTLP_PORT": "2"}
    toml = "api_port = 3\notlp_port = 3\ndashboard_port = 3\n"
    settings, sources = _load(tmp_path, {"api_port": 1}, environment, toml)
    assert (settings.api_port, settings.otlp_port, settings.dashboard_port, settings.workers) == (1, 2, 3, 1)
    assert [sources[name] for name in ("api_port", "otlp_port", "workers")] == [
        "argument",
        "FLEETPULSE_OTLP_PORT",
        "default",
    ]


def test_the_dataclass_has_exactly_the_registered_settings_with_their_types():
    annotations = {field.name: field.type for field in fields(Settings)}
    assert annotations == {setting.name: setting.kind.__name__ for setting in SETTINGS}


def test_a_secret_is_read_from_a_file_and_never_shown(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    settings, sources = _load(tmp_path, environment={"FLEETPULSE_WEBHOOK_SECRET_FILE": str(secret)})
    assert settings.webhook_secret == "hush"
    assert sources["webhook_secret"] == "FLEETPULSE_WEBHOOK_SECRET_FILE"
    assert shown(settings)["webhook_secret"] == "***"
    assert "hush" not in str(shown(settings))


def test_no_secret_stands_on_the_command_line_of_a_child(tmp_path):
    words = {name: f"http://hush-{name}.example/hush" for name in SECRETS}
    stack = Stack(_load(tmp_path, words)[0])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        children = stack._children(0, listener, listener, "local-hush")
    assert {"webhook_url", "webhook_secret", "apprise_urls", "api_token"} <= set(SECRETS)
    assert not any("hush" in word for child in children for word in child.command)
    store = children[0].environment
    assert {store[BY_NAME[name].environment] for name in SECRETS} == set(words.values())


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("otlp_prot = 1", "did you mean 'otlp_port'"),
        ("otlp_port = 99999", "not a port"),
        ("otlp_port = 'x'", "not a whole number"),
        ("workers = 0", "the least is 1"),
        ("judge_interval_s = nan", "the least is 1"),
        ("dashboard = 'maybe'", "not true or false"),
        ("= broken", "not valid TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_a_way_out(tmp_path, toml, says):
    with pytest.raises(ConfigError, match=says):
        _load(tmp_path, toml=toml)


def test_a_missing_secret_file_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="WEBHOOK_SECRET_FILE"):
        _load(tmp_path, environment={"FLEETPULSE_WEBHOOK_SECRET_FILE": str(tmp_path / "none")})


def test_every_setting_has_a_help_line():
    assert all(BY_NAME[name].help for name in BY_NAME)

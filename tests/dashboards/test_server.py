from __future__ import annotations

import importlib.machinery
import sys
from pathlib import Path

import pytest

import dashboards
from dashboards import server, stylesheet

HERE = Path(dashboards.__file__).parent


def test_no_module_here_hides_a_package_when_streamlit_puts_the_folder_first() -> None:
    others = [path for path in sys.path if Path(path or ".").resolve() != HERE]
    names = {path.stem for path in HERE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    names -= {"__init__"}
    hidden = [name for name in sorted(names) if importlib.machinery.PathFinder.find_spec(name, others)]
    assert hidden == []
    assert not names & set(sys.stdlib_module_names)


def test_the_child_process_gets_its_token_by_environment_and_never_on_the_command_line() -> None:
    command = server.dashboard_command("127.0.0.1", 8501, "http://127.0.0.1:8400")
    assert command == [
        sys.executable,
        "-m",
        "dashboards.server",
        "--host",
        "127.0.0.1",
        "--port",
        "8501",
        "--api-url",
        "http://127.0.0.1:8400",
    ]
    environment = server.dashboard_environment({"A": "1"}, token="secret")
    assert environment == {"A": "1", "FLEETPULSE_API_TOKEN": "secret"}


def test_the_server_shows_no_traces_and_sends_nothing_home() -> None:
    config = server.streamlit_config("127.0.0.1", 8501)
    assert config["client.showErrorDetails"] == "none"
    assert config["browser.gatherUsageStats"] is False


@pytest.mark.parametrize("face", stylesheet.FONTS, ids=lambda face: str(face["weight"]))
def test_every_font_of_the_theme_is_shipped_with_its_licence(face: dict[str, object]) -> None:
    path = HERE / str(face["url"]).removeprefix("app/")
    assert path.read_bytes()[:4] == b"wOF2"
    assert "SIL Open Font License" in (HERE / "static" / "Inter-LICENSE.txt").read_text()


def test_the_look_asks_no_other_host_for_anything() -> None:
    assert "http" not in stylesheet.css()
    assert all(not str(face["url"]).startswith("http") for face in stylesheet.FONTS)

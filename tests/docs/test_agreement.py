"""Documentation and code say the same."""

import ast
import re
import subprocess
from pathlib import Path

import click
import pytest

from device_sdk._version import __version__
from device_sdk.contract.document import contract_document
from fleetpulse.cli import cli
from fleetpulse.settings import SETTINGS

ROOT = Path(__file__).parents[2]
PACKAGES = ("device_sdk", "collector", "analytics", "alerts", "dashboards", "fleetpulse", "simulator")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "device_sdk" / "README.md"])


def test_the_contract_page_is_the_contract():
    assert (ROOT / "docs" / "contract.md").read_text() == contract_document(), (
        "run: .venv/bin/fleetpulse contract --output docs/contract.md"
    )


def test_the_settings_page_names_every_setting_with_its_default():
    page = (ROOT / "docs" / "settings.md").read_text()
    for setting in SETTINGS:
        row = f"| `{setting.name}` | `{setting.environment}` | `{setting.default!s}` | {setting.help} |"
        assert row in page, row


def test_the_server_wants_the_sdk_of_its_own_version():
    assert f'"fleetpulse-device-sdk == {__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_every_command_that_a_page_shows_exists():
    known = set(cli.commands)
    for page in PAGES:
        for verb in re.findall(r"(?:^|[`\s])fleetpulse ([a-z]+)\b(?![-\w]*:)", _code_of(page.read_text())):
            assert verb in known, f"{page.name} shows `fleetpulse {verb}`"


def _code_of(text: str) -> str:
    blocks = re.findall(r"```.*?```|`[^`\n]+`|^    .*$", text, flags=re.DOTALL | re.MULTILINE)
    return "\n".join(block.strip("`") for block in blocks)


def test_every_verb_has_help():
    def walk(command: click.Command, path: str) -> None:
        assert command.help, path
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                walk(child, f"{path} {name}")

    walk(cli, "fleetpulse")


def test_modules_and_functions_stay_small():
    too_long = []
    for path in MODULES:
        source = path.read_text()
        if source.count("\n") > 400:
            too_long.append(f"{path.relative_to(ROOT)}: {source.count(chr(10))} lines")
        too_long += [
            f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno > 60
        ]
    assert not too_long


def test_there_is_no_package_under_tests():
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_only_the_store_speaks_sql():
    pattern = re.compile(r"\b(select .+ from|insert into|delete from|create table)\b", re.IGNORECASE)
    for path in MODULES:
        if "storage" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
                    assert not pattern.search(node.value), f"{path}: {node.value}"


def test_no_committed_file_names_a_registry_or_a_path_of_one_machine():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    hosts = re.compile("|".join(("py" + "pi.org", "python" + "hosted", "registry." + "npmjs", "deb." + "debian")))
    for name in files:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ""} and path.is_file():
            text = path.read_text(errors="replace")
            assert not hosts.search(text), name

import re
from pathlib import Path

import pytest

from alerts.rules import PACKAGED, effective_rules, load_rules
from alerts.schema import duration_ns
from collector.errors import ConfigError

BAD = Path(__file__).parent / "bad_rules"
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
GOOD = """\
name: {name}
kind: slo
when: {{verdict: fast_burn}}
severity: page
summary: "{{name}} burns {{where}}"
runbook: burn
"""
MINUTE_NS = 60_000_000_000


@pytest.mark.parametrize("case", sorted(BAD.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_broken_rule_file_is_one_clear_error_with_file_and_line(case: Path, tmp_path: Path) -> None:
    text = case.read_text(encoding="utf-8")
    expected = text.partition("\n")[0].removeprefix("# expect: ")
    (tmp_path / case.name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_rules(tmp_path)
    message = str(caught.value)
    assert message.startswith(str(tmp_path))
    assert expected in message
    assert "\n" not in message


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 9"):
        load_rules(tmp_path)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "huge.yaml").write_text("#" * 300_000)
    with pytest.raises(ConfigError, match="300000 bytes; a rule file has at most 262144"):
        load_rules(tmp_path)


def test_one_name_in_two_files_is_an_error(tmp_path: Path) -> None:
    for file in ("a.yaml", "b.yml"):
        (tmp_path / file).write_text(GOOD.format(name="burn"))
    with pytest.raises(ConfigError, match=re.escape("b.yml:1: rule name 'burn' is already used at")):
        load_rules(tmp_path)


def test_a_directory_adds_to_and_replaces_packaged_rules_by_name(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(GOOD.format(name="own"))
    (tmp_path / "drift.yaml").write_text(GOOD.format(name="drift"))
    rules = {rule.name: rule for rule in effective_rules(tmp_path)}
    assert rules.keys() == {rule.name for rule in load_rules(PACKAGED)} | {"own"}
    assert rules["drift"].kind == "slo"


def test_a_packaged_rule_can_be_switched_off(tmp_path: Path) -> None:
    (tmp_path / "off.yaml").write_text(GOOD.format(name="silent_devices") + "enabled: false\n")
    assert "silent_devices" not in {rule.name for rule in effective_rules(tmp_path)}


def test_a_replaced_rule_may_not_close_a_circle(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").write_text(GOOD.format(name="crash_loop") + "inhibited_by: [{rule: crash_free_missed}]\n")
    with pytest.raises(ConfigError, match="inhibit each other in a circle"):
        effective_rules(tmp_path)


def test_a_directory_that_is_not_there_means_the_packaged_rules(tmp_path: Path) -> None:
    assert effective_rules(tmp_path / "absent") == effective_rules(None)


def test_every_packaged_rule_has_its_runbook_and_each_runbook_its_rule() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert {rule.runbook for rule in load_rules(PACKAGED)} == pages


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("[a-z]*.md")), ids=lambda path: path.stem)
def test_a_runbook_answers_the_four_questions(page: Path) -> None:
    headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings == ["What it means", "How sure it is", "First checks", "How to mend it", "When it ends"]


@pytest.mark.parametrize(
    ("text", "minutes"), [("15m", 15), ("1h30m", 90), ("2d", 2880), ("0s", 0), ("1d1h1m60s", 1502)]
)
def test_durations_are_read_as_nanoseconds(text: str, minutes: int) -> None:
    assert duration_ns(text) == minutes * MINUTE_NS

"""docs/alerts.md agrees with the code."""

import re
import types
from pathlib import Path

from alerts.rules import load_rules
from alerts.schema import PLACEHOLDERS, Rule, field_names
from alerts.state import Action

DOCS = Path(__file__).parents[2] / "docs" / "alerts.md"


def test_every_field_of_a_rule_is_documented_and_no_other() -> None:
    table = DOCS.read_text(encoding="utf-8").partition("| field |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == set(field_names(Rule))


def test_every_placeholder_and_action_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert set(re.findall(r"`\{(\w+)\}`", text)) == set(PLACEHOLDERS)
    assert all(f"`{action}`" in text for action in Action)


def test_the_example_rule_is_valid(tmp_path: Path) -> None:
    text = DOCS.read_text(encoding="utf-8")
    (tmp_path / "example.yaml").write_text(text.partition("```yaml\n")[2].partition("```")[0])
    assert [rule.name for rule in load_rules(tmp_path)] == ["cam_latency_burn"]


def test_the_example_receiver_accepts_a_genuine_notice_and_refuses_a_forged_one() -> None:
    from time import time

    from alerts.notify.webhook import signature

    source = DOCS.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    module = types.ModuleType("example")
    exec(source, module.__dict__)
    header = signature("secret", int(time()), b"body")
    assert module.is_genuine("secret", header, b"body")
    assert not module.is_genuine("secret", header, b"bodY")
    assert not module.is_genuine("secret", signature("secret", int(time()) - 3600, b"body"), b"body")

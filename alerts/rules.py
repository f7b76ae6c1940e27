"""Rule files: YAML read with line numbers, validated, merged over the packaged defaults.

A file holds one rule or a list of rules. Whatever is wrong is one ``ConfigError`` with file, line, value and the
nearest valid word, raised at start; a rule file is never half taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from alerts.schema import Rule, field_names, model_at, nearest
from collector.errors import ConfigError

PACKAGED: Final = Path(__file__).parent / "rules"
FILE_BYTES_MAX: Final = 256 * 1024
DEPTH_MAX: Final = 12


def load_rules(directory: Path) -> tuple[Rule, ...]:
    """Return the rules of one directory's ``*.yaml`` and ``*.yml`` files, in file order.

    Raises ``ConfigError`` for the first thing that is wrong, a name used twice included.
    """
    rules: dict[str, tuple[Rule, str]] = {}
    for path in sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")]):
        for rule, where in _load_file(path):
            if rule.name in rules:
                raise ConfigError(
                    f"{where}: rule name {rule.name!r} is already used at {rules[rule.name][1]}; names are unique"
                )
            rules[rule.name] = (rule, where)
    known = {*rules, *_packaged_names(directory)}
    for rule, where in rules.values():
        for entry in rule.inhibited_by:
            if entry.rule not in known:
                raise ConfigError(f"{where}: inhibited_by names no rule {entry.rule!r}; {nearest(entry.rule, known)}")
    found = tuple(rule for rule, _ in rules.values())
    _refuse_cycles(found, directory)
    return found


def effective_rules(directory: Path | None) -> tuple[Rule, ...]:
    """Return the enabled rules: the packaged ones, each replaced by a rule of the same name in ``directory``.

    A directory that does not exist means the packaged rules alone. Raises ``ConfigError``.
    """
    own = load_rules(directory) if directory is not None and directory.is_dir() else ()
    merged = {rule.name: rule for rule in (*load_rules(PACKAGED), *own)}
    _refuse_cycles(tuple(merged.values()), directory or PACKAGED)
    return tuple(rule for rule in merged.values() if rule.enabled)


def _packaged_names(directory: Path) -> set[str]:
    return set() if directory == PACKAGED else {rule.name for rule in load_rules(PACKAGED)}


def _refuse_cycles(rules: tuple[Rule, ...], directory: Path) -> None:
    above = {rule.name: {entry.rule for entry in rule.inhibited_by} for rule in rules}
    while above:
        free = [name for name, parents in above.items() if not parents & above.keys()]
        if not free:
            raise ConfigError(f"{directory}: rules {', '.join(sorted(above))} inhibit each other in a circle")
        for name in free:
            del above[name]


def _load_file(path: Path) -> list[tuple[Rule, str]]:
    try:
        data = path.read_bytes()
        if len(data) > FILE_BYTES_MAX:
            raise ConfigError(f"{path}: {len(data)} bytes; a rule file has at most {FILE_BYTES_MAX}")
        text = data.decode("utf-8")
        _refuse_tricks(path, text)
        documents = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node is not None]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if len(documents) != 1:
        raise ConfigError(f"{path}: {len(documents)} YAML documents; write one rule or one list of rules")
    root = documents[0]
    nodes = root.value if isinstance(root, yaml.SequenceNode) else [root]
    return [(_rule(path, node), f"{path}:{_line(node)}") for node in nodes]


def _refuse_tricks(path: Path, text: str) -> None:
    # An alias can make a file of a few lines unfold without end, deep nesting takes the parser minutes; no rule needs
    # either.
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{path}:{line}: alias *{event.anchor} is not allowed in a rule file; write it out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX:
            raise ConfigError(f"{path}:{line}: nested more than {DEPTH_MAX} deep; a rule needs three levels")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _rule(path: Path, node: yaml.Node) -> Rule:
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:{_line(node)}: a rule is a mapping of fields, this is {_words(node)}")
    _refuse_repeated_keys(path, node)
    try:
        value = _construct(node)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}:{_line(node)}: not valid YAML: {error.problem}") from None
    try:
        return Rule.model_validate(value)
    except ValidationError as error:
        raise ConfigError(_explain(path, node, error)) from None


def _construct(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _words(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _refuse_repeated_keys(path: Path, node: yaml.Node) -> None:
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_repeated_keys(path, child)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, child in node.value:
            if key.value in seen:
                raise ConfigError(f"{path}:{_line(key)}: {key.value!r} was given before, at line {seen[key.value]}")
            seen[str(key.value)] = _line(key)
            _refuse_repeated_keys(path, child)


def _explain(path: Path, root: yaml.Node, error: ValidationError) -> str:
    """Return one line for the first error of a rule: file, line, field, what is wrong, what is valid."""
    first = error.errors(include_url=False)[0]
    loc = tuple(first["loc"])
    line = _line(_node_at(root, loc))
    field = ".".join(str(part) for part in loc)
    if first["type"] == "extra_forbidden":
        return f"{path}:{line}: unknown field {field!r}; {nearest(str(loc[-1]), field_names(model_at(loc)))}"
    if first["type"] == "missing":
        return f"{path}:{line}: field {field!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], dict) or "Value error" in first["msg"] else f", not {first['input']!r}"
    return f"{path}:{line}: {field + ': ' if field else ''}{message[:1].lower()}{message[1:]}{given}"


def _node_at(root: yaml.Node, loc: tuple[Any, ...]) -> yaml.Node:
    """Return the node of a pydantic location, or the nearest one above it."""
    node = root
    for part in loc:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    # An unknown or wrong field is shown at its key, which is where the eye looks.
                    node = value if isinstance(value, (yaml.MappingNode, yaml.SequenceNode)) else key
                    break
    return node

"""YAML files with line numbers: every error of a configuration file names the file, the line, and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from collector.errors import ConfigError

Place: TypeAlias = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its data, where it came from, and on which line each part stands (1-based)."""

    path: str
    data: Any
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """Return the line of ``place``, or of the nearest part around it that is written in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, place: Place, message: str) -> ConfigError:
        """Return a ``ConfigError`` that names file, line and field."""
        field = ".".join(str(part) for part in place)
        return ConfigError(f"{self.path}:{self.line(place)}: {field + ': ' if field else ''}{message}")


def _lines(node: yaml.Node, place: Place, found: dict[Place, int]) -> None:
    found.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            found[inner] = key.start_mark.line + 1
            _lines(value, inner, found)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _lines(value, (*place, index), found)


def read_documents(path: Path) -> list[Document]:
    """Return the documents of a YAML file; raises ``ConfigError`` when it cannot be read or is not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); make it a readable UTF-8 file") from error
    return parse_documents(text, str(path))


def parse_documents(text: str, path: str) -> list[Document]:
    """Return the documents of a YAML text named ``path``; raises ``ConfigError`` when it is not YAML."""
    documents = []
    try:
        loader = yaml.SafeLoader(text)
        try:
            while loader.check_node():
                node = loader.get_node()
                assert node is not None
                found: dict[Place, int] = {}
                _lines(node, (), found)
                documents.append(Document(path, loader.construct_document(node), found))
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{path}:{line}: not valid YAML ({problem}); mend the line or quote the value") from error
    except RecursionError as error:
        raise ConfigError(f"{path}:1: nested too deeply; flatten the file") from error
    return documents


def nearest(name: str, valid: Sequence[str]) -> str:
    """Return the advice that names the nearest valid word, or all of them."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(sorted(valid))}"


def _fields_at(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """Return the field names (as written in files) of the model that ``place`` leads to."""
    current: Any = model
    for part in place:
        if isinstance(part, int):
            continue
        fields = {info.alias or name: info for name, info in current.model_fields.items()}
        if part not in fields:
            return []
        current = _model_in(fields[part].annotation)
        if current is None:
            return []
    return [info.alias or name for name, info in current.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def validated(model: type[M], document: Document) -> M:
    """Return the document as ``model``; raises ``ConfigError`` with file, line and advice for its first error."""
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        # a field that is not known explains the one that is missing
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        place = tuple(first["loc"])
        if first["type"] == "extra_forbidden":
            advice = nearest(str(place[-1]), _fields_at(model, place[:-1]))
            raise document.error(place, f"unknown field; {advice}") from None
        if first["type"] == "missing":
            raise document.error(place, "is required and missing; add it") from None
        message = str(first["msg"]).removeprefix("Value error, ")
        given = first.get("input")
        shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) or given is None else ""
        raise document.error(place, message + shown) from None

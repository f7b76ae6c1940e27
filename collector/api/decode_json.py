"""OTLP/JSON to the protobuf messages of the same request.

The protobuf JSON mapping with OTLP's differences (specification, "JSON Protobuf Encoding"): trace and span ids are
hex, enums are integers only, keys are lowerCamelCase only, unknown keys are ignored. ``google.protobuf.json_format``
accepts other spellings of all four, so the walk is our own; the message descriptors drive it.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from functools import cache
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import FieldDescriptor

from collector.api.decode_canonical import MalformedRequestError
from collector.api.decode_limits import check_json

Request = TypeVar("Request")

_HEX_FIELDS: Final = frozenset({"trace_id", "span_id", "parent_span_id"})
_INTEGER: Final = re.compile(r"-?[0-9]+")
_WORDS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_INT_RANGE: Final = {
    **dict.fromkeys((FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_ENUM), (-(2**31), 2**31 - 1)),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def from_json(request: type[Request], body: bytes) -> Any:
    """Return ``body`` as a message of class ``request``.

    Raises ``MalformedRequestError``, which names the field, and ``OversizedRequestError``.
    """
    check_json(body)
    message: Any = request()
    try:
        document = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:  # also an integer of more digits than the interpreter reads
        raise MalformedRequestError(f"the body is not JSON: {error}") from error
    try:
        _fill(message, document, "$")
    except (UnicodeError, RecursionError) as error:
        raise MalformedRequestError(f"the body is not an OTLP request: {error}") from error
    return message


@cache
def _fields(descriptor: Any) -> dict[str, Any]:
    return {field.json_name: field for field in descriptor.fields}


def _fill(message: Any, document: Any, path: str) -> None:
    """Set the fields of ``message`` from a JSON object."""
    if not isinstance(document, dict):
        raise MalformedRequestError(f"{path} is {_kind(document)}, not an object")
    fields = _fields(message.DESCRIPTOR)
    for key, value in document.items():
        field = fields.get(key)
        if field is None or value is None:
            continue
        where = f"{path}.{key}"
        if field.is_repeated:
            _fill_list(message, field, value, where)
            continue
        group = field.containing_oneof
        if group is not None and message.WhichOneof(group.name) is not None:
            raise MalformedRequestError(f"{where}: another field of {group.name!r} is set already; send one of them")
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            child = getattr(message, field.name)
            child.SetInParent()
            _fill(child, value, where)
        else:
            setattr(message, field.name, _scalar(field, value, where))


def _fill_list(message: Any, field: Any, value: Any, where: str) -> None:
    if not isinstance(value, list):
        raise MalformedRequestError(f"{where} is {_kind(value)}, not an array")
    target = getattr(message, field.name)
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        for position, item in enumerate(value):
            _fill(target.add(), item, f"{where}[{position}]")
    else:
        target.extend(_scalar(field, item, f"{where}[{position}]") for position, item in enumerate(value))


def _scalar(field: Any, value: Any, where: str) -> Any:
    """Return a JSON value as the field's Python type."""
    kind = field.cpp_type
    if kind in _INT_RANGE:
        return _integer(field, value, where)
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        return _double(value, where)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        if isinstance(value, bool):
            return value
        raise MalformedRequestError(f"{where} is {_kind(value)}, not true or false")
    if not isinstance(value, str):
        raise MalformedRequestError(f"{where} is {_kind(value)}, not a string")
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes(field, value, where)
    return value


def _integer(field: Any, value: Any, where: str) -> int:
    if isinstance(value, str) and field.cpp_type != FieldDescriptor.CPPTYPE_ENUM and _INTEGER.fullmatch(value):
        value = int(value) if len(value) <= 20 else 2**64
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        enum = field.cpp_type == FieldDescriptor.CPPTYPE_ENUM
        raise MalformedRequestError(
            f"{where} is {str(value)[:60]!r}, not an integer" + ("; OTLP/JSON has no enum names" if enum else "")
        )
    low, high = _INT_RANGE[field.cpp_type]
    if not low <= value <= high:
        raise MalformedRequestError(f"{where} is outside {low}..{high}")
    return value


def _double(value: Any, where: str) -> float:
    if isinstance(value, str):
        try:
            return _WORDS[value] if value in _WORDS else float(value)
        except ValueError:
            raise MalformedRequestError(f"{where} is {value[:60]!r}, not a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedRequestError(f"{where} is {_kind(value)}, not a number")
    try:
        return float(value)
    except OverflowError:
        raise MalformedRequestError(f"{where} is beyond what a double holds") from None


def _bytes(field: Any, value: str, where: str) -> bytes:
    try:
        if field.name in _HEX_FIELDS:
            return bytes.fromhex(value)
        padded = value.replace("-", "+").replace("_", "/")
        return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
    except (ValueError, binascii.Error):
        form = "hex" if field.name in _HEX_FIELDS else "base64"
        raise MalformedRequestError(f"{where} is {value[:60]!r}, not {form}") from None


def _kind(value: Any) -> str:
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )

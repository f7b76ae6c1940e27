"""Canonical form of attributes, and the content ids that points refer to dictionaries by.

Canonical JSON has sorted keys, no spaces, and keeps types apart: ints stay ints, doubles stay floats, bytes are
``{"bytes": base64}``. Its blake2b-128 is the same whatever proxy re-marshalled the message, so that no ingest worker
has to ask another for an id.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Generic, TypeAlias, TypeVar

from opentelemetry.proto.common.v1.common_pb2 import KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from collector.errors import StackError
from collector.ingest.batch import DecodedBatch, Row
from device_sdk.contract import attributes as keys

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Attributes: TypeAlias = "dict[str, Json]"
Value = TypeVar("Value")

CACHE_BYTES: Final = 64 << 20
"""Most bytes of keys and values one cache holds before it starts anew."""

_NOT_FINITE: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}


class MalformedRequestError(StackError):
    """A request body is not what its content type says; the client must not send it again."""


class BoundedCache(Generic[Value]):
    """A dict that forgets everything once it holds more than ``limit`` bytes: bounded, and cheap on a hit."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.known: dict[Any, Value] = {}
        self._limit = limit
        self._held = 0

    def put(self, key: object, value: Value, size: int) -> None:
        """Remember ``value``, which with its key takes about ``size`` bytes."""
        if self.charge(size):
            self.known[key] = value

    def charge(self, size: int) -> bool:
        """Count ``size`` bytes as held, forgetting everything when they do not fit; return whether they ever can."""
        if size > self._limit:
            return False
        self._held += size
        if self._held > self._limit:
            self.known.clear()
            self._held = size
        return True


def canonical(value: Json) -> str:
    """Return canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def content_id(text: str) -> bytes:
    """Return the 16 bytes that stand for ``text``."""
    return blake2b(text.encode(), digest_size=16).digest()


def plain_double(value: float) -> float | str:
    """Return a double as JSON can carry it: NaN and infinities are the strings of OTLP/JSON."""
    if math.isfinite(value):
        return value
    return _NOT_FINITE.get(value, "NaN")


def plain(value: Any) -> Json:
    """Return an ``AnyValue`` message as JSON."""
    match value.WhichOneof("value"):
        case "string_value":
            return str(value.string_value)
        case "bool_value":
            return bool(value.bool_value)
        case "int_value":
            return int(value.int_value)
        case "double_value":
            return plain_double(value.double_value)
        case "array_value":
            return [plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return plain_attributes(value.kvlist_value.values)
        case "bytes_value":
            return {"bytes": base64.b64encode(value.bytes_value).decode()}
        case _:
            return None


def plain_attributes(pairs: Iterable[Any]) -> Attributes:
    """Return ``KeyValue`` messages as a dict; of a key that occurs twice the last value stays."""
    return {pair.key: plain(pair.value) for pair in pairs}


def parsed_attributes(serialised: Iterable[bytes]) -> Attributes:
    """Return serialised ``KeyValue`` messages as a dict; raises protobuf's ``DecodeError``."""
    framed = bytearray()
    for item in serialised:
        framed += b"\x0a"
        length = len(item)
        while length > 0x7F:
            framed.append(length & 0x7F | 0x80)
            length >>= 7
        framed.append(length)
        framed += item
    return plain_attributes(KeyValueList.FromString(bytes(framed)).values)


def text_of(attributes: Mapping[str, Json], key: str) -> str:
    """Return an attribute as text, '' when absent; what is not a string is given as canonical JSON."""
    value = attributes.get(key)
    if value is None:
        return ""
    return value if isinstance(value, str) else canonical(value)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent: the ids and dictionary rows that follow from one resource."""

    stream: bytes
    resource: bytes
    cohort: bytes
    resource_row: Row
    cohort_row: Row
    stream_row: Row
    """Without its last column, ``first_received_ns``."""

    def join(self, batch: DecodedBatch) -> None:
        """Put the dictionary rows into ``batch``."""
        batch.resources.setdefault(self.resource, self.resource_row)
        batch.cohorts.setdefault(self.cohort, self.cohort_row)
        if self.stream not in batch.streams:
            batch.streams[self.stream] = (*self.stream_row, batch.received_ns)


class Senders:
    """Senders by the serialised resource they sent."""

    def __init__(self) -> None:
        self._cache: BoundedCache[Sender] = BoundedCache()

    def of(self, serialised: bytes) -> Sender:
        """Return the sender; raises protobuf's ``DecodeError`` when the bytes are no resource."""
        sender = self._cache.known.get(serialised)
        if sender is None:
            sender = make_sender(plain_attributes(Resource.FromString(serialised).attributes))
            self._cache.put(serialised, sender, 2 * len(serialised) + 1000)
        return sender


def make_sender(attributes: Attributes) -> Sender:
    """Return the sender with these resource attributes."""
    resource_json = canonical(attributes)
    resource = content_id(resource_json)
    cohort_json = canonical(
        {
            key: value
            for key, value in attributes.items()
            if key in keys.COHORT_KEYS or key.startswith(keys.LABEL_PREFIX)
        }
    )
    cohort = content_id(cohort_json)
    instance = text_of(attributes, keys.SERVICE_INSTANCE_ID)
    stream = content_id("i:" + instance if instance else "r:" + resource_json)
    named = (text_of(attributes, key) for key in keys.DEVICE_ID_KEYS)
    device = next(filter(None, named), "unknown:" + resource.hex()[:8])
    dimensions = (keys.TIER, keys.REGION, keys.RING, keys.FIRMWARE_VERSION)
    return Sender(
        stream=stream,
        resource=resource,
        cohort=cohort,
        resource_row=(resource, resource_json),
        cohort_row=(cohort, cohort_json, *(text_of(attributes, key) for key in dimensions)),
        stream_row=(stream, device, instance, text_of(attributes, keys.BOOT_ID), resource, cohort),
    )

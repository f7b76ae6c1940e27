"""Pages of lists: opaque cursors, the envelope of every list, JSON or Arrow by ``Accept``."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import pyarrow as pa
from fastapi import Query, Request
from fastapi.responses import Response

from collector.api.problems import ApiProblemError

ARROW: Final = "application/vnd.apache.arrow.stream"
LIMIT_DEFAULT: Final = 1000
LIMIT_MAX: Final = 10_000
NOT_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity"})
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Most items of one answer.")]
Cursor = Annotated[str, Query(description="The `next` of the answer before; goes on right after it.")]
From = Annotated[
    int, Query(alias="from", ge=INT64_MIN, le=INT64_MAX, description="First instant, epoch ns; absent: all.")
]
To = Annotated[int, Query(ge=INT64_MIN, le=INT64_MAX, description="First instant after the range, epoch ns.")]


def encode_cursor(key: Sequence[str | int]) -> str:
    """Return the opaque text for the key of the last row of a page."""
    return base64.urlsafe_b64encode(json.dumps(list(key), separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kinds: Sequence[type]) -> list[Any] | None:
    """Return the key of a cursor, None for the first page; raises a 400 problem when it is not one of ours."""
    if not cursor:
        return None
    try:
        key = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        key = None
    fits = isinstance(key, list) and len(key) == len(kinds)
    if not fits or any(type(part) is not kind for part, kind in zip(key, kinds, strict=True)):
        raise ApiProblemError(
            400, f"cursor {cursor[:80]!r} is not one that this list gave out; pass the answer's `next` unchanged"
        )
    if any(isinstance(part, int) and not INT64_MIN <= part <= INT64_MAX for part in key):
        raise ApiProblemError(400, f"cursor {cursor[:80]!r} holds a number beyond 64 bits")
    return list(key)


def wants_arrow(request: Request) -> bool:
    """Return whether the client asks for an Arrow stream."""
    return ARROW in request.headers.get("accept", "")


def json_response(body: Any, status: int = 200) -> Response:
    """Return JSON; a NaN that slipped through is an error here rather than at the reader."""
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "surrogatepass"), status, media_type="application/json")


def list_response(items: Sequence[Mapping[str, Any]], cursor: str | None, as_of_ns: int) -> Response:
    """Return one page as JSON."""
    return json_response({"items": items, "next": cursor, "as_of_ns": as_of_ns})


def arrow_response(table: pa.Table, cursor: str | None, as_of_ns: int) -> Response:
    """Return one page as an Arrow stream; the envelope is in the schema's metadata and in two headers."""
    envelope = {"next": cursor or "", "as_of_ns": str(as_of_ns)}
    table = table.replace_schema_metadata(envelope)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    headers = {"X-FleetPulse-Next": envelope["next"], "X-FleetPulse-As-Of-Ns": envelope["as_of_ns"]}
    return Response(sink.getvalue().to_pybytes(), 200, headers, ARROW)


def table_of(items: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return items as a table: objects and lists as JSON text; a column is there when any item has it."""
    names = list(dict.fromkeys(name for item in items for name in item))
    return pa.table({name: _column([item.get(name) for item in items]) for name in names})


def _column(values: Sequence[Any]) -> pa.Array:
    """Return one column; among numbers the words of OTLP/JSON are the doubles they stand for."""
    flat = [json.dumps(value, allow_nan=False) if isinstance(value, dict | list) else value for value in values]
    if any(isinstance(value, int | float) for value in flat):
        flat = [float(value) if isinstance(value, str) and value in NOT_FINITE else value for value in flat]
    return pa.array(flat)


def respond(request: Request, items: Sequence[Mapping[str, Any]], cursor: str | None, as_of_ns: int) -> Response:
    """Return one page of small items in the form the client asks for."""
    if wants_arrow(request):
        return arrow_response(table_of(items), cursor, as_of_ns)
    return list_response(items, cursor, as_of_ns)

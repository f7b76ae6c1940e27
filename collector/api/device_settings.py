"""Remote settings on both ports: the operator sets and lists documents, devices fetch theirs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from collector.api.auth import Guard, Scope
from collector.ingest.batch import DecodedBatch
from collector.ingest.device_settings import (
    Document,
    SettingsBook,
    check_document,
    check_selector,
    choose,
    publish,
)
from collector.storage.base import Store
from collector.storage.rows import SETTINGS
from device_sdk.contract import settings as wire

PATH = wire.PATH
Action = Callable[[dict[str, Any]], Mapping[str, Any]]


def id_header(book: SettingsBook, batch: DecodedBatch) -> list[tuple[bytes, bytes]]:
    """Return the header that names the settings of who sent ``batch``; none when several devices did (a proxy)."""
    if not batch.streams:
        return []
    devices = {row[1] for row in batch.streams.values()}
    if len(devices) > 1:
        return []
    newest = next(reversed(batch.streams.values()))  # the sender's own stream follows those it had kept
    found = book.id_for(newest[1], batch.cohorts[newest[5]][1])
    return [(wire.HEADER.lower().encode(), found.encode())] if found else []


def add_route(app: FastAPI, book: SettingsBook, guard: Guard) -> None:
    """Serve ``GET /v1/settings?id=`` on the device port: a document by its id, which is its ETag too."""

    @app.get(wire.PATH)
    async def settings(request: Request) -> Response:
        """Return the document with this id."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        if denied := guard.check(headers, Scope.INGEST):
            challenge = {"WWW-Authenticate": "Bearer"} if denied.status == 401 else None
            return _refusal(denied.status, denied.message, challenge)
        wanted = request.query_params.get("id", "")
        if not wanted:
            return _refusal(400, f"name the document: {wire.PATH}?id=<id>, as the header {wire.HEADER} said it")
        text = book.text_of(wanted)
        if text is None:
            return _refusal(404, f"no settings have id {wanted[:80]!r}; the next export answer names the current ones")
        tag = {"ETag": f'"{wanted}"', "Cache-Control": "no-cache"}
        if wanted in [part.strip().strip('"') for part in headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=tag)
        return Response(text, media_type="application/json", headers=tag)


def _refusal(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    title = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}[status]
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


class SettingsDesk:
    """Sets, removes and lists documents in the store, and publishes them to the workers."""

    def __init__(self, store: Store, path: Path, clock_ns: Callable[[], int]) -> None:
        self._store = store
        self._path = path
        self._clock_ns = clock_ns
        self._written_ns = 0
        self._lock = threading.Lock()
        if self._rows():
            self.publish()  # a file lost or left behind by a killed process is made anew

    def _rows(self) -> list[dict[str, Any]]:
        """Return the newest row of each selector, removed ones too."""
        return [dict(row) for row in self._store.query("settings").to_pylist()]

    def documents(self) -> list[Document]:
        """Return the documents in force, the most specific first."""
        found = [
            Document(tuple(sorted(json.loads(row["selector"]).items())), row["document_id"], row["document"])
            for row in self._rows()
            if row["document"]
        ]
        return sorted(found, key=lambda item: item.rank)

    def publish(self) -> None:
        """Write the file that workers read; raises ``OSError``."""
        publish(self._path, self.documents())

    def actions(self) -> dict[str, Action]:
        """Return the administrative actions: ``settings/set``, ``settings/remove``, ``settings/list``."""
        return {"settings/set": self._set, "settings/remove": self._remove, "settings/list": self._list}

    def _set(self, body: dict[str, Any]) -> Mapping[str, Any]:
        selector, text = check_selector(_object(body, "selector")), check_document(_object(body, "document"))
        document_id = wire.document_id(text.encode())
        self._write(selector, text, document_id)
        return {"selector": dict(selector), "id": document_id, "document": json.loads(text)}

    def _remove(self, body: dict[str, Any]) -> Mapping[str, Any]:
        selector = check_selector(_object(body, "selector"))
        known = [dict(item.selector) for item in self.documents()]
        if dict(selector) not in known:
            raise ValueError(f"no settings for {dict(selector)}; there are settings for {known or 'nobody'}")
        self._write(selector, "", "")
        return {"selector": dict(selector), "removed": True}

    def _list(self, body: dict[str, Any]) -> Mapping[str, Any]:
        del body
        written = {row["selector"]: row["written_ns"] for row in self._rows()}
        return {
            "items": [
                {
                    "selector": dict(item.selector), "id": item.id, "document": json.loads(item.text),
                    "written_ns": written[_key(item.selector)],
                }
                for item in self.documents()
            ]
        }  # fmt: skip

    def _write(self, selector: tuple[tuple[str, str], ...], text: str, document_id: str) -> None:
        with self._lock:  # actions run in threads: the file must not end as an older one than the store
            self._written_ns = max(self._clock_ns(), self._written_ns + 1)
            row = {
                "selector": _key(selector), "document": text, "document_id": document_id,
                "written_ns": self._written_ns,
            }  # fmt: skip
            self._store.append("settings", pa.Table.from_pylist([row], schema=SETTINGS))
            self.publish()


def _key(selector: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(selector), sort_keys=True, separators=(",", ":"))


def _object(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"{name} = {value!r}: give a JSON object")
    return value


def of_device(store: Store, device_id: str, cohort: Mapping[str, Any]) -> dict[str, Any]:
    """Return which settings a device should run, by which selector, and which it said that it runs."""
    listed = [
        Document(tuple(sorted(json.loads(row["selector"]).items())), row["document_id"], row["document"])
        for row in store.query("settings").to_pylist()
        if row["document"]
    ]
    chosen = choose(listed, device_id, cohort)
    told = store.query("settings_applied", {"device": device_id}).to_pylist()
    return {
        "id": chosen.id if chosen else None,
        "selector": dict(chosen.selector) if chosen else None,
        "document": json.loads(chosen.text) if chosen else None,
        "applied": {"time_ns": told[0]["time_ns"], **json.loads(told[0]["attributes"])} if told else None,
    }

"""What the demo asks a running stack: its administration, lists page by page, and sums per device."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import numpy as np
import pyarrow as pa

from collector.errors import StackError

TIMEOUT_S: Final = 900.0
ARROW: Final = "application/vnd.apache.arrow.stream"
PAGE: Final = 10_000


@dataclass(frozen=True, slots=True)
class StackAddress:
    """Where a running stack answers."""

    otlp_url: str
    api_url: str
    dashboard_url: str
    token: str


class Client:
    """The query and admin API of a running stack; every failure is a ``StackError`` with the stack's words."""

    def __init__(self, address: StackAddress) -> None:
        headers = {"Authorization": f"Bearer {address.token}"} if address.token else {}
        self._http = httpx.Client(base_url=address.api_url, headers=headers, timeout=TIMEOUT_S)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _checked(self, what: str, answer: httpx.Response) -> httpx.Response:
        if answer.status_code != 200:
            raise StackError(f"{what}: the stack answered {answer.status_code}: {answer.text[:300]}")
        return answer

    def _get(self, path: str, parameters: Mapping[str, Any], *, arrow: bool = False) -> httpx.Response:
        headers = {"Accept": ARROW} if arrow else {}
        try:
            return self._checked(path, self._http.get(path, params=dict(parameters), headers=headers))
        except httpx.HTTPError as error:
            raise StackError(f"{path}: the stack does not answer: {error}; its log says why") from None

    def admin(self, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST one admin action and return its answer."""
        path = f"/api/v1/admin/{action}"
        try:
            return dict(self._checked(path, self._http.post(path, json=dict(body))).json())
        except httpx.HTTPError as error:
            raise StackError(f"{path}: the stack does not answer: {error}; its log says why") from None

    def items(self, path: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Yield all items of a list, page by page."""
        cursor: str | None = None
        while True:
            page = {**parameters, "limit": PAGE, **({"cursor": cursor} if cursor else {})}
            answer = self._get(path, page).json()
            yield from answer["items"]
            cursor = answer.get("next")
            if not cursor:
                return

    def counter_sums(self, metric: str, from_ns: int, to_ns: int) -> dict[str, float]:
        """Return the sum of a counter's points per device over [from, to)."""
        sums: dict[str, float] = defaultdict(float)
        cursor: str | None = None
        path = f"/api/v1/metrics/{metric}/points"
        while True:
            page: dict[str, Any] = {"from": from_ns, "to": to_ns, "limit": PAGE}
            if cursor:
                page["cursor"] = cursor
            answer = self._get(path, page, arrow=True)
            with pa.ipc.open_stream(io.BytesIO(answer.content)) as reader:
                table = reader.read_all()
                metadata = table.schema.metadata or {}
            _add_by_device(sums, table)
            cursor = metadata.get(b"next", b"").decode() or None
            if not cursor:
                return dict(sums)

    def histogram_counts(self, metric: str, from_ns: int, to_ns: int) -> dict[str, float]:
        """Return the observations of a histogram per device over [from, to)."""
        path = f"/api/v1/metrics/{metric}/quantiles"
        parameters = {"q": "0.5", "by": "device.id", "from": from_ns, "to": to_ns}
        sums: dict[str, float] = defaultdict(float)
        for row in self.items(path, **parameters):
            sums[str(row["by"]["device.id"])] += float(row["count"])
        return dict(sums)


def _add_by_device(sums: dict[str, float], table: pa.Table) -> None:
    if not table.num_rows:
        return
    devices = table.column("device_id").combine_chunks().dictionary_encode()
    integers = table.column("value_int").fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64)
    doubles = table.column("value_double").fill_null(0.0).to_numpy(zero_copy_only=False)
    totals = np.bincount(devices.indices.to_numpy(), weights=integers + doubles, minlength=len(devices.dictionary))
    for device_id, total in zip(devices.dictionary.to_pylist(), totals, strict=True):
        sums[device_id] += float(total)

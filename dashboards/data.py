"""The only caller of the query API: HTTP in, frozen rows out, with the last good answer kept for when it is down."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx

from dashboards.rows import Alert, Device, Verdict, alert_of, current, device_of, mapping, verdict_of

DEFAULT_URL: Final = "http://127.0.0.1:8400"
FRESH_S: Final = 5.0
RETRY_S: Final = 5.0
PAGE_ITEMS: Final = 10_000
PAGES_MAX: Final = 6
CACHE_MAX: Final = 200
TIMEOUT_S: Final = 8.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """The items of one list, all pages of it, and the event time they are true for (UTC epoch ns)."""

    items: tuple[Mapping[str, Any], ...] = ()
    as_of_ns: int = 0
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Outage:
    """Why the newest answer is missing: wall time of the first failure (UTC epoch ns) and what the API said."""

    since_ns: int
    message: str
    forbidden: bool = False


@dataclass(slots=True)
class _Entry:
    value: Any = None
    good: bool = False
    fetched_s: float = -1e9
    tried_s: float = -1e9
    lock: threading.Lock = field(default_factory=threading.Lock)


def api_url(environ: Mapping[str, str] = os.environ) -> str:
    """Return the base URL of the query API, from ``FLEETPULSE_API_URL``."""
    return (environ.get("FLEETPULSE_API_URL") or DEFAULT_URL).rstrip("/")


def api_token(environ: Mapping[str, str] = os.environ) -> str:
    """Return the read token from ``FLEETPULSE_API_TOKEN`` or the file that ``..._TOKEN_FILE`` names, '' without."""
    token = environ.get("FLEETPULSE_API_TOKEN", "")
    path = environ.get("FLEETPULSE_API_TOKEN_FILE", "")
    if not token and path:
        try:
            token = Path(path).read_text(encoding="utf-8")
        except OSError:
            return ""
    return token.strip()


class Reader:
    """Reads lists of the query API, thread-safe, each answer shared by all sessions for ``FRESH_S`` seconds.

    When the API fails, the last good answer of the same question is returned and ``outage`` says since when; a
    question that was never answered gives the empty answer. Nothing here raises for a broken API.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        headers = {"Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self.url = url
        self._client = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        self._entries: OrderedDict[object, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._clock_ns = clock_ns
        self._monotonic = monotonic
        self._outage: Outage | None = None
        self._resting_until_s = -1e9
        self._pool = ThreadPoolExecutor(max_workers=6, thread_name_prefix="query-api")

    def close(self) -> None:
        """Close the connections; the reader cannot be used afterwards."""
        self._pool.shutdown()
        self._client.close()

    @property
    def outage(self) -> Outage | None:
        """The standing failure, None while the API answers."""
        return self._outage

    def together(self, *calls: Callable[[], Result]) -> list[Result]:
        """Run independent reads at the same time, answers in the order of ``calls``."""
        return list(self._pool.map(lambda call: call(), calls))

    def verdicts(self, endpoint: str, *, from_ns: int = 0, to_ns: int = 0, **filters: object) -> list[Verdict]:
        """Read verdict rows of ``kpis``, ``crash-free``, ``slo``, ``drift``; a history when from and to are given.

        ``step_ns`` asks for a thinner history; a collector that does not know it answers every row.
        """
        if to_ns:
            filters |= {"from": from_ns, "to": to_ns}
        newest = not to_ns

        def shape(answer: Answer) -> list[Verdict]:
            rows = [verdict_of(item, endpoint) for item in answer.items]
            return current(rows) if newest else rows

        return self._read(f"/api/v1/{endpoint}", filters, shape, [])

    def alerts(self) -> list[Alert]:
        """Read the newest state of every alert."""
        return self._read("/api/v1/alerts", {}, lambda answer: [alert_of(item) for item in answer.items], [])

    def ledger(self, from_ns: int, to_ns: int) -> list[Alert]:
        """Read what happened to alerts in (from, to], in the order of the ledger."""
        window = {"from": from_ns, "to": to_ns}
        return self._read(
            "/api/v1/alerts/history", window, lambda answer: [alert_of(item) for item in answer.items], []
        )

    def devices(self, **filters: object) -> list[Device]:
        """Read the device list (at most ``PAGES_MAX`` pages)."""
        return self._read("/api/v1/devices", filters, lambda answer: [device_of(item) for item in answer.items], [])

    def items(self, path: str, **filters: object) -> Answer:
        """Read any list as it is; ``path`` without the ``/api/v1`` prefix. ``from_`` stands for ``from``."""
        named = {key.rstrip("_"): value for key, value in filters.items()}
        return self._read(f"/api/v1/{path}", named, lambda answer: answer, Answer())

    def metric(self, name: str, what: str, **filters: object) -> Answer:
        """Read ``points`` or ``quantiles`` of one metric; the name may hold any character."""
        return self.items(f"metrics/{quote(name, safe='')}/{what}", **filters)

    def as_of_ns(self) -> int:
        """Return the event time of the newest answer to ``/kpis``, 0 when there is none."""
        return self._read("/api/v1/kpis", {}, lambda answer: answer.as_of_ns, 0)

    def _read(
        self, path: str, filters: Mapping[str, object], shape: Callable[[Answer], Result], empty: Result
    ) -> Result:
        params = tuple(sorted((key, str(value)) for key, value in filters.items() if value not in (None, "")))
        entry = self._entry((path, params, shape.__qualname__))
        with entry.lock:
            now_s = self._monotonic()
            fresh = entry.good and now_s - entry.fetched_s < FRESH_S
            resting = now_s < self._resting_until_s or (self._outage is not None and now_s - entry.tried_s < RETRY_S)
            if not fresh and not resting:
                entry.tried_s = now_s
                answer = self._fetch(path, dict(params))
                if answer is not None:
                    entry.value, entry.good, entry.fetched_s = shape(answer), True, self._monotonic()
            value: Result = entry.value if entry.good else empty
            return value

    def _entry(self, key: object) -> _Entry:
        with self._lock:
            entry = self._entries.pop(key, None) or _Entry()
            self._entries[key] = entry
            while len(self._entries) > CACHE_MAX:
                self._entries.popitem(last=False)
            return entry

    def _fetch(self, path: str, params: dict[str, str]) -> Answer | None:
        items: list[Mapping[str, Any]] = []
        as_of_ns, cursor = 0, None
        params.setdefault("limit", str(PAGE_ITEMS))
        for _ in range(PAGES_MAX):
            try:
                page = params if cursor is None else {**params, "cursor": str(cursor)}
                response = self._client.get(path, params=page)
                response.raise_for_status()
                body = mapping(response.json())
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.NOT_FOUND:
                    return Answer()
                self._failed(_problem(error.response), forbidden=error.response.status_code in (401, 403))
                return None
            except (httpx.HTTPError, ValueError) as error:
                self._failed(f"{type(error).__name__}: {error}")
                self._resting_until_s = self._monotonic() + RETRY_S
                return None
            if isinstance(body.get("items"), list):
                items += body["items"]
            else:
                items.append(body)
            as_of_ns = int(body.get("as_of_ns") or as_of_ns)
            cursor = body.get("next")
            if not cursor:
                break
        self._outage = None
        return Answer(tuple(items), as_of_ns, bool(cursor))

    def _failed(self, message: str, *, forbidden: bool = False) -> None:
        since_ns = self._outage.since_ns if self._outage else self._clock_ns()
        self._outage = Outage(since_ns, message, forbidden)


def _problem(response: httpx.Response) -> str:
    """Return what an RFC 9457 answer says, or the bare status."""
    try:
        body = mapping(response.json())
    except ValueError:
        body = {}
    said = body.get("detail") or body.get("title") or response.reason_phrase
    return f"{response.status_code} {said}"

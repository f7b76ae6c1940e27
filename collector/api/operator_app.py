"""The application of the operator port: query API, health, ``/metrics``, administration."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from collector.api import health, judgement, problems, prometheus, query
from collector.api.auth import Guard, Tokens
from collector.api.auth import Scope as TokenScope
from collector.api.options import ApiOptions
from collector.api.paging import json_response
from collector.api.problems import ApiProblemError, problem
from collector.errors import StackError
from collector.storage.base import Store

logger = logging.getLogger(__name__)

Action = Callable[[dict[str, Any]], Mapping[str, Any]]

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
BODY_BYTES_MAX: Final = 1 << 20
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class GuardMiddleware:
    """Lets a request through when its token, or its coming straight from this machine, allows it."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        wanted = TokenScope.READ if scope["method"] in _SAFE_METHODS else TokenScope.OPERATE
        denied = self._guard.check(headers, wanted)
        if denied is None:
            await self._app(scope, receive, send)
            return
        challenge = {"WWW-Authenticate": "Bearer"} if denied.status == 401 else None
        await problem(denied.status, denied.message, scope["path"], challenge)(scope, receive, send)


def create_operator_app(
    store: Store,
    *,
    options: ApiOptions,
    admin: Mapping[str, Action] | None = None,
    metrics: Callable[[], Mapping[str, Any]] | None = None,
    clock_ns: Callable[[], int] = time.time_ns,
) -> FastAPI:
    """Return the application of the operator port.

    ``admin`` maps what follows ``/api/v1/admin/`` to a function from a JSON object to one; ``metrics`` adds numbers to
    ``/metrics``. Raises ``ConfigError`` when the token file is broken.
    """
    own = {options.local_token: TokenScope.OPERATE, options.local_read_token: TokenScope.READ}
    guard = Guard(Tokens(options.tokens_file), options.bind_host, own)
    app = FastAPI(
        title="FleetPulse query API",
        version="1",
        description="Named, parametrised queries. Times are UTC epoch nanoseconds; errors are RFC 9457 problems.",
        docs_url="/docs",
        redoc_url=None,
    )
    problems.install(app)
    app.include_router(health.router(health.Readiness(store, options.data_dir, clock_ns)))
    app.include_router(prometheus.router(store, options.data_dir, options.workers_dir, metrics or dict, clock_ns))
    app.include_router(query.router(store, clock_ns))
    app.include_router(judgement.router(store, clock_ns))
    _add_admin(app, admin or {})
    app.add_middleware(GuardMiddleware, guard=guard)
    return app


def _add_admin(app: FastAPI, admin: Mapping[str, Action]) -> None:
    @app.post("/api/v1/admin/{action:path}", response_model=None, tags=["administration"])
    async def administer(action: str, request: Request) -> Response:
        """Run one administrative action; the body is a JSON object."""
        run = admin.get(action)
        if run is None:
            known = ", ".join(sorted(admin)) or "none"
            raise ApiProblemError(404, f"no action is named {action!r}; known: {known}")
        body = await _json_object(request)
        try:
            result = await run_in_threadpool(run, body)
        except (ValueError, TypeError, KeyError) as error:
            raise ApiProblemError(400, f"{action}: {error}") from error
        except StackError as error:
            raise ApiProblemError(409, f"{action}: {error}") from error
        return json_response(dict(result))


async def _json_object(request: Request) -> dict[str, Any]:
    """Return the body; raises a problem unless it is a JSON object sent as such."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiProblemError(415, f"content type {kind!r}; send the body as application/json")
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > BODY_BYTES_MAX:
            raise ApiProblemError(413, f"the body is larger than {BODY_BYTES_MAX} bytes")
    try:
        body = json.loads(raw or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiProblemError(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ApiProblemError(400, f"the body is a JSON {type(body).__name__}; send an object")
    return body

"""Errors as RFC 9457 problem details: every error of the operator port has this one form."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from collector.errors import QueryTimeoutError, StackError

logger = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"


class ApiProblemError(Exception):
    """An answer that is an error: status, what is wrong with which value, and how to mend it."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def problem(status: int, detail: str, instance: str, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """Return the response for one error."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
        **more,
    }
    return Response(json.dumps(body, allow_nan=False), status, dict(headers or {}), MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make ``app`` answer every error as a problem."""

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiProblemError)
        return problem(error.status, error.detail, request.url.path, error.headers)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, str(error.detail), request.url.path, error.headers)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [
            {"parameter": ".".join(str(part) for part in item["loc"]), "message": str(item["msg"])}
            for item in error.errors()
        ]
        detail = "; ".join(f"{item['parameter']}: {item['message']}" for item in errors)
        return problem(422, detail, request.url.path, errors=errors)

    async def on_timeout(request: Request, error: Exception) -> Response:
        return problem(503, str(error), request.url.path, {"Retry-After": "5"})

    async def on_stack(request: Request, error: Exception) -> Response:
        return problem(503, str(error), request.url.path)

    async def on_bug(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, "the server failed to answer; its log has the reason", request.url.path)

    app.add_exception_handler(ApiProblemError, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(QueryTimeoutError, on_timeout)
    app.add_exception_handler(StackError, on_stack)
    app.add_exception_handler(Exception, on_bug)

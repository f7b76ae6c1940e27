"""Serves the dashboard: Streamlit as an ASGI app with a health route, compression and an error page of its own."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import streamlit as st
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from streamlit.starlette import App

from dashboards import markup, stylesheet

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8501
SCRIPT: Final = Path(__file__).with_name("app.py")

_log = logging.getLogger("dashboards")


def dashboard_command(host: str, port: int, api_url: str) -> list[str]:
    """Return the command line of a child process that serves the dashboard; a token goes in its environment only."""
    return [sys.executable, "-m", "dashboards.server", "--host", host, "--port", str(port), "--api-url", api_url]


def dashboard_environment(environ: Mapping[str, str], *, token: str = "", token_file: str = "") -> dict[str, str]:
    """Return the environment of that child: the caller's, plus how to read the query API."""
    extra = {"FLEETPULSE_API_TOKEN": token, "FLEETPULSE_API_TOKEN_FILE": token_file}
    return {**environ, **{key: value for key, value in extra.items() if value}}


def streamlit_config(host: str, port: int) -> dict[str, Any]:
    """Return every Streamlit option the dashboard sets: no telemetry, no file watching, no stack traces, our theme."""
    return {
        "server.address": host,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.enableStaticServing": True,
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "client.toolbarMode": "minimal",
        "logger.level": "warning",
        **stylesheet.theme(),
    }


async def _health(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok\n")


def _on_error(error: Exception) -> bool:
    """Show a card with an incident id; the details go to the log only."""
    incident = secrets.token_hex(4)
    _log.error("incident %s: a page failed", incident, exc_info=error)
    st.html(
        markup.state(
            "This page could not be drawn",
            (
                "A fault in the dashboard, not in the fleet. Other pages "
                f"work; the log has the details under incident {incident}."
            ),
        )
    )
    return True


app = App(
    SCRIPT,
    routes=[Route("/healthz", _health)],
    middleware=[Middleware(GZipMiddleware, minimum_size=1024)],
    on_script_error=_on_error,
)


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM; the query API's address comes from ``--api-url`` or ``FLEETPULSE_API_URL``."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.server", description="Serve the FleetPulse dashboard.")
    parser.add_argument("--host", default=DEFAULT_HOST)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--api-url", default="")
    chosen = parser.parse_args(arguments)
    if chosen.api_url:
        os.environ["FLEETPULSE_API_URL"] = chosen.api_url
    app.run(config=streamlit_config(chosen.host, chosen.port))


if __name__ == "__main__":
    main()

"""Verbs that serve: up, collect, dash, demo, simulate."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

import click

from fleetpulse.commands.options import setting_options, settings_from
from fleetpulse.settings import Settings

STACK_SETTINGS = (
    "data", "host", "otlp_port", "grpc_port", "api_host", "api_port", "dashboard_host", "dashboard_port", "dashboard",
    "workers", "store", "config", "public_url", "runbooks_url", "tokens_file", "webhook_url", "notify_history",
    "raw_retention_days", "judge_interval_s", "log_level",
)  # fmt: skip


def _run_stack(settings: Settings) -> None:
    from fleetpulse.runtime import Stack

    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopping = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    stack = Stack(settings)
    stack.start()
    try:
        click.echo(stack.ready_line)
        stack.watch(stopping.is_set)
    finally:
        stack.stop()


@click.command()
@setting_options(STACK_SETTINGS)
def up(**arguments: Any) -> None:
    """Run the whole stack: device port, store, schedule, alerts, dashboard."""
    _run_stack(settings_from(arguments))


@click.command()
@setting_options([name for name in STACK_SETTINGS if not name.startswith("dashboard")])
def collect(**arguments: Any) -> None:
    """Run the stack without a dashboard."""
    _run_stack(settings_from({**arguments, "dashboard": False}))


@click.command()
@setting_options(["dashboard_host", "dashboard_port", "api_url", "data"])
def dash(**arguments: Any) -> None:
    """Run only the dashboard, on the query API of a collector that runs elsewhere."""
    from fleetpulse.datadir import find_running
    from fleetpulse.runtime import dashboard_child

    settings = settings_from(arguments)
    running = find_running(settings.data_dir)
    api_url = settings.api_url or (running.api_url if running else "http://127.0.0.1:8400")
    local_token = running.operate_token if running and running.api_url == api_url else ""
    command, environment = dashboard_child(
        settings.dashboard_host, settings.dashboard_port, api_url, settings.api_token or local_token
    )
    os.execvpe(command[0], command, environment)  # noqa: S606  # the dashboard takes this process's place


@click.command()
@click.option("--exit", "leave", is_flag=True, help="end by itself: 0, or 1 when something was missed or false")
@click.option("--devices", type=click.IntRange(min=20), default=100, show_default=True, help="devices of the fleet")
@click.option("--days", type=click.IntRange(min=15), default=16, show_default=True, help="simulated days of history")
@click.option("--seed", type=int, default=1, show_default=True, help="seed of the whole simulation")
@click.option("--data", default=None, help="keep the data in this directory [default: a temporary one]")
@click.option("--dashboard-host", default="127.0.0.1", show_default=True, help="address of the dashboard")
def demo(leave: bool, devices: int, days: int, seed: int, data: str | None, dashboard_host: str) -> int:
    """Run a simulated fleet from inference to alert and show what was found."""
    from rich.console import Console

    from fleetpulse.demo import DemoOptions, run_demo

    options = DemoOptions(leave=leave, devices=devices, days=days, seed=seed, data=data, dashboard_host=dashboard_host)
    return run_demo(options, Console())


COMMANDS = (up, collect, dash, demo)

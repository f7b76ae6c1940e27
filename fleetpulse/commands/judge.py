"""Verbs of judgement: jobs, baseline, slo, alerts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from collector.errors import StackError
from fleetpulse.commands.operate import get_json
from fleetpulse.commands.options import setting_options, settings_from
from fleetpulse.datadir import Running, find_running
from fleetpulse.settings import Settings
from fleetpulse.tables import rows_table, share, utc


def running_store(settings: Settings) -> Running:
    """Return the stack that runs on the data directory; raises ``StackError`` when none does."""
    running = find_running(settings.data_dir)
    if running is None:
        raise StackError(f"no stack runs on {settings.data_dir}; start one: fleetpulse up --data {settings.data}")
    return running


@click.group()
def jobs() -> None:
    """Run and look at the scheduled jobs."""


@jobs.command("run")
@click.option("--until-ns", type=int, default=None, help="judge up to this instant [default: the fleet's watermark]")
@setting_options(["data"])
def jobs_run(until_ns: int | None, **arguments: Any) -> None:
    """Roll up and judge now."""
    from fleetpulse.runtime import call_admin

    answer = call_admin(running_store(settings_from(arguments)), "jobs/run", {"until_ns": until_ns})
    click.echo(json.dumps(answer))


@click.group()
def slo() -> None:
    """Look at SLOs and check their files."""


@slo.command("list")
@setting_options(["data", "api_url"])
def slo_list(**arguments: Any) -> None:
    """Show each SLO's state and the budget that is left."""
    items = get_json(settings_from(arguments), "/api/v1/slo", {})["items"]
    rows = [
        [item["slo"], _cohort(item), item["verdict"], share(item["value"]), share(item["detail"].get("budget_left"))]
        for item in items
    ]
    rows_table("SLOs", ["slo", "cohort", "state", "good", "budget left"], rows)


@slo.command("check")
@click.argument("directory", type=click.Path(exists=True, path_type=Path))
def slo_check(directory: Path) -> None:
    """Validate OpenSLO files; errors carry file and line."""
    from analytics.openslo import load_slos

    loaded = load_slos(directory)
    click.echo(f"{len(loaded)} SLOs are valid")


@click.group()
def alerts() -> None:
    """Look at alerts and check rule files."""


@alerts.command("list")
@setting_options(["data", "api_url"])
def alerts_list(**arguments: Any) -> None:
    """Show what is pending and firing."""
    items = get_json(settings_from(arguments), "/api/v1/alerts", {})["items"]
    rows = [[item["state"], item["severity"], item["rule"], item["summary"], utc(item["since_ns"])] for item in items]
    rows_table("Alerts", ["state", "severity", "rule", "what", "since"], rows)


@alerts.command("check")
@click.argument("directory", type=click.Path(exists=True, path_type=Path))
def alerts_check(directory: Path) -> None:
    """Validate rule files; errors carry file and line."""
    from alerts.rules import load_rules

    click.echo(f"{len(load_rules(directory))} rules are valid")


def _cohort(item: dict[str, Any]) -> str:
    words = [*item["cohort"].values(), *(word for word in (item.get("model"), item.get("version")) if word)]
    return " ".join(words) or "fleet"


COMMANDS = (jobs, slo, alerts)

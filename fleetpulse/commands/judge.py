"""Verbs of judgement: jobs, baseline, slo, alerts."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from collector.errors import StackError
from fleetpulse.commands.operate import get_json
from fleetpulse.commands.options import setting_options, settings_from
from fleetpulse.datadir import Running, find_running
from fleetpulse.settings import Settings
from fleetpulse.tables import alert_list, budget, rows_table, share, utc


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
def baseline() -> None:
    """Build and list the references that drift is judged against."""


@baseline.command("build")
@click.argument("model_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("data_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default=None, help="the model's name [default: as the SDK names it]")
@click.option("--version", "version", default=None, help="the model's version [default: as the SDK names it]")
@setting_options(["data"])
def baseline_build(model_file: Path, data_file: Path, model: str | None, version: str | None, **arguments: Any) -> None:
    """Run a golden data set (.npz, an array an input) through MODEL_FILE and the SDK, and store the reference.

    Writes MODEL.signals.toml beside the model when there is none: the grids that devices should bucket on.
    """
    from analytics.golden import to_payload
    from fleetpulse.golden import build, signals_toml
    from fleetpulse.runtime import call_admin

    running = running_store(settings_from(arguments))
    built = build(model_file, data_file, model=model, version=version, now_ns=time.time_ns())
    call_admin(running, "baselines", {"source": "golden", "tables": to_payload(built.tables)})
    if built.signals is not None:
        built.signals_file.write_text(signals_toml(built.signals), encoding="utf-8")
        click.echo(f"wrote {built.signals_file}: ship it beside the model")
    reference = built.reference
    click.echo(f"{reference.baseline_id}: {reference.model} {reference.version}, {', '.join(reference.signals)}")


@baseline.command("accept")
@click.option("--model", required=True, help="the model's name")
@click.option("--version", "version", required=True, help="the version to be judged by it")
@click.option("--observed-version", default=None, help="the release whose data are used [default: the same version]")
@click.option("--from", "start", type=click.DateTime(), required=True, help="begin of the window, UTC")
@click.option("--to", "end", type=click.DateTime(), required=True, help="end of the window, UTC")
@setting_options(["data"])
def baseline_accept(
    model: str, version: str, observed_version: str | None, start: datetime, end: datetime, **arguments: Any
) -> None:
    """Accept a window of the fleet's own data, or of the previous release, as the reference."""
    from fleetpulse.runtime import call_admin

    span = {"from_ns": _ns(start), "to_ns": _ns(end)}
    body = {"source": "field", "model": model, "version": version, **span}
    if observed_version is not None:
        body["observed_version"] = observed_version
    answer = call_admin(running_store(settings_from(arguments)), "baselines", body)
    click.echo(f"{answer['baseline_id']}: {model} {version}, {utc(span['from_ns'])} to {utc(span['to_ns'])}")


def _ns(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000_000


@baseline.command("list")
@setting_options(["data", "api_url"])
def baseline_list(**arguments: Any) -> None:
    """List the references, newest first."""
    items = get_json(settings_from(arguments), "/api/v1/baselines", {})["items"]
    rows = [
        [item["baseline_id"], item["model"], item["version"], item["source"], utc(item["window_start_ns"]),
         utc(item["window_end_ns"])]
        for item in items
    ]  # fmt: skip
    rows_table("Baselines", ["id", "model", "version", "source", "from", "to"], rows)


@click.group()
def slo() -> None:
    """Look at SLOs and check their files."""


@slo.command("list")
@setting_options(["data", "api_url"])
def slo_list(**arguments: Any) -> None:
    """Show each SLO's state and the budget that is left."""
    items = get_json(settings_from(arguments), "/api/v1/slo", {})["items"]
    rows = [
        [item["slo"], _cohort(item), item["verdict"], share(item["value"]), budget(item["detail"].get("budget_left"))]
        for item in items
    ]
    rows_table("SLOs", ["slo", "cohort", "state", "good", "budget left"], rows)


@slo.command("check")
@click.argument("directory", type=click.Path(exists=True, path_type=Path), default="fleetpulse.d/slos")
def slo_check(directory: Path) -> None:
    """Validate OpenSLO files; errors carry file and line."""
    from analytics.openslo import load

    loaded = load(directory)
    click.echo(f"{len(loaded)} SLOs are valid")


@click.group()
def alerts() -> None:
    """Look at alerts and check rule files."""


@alerts.command("list")
@click.option("--all", "everything", is_flag=True, help="show resolved and suppressed alerts too")
@setting_options(["data", "api_url"])
def alerts_list(everything: bool, **arguments: Any) -> None:
    """Show what fires and what is about to."""
    items = get_json(settings_from(arguments), "/api/v1/alerts", {"limit": "10000"})["items"]
    shown = [item for item in items if everything or _is_live(item)]
    alert_list(
        sorted(shown, key=lambda item: (item["state"] != "firing", item["severity"] != "page", item["since_ns"]))
    )


def _is_live(item: dict[str, Any]) -> bool:
    return item["state"] in {"firing", "pending"} and not (item["evidence"] or {}).get("suppressed_by")


@alerts.command("check")
@click.argument("directory", type=click.Path(exists=True, path_type=Path), default="fleetpulse.d/rules")
def alerts_check(directory: Path) -> None:
    """Validate rule files; errors carry file and line."""
    from alerts.rules import load_rules

    click.echo(f"{len(load_rules(directory))} rules are valid")


def _cohort(item: dict[str, Any]) -> str:
    words = [*item["cohort"].values(), *(word for word in (item.get("model"), item.get("version")) if word)]
    return " ".join(words) or "fleet"


COMMANDS = (jobs, baseline, slo, alerts)

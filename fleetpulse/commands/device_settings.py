"""``fleetpulse devices settings``: what the devices of a cohort are asked to send less of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from collector.errors import StackError
from device_sdk.contract import settings as wire
from fleetpulse.commands.judge import running_store
from fleetpulse.commands.operate import get_json
from fleetpulse.commands.options import setting_options, settings_from
from fleetpulse.runtime import call_admin
from fleetpulse.tables import rows_table, utc

FLEET = "fleet"


@click.group("settings")
def device_settings() -> None:
    """Set, show, list and remove the settings that devices fetch.

    SELECTOR is `fleet`, or conditions like tier=cam-v2 ring=canary, or device=ID; the most specific one that fits wins.
    """


def _selector(words: tuple[str, ...]) -> dict[str, str]:
    if words == (FLEET,):
        return {}
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise click.UsageError(f"{word!r} is not name=value; for every device say `{FLEET}` alone")
        if name in found:
            raise click.UsageError(f"{name!r} is named twice; a device has one value of it")
        found[name] = value
    return found


def _shown(selector: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in selector.items()) or FLEET


@device_settings.command("set")
@click.argument("selector", nargs=-1, required=True)
@click.option("--window-s", type=float, default=None, help="length of a window, seconds")
@click.option("--sample-every", type=int, default=None, help="look at the tensors of one run in this many")
@click.option("--signal-level", default=None, help="off, outputs or full")
@click.option("--document", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="a JSON file instead")
@setting_options(["data"])
def set_settings(
    selector: tuple[str, ...], window_s: float | None, sample_every: int | None, signal_level: str | None,
    document: Path | None, **arguments: Any,
) -> None:  # fmt: skip
    """Set the document of a selector; it replaces the one before as a whole."""
    given = {wire.WINDOW_S: window_s, wire.SAMPLE_EVERY: sample_every, wire.SIGNAL_LEVEL: signal_level}
    wanted: Any = {key: value for key, value in given.items() if value is not None}
    if document is not None:
        if wanted:
            raise click.UsageError("give --document or single settings, not both")
        try:
            wanted = json.loads(document.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StackError(f"{document}: not JSON: {error}") from None
    body: dict[str, object] = {"selector": _selector(selector), "document": wanted}
    answer = call_admin(running_store(settings_from(arguments)), "settings/set", body)
    click.echo(f"{answer['id']}  {_shown(_selector(selector))}  {json.dumps(answer['document'])}")


@device_settings.command("remove")
@click.argument("selector", nargs=-1, required=True)
@setting_options(["data"])
def remove_settings(selector: tuple[str, ...], **arguments: Any) -> None:
    """Remove the document of a selector; its devices take the next one that fits, or their own settings."""
    call_admin(running_store(settings_from(arguments)), "settings/remove", {"selector": _selector(selector)})


@device_settings.command("list")
@setting_options(["data"])
def list_settings(**arguments: Any) -> None:
    """List the documents in force, the most specific first."""
    answer: dict[str, Any] = call_admin(running_store(settings_from(arguments)), "settings/list", {})
    rows = [
        [_shown(item["selector"]), item["id"], json.dumps(item["document"]), utc(item["written_ns"])]
        for item in answer["items"]
    ]
    rows_table("Device settings", ["for", "id", "settings", "since"], rows)


@device_settings.command("show")
@click.argument("device_id")
@setting_options(["data", "api_url"])
def show_settings(device_id: str, **arguments: Any) -> None:
    """Print what one device should run, by which selector, and what it said that it runs."""
    from urllib.parse import quote

    device = get_json(settings_from(arguments), f"/api/v1/devices/{quote(device_id, safe='')}", {})
    click.echo(json.dumps(device["settings"], indent=2, ensure_ascii=False))

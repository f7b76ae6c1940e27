"""Verbs that operate an installation: token, devices, query, settings."""

from __future__ import annotations

import json
from typing import Any

import click
import httpx

from collector.errors import StackError
from fleetpulse.commands.options import setting_options, settings_from
from fleetpulse.datadir import find_running
from fleetpulse.settings import BY_NAME, Settings, load, shown


@click.group()
def token() -> None:
    """Make, list and revoke access tokens; only their hashes are kept."""


@token.command("create")
@click.option("--scope", type=click.Choice(["ingest", "read", "operate"]), required=True, help="what the token allows")
@setting_options(["data", "tokens_file"])
def token_create(scope: str, **arguments: Any) -> None:
    """Print a new token, once."""
    from collector.api.auth import create_token

    click.echo(create_token(settings_from(arguments).tokens_path, scope))


@token.command("list")
@setting_options(["data", "tokens_file"])
def token_list(**arguments: Any) -> None:
    """List tokens by id, never by secret."""
    from collector.api.auth import read_tokens

    for row in read_tokens(settings_from(arguments).tokens_path):
        click.echo(f"{row.id}  {row.scope:8} {'revoked' if row.revoked else 'valid'}")


@token.command("revoke")
@click.argument("token_id")
@setting_options(["data", "tokens_file"])
def token_revoke(token_id: str, **arguments: Any) -> None:
    """Revoke a token; running workers follow within a second."""
    from collector.api.auth import revoke_token

    revoke_token(settings_from(arguments).tokens_path, token_id)


@click.command()
@setting_options(list(BY_NAME))
def settings(**arguments: Any) -> None:
    """Print every effective setting with its source."""
    values, sources = load({name: value for name, value in arguments.items() if name in BY_NAME})
    for name, value in shown(values).items():
        click.echo(f"{name:20} {value or '-':32} {sources[name]}")


def api_client(settings: Settings) -> httpx.Client:
    """Return a client of the running store's query API; raises ``StackError`` when none runs."""
    running = find_running(settings.data_dir)
    base = settings.api_url or (running.api_url if running else "")
    if not base:
        raise StackError(
            f"no stack runs on {settings.data_dir}; start one with `fleetpulse up --data {settings.data}` or name its "
            "query API with --api-url"
        )
    bearer = settings.api_token or (running.operate_token if running else "")
    return httpx.Client(base_url=base, headers={"Authorization": f"Bearer {bearer}"} if bearer else {}, timeout=60)


def get_json(settings: Settings, path: str, parameters: dict[str, str]) -> Any:
    """GET from the query API; raises ``StackError`` with the problem's words."""
    with api_client(settings) as client:
        try:
            answer = client.get(path, params=parameters)
        except httpx.HTTPError as error:
            raise StackError(f"{client.base_url} does not answer: {error}") from None
    if answer.status_code != httpx.codes.OK:
        raise StackError(f"{path}: {answer.status_code} {answer.text}")
    return answer.json()


@click.command()
@click.argument("path")
@click.argument("parameters", nargs=-1)
@setting_options(["data", "api_url"])
def query(path: str, parameters: tuple[str, ...], **arguments: Any) -> None:
    """GET from the query API and print JSON, for example: query drift verdict=drift."""
    pairs: dict[str, str] = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not equals:
            raise click.UsageError(f"{parameter!r} is not name=value")
        pairs[name] = value
    url = path if path.startswith("/") else f"/api/v1/{path}"
    click.echo(json.dumps(get_json(settings_from(arguments), url, pairs), indent=2, ensure_ascii=False))


@click.group()
def devices() -> None:
    """Look at the fleet's devices."""


@devices.command("list")
@setting_options(["data", "api_url"])
def devices_list(**arguments: Any) -> None:
    """List devices with tier, firmware, last sign of life and completeness."""
    from fleetpulse.tables import device_table

    items = get_json(settings_from(arguments), "/api/v1/devices", {"limit": "10000"})["items"]
    device_table(items)


COMMANDS = (token, settings, query, devices)

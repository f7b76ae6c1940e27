"""The command: one verb, one noun it acts on. Errors are one message and exit code 1; wrong usage exits with 2."""

from __future__ import annotations

import sys

import click

from collector.errors import StackError
from device_sdk._version import __version__
from fleetpulse.commands import contract, device_settings, judge, operate, serve


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="fleetpulse")
def cli() -> None:
    """Telemetry, drift and fleet health for fleets of devices that run AI models."""


for command in (*serve.COMMANDS, *judge.COMMANDS, *operate.COMMANDS, *contract.COMMANDS):
    cli.add_command(command)
operate.devices.add_command(device_settings.device_settings)


def main() -> None:
    """Run the command; a known error is one message, never a traceback."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except StackError as error:
        click.echo(f"fleetpulse: {error}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)

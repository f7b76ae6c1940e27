"""Command line options made from the settings' registry, so that the two cannot differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from fleetpulse.settings import BY_NAME, Settings, load


def setting_options(names: Sequence[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a verb one option for each named setting."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names):
            setting = BY_NAME[name]
            flag = "--" + name.replace("_", "-")
            shown = f"{setting.help} [default: {setting.default}]" if setting.default != "" else setting.help
            declaration = f"{flag}/--no-{flag[2:]}" if setting.kind is bool else flag
            function = click.option(
                declaration, name, type=None if setting.kind is bool else setting.kind, default=None, help=shown
            )(function)
        return function

    return decorate


def settings_from(arguments: dict[str, Any]) -> Settings:
    """Return the effective settings under the given command line."""
    return load({name: value for name, value in arguments.items() if name in BY_NAME})[0]

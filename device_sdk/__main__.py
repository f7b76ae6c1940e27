"""``python -m device_sdk``: what the SDK would do on this device, without the program it is to run in.

``doctor`` checks settings, state directory and collector; ``explain`` prints exactly what would leave the device;
``spool`` says what waits; ``bench`` and ``selftest`` run a model file alone. Exit status 0: fine, 1: something needs
attention, 2: wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from device_sdk._version import __version__
from device_sdk.cli.bench import add_model_options, bench, selftest
from device_sdk.cli.doctor import doctor
from device_sdk.cli.explain import add_explain_options, explain, explain_difference, export_contract
from device_sdk.cli.spool import spool
from device_sdk.config import Config, resolve
from device_sdk.errors import DeviceSdkError

Say = Callable[[str], None]


def main(arguments: Sequence[str] | None = None, say: Say = print) -> int:
    """Run one verb and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m device_sdk", description="FleetPulse device SDK " + __version__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, summary in (
        ("doctor", "check settings, state directory and collector"),
        ("explain", "print exactly what would leave this device, in words and as bytes"),
        ("spool", "say what waits to be sent"),
        ("bench", "measure a model file on this device and compare with a stored baseline"),
        ("selftest", "test a model file on this device against its golden set"),
    ):
        verb = verbs.add_parser(name, help=summary)
        verb.add_argument("--state-dir", help="state directory (default: as Monitor would choose)")
        if name == "explain":
            add_explain_options(verb)
        if name in ("bench", "selftest"):
            add_model_options(verb, bench=name == "bench")
        if name != "spool":
            verb.add_argument("--endpoint", help="collector address (default: as Monitor would choose)")
    chosen = parser.parse_args(arguments)
    if chosen.verb == "explain" and (chosen.contract or chosen.diff):
        return export_contract(say) if chosen.contract else explain_difference(chosen.diff, say)
    try:
        config = resolve(state_dir=chosen.state_dir, endpoint=getattr(chosen, "endpoint", None))
    except DeviceSdkError as error:
        say(f"settings   BAD   {error}")
        return 1
    try:
        return _run(chosen, config, say)
    except DeviceSdkError as error:
        say(f"{chosen.verb}: {error}")
        return 1


def _run(chosen: argparse.Namespace, config: Config, say: Say) -> int:
    if chosen.verb == "explain":
        return explain(config, say, chosen)
    if chosen.verb == "bench":
        return bench(config, chosen, say)
    if chosen.verb == "selftest":
        return selftest(config, chosen, say)
    return doctor(config, say) if chosen.verb == "doctor" else spool(config.state_dir, say)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # `... | head` has read enough; the interpreter's last flush must not meet the pipe again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

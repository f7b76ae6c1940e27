"""``python -m device_sdk``: see what the SDK would do on this device, without an inference.

``doctor`` checks settings, state directory and collector; ``explain`` prints exactly what would leave the device;
``spool`` says what waits. Exit status 0: fine, 1: something needs attention, 2: wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from device_sdk._version import __version__
from device_sdk.cli.doctor import doctor
from device_sdk.cli.explain import add_explain_options, explain, explain_difference, export_contract
from device_sdk.cli.spool import spool
from device_sdk.config import resolve
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
    ):
        verb = verbs.add_parser(name, help=summary)
        verb.add_argument("--state-dir", help="state directory (default: as Monitor would choose)")
        if name == "explain":
            add_explain_options(verb)
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
    if chosen.verb == "explain":
        return explain(config, say, chosen)
    return doctor(config, say) if chosen.verb == "doctor" else spool(config.state_dir, say)


if __name__ == "__main__":
    sys.exit(main())

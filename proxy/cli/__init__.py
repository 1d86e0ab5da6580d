"""The command `sluice`: exit codes are 0, 1 failed, 2 bad input."""

import argparse
import sys
from collections.abc import Sequence

from proxy import __version__
from proxy.caches.opening import MissingExtra
from proxy.cli import bench, check, explain, healthcheck, import_, models, selftest, serve
from proxy.settings import ConfigError

_COMMANDS = (serve, check, explain, models, selftest, bench, import_, healthcheck)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; `argv` without the program's name."""
    parser = argparse.ArgumentParser(prog="sluice", description="An OpenAI-compatible reverse proxy with one door.")
    parser.add_argument("--version", action="version", version=f"sluice {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(subparsers)
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except MissingExtra as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    return status

"""Parses the command line, and runs the command that it names."""

import argparse
import sys
from importlib import import_module
from typing import Final

from proxy import __version__
from proxy.caches.opening import MissingExtra
from proxy.settings import ConfigError

_COMMANDS: Final = {
    "serve": "serve",
    "check": "check",
    "explain": "explain",
    "models": "models",
    "selftest": "selftest",
    "bench": "bench",
    "import": "import_",
    "healthcheck": "healthcheck",
}


def run(words: list[str]) -> int:
    """The exit code of a command; `words`: its name and arguments."""
    parser = argparse.ArgumentParser(
        prog="sluice", description="An OpenAI-compatible reverse proxy that routes calls by model name."
    )
    parser.add_argument("--version", action="version", version=f"sluice {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # Only the requested command is imported: the imports of the others would double the start-up time.
    wanted = [words[0]] if words and words[0] in _COMMANDS else list(_COMMANDS)
    for name in wanted:
        command = import_module(f"proxy.cli.{_COMMANDS[name]}")
        command.add_parser(subparsers)
        subparsers.choices[name].description = command.__doc__
    arguments = parser.parse_args(words)
    try:
        status: int = arguments.run(arguments)
    except (ConfigError, MissingExtra) as error:
        print(error, file=sys.stderr)
        return 2
    return status

"""The command `sluice`. Exit codes: 0, 1 failed, 2 bad input."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; `argv`: without the program's name."""
    _open_standard_streams()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a character that the terminal lacks must not end a command
    try:
        try:
            return _run(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()  # now, while a failure can still be reported
    except KeyboardInterrupt:
        return 1
    except OSError as error:  # of stdout: the commands report errors of the files they read
        if not isinstance(error, BrokenPipeError):
            print(f"sluice: {error}", file=sys.stderr)
        sys.stdout = open(os.devnull, "w")  # else Python flushes the rest at exit, which fails again
        return 1


def _open_standard_streams() -> None:
    """Opens those of the three standard streams that a shell has closed.

    A socket in the place of one would make libuv abort. What is written there is lost, but can be written: Python has
    None for a closed stream.
    """
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(file, True)
    os.close(file)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)


def _run(words: list[str]) -> int:
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

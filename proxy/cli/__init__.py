"""The command `sluice`. Exit codes: 0, 1 failed, 2 bad input."""

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; `argv`: without the program's name."""
    words = list(sys.argv[1:] if argv is None else argv)
    _open_standard_streams()
    if words[:1] == ["serve"]:
        signal.signal(signal.SIGTERM, _end_start)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a character that the terminal lacks must not end a command
    try:
        try:
            status: int = import_module("proxy.cli.parsing").run(words)  # late: its imports take most of a start
            return status
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


def _end_start(number: int, frame: object) -> None:
    """Ends the process at a SIGTERM that comes before the server handles signals: nothing has been served yet.

    Without a handler the exit code would be that of a failure, and process 1 of a container would ignore the signal.
    """
    try:
        os.write(2, b"sluice: stopped by SIGTERM while starting\n")
    finally:
        os._exit(0)

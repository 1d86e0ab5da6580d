"""`sluice selftest`: runs a configuration against simulated upstream faults on loopback and prints a report card."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import get_args

import orjson
import uvloop

from proxy.cli.configured import add_config, load_plan
from proxy.errors import SluiceError
from proxy.selftest.card import as_json, entry, heading, totals
from proxy.selftest.preparing import Options, Subject, subject
from proxy.selftest.running import Row, run_wall
from proxy.selftest.wall import WALL, Fault
from proxy.settings.policies import StreamSafety


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = subparsers.add_parser("selftest", help="run your routes against simulated upstream faults")
    add_config(parser, "config")
    parser.add_argument(
        "--route",
        default="",
        metavar="MODEL",
        help="model name to ask for; default: one of the route with the most targets",
    )
    parser.add_argument("--safety", default="", choices=get_args(StreamSafety), help="overrides stream_safety")
    parser.add_argument(
        "--clock-scale",
        type=_scale,
        default=1.0,
        metavar="N",
        help="factor for all timeouts: 0.05 makes them 20 times shorter",
    )
    parser.add_argument("--only", type=_numbers, default=(), metavar="N,N", help="run only these faults, by number")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the report as JSON; -: only that, on stdout"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 unless every fault passes")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the card; 1 if a fault was not survived, 2 if the configuration or an option is invalid."""
    options = Options(arguments.route, arguments.safety, arguments.clock_scale)
    faults = [fault for fault in WALL if not arguments.only or fault.number in arguments.only]
    if unknown := set(arguments.only) - {fault.number for fault in WALL}:
        print(
            f"--only: expected numbers from 1 to {len(WALL)}, got {', '.join(map(str, sorted(unknown)))}",
            file=sys.stderr,
        )
        return 2
    try:
        chosen = subject(load_plan(arguments.config), options)
    except SluiceError as error:
        print(error.message, file=sys.stderr)
        return 2
    plain = str(arguments.json) != "-"
    if plain and arguments.json:
        try:
            arguments.json.open("ab").close()  # fails now rather than after the run
        except OSError as error:
            print(f"{arguments.json}: cannot be written: {error.strerror}", file=sys.stderr)
            return 2
    colour = plain and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    if plain:
        print("\n".join(heading(chosen, colour)), flush=True)
    rows = _played(chosen, faults)
    if plain:
        for row in rows:
            print("\n".join(entry(row, colour)))
        print("\n".join(totals(rows, colour)))
    if arguments.json:
        text = orjson.dumps(as_json(chosen, rows), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        _write(arguments.json, text)
    return int(not all(_fine(row, arguments.strict) for row in rows))


def _played(chosen: Subject, faults: Sequence[Fault]) -> list[Row]:
    """The result for each fault."""
    counter = _Counter(len(faults))
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # every fault makes Sluice log errors
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run_wall(chosen, faults, counter.count))
    finally:
        counter.wipe()
        logging.disable(disabled)


def _fine(row: Row, strict: bool) -> bool:
    if row.judgement is None:
        return True
    return row.judgement.verdict == "pass" if strict else row.judgement.verdict != "fail"


def _write(path: Path, text: bytes) -> None:
    if str(path) == "-":
        sys.stdout.write(text.decode())
    else:
        path.write_bytes(text)


class _Counter:
    """Shows progress on a terminal, since the slowest faults take a minute."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._done = 0
        self._shown = sys.stderr.isatty()

    def count(self, row: Row) -> None:
        """One more is done."""
        self._done += 1
        if self._shown:
            print(f"\r  {self._done} of {self._most} faults", end="", file=sys.stderr, flush=True)

    def wipe(self) -> None:
        """Clears the progress line."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _scale(text: str) -> float:
    with suppress(ValueError):
        if 0.01 <= (value := float(text)) <= 1:
            return value
    raise argparse.ArgumentTypeError(f"expected a number from 0.01 to 1, got {text!r}")


def _numbers(text: str) -> tuple[int, ...]:
    with suppress(ValueError):
        return tuple(int(part) for part in text.split(","))
    raise argparse.ArgumentTypeError(f"expected numbers separated by commas, got {text!r}")

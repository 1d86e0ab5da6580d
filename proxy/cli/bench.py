"""`sluice bench`: the overhead of Sluice on this machine, compared with a direct connection to the same upstream."""

import argparse
import asyncio
import os
import re
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import product
from math import inf
from pathlib import Path
from statistics import median
from typing import Final

import uvloop

from proxy.cli.load import KEY, TIMEOUT, BenchFailed, Load, Tally, Upstream, press

CONNECTIONS: Final = 64
ROUNDS: Final = 3


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = subparsers.add_parser("bench", help="measure throughput and overhead on this machine")
    parser.add_argument("--seconds", type=_positive, default=3.0, help="seconds for each measurement (default 3)")
    parser.set_defaults(run=run)


def _positive(text: str) -> float:
    with suppress(ValueError):
        if 0 < (number := float(text)) < inf:
            return number
    raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")


def run(args: argparse.Namespace) -> int:
    """Measures and prints a table; 1 if Sluice could not be started or did not answer correctly."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(runner.run(_measured(args.seconds / ROUNDS)))
    except (BenchFailed, OSError) as error:
        print(f"sluice bench: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 1
    return 0


@asynccontextmanager
async def _sluice(upstream: int) -> AsyncIterator[int]:
    """Sluice in a process of its own in front of the upstream at this port; yields its port."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(
            f"access: {{keys: required, client_keys: [{KEY}]}}\n"
            f"upstreams: {{bench: {{provider: openai, base_url: 'http://127.0.0.1:{upstream}/v1'}}}}\n"
            "routes: [{prefix: gpt-, to: 'bench/{rest}'}]\n"
        )
        command = (sys.executable, "-P", "-m", "proxy", "serve", "--config", str(config), "--port", "0")
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # this very `proxy` package
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, env=environ)
        assert process.stderr is not None
        try:
            port = await _announced(process.stderr)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(process.stderr.read())  # a full log pipe would block Sluice
                yield port
                process.terminate()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _announced(log: asyncio.StreamReader) -> int:
    """The port that the log names. Raises BenchFailed if Sluice ends, or logs nothing for too long."""
    logged = b""
    try:
        async with asyncio.timeout(TIMEOUT):
            while line := await log.readline():
                if found := re.search(rb"listens on http://127\.0\.0\.1:(\d+)", line):
                    return int(found[1])
                logged += line
    except TimeoutError:
        pass
    raise BenchFailed(f"Sluice did not start:\n{logged.decode(errors='replace')}")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table, and how it is computed from the answers to a load."""

    title: str
    load: Load
    read: Callable[[Tally], float]
    digits: int = 0


_MANY, _STREAMS, _SINGLE = Load(False, CONNECTIONS), Load(True, CONNECTIONS), Load(False, 1)
_FIGURES: Final = (
    Figure(f"whole answers/s, {CONNECTIONS} connections", _MANY, lambda tally: tally.requests / tally.seconds),
    Figure(f"events/s, {CONNECTIONS} streams", _STREAMS, lambda tally: tally.events / tally.seconds),
    Figure("latency p50 in ms, one at a time", _SINGLE, lambda tally: tally.latency(0.50), 2),
    Figure("latency p99 in ms, one at a time", _SINGLE, lambda tally: tally.latency(0.99), 2),
)


async def _measured(seconds: float) -> str:
    """The table, after rounds of so many seconds for each load and target."""
    loop, me = asyncio.get_running_loop(), asyncio.current_task()
    assert me is not None
    loop.add_signal_handler(signal.SIGTERM, me.cancel)
    server = await loop.create_server(Upstream, "127.0.0.1", 0)
    async with server:
        direct: int = server.sockets[0].getsockname()[1]
        async with _sluice(direct) as through:
            targets = {"direct": direct, "sluice": through}
            for port in targets.values():  # opens connections, warms caches
                await press(port, _MANY, 0.3)
            tallies: dict[tuple[Load, str], list[Tally]] = defaultdict(list)
            for number in range(ROUNDS):
                order = sorted(targets, reverse=bool(number % 2))
                for load, name in product((_MANY, _STREAMS, _SINGLE), order):
                    tallies[load, name].append(await press(targets[name], load, seconds))
    return _table(tallies)


def _table(tallies: Mapping[tuple[Load, str], Sequence[Tally]]) -> str:
    """Medians over the rounds, and the difference that Sluice makes."""
    lines = [f"{'':40}{'direct':>12}{'sluice':>12}"]
    for each in _FIGURES:
        direct, sluice = (median(map(each.read, tallies[each.load, name])) for name in ("direct", "sluice"))
        compared = f"{sluice - direct:+.2f} ms" if each.load is _SINGLE else f"x {sluice / direct:.2f}"
        lines.append(f"{each.title:40}{direct:>12,.{each.digits}f}{sluice:>12,.{each.digits}f}  {compared}")
    lines.append("Load and upstream share one process of this machine, so the direct figures are no more than theirs.")
    return "\n".join(lines)

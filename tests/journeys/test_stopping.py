"""SIGTERM with hundreds of streams under way: short ones finish, long ones get an error, and the exit code is 0.

SLUICE_STREAMS=500 runs it with more streams than the suite does.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.cli.serve import NOTICE
from tests.doubles.faults import Held, HoldAfter
from tests.doubles.openai import OpenAIDouble
from tests.doubles.pacing import Paced
from tests.doubles.words import derived
from tests.journeys.callers import Caller, all_closed, ask_all, chat
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent
STREAMS = int(os.environ.get("SLUICE_STREAMS", "160"))
DRAIN = 4.0  # seconds
LATE = 3.0  # seconds that a busy machine may add
CONFIG = """
server: {{port: 0, drain: {drain}s}}
store: sqlite:///sluice.db
upstreams:
  short: {{provider: openai, base_url: {short}, api_key: sk-short}}
  long: {{provider: openai, base_url: {long}, api_key: sk-long}}
log: {{format: json, level: info}}
"""


@dataclass(frozen=True, slots=True)
class Served:
    """`sluice serve` as a process of its own, before an upstream whose answers can be let go and one of endless ones."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    short: OpenAIDouble
    long: OpenAIDouble

    def calls(self) -> list[dict[str, Any]]:
        """What its log says of each call that ended."""
        lines = [orjson.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["message"] == "call"]

    def errors(self) -> list[str]:
        """What its log has of errors."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if '"level":"error"' in line or "Traceback" in line]


@pytest.fixture
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    with OpenAIDouble(key="sk-short") as short, OpenAIDouble(key="sk-long") as long:
        short.always = Paced(0.02, HoldAfter(50))
        long.always = Paced(0.5)
        with serving(tmp_path, CONFIG.format(drain=DRAIN, short=short.url, long=long.url)) as (process, port, log):
            yield Served(process, port, log, short, long)


@contextmanager
def serving(folder: Path, config: str) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """The process, the port that it listens on, and the file of its log."""
    path, log = folder / "config.yaml", folder / "log"
    path.write_text(config)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "serve", "--config", str(path)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            cwd=folder,
            stderr=output,
        )
    try:
        found = wait_for(lambda: re.search(r"listens on http://127\.0\.0\.1:(\d+)", log.read_text()), 30)
        yield process, int(found[1]), log
    finally:
        process.kill()
        process.wait()


def test_sigterm_lets_short_streams_finish_and_ends_long_ones(served: Served) -> None:
    """Connections are such as their clients would keep: that they are closed is the server's doing."""
    short = [Caller(chat("short/gpt-4o", f"short {at}")) for at in range(STREAMS // 2)]
    long = [Caller(chat("long/gpt-4o", f"long {at}")) for at in range(STREAMS - len(short))]
    idle = [Caller(chat("nowhere/gpt-4o", "an error leaves the connection open")) for _ in range(10)]
    ready, took = asyncio.run(stopped(served, short, long, idle))
    assert re.fullmatch("(200)+(503)+(closed)+", "".join(ready)), "from ready to draining to gone, and never back"
    for caller in short:
        heard = caller.heard
        assert (heard.status, heard.whole, heard.code, heard.oddities) == (200, True, None, ())
        assert heard.text == derived(caller.question) and heard.finishes == ("stop",) and heard.done
    for caller in long:
        heard = caller.heard
        assert (heard.status, heard.whole, heard.code, heard.oddities) == (200, True, "proxy_draining", ())
        assert derived(caller.question).startswith(heard.text) and not heard.finishes and not heard.done
    assert max(caller.ended for caller in idle) < min(caller.ended for caller in short), "who only waits goes at once"
    assert max(caller.ended for caller in short) < min(caller.ended for caller in long)
    assert DRAIN < took < DRAIN + LATE
    assert served.process.returncode == 0 and served.errors() == []
    wait_for(lambda: not served.long.open_connections)


async def stopped(
    served: Served, short: list[Caller], long: list[Caller], idle: list[Caller]
) -> tuple[list[str], float]:
    """What /readyz said since the signal, and the seconds from it to the last connection's end."""
    callers = [*long, *short]
    await ask_all([*idle, *callers], served.port)
    async with asyncio.timeout(60):
        while not all(caller.begun for caller in callers) or not all(caller.raw for caller in idle):
            await asyncio.sleep(0.02)
    assert not any(caller.closed.is_set() for caller in [*idle, *callers])
    ready = [await readiness(served.port)]
    served.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    while ready[-1] != "closed" and time.monotonic() - began < NOTICE + LATE:
        ready.append(await readiness(served.port))
    await all_closed(idle, LATE)
    served.short.release()
    await all_closed(short, DRAIN + LATE)
    ready.append(await readiness(served.port))
    await all_closed(long, DRAIN + LATE)
    took = time.monotonic() - began
    await asyncio.to_thread(served.process.wait, LATE)
    return ready, took


async def readiness(port: int) -> str:
    """The status of /readyz on a new connection, or "closed"."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        line = await reader.readline()
        writer.close()
    except OSError:
        return "closed"
    return line[9:12].decode() or "closed"


def test_a_second_signal_ends_hundreds_of_calls_at_once_and_they_are_counted_by_the_error_sent(served: Served) -> None:
    served.short.always = Held()
    streams = [Caller(chat("long/gpt-4o", f"long {at}")) for at in range(STREAMS // 2)]
    wholes = [Caller(chat("short/gpt-4o", f"whole {at}", stream=False)) for at in range(STREAMS // 2)]
    took = asyncio.run(ended_twice(served, streams, wholes))
    assert {(caller.heard.code, caller.heard.whole, caller.heard.done) for caller in streams} == {
        ("proxy_draining", True, False)
    }
    assert {(caller.answer.status, caller.answer.code) for caller in wholes} == {(503, "proxy_draining")}
    assert {caller.answer.headers["x-sluice-route"] for caller in wholes} == {"short/"}
    told = [(line["status"], line["code"]) for line in served.calls()]
    assert sorted(told) == [(200, "proxy_draining")] * len(streams) + [(503, "proxy_draining")] * len(wholes), (
        "the log says what clients were told"
    )
    assert served.process.returncode == 0 and served.errors() == []
    assert took < LATE


async def ended_twice(served: Served, streams: list[Caller], wholes: list[Caller]) -> float:
    """Seconds from the second signal to the process's end."""
    await ask_all([*streams, *wholes], served.port)
    async with asyncio.timeout(60):
        while not all(caller.begun for caller in streams) or len(served.short.calls) < len(wholes):
            await asyncio.sleep(0.02)
    served.process.send_signal(signal.SIGTERM)
    while await readiness(served.port) != "closed":
        await asyncio.sleep(0.01)
    assert not any(caller.closed.is_set() for caller in [*streams, *wholes])
    began = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    await all_closed([*streams, *wholes], LATE + 5)
    await asyncio.to_thread(served.process.wait, LATE + 5)
    return time.monotonic() - began

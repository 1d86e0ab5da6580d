"""Good clients at a steady rate while hundreds of slow ones hold connections: what it costs them, and who is let go."""

import argparse
import asyncio
import os
import resource
import shutil
import socket  # noqa: TID251 - for small receive buffers, so that a slow reader holds something back
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from bench.processes import BenchError, cpu_seconds, unwind_on_signals
from bench.rows import Bench, Body, Load, press
from bench.targets import CLIENT_KEY, HERE, LOAD_CORE, Target, build, sluice, sluice_config, upstream

MOST: Final = 1.10  # times the p99 that good clients have while the same crowd, with its own need of CPU, is elsewhere
GOOD: Final = Load(Body(), connections=16, warmup=2.0, rate=200)
EACH: Final = 1.0  # seconds between two deeds of a slow client
CALM: Final = 0.1  # cores; with less the proxy has filled the buffers of all who read slowly
STREAM: Final = Body(events=20_000)  # some megabytes, which nobody reads to the end
DEADLINES: Final = {"head": 10.0, "body": 15.0}  # seconds, as `server.timeouts` has them
LATE: Final = 2.0  # seconds that a client may be let go too late, this machine being busy

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Crowd:
    """Slow clients at one port; whom the server lets go of comes again."""

    port: int
    stream: bytes  # the body of a call for a long stream
    there: int = 0  # connections that have said something
    silent: bool = False  # no body goes on
    held: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in DEADLINES})  # seconds

    async def head(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A request's head byte by byte; all of it has a deadline."""
        began = time.monotonic()
        await self._drip(reader, writer, b"POST /v1/chat/completions HTTP/1.1\r\nx-slow: ", lambda: True)
        self.held["head"].append(time.monotonic() - began)

    async def body(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A body byte by byte, which only ends by its deadline when it falls silent."""
        last = await self._drip(reader, writer, self._head(100_000), lambda: not self.silent)
        self.held["body"].append(time.monotonic() - last)

    async def reader(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A stream that is read a little at a time."""
        writer.write(self._head(len(self.stream)) + self.stream)
        self.there += 1
        while await reader.read(2048):
            await asyncio.sleep(EACH)

    async def idle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection that is kept after a call."""
        writer.write(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
        self.there += 1
        while await reader.read(1 << 16):
            pass

    def _head(self, length: int) -> bytes:
        return (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
        ) % (CLIENT_KEY.encode(), length)

    async def _drip(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, start: bytes, more: Callable[[], bool]
    ) -> float:
        """Says `start`, then bytes while there is `more`, until the server ends it. When the last of them went."""
        writer.write(start)
        last = time.monotonic()
        self.there += 1
        ended = asyncio.ensure_future(reader.read())
        try:
            while not (await asyncio.wait([ended], timeout=EACH))[0]:
                if more():
                    writer.write(b"x")
                    last = time.monotonic()
            ended.result()
        finally:
            ended.cancel()
        return last

    async def come_again(self, at: int) -> None:
        """One slow client, of the kind that its number says, as often as it is let go."""
        kind = (self.head, self.body, self.reader, self.idle)[at % 4]
        while True:
            with suppress(ConnectionError):
                reader, writer = await connected(self.port, small=kind == self.reader)
                try:
                    await kind(reader, writer)
                finally:
                    writer.transport.abort()

    @asynccontextmanager
    async def around(self, count: int) -> AsyncIterator[None]:
        """So many of them are there during the block."""
        everybody = [asyncio.create_task(self.come_again(at)) for at in range(count)]
        try:
            async with asyncio.timeout(30):
                while self.there < count:
                    await asyncio.sleep(0.05)
            yield
        finally:
            for each in everybody:
                each.cancel()
            await asyncio.wait(everybody)


async def connected(port: int, small: bool) -> Pair:
    """A connection; a `small` one holds back what is not read after some kilobytes."""
    sock = socket.socket()
    sock.setblocking(False)
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return await asyncio.open_connection(sock=sock, limit=4096 if small else 1 << 16)


@dataclass(slots=True)
class Round:
    """Milliseconds of the good clients in one round: alone, beside a crowd at the proxy, beside one elsewhere."""

    p50: dict[str, float] = field(default_factory=dict)
    p99: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Slow:
    """One run: the proxy, a server that a crowd can hold instead of it, and what was found."""

    bench: Bench
    proxy: Target
    sink: Target
    count: int
    rounds: list[Round] = field(default_factory=list)
    files: list[int] = field(default_factory=list)  # of the proxy, with a crowd
    held: dict[str, list[float]] = field(default_factory=dict)

    async def run(self, rounds: int) -> bool:
        """All rounds, then a crowd whose bodies fall silent; whether everything is as it should be."""
        await self.measure(Round(), "alone")  # warms everything up
        before = open_files(self.proxy.pid)
        for at in range(rounds):
            kinds = ["alone", "beside", "elsewhere"]
            done = Round()
            for kind in kinds[at % 3 :] + kinds[: at % 3]:
                await self.measure(done, kind)
            self.rounds.append(done)
            print(f"round {at + 1}  " + "  ".join(shown(kind, done) for kind in kinds), file=sys.stderr)
        crowd = self.crowd(self.proxy.port)
        async with crowd.around(self.count):
            crowd.silent = True
            await asyncio.sleep(max(DEADLINES.values()) + EACH + LATE)
        self.held = crowd.held
        return self.told(before, await files_back(self.proxy.pid, before))

    async def measure(self, done: Round, kind: str) -> None:
        """One condition of a round."""
        if kind == "alone":
            said = await asyncio.to_thread(press, self.bench, self.proxy, GOOD)
        else:
            crowd = self.crowd((self.proxy if kind == "beside" else self.sink).port)
            async with crowd.around(self.count):
                await calm(self.proxy.pid)
                said = await asyncio.to_thread(press, self.bench, self.proxy, GOOD)
                if kind == "beside":
                    self.files.append(open_files(self.proxy.pid))
        if said["failed"]:
            raise BenchError(f"{said['failed']} of {said['all_requests']} good calls failed: {said['statuses']}")
        done.p50[kind], done.p99[kind] = said["latency"]["p50"], said["latency"]["p99"]

    def crowd(self, port: int) -> Crowd:
        """Slow clients at this port, who have not come yet."""
        return Crowd(port, STREAM.write(self.bench.folder).read_bytes())

    def told(self, before: int, after: int) -> bool:
        """Prints what was found; whether all of it is well."""
        for kind in ("alone", "beside", "elsewhere"):
            p50, p99 = (median(getattr(each, name)[kind] for each in self.rounds) for name in ("p50", "p99"))
            print(f"good clients {kind:10} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms")
        cost, machine = (
            median(each.p99["beside"] / each.p99[kind] for each in self.rounds) for kind in ("elsewhere", "alone")
        )
        print(f"p99 beside / elsewhere: {cost:.2f} (goal: at most {MOST:.2f}); beside / alone: {machine:.2f}")
        well = cost <= MOST
        for kind, seconds in DEADLINES.items():
            held = sorted(self.held[kind])
            right = bool(held) and seconds - 0.1 < held[0] and held[-1] < seconds + LATE
            span = f"{held[0]:.1f} to {held[-1]:.1f} s" if held else "never"
            print(f"slow {kind}: {len(held)} let go after {span} (deadline {seconds:.0f} s){'' if right else ' !'}")
            well = well and right
        print(f"open files: {before} before, {max(self.files)} with the crowd, {after} after")
        return well and after <= before + 8


def shown(kind: str, done: Round) -> str:
    """One condition, for the line of a round."""
    return f"{kind} {done.p50[kind]:.2f}/{done.p99[kind]:.2f}"


async def calm(pid: int) -> None:
    """Waits until the process does next to nothing. Raises BenchError after a minute."""
    for _ in range(60):
        before = cpu_seconds(pid)
        await asyncio.sleep(1)
        if cpu_seconds(pid) - before < CALM:
            return
    raise BenchError("The proxy is never calm with the slow clients alone.")


def open_files(pid: int) -> int:
    """Files and sockets that the process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


async def files_back(pid: int, most: int) -> int:
    """Open files once they are at most so many, or after ten seconds."""
    for _ in range(100):
        if (found := open_files(pid)) <= most:
            break
        await asyncio.sleep(0.1)
    return found


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.slow", description=__doc__)
    parser.add_argument("--slow", type=int, default=300, help="a quarter each: heads, bodies, readers, idle")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=8.0, help="that each measurement takes")
    return parser.parse_args()


def main() -> int:
    """0: as it should be; 1: not, or it could not be measured."""
    unwind_on_signals()
    asked = options()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    folder = Path(tempfile.mkdtemp(prefix="sluice-slow-"))
    try:
        build(HERE / "build")
        (folder / "sink").mkdir()
        with (
            upstream(folder) as direct,
            upstream(folder / "sink") as sink,
            sluice(folder, sluice_config(direct.port)) as proxy,
        ):
            slow = Slow(Bench(folder, asked.seconds, 1.0, direct), proxy, sink, asked.slow)
            return 0 if asyncio.run(slow.run(asked.rounds)) else 1
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())

"""`sluice bench`: what Sluice costs on this machine, beside a direct connection to the same upstream."""

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
from dataclasses import dataclass, field
from itertools import product
from math import inf
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final, cast

import httptools
import uvloop

KEY: Final = "sk-bench"
CONNECTIONS: Final = 64
ROUNDS: Final = 3
EVENTS: Final = 64
PATIENCE: Final = 30.0  # seconds that Sluice has to start

WHOLE: Final = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1741569952,"model":"bench","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"' + b"All work and no play. " * 30 + b'"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":200,"completion_tokens":120,"total_tokens":320}}'
)
_STREAM: Final = re.compile(rb'"stream"\s*:\s*true')
MODELS: Final = b'{"object":"list","data":[{"id":"bench","object":"model","created":1741569952,"owned_by":"bench"}]}'
_CHUNK: Final = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1741569952,"model":"bench",'
    b'"system_fingerprint":"fp_bench","choices":[{"index":0,"delta":{%s},"finish_reason":%s}]}\n\n'
)
EVENT: Final = _CHUNK % (b'"content":"All work and no play. "', b"null")
LAST: Final = _CHUNK % (b"", b'"stop"') + b"data: [DONE]\n\n"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = subparsers.add_parser("bench", help="throughput and overhead on this machine, beside a direct connection")
    parser.add_argument("--seconds", type=_positive, default=3.0, help="that each figure takes (3)")
    parser.set_defaults(run=run)


def _positive(text: str) -> float:
    with suppress(ValueError):
        if 0 < (number := float(text)) < inf:
            return number
    raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")


def run(args: argparse.Namespace) -> int:
    """Measures and prints a table; 1 where Sluice could not be started or did not answer well."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(runner.run(_measured(args.seconds / ROUNDS)))
    except (BenchFailed, OSError) as error:
        print(f"sluice bench: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 1
    return 0


class BenchFailed(Exception):
    """There is nothing to show; the message says why."""


def _framed(body: bytes) -> bytes:
    """The body as one chunk of a chunked message."""
    return b"%x\r\n%s\r\n" % (len(body), body)


def _answer(body: bytes) -> bytes:
    """A whole answer as it goes over the wire."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


_WHOLE, _MODELS, _EVENT = _answer(WHOLE), _answer(MODELS), _framed(EVENT)
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_END: Final = _framed(LAST) + b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """Answers chat completions at once: whole, or as a stream of one event per turn of the loop."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.parser = httptools.HttpRequestParser(self)
        self.body = bytearray()
        self.left = 0

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self.body += body

    def on_message_complete(self) -> None:
        """The request is whole."""
        asked, self.body = self.body, bytearray()
        if self.parser.get_method() == b"GET":
            self.transport.write(_MODELS)
        elif _STREAM.search(asked):
            self.left = EVENTS
            self.transport.write(_HEAD)
            self._step()
        else:
            self.transport.write(_WHOLE)

    def _step(self) -> None:
        if self.left and not self.transport.is_closing():
            self.left -= 1
            self.transport.write(_EVENT)
            asyncio.get_running_loop().call_soon(self._step)
        else:
            self.transport.write(_END)


@dataclass(slots=True)
class Tally:
    """What one target answered while it was pressed."""

    seconds: float = 0.0
    requests: int = 0
    events: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)  # seconds

    def latency(self, share: float) -> float:
        """The latency that this share of the answers does not pass, in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it has its answer, until `over` says that time is up."""

    def __init__(self, request: bytes, tally: Tally, over: Callable[[], bool]) -> None:
        self.request, self.tally, self.over = request, tally, over
        self.ended = asyncio.get_running_loop().create_future()
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks for the first time."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end: wanted, or a failure of the other side."""
        self.tally.failed += not self.over()
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.tally.failed += 1
            self.transport.abort()

    def on_body(self, body: bytes) -> None:
        """A part of its body, cut anywhere: an empty line may begin at the end of the last part."""
        body = self.held + body
        self.tally.events += body.count(b"\n\n")
        self.held = b"" if body.endswith(b"\n\n") else body[-1:]

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self.tally.latencies.append(perf_counter() - self.began)
        self.tally.requests += 1
        self.tally.failed += self.parser.get_status_code() != 200
        if self.over():
            self.transport.close()
        else:
            asyncio.get_running_loop().call_soon(self._ask)  # a parser cannot be replaced within its own call

    def _ask(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.began = perf_counter()
        self.transport.write(self.request)


def _request(stream: bool) -> bytes:
    """A chat completion of about 1 KB."""
    text = b"Explain how a reverse proxy streams. " * 24
    body = b'{"model":"gpt-bench","stream":%s,"messages":[{"role":"user","content":"%s"}]}'
    body %= (b"true" if stream else b"false", text)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def _sluice(upstream: int) -> AsyncIterator[int]:
    """Sluice in a process of its own before the upstream at this port; gives the port it listens on."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(
            f"access: {{keys: required, client_keys: [{KEY}]}}\n"
            f"upstreams: {{bench: {{provider: openai, base_url: 'http://127.0.0.1:{upstream}/v1'}}}}\n"
            "routes: [{prefix: gpt-, to: 'bench/{rest}'}]\n"
        )
        command = (sys.executable, "-P", "-m", "proxy", "serve", "--config", str(config), "--port", "0")
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # the `proxy` that we are, and no other
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, env=environ)
        assert process.stderr is not None
        try:
            port = await _announced(process.stderr)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(process.stderr.read())  # a log that nobody reads would stop Sluice in the end
                yield port
                process.terminate()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _announced(log: asyncio.StreamReader) -> int:
    """The port that the log names. Raises BenchFailed where Sluice ends, or says nothing for too long."""
    said = b""
    try:
        async with asyncio.timeout(PATIENCE):
            while line := await log.readline():
                if found := re.search(rb"listens on http://127\.0\.0\.1:(\d+)", line):
                    return int(found[1])
                said += line
    except TimeoutError:
        pass
    raise BenchFailed(f"Sluice did not start:\n{said.decode(errors='replace')}")


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked, and over how many connections."""

    stream: bool
    connections: int


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table, and how it is read off the answers to a load."""

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


async def press(port: int, load: Load, seconds: float) -> Tally:
    """Asks for so many seconds. Raises BenchFailed where an answer is not what it should be."""
    loop, tally, began = asyncio.get_running_loop(), Tally(), perf_counter()
    request = _request(load.stream)

    def client() -> Client:
        return Client(request, tally, lambda: perf_counter() - began >= seconds)

    made = [await loop.create_connection(client, "127.0.0.1", port) for _ in range(load.connections)]
    _, hanging = await asyncio.wait([each.ended for _, each in made], timeout=seconds + PATIENCE)
    if hanging:
        raise BenchFailed(f"{len(hanging)} of {load.connections} connections got no answer.")
    tally.seconds = perf_counter() - began
    if tally.failed or not tally.requests or tally.events != tally.requests * (EVENTS + 2) * load.stream:
        raise BenchFailed(f"{tally.requests} answers, of which {tally.failed} failed, and {tally.events} events.")
    return tally


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
            for port in targets.values():  # connections are made, caches are warm
                await press(port, _MANY, 0.3)
            tallies: dict[tuple[Load, str], list[Tally]] = defaultdict(list)
            for number in range(ROUNDS):
                order = sorted(targets, reverse=bool(number % 2))
                for load, name in product((_MANY, _STREAMS, _SINGLE), order):
                    tallies[load, name].append(await press(targets[name], load, seconds))
    return _table(tallies)


def _table(tallies: Mapping[tuple[Load, str], Sequence[Tally]]) -> str:
    """Medians over the rounds, and what Sluice takes or adds."""
    lines = [f"{'':40}{'direct':>12}{'sluice':>12}"]
    for each in _FIGURES:
        direct, sluice = (median(map(each.read, tallies[each.load, name])) for name in ("direct", "sluice"))
        compared = f"{sluice - direct:+.2f} ms" if each.load is _SINGLE else f"x {sluice / direct:.2f}"
        lines.append(f"{each.title:40}{direct:>12,.{each.digits}f}{sluice:>12,.{each.digits}f}  {compared}")
    lines.append("Load and upstream share one process of this machine, so the direct figures are no more than theirs.")
    return "\n".join(lines)

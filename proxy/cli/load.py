"""Load for `sluice bench`: an upstream that answers at once, and clients that repeat their request without pause."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, cast

import httptools

KEY: Final = "sk-bench"
EVENTS: Final = 64  # events per stream
TIMEOUT: Final = 30.0  # seconds for Sluice to start, and for an answer

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


class BenchFailed(Exception):
    """The measurement failed; the message says why."""


def _framed(body: bytes) -> bytes:
    """The body in chunked framing, as one chunk."""
    return b"%x\r\n%s\r\n" % (len(body), body)


def _answer(body: bytes) -> bytes:
    """A whole answer as bytes on the wire."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


_WHOLE, _MODELS, _EVENT = _answer(WHOLE), _answer(MODELS), _framed(EVENT)
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_END: Final = _framed(LAST) + b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """Answers chat completions at once: whole, or as a stream of one event per turn of the event loop."""

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
    """What one target answered under load."""

    seconds: float = 0.0
    requests: int = 0
    events: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)  # seconds

    def latency(self, share: float) -> float:
        """The latency in milliseconds at this quantile."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


class Client(asyncio.Protocol):
    """One connection that repeats its request after each answer, until `over` returns True."""

    def __init__(self, request: bytes, tally: Tally, over: Callable[[], bool]) -> None:
        self.request, self.tally, self.over = request, tally, over
        self.ended = asyncio.get_running_loop().create_future()
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the first request."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, expected or not."""
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
        """A part of its body; an empty line may be split between two parts."""
        body = self.held + body
        self.tally.events += body.count(b"\n\n")
        self.held = b"" if body.endswith(b"\n\n") else body[-1:]

    def on_message_complete(self) -> None:
        """The answer is complete."""
        self.tally.latencies.append(perf_counter() - self.began)
        self.tally.requests += 1
        self.tally.failed += self.parser.get_status_code() != 200
        if self.over():
            self.transport.close()
        else:
            asyncio.get_running_loop().call_soon(self._ask)  # a parser cannot be replaced within its own callback

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


@dataclass(frozen=True, slots=True)
class Load:
    """The request, and the number of connections."""

    stream: bool
    connections: int


async def press(port: int, load: Load, seconds: float) -> Tally:
    """Applies the load for so many seconds. Raises BenchFailed for a wrong answer."""
    loop, tally, began = asyncio.get_running_loop(), Tally(), perf_counter()
    request = _request(load.stream)

    def client() -> Client:
        return Client(request, tally, lambda: perf_counter() - began >= seconds)

    made = [await loop.create_connection(client, "127.0.0.1", port) for _ in range(load.connections)]
    _, hanging = await asyncio.wait([each.ended for _, each in made], timeout=seconds + TIMEOUT)
    if hanging:
        raise BenchFailed(f"{len(hanging)} of {load.connections} connections got no answer within {TIMEOUT:.0f} s.")
    tally.seconds = perf_counter() - began
    if tally.failed or not tally.requests or tally.events != tally.requests * (EVENTS + 2) * load.stream:
        raise BenchFailed(
            f"{tally.failed} of {tally.requests} answers failed or were incomplete ({tally.events} events)."
        )
    return tally

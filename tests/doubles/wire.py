"""HTTP/1.1 for doubles: what a request was, what an answer is to do byte by byte, and the connection that does it."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Literal, Protocol

import httptools

from tests.doubles.words import Said

FOREVER = 86_400.0  # seconds; longer than any test
READ_TIME = 0.02  # seconds a client has before a reset, which takes with it what was not read yet

How = Literal["close", "reset", "chunk-eof", "mid-chunk", "half"]
"""How a body breaks off: closed without the last chunk; reset (RST); ended cleanly, so that only what is missing tells;
closed inside a chunk; only our side closed, the connection held open."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is sent for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is sent until the test calls `double.release()`."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The answer ends here, whatever was still to come."""

    how: How = "close"


Act = bytes | Wait | Hold | Cut
"""One step of an answer; bytes are one write, and one chunk where the body is chunked."""
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came in."""

    method: str
    path: str  # as sent, with its query
    headers: list[tuple[bytes, bytes]]  # names in lower case
    body: bytes
    time: float = field(default_factory=time.monotonic)
    said: Said | None = None  # what a script wants answered

    @property
    def json(self) -> Any:
        """The body as JSON. Raises ValueError where it is none."""
        return json.loads(self.body)

    @property
    def route(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]

    def header(self, name: str) -> str:
        """The first header of that name, or ""."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name.encode()), "")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: steps before the head, the head, the steps of the body, and what becomes of the connection."""

    status: int = 200
    headers: Headers = ()
    acts: tuple[Act, ...] = ()
    framing: Literal["length", "chunked", "close"] = "length"
    before: tuple[Act, ...] = ()
    after: Literal["keep", "close", "trap"] = "keep"  # trap: closed as soon as the next request arrives
    length: int | None = None  # the content-length to promise; None: what the body has

    @property
    def body(self) -> bytes:
        """All bytes of the body that would be sent without breaks."""
        return b"".join(act for act in self.acts if isinstance(act, bytes))

    def with_acts(self, *acts: Act) -> "Answer":
        """The same head with another body. One that breaks off still promises the length it should have had."""
        broken = any(isinstance(act, Cut) for act in acts)
        return replace(self, acts=acts, length=len(self.body) if broken else None)


def json_answer(value: object, status: int = 200, headers: Headers = ()) -> Answer:
    """A whole JSON answer."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status, (("content-type", "application/json"), *headers), (body,))


def text_answer(text: str, status: int = 200, kind: str = "text/plain; charset=utf-8") -> Answer:
    """A whole answer that is no JSON."""
    return Answer(status, (("content-type", kind),), (text.encode(),) if text else ())


def sse(value: object, event: str = "") -> bytes:
    """One server-sent event with `value` as its JSON."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {event}\n" if event else "").encode() + f"data: {data}\n\n".encode()


def stream_answer(events: list[bytes], kind: str = "text/event-stream", headers: Headers = ()) -> Answer:
    """A chunked stream, one write per event."""
    return Answer(200, (("content-type", kind), *headers), tuple(events), "chunked")


class Host(Protocol):
    """What a connection needs of the double it belongs to."""

    def opened(self, connection: "Connection") -> None: ...
    def closed(self, connection: "Connection") -> None: ...
    def received(self, request: Received) -> None: ...
    def respond(self, request: Received) -> Answer: ...
    def answered(self, request: Received) -> None: ...
    def left(self, request: Received, sent: int) -> None: ...
    def crashed(self, error: BaseException) -> None: ...
    async def released(self) -> None: ...


class Connection(asyncio.Protocol):
    """One client's connection: requests in turn, each answered as its Answer says."""

    transport: asyncio.Transport

    def __init__(self, host: Host) -> None:
        self.host = host
        self.parser = httptools.HttpRequestParser(self)
        self.queue: list[Received] = []
        self.task: asyncio.Task[None] | None = None
        self.current: Received | None = None
        self.sent = 0  # writes of the current body
        self.trapped = False
        self.writable = asyncio.Event()
        self.writable.set()
        self.on_message_begin()

    # the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.host.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()

    def eof_received(self) -> None:
        self.lost()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost()
        self.host.closed(self)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def lost(self) -> None:
        """The client left: whatever it was being answered ends here."""
        if self.current:
            self.host.left(self.current, self.sent)
            self.current = None
        if self.task:
            self.task.cancel()

    # the parser's calls

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        method = self.parser.get_method().decode()
        self.queue.append(Received(method, self.url.decode("latin-1"), self.headers, b"".join(self.pieces)))
        self.next()

    # the answer

    def next(self) -> None:
        """Answer the next request that waits, if none is being answered."""
        if self.current or not self.queue or self.transport.is_closing():
            return
        self.current, self.sent = self.queue.pop(0), 0
        self.task = asyncio.create_task(self.answer(self.current))
        self.task.add_done_callback(self.done)

    def done(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()):
            self.host.crashed(error)
            self.transport.abort()

    async def answer(self, request: Received) -> None:
        """Serve one request to its end."""
        self.host.received(request)
        if self.trapped:
            return self.end(request, self.transport.close)
        answer = self.host.respond(request)
        for act in answer.before:
            if not await self.perform(act, "close"):
                return
        self.transport.write(head(answer))
        bodiless = request.method == "HEAD"
        for act in () if bodiless else answer.acts:
            if not await self.perform(act, answer.framing):
                return
        if answer.framing == "chunked" and not bodiless:
            self.transport.write(b"0\r\n\r\n")
        self.trapped = answer.after == "trap"
        if answer.after == "close" or answer.framing == "close" or not self.parser.should_keep_alive():
            return self.end(request, self.transport.close)
        self.end(request, self.next)

    def end(self, request: Received, then: Callable[[], None]) -> None:
        """The request is answered, as far as we meant to."""
        self.current = None
        self.host.answered(request)
        then()

    async def perform(self, act: Act, framing: str) -> bool:
        """One step; whether the answer goes on after it."""
        assert self.current
        if isinstance(act, Wait):
            await asyncio.sleep(min(act.seconds, FOREVER))
        elif isinstance(act, Hold):
            await self.host.released()
        elif isinstance(act, Cut):
            await self.cut(act.how, framing)
            return False
        elif act:
            self.transport.write(b"%x\r\n%b\r\n" % (len(act), act) if framing == "chunked" else act)
            self.sent += 1
            await self.writable.wait()
            await asyncio.sleep(0)
        return True

    async def cut(self, how: How, framing: str) -> None:
        assert self.current
        while self.transport.get_write_buffer_size():
            await asyncio.sleep(0.001)
        if how == "reset":
            await asyncio.sleep(READ_TIME)
        chunked = framing == "chunked"
        if how == "chunk-eof" and chunked:
            self.transport.write(b"0\r\n\r\n")
            return self.end(self.current, self.next)
        if how == "mid-chunk" and chunked:
            self.transport.write(b'400\r\ndata: {"id":"chatcm')
        if how == "half":
            self.transport.write_eof()
            return self.end(self.current, lambda: None)
        self.end(self.current, self.reset if how == "reset" else self.transport.close)

    def reset(self) -> None:
        """Close so that the client's kernel gets a RST."""
        sock: socket.socket = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def head(answer: Answer) -> bytes:
    """The status line and headers, framing included."""
    reason = HTTPStatus(answer.status).phrase if answer.status in HTTPStatus._value2member_map_ else "Unknown"
    lines = [f"HTTP/1.1 {answer.status} {reason}", *(f"{name}: {value}" for name, value in answer.headers)]
    if answer.framing == "chunked":
        lines.append("transfer-encoding: chunked")
    elif answer.framing == "length":
        lines.append(f"content-length: {len(answer.body) if answer.length is None else answer.length}")
    return "\r\n".join((*lines, "", "")).encode("latin-1")

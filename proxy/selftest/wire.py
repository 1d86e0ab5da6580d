"""The HTTP side of a fault upstream: answers as steps, sent byte by byte."""

import asyncio
import socket  # noqa: TID251 - to reset a connection: this upstream is a server, on loopback
import struct
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal, Protocol, cast

import httptools
import orjson

FOREVER: Final = 3600.0  # seconds; longer than any timeout
_SENT_BUFFER: Final = 256 * 1024  # bytes; small, so that back-pressure of a slow reader shows


@dataclass(frozen=True, slots=True)
class Wait:
    """Sends nothing for so many seconds, unscaled."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """The answer ends here: connection closed properly, or reset."""

    how: Literal["close", "reset"] = "close"


Act = bytes | Wait | Cut
"""One step of an answer; bytes are one write, and one chunk of a chunked body."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: steps before the head, the head, the steps of the body."""

    status: int
    kind: str  # content type
    acts: tuple[Act, ...] = ()
    chunked: bool = False
    before: tuple[Act, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    closes_on_reuse: bool = False  # announces keep-alive, and closes at the next request

    @property
    def size(self) -> int:
        """Length of the body in bytes without a cut."""
        return sum(len(act) for act in self.acts if isinstance(act, bytes))

    def head(self, length: int) -> bytes:
        """Status line and headers; a body that is not chunked announces `length`."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", f"content-type: {self.kind}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append("transfer-encoding: chunked" if self.chunked else f"content-length: {length}")
        return "\r\n".join((*lines, "", "")).encode()


@dataclass(slots=True)
class Asked:
    """One request that an upstream got. Times are loop.time()."""

    upstream: str
    method: str
    path: str  # without its query
    body: Any
    at: float
    reused: bool = False  # the connection had been used before
    status: int = 0  # of the answer; 0: none (yet)
    sent: int = 0  # bytes of the answer's body
    answered_at: float | None = None  # when the answer was sent as far as intended
    gone_at: float | None = None  # when Sluice closed the connection before that

    @property
    def model(self) -> str:
        """The requested model."""
        return str(self.body.get("model", "")) if isinstance(self.body, dict) else ""


class Host(Protocol):
    """The owner of a connection."""

    scale: float

    def respond(self, asked: Asked) -> tuple[Answer, int]:
        """The answer, and the length it should have (for one that is cut)."""
        ...

    def opened(self, connection: "Connection") -> None: ...
    def closed(self, connection: "Connection") -> None: ...


@dataclass(slots=True, eq=False)
class Connection(asyncio.Protocol):
    """One connection from Sluice: requests in turn, each answered as its Answer says."""

    host: Host
    upstream: str
    transport: asyncio.Transport = field(init=False)
    _parser: Any = field(init=False)
    _url: bytes = b""
    _pieces: list[bytes] = field(default_factory=list)
    _task: "asyncio.Task[None] | None" = None
    _asked: Asked | None = None
    _closing: bool = False
    _served: int = 0  # requests
    _writable: asyncio.Event = field(default_factory=asyncio.Event)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sluice has connected."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.transport.set_write_buffer_limits(_SENT_BUFFER)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT_BUFFER)
        self._parser = httptools.HttpRequestParser(self)
        self._writable.set()
        self.host.opened(self)

    def data_received(self, data: bytes) -> None:
        """Requests, or a part of one."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def eof_received(self) -> None:
        """Sluice closed its side."""
        self._left()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is closed, by either side."""
        self._left()
        self.host.closed(self)

    def pause_writing(self) -> None:
        """Sluice reads slowly."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Sluice reads again."""
        self._writable.set()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url, self._pieces = b"", []

    def on_url(self, url: bytes) -> None:
        """A part of its target."""
        self._url += url

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._closing:
            self.transport.close()
            return
        try:
            body = orjson.loads(b"".join(self._pieces) or b"null")
        except orjson.JSONDecodeError:
            body = None
        path = self._url.decode("latin-1").partition("?")[0]
        now = asyncio.get_running_loop().time()
        asked = self._asked = Asked(
            self.upstream, self._parser.get_method().decode(), path, body, now, self._served > 0
        )
        self._served += 1
        self._task = asyncio.create_task(self._answer(asked))

    def abort(self) -> None:
        """Closes it, and ends the running answer."""
        self._left()
        self.transport.abort()

    @property
    def _sock(self) -> socket.socket:
        return cast(socket.socket, self.transport.get_extra_info("socket"))

    def _left(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.gone_at = asyncio.get_running_loop().time()
        if self._task is not None:
            self._task.cancel()

    async def _answer(self, asked: Asked) -> None:
        answer, length = self.host.respond(asked)
        for act in answer.before:
            if not await self._perform(asked, act, False):
                return
        asked.status = answer.status
        self.transport.write(answer.head(length))
        for act in answer.acts:
            if not await self._perform(asked, act, answer.chunked):
                return
        if answer.chunked:
            self.transport.write(b"0\r\n\r\n")
        self._closing = answer.closes_on_reuse
        self._end(asked)

    async def _perform(self, asked: Asked, act: Act, chunked: bool) -> bool:
        """One step; returns whether the answer continues."""
        if isinstance(act, Wait):
            await asyncio.sleep(act.seconds * self.host.scale)
        elif isinstance(act, Cut):
            await self._cut(asked, act)
            return False
        elif act:
            self.transport.write(b"%x\r\n%b\r\n" % (len(act), act) if chunked else act)
            asked.sent += len(act)
            await self._writable.wait()
            await asyncio.sleep(0)
        return True

    async def _cut(self, asked: Asked, cut: Cut) -> None:
        while self.transport.get_write_buffer_size():
            await asyncio.sleep(0.001)
        self._end(asked)
        if cut.how == "close":
            self.transport.close()
            return
        await asyncio.sleep(0.02)  # a reset discards bytes that were not read yet
        if not self.transport.is_closing():
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

    def _end(self, asked: Asked) -> None:
        asked.answered_at = asyncio.get_running_loop().time()
        self._asked = None

"""A raw HTTP client with one connection per call, which sees every byte and can leave at any time."""

import asyncio
import math
import socket  # noqa: TID251 - for a small receive buffer: this client only ever asks Sluice on loopback
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, cast

import orjson

from proxy.selftest.preparing import KEY
from proxy.selftest.receiving import Received, parse_answer

_SMALL: Final = 64 * 1024  # receive buffer of a slow reader in bytes
_SLICE: Final = 0.05  # seconds
_USAGE: Final = {"include_usage": True}


@dataclass(slots=True, eq=False)
class Caller(asyncio.Protocol):
    """One call over its own connection, closed at the end of the answer."""

    model: str
    question: str
    streamed: bool = True
    slow: bool = False  # reads nothing until `read` is called
    raw: bytearray = field(default_factory=bytearray)
    began: float = 0.0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ended_at: float = 0.0
    transport: asyncio.Transport = field(init=False)

    async def ask(self, port: int) -> None:
        """Connects and sends the request."""
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        if self.slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
        try:
            await loop.sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        await loop.create_connection(lambda: self, sock=sock)
        if self.slow:
            self.transport.pause_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the request at once."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.began = asyncio.get_running_loop().time()
        self.transport.write(self._request())

    def data_received(self, data: bytes) -> None:
        """A part of the answer."""
        self.raw += data

    def connection_lost(self, error: Exception | None) -> None:
        """No more bytes will come."""
        if not self.ended.is_set():
            self.ended_at = asyncio.get_running_loop().time()
            self.ended.set()

    def read(self) -> None:
        """A slow reader starts to read again."""
        self.transport.resume_reading()

    def leave(self) -> float:
        """Closes the connection before the answer is complete. Returns the time (loop.time())."""
        self.transport.close()
        return asyncio.get_running_loop().time()

    async def answer(self, seconds: float) -> Received:
        """The answer; one that has not ended after so many seconds is marked as hung.

        The time is counted in slices, so that a machine which pauses this process is not mistaken for a hang.
        """
        for at in range(math.ceil(seconds / _SLICE)):
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_SLICE, seconds - at * _SLICE)):
                    await self.ended.wait()
            if self.ended.is_set():
                return parse_answer(bytes(self.raw), self.ended_at - self.began, hung=False)
        self.transport.abort()
        return parse_answer(bytes(self.raw), asyncio.get_running_loop().time() - self.began, hung=True)

    def _request(self) -> bytes:
        fields = {"model": self.model, "messages": [{"role": "user", "content": self.question}]}
        body = orjson.dumps(fields | ({"stream": True, "stream_options": _USAGE} if self.streamed else {}))
        return (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
            b"authorization: Bearer %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        ) % (KEY.encode(), len(body), body)

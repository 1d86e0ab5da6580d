"""Many callers at once: each asks on a connection of its own, keeps every byte, and notes when the server closed it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from proxy.selftest.receiving import Received, parse_answer
from tests.serving.served import Answer, answers


@dataclass(slots=True, eq=False)
class Caller(asyncio.Protocol):
    """One call. `keeps`: it would use its connection again, so only the server's wish closes it."""

    fields: Mapping[str, Any]
    keeps: bool = True
    key: str = "sk-caller"
    raw: bytearray = field(default_factory=bytearray)
    began: float = 0.0  # the loop's time, in seconds
    ended: float = 0.0
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    transport: asyncio.Transport = field(init=False)

    async def ask(self, port: int) -> None:
        """Connects and sends the request."""
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.began = asyncio.get_running_loop().time()
        transport.write(request(self.fields, self.keeps, self.key))

    def data_received(self, data: bytes) -> None:
        self.raw += data

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = asyncio.get_running_loop().time()
        self.closed.set()

    @property
    def question(self) -> str:
        """What is asked."""
        return str(self.fields["messages"][-1]["content"])

    @property
    def begun(self) -> bool:
        """Whether some of a stream is there."""
        return b"data: {" in self.raw

    @property
    def heard(self) -> Received:
        """What the answer says."""
        return parse_answer(bytes(self.raw), self.ended - self.began, hung=not self.closed.is_set())

    @property
    def answer(self) -> Answer:
        """The one answer that came, read by its framing."""
        (found,) = answers(bytes(self.raw))
        return found


def request(fields: Mapping[str, Any], keeps: bool, key: str) -> bytes:
    """A chat completion's bytes."""
    body = orjson.dumps(fields)
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %b\r\n%b"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    ) % (key.encode(), b"" if keeps else b"connection: close\r\n", len(body), body)


def chat(model: str, question: str, stream: bool = True) -> dict[str, Any]:
    """The body of a call."""
    return {"model": model, "messages": [{"role": "user", "content": question}], "stream": stream}


async def ask_all(callers: Sequence[Caller], port: int) -> None:
    """Everybody asks, a few at a time."""
    for at in range(0, len(callers), 20):
        await asyncio.gather(*(caller.ask(port) for caller in callers[at : at + 20]))


async def all_closed(callers: Sequence[Caller], seconds: float) -> None:
    """Waits until every connection is closed. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        for caller in callers:
            await caller.closed.wait()

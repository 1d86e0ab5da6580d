"""Exchanges with a fault upstream over real sockets, in its own dialects."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from proxy.selftest.dialects import dialect
from proxy.selftest.receiving import Received, parse_answer
from proxy.selftest.upstream import FaultUpstreams, Script
from proxy.selftest.words import tokens_for

QUESTION = "why"
FULL_TEXT = "".join(tokens_for(QUESTION))
SCALE = 0.001
END = b"0\r\n\r\n"


def request(model: str = "m", stream: bool = True, begun: str = "", path: str = "/v1/chat/completions") -> bytes:
    """A chat as Sluice would ask for it."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
    if begun:
        messages.append({"role": "assistant", "content": begun})
    fields = {"model": model, "messages": messages, "stream": stream, "stream_options": {"include_usage": True}}
    body = orjson.dumps(fields)
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(body), body)


@dataclass(slots=True)
class Line:
    """One connection to an upstream, and how it ended."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    reset: bool = False
    closed: bool = False
    raw: bytes = field(default=b"")

    async def ask(self, sent: bytes, seconds: float = 1.0) -> Received:
        """Sends bytes, and reads until the answer is over or nothing has come for so long."""
        self.writer.write(sent)
        self.raw, hung = b"", False
        try:
            while not self._over():
                async with asyncio.timeout(seconds):
                    piece = await self.reader.read(1 << 20)
                self.raw += piece
                if not piece:
                    self.closed = True
                    break
        except TimeoutError:
            hung = True
        except ConnectionResetError:
            self.reset = self.closed = True
        return parse_answer(self.raw, 0.0, hung)

    def _over(self) -> bool:
        head, found, body = self.raw.partition(b"\r\n\r\n")
        if b"chunked" in head:
            return body.endswith(END)
        length = next((line[15:] for line in head.split(b"\r\n") if line.startswith(b"content-length:")), b"-1")
        return bool(found) and len(body) == int(length)


async def line(upstreams: FaultUpstreams, name: str = "up") -> Line:
    """A connection to the upstream of that name."""
    return Line(*await asyncio.open_connection("127.0.0.1", upstreams.ports[name]))


def upstreams(first: Script, provider: str = "openai", **more: Any) -> FaultUpstreams:
    """Upstreams with one that is called `up`, and its fallback `other`."""
    names = {"up": dialect(provider), "other": dialect("openai")}
    return FaultUpstreams(names, {"up": ["m"], "other": ["n"]}, first, scale=SCALE, **more)


def exchange(
    script: Script, sent: bytes | None = None, provider: str = "openai", seconds: float = 1.0
) -> tuple[Received, Line]:
    """What one exchange with a faulty upstream brings."""

    async def once() -> tuple[Received, Line]:
        async with upstreams(script, provider) as behind:
            there = await line(behind)
            try:
                return await there.ask(sent or request(), seconds), there
            finally:
                there.writer.close()

    return asyncio.run(once())

"""A real server on loopback in a thread of its own, and clients that say exactly the bytes a test wants said."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import uvicorn
import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState

from proxy.serving.limits import Limits
from proxy.serving.protocol import SluiceProtocol

PATIENCE = 5.0
"""Seconds after which a test gives up waiting for what must happen."""


@dataclass
class Served:
    """A running server: where it listens and what it holds."""

    port: int
    state: ServerState
    stop: Callable[[], None]

    def client(self) -> "Client":
        return Client(socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE))

    def ask(self, data: bytes) -> bytes:
        """Says `data` and returns all that comes back until the server closes."""
        with self.client() as client:
            client.say(data)
            return client.rest()

    def quiet(self) -> bool:
        return not self.state.connections and not self.state.tasks


@dataclass
class Answer:
    """One response, read by its framing."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


@dataclass
class Client:
    """One connection."""

    sock: socket.socket
    buffer: bytes = b""
    closed: bool = field(default=False)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def more(self) -> bool:
        """Waits for more bytes; False: the server has closed (or reset) the connection."""
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionError:
            data = b""
        self.buffer += data
        self.closed = not data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            assert self.more(), f"closed before {mark!r}: {self.buffer!r}"
        before, _, self.buffer = self.buffer.partition(mark)
        return before + mark

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            assert self.more(), f"closed after {len(self.buffer)} of {size} bytes"
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def rest(self) -> bytes:
        while self.more():
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    def answer(self) -> Answer:
        """The next response, by content-length or chunks."""
        head = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = b""
        if "content-length" in headers:
            body = self.exactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(self.until(b"\r\n"), 16):
                body += self.exactly(size)
                assert self.exactly(2) == b"\r\n"
            assert self.exactly(2) == b"\r\n"
        return Answer(int(head[0].split()[1]), headers, body)


def answers(data: bytes) -> list[Answer]:
    """All responses in what came until the close."""
    reader, writer = socket.socketpair()
    writer.close()
    found = []
    with Client(reader, data) as client:
        while client.buffer:
            found.append(client.answer())
    return found


@contextmanager
def served(app: ASGIApp, limits: Limits = Limits()) -> Iterator[Served]:  # noqa: B008 - frozen
    """Serves `app` on a free port until the block ends. Nothing may be left of it then."""
    ready = threading.Event()
    found: list[Served] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", proxy_headers=False)
        config.load()
        state = ServerState()
        state.default_headers = [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")]
        listener = await loop.create_server(
            lambda: SluiceProtocol(config, state, {}, loop, limits=limits), "127.0.0.1", 0
        )
        over = asyncio.Event()
        port = listener.sockets[0].getsockname()[1]
        found.append(Served(port, state, partial(_set, loop, over)))
        ready.set()
        await over.wait()
        listener.close()
        for connection in list(state.connections):
            connection.transport.abort()
        while state.connections or state.tasks:
            await asyncio.sleep(0.005)

    thread = threading.Thread(target=lambda: uvloop.run(run()))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield found[0]
    finally:
        found[0].stop()
        thread.join(PATIENCE)
    assert not thread.is_alive()


def _set(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the request as it was understood, as JSON; headers as a list."""
    message = await receive()
    told = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": message.get("body", b"").decode("latin-1"),
        "type": message["type"],
    }
    await respond(send, json.dumps(told).encode())


async def respond(send: Send, body: bytes, status: int = 200) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def piece(body: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}

"""A server that does to its connections exactly what a test says, byte for byte."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from proxy.upstream.connection import Connection

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"content-length: 5\r\n\r\nhello"


@dataclass
class Peer:
    """The server's side of one connection."""

    number: int  # 1 for the first connection of the server
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """One whole request as it came, or b"" where the client has closed."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        length = 0
        for line in head.split(b"\r\n"):
            if line.startswith(b"content-length: "):
                length = int(line[16:])
        return head + await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError  # uvloop's transport would raise RuntimeError
        self.writer.write(data)
        await self.writer.drain()

    async def left(self) -> None:
        """Returns when the client has closed."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def reset(self) -> None:
        """Closes with RST."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class RawServer:
    port: int
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """A server that runs `script` for each connection, and closes it when that returns."""
    server = RawServer(0)
    open_peers: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        task = asyncio.current_task()
        assert task is not None
        open_peers.add(task)
        try:
            await script(Peer(server.connections, reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            open_peers.discard(task)
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(open_peers):
            task.cancel()
        if open_peers:
            await asyncio.wait(open_peers)
        await asyncio.sleep(0.01)  # both ends of the last connections get to close


def answering(*answers: bytes) -> Script:
    """Answers each request on a connection with the next of `answers`, the last one again and again."""

    async def script(peer: Peer) -> None:
        at = 0
        while await peer.request():
            await peer.send(answers[min(at, len(answers) - 1)])
            at += 1

    return script


async def read(connection: Connection) -> bytes:
    """All of the body that has come since the last read, waiting for it if need be; b"" at its end."""
    while not (data := connection.read_available()) and not connection.parser.complete:
        await connection.readable()
    return data


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))

"""A TCP proxy between anything, that delays, slices, cuts, stalls or resets what passes."""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.doubles.listener import Listener
from tests.doubles.wire import FOREVER

Direction = Literal["down", "up"]  # towards the client, towards the server


@dataclass(frozen=True, slots=True)
class Way:
    """What happens to the bytes of one connection in one direction."""

    delay: float = 0.0  # seconds before every piece
    slices: tuple[int, ...] = ()  # sizes of the pieces in turn; (): as they came
    after: int | None = None  # bytes that pass before `then`; None: all
    then: Literal["close", "reset", "stall", "half"] = "close"  # half: only this direction is closed


@dataclass(frozen=True, slots=True)
class Treatment:
    """What happens to one connection."""

    down: Way = Way()
    up: Way = Way()
    refuse: bool = False  # reset as soon as it was taken


CLEAN = Treatment()


@dataclass(slots=True, eq=False)
class Link:
    """One connection through the proxy, and the bytes that passed."""

    client: asyncio.Transport
    server: asyncio.Transport | None = None
    passed: dict[Direction, int] = field(default_factory=lambda: {"down": 0, "up": 0})
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def abort(self) -> None:
        """Reset both sides."""
        for transport in (self.client, self.server):
            if transport and not transport.is_closing():
                sock: socket.socket = transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()

    def close(self) -> None:
        for transport in (self.client, self.server):
            if transport:
                transport.close()


class Side(asyncio.Protocol):
    """One end of a link: queues what it reads for the other end."""

    def __init__(self, proxy: "FaultProxy", link: Link | None = None) -> None:
        self.proxy = proxy
        self.link = link  # None: the client's end, whose link is made when it connects
        self.read: asyncio.Queue[bytes] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if self.link is None:
            self.link = Link(transport)
            self.link.tasks.append(asyncio.create_task(self.proxy.serve(self.link, self.read)))

    def data_received(self, data: bytes) -> None:
        self.read.put_nowait(data)

    def eof_received(self) -> bool:
        self.read.put_nowait(b"")
        return True  # our side stays open until the other end's bytes are through

    def connection_lost(self, error: Exception | None) -> None:
        assert self.link
        if error:
            self.link.abort()
        else:
            self.read.put_nowait(b"")


class FaultProxy(Listener):
    """Passes on to a port of this machine; `script(...)` queues treatments for the connections to come."""

    name = "faultproxy"

    def __init__(self, target: int, *, port: int = 0, always: Treatment = CLEAN) -> None:
        super().__init__(port)
        self.target = target
        self.always = always
        self.links: list[Link] = []
        self._script: deque[Treatment] = deque()

    def script(self, *treatments: Treatment) -> None:
        self._script.extend(treatments)

    def protocol(self) -> asyncio.Protocol:
        return Side(self)

    def reset_all(self) -> None:
        for link in self.links:
            link.abort()
            for task in link.tasks:
                task.cancel()

    async def serve(self, link: Link, read: "asyncio.Queue[bytes]") -> None:
        """One connection: the way up and the way down, each at its own pace."""
        self.links.append(link)
        treatment = self._script.popleft() if self._script else self.always
        if treatment.refuse:
            return link.abort()
        try:
            transport, far = await self.loop.create_connection(lambda: Side(self, link), "127.0.0.1", self.target)
        except OSError:
            return link.abort()
        link.server = transport
        link.tasks.append(asyncio.create_task(self.carry(link, far.read, treatment.down, "down")))
        await self.carry(link, read, treatment.up, "up")

    async def carry(self, link: Link, read: "asyncio.Queue[bytes]", way: Way, direction: Direction) -> None:
        """Pass pieces on until the end, or until the way says what then."""
        to = link.client if direction == "down" else link.server
        assert to
        while data := await read.get():
            for piece in cut(data, way.slices):
                await asyncio.sleep(way.delay)
                room = len(piece) if way.after is None else way.after - link.passed[direction]
                to.write(piece[:room])
                link.passed[direction] += min(room, len(piece))
                if way.after is not None and room <= len(piece):
                    return await self.finish(link, to, way)
        with contextlib.suppress(OSError):  # the other side may be gone by now
            if not to.is_closing():
                to.write_eof()
        if direction == "down":
            link.close()

    async def finish(self, link: Link, to: asyncio.Transport, way: Way) -> None:
        """What becomes of the link when its bytes are through."""
        while to.get_write_buffer_size() and not to.is_closing():
            await asyncio.sleep(0.001)
        if way.then == "reset":
            link.abort()
        elif way.then == "stall":
            await asyncio.sleep(FOREVER)
        elif way.then == "half":
            to.write_eof()
        else:
            link.close()


def cut(data: bytes, sizes: tuple[int, ...]) -> Iterator[bytes]:
    """The data in pieces of these sizes in turn."""
    start = at = 0
    while start < len(data):
        end = start + sizes[at % len(sizes)] if sizes else len(data)
        yield data[start:end]
        start, at = end, at + 1

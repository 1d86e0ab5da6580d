"""Connections out of the queues of listening sockets, whatever else the event loop has to do."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from proxy.serving.accepting import AT_ONCE, Queues
from proxy.serving.listening import listen

TURNS = 6
"""Turns of the event loop from the first look at a queue to the last `connection_made` of those taken from it."""


class Accepting(asyncio.Protocol):
    """A server's protocol as the server makes it: each one has its queue looked at."""

    def __init__(self, sock: socket.socket) -> None:
        self.made = 0
        self.queues = Queues([sock], self.one)

    def one(self) -> asyncio.Protocol:
        self.queues.look_soon()
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made += 1
        transport.close()


@contextmanager
def queued(count: int) -> Iterator[socket.socket]:
    """A listening socket, with so many clients that nobody has accepted yet."""
    (sock,) = listen("127.0.0.1", 0)
    clients = [socket.create_connection(sock.getsockname()) for _ in range(count)]
    try:
        yield sock
    finally:
        for each in (sock, *clients):
            each.close()


def test_newcomers_do_not_wait_for_each_other() -> None:
    async def made_within_few_turns() -> int:
        protocol = Accepting(sock)
        listener = await asyncio.get_running_loop().create_server(protocol.one, sock=sock)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        made = protocol.made
        listener.close()
        return made

    with queued(AT_ONCE) as sock:
        assert uvloop.run(made_within_few_turns()) == AT_ONCE


def test_who_waits_at_the_end_is_taken() -> None:
    async def made_at_the_end() -> int:
        protocol = Accepting(sock)
        protocol.queues.empty()
        await protocol.queues.connected()
        return protocol.made

    with queued(3 * AT_ONCE) as sock:
        assert uvloop.run(made_at_the_end()) == 3 * AT_ONCE

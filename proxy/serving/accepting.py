"""Takes the connections that the event loop leaves in the queues of listening sockets."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final

AT_ONCE: Final = 64
"""Connections taken in one turn of the event loop. libuv itself takes one: turns are long where hundreds of streams are
under way, and newcomers would wait for as many of them as there are others before them."""


class Queues:
    """The queues of listening sockets that do not block. The event loop accepts whoever comes alone."""

    def __init__(self, sockets: Sequence[socket.socket], protocol: Callable[[], asyncio.Protocol]) -> None:
        self._sockets = sockets
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.Handle | None = None
        self._connecting: set[asyncio.Task[object]] = set()  # the loop holds tasks weakly

    def look_soon(self) -> None:
        """Somebody was accepted: who waits behind is taken in the next turn."""
        if self._look is None:
            self._look = self._loop.call_soon(self._take_some)

    def empty(self) -> None:
        """Takes all that wait: whom closing the sockets would reset."""
        for sock in self._sockets:
            while self._take(sock):
                pass

    async def connected(self) -> None:
        """Waits until all that were accepted, by the event loop too, are told of their connection."""
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await asyncio.sleep(0)

    def _take_some(self) -> None:
        self._look = None
        for sock in self._sockets:
            for _ in range(AT_ONCE):
                if not self._take(sock):
                    break

    def _take(self, sock: socket.socket) -> bool:
        """Takes one connection; False: there is none, or no file for it."""
        try:
            connection, _ = sock.accept()
        except OSError:
            return False
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return True

"""Name resolution in which a host that does not resolve holds up no other."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any

Address = tuple[int, int, int, str, Any]  # as getaddrinfo returns them
Found = Sequence[Address] | Exception
LookUp = Callable[[], Sequence[Address]]


class Resolver:
    """Resolves one host. At most one thread at a time looks it up, however many requests wait.

    The two threads that asyncio would use are shared by all hosts, and a silent name server blocks one for half a
    minute.
    """

    __slots__ = ("host", "_look_up", "_numeric", "_asked")

    def __init__(self, host: str, port: int, look_up: LookUp | None = None) -> None:
        self.host = host
        self._look_up: LookUp = look_up or partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        self._numeric: Sequence[Address] = ()
        self._asked: asyncio.Future[Found] | None = None
        with suppress(OSError, UnicodeError):  # not an IP address
            self._numeric = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)

    async def addresses(self) -> Sequence[Address]:
        """All addresses of the host. Raises OSError, or UnicodeError for an invalid name."""
        if self._numeric:
            return self._numeric
        if self._asked is None:
            asked: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
            try:
                Thread(target=self._ask, args=(asked,), name="names", daemon=True).start()
            except RuntimeError as error:  # no more threads available
                raise OSError(str(error)) from None
            self._asked = asked
        found = await asyncio.shield(self._asked)
        if isinstance(found, Exception):
            raise found
        return found

    def _ask(self, asked: asyncio.Future[Found]) -> None:
        found: Found
        try:
            found = self._look_up() or OSError("the name has no address")
        except (OSError, UnicodeError) as error:
            found = error
        with suppress(RuntimeError):  # the loop is closed
            asked.get_loop().call_soon_threadsafe(self._answered, asked, found)

    def _answered(self, asked: asyncio.Future[Found], found: Found) -> None:
        self._asked = None
        asked.set_result(found)

"""The connections to one origin: kept alive, used newest first, bounded in number."""

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass

import httpx

from proxy.upstream.connection import Connection
from proxy.upstream.dialing import dial
from proxy.upstream.resolving import Resolver


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one origin may have."""

    connections: int = 4096  # in use, idle or being opened; further requests wait in turn
    idle: int = 256
    idle_seconds: float = 4.0  # below the 5 s after which usual servers close: theirs must not cross our next request


class Origin:
    """One scheme, host and port. A connection is in use by one request, or idle here, or gone.

    `take` or `open` gives one, `give` takes it back. A slot is held from before a connection is opened until its
    socket is closed; requests wait only while all slots are held and nothing is idle.
    """

    __slots__ = (
        "_resolver",
        "_tls",
        "_bounds",
        "_loop",
        "_idle",
        "_alive",
        "_held",
        "_waiting",
        "_sweeper",
        "_closed",
    )

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, bounds: Bounds) -> None:
        self._resolver = Resolver(host, port)
        self._tls = tls
        self._bounds = bounds
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Connection, float] = {}  # since when; the newest last
        self._alive: set[Connection] = set()
        self._held = 0  # slots
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()  # None: a slot to open one
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def take(self) -> Connection | None:
        """The connection used last, if one is idle and fresh."""
        if not self._idle:
            return None
        connection, since = self._idle.popitem()
        if self._loop.time() - since < self._bounds.idle_seconds:
            return connection
        connection.abort()
        self._sweep()  # all others have been idle for longer
        return None

    async def open(self, seconds: float | None) -> Connection:
        """A new connection, or in a crowd one that another request gives back; within `seconds`.

        Raises httpx.ConnectError, ConnectTimeout, or PoolTimeout where all connections stayed in use.
        """
        connecting = False
        try:
            async with asyncio.timeout(seconds):
                given = await self._slot()
                connecting = True
                return given or await self._connect()
        except TimeoutError:
            if connecting:
                raise httpx.ConnectTimeout("no connection in time") from None
            raise httpx.PoolTimeout("all connections are in use") from None

    def give(self, connection: Connection) -> None:
        """Takes a connection back after its exchange, to be used again if it can be."""
        if not connection.rest():
            return
        if self._closed:
            connection.abort()
        elif waiter := self._next():
            waiter.set_result(connection)
        else:
            if len(self._idle) >= self._bounds.idle:
                self._drop_oldest()
            self._idle[connection] = self._loop.time()
            if self._sweeper is None:
                self._sweeper = self._loop.call_later(self._bounds.idle_seconds, self._sweep)

    def close(self) -> None:
        """Closes what is idle now, and what is in use when it is given back."""
        self._closed = True
        while self._idle:
            self._drop_oldest()
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _slot(self) -> Connection | None:
        if self._held < self._bounds.connections:
            self._held += 1
            return None
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
            elif (given := waiter.result()) is not None:
                self.give(given)
            else:
                self._free()
            raise

    async def _connect(self) -> Connection:
        try:
            connection = await dial(self._resolver, self._tls, lambda: Connection(self._lost))
            if connection.closed:
                raise httpx.ConnectError("connection closed at once")
        except (TimeoutError, asyncio.CancelledError, httpx.ConnectError):
            self._free()
            raise
        except (OSError, UnicodeError) as error:
            self._free()
            raise httpx.ConnectError(f"{type(error).__name__} on connecting") from error
        self._alive.add(connection)
        return connection

    def _lost(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        if connection in self._alive:  # else `_connect` has freed its slot
            self._alive.remove(connection)
            self._free()

    def _free(self) -> None:
        if waiter := self._next():
            waiter.set_result(None)
        else:
            self._held -= 1

    def _next(self) -> "asyncio.Future[Connection | None] | None":
        """Whose turn it is of those who still wait; one who was cancelled may not have got to leave yet."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def _sweep(self) -> None:
        """Drops what has been idle for too long, and comes again when the next would be."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        limit = self._loop.time() - self._bounds.idle_seconds
        while self._idle:
            since = next(iter(self._idle.values()))
            if since > limit:
                self._sweeper = self._loop.call_at(since + self._bounds.idle_seconds, self._sweep)
                return
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        connection = next(iter(self._idle))
        del self._idle[connection]
        connection.abort()

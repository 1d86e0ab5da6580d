"""The connection pool of one origin: kept-alive connections, the newest used first, limited in number."""

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
    """Limits of one origin."""

    connections: int = 4096  # in use, idle or being opened; further requests wait
    idle: int = 256
    idle_seconds: float = 4.0  # below the usual 5 s of servers, whose close could race with our next request


class Origin:
    """One scheme, host and port. A connection is in use by one request, idle here, or closed.

    `take` or `open` gives one, `give` returns it. A slot is held from before a connection is opened until its socket is
    closed; requests wait only while all slots are held and no connection is idle.
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
        self._idle: dict[Connection, float] = {}  # idle since; newest last
        self._alive: set[Connection] = set()
        self._held = 0  # slots
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()  # None: a slot, to open a connection
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def take(self) -> Connection | None:
        """The most recently used idle connection, if it is fresh enough; else None."""
        if not self._idle:
            return None
        connection, since = self._idle.popitem()
        if self._loop.time() - since < self._bounds.idle_seconds:
            return connection
        connection.abort()
        self._sweep()  # all others have been idle even longer
        return None

    async def open(self, seconds: float | None) -> Connection:
        """A new connection, or under contention one that another request returns; within `seconds`.

        Raises httpx.ConnectError, ConnectTimeout, or PoolTimeout if all connections stayed in use.
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
        """Returns a connection after its exchange, for reuse if possible."""
        if not connection.release():
            return
        if self._closed:
            connection.abort()
        elif self._waiting and (waiter := self._next()):
            waiter.set_result(connection)
        else:
            if len(self._idle) >= self._bounds.idle:
                self._drop_oldest()
            self._idle[connection] = self._loop.time()
            if self._sweeper is None:
                self._sweeper = self._loop.call_later(self._bounds.idle_seconds, self._sweep)

    def close(self) -> None:
        """Closes idle connections now, and those in use when they are returned."""
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
        if connection in self._alive:  # else `_connect` has freed its slot already
            self._alive.remove(connection)
            self._free()

    def _free(self) -> None:
        if waiter := self._next():
            waiter.set_result(None)
        else:
            self._held -= 1

    def _next(self) -> "asyncio.Future[Connection | None] | None":
        """The next waiter; cancelled ones may not have been removed yet."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def _sweep(self) -> None:
        """Closes connections that have been idle for too long, and schedules itself for the next."""
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

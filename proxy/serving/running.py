"""Runs the server in one process, from opening the socket to the last answer after a signal."""

import asyncio
import gc
import resource
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from proxy.call import Headers
from proxy.serving.accepting import Queues
from proxy.serving.limits import Limits
from proxy.serving.listening import BACKLOG, CannotListen, listen
from proxy.serving.protocol import SluiceProtocol
from proxy.serving.workers import TO_DRAIN

GRACE: Final = 1.0
"""Seconds for calls to end after the drain time: enough to write an error event."""
OWN_FILES: Final = 32
"""File descriptors that are not connections of calls: log, store, event loop, refused connections."""
TICK: Final = 0.02
"""Seconds between two checks whether all calls have ended."""


@dataclass(slots=True)
class Drain:
    """The state of the shutdown, as the app sees it."""

    draining: bool = False  # /readyz answers 503


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Hooks:
    """Callbacks of the server, called in its event loop."""

    on_listening: Callable[[str, int], None] = lambda host, port: None  # the bound address
    on_drain: Callable[[], None] = _nothing  # the first SIGTERM or SIGINT, before anything is closed
    on_reload: Callable[[], None] = _nothing  # SIGHUP
    on_error: Callable[[Headers], Headers] = lambda headers: []  # headers for errors without the app


@dataclass(frozen=True, slots=True)
class Serving:
    """Where and how to serve."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0: one that is free
    drain: float = 30.0  # seconds for running calls after the first signal
    notice: float = 0.0  # seconds for which new connections are still accepted after the signal, while calls run
    limits: Limits = field(default_factory=Limits)


def serve(
    app: ASGIApp, serving: Serving, drain: Drain, hooks: Hooks, sockets: list[socket.socket] | None = None
) -> int:
    """Serves until a signal. Returns the exit code of the process: 0, or 1 if it could not start.

    `sockets`: listening sockets that the parent process has opened.
    """
    try:
        sockets = sockets or listen(serving.host, serving.port)
    except CannotListen as error:
        print(f"sluice: {error}", file=sys.stderr)
        return 1
    limits = serving.limits
    most = min(limits.max_connections, connections_for(_raise_open_files()))
    server = Server(app, replace(serving, limits=replace(limits, max_connections=most)), drain, hooks)
    try:
        server.run(sockets=sockets)
    except SystemExit:  # raised by uvicorn if the app's startup fails; it has logged why
        return 1
    finally:
        for sock in sockets:
            sock.close()
    return 0


class Server(uvicorn.Server):
    """uvicorn's server, with our protocol and our shutdown."""

    def __init__(self, app: ASGIApp, serving: Serving, drain: Drain, hooks: Hooks) -> None:
        super().__init__(
            uvicorn.Config(
                cast(Any, app),
                http=cast(type[asyncio.Protocol], self._protocol),
                loop="uvloop",
                ws="none",
                interface="asgi3",  # the app is a plain callable that gives a coroutine
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=True,
                backlog=BACKLOG,
            )
        )
        self.serving = serving
        self.drain = drain
        self.hooks = hooks

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the app, then listens."""
        self.queues = Queues(sockets or (), partial(self._protocol, self.config, self.server_state, None))
        await super().startup(sockets)
        self.calm_collector()
        for sock in sockets or ():
            self.hooks.on_listening(*sock.getsockname()[:2])

    def calm_collector(self) -> None:
        """Excludes the objects loaded so far, which live as long as the process, from garbage collection."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """SIGTERM and SIGINT end the server gracefully, or at once if repeated; SIGHUP reloads.

        The exit code stays ours, also for signals that come when all is over but the process. A parent of several
        workers uses a signal of its own to begin draining.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(TO_DRAIN, self._begin_to_end)
        loop.add_signal_handler(signal.SIGHUP, self.hooks.on_reload)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, TO_DRAIN, signal.SIGHUP):
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains: accepts no more connections, lets calls finish, then ends them."""
        now = asyncio.get_running_loop().time
        ends = now() + self.serving.drain
        notice = min(self.serving.notice, self.serving.drain)
        await self._until(lambda: self.force_exit or not self.server_state.tasks, notice)
        self.queues.empty()
        for listener in self.servers:
            listener.close()
        self._part()
        await self.queues.connected()
        self._part()  # from those who had connected by then as well
        await self._until(self._done_or_forced, ends - now())
        if not self._done():
            for connection in self._connections():
                connection.cut()
            await self._until(self._said, GRACE)
        for connection in self._connections():
            connection.transport.abort()
        with suppress(TimeoutError):  # the app's cleanup must not keep the process for ever
            await asyncio.wait_for(self.lifespan.shutdown(), self.serving.drain + GRACE)

    def _part(self) -> None:
        for connection in self._connections():
            connection.shutdown()

    def _protocol(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: object,
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> SluiceProtocol:
        """One for a connection that has been accepted; the parameters' names are uvicorn's."""
        self.queues.look_soon()
        limits, error_headers = self.serving.limits, self.hooks.on_error
        return SluiceProtocol(config, server_state, app_state, _loop, limits, error_headers)

    def _stop(self) -> None:
        if self.should_exit:
            self.force_exit = True
        else:
            self._begin_to_end()

    def _begin_to_end(self) -> None:
        if not self.should_exit:
            self.should_exit = True
            self.drain.draining = True
            self.hooks.on_drain()

    def _connections(self) -> list[SluiceProtocol]:
        return list(cast(set[SluiceProtocol], self.server_state.connections))

    def _done(self) -> bool:
        return not self.server_state.connections and not self.server_state.tasks

    def _said(self) -> bool:
        buffered = any(connection.transport.get_write_buffer_size() for connection in self._connections())
        return not self.server_state.tasks and not buffered

    def _done_or_forced(self) -> bool:
        return self.force_exit or self._done()

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not condition() and loop.time() < end:
            await asyncio.sleep(TICK)


def connections_for(files: int) -> int:
    """How many clients a process can serve with so many file descriptors: a call takes two."""
    return max(1, (files - OWN_FILES) // 2)


def _raise_open_files() -> int:
    """Raises the soft limit of open files to the hard limit, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize

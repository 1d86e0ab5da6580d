"""A server on loopback with an event loop in a thread of its own, so that tests without one can use it."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Listener:
    """Listens on 127.0.0.1 between `start()` and `stop()`, or as a context manager."""

    name = "listener"

    def __init__(self, port: int = 0) -> None:
        self.port = port  # 0: any free one, known after the start
        self.loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._crashes: list[BaseException] = []
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None

    def protocol(self) -> asyncio.Protocol:
        """What takes one connection."""
        raise NotImplementedError

    def begin(self) -> None:
        """Called on the loop before connections are taken."""

    def reset_all(self) -> None:
        """Reset every open connection."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._crashes and error is None:
            raise self._crashes[0]

    def start(self) -> None:
        """Returns when connections are taken. Raises OSError where the port is not free."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=self.name, daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._server is None:
            raise OSError(f"{self.name}: cannot listen on port {self.port}")

    def stop(self) -> None:
        """Close everything; returns when the thread is gone."""
        if self._thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed where it never listened
                self.loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None

    def on_loop(self, action: Callable[[], None]) -> None:
        """Do it on the loop, and what follows from it there; returns when it is done."""

        async def act() -> None:
            action()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(act(), self.loop).result(5)

    async def listen(self) -> None:
        factory = self.protocol
        with contextlib.suppress(OSError):
            self._server = await self.loop.create_server(factory, "127.0.0.1", self.port, backlog=1024)
            self.port = self._server.sockets[0].getsockname()[1]

    def fall(self) -> None:
        """Take no more connections, and reset those that are open."""
        if self._server:
            self._server.close()
        self.reset_all()

    async def _run(self) -> None:
        self.loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self.begin()
        await self.listen()
        self._ready.set()
        if self._server:
            await self._stopping.wait()
            self.fall()
            await asyncio.sleep(0)

    def crashed(self, error: BaseException) -> None:
        """A defect of the double itself; raised where its context ends."""
        self._crashes.append(error)

"""The base of every double: a real server on loopback, in a thread of its own, that follows a script."""

import asyncio
import contextlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from tests.doubles.wire import Answer, Connection, Received
from tests.doubles.words import Said, derived


class Fault(Protocol):
    """How one request is treated; `double.answer(request)` is what it would get otherwise."""

    def __call__(self, double: "Double", request: Received) -> Answer: ...


@runtime_checkable
class Lasting(Protocol):
    """What a fault has besides, that stays at the head of the script for more than one request."""

    def over(self, served: int) -> bool:
        """Whether it has had its time, after so many requests."""
        ...


@dataclass(slots=True)
class Queued:
    """A fault in the script, and the requests it has had."""

    fault: Fault
    served: int = 0

    def over(self) -> bool:
        return self.fault.over(self.served) if isinstance(self.fault, Lasting) else self.served > 0


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A client that left before its answer was over."""

    request: Received
    sent: int  # writes of the body that had gone out
    time: float = field(default_factory=time.monotonic)


class Double:
    """A provider's stand-in. Use as a context manager, or `start()` and `stop()`.

    `script(...)` queues faults for the calls to come (of the paths in `work`; catalogue requests are left alone unless
    `on` names them), `always` is what happens to calls when the script is empty.
    """

    name = "double"
    base_path = ""  # what a base_url in config.yaml has after the port
    work: tuple[str, ...] = ()  # how the paths of model calls end

    def __init__(self, *, key: str = "", models: Sequence[str] = (), port: int = 0) -> None:
        self.key = key  # the only one that is taken; "": none is needed
        self.models = tuple(models)
        self.port = port
        self.said: Said | None = None  # what every answer says; None: derived from the question
        self.always: Fault | None = None
        self.requests: list[Received] = []
        self.disconnects: list[Disconnect] = []
        self.keys_seen: set[str] = set()
        self.connections_made = 0
        self.answers = 0
        self._connections: set[Connection] = set()
        self._scripts: defaultdict[str, deque[Queued]] = defaultdict(deque)
        self._crashes: list[BaseException] = []
        self._changed = threading.Condition()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._gate: asyncio.Event
        self._server: asyncio.Server | None = None

    # what a provider fills in

    def answer(self, request: Received) -> Answer:
        """The honest answer."""
        raise NotImplementedError

    def failed(self, request: Received, status: int, message: str, code: str | None = None) -> Answer:
        """An error in this provider's form, as this request would get it."""
        raise NotImplementedError

    def failed_event(self, request: Received, message: str, code: str | int) -> bytes:
        """An error in mid-stream in this provider's form."""
        raise NotImplementedError

    def too_long(self, request: Received) -> Answer:
        """A prompt over the context length, refused in this provider's words."""
        raise NotImplementedError

    def filtered(self, request: Received) -> Answer:
        """A prompt refused for its content, in this provider's words."""
        raise NotImplementedError

    def is_end(self, event: bytes) -> bool:
        """Whether this event says that the stream is complete without being the finish reason itself."""
        return event.startswith(b"data: [DONE]")

    def dressed(self, answer: Answer, request: Received) -> Answer:
        """The answer with the headers that every answer of this provider has."""
        return answer

    def key_of(self, request: Received) -> str:
        """The credential that a request carries."""
        return request.header("authorization").removeprefix("Bearer ")

    # scripting

    def script(self, *faults: Fault, on: str = "") -> None:
        """Queue faults, one for each call to come, or for each request whose path has `on` in it."""
        self._scripts[on].extend(Queued(fault) for fault in faults)

    def compose(self, request: Received, question: str) -> Said:
        """What is to be said to this request."""
        return request.said or self.said or Said(derived(question))

    def release(self) -> None:
        """Let go every answer that holds."""
        self._loop.call_soon_threadsafe(self._gate.set)

    # life

    @property
    def address(self) -> str:
        """ "http://127.0.0.1:PORT"."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base_url for config.yaml."""
        return self.address + self.base_path

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
        """Listen; returns when connections are taken."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=self.name, daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._server is None:
            raise OSError(f"{self.name}: cannot listen on port {self.port}")

    def stop(self) -> None:
        """Close everything; returns when the thread is gone."""
        if self._thread:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._thread = None

    def down(self) -> None:
        """Refuse new connections and reset those that are open, until `up()`."""
        self._do(self._fall)

    def up(self) -> None:
        """Listen again, on the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)

    def drop_connections(self) -> None:
        """Reset every open connection."""
        self._do(self._reset_all)

    def _do(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(5)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self._gate = asyncio.Event(), asyncio.Event()
        try:
            await self._listen()
        finally:
            self._ready.set()
        await self._stop.wait()
        self._fall()
        tasks = [connection.task for connection in self._connections if connection.task]
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", self.port, backlog=1024)
            self.port = self._server.sockets[0].getsockname()[1]

    def _fall(self) -> None:
        if self._server:
            self._server.close()
        self._reset_all()

    def _reset_all(self) -> None:
        for connection in tuple(self._connections):
            connection.current = None
            if not connection.transport.is_closing():
                connection.reset()

    # what is seen

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    @property
    def calls(self) -> list[Received]:
        """The requests that were model calls."""
        return [request for request in self.requests if self.is_call(request)]

    def is_call(self, request: Received) -> bool:
        return request.method == "POST" and request.route.endswith(self.work)

    def wait_for(self, condition: Callable[[], object], timeout: float = 5) -> None:
        """Block until `condition()` holds. Raises AssertionError after `timeout` seconds."""
        end = time.monotonic() + timeout
        with self._changed:
            while not condition():
                if time.monotonic() > end:
                    raise AssertionError(f"{self.name}: not within {timeout} s")
                self._changed.wait(0.01)

    async def until(self, condition: Callable[[], object], timeout: float = 5) -> None:
        """The same for a coroutine."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"{self.name}: not within {timeout} s")
            await asyncio.sleep(0.002)

    # what connections call

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        self.connections_made += 1
        self._tell()

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._tell()

    def received(self, request: Received) -> None:
        self.requests.append(request)
        if key := self.key_of(request):
            self.keys_seen.add(key)
        self._tell()

    def respond(self, request: Received) -> Answer:
        """The answer that the script, or honesty, has for this request."""
        fault = self._fault(request)
        return self.dressed(fault(self, request) if fault else self.answer(request), request)

    def _fault(self, request: Received) -> Fault | None:
        for on, script in self._scripts.items():
            if not (on in request.route if on else self.is_call(request)):
                continue
            while script and script[0].over():
                script.popleft()
            if script:
                script[0].served += 1
                return script[0].fault
        return self.always if self.is_call(request) else None

    def answered(self, request: Received) -> None:
        self.answers += 1
        self._tell()

    def left(self, request: Received, sent: int) -> None:
        self.disconnects.append(Disconnect(request, sent))
        self._tell()

    def crashed(self, error: BaseException) -> None:
        self._crashes.append(error)

    async def released(self) -> None:
        await self._gate.wait()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

"""The base of every double: a server on loopback that records what it is asked, and answers by a script."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from tests.doubles.listener import Listener
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


class Double(Listener):
    """A provider's stand-in. Use as a context manager, or `start()` and `stop()`.

    `script(...)` queues faults for the calls to come (of the paths in `work`; catalogue requests are left alone unless
    `on` names them), `always` is what happens to calls when the script is empty.
    """

    name = "double"
    base_path = ""  # what a base_url in config.yaml has after the port
    work: tuple[str, ...] = ()  # how the paths of model calls end

    def __init__(self, *, key: str = "", models: Sequence[str] = (), port: int = 0) -> None:
        super().__init__(port)
        self.key = key  # the only one that is taken; "": none is needed
        self.models = tuple(models)
        self.said: Said | None = None  # what every answer says; None: derived from the question
        self.always: Fault | None = None
        self.requests: list[Received] = []
        self.disconnects: list[Disconnect] = []
        self.keys_seen: set[str] = set()
        self.connections_made = 0
        self.answers = 0
        self._connections: set[Connection] = set()
        self._scripts: defaultdict[str, deque[Queued]] = defaultdict(deque)
        self._gate: asyncio.Event

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
        self.loop.call_soon_threadsafe(self._gate.set)

    # life

    @property
    def url(self) -> str:
        """The base_url for config.yaml."""
        return self.address + self.base_path

    def down(self) -> None:
        """Refuse new connections and reset those that are open, until `up()`."""
        self.on_loop(self.fall)

    def up(self) -> None:
        """Listen again, on the same port."""
        asyncio.run_coroutine_threadsafe(self.listen(), self.loop).result(5)

    def drop_connections(self) -> None:
        """Reset every open connection."""
        self.on_loop(self.reset_all)

    def protocol(self) -> asyncio.Protocol:
        return Connection(self)

    def begin(self) -> None:
        self._gate = asyncio.Event()

    def reset_all(self) -> None:
        for connection in tuple(self._connections):
            connection.current = None
            if not connection.transport.is_closing():
                connection.reset()
            if connection.task:
                connection.task.cancel()

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

    # what connections call

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        self.connections_made += 1

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def received(self, request: Received) -> None:
        self.requests.append(request)
        if key := self.key_of(request):
            self.keys_seen.add(key)

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

    def left(self, request: Received, sent: int) -> None:
        self.disconnects.append(Disconnect(request, sent))

    async def released(self) -> None:
        await self._gate.wait()

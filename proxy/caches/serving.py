"""An answer from the cache, in the same shape as one from an upstream."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.assembling import as_stream
from proxy.call import Call, Headers
from proxy.providers.contract import Target
from proxy.watch import ChatWatch, Noted


class Events(Protocol):
    """A stream that raises where it breaks."""

    @property
    def watch(self) -> Noted: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Answered(Protocol):
    """The answer of an upstream: `body`, or `head` (events already read) and the rest in `stream`."""

    @property
    def target(self) -> Target: ...
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def body(self) -> bytes | None: ...
    @property
    def head(self) -> bytes: ...
    @property
    def stream(self) -> Events | None: ...
    async def aclose(self) -> None: ...


@dataclass(slots=True)
class Copy:
    """An answer from the cache, closed after use like that of an upstream."""

    status: int
    headers: Headers
    body: bytes | None = None
    head: bytes = b""
    stream: Events | None = None
    leave: Callable[[], None] | None = None  # called when it is closed

    async def aclose(self) -> None:
        """Ends its use."""
        if self.leave is not None:
            self.leave()
            self.leave = None


def replay(data: bytes, age: float, call: Call) -> Copy:
    """A stored answer in the form that the call asks for, whole or as a stream."""
    lines = [(b"age", b"%d" % max(0, int(age)))]
    if not call.stream:
        return Copy(200, [(b"content-type", b"application/json"), *lines], data)
    events = as_stream(data)
    if not call.wants_usage:
        events = ChatWatch(lambda fields: None, own_usage=True).see(events)
    return Copy(200, [(b"content-type", b"text/event-stream"), *lines], head=events)

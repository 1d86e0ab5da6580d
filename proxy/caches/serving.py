"""An answer as a call gets it from the cache: the same shape as one that comes straight from an upstream."""

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
    """An upstream's answer: `body`, or `head` (events already there) and the rest of `stream`."""

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
    """An answer out of the cache, to be closed after use like the upstream's own."""

    status: int
    headers: Headers
    body: bytes | None = None
    head: bytes = b""
    stream: Events | None = None
    leave: Callable[[], None] | None = None  # told when it is let go of

    async def aclose(self) -> None:
        """Lets go of it."""
        if self.leave is not None:
            self.leave()
            self.leave = None


def replay(data: bytes, age: float, call: Call) -> Copy:
    """A kept answer in the form that the call asks for."""
    lines = [(b"age", b"%d" % max(0, int(age)))]
    if not call.stream:
        return Copy(200, [(b"content-type", b"application/json"), *lines], data)
    events = as_stream(data)
    if not call.wants_usage:
        events = ChatWatch(lambda fields: None, own_usage=True).see(events)
    return Copy(200, [(b"content-type", b"text/event-stream"), *lines], head=events)

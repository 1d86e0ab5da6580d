"""What an attempt gives: an answer that is whole, or a stream that has begun."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from proxy.call import Headers
from proxy.clocks import Clock
from proxy.errors import SluiceError
from proxy.providers.contract import Target
from proxy.watch import Watch


class Stream(Protocol):
    """Whole events in OpenAI's dialect: an EventStream, or what keeps one going over several upstreams."""

    @property
    def watch(self) -> Watch:
        """What was seen of the stream that is read now."""
        ...

    @property
    def failure(self) -> SluiceError | None:
        """What the upstream that was asked first did wrong."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the answer has come to its end."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __anext__(self) -> bytes: ...
    async def aclose(self) -> None:
        """Lets go of it."""
        ...


@dataclass  # no slots: what has a default costs nothing then
class Wire:
    """An answer that may be passed on: `body`, or `head` (events already read) and the rest of `stream`."""

    target: Target
    status: int
    headers: Headers
    body: bytes | None = None
    head: bytes = b""
    stream: Stream | None = None
    changes: tuple[str, ...] = ()  # what the provider's translation had to do

    clock: Clock | None = field(default=None, init=False)  # to be closed with it
    after: Callable[[Stream], None] | None = field(default=None, init=False)  # told when the stream is let go of

    async def aclose(self) -> None:
        """Gives back or closes the connection behind it."""
        if self.clock is not None:
            self.clock.close()
        if self.stream is not None:
            try:
                await self.stream.aclose()
            finally:
                after, self.after = self.after, None
                if after is not None:
                    after(self.stream)

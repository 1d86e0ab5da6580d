"""The answer of an attempt: whole, or a stream that has begun."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from proxy.call import Headers
from proxy.clocks import Clock
from proxy.errors import SluiceError
from proxy.providers.contract import Target
from proxy.watch import Watch


class Stream(Protocol):
    """Whole events in OpenAI's dialect: an EventStream, or a Resumption over several upstreams."""

    @property
    def watch(self) -> Watch:
        """That of the stream being read now."""
        ...

    @property
    def failure(self) -> SluiceError | None:
        """What the upstream that was asked first did wrong."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the answer is complete."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __anext__(self) -> bytes: ...
    async def aclose(self) -> None:
        """Closes it."""
        ...


@dataclass  # no slots: attributes with defaults then cost nothing
class Wire:
    """An answer that may be passed on: `body`, or `head` (events already read) and the rest in `stream`."""

    target: Target
    status: int
    headers: Headers
    body: bytes | None = None
    head: bytes = b""
    stream: Stream | None = None
    changes: tuple[str, ...] = ()  # what the provider's translation changed

    clock: Clock | None = field(default=None, init=False)  # closed with it
    after: Callable[[Stream], None] | None = field(default=None, init=False)  # called when the stream is closed

    async def aclose(self) -> None:
        """Returns or closes the connection."""
        if self.clock is not None:
            self.clock.close()
        if self.stream is not None:
            try:
                await self.stream.aclose()
            finally:
                after, self.after = self.after, None
                if after is not None:
                    after(self.stream)

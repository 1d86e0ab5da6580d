"""The answer to a call: whole, or a stream of server-sent events."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, Protocol

DIRECT: Final = "sluice.direct"
"""Key of an ASGI scope under which our server offers `Direct` while the request is being answered."""

Outlet = Callable[[bytes], bool]
"""Sends a batch at once. False: not possible now, nothing was sent, and the caller must send it the usual way."""


class Direct(Protocol):
    """A faster way than ASGI messages, offered by our own server.

    Whatever it declines is sent by `receive` and `send`, as with any other server.
    """

    def take(self) -> bytes | None:
        """The request's whole body, once; None: it has not all arrived, or the client has left."""
        ...

    def whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Writes a whole response with its head; False: not possible now.

        The server does the framing: `headers` holds no content-length, and the body is left out for a HEAD request.
        """
        ...

    def push(self, data: bytes) -> bool:
        """Writes a piece of a chunked body. An `Outlet`."""
        ...


class BrokenOff(Exception):
    """Raised by the app when a body that has begun can neither be completed nor carry an error.

    The server then closes the connection, the only signal left.
    """


class Flowing(ABC):
    """A stream that can send batches past the task that reads it."""

    __slots__ = ()

    @abstractmethod
    def flow(self, outlet: Outlet) -> None:
        """From now on, a batch that arrives while the reader waits may be sent to `outlet` directly.

        The reader still gets what the outlet declines, failures, and the end.
        """

    @property
    @abstractmethod
    def last_at(self) -> float | None:
        """When the outlet last took a batch (perf_counter)."""


@dataclass(slots=True)
class Reply:
    """An answer on its way out. Exactly one of `body` and `stream` is set.

    `stream` yields bytes that are whole server-sent events (or, for answers that are no events, pieces as they came).
    """

    status: int
    headers: list[tuple[bytes, bytes]]  # the upstream's that may be passed on, and Sluice's own
    body: bytes | None = None
    stream: AsyncIterator[bytes] | None = None

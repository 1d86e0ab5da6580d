"""What comes back for a call: whole, or a stream of server-sent events."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, Protocol

DIRECT: Final = "sluice.direct"
"""The key in an ASGI scope where our server offers its Direct way while the request is being answered."""

Outlet = Callable[[bytes], bool]
"""Passes a batch on at once. False: not now, and nothing of it has left; it is to be sent as ever."""


class Direct(Protocol):
    """A short cut past ASGI's messages, where our own server runs the app.

    What it declines at the moment goes by `receive` and `send` as with any other server.
    """

    def take(self) -> bytes | None:
        """The request's whole body, once; None: it is not all there yet, or the client has left."""
        ...

    def whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Writes a whole response, its head included; False: not now.

        The framing is the server's: no content-length among the headers, and a HEAD request's body is left out by it.
        """
        ...

    def push(self, data: bytes) -> bool:
        """Writes a piece of the body where that flows in chunks: an Outlet."""
        ...


class BrokenOff(Exception):
    """Raised by the app where a body that has begun can neither be completed nor hold an error.

    The server then breaks the connection, which is the only way left to say so.
    """


class Flowing(ABC):
    """A stream whose batches need not wait for the task that reads it."""

    __slots__ = ()

    @abstractmethod
    def flow(self, outlet: Outlet) -> None:
        """From now on a batch that comes while the reader waits for it may go to `outlet` at once.

        The reader still gets what the outlet does not take, failures, and the end.
        """

    @property
    @abstractmethod
    def last_at(self) -> float | None:
        """When the outlet last took something (perf_counter)."""


@dataclass(slots=True)
class Reply:
    """An answer on its way out. Exactly one of `body` and `stream` is set.

    `stream` yields bytes that are whole server-sent events (or, for answers that are no events, pieces as they came).
    """

    status: int
    headers: list[tuple[bytes, bytes]]  # the upstream's that may pass, and Sluice's own about the route
    body: bytes | None = None
    stream: AsyncIterator[bytes] | None = None

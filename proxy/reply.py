"""What comes back for a call: whole, or a stream of server-sent events."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, Protocol

DIRECT: Final = "sluice.direct"
"""Our server's key in a scope: its Direct way, while the request is being answered."""

Outlet = Callable[[bytes], bool]
"""Passes a batch on at once. False: not now, and nothing of it has left; it is to be sent as ever."""


class Direct(Protocol):
    """What our server does at once, without ASGI's messages; what it declines goes by `receive` and `send` as ever."""

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
    """An app's word that its response cannot be completed: only a broken connection tells that of a body as it is."""


class Flowing(ABC):
    """A stream whose batches need not wait for the task that reads it."""

    __slots__ = ()

    @abstractmethod
    def flow(self, outlet: Outlet) -> None:
        """While the reader waits for the next batch, what comes may go to `outlet` from now on.

        What the outlet does not take, and whatever is to be seen to, the reader gets as the next batch.
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

"""The interface of cache stores, and the form in which an answer is stored."""

from dataclasses import dataclass, field
from typing import Final, Protocol

ROUTE: Final = slice(0, 8)  # the part of a key that identifies its route
MODEL: Final = slice(8, 16)  # and its model


@dataclass(frozen=True, slots=True)
class Entry:
    """A whole answer in OpenAI's form, before the route's response rules."""

    data: bytes
    kept_at: float  # Unix seconds
    upstream: str  # the one that answered
    model: str  # its name at the upstream


@dataclass(frozen=True, slots=True)
class Holding:
    """The size of a store. None: unknown."""

    entries: int | None
    size: int | None  # bytes
    max_size: int | None
    by_route: dict[bytes, int] = field(default_factory=dict)  # entries, by the `ROUTE` part of their keys


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search for a similar question: the key of its answer (None: no match), and the similarity."""

    key: bytes | None
    score: float = 0.0
    looked_for: object = None  # passed on from `find` to `note`
    waited: float = 0.0  # seconds spent waiting for upstreams


class Store(Protocol):
    """Stores entries by key (see `keys.Asked`). It never raises: what fails is a miss, or is not stored."""

    @property
    def shared(self) -> bool:
        """Whether other processes use the same storage."""
        ...

    async def get(self, key: bytes) -> Entry | None:
        """The entry, if it exists and has not expired."""
        ...

    async def put(self, key: bytes, entry: Entry, ttl: float) -> None:
        """Stores an entry for `ttl` seconds, replacing an earlier one."""
        ...

    async def clear(self, route: bytes | None, model: bytes | None) -> int | None:
        """Deletes the entries whose keys have these `ROUTE` and `MODEL` parts (None: any). How many; None: unknown."""
        ...

    async def holding(self) -> Holding:
        """The size of the store."""
        ...

    async def aclose(self) -> None:
        """Closes connections."""
        ...

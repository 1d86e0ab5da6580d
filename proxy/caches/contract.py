"""The interface of the cache's stores, and the form in which an answer is kept."""

from dataclasses import dataclass, field
from typing import Final, Protocol

ROUTE: Final = slice(0, 8)  # the part of a key that stands for its route
MODEL: Final = slice(8, 16)  # and for the model asked


@dataclass(frozen=True, slots=True)
class Entry:
    """A whole answer in OpenAI's form, as it was before the route's response rules."""

    data: bytes
    kept_at: float  # Unix seconds
    upstream: str  # that gave it
    model: str  # its name there


@dataclass(frozen=True, slots=True)
class Holding:
    """What a store holds now. None: it cannot tell."""

    entries: int | None
    size: int | None  # bytes
    max_size: int | None
    by_route: dict[bytes, int] = field(default_factory=dict)  # entries, by the `ROUTE` part of their keys


@dataclass(frozen=True, slots=True)
class Found:
    """The key of an answer to a question that means the same (None: there is none), and how alike they are."""

    key: bytes | None
    score: float = 0.0
    looked_for: object = None  # what `find` made of the question, for `note`
    waited: float = 0.0  # seconds of upstreams that were asked on the way


class Store(Protocol):
    """Keeps entries by key (see `keys.Asked`). It never raises: what it cannot do is a miss, or is left undone."""

    @property
    def shared(self) -> bool:
        """Whether other processes keep theirs in the same place."""
        ...

    async def get(self, key: bytes) -> Entry | None:
        """The entry, if it is there and has not expired."""
        ...

    async def put(self, key: bytes, entry: Entry, ttl: float) -> None:
        """Keeps an entry for `ttl` seconds, in place of an earlier one."""
        ...

    async def clear(self, route: bytes | None, model: bytes | None) -> int | None:
        """Forgets the entries whose keys have these `ROUTE` and `MODEL` parts (None: any). How many; None: unknown."""
        ...

    async def holding(self) -> Holding:
        """How full it is."""
        ...

    async def aclose(self) -> None:
        """Lets go of connections."""
        ...

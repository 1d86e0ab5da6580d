"""A cache store in this process's memory, with LRU eviction."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from proxy.caches.contract import MODEL, ROUTE, Entry, Holding

OVERHEAD: Final = 512  # bytes per entry besides its data: objects, dict slot, key
_LARGEST: Final = 4  # an entry may take at most a fourth of the store


@dataclass(slots=True)
class Memory:
    """At most `max_bytes`, overhead of the entries included."""

    max_bytes: int
    clock: Callable[[], float] = time.time  # Unix seconds
    shared: bool = field(default=False, init=False)
    _kept: OrderedDict[bytes, tuple[float, Entry]] = field(default_factory=OrderedDict, init=False)  # with its expiry
    _bytes: int = field(default=0, init=False)

    async def get(self, key: bytes) -> Entry | None:
        """The entry, if it exists and has not expired."""
        found = self._kept.get(key)
        if found is None:
            return None
        ends, entry = found
        if ends <= self.clock():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return entry

    async def put(self, key: bytes, entry: Entry, ttl: float) -> None:
        """Stores an entry for `ttl` seconds and evicts others if needed. Entries that are too large are not stored."""
        self._drop(key)
        size = _size(entry)
        if size > self.max_bytes // _LARGEST:
            return
        self._kept[key] = self.clock() + ttl, entry
        self._bytes += size
        while self._bytes > self.max_bytes:
            self._drop(next(iter(self._kept)))

    async def clear(self, route: bytes | None, model: bytes | None) -> int:
        """Deletes the entries whose keys have these parts (None: any). How many."""
        gone = [key for key in self._kept if route in (None, key[ROUTE]) and model in (None, key[MODEL])]
        for key in gone:
            self._drop(key)
        return len(gone)

    async def holding(self) -> Holding:
        """The size of the store, by route too."""
        return Holding(len(self._kept), self._bytes, self.max_bytes, Counter(key[ROUTE] for key in self._kept))

    async def aclose(self) -> None:
        """Nothing is open."""

    def _drop(self, key: bytes) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._bytes -= _size(found[1])


def _size(entry: Entry) -> int:
    return len(entry.data) + OVERHEAD

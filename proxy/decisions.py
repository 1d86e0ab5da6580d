"""What operators decide while Sluice runs: kept in the store, so that restarts and other processes have it too."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.errors import SluiceError
from proxy.keys import Keys
from proxy.personas import Personas
from proxy.planning import ProcessState
from proxy.store.contract import Store, StoreError

_FOLLOW = 0.4  # seconds between two looks at what other processes decided

Kept = tuple[dict[str, str], dict[str, str], dict[str, str]]
"""Settings, personas and client keys."""

log = logging.getLogger("sluice")


@contextmanager
def store_errors() -> Iterator[None]:
    """Within it, a store that fails raises a SluiceError: proxy_internal, in the words of its StoreError."""
    try:
        yield
    except StoreError as error:
        raise SluiceError("proxy_internal", str(error)) from None


@dataclass(slots=True)
class Decisions:
    """The default upstream, personas and client keys that are in force, and the store that they are kept in."""

    store: Store
    process: ProcessState
    personas: Personas
    keys: Keys
    _recalled: bool = False  # whether what was decided before is in force
    _changes: int = 0  # decided here: what was read of the store before the last one is out of date

    def recall(self) -> None:
        """Puts in force what was decided before, as far as the store can be read."""
        self._recalled = self._take(self._read())

    async def keep(self, kind: str, name: str, text: str | None) -> None:
        """Keeps what is decided here, or forgets it (None); whoever decides puts it in force. Raises StoreError."""
        await asyncio.to_thread(self.store.write, kind, name, text)
        self._changes += 1

    async def swap(self, kind: str, name: str, before: str | None, after: str) -> bool:
        """Keeps it where nobody has decided otherwise meanwhile; whether it did. Raises StoreError."""
        done = await asyncio.to_thread(self.store.swap, kind, name, before, after)
        self._changes += 1
        return done

    async def look(self) -> None:
        """Takes over at once what became of the client keys elsewhere. Raises StoreError."""
        changes = self._changes
        kept = await asyncio.to_thread(self.store.read, "keys")
        if self._changes == changes:
            self.keys.take(kept)

    async def follow(self, taken: Callable[[], None]) -> None:
        """Takes over what operators decide at other workers, or other machines with the same store."""
        seen = -1  # so that the first look takes over what came between the start's reading and this
        while True:
            try:
                version, changes = await asyncio.to_thread(self.store.version), self._changes
                if not self._recalled or version != seen:
                    kept = await asyncio.to_thread(self._read)
                    if self._changes != changes:
                        continue  # decided here meanwhile, and perhaps not yet in what was read
                    self._recalled = self._take(kept)
                    taken()
                seen = version
            except StoreError as error:
                log.debug("%s", error)
            await asyncio.sleep(_FOLLOW)

    def _read(self) -> Kept | None:
        """What the store has; None where it cannot be read."""
        try:
            return self.store.read("settings"), self.store.read("personas"), self.store.read("keys")
        except StoreError as error:
            log.error("%s Operators' earlier choices are not in force.", error)
            return None

    def _take(self, kept: Kept | None) -> bool:
        """Takes that over; whether there was anything. Never in a thread: requests would meet half of it."""
        if kept is None:
            return False
        settings, personas, keys = kept
        self.process.default_upstream = settings.get("default_upstream")
        self.personas.take(personas)
        self.keys.take(keys)
        return True

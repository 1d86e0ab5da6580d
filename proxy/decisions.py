"""Operators' decisions at run time (default upstream, personas, keys): stored, and followed by all processes."""

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

_FOLLOW = 0.4  # seconds between two reads of the store

Kept = tuple[dict[str, str], dict[str, str], dict[str, str]]
"""Settings, personas and client keys."""

log = logging.getLogger("sluice")


@contextmanager
def store_errors() -> Iterator[None]:
    """A context in which a StoreError becomes a SluiceError (proxy_internal) with the same text."""
    try:
        yield
    except StoreError as error:
        raise SluiceError("proxy_internal", str(error)) from None


@dataclass(slots=True)
class Decisions:
    """The default upstream, personas and client keys in force, and the store that holds them."""

    store: Store
    process: ProcessState
    personas: Personas
    keys: Keys
    _recalled: bool = False  # whether stored decisions have been loaded
    _changes: int = 0  # decisions made here; anything read before the last one is out of date

    def recall(self) -> None:
        """Puts the stored decisions in force, as far as the store can be read."""
        self._recalled = self._take(self._read())

    async def keep(self, kind: str, name: str, text: str | None) -> None:
        """Stores or deletes (None) a decision; the caller puts it in force. Raises StoreError."""
        await asyncio.to_thread(self.store.write, kind, name, text)
        self._changes += 1

    async def swap(self, kind: str, name: str, before: str | None, after: str) -> bool:
        """Stores a decision if the stored one is still `before`; returns whether it was. Raises StoreError."""
        done = await asyncio.to_thread(self.store.swap, kind, name, before, after)
        self._changes += 1
        return done

    async def look(self) -> None:
        """Reads the client keys of the store at once. Raises StoreError."""
        changes = self._changes
        kept = await asyncio.to_thread(self.store.read, "keys")
        if self._changes == changes:
            self.keys.take(kept)

    async def follow(self, taken: Callable[[], None]) -> None:
        """Takes over decisions that were made in other workers, or on other machines with the same store."""
        seen = -1  # so that the first round reads whatever changed since `recall`
        while True:
            try:
                version, changes = await asyncio.to_thread(self.store.version), self._changes
                if not self._recalled or version != seen:
                    kept = await asyncio.to_thread(self._read)
                    if self._changes != changes:
                        continue  # something was decided here meanwhile, maybe after the read
                    self._recalled = self._take(kept)
                    taken()
                seen = version
            except StoreError as error:
                log.debug("%s", error)
            await asyncio.sleep(_FOLLOW)

    def _read(self) -> Kept | None:
        """The content of the store; None where it cannot be read."""
        try:
            return self.store.read("settings"), self.store.read("personas"), self.store.read("keys")
        except StoreError as error:
            log.error("%s Earlier choices made on /admin are not in effect.", error)
            return None

    def _take(self, kept: Kept | None) -> bool:
        """Puts what was read in force; False: nothing was read.

        Never called in a thread: requests would see a half-finished change.
        """
        if kept is None:
            return False
        settings, personas, keys = kept
        self.process.default_upstream = settings.get("default_upstream")
        self.personas.take(personas)
        self.keys.take(keys)
        return True

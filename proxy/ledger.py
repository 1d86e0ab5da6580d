"""Writes the usage of calls to the store in the background, and knows what each key has spent of its budget."""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from time import time
from typing import Final

from proxy.keys import Keys
from proxy.stages.booking import Books
from proxy.store.contract import Batch, Column, Counts, Line, Store, StoreError

_EACH = 2.0  # seconds between two saves; a killed process loses what it counted since
_KEPT: Final = timedelta(days=400)  # a year, and the month to compare it with

log = logging.getLogger("sluice")


@dataclass(slots=True)
class Ledger:
    """The usage counted by this process, and the store that all processes write to."""

    store: Store
    keys: Keys
    books: Books = field(default_factory=Books)
    _writer: str = field(default_factory=lambda: secrets.token_hex(8))  # a name that no other process has
    _batch: Batch | None = None  # unconfirmed: sent again until the store has added it
    _number: int = 0
    _month: str = ""  # of the costs that follow
    _on_its_way: dict[str, float] = field(default_factory=dict)  # costs by key, of the batch
    _written: dict[str, float] = field(default_factory=dict)  # by whomever, as far as is known
    _failing: bool = False
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def spent(self, key: str) -> float:
        """USD spent by a key this month."""
        self._turned()
        booked = self.books.costs.get(key, 0.0) + self._on_its_way.get(key, 0.0)
        return booked + self._written.get(key, 0.0)

    def recall(self) -> None:
        """Reads what keys had spent before this start, as far as the store can be read. Blocking."""
        try:
            self._written = self._costs(*self._asked())
        except StoreError as error:
            log.error("%s What keys have spent this month is unknown so far.", error)
        self._month = month()

    async def keep(self) -> None:
        """Saves the counts every two seconds."""
        while True:
            await asyncio.sleep(_EACH)
            await self.save()

    async def prune(self) -> None:
        """Deletes days older than `_KEPT`, now and once a day. One process runs it."""
        while True:
            try:
                while await asyncio.to_thread(self.store.prune, str(today() - _KEPT)):
                    pass  # each call is bounded, so that the end of the process need not wait for all of them
            except StoreError as error:
                log.warning("%s Old days of the ledger could not be deleted.", error)
            await asyncio.sleep(86400)

    async def save(self) -> None:
        """Writes the counts and reads those of other processes; what cannot be written is kept for the next time."""
        async with self._turn:
            try:
                await self._save()
                await self._look()
            except StoreError as error:
                if not self._failing:
                    log.error("%s Usage is counted in memory and written once the store works again.", error)
                self._failing = True
            else:
                if self._failing:
                    log.info("the store accepts usage again")
                self._failing = False

    async def look(self) -> None:
        """Reads what a key with a new budget has spent. Raises StoreError."""
        async with self._turn:
            await self._look()

    async def close(self) -> None:
        """Writes the remaining counts: in two steps where an earlier batch is still unconfirmed."""
        await self.save()
        if self._batch is None:
            await self.save()
        taken, _ = self.books.take()
        lost = [*taken.values(), *(self._batch.lines.values() if self._batch else ())]
        if lost:
            log.error("the usage of %d calls could not be written to the store", sum(counts.calls for counts in lost))

    async def sums(self, first: str, last: str, by: Sequence[Column]) -> dict[tuple[str, ...], Counts]:
        """Usage from one day to another, including this process's unsaved counts. Raises StoreError."""
        await self.save()
        return await asyncio.to_thread(self.store.sums, first, last, by)

    def _turned(self) -> None:
        """Starts a new month if the calendar has."""
        now = time()
        if now >= self.books.day_ends:
            self.books.turn(now)
        if self._month != self.books.day[:7]:
            self._month, self._on_its_way, self._written = self.books.day[:7], {}, {}

    async def _save(self) -> None:
        if self._batch is None:
            self._turned()
            lines, costs = self.books.take()
            if not lines:
                return
            self._number += 1
            self._batch, self._on_its_way = self._made(lines), costs
        await asyncio.to_thread(self.store.add, self._batch)
        self._batch = None
        for key, cost in self._on_its_way.items():
            self._written[key] = self._written.get(key, 0.0) + cost
        self._on_its_way = {}

    def _made(self, lines: dict[Line, Counts]) -> Batch:
        return Batch(self._writer, self._number, int(time()), lines)

    async def _look(self) -> None:
        asked = self._asked()
        found = await asyncio.to_thread(self._costs, *asked)
        if asked[0] == month():
            self._turned()
            self._written = found

    def _asked(self) -> tuple[str, list[str]]:
        """The current month, and the keys that have a budget."""
        return month(), [key.name for key in self.keys.made.values() if key.limits.monthly_budget is not None]

    def _costs(self, month: str, keys: list[str]) -> dict[str, float]:
        if not keys:
            return {}
        sums = self.store.sums(*days_of(month), ("key",), keys)
        return {key: counts.cost for (key,), counts in sums.items()}


def month() -> str:
    """The current month, UTC: "2026-11"."""
    return f"{today():%Y-%m}"


def days_of(month: str) -> tuple[str, str]:
    """The first day of a month, and a day past its end."""
    return f"{month}-01", f"{month}-31"


def today() -> date:
    """The current day, UTC."""
    return datetime.now(UTC).date()

"""Usage is written exactly once, whatever happens to the store, and budgets take it into account."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from proxy.call import Call
from proxy.keys import Key, Keys, new_key
from proxy.ledger import Ledger, month, today
from proxy.store.contract import Batch, Column, Counts, StoreError
from proxy.store.sqlite import SqliteStore
from proxy.usage import Usage

pytestmark = pytest.mark.usefixtures("one_day")
ALL = ("0000-00-00", "9999-99-99")


class Failing(SqliteStore):
    """A store that can be told to fail before, or after, it has added, or where it is to sum up; or to delete late."""

    fails: str = ""
    more = 0  # calls of prune after which there is more to delete

    def prune(self, before: str) -> bool:
        if self.more:
            self.more -= 1
            return True
        return super().prune(before)

    def add(self, batch: Batch) -> None:
        if self.fails == "before":
            raise StoreError("The store could not be written.")
        super().add(batch)
        if self.fails == "after":
            raise StoreError("The store does not answer.")

    def sums(
        self, first: str, last: str, by: Sequence[Column], keys: Sequence[str] | None = None
    ) -> dict[tuple[str, ...], Counts]:
        if self.fails == "reading":
            raise StoreError("The store could not be read.")
        return super().sums(first, last, by, keys)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Failing]:
    with closing(Failing(tmp_path / "s.db")) as made:
        yield made


def keys(*budgets: float | None) -> Keys:
    found = Keys()
    found.take({key.name: key.kept for key in map(key_of, budgets)})
    return found


def key_of(budget: float | None) -> Key:
    return new_key({"name": "free" if budget is None else "team", "monthly_budget": budget})[0]


def book(ledger: Ledger, cost: float = 0.25, key: str = "team", calls: int = 1) -> None:
    for _ in range(calls):
        ended = Call("1", "openai", "chat/completions", "m", b"", {}, tenant=key)
        ended.trace.upstream, ended.trace.usage = "east", Usage(10, 5, cost=cost)
        ledger.books.note(ended, "gpt-4o")


def written(store: SqliteStore) -> dict[tuple[str, ...], Counts]:
    return store.sums(*ALL, ("key",))


def test_it_is_written_once_and_known_at_every_moment(store: Failing) -> None:
    ledger = Ledger(store, keys(10))
    ledger.recall()
    book(ledger, calls=4)
    assert ledger.spent("team") == 1.0 and written(store) == {}

    async def save() -> None:
        for _ in range(3):
            await ledger.save()
            assert ledger.spent("team") == 1.0

    asyncio.run(save())
    assert written(store) == {("team",): Counts(4, 0, 40, 20, cost=1.0)}
    assert store.sums(*ALL, ("day", "upstream", "model")).keys() == {(str(today()), "east", "gpt-4o")}
    again = Ledger(store, keys(10))
    assert again.spent("team") == 0.0
    again.recall()
    assert again.spent("team") == 1.0, "a restart knows it before the first call"


def test_what_others_write_is_heard_of(store: Failing) -> None:
    one, other = Ledger(store, keys(10)), Ledger(store, keys(10))
    book(one)
    book(other, 2.0)

    async def save() -> None:
        for ledger in (one, other, one):
            await ledger.save()

    asyncio.run(save())
    assert one.spent("team") == other.spent("team") == 2.25
    assert one.spent("nobody") == 0.0


@pytest.mark.parametrize("fails", ["before", "after"])
def test_a_failing_store_is_logged_once_and_nothing_is_lost_or_counted_twice(
    store: Failing, fails: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sluice")
    ledger = Ledger(store, keys(10))

    async def save() -> None:
        book(ledger)
        store.fails = fails
        for _ in range(3):
            await ledger.save()
            book(ledger)
        assert ledger.spent("team") == 1.0
        store.fails = ""
        await ledger.save()
        await ledger.save()

    asyncio.run(save())
    assert ledger.spent("team") == 1.0
    assert written(store)["team",].calls == 4
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_days_that_are_over_for_more_than_400_are_deleted(store: Failing, caplog: pytest.LogCaptureFixture) -> None:
    store.more = 2
    now = today()
    days = [str(now - timedelta(days=age)) for age in (500, 402, 395, 0)]
    store.add(Batch("w", 1, 1, {("team", day, "east", "m"): Counts(1) for day in days}))

    async def prune() -> None:
        pruning = asyncio.create_task(Ledger(store, keys()).prune())
        async with asyncio.timeout(30):
            while len(store.sums(*ALL, ("day",))) > 2:
                await asyncio.sleep(0.01)
        pruning.cancel()

    asyncio.run(prune())
    assert [day for (day,) in store.sums(*ALL, ("day",))] == days[2:]
    assert not caplog.records


@pytest.mark.parametrize("at_last", ["", "reading"])
def test_the_end_writes_down_the_rest(store: Failing, at_last: str) -> None:
    ledger = Ledger(store, keys(10))

    async def end() -> None:
        book(ledger)
        store.fails = "after"
        await ledger.save()
        book(ledger)
        store.fails = at_last
        await ledger.close()

    asyncio.run(end())
    store.fails = ""
    assert written(store)["team",].calls == 2


def test_an_end_without_a_store_says_what_is_lost(store: Failing, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(store, keys())
    store.fails = "before"
    book(ledger, calls=3)
    asyncio.run(ledger.close())
    assert "the usage of 3 calls could not be written to the store" in caplog.text


def test_only_keys_with_a_budget_are_looked_up(store: Failing) -> None:
    ledger = Ledger(store, keys(None))
    book(ledger, key="free")
    asyncio.run(ledger.save())
    assert Ledger(store, keys(None)).spent("free") == 0.0

    async def look() -> None:
        ledger.keys.put(key_of(1.0))
        book(ledger, key="team")
        await ledger.save()
        await ledger.look()

    asyncio.run(look())
    assert ledger.spent("team") == 0.25


def test_a_month_that_is_over_is_not_this_one_s(store: Failing) -> None:
    store.add(Batch("w", 1, 1, {("team", "2001-01-31", "east", "m"): Counts(1, cost=5.0)}))
    ledger = Ledger(store, keys(10))
    ledger.recall()
    assert ledger.spent("team") == 0.0
    book(ledger)
    ledger.books.day = "2001-01-31"  # as if the night were to come between this and the next
    ledger._month, ledger._written = "2001-01", {"team": 7.0}
    ledger.books.day_ends = 0.0
    assert ledger.spent("team") == 0.0
    assert ledger.books.day == str(today()) and ledger.books.day[:7] == month()


def test_nor_is_what_could_not_be_written_before_it_ended(store: Failing) -> None:
    ledger = Ledger(store, keys(10))

    async def look() -> None:
        book(ledger)
        store.fails = "before"
        await ledger.save()
        ledger.books.day = ledger._month = "2001-01"  # as above
        ledger.books.day_ends = 0.0
        await ledger.look()

    asyncio.run(look())
    assert ledger.spent("team") == 0.0

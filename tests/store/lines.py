"""Checks of the ledger that both stores must pass."""

from proxy.store.contract import Batch, Counts, Line, Store

ONE = Counts(1, 0, 10, 5, 4, 2, 0.25, 0)
NOVEMBER: dict[Line, Counts] = {
    ("team", "2026-11-28", "east", "gpt-4o"): ONE,
    ("team", "2026-11-30", "east", "gpt-4o"): Counts(2, 1, 1, 1, 0, 0, 0.5, 1),
    ("team", "2026-12-01", "west", "m é'%s"): ONE,
    ("open", "2026-11-30", "west", ""): Counts(1, 1),
}
SUM = Counts(3, 1, 11, 6, 4, 2, 0.75, 1)


def batch(number: int, lines: dict[Line, Counts] | None = None, writer: str = "w", at: int = 1_800_000_000) -> Batch:
    return Batch(writer, number, at, NOVEMBER if lines is None else lines)


def adds_up(store: Store, other: Store) -> None:
    """Two processes' stores of one place, of which neither has a ledger."""
    assert store.sums("2026-11-01", "2026-11-31", ("key",)) == {}, "to read it makes none"
    before = store.version()
    store.add(batch(1))
    assert other.sums("2026-11-01", "2026-11-31", ("key",)) == {("open",): Counts(1, 1), ("team",): SUM}
    assert store.sums("2026-11-30", "2026-12-31", ("day", "upstream"), ["team", "nobody"]) == {
        ("2026-11-30", "east"): NOVEMBER["team", "2026-11-30", "east", "gpt-4o"],
        ("2026-12-01", "west"): ONE,
    }
    assert store.sums("2026-11-01", "2026-11-31", ("model",), []) == {}
    other.add(batch(1, writer="v"))
    assert store.sums("2026-12-01", "2026-12-01", ("model",)) == {("m é'%s",): ONE + ONE}
    assert other.version() == before, "what calls took is no decision"


def prunes(store: Store) -> None:
    """Days before one are gone, and it alone; where there is no ledger there is nothing to do."""
    store.prune("2026-11-30")
    assert store.sums("0000-00-00", "9999-99-99", ("day",)) == {}
    store.add(batch(1))
    before = store.version()
    store.prune("2026-11-30")
    assert list(store.sums("0000-00-00", "9999-99-99", ("day",))) == [("2026-11-30",), ("2026-12-01",)]
    assert store.version() == before
    store.add(batch(1))
    assert ("2026-11-28",) not in store.sums("0000-00-00", "9999-99-99", ("day",)), "a batch still counts once"


def adds_once(store: Store) -> None:
    """A batch counts once, however often it is handed over, and late ones not at all."""
    line: dict[Line, Counts] = {("team", "2026-11-28", "east", "m"): ONE}
    for number in (1, 1, 2, 2, 1):
        store.add(batch(number, line))
    assert store.sums("2026-11-28", "2026-11-28", ("key",)) == {("team",): ONE + ONE}
    store.add(batch(1, line, "another", 1_800_000_000 + 31 * 86400))
    assert store.sums("2026-11-28", "2026-11-28", ("key",)) == {("team",): ONE + ONE + ONE}

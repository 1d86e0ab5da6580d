"""The small interface behind which everything lives that must outlast a restart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, Literal, Protocol

Line = tuple[str, str, str, str]
"""What is counted apart in the ledger: key, day ("2026-11-28", UTC), upstream and model."""
Column = Literal["key", "day", "upstream", "model"]
COLUMNS: Final[tuple[Column, ...]] = ("key", "day", "upstream", "model")


@dataclass(slots=True)
class Counts:
    """What calls took. Of what is not known nothing is counted, but for how many calls that is so (`unpriced`)."""

    calls: int = 0
    failed: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    cost: float = 0.0  # USD
    unpriced: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, name) + getattr(other, name) for name in COUNTED))


COUNTED: Final = tuple(field.name for field in fields(Counts))
SUMS: Final = ", ".join(f"sum({name})" for name in COUNTED)
FORGOTTEN: Final = 30 * 86400
"""Seconds after which a writer that added nothing has long given up what it could not add."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of the ledger that are to be added once, however often they are handed over."""

    writer: str  # a process
    number: int  # of its batches: a later one has a higher number
    at: int  # seconds since 1970
    lines: Mapping[Line, Counts]


class Store(Protocol):
    """Texts by kind and name. It may block on a disk or a network: never to be used on a call's way."""

    def read(self, kind: str) -> dict[str, str]:
        """Everything of one kind. Raises StoreError."""
        ...

    def write(self, kind: str, name: str, text: str | None) -> None:
        """Keeps a text, or forgets it (None). Raises StoreError."""
        ...

    def swap(self, kind: str, name: str, before: str | None, after: str) -> bool:
        """Keeps a text where there is the one before (None: none), or the new one already; whether it did so.

        What somebody else has changed or forgotten meanwhile stays as they left it. Raises StoreError.
        """
        ...

    def version(self) -> int:
        """A number that grows with every write, whoever wrote. Raises StoreError."""
        ...

    def add(self, batch: Batch) -> None:
        """Adds to the ledger, which `version` does not count. Raises StoreError; what was added then is not known."""
        ...

    def sums(
        self, first: str, last: str, by: Sequence[Column], keys: Sequence[str] | None = None
    ) -> dict[tuple[str, ...], Counts]:
        """The ledger from one day to another, both included, summed by these columns. Raises StoreError.

        `keys`: of these alone.
        """
        ...

    def close(self) -> None:
        """Lets go of files and connections."""
        ...


class StoreError(Exception):
    """The store could not be read or written; the text says why, without addresses or passwords."""

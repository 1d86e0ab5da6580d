"""The interface of the store, which keeps what must outlive a restart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, Literal, Protocol

Line = tuple[str, str, str, str]
"""The key of a ledger line: client key, day ("2026-11-28", UTC), upstream and model."""
Column = Literal["key", "day", "upstream", "model"]
COLUMNS: Final[tuple[Column, ...]] = ("key", "day", "upstream", "model")


@dataclass(slots=True)
class Counts:
    """Usage of calls. Unknown values are not counted, except as the number of such calls (`unpriced`)."""

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
"""Seconds after which a writer that adds nothing has given up any unconfirmed batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines to add to the ledger exactly once, however often the batch is sent."""

    writer: str  # identifies a process
    number: int  # increases with each batch of the writer
    at: int  # seconds since 1970
    lines: Mapping[Line, Counts]


class Store(Protocol):
    """Texts by kind and name. May block on disk or network: never used while a call waits."""

    def read(self, kind: str) -> dict[str, str]:
        """Everything of one kind. Raises StoreError."""
        ...

    def write(self, kind: str, name: str, text: str | None) -> None:
        """Stores a text, or deletes it (None). Raises StoreError."""
        ...

    def swap(self, kind: str, name: str, before: str | None, after: str) -> bool:
        """Replaces the text `before` (None: none) by another; True if done, or if the new one is there already.

        A text that somebody else has changed or deleted meanwhile stays as it is. Raises StoreError.
        """
        ...

    def version(self) -> int:
        """A number that grows with every write by anybody. Raises StoreError."""
        ...

    def add(self, batch: Batch) -> None:
        """Adds to the ledger, without counting in `version`.

        Raises StoreError; then it is unknown whether it was added.
        """
        ...

    def sums(
        self, first: str, last: str, by: Sequence[Column], keys: Sequence[str] | None = None
    ) -> dict[tuple[str, ...], Counts]:
        """The ledger from one day to another, both inclusive, summed by these columns. Raises StoreError.

        `keys`: only of these client keys.
        """
        ...

    def prune(self, before: str) -> bool:
        """Deletes the ledger's days before this one, which `version` does not count; True: there may be more of them.

        Raises StoreError.
        """
        ...

    def close(self) -> None:
        """Closes files and connections."""
        ...


class StoreError(Exception):
    """The store could not be read or written; the text says why, without addresses or passwords."""

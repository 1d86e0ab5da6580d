"""The small interface behind which everything lives that must outlast a restart."""

from typing import Protocol


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

    def close(self) -> None:
        """Lets go of files and connections."""
        ...


class StoreError(Exception):
    """The store could not be read or written; the text says why, without addresses or passwords."""

"""Opens the store that config.yaml names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from proxy.store.contract import Batch, Column, Counts, Store, StoreError
from proxy.store.sqlite import SqliteStore

_MISSING: Final = 'store: postgresql://… needs the extra "postgres": pip install "sluice[postgres]".'


def open_store(address: str) -> Store:
    """`sqlite:///file` or `postgresql://…`. Nothing is opened yet; a missing extra is reported at the first use."""
    if address.startswith("sqlite:///"):
        return SqliteStore(Path(address.removeprefix("sqlite:///")))
    try:
        from proxy.store.postgres import PostgresStore
    except ImportError:
        return _Missing()
    return PostgresStore(address)


class _Missing:
    """Stands in for a store whose packages are not installed: each use reports that, and calls are still answered."""

    def read(self, kind: str) -> dict[str, str]:
        self._refuse()

    def write(self, kind: str, name: str, text: str | None) -> None:
        self._refuse()

    def swap(self, kind: str, name: str, before: str | None, after: str) -> bool:
        self._refuse()

    def version(self) -> int:
        self._refuse()

    def add(self, batch: Batch) -> None:
        self._refuse()

    def sums(
        self, first: str, last: str, by: Sequence[Column], keys: Sequence[str] | None = None
    ) -> dict[tuple[str, ...], Counts]:
        self._refuse()

    def prune(self, before: str) -> bool:
        self._refuse()

    def close(self) -> None:
        """There is nothing to let go of."""

    def _refuse(self) -> NoReturn:
        raise StoreError(_MISSING)

"""The store in one SQLite file, shared by every process on the machine."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.store.contract import StoreError

_IS_THERE = "SELECT count(*) = 2 FROM sqlite_master WHERE name IN ('kept', 'versions')"
# One transaction: of processes that start together one creates, the others wait for it.
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS kept (kind TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (kind, name));
CREATE TABLE IF NOT EXISTS versions (at INTEGER NOT NULL);
INSERT INTO versions SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM versions);
COMMIT;
"""
_NEW = """
INSERT INTO kept VALUES (:kind, :name, :after)
ON CONFLICT (kind, name) DO UPDATE SET text = excluded.text WHERE text = excluded.text
"""
_CHANGED = "UPDATE kept SET text = :after WHERE kind = :kind AND name = :name AND text IN (:before, :after)"
_PATIENCE = 5.0  # seconds that another process may hold the file


class SqliteStore:
    """Opens the file when it is first needed, so that a broken disk never keeps calls from being answered.

    The journal is SQLite's usual one: a write-ahead log would need files of its own for mere reading too, so that
    nothing could be read from a disk that is full or read-only. After an error the file is opened anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def read(self, kind: str) -> dict[str, str]:
        """Everything of one kind."""
        rows = self._run("SELECT name, text FROM kept WHERE kind = ?", (kind,))
        return {name: text for name, text in rows}

    def write(self, kind: str, name: str, text: str | None) -> None:
        """Keeps or forgets a text, and counts the change."""
        with self._writing() as connection:
            if text is None:
                connection.execute("DELETE FROM kept WHERE kind = ? AND name = ?", (kind, name))
            else:
                connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (kind, name, text))
            connection.execute("UPDATE versions SET at = at + 1")

    def swap(self, kind: str, name: str, before: str | None, after: str) -> bool:
        """Keeps a text where there is the one before, and counts the change."""
        values = {"kind": kind, "name": name, "before": before, "after": after}
        with self._writing() as connection:
            if not connection.execute(_NEW if before is None else _CHANGED, values).rowcount:
                return False
            connection.execute("UPDATE versions SET at = at + 1")
            return True

    def version(self) -> int:
        """The count of changes."""
        rows = self._run("SELECT at FROM versions", ())
        return int(rows[0][0]) if rows else 0

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._let_go()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction."""
        with self._lock:
            connection = self._open()
            try:
                with connection:
                    yield connection
            except sqlite3.Error as error:
                raise self._failed("written", error) from error

    def _run(self, statement: str, values: tuple[str, ...]) -> list[tuple[str, ...]]:
        with self._lock:
            try:
                return self._open().execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise self._failed("read", error) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = sqlite3.connect(self._path, timeout=_PATIENCE, check_same_thread=False)
                if self._connection.execute(_IS_THERE).fetchone() != (1,):
                    self._connection.executescript(_SCHEMA)
            except sqlite3.Error as error:
                raise self._failed("opened", error) from error
        return self._connection

    def _failed(self, what: str, error: sqlite3.Error) -> StoreError:
        """The error to raise. A connection that found the disk read-only would stay so when the disk no longer is."""
        self._let_go()
        return StoreError(f"The store could not be {what}: {error}.")

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

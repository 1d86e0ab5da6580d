"""The store in one SQLite file, shared by every process on the machine."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

from proxy.store.contract import COUNTED, FORGOTTEN, SUMS, Batch, Column, Counts, StoreError

_IS_THERE = "SELECT count(*) = 2 FROM sqlite_master WHERE name IN ('kept', 'versions')"
# One transaction: of processes that start together, one creates the tables.
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
# Apart from the others, so that a read-only file of an older Sluice can still be read.
_LEDGER_IS_THERE = "SELECT count(*) = 2 FROM sqlite_master WHERE name IN ('ledger', 'writers')"
_LEDGER = (
    """
    CREATE TABLE IF NOT EXISTS ledger (
        key TEXT NOT NULL, day TEXT NOT NULL, upstream TEXT NOT NULL, model TEXT NOT NULL,
        calls INTEGER NOT NULL, failed INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
        cached INTEGER NOT NULL, reasoning INTEGER NOT NULL, cost REAL NOT NULL, unpriced INTEGER NOT NULL,
        PRIMARY KEY (key, day, upstream, model)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE IF NOT EXISTS writers (writer TEXT PRIMARY KEY, number INTEGER NOT NULL, at INTEGER NOT NULL)",
)
_TURN = """
INSERT INTO writers VALUES (?, ?, ?)
ON CONFLICT (writer) DO UPDATE SET number = excluded.number, at = excluded.at WHERE number < excluded.number
"""
_ADD = (
    "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (key, day, upstream, model) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTED)
)
_OF_KEYS = " AND key IN (SELECT value FROM json_each(?))"
_PATIENCE = 5.0  # seconds to wait for another process to release the file


class SqliteStore:
    """Opens the file at the first use, so that a broken disk never keeps calls from being answered.

    The journal is SQLite's default: a write-ahead log needs files of its own even for reading, so nothing could be read
    from a full or read-only disk. After an error the file is opened again.
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
        """Stores or deletes a text, and counts the change."""
        with self._writing() as connection:
            if text is None:
                connection.execute("DELETE FROM kept WHERE kind = ? AND name = ?", (kind, name))
            else:
                connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (kind, name, text))
            connection.execute("UPDATE versions SET at = at + 1")

    def swap(self, kind: str, name: str, before: str | None, after: str) -> bool:
        """Replaces a text if it is still the one before, and counts the change."""
        values = {"kind": kind, "name": name, "before": before, "after": after}
        with self._writing() as connection:
            if not connection.execute(_NEW if before is None else _CHANGED, values).rowcount:
                return False
            connection.execute("UPDATE versions SET at = at + 1")
            return True

    def version(self) -> int:
        """The number of changes."""
        rows = self._run("SELECT at FROM versions", ())
        return int(rows[0][0]) if rows else 0

    def add(self, batch: Batch) -> None:
        """Adds to the ledger."""
        rows = [(*line, *astuple(counts)) for line, counts in batch.lines.items()]
        with self._writing() as connection:
            for table in _LEDGER:
                connection.execute(table)
            if connection.execute(_TURN, (batch.writer, batch.number, batch.at)).rowcount:
                connection.execute("DELETE FROM writers WHERE at < ?", (batch.at - FORGOTTEN,))
                connection.executemany(_ADD, rows)

    def sums(
        self, first: str, last: str, by: Sequence[Column], keys: Sequence[str] | None = None
    ) -> dict[tuple[str, ...], Counts]:
        """Sums of the ledger, which may not exist yet."""
        if self._run(_LEDGER_IS_THERE, ()) != [(1,)]:
            return {}
        columns, values = ", ".join(by), (first, last) if keys is None else (first, last, json.dumps(keys))
        statement = f"SELECT {columns}, {SUMS} FROM ledger WHERE day BETWEEN ? AND ?"
        statement += f"{'' if keys is None else _OF_KEYS} GROUP BY {columns} ORDER BY {columns}"
        return {row[: len(by)]: Counts(*row[len(by) :]) for row in self._run(statement, values)}

    def prune(self, before: str) -> bool:
        """Deletes from the ledger; there may be none yet."""
        with self._writing() as connection:
            if connection.execute(_LEDGER_IS_THERE).fetchone() == (1,):
                connection.execute("DELETE FROM ledger WHERE day < ?", (before,))
        return False

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

    def _run(self, statement: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
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
        """The error to raise. Closes the connection: one that found the disk read-only would stay so for ever."""
        self._let_go()
        return StoreError(f"The store could not be {what}: {error}.")

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

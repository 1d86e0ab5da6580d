"""The store in a PostgreSQL that several machines share (psycopg; extra `postgres`)."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError, wait
from dataclasses import astuple
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import TupleRow

from proxy.store.contract import FORGOTTEN, Batch, Column, Counts, StoreError

_CONNECT: Final = 2  # seconds per address of the host, so that a second one is still tried
_PATIENCE: Final = 3.5  # seconds for a whole step: queueing, connecting, answering
_SESSION: Final = "SET statement_timeout = '3s'"  # the server gives up when we do
_IS_THERE: Final = "SELECT to_regclass('sluice_kept') IS NOT NULL AND to_regclass('sluice_versions') IS NOT NULL"
# One transaction. The lock number is arbitrary: of processes that start together, one creates the tables.
_SCHEMA: Final = """
SELECT pg_advisory_xact_lock(7813562930129);
CREATE TABLE IF NOT EXISTS sluice_kept (
    kind text NOT NULL, name text NOT NULL, text text NOT NULL, PRIMARY KEY (kind, name)
);
CREATE TABLE IF NOT EXISTS sluice_versions (at bigint NOT NULL);
INSERT INTO sluice_versions SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM sluice_versions);
"""
# Each is one statement, hence one transaction: a text never changes without its count.
_KEEP: Final = """
WITH kept AS (
    INSERT INTO sluice_kept VALUES (%s, %s, %s) ON CONFLICT (kind, name) DO UPDATE SET text = excluded.text
) UPDATE sluice_versions SET at = at + 1
"""
_FORGET: Final = """
WITH forgotten AS (DELETE FROM sluice_kept WHERE kind = %s AND name = %s) UPDATE sluice_versions SET at = at + 1
"""
# Apart from the others: without the right to create tables only the ledger is missing.
_LEDGER_IS_THERE: Final = (
    "SELECT to_regclass('sluice_ledger') IS NOT NULL AND to_regclass('sluice_writers') IS NOT NULL"
)
_LEDGER: Final = """
SELECT pg_advisory_xact_lock(7813562930129);
CREATE TABLE IF NOT EXISTS sluice_ledger (
    key text NOT NULL, day text NOT NULL, upstream text NOT NULL, model text NOT NULL,
    calls bigint NOT NULL, failed bigint NOT NULL, input bigint NOT NULL, output bigint NOT NULL,
    cached bigint NOT NULL, reasoning bigint NOT NULL, cost double precision NOT NULL, unpriced bigint NOT NULL,
    PRIMARY KEY (key, day, upstream, model)
);
CREATE TABLE IF NOT EXISTS sluice_writers (writer text PRIMARY KEY, number bigint NOT NULL, at bigint NOT NULL);
"""
# A batch that was added already, or whose successor was, adds nothing. Sorted: writers that add to the same
# lines would wait for each other in a ring.
_ADD: Final = """
WITH turn AS (
    INSERT INTO sluice_writers VALUES (%s, %s, %s) ON CONFLICT (writer)
    DO UPDATE SET number = excluded.number, at = excluded.at WHERE sluice_writers.number < excluded.number
    RETURNING writer
), forgotten AS (DELETE FROM sluice_writers WHERE at < %s)
INSERT INTO sluice_ledger AS had
SELECT new.* FROM unnest(
    %s::text[], %s::text[], %s::text[], %s::text[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::float8[], %s::bigint[]
) AS new (key, day, upstream, model, calls, failed, input, output, cached, reasoning, cost, unpriced)
WHERE EXISTS (SELECT 1 FROM turn) ORDER BY 1, 2, 3, 4
ON CONFLICT (key, day, upstream, model) DO UPDATE SET
    calls = had.calls + excluded.calls, failed = had.failed + excluded.failed,
    input = had.input + excluded.input, output = had.output + excluded.output,
    cached = had.cached + excluded.cached, reasoning = had.reasoning + excluded.reasoning,
    cost = had.cost + excluded.cost, unpriced = had.unpriced + excluded.unpriced
"""
# In batches: one statement for a year of a large ledger might take longer than a statement may.
PRUNED_AT_ONCE: Final = 10_000
_PRUNE: Final = """
WITH gone AS (
    DELETE FROM sluice_ledger
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM sluice_ledger WHERE day < %s LIMIT %s)) RETURNING 1
)
SELECT count(*) FROM gone
"""
_SUMS: Final = (  # sum() returns Decimal for integers
    "sum(calls)::bigint, sum(failed)::bigint, sum(input)::bigint, sum(output)::bigint, "
    "sum(cached)::bigint, sum(reasoning)::bigint, sum(cost), sum(unpriced)::bigint"
)
# Likewise one statement each; repeating one that has taken effect also reports success.
_NEW: Final = """
WITH kept AS (
    INSERT INTO sluice_kept VALUES (%s, %s, %s) ON CONFLICT (kind, name)
    DO UPDATE SET text = excluded.text WHERE sluice_kept.text = excluded.text RETURNING 1
), counted AS (UPDATE sluice_versions SET at = at + 1 WHERE EXISTS (SELECT 1 FROM kept))
SELECT count(*) FROM kept
"""
_CHANGED: Final = """
WITH kept AS (
    UPDATE sluice_kept SET text = %s WHERE kind = %s AND name = %s AND text IN (%s, %s) RETURNING 1
), counted AS (UPDATE sluice_versions SET at = at + 1 WHERE EXISTS (SELECT 1 FROM kept))
SELECT count(*) FROM kept
"""
# libpq's messages name hosts, addresses and users: these marks in them select a message that may be shown.
_REASONS: Final = (
    ("refused", "it refuses connections"),
    ("resolve", "its host name is not found"),
    ("authentication", "it does not accept the user name or password"),
    ("pg_hba", "it does not accept connections from here"),
    ("does not exist", "it has no such database or user"),
    ("too many", "it has no connection left"),
    ("starting up", "it is starting"),
    ("shutting down", "it is stopping"),
    ("timeout", "it does not answer"),
    ("closed", "it closed the connection"),
    ("SSL", "no TLS connection came about"),
    ("certificate", "its TLS certificate is not trusted"),
)

_Values = tuple[Any, ...]
_Connection = psycopg.Connection[TupleRow]
_Rows = list[TupleRow]
_Answer = Future[tuple[_Connection, _Rows]]


class PostgresStore:
    """Connects at the first use, and again after a failure; every step ends within 3.5 seconds.

    Each step runs in a thread of its own, since a name look-up or an unresponsive server cannot be interrupted
    otherwise. An abandoned thread ends, with its connection, once the server or TCP lets it.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._turn = threading.Lock()
        self._connection: _Connection | None = None
        self._ledger = False  # known to exist

    def read(self, kind: str) -> dict[str, str]:
        """Everything of one kind."""
        return dict(self._run("SELECT name, text FROM sluice_kept WHERE kind = %s", (kind,)))

    def write(self, kind: str, name: str, text: str | None) -> None:
        """Stores or deletes a text, and counts the change. After an error it may still take effect, and is counted."""
        if text is None:
            self._run(_FORGET, (kind, name))
        else:
            self._run(_KEEP, (kind, name, text))

    def swap(self, kind: str, name: str, before: str | None, after: str) -> bool:
        """Replaces a text if it is still the one before, and counts the change."""
        if before is None:
            rows = self._run(_NEW, (kind, name, after))
        else:
            rows = self._run(_CHANGED, (after, kind, name, before, after))
        return bool(rows[0][0])

    def version(self) -> int:
        """The number of changes."""
        rows = self._run("SELECT at FROM sluice_versions", ())
        return int(rows[0][0]) if rows else 0

    def add(self, batch: Batch) -> None:
        """Adds to the ledger."""
        if not self._has_ledger():
            self._run(_LEDGER, ())
            self._ledger = True
        columns = zip(*((*line, *astuple(counts)) for line, counts in batch.lines.items()), strict=True)
        turn = (batch.writer, batch.number, batch.at, batch.at - FORGOTTEN)
        self._asked_of_ledger(_ADD, (*turn, *map(list, columns)))

    def sums(
        self, first: str, last: str, by: Sequence[Column], keys: Sequence[str] | None = None
    ) -> dict[tuple[str, ...], Counts]:
        """Sums of the ledger, which may not exist yet."""
        if not self._has_ledger():
            return {}
        columns: LiteralString = ", ".join(by)
        statement = f"SELECT {columns}, {_SUMS} FROM sluice_ledger WHERE day BETWEEN %s AND %s"
        values: _Values = (first, last)
        if keys is not None:
            statement, values = statement + " AND key = ANY(%s)", (*values, list(keys))
        rows = self._asked_of_ledger(f"{statement} GROUP BY {columns} ORDER BY {columns}", values)
        return {row[: len(by)]: Counts(*row[len(by) :]) for row in rows}

    def prune(self, before: str) -> bool:
        """Deletes one batch from the ledger; there may be none yet."""
        if not self._has_ledger():
            return False
        gone: int = self._asked_of_ledger(_PRUNE, (before, PRUNED_AT_ONCE))[0][0]
        return gone == PRUNED_AT_ONCE

    def _has_ledger(self) -> bool:
        """Whether the ledger exists; once it does, no longer asked."""
        self._ledger = self._ledger or self._run(_LEDGER_IS_THERE, ()) == [(True,)]
        return self._ledger

    def _asked_of_ledger(self, statement: LiteralString, values: _Values) -> _Rows:
        try:
            return self._run(statement, values)
        except StoreError:
            self._ledger = False  # a backup from before the ledger may have been restored
            raise

    def close(self) -> None:
        """Closes the connection."""
        with self._turn:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _run(self, statement: LiteralString, values: _Values) -> _Rows:
        ends = time.monotonic() + _PATIENCE
        if not self._turn.acquire(timeout=_PATIENCE):
            raise _failed("it does not answer")
        try:
            held, self._connection = self._connection, None
            answer: _Answer = Future()
            asking = (answer, self._address, held, statement, values)
            threading.Thread(target=_ask, args=asking, name="store", daemon=True).start()
            wait([answer], ends - time.monotonic())
            if answer.cancel():
                raise _failed("it does not answer")
            self._connection, rows = answer.result()
            return rows
        finally:
            self._turn.release()


def _ask(answer: _Answer, address: str, held: _Connection | None, statement: LiteralString, values: _Values) -> None:
    """Runs a step; its result is the connection, to be kept for the next step, and the rows."""
    try:
        connection, rows = _asked(address, held, statement, values)
    except (psycopg.Error, UnicodeError) as error:
        _give(answer, _failed(_reason(error)))
    else:
        if not _give(answer, (connection, rows)):
            connection.close()


def _give(answer: _Answer, given: tuple[_Connection, _Rows] | StoreError) -> bool:
    """Sets the result; False: nobody waits for it any more."""
    try:
        if isinstance(given, StoreError):
            answer.set_exception(given)
        else:
            answer.set_result(given)
    except InvalidStateError:
        return False
    return True


def _asked(
    address: str, held: _Connection | None, statement: LiteralString, values: _Values
) -> tuple[_Connection, _Rows]:
    """Runs a statement on the held connection, or on a new one if that was dropped: all statements may be repeated."""
    if held is not None:
        try:
            return held, _rows(held, statement, values)
        except psycopg.OperationalError as error:
            if not held.broken and not isinstance(error, psycopg.errors.AdminShutdown):  # the statement was refused
                raise
            held.close()
    connection = _connected(address)
    return connection, _rows(connection, statement, values)


def _connected(address: str) -> _Connection:
    """A new connection to a database that has our tables."""
    connection = psycopg.connect(
        address,
        autocommit=True,
        prepare_threshold=None,  # connection poolers may not support prepared statements
        connect_timeout=_CONNECT,
        client_encoding="utf8",
        fallback_application_name="sluice",
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
    )
    _rows(connection, _SESSION, ())
    if _rows(connection, _IS_THERE, ()) != [(True,)]:  # creating needs a right of its own: only if necessary
        _rows(connection, _SCHEMA, ())
    return connection


def _rows(connection: _Connection, statement: LiteralString, values: _Values) -> _Rows:
    """The rows of a statement. On failure the connection is closed."""
    try:
        cursor = connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []
    except (psycopg.Error, UnicodeError):
        connection.close()
        raise


def _failed(reason: str) -> StoreError:
    return StoreError(f"The store's PostgreSQL failed: {reason}.")


def _reason(error: psycopg.Error | UnicodeError) -> str:
    """What may be said about an error: the server's words for a statement, our own for anything about connecting."""
    if isinstance(error, psycopg.Error):
        if error.sqlstate and error.diag.message_primary:
            return error.diag.message_primary
        if isinstance(error, psycopg.ProgrammingError):
            return "its address is not understood"
        for mark, reason in _REASONS:
            if mark in str(error):
                return reason
    return type(error).__name__

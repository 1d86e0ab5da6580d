"""What client keys did within the last minute, counted by all processes of a machine together."""

import fcntl
import logging
import mmap
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from errno import ENOSPC
from pathlib import Path
from typing import Final

MINUTE: Final = 60 * 10**9
"""Nanoseconds, as everything here: of CLOCK_MONOTONIC, which is the same for all processes."""
_CELL: Final = 10**9
_CELLS: Final = 61  # the one of now, and those of which a part may lie within the minute before
_NUMBERS: Final = 3 * _CELLS  # when each cell was last written, its calls, its tokens
_OWNER: Final = 32  # bytes of the digest that a record begins with
_RECORD: Final = 2048
_RECORDS: Final = 64  # in a chunk, which is as large as every system's pages are a part of
_CHUNK: Final = _RECORD * _RECORDS

log = logging.getLogger("sluice")


@dataclass(frozen=True, slots=True)
class Minute:
    """The last minute of a key. What has not come to its end yet counts from the newest of its second."""

    calls: int
    tokens: int
    calls_end: int  # nanoseconds until none of the calls counts any more
    tokens_end: int
    wait: int = 0  # until another call may come in; 0: this one has
    over: str = ""  # the limit that it waits for


@dataclass(slots=True)
class Window:
    """One key's last 60 seconds, in cells of a second each. `numbers` may be shared with other processes.

    A cell counts as if all of it had been when it was last written: never too little, and at most a second too long.
    """

    numbers: memoryview
    lock: AbstractContextManager[object] = field(default_factory=nullcontext)

    def enter(self, calls: int | None, tokens: int | None, now: int) -> Minute:
        """Lets a call in, and counts it, while both limits hold (None: there is none); a refused one is not counted."""
        with self.lock:
            called = used = calls_at = tokens_at = 0
            since = now - MINUTE
            for at, came, took in self._cells():
                if at > since:
                    called, used = called + came, used + took
                    if came and at > calls_at:
                        calls_at = at
                    if took and at > tokens_at:
                        tokens_at = at
            wait, over = 0, ""
            if calls is not None and called >= calls:
                wait, over = self._freed(1, called - calls, now), "requests_per_minute"
            if tokens is not None and used >= tokens and (freed := self._freed(2, used - tokens, now)) > wait:
                wait, over = freed, "tokens_per_minute"
            if not over:
                self._add(1, 1, now)
                called, calls_at = called + 1, now
        return Minute(called, used, _end(calls_at, now), _end(tokens_at, now), wait, over)

    def used(self, tokens: int, now: int) -> None:
        """A call that was let in took so many tokens, as is known now."""
        with self.lock:
            self._add(2, tokens, now)

    def _cells(self) -> Iterable[tuple[int, int, int]]:
        """When each was last written, its calls and its tokens."""
        numbers = self.numbers.tolist()
        return zip(numbers[:_CELLS], numbers[_CELLS : 2 * _CELLS], numbers[2 * _CELLS :], strict=True)

    def _freed(self, row: int, too_many: int, now: int) -> int:
        """Until so many calls or tokens, and one more, count no longer."""
        for cell in sorted(cell for cell in self._cells() if cell[0] > now - MINUTE):
            too_many -= cell[row]
            if too_many < 0:
                return min(MINUTE, cell[0] + MINUTE - now)
        return MINUTE

    def _add(self, row: int, amount: int, now: int) -> None:
        numbers, at = self.numbers, now // _CELL % _CELLS
        if numbers[at] // _CELL != now // _CELL:  # it is of more than a minute ago
            numbers[_CELLS + at] = numbers[2 * _CELLS + at] = 0
        numbers[at] = max(now, numbers[at])  # of a process that had the lock before, and looked at the clock later
        numbers[row * _CELLS + at] += amount


def _end(newest: int, now: int) -> int:
    return newest + MINUTE - now if newest else 0


Windows = Callable[[bytes], Window]
"""The window of a key, by its digest: one that it has already, or a new one."""


def local_window(digest: bytes) -> Window:
    """A window in this process's own memory."""
    return Window(memoryview(bytearray(8 * _NUMBERS)).cast("q"))


class SharedWindows:
    """The windows of all workers, in one file that each of them maps.

    Records are never given back: a key takes 2 KB of the file, once it has made a call, until the server ends.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._chunks: list[memoryview] = []
        self._places: dict[bytes, int] = {}  # of the records that were looked at, which are the first
        self._lock = _Lock(self._file)

    def __call__(self, digest: bytes) -> Window:
        """Raises nothing: where the file cannot grow, the key is counted by each worker for itself."""
        try:
            with self._lock:
                while digest not in self._places:
                    record = self._record(len(self._places))
                    if record[:_OWNER] == bytes(_OWNER):
                        record[:_OWNER] = digest
                    self._places[bytes(record[:_OWNER])] = len(self._places)
                record = self._record(self._places[digest])
            return Window(record[_OWNER : _OWNER + 8 * _NUMBERS].cast("q"), self._lock)
        except OSError as error:
            log.error("a client key's limits hold for each worker alone: the folder they share is %s", error.strerror)
        return local_window(digest)

    def _record(self, at: int) -> memoryview:
        chunk, place = divmod(at, _RECORDS)
        while len(self._chunks) <= chunk:
            begins = len(self._chunks) * _CHUNK
            if os.fstat(self._file).st_size < begins + _CHUNK:
                # A hole that the disk has no room for would kill us later.
                if os.pwrite(self._file, bytes(_CHUNK), begins) < _CHUNK:
                    raise OSError(ENOSPC, os.strerror(ENOSPC))
            self._chunks.append(memoryview(mmap.mmap(self._file, _CHUNK, offset=begins)))
        return self._chunks[chunk][place * _RECORD : (place + 1) * _RECORD]


@dataclass(frozen=True, slots=True)
class _Lock:
    """Held for microseconds, so that waiting for it may hold up the event loop; who dies lets go of it."""

    file: int

    def __enter__(self) -> None:
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *raised: object) -> None:
        fcntl.flock(self.file, fcntl.LOCK_UN)

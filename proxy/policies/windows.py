"""Calls and tokens of each client key within the last minute, shared by all processes of a machine."""

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
"""Nanoseconds, like all times here: of CLOCK_MONOTONIC, which is the same for all processes."""
_CELL: Final = 10**9
_CELLS: Final = 61  # the current second, and those that overlap the minute before
_NUMBERS: Final = 3 * _CELLS  # per cell: time of the last write, calls, tokens
_OWNER: Final = 32  # bytes of the key digest at the start of a record
_RECORD: Final = 2048
_RECORDS: Final = 64  # per chunk, whose size is a multiple of every system's page size
_CHUNK: Final = _RECORD * _RECORDS

log = logging.getLogger("sluice")


@dataclass(frozen=True, slots=True)
class Minute:
    """The last minute of a key. Calls and tokens of one second all expire with the newest of that second."""

    calls: int
    tokens: int
    calls_end: int  # nanoseconds until all of these calls have expired
    tokens_end: int
    wait: int = 0  # nanoseconds until a call may be admitted; 0: this one was
    over: str = ""  # the limit that is exceeded


@dataclass(slots=True)
class Window:
    """The last 60 seconds of one key, in cells of a second each. `numbers` may be shared with other processes.

    All of a cell counts as if it had come at its last write: never too little, and at most a second too long.
    """

    numbers: memoryview
    lock: AbstractContextManager[object] = field(default_factory=nullcontext)

    def enter(self, calls: int | None, tokens: int | None, now: int) -> Minute:
        """Admits and counts a call if both limits allow it (None: no limit); a refused call is not counted."""
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
        """Adds the tokens of an admitted call, once they are known."""
        with self.lock:
            self._add(2, tokens, now)

    def _cells(self) -> Iterable[tuple[int, int, int]]:
        """Time of the last write, calls and tokens of each cell."""
        numbers = self.numbers.tolist()
        return zip(numbers[:_CELLS], numbers[_CELLS : 2 * _CELLS], numbers[2 * _CELLS :], strict=True)

    def _freed(self, row: int, too_many: int, now: int) -> int:
        """Nanoseconds until so many calls or tokens, and one more, have expired."""
        for cell in sorted(cell for cell in self._cells() if cell[0] > now - MINUTE):
            too_many -= cell[row]
            if too_many < 0:
                return min(MINUTE, cell[0] + MINUTE - now)
        return MINUTE

    def _add(self, row: int, amount: int, now: int) -> None:
        numbers, at = self.numbers, now // _CELL % _CELLS
        if numbers[at] // _CELL != now // _CELL:  # the cell is older than a minute
            numbers[_CELLS + at] = numbers[2 * _CELLS + at] = 0
        numbers[at] = max(now, numbers[at])  # another process may have written with a later clock
        numbers[row * _CELLS + at] += amount


def _end(newest: int, now: int) -> int:
    return newest + MINUTE - now if newest else 0


Windows = Callable[[bytes], Window]
"""The window of a key, by its digest: the existing one, or a new one."""


def local_window(digest: bytes) -> Window:
    """A window in this process's own memory."""
    return Window(memoryview(bytearray(8 * _NUMBERS)).cast("q"))


class SharedWindows:
    """The windows of all workers, in one file that each of them maps.

    Records are never freed: each key that has made a call takes 2 KB of the file until the server ends.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._chunks: list[memoryview] = []
        self._places: dict[bytes, int] = {}  # record numbers of the digests read so far
        self._lock = _Lock(self._file)

    def __call__(self, digest: bytes) -> Window:
        """Never raises: if the file cannot grow, each worker counts the key by itself."""
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
            log.error(
                "rate limits of client keys are enforced per worker, since the workers' folder failed: %s",
                error.strerror,
            )
        return local_window(digest)

    def _record(self, at: int) -> memoryview:
        chunk, place = divmod(at, _RECORDS)
        while len(self._chunks) <= chunk:
            begins = len(self._chunks) * _CHUNK
            if os.fstat(self._file).st_size < begins + _CHUNK:
                # Written out: a write to a sparse page on a full disk would kill the process (SIGBUS).
                if os.pwrite(self._file, bytes(_CHUNK), begins) < _CHUNK:
                    raise OSError(ENOSPC, os.strerror(ENOSPC))
            self._chunks.append(memoryview(mmap.mmap(self._file, _CHUNK, offset=begins)))
        return self._chunks[chunk][place * _RECORD : (place + 1) * _RECORD]


@dataclass(frozen=True, slots=True)
class _Lock:
    """Held for microseconds, so waiting for it may block the event loop. The kernel frees it when a process dies."""

    file: int

    def __enter__(self) -> None:
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *raised: object) -> None:
        fcntl.flock(self.file, fcntl.LOCK_UN)

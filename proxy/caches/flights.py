"""One upstream's answer on its way to everybody who asked the same while it was under way."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import inf
from time import perf_counter
from typing import Final

from proxy.assembling import Assembler, as_stream
from proxy.caches.serving import Answered, Copy, Events
from proxy.call import Call
from proxy.clocks import timeout
from proxy.errors import SluiceError
from proxy.headers import of_type
from proxy.usage import NO_USAGE, Usage
from proxy.watch import ChatWatch

WINDOW: Final = 256 * 1024  # bytes that are read ahead of the fastest reader
LONGEST: Final = 8 * 1024 * 1024  # bytes of a stream that are held for those who join late
_BATCH: Final = 64 * 1024  # bytes that a reader who lags behind gets at once

Send = Callable[[Call], Awaitable[Answered]]
Landed = Callable[["Flight"], Awaitable[None]]
"""Told of an answer that is complete and held as a whole; until it is done, others may still join."""


class Flight:
    """Asks once, in a task of its own that ends with its last reader, and holds what comes for all of them.

    `call` is the flight's own: its trace says what was done, and each reader's call gets a copy of that.
    """

    def __init__(self, call: Call, send: Send, landed: Landed) -> None:
        self.call = call
        self.joinable = True
        self.answer: Answered | None = None  # once its head is there
        self.whole: bytes | None = None  # once it is complete
        self._headed = inf  # when the head was there (perf_counter)
        self._failure: SluiceError | None = None
        self._over = False  # nothing more will come for the readers
        self._batches: list[bytes] = []
        self._first = 0  # number of the first batch that is still held
        self._size = 0  # bytes that came
        self._read = 0  # bytes that the fastest reader has
        self._readers: list[Reading] = []
        self._waiting = 0  # readers that have not begun, or want the whole
        self._wholes = 0  # of these, the latter
        self._paid = False
        self._assembler = Assembler()
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._fly(send, landed))

    # for readers

    async def join(self, call: Call) -> Copy:
        """The answer from its beginning, as `call` wants it. Raises the failure where there is none."""
        self._waiting += 1
        if not call.stream:
            self._wholes += 1
            self._room.set()
        asked, waited = perf_counter(), self.call.trace.waited
        try:
            while not self._over and not self._ready(call):
                await self._heard(call)
            self._copy_trace(call)
            call.trace.waited += self._waited(asked, waited)
            if self.answer is None or not self._ready(call):
                raise self._broken()
            return self._copy(call, self.answer)
        except BaseException:
            if not self._over:  # it left, or its own time is over
                call.trace.waited += perf_counter() - asked
            self._leave(call)
            if self.task.cancelling():  # nobody else waits: who was asked is known once that has ended
                await asyncio.wait([self.task])
            self._copy_trace(call)
            raise

    def _ready(self, call: Call) -> bool:
        """Whether there is what this call's answer can begin with."""
        return self.answer is not None and (self.whole is not None or (call.stream and self.call.stream))

    def _waited(self, asked: float, before: float) -> float:
        """Seconds of a wait that were the upstream's: of those until its head what our own call says, then all."""
        now = perf_counter()
        headed = max(asked, min(self._headed, now))
        return min(headed - asked, self.call.trace.waited - before) + now - headed

    def _copy(self, call: Call, answer: Answered) -> Copy:
        kind = b"text/event-stream" if call.stream else b"application/json"
        headers = answer.headers if call.stream is self.call.stream else of_type(answer.headers, kind)
        if not call.stream:
            if self.pays():
                call.trace.usage, call.trace.malformed = self.usage or NO_USAGE, self.malformed
            return Copy(answer.status, headers, self.whole, leave=lambda: self._leave(call))
        if not self.call.stream:
            assert self.whole is not None
            return Copy(
                answer.status,
                headers,
                stream=Reading(self, [as_stream(self.whole)], call),
                leave=lambda: self._leave(call),
            )
        reading = Reading(self, None, call)
        self._waiting -= 1
        self._readers.append(reading)
        return Copy(answer.status, headers, stream=reading, leave=lambda: self._leave(call, reading))

    def _copy_trace(self, call: Call) -> None:
        mine, theirs = self.call.trace, call.trace
        theirs.upstream, theirs.model, theirs.changes = mine.upstream, mine.model, mine.changes
        theirs.attempts = list(mine.attempts)

    def _broken(self) -> SluiceError:
        """Each reader's own error."""
        if self._failure is None:
            return SluiceError("proxy_internal", "The call that this one had joined did not end as it should.")
        return replace(self._failure)

    async def batch(self, reading: "Reading") -> bytes:
        """What came since the reader last asked; b"": the end. Raises how it broke."""
        while reading.at >= self._first + len(self._batches):
            if self._over:
                if self.whole is None:
                    raise self._broken()
                return b""
            await self._heard(reading.call)
        held = self._batches
        start = end = reading.at - self._first
        size = 0
        while end < len(held) and (size == 0 or size + len(held[end]) <= _BATCH):
            size += len(held[end])
            end += 1
        reading.at += end - start
        reading.read += size
        if reading.read > self._read:
            self._read = reading.read
            self._room.set()
        return held[start] if end == start + 1 else b"".join(held[start:end])

    async def _heard(self, call: Call) -> None:
        """Waits for news, and no longer than the call of one who joined may take. Raises upstream_timeout_total."""
        try:
            async with asyncio.timeout(call.left if self.call.timeout is None else None):
                await self._news.wait()
        except TimeoutError:
            raise timeout("total") from None

    def pays(self) -> bool:
        """Whether the asker is the one reader whose call counts what the answer took."""
        paid, self._paid = self._paid, True
        return not paid

    @property
    def usage(self) -> Usage | None:
        """What is known of all that the answer took: its stream's, and what the trace has of others or of the whole."""
        stream, known = self.answer.stream if self.answer else None, self.call.trace.usage
        said = stream.watch.usage if stream else None
        if said is not None:
            return said.and_also(known)
        return None if known is NO_USAGE else known

    @property
    def malformed(self) -> int:
        """Events that were no JSON, in all streams of which the answer was put together."""
        stream = self.answer.stream if self.answer else None
        return self.call.trace.malformed + (stream.watch.malformed if stream else 0)

    def _leave(self, call: Call, reading: "Reading | None" = None) -> None:
        if reading is None:
            self._waiting -= 1
            self._wholes -= not call.stream
        elif reading in self._readers:
            self._readers.remove(reading)
            self._copy_trace(call)  # others may have gone on where the first one broke
        if not self._readers and not self._waiting and not self._over:
            self.joinable = False
            self.task.cancel()

    # for the upstream

    async def _fly(self, send: Send, landed: Landed) -> None:
        try:
            self.answer = answer = await send(self.call)
            self._headed = perf_counter()
            try:
                if answer.body is not None:
                    await self._complete(answer.body, landed)
                else:
                    await self._stream(answer, landed)
            finally:
                await answer.aclose()
        except SluiceError as failure:
            self._failure = failure
        finally:
            self._over, self.joinable = True, False
            self._tell()

    async def _stream(self, answer: Answered, landed: Landed) -> None:
        self._tell()
        if answer.head:
            await self._take(answer.head)
        if answer.stream is not None:
            await self._end_at_done(answer.stream, landed)
            async for batch in answer.stream:
                if not self._over:
                    await self._take(batch)
                    await self._end_at_done(answer.stream, landed)
        if not self._over:
            await self._complete(self._assembler.whole(), landed)

    async def _end_at_done(self, stream: Events, landed: Landed) -> None:
        """What follows the last event is only the end of the connection, and no reader waits for that."""
        if stream.watch.done and not self._over:
            await self._complete(self._assembler.whole(), landed)

    async def _take(self, batch: bytes) -> None:
        self._batches.append(batch)
        self._size += len(batch)
        if self.joinable or self._waiting:
            self._assembler.add(batch)
        if self._size > LONGEST:
            self.joinable = False
            self._trim()
        self._tell()
        while self._size - self._read > WINDOW and not self._wholes:
            self._room.clear()
            await self._room.wait()

    def _trim(self) -> None:
        """Lets go of what every reader has had."""
        had = min((reading.at for reading in self._readers), default=self._first)
        if not self._waiting:
            del self._batches[: had - self._first]
            self._first = had

    async def _complete(self, whole: bytes, landed: Landed) -> None:
        self.whole = whole
        self._over = True
        self._tell()
        if self.joinable:
            if not (self.malformed or self._assembler.dropped):
                await landed(self)
            self.joinable = False

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Reading:
    """One client's way through a flight's events, at its own pace; an error if it breaks."""

    def __init__(self, flight: Flight, events: list[bytes] | None, call: Call) -> None:
        assert flight.answer is not None
        self.at = 0  # number of the next batch
        self.read = 0  # bytes it has had
        self.call = call
        self._flight = flight
        self._events = events
        unasked = flight.answer.target.provider.usage == "unasked"
        self.watch = ChatWatch(lambda fields: None, own_usage=not unasked and not call.wants_usage)
        self._pays = False

    def __aiter__(self) -> "Reading":
        return self

    async def __anext__(self) -> bytes:
        while batch := await self._batch():
            seen = self.watch.see(batch)
            if self.watch.usage is not None:
                self._settle()
            if seen:
                return seen
        self._settle()
        raise StopAsyncIteration

    def _settle(self) -> None:
        """What the answer took is counted with the call of the first reader who sees it, and no other's."""
        self._pays = self._pays or self._flight.pays()
        self.watch.usage = None
        if self._pays:
            self.watch.usage, self.watch.malformed = self._flight.usage, self._flight.malformed

    async def _batch(self) -> bytes:
        if self._events is None:
            return await self._flight.batch(self)
        return self._events.pop() if self._events else b""

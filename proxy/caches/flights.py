"""One upstream request shared by identical calls: its answer goes to everybody who asked while it was under way."""

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

WINDOW: Final = 256 * 1024  # bytes that may be buffered ahead of the fastest reader
LONGEST: Final = 8 * 1024 * 1024  # bytes of a stream that are kept for late joiners
_BATCH: Final = 64 * 1024  # largest read of a reader that lags behind

Send = Callable[[Call], Awaitable[Answered]]
Landed = Callable[["Flight"], Awaitable[None]]
"""Called with a flight whose answer is complete; until it returns, others may still join."""


class Flight:
    """Asks the upstream once, in a task that is cancelled when its last reader leaves, and buffers the answer for all.

    `call` is the flight's own: its trace is copied to the call of each reader.
    """

    def __init__(self, call: Call, send: Send, landed: Landed) -> None:
        self.call = call
        self.joinable = True
        self.answer: Answered | None = None  # once its head is there
        self.whole: bytes | None = None  # once it is complete
        self._headed = inf  # when the head arrived (perf_counter)
        self._failure: SluiceError | None = None
        self._over = False  # nothing more will come for the readers
        self._batches: list[bytes] = []
        self._first = 0  # number of the first batch in the buffer
        self._size = 0  # bytes received
        self._read = 0  # bytes that the fastest reader has
        self._readers: list[Reading] = []
        self._waiting = 0  # readers that have not begun, or want a whole answer
        self._wholes = 0  # of these, the latter
        self._paid = False
        self._assembler = Assembler()
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._fly(send, landed))

    # for readers

    async def join(self, call: Call) -> Copy:
        """The answer from its beginning, in the form that `call` wants. Raises the failure if there is none."""
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
            if not self._over:  # the client left, or its own time limit passed
                call.trace.waited += perf_counter() - asked
            self._leave(call)
            if self.task.cancelling():  # the last reader: the trace is complete once the task has ended
                await asyncio.wait([self.task])
            self._copy_trace(call)
            raise

    def _ready(self, call: Call) -> bool:
        """Whether the answer to this call can begin."""
        return self.answer is not None and (self.whole is not None or (call.stream and self.call.stream))

    def _waited(self, asked: float, before: float) -> float:
        """Seconds of a wait spent on the upstream: until the head of the answer as our own call counts it, then all."""
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
        theirs.attempts = mine.attempts

    def _broken(self) -> SluiceError:
        """A new error for each reader."""
        if self._failure is None:
            return SluiceError("proxy_internal", "The identical call that this one had joined failed unexpectedly.")
        return replace(self._failure)

    async def batch(self, reading: "Reading") -> bytes:
        """What arrived since the reader last asked; b"": the end. Raises the failure of a broken answer."""
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
        """Waits for news, but no longer than the time limit of the call that joined. Raises upstream_timeout_total."""
        try:
            async with asyncio.timeout(call.left if self.call.timeout is None else None):
                await self._news.wait()
        except TimeoutError:
            raise timeout("total") from None

    def pays(self) -> bool:
        """True once: for the one reader whose call counts the usage of the answer."""
        paid, self._paid = self._paid, True
        return not paid

    @property
    def usage(self) -> Usage | None:
        """The known usage of the answer: its stream's, plus what the trace has of earlier streams or a whole answer."""
        stream, known = self.answer.stream if self.answer else None, self.call.trace.usage
        said = stream.watch.usage if stream else None
        if said is not None:
            return said.and_also(known)
        return None if known is NO_USAGE else known

    @property
    def malformed(self) -> int:
        """Events that were not JSON, in all streams of the answer."""
        stream = self.answer.stream if self.answer else None
        return self.call.trace.malformed + (stream.watch.malformed if stream else 0)

    def _leave(self, call: Call, reading: "Reading | None" = None) -> None:
        if reading is None:
            self._waiting -= 1
            self._wholes -= not call.stream
        elif reading in self._readers:
            self._readers.remove(reading)
            self._copy_trace(call)  # another upstream may have continued the stream
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
        """Completes the answer at its last event: readers need not wait for the end of the connection."""
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
        """Drops batches that every reader has had."""
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
    """One reader of a flight's events, at its own pace."""

    def __init__(self, flight: Flight, events: list[bytes] | None, call: Call) -> None:
        assert flight.answer is not None
        self.at = 0  # number of the next batch
        self.read = 0  # bytes read
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
        """Counts the usage of the answer for the first reader that sees it, and for no other."""
        self._pays = self._pays or self._flight.pays()
        self.watch.usage = None
        if self._pays:
            self.watch.usage, self.watch.malformed = self._flight.usage, self._flight.malformed

    async def _batch(self) -> bytes:
        if self._events is None:
            return await self._flight.batch(self)
        return self._events.pop() if self._events else b""

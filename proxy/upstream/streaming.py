"""Reads one upstream's stream: deadlines, translation into OpenAI's events, and failures."""

import asyncio
from dataclasses import dataclass
from time import perf_counter

import httpx

from proxy.clocks import Clock, ClockName, timeout
from proxy.errors import SluiceError
from proxy.providers.contract import Reader
from proxy.reply import Flowing, Outlet
from proxy.sse import DONE
from proxy.upstream.bodies import Pieces
from proxy.upstream.border import translate_error
from proxy.upstream.client import Body
from proxy.upstream.talking import Talk
from proxy.watch import RawWatch, ResponsesWatch, Watch

_LONG = 15.0  # seconds that count as a long silence, whatever `idle` allows
_LINGER = 0.25  # seconds that an upstream may take to end its body after [DONE]


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that this answer may take between its parts."""

    first_token: float
    idle: float
    name: ClockName = "first_token"  # the name of the first deadline


def _no_outlet(batch: bytes) -> bool:
    return False


class EventStream(Flowing):
    """The events of one answer in OpenAI's dialect as they arrive; an incomplete stream raises, it never just ends."""

    __slots__ = (
        "_began",
        "_broke",
        "_clock",
        "_ended",
        "_first_by",
        "_first_name",
        "_flows",
        "_idle",
        "_left",
        "_lingers",
        "_loop",
        "_outlet",
        "_pieces",
        "_reader",
        "_source",
        "_passed_at",
        "failure",
        "watch",
    )

    def __init__(self, source: Pieces, reader: Reader, watch: Watch, clock: Clock, waits: Waits) -> None:
        self._source = source
        self._pieces = source.__aiter__()
        self._reader = reader
        self.watch = watch
        self._clock = clock
        self._idle = waits.idle
        self._loop = asyncio.get_running_loop()
        self._first_by, self._first_name = self._loop.time() + waits.first_token, waits.name
        self._began = perf_counter()
        self._ended = False
        self._broke: SluiceError | None = None  # still to be raised
        self._lingers = False  # all events have come, but maybe not the end of the body
        self._flows = False  # content has come: batches may go to the outlet
        self._outlet: Outlet = _no_outlet
        self._left = b""  # what the outlet declined
        self._passed_at: float | None = None  # when it last took a batch
        self.failure: SluiceError | None = None  # the failure that ended it

    @property
    def complete(self) -> bool:
        """Whether the answer is complete."""
        return self.failure is None and self._ended and self.watch.complete

    def __aiter__(self) -> "EventStream":
        return self

    def flow(self, outlet: Outlet) -> None:
        """See Flowing; takes effect after the first content."""
        self._outlet = outlet
        if self._flows:
            self._open()

    @property
    def last_at(self) -> float | None:
        """See Flowing; events that the watch drops do not count."""
        return self._passed_at

    def _open(self) -> None:
        if self._outlet is not _no_outlet and isinstance(self._source, Body):
            self._source.pass_to(self._passed)
            self._clock.more = self._more

    def _more(self) -> float:
        """Seconds to extend the current wait by, since events have been passed on in the meantime."""
        return self._idle - (perf_counter() - (self.watch.last_at or self._began))

    def _passed(self, piece: bytes) -> bool:
        """Handles a piece that arrived while `__anext__` waits; returns whether that goes on waiting."""
        watch = self.watch
        batch = self._reader.feed(piece)
        seen = watch.see(batch) if batch else b""
        if not seen:
            self._clock.again(self._idle)
        elif watch.failure is not None or not self._outlet(seen):  # failures are handled by the reader
            self._left = seen
            return False
        else:
            self._passed_at = watch.last_at
        return not (watch.done and watch.lingers)

    async def __anext__(self) -> bytes:
        # A single coroutine without helpers, since it runs for every event of every stream.
        if self._ended:
            raise self._over()
        watch, clock = self.watch, self._clock
        try:
            while not (watch.done and watch.lingers):
                if self._flows:
                    clock.again(self._idle)
                else:
                    self._set_clock(watch, clock)
                try:
                    piece = await self._pieces.__anext__()
                except StopAsyncIteration:
                    return self._last()
                finally:
                    clock.at = None
                if piece:
                    batch = self._reader.feed(piece)
                    if batch and (seen := watch.see(batch)):
                        return seen
                elif self._left:
                    left, self._left = self._left, b""
                    return left
        except SluiceError as failure:
            return self._sound_before(failure)
        except httpx.HTTPError as error:
            return self._cut(translate_error(error))
        except asyncio.CancelledError:
            if name := clock.caught():
                return self._cut(timeout(name))
            raise
        self._stop()
        raise StopAsyncIteration

    def _set_clock(self, watch: Watch, clock: Clock) -> None:
        """Sets the deadline of the wait that begins now."""
        if watch.content_at is not None:
            clock.set("idle", self._idle)
            self._flows = True
            self._open()
        elif isinstance(self._source, Talk) and not self._source.running:
            self._source.set_clock()
        else:
            clock.set(self._first_name, self._first_by - self._loop.time())

    def _stop(self) -> None:
        """All events have come; whatever follows them is ignored."""
        self._ended = self._lingers = True
        self.failure = self.watch.failure
        if isinstance(self._source, Body):
            self._source.pass_to(None)

    def _cut(self, failure: SluiceError) -> bytes:
        """The bytes that end a stream whose connection broke or fell silent. Raises if the answer is incomplete."""
        if not self.watch.complete or isinstance(self.watch, RawWatch):
            raise self._broken(failure) from None
        try:
            return self._last()
        except SluiceError as failure:
            raise self._broken(failure) from None

    def _sound_before(self, failure: SluiceError) -> bytes:
        """The events received in one batch with a failure, which is raised next; at once if no content came yet."""
        broken, sound = self._broken(failure), self.watch.sound
        if not (self.watch.content_at is not None and sound):  # another target may still answer
            raise broken from None
        self._broke = broken
        return sound

    def _over(self) -> Exception:
        """The exception that ends iteration: a failure that is still to be raised, else StopAsyncIteration."""
        broke, self._broke = self._broke, None
        return broke or StopAsyncIteration()

    def _broken(self, failure: SluiceError) -> SluiceError:
        """The failure that ends this stream."""
        self._ended, self.failure = True, failure
        if isinstance(self.watch, ResponsesWatch):
            failure.number = self.watch.next_number
        silence = perf_counter() - (self.watch.last_at or self._began)
        if failure.again == "same" and silence > min(_LONG, self._idle / 4):
            failure.again = "next"  # silent before it broke: a silent upstream is not asked twice
        return failure

    def _last(self) -> bytes:
        """The bytes that end the stream. Raises upstream_truncated if it is incomplete."""
        self._ended = True
        rest = self._reader.finish()
        if rest and not rest.endswith((b"\n\n", b"\r\n\r\n")):
            rest += b"\n\n"  # its closing empty line is missing; half an event is not JSON, and is dropped
        seen = self._left + (self.watch.see(rest) if rest else b"")
        if not self.watch.complete:
            raise SluiceError(
                "upstream_truncated", "The upstream's stream ended before the answer was complete.", again="same"
            )
        self.failure = self.watch.failure
        if not self.watch.done:
            seen += DONE
        if not seen:
            raise StopAsyncIteration
        return seen

    async def aclose(self) -> None:
        """Closes it. An unread rest costs the connection, so the end of a complete body is waited for briefly."""
        try:
            if self._lingers:
                await self._linger()
        finally:
            self._ended, self._lingers = True, False
            await self._source.aclose()

    async def _linger(self) -> None:
        """Waits briefly for the end of the body; the client has its complete answer already."""
        try:
            async with asyncio.timeout(_LINGER):
                async for _ in self._pieces:
                    pass
        except (TimeoutError, httpx.HTTPError, SluiceError):
            pass  # the answer is complete; how the connection ended does not matter

"""One try at one target: a request out, and an answer that may be passed on, or the reason why not."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import httpx

from proxy.assembling import Assembler, as_stream
from proxy.call import Call, Headers
from proxy.clocks import Clock, timed
from proxy.errors import SluiceError
from proxy.policies.routes import Timeouts
from proxy.providers.contract import Answer, Order, Request, Talker, Target
from proxy.providers.openai_compatible import error_in_event
from proxy.sse import EventCutter
from proxy.upstream.border import translated
from proxy.upstream.client import Response
from proxy.upstream.sending import Upstreams
from proxy.upstream.talking import Patience, Talk
from proxy.upstream.wire import (
    MAX_WHOLE,
    EventStream,
    Pieces,
    RawWatch,
    Waits,
    Watch,
    Wire,
    carries_events,
    carries_json,
    read_whole,
)
from proxy.watch import ChatWatch, ResponsesWatch

Hold = Literal["nothing", "content", "all"]
_CHAT_LIKE = ("chat/completions", "completions")


class RawReader:
    """Passes a body on as it comes."""

    def feed(self, data: bytes) -> bytes:
        """The data."""
        return data

    def finish(self) -> bytes:
        """Nothing was held."""
        return b""


@dataclass(slots=True)
class Attempt:
    """One try. `status` is what the upstream answered with, 0 before it did."""

    upstreams: Upstreams
    call: Call
    order: Order
    timeouts: Timeouts
    clock: Clock
    count: Callable[[str], None]  # counts a request that is sent as an attempt
    status: int = 0
    changes: tuple[str, ...] = ()

    async def answer(self, hold: Hold) -> Wire:
        """The answer: whole, or a stream whose first events are there.

        `hold`: events that are kept back, since another target could still answer instead: none, those before the
        first with content, or all of them.
        Raises SluiceError with what may follow (`again`).
        """
        if not self.call.stream:
            if self.order.stream or isinstance(self.order.target.provider, Talker):
                return await self._assembled()
            return await timed(self.clock, "whole", self.timeouts.whole, self._whole())
        source, headers = await self._opened()
        try:
            return await self._streamed(source, headers, hold)
        except BaseException:
            await source.aclose()
            raise

    async def _whole(self) -> Wire:
        response, headers = await self._sent(self.order.target.provider.request(self.order))
        try:
            if not self.call.chat and not carries_json(headers):
                body = await self._read(response.stream)
            elif carries_events(headers) and self.call.endpoint in _CHAT_LIKE:
                body = await self._gathered(response.stream, self.clock.beside(self.timeouts.whole, "whole"))
            else:
                body = self.order.target.provider.whole(self.order, await self._read(response.stream))
        finally:
            await response.stream.aclose()
        return self._wire(headers, body)

    async def _assembled(self) -> Wire:
        """A whole answer from an upstream that is always asked by stream."""
        clock = self.clock.beside(self.timeouts.whole, "whole")
        source, headers = await self._opened()
        try:
            body = await self._gathered(source, clock)
        finally:
            await source.aclose()
        json = (b"content-type", b"application/json")
        return self._wire([*_without_type(headers), json], body)

    async def _gathered(self, source: Pieces, clock: Clock) -> bytes:
        never = Waits(self.timeouts.whole, self.timeouts.whole)  # the clock's own end comes first
        stream = EventStream(source, self.order.target.provider.reader(self.order), self._watch(False), clock, never)
        gathered, asked = Assembler(), perf_counter()
        try:
            async for batch in stream:
                gathered.add(batch)
        finally:
            clock.close()
            self.call.trace.waited += perf_counter() - asked
        note(self.call, stream.watch)
        return gathered.whole()

    async def _opened(self) -> tuple[Pieces, Headers]:
        """The body of an answer that is to be streamed, once its head is there."""
        provider = self.order.target.provider
        if isinstance(provider, Talker):
            self.status = 200
            self.count(self.order.target.upstream)
            talk = Talk(provider, self.order, self._ask, self.upstreams.later)
            wait = float(self.order.target.options.get("job_wait", self.timeouts.total))
            talk.timed(self.clock, Patience(wait, self.timeouts.first_token))
            return talk, [(b"content-type", b"text/event-stream")]
        request = provider.request(self.order)
        response, headers = await timed(self.clock, "first_token", self.timeouts.first_token, self._sent(request))
        return response.stream, headers

    async def _streamed(self, source: Pieces, headers: Headers, hold: Hold) -> Wire:
        provider = self.order.target.provider
        if carries_events(headers):
            reader = provider.reader(self.order) if self.call.endpoint in _CHAT_LIKE else EventCutter()
            stream = EventStream(source, reader, self._watch(True), self.clock, self._waits())
        elif self.call.chat or carries_json(headers):
            body = provider.whole(self.order, await timed(self.clock, "whole", self.timeouts.whole, self._read(source)))
            await source.aclose()
            if not self.call.chat:
                return self._wire(headers, body)
            events = (b"content-type", b"text/event-stream")
            return self._wire([*_without_type(headers), events], None, as_stream(body))
        else:
            stream = EventStream(source, RawReader(), RawWatch(), self.clock, self._waits())
        return self._wire(headers, None, await self._head(stream, hold), stream)

    def _wire(self, headers: Headers, body: bytes | None, head: bytes = b"", stream: EventStream | None = None) -> Wire:
        return Wire(self.order.target, self.status, headers, body, head, stream, self.changes)

    async def _head(self, stream: EventStream, hold: Hold) -> bytes:
        """The first events: as many as are to be held."""
        head, size, asked = [], 0, perf_counter()
        async for batch in stream:
            head.append(batch)
            size += len(batch)
            if hold == "nothing" or (hold == "content" and stream.watch.content_at is not None):
                break
            if size > MAX_WHOLE:
                raise SluiceError("upstream_malformed", "The upstream's answer is unreasonably large.", again="next")
        self.call.trace.waited += perf_counter() - asked
        return b"".join(head)

    def _watch(self, streamed: bool) -> Watch:
        if self.call.endpoint in _CHAT_LIKE:
            own = self.order.target.provider.usage != "unasked" and not self.call.wants_usage
            return ChatWatch(error_in_event, own and streamed)
        return ResponsesWatch() if self.call.endpoint == "responses" else RawWatch()

    def _waits(self) -> Waits:
        return Waits(self.timeouts.first_token, self.timeouts.idle)

    async def _sent(self, request: Request) -> tuple[Response, Headers]:
        """The head of a 2xx answer. Raises what any other one means."""
        target = self.order.target
        self.changes = request.changes
        asked = perf_counter()
        self.count(target.upstream)
        try:
            response = await self.upstreams.send(target, request, self.timeouts.connect)
        finally:
            self.call.trace.waited += perf_counter() - asked
        self.status = response.status_code
        headers = response.headers
        if 200 <= self.status < 300:
            return response, headers
        try:
            body = await self._read(response.stream)
        finally:
            await response.stream.aclose()
        raise target.provider.failure(self.status, headers, body)

    async def _ask(self, target: Target, request: Request, first: bool) -> Answer:
        """A request of a conversation; the first one is the attempt."""
        send = self.upstreams.send if first else self.upstreams.ask
        response = await send(target, request, self.timeouts.connect)
        try:
            return Answer(response.status_code, response.headers, await self._read(response.stream))
        finally:
            await response.stream.aclose()

    async def _read(self, source: Pieces) -> bytes:
        asked = perf_counter()
        try:
            return await read_whole(source)
        except httpx.HTTPError as error:
            raise translated(error, self.order.target.upstream) from None
        finally:
            self.call.trace.waited += perf_counter() - asked


def note(call: Call, watch: Watch) -> None:
    """Keeps with the call what its watched stream has said; of several streams, what they said together."""
    trace = call.trace
    if trace.content_at is None:
        trace.content_at = watch.content_at
    trace.last_at = watch.last_at
    trace.malformed += watch.malformed
    if watch.usage is not None:
        trace.usage = watch.usage.and_also(trace.usage)


def _without_type(headers: Headers) -> Headers:
    return [(name, content) for name, content in headers if name != b"content-type"]

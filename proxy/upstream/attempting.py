"""One attempt at one target: sends the request, and returns an answer that may be passed on, or raises."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter

from proxy.assembling import Assembler, as_stream
from proxy.call import CHAT_LIKE, STREAMED, Call, Headers
from proxy.clocks import Clock, ClockName
from proxy.errors import SluiceError
from proxy.headers import of_type, to_client
from proxy.instruments import Numbers
from proxy.policies.routes import Timeouts
from proxy.policies.runs import Hold
from proxy.providers.contract import Answer, Order, Reader, Request, Talker, Target
from proxy.responding import response_events, response_in
from proxy.upstream.bodies import (
    MAX_WHOLE,
    Pieces,
    RawReader,
    carries_events,
    is_vague,
    note_whole,
    peeked,
    read_whole,
    says_event_stream,
    to_be_read,
    too_large,
    without_choices,
)
from proxy.upstream.client import Response
from proxy.upstream.sending import Upstreams
from proxy.upstream.streaming import EventStream, Waits
from proxy.upstream.talking import Patience, Talk
from proxy.upstream.wire import Wire
from proxy.watch import ChatWatch, RawWatch, ResponsesWatch, Watch, note_stream

Outcome = Wire | SluiceError
Tries = Callable[[Order, Clock, Hold], Awaitable[Outcome]]
"""Makes attempts at one target, with the route's retries."""

_JSON = b"application/json"
_EVENTS = b"text/event-stream"
_SAID_BY_US = frozenset(
    (b"content-type", b"content-encoding", b"content-language", b"cache-control", b"etag", b"www-authenticate")
    + (b"retry-after", b"retry-after-ms", b"x-should-retry")
)  # headers of an error response that describe its body, or that our own error sets


@dataclass  # no slots, so that fields with defaults cost nothing to create
class Attempt:
    """One attempt. `status`: of the upstream's answer, the last one if there were several requests; 0: none yet."""

    upstreams: Upstreams
    call: Call
    order: Order
    timeouts: Timeouts
    clock: Clock
    sent: Numbers  # attempts by upstream, counted when the request is sent
    status: int = field(default=0, init=False)
    changes: tuple[str, ...] = field(default=(), init=False)
    asked: float = field(default=0.0, init=False)  # when the current wait began; 0: not waiting

    def answer(self, hold: Hold) -> Awaitable[Wire]:
        """The answer: whole, or a stream whose first events have arrived.

        `hold`: which events of a stream are held back, since another target could still answer instead. Raises
        SluiceError, whose `again` says what may be tried next, and CancelledError if the clock ends the wait.
        """
        if self.call.stream or self.call.endpoint == "audio/speech":  # played while it is generated
            return self._streamed(hold)
        if self.order.stream or isinstance(self.order.target.provider, Talker):
            return self._assembled()
        return self._whole()

    async def _whole(self) -> Wire:
        provider, call = self.order.target.provider, self.call
        self.clock.set("whole", self.timeouts.whole)
        response = await self._sent(provider.request(self.order))
        headers, body = self._head_of(response), response.body
        if headers is None:
            raise await self._refusal(response)
        try:
            if not (is_read := to_be_read(headers)):
                source, headers = await self._typed(response.stream, headers)
                is_read = to_be_read(headers)
                if not is_read and carries_events(headers) and call.endpoint in STREAMED:
                    return self._wire(of_type(headers, _JSON), await self._gathered(source))
                body = await self._read(source)
            elif body is None:
                body = await self._read(response.stream)
            if is_read or call.chat or not body:  # an empty body (a 204) is not an answer on any endpoint
                body = provider.whole(self.order, body)
                note_whole(call, provider, body)
        finally:
            if response.coming is not None:
                await response.coming.aclose()
        return self._wire(headers, body)

    async def _assembled(self) -> Wire:
        """A whole answer from an upstream that is always asked for a stream."""
        source, headers = await self._opened("whole", self.timeouts.whole)
        try:
            source, headers = await self._typed(source, headers)
            if carries_events(headers):
                body = await self._gathered(source)
            else:  # an error with status 200, or a page of a middlebox
                provider = self.order.target.provider
                body = provider.whole(self.order, await self._read(source))
                note_whole(self.call, provider, body)
        finally:
            await source.aclose()
        return self._wire(of_type(headers, _JSON), body)

    async def _gathered(self, source: Pieces) -> bytes:
        """The events of a stream as one whole answer, within the time limit for whole answers."""
        clock = self.clock.beside(self.timeouts.whole, "whole")
        unused = Waits(self.timeouts.whole, self.timeouts.whole)  # the clock ends before them
        stream = EventStream(source, self._reader(), self._watch(False), clock, unused)
        gathered, asked = Assembler(), perf_counter()
        try:
            async for batch in stream:
                if self.call.endpoint in CHAT_LIKE:
                    gathered.add(batch)
        finally:
            clock.close()
            self.call.trace.waited += perf_counter() - asked
        watch = stream.watch
        if watch.failure is not None:  # of the Responses API
            raise watch.failure
        if isinstance(watch, ResponsesWatch):
            body = response_in(watch.terminal, watch.content_at is not None)
        elif gathered.empty:
            raise without_choices()
        else:
            body = gathered.whole()
        note_stream(self.call, watch)  # last, since the usage of an invalid answer would count for the next target
        return body

    async def _opened(self, name: ClockName, seconds: float) -> tuple[Pieces, Headers]:
        """The body and headers of a streamed answer, once its head has arrived."""
        provider = self.order.target.provider
        if isinstance(provider, Talker):
            talk = Talk(provider, self.order, self._ask, self.upstreams.later)
            wait = float(self.order.target.options.get("job_wait", self.timeouts.total))
            talk.timed(self.clock, Patience(wait, name, seconds))
            return talk, of_type([], _EVENTS)
        self.clock.set(name, seconds)
        response = await self._sent(provider.request(self.order))
        headers = self._head_of(response)
        if headers is None:
            raise await self._refusal(response)
        return response.stream, headers

    async def _typed(self, source: Pieces, headers: Headers) -> tuple[Pieces, Headers]:
        """The body, and headers with a reliable content type."""
        if self.call.endpoint not in STREAMED or not is_vague(headers) or self.order.target.provider.lines:
            return source, headers
        self.asked = perf_counter()
        body = await peeked(source, self.order.target.upstream)
        self.waited()
        return body, of_type(headers, _JSON if body.holds_one_answer else _EVENTS)

    async def _streamed(self, hold: Hold) -> Wire:
        waits = self._waits()
        source, headers = await self._opened(waits.name, waits.first_token)
        try:
            return await self._begun(source, headers, hold)
        except BaseException:
            await source.aclose()
            raise

    async def _begun(self, source: Pieces, headers: Headers, hold: Hold) -> Wire:
        provider = self.order.target.provider
        source, headers = await self._typed(source, headers)
        # Audio is not parsed as events unless it says so: an event reader would hold it back, and add lines to it.
        if carries_events(headers) and (self.call.endpoint != "audio/speech" or says_event_stream(headers)):
            stream = EventStream(source, self._reader(), self._watch(True), self.clock, self._waits())
            if not says_event_stream(headers):  # another dialect, which the reader translates
                headers = of_type(headers, _EVENTS)
        elif self.call.chat or to_be_read(headers):
            self.clock.set("whole", self.timeouts.whole)
            body = provider.whole(self.order, await self._read(source))
            await source.aclose()
            if self.call.endpoint not in STREAMED:
                note_whole(self.call, provider, body)
                return self._wire(headers, body)
            events = response_events(body) if self.call.endpoint == "responses" else as_stream(body)
            watch = self._watch(True)
            events = watch.see(events)  # drops usage that the client did not ask for
            if watch.failure is not None:  # of the Responses API
                raise watch.failure
            note_whole(self.call, provider, body)
            return self._wire(of_type(headers, _EVENTS), None, events)
        else:
            stream = EventStream(source, RawReader(), RawWatch(), self.clock, self._waits())
        return self._wire(headers, None, await self._head(stream, hold), stream)

    def _wire(self, headers: Headers, body: bytes | None, head: bytes = b"", stream: EventStream | None = None) -> Wire:
        return Wire(self.order.target, self.status, headers, body, head, stream, self.changes)

    async def _head(self, stream: EventStream, hold: Hold) -> bytes:
        """The first events, as many as `hold` demands. Raises the failure that they report, and upstream_malformed."""
        head, size = [], 0
        self.asked = perf_counter()
        async for batch in stream:
            head.append(batch)
            size += len(batch)
            if stream.watch.failure is not None and (hold == "all" or stream.watch.content_at is None):
                raise stream.watch.failure  # nothing has been sent to the client
            if hold == "nothing" or (hold == "content" and stream.watch.content_at is not None):
                break
            if size > MAX_WHOLE:
                raise too_large()
        self.waited()
        if not head:
            raise SluiceError("upstream_malformed", "The upstream's answer is empty.", again="next")
        return b"".join(head)

    def _reader(self) -> Reader:
        provider = self.order.target.provider
        return (provider.reader if self.call.endpoint in CHAT_LIKE else provider.passing)(self.order)

    def _watch(self, streamed: bool) -> Watch:
        provider = self.order.target.provider
        if self.call.endpoint in CHAT_LIKE:
            own = provider.usage != "unasked" and not self.call.wants_usage
            return ChatWatch(provider.failure_in, own and streamed, self.order.choices)
        return ResponsesWatch(provider.failure_in) if self.call.endpoint == "responses" else RawWatch()

    def _waits(self) -> Waits:
        if self.call.stream:
            return Waits(self.timeouts.first_token, self.timeouts.idle)
        return Waits(self.timeouts.whole, self.timeouts.idle, "whole")

    def _sent(self, request: Request) -> Awaitable[Response]:
        """Sends the request and waits for the head of the answer."""
        target = self.order.target
        self.changes = request.changes
        self.sent[target.upstream].value += 1
        self.asked = perf_counter()
        return self.upstreams.send(target, request, self.timeouts.connect)

    def _head_of(self, response: Response) -> Headers | None:
        """The headers of a 2xx answer; None: another status, see `_refusal`."""
        self.waited()
        self.status = status = response.status_code
        return response.headers if 200 <= status < 300 else None

    def waited(self) -> None:
        """Adds the wait that began at `asked` to the trace."""
        if self.asked:
            self.call.trace.waited += perf_counter() - self.asked
            self.asked = 0.0

    async def _refusal(self, response: Response) -> SluiceError:
        """The error for an answer outside 2xx."""
        target, status, headers = self.order.target, response.status_code, response.headers
        try:
            body = await self._read(response.stream)
        finally:
            if response.coming is not None:
                await response.coming.aclose()
        failure = target.provider.failure(status, headers, body)
        failure.lines = [line for line in to_client(headers) if line[0] not in _SAID_BY_US]
        if status in (404, 405, 501) and not self.call.chat and failure.code == "upstream_error":
            text = f"The upstream {target.upstream} has no /v1/{self.call.endpoint}: it answered with status {status}."
            return SluiceError("endpoint_not_supported", text, again="next")
        return failure

    async def _ask(self, target: Target, request: Request, first: bool) -> Answer:
        """Sends one request of a Talker's exchange; the first one counts as the attempt.

        The wait is counted by the reader of its events.
        """
        if first:
            self.changes = request.changes
            self.sent[target.upstream].value += 1
        send = self.upstreams.send if first else self.upstreams.ask
        response = await send(target, request, self.timeouts.connect)
        self.status = response.status_code
        try:
            body = await read_whole(response.stream, target.upstream)
            return Answer(response.status_code, response.headers, body)
        finally:
            await response.stream.aclose()

    async def _read(self, source: Pieces) -> bytes:
        asked = perf_counter()
        try:
            return await read_whole(source, self.order.target.upstream)
        finally:
            self.call.trace.waited += perf_counter() - asked

"""Sends a reply, or a failure, as HTTP; a silent stream gets comment lines meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from functools import lru_cache
from time import perf_counter

from starlette.types import Scope, Send

from proxy.call import Call, Headers
from proxy.errors import SluiceError
from proxy.headers import value
from proxy.reply import DIRECT, BrokenOff, Direct, Flowing, Reply

PING = b": ping\n\n"
_EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
_NO_BUFFERING = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
_TOLD_LATER = frozenset((b"x-sluice-upstream", b"x-sluice-model", b"x-sluice-attempts", b"server-timing"))


class Responder:
    """One HTTP response being sent.

    The head is sent as late as possible, so that a failure still has its own status.
    """

    # Defaults are class attributes, so that making an instance costs next to nothing.
    started = False
    _over = False  # the end of the body has been sent
    _timer: asyncio.TimerHandle | None = None
    _beat: asyncio.Task[None] | None = None
    _last = 0.0
    _flows: Flowing | None = None  # a stream that sends to the server directly
    _events = True  # an event stream: comments and errors can be inserted
    _knows = False  # the client knows which upstream answers

    def __init__(self, scope: Scope, send: Send, call: Call, ping: float) -> None:
        self._scope, self._send, self._call = scope, send, call
        self._ping = ping  # seconds of silence before a comment line
        if call.stream and call.endpoint != "audio/speech":  # whose streams are not events
            self._last = call.began
            self._timer = asyncio.get_running_loop().call_later(ping, self._silent)

    # Methods that only pick a coroutine are not coroutines themselves, which would cost another step per await. What
    # they return is to be awaited; None: already done.

    def reply(self, reply: Reply) -> Awaitable[None] | None:
        """Sends a reply, whole or as a stream; a stream that breaks ends with an error event."""
        if reply.stream is not None:
            return self._stream(reply, reply.stream)
        return self._whole(reply.status, reply.headers, reply.body or b"")

    def fail(self, failure: SluiceError) -> Awaitable[None] | None:
        """Sends a failure: with its status, or as an event after the head.

        Raises BrokenOff where no event is possible.
        """
        if self.started:
            if not self._events:
                raise BrokenOff
            return self._body((b"" if self._knows else self._receipt_comment()) + self._event(failure), more=False)
        headers = [(b"content-type", b"application/json"), *failure.headers()]
        return self._whole(failure.status, headers, failure.body())

    def close(self) -> None:
        """Stops the comments."""
        if self._timer is not None:
            self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()

    def _whole(self, status: int, headers: Headers, body: bytes) -> Awaitable[None] | None:
        if self.started:  # the head has been sent with a comment: the rest can only be an event
            return self._body(
                self._receipt_comment() + b"data: " + b"\ndata: ".join(body.split(b"\n")) + b"\n\n", more=False
            )
        self.started = True
        return send_whole(self._scope, self._send, status, with_receipt(headers, self._call), body)

    async def _stream(self, reply: Reply, stream: AsyncIterator[bytes]) -> None:
        if self.started:
            await self._body(self._receipt_comment(), more=True)
        else:
            if not (value(reply.headers, b"content-type") or b"").lower().startswith(b"text/event-stream"):
                self._events = False
                self.close()
            await self._head(reply.status, with_receipt([*reply.headers, *_NO_BUFFERING], self._call))
        self._knows = True
        direct: Direct | None = self._scope.get(DIRECT)
        if direct is not None and isinstance(stream, Flowing):
            self._flows = stream
            stream.flow(direct.push)
        send = self._send
        try:
            async for batch in stream:
                await send({"type": "http.response.body", "body": batch, "more_body": True})
                self._last = perf_counter()
        except SluiceError as failure:
            if not self._events:
                raise
            await self._body(self._event(failure), more=False)
        else:
            await self._body(b"", more=False)

    async def _head(self, status: int, headers: Headers) -> None:
        self.started = True
        self._call.trace.head = status
        lines = [*headers, *self._scope.get("sluice.extra", ())]
        await self._send({"type": "http.response.start", "status": status, "headers": lines})

    async def _body(self, data: bytes, more: bool) -> None:
        self._last, self._over = perf_counter(), not more
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    def _event(self, failure: SluiceError) -> bytes:
        """A failure as an event of the API that was called."""
        return failure.responses_event() if self._call.endpoint == "responses" else failure.event()

    def _receipt_comment(self) -> bytes:
        """Upstream, model and attempts as a comment, where the head was sent before they were known."""
        trace = self._call.trace
        return (
            f": sluice upstream={_plain(trace.upstream)} model={_plain(trace.model)}"
            f" attempts={','.join(trace.attempts)}\n\n"
        ).encode()

    def _silent(self) -> None:
        """Timer callback: sends a comment after enough silence, and re-arms itself."""
        passed = self._flows.last_at if self._flows is not None else None
        rest = max(self._last, passed or 0.0) + self._ping - perf_counter()
        if rest <= 0.001:
            if self._beat is None or self._beat.done():  # else the client reads nothing
                self._beat = asyncio.get_running_loop().create_task(self._comment())
            rest = self._ping
        self._timer = asyncio.get_running_loop().call_later(rest, self._silent)

    async def _comment(self) -> None:
        if not self.started:
            known = [line for line in receipt(self._call) if line[0] not in _TOLD_LATER]  # no upstream has answered yet
            await self._head(200, [_EVENT_STREAM, *_NO_BUFFERING, *known])
        if not self._over:  # the answer may have ended while the head was sent
            await self._body(PING, more=True)


def send_whole(scope: Scope, send: Send, status: int, lines: Headers, body: bytes) -> Awaitable[None] | None:
    """Sends a whole response with its CORS headers; returns None if the server took it at once, else an awaitable.

    `lines`: without content-length. A HEAD request gets no body.
    """
    if extra := scope.get("sluice.extra"):
        lines += extra
    direct: Direct | None = scope.get(DIRECT)
    if direct is not None and direct.whole(status, lines, body):
        return None
    lines = [*lines, (b"content-length", b"%d" % len(body))]
    return _in_two(send, status, lines, b"" if scope.get("method") == "HEAD" else body)


async def _in_two(send: Send, status: int, lines: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


def with_receipt(headers: Headers, call: Call) -> Headers:
    """The headers of an answer plus those of `receipt`.

    The client key's rate limits replace the upstream's, which are ours.
    """
    quota = call.trace.quota
    if quota:
        ours = {name for name, _ in quota}
        headers = [line for line in headers if line[0] not in ours]
    return [*headers, *receipt(call)]


def receipt(call: Call) -> Headers:
    """What was chosen and done for a call, as response headers."""
    trace = call.trace
    if not trace.route:
        return [(b"x-request-id", call.id.encode()), *trace.quota]
    overhead = trace.overhead if trace.overhead is not None else perf_counter() - call.began - trace.waited
    return [
        (b"x-request-id", call.id.encode()),
        *chosen(trace.route, trace.upstream, trace.model, trace.attempts, trace.cache, trace.changes),
        (b"server-timing", b"proxy;dur=%.3f, upstream;dur=%.3f" % (max(0.0, overhead) * 1e3, trace.waited * 1e3)),
        *trace.quota,
    ]


@lru_cache(maxsize=4096)
def chosen(
    route: str, upstream: str, model: str, attempts: tuple[str, ...], cache: str, changes: tuple[str, ...]
) -> Headers:
    """The header lines that many calls share; without those of the upstream where none was asked."""
    asked = [(b"x-sluice-upstream", header(upstream)), (b"x-sluice-model", header(model))] if upstream else []
    return [
        (b"x-sluice-route", header(route)),
        *asked,
        (b"x-sluice-attempts", ",".join(attempts).encode()),
        (b"x-sluice-cache", cache.encode()),
        (b"x-sluice-changes", header(", ".join(changes))),
    ]


def header(text: str) -> bytes:
    """A text as a header value."""
    return _plain(text).encode()


def _plain(text: str) -> str:
    """A text as it may appear in a header or comment: printable ASCII, limited in length."""
    if text.isascii() and text.isprintable() and len(text) <= 500:
        return text
    return "".join(each if each.isascii() and each.isprintable() else "?" for each in text[:500])

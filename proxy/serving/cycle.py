"""One request and its response: `receive` and `send` of the ASGI app, and the handling of its exceptions."""

import asyncio
import logging
import traceback
from typing import Final, Literal, Protocol

from starlette.types import ASGIApp, Message, Scope
from uvicorn.server import ServerState

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.headers import request_id
from proxy.reply import DIRECT, BrokenOff
from proxy.serving.heads import response_head

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
COMMENT_CHUNK: Final = b"4\r\n: \n\n\r\n"
"""A comment of an event stream as one chunk; clients skip it."""
LAST_CHUNK: Final = b"0\r\n\r\n"
UNTIL_CLOSE: Final = -1
"""Instead of a number of bytes: the body ends with the connection (HTTP/1.0 without a length)."""

logger = logging.getLogger(__name__)


class Connection(Protocol):
    """The interface of the connection that a cycle uses."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    server_state: ServerState  # its default headers are sent with every response
    write_paused: bool

    def resume_reading(self) -> None:
        """Reads on, since the app waits for the body."""

    async def writable(self) -> None:
        """Waits until the write buffer has room."""

    def answered(self, cycle: "Cycle") -> None:
        """The cycle's response is complete."""

    def answer(self, error: SluiceError, headers: Headers) -> None:
        """Writes the error as the whole answer to the request with these headers, and ends the connection."""


class Cycle:
    """One request, the task of the app, and the response.

    `receive` returns the whole body in one message. `send` delays the head until the first piece of the body, or the
    loop's next iteration, and writes both at once. `take`, `whole` and `push` do the same without ASGI messages
    (reply.Direct). When the client leaves, the app's task is cancelled.
    """

    # Defaults are class attributes, which makes an instance cheap.
    cancelled: Literal["", "left", "draining"] = ""  # why the app's task was cancelled; "": it was not
    error: SluiceError | None = None  # see cancel
    task: asyncio.Task[None] | None = None
    body: bytes | bytearray = b""
    more_body = True
    wanted = False  # the app waits for the body
    started = False  # the app has sent the head
    complete = False
    event_stream = False  # a chunked text/event-stream: comments may be inserted between two sends
    _head = b""  # not written yet
    _flush: asyncio.Handle | None = None
    _taken = False  # the app has received the body
    _bodyless = False
    _chunked = False
    _chunking = False  # the head is written, and only further chunks follow
    _owed = 0  # bytes of the body still to come, or UNTIL_CLOSE
    _waiter: asyncio.Future[None] | None = None

    def __init__(self, scope: Scope, connection: Connection, keep_alive: bool, wants_continue: bool) -> None:
        self.scope = scope
        self.connection = connection
        self.keep_alive = keep_alive
        self.wants_continue = wants_continue

    # Called by the connection

    def feed(self, piece: bytes) -> int:
        """Adds a piece of the request's body; returns the number of bytes buffered."""
        if not self.body:
            self.body = piece  # most bodies come in one piece and are never copied
        else:
            if isinstance(self.body, bytes):
                self.body = bytearray(self.body)
            self.body += piece
        return len(self.body)

    def feed_eof(self) -> None:
        """Marks the request's body as complete."""
        self.more_body = False
        self._wake()

    @property
    def holds_body(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body."""
        return self.wants_continue and not self.started

    def cancel(self, reason: Literal["left", "draining"], error: SluiceError | None = None) -> None:
        """Cancels the app's task, and through it everything that the call started.

        While draining, the app may still send an error. `error`: for a client that is still there; the argument of the
        task's CancelledError.
        """
        if self.complete or self.cancelled:
            return
        self.cancelled, self.error = reason, error
        self.complete, self.keep_alive = reason == "left", False
        self._wake()
        if self.task is not None:
            self.task.cancel(error)

    def probe(self) -> None:
        """Writes bytes that a waiting client skips, where the protocol allows any at this point."""
        if self.complete:
            return
        if not self.started:
            if self.scope["http_version"] == "1.1":
                self.connection.transport.write(CONTINUE)
        elif self.event_stream:
            self._flush_head()
            self.connection.transport.write(COMMENT_CHUNK)

    # Called by the app

    async def run(self, app: ASGIApp) -> None:
        """Runs the app for this request.

        The outermost exception handler: it lets no exception pass, and never sends or logs an exception's text.
        """
        cause = ""
        task = self.task
        assert task is not None
        self.scope[DIRECT] = self
        self.connection.server_state.tasks.add(task)  # the loop has only weak references; the server waits for them
        try:
            await app(self.scope, self.receive, self.send)
            if not self.complete and not self.cancelled:
                cause = "the app returned before its response was complete"
        except asyncio.CancelledError:
            if not self.cancelled:
                cause = "the app was cancelled by itself"
        except BrokenOff:
            pass
        except Exception as error:
            # Without the exception's text, which may quote the request.
            cause = f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
        finally:
            self.connection.server_state.tasks.discard(task)
            del self.scope[DIRECT]  # breaks the reference cycle with the scope
        if cause:
            logger.error("request %s failed: %s", request_id(self.scope["headers"]), cause)
        if not self.complete and self.cancelled != "left":
            self._break_off()

    async def receive(self) -> Message:
        """`http.request` with the whole body, once it has arrived; after that `http.disconnect`, when it happens."""
        if self.more_body and not self.complete and not self.cancelled:
            if self.holds_body:
                self.connection.transport.write(CONTINUE)
            self.wants_continue = False
            self.wanted = True
            self.connection.resume_reading()
            await self._wait()
        elif self._taken and not self.complete and not self.cancelled:
            await self._wait()
        if (body := self.take()) is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": False}

    def take(self) -> bytes | None:
        """See Direct."""
        if self.more_body or self._taken or self.complete or self.cancelled:
            return None
        body, self.body, self._taken = self.body, b"", True
        return body if isinstance(body, bytes) else bytes(body)

    async def send(self, message: Message) -> None:
        """Sends the head, then the body in any number of pieces. Raises RuntimeError for messages out of order."""
        connection = self.connection
        if connection.write_paused and not self.cancelled:
            await connection.writable()
        if self.cancelled == "left":
            return
        if not self.started:
            if message["type"] != "http.response.start":
                raise RuntimeError(f"{message['type']} before http.response.start")
            self._start(message["status"], message.get("headers", []))
            self._flush = connection.loop.call_soon(self._flush_head)
            return
        if self._chunking and message["type"] == "http.response.body" and (data := message.get("body")):
            if message.get("more_body"):
                connection.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
                return
        if self.complete or message["type"] != "http.response.body":
            state = "complete" if self.complete else "started"
            raise RuntimeError(f"{message['type']} after the response was {state}")
        more = message.get("more_body", False)
        data = self._frame(message.get("body", b""), more)
        if self._head:
            data = self._taken_head() + data
        if data:
            connection.transport.write(data)
        if not more:
            self._finish()

    def push(self, data: bytes) -> bool:
        """See Direct."""
        connection = self.connection
        if not self._chunking or connection.write_paused or self.cancelled:
            return False
        connection.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def whole(self, status: int, headers: Headers, body: bytes) -> bool:
        """See Direct."""
        connection = self.connection
        if self.started or self.cancelled or connection.write_paused:
            return False
        self._note_unread()
        framing = b"content-length: %d\r\n\r\n" % len(body)
        if status < 200 or status == 204 or status == 304:
            framing, body = b"\r\n", b""
        elif self.scope["method"] == "HEAD":
            body = b""
        if not self.keep_alive:
            framing = b"connection: close\r\n" + framing
        self.started = True
        head = response_head(status, [*connection.server_state.default_headers, *headers])
        connection.transport.write(b"".join((head, framing, body)))
        self._finish()
        return True

    def _note_unread(self) -> None:
        if self.wants_continue and self.more_body:
            self.keep_alive = False  # the client may or may not send the body that was not asked for

    def _taken_head(self) -> bytes:
        head, self._head = self._head, b""
        self._chunking = self._chunked
        if self._flush is not None:
            self._flush.cancel()
        return head

    def _finish(self) -> None:
        self.complete, self._chunking = True, False
        self._wake()
        self.connection.answered(self)

    def _start(self, status: int, headers: Headers) -> None:
        fields = dict(headers)
        length = fields.get(b"content-length")
        framing = b"\r\n"
        self._note_unread()
        if status < 200 or status == 204 or status == 304 or self.scope["method"] == "HEAD":
            self._bodyless = True
        elif length is not None:
            self._owed = int(length)
        elif self.scope["http_version"] == "1.1":
            self._chunked = True
            self.event_stream = fields.get(b"content-type", b"").lower().startswith(b"text/event-stream")
            if b"transfer-encoding" not in fields:
                framing = b"transfer-encoding: chunked\r\n\r\n"
        else:
            self._owed = UNTIL_CLOSE
            self.keep_alive = False
        if b"connection" in fields:
            self.keep_alive = self.keep_alive and b"close" not in fields[b"connection"].lower()
        elif not self.keep_alive:
            framing = b"connection: close\r\n" + framing
        self._head = response_head(status, [*self.connection.server_state.default_headers, *headers]) + framing
        self.started = True

    def _frame(self, data: bytes, more: bool) -> bytes:
        if self._bodyless:
            return b""
        if self._chunked:
            if data:
                return b"%x\r\n%b\r\n" % (len(data), data) if more else b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
            return b"" if more else LAST_CHUNK
        if self._owed != UNTIL_CLOSE:
            self._owed -= len(data)
            if self._owed < 0 or (self._owed and not more):
                raise RuntimeError("the body is not as long as its content-length")
        return data

    def _flush_head(self) -> None:
        if self._head and not self.connection.transport.is_closing():
            self.connection.transport.write(self._head)
        self._head = b""
        self._chunking = self._chunked and not self.complete

    def _break_off(self) -> None:
        error = self.error or SluiceError("proxy_internal", "The proxy failed; see its log.")
        if not self.started or self._head:
            self._head = b""
            self.started = self.complete = True
            self._wake()
            self.connection.answer(error, self.scope["headers"])
        else:
            self.connection.transport.abort()  # only a broken connection shows that the answer is incomplete

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("receive() is awaited already")
        self._waiter = self.connection.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

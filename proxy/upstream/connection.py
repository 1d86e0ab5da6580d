"""One socket to an upstream, carrying one request and response at a time."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import httpx

from proxy.upstream.parsing import ResponseParser

MAX_READ: Final = 64 * 1024  # bytes read from one socket per iteration of the event loop, so that none starves others
HIGH_WATER: Final = 256 * 1024  # unread bytes above which reading pauses; the rest stays in the kernel
JOINED: Final = 64 * 1024  # largest body in bytes that is copied behind the head: cheaper than a second buffer


class BoundedReader(asyncio.BufferedProtocol):
    """Reads for a connection that receives data faster than it is processed: at most MAX_READ bytes at a time."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._scratch = memoryview(bytearray(MAX_READ))

    def get_buffer(self, sizehint: int) -> memoryview:
        """The buffer for the next read."""
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Passes the received bytes to the connection."""
        self._connection.data_received(self._scratch[:nbytes].tobytes())

    def eof_received(self) -> None:
        """Passes the end of input to the connection."""
        self._connection.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """Passes the loss to the connection."""
        self._connection.connection_lost(error)


class Connection(asyncio.Protocol):
    """Sends a request, receives the response and buffers its body until it is read.

    By itself libuv drains a full socket before it reads the next: 50 ms for 4 MB of events. So a connection that
    delivered MAX_READ bytes at once pauses until the loop's next iteration, and is read by a BoundedReader for the rest
    of that response.

    Callers use `exchange`, then `read_available` and `readable` in turn, then `release` or `abort`. There is at most
    one waiter, and each await may be cancelled: a connection with half a response is never reused.
    """

    __slots__ = (
        "parser",
        "exchanges",
        "response_begun",
        "closed",
        "_on_lost",
        "_bounded",
        "_loop",
        "_transport",
        "_head_waiter",
        "_body_waiter",
        "_taker",
        "_error",
        "_buffered",
        "_paused",
        "_busy",
    )

    def __init__(self, lost: "Callable[[Connection], None]") -> None:
        self.parser = ResponseParser()
        self.exchanges = 0  # begun so far
        self.response_begun = False  # a byte of the current response has arrived
        self.closed = False  # nothing more will arrive
        self._on_lost = lost
        self._bounded = False  # read by a BoundedReader
        self._loop = asyncio.get_running_loop()
        self._head_waiter: asyncio.Future[None] | None = None
        self._body_waiter: asyncio.Future[bool] | None = None  # True: the taker got the bytes
        self._taker: Callable[[bytes], bool] | None = None  # see pass_to
        self._error: httpx.TransportError | None = None
        self._buffered = 0  # bytes received since the last read
        self._paused = False
        self._busy = False

    def exchange(self, head: bytes, body: bytes, bodiless: bool = False) -> "asyncio.Future[None]":
        """Sends one request; the future is done once the response's head has arrived (`parser.status`, `.headers`).

        It fails with httpx.ReadError, WriteError or RemoteProtocolError. After that, and if the wait is cancelled, the
        connection must be aborted.
        """
        self._busy = True
        self.exchanges += 1
        self.response_begun = False
        self._taker = None
        self.parser.expect(bodiless)
        self._head_waiter = headed = self._loop.create_future()
        if self.closed:
            self._error = httpx.ReadError("connection closed while it was idle")
            self._wake()
            return headed
        # No flow control: nothing else will be written, and the response may arrive before all of this is sent.
        if len(body) <= JOINED:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return headed

    def read_available(self) -> bytes:
        """The body received since the last read; b"": nothing. Does not wait."""
        self._buffered = 0  # it also counts heads and framing
        if self._paused:
            self._resume()
        return self.parser.joined()

    def readable(self) -> "asyncio.Future[bool]":
        """A future that is done when more of the body, or its end, has arrived; fails as `exchange` does.

        True: the taker got the bytes, and asked to end the wait. Failures are reported only after the bytes received
        before them. To be called only when `read_available` returned nothing and the parser is not `complete`.
        """
        if self._error is not None:
            raise self._error
        self._body_waiter = waiter = self._loop.create_future()
        return waiter

    def pass_to(self, taker: Callable[[bytes], bool] | None) -> None:
        """Gives the taker what arrives while `readable` is awaited; it returns whether to keep waiting.

        Applies to the current response. Its end, its failures and exceptions of the taker go to the waiter.
        """
        self._taker = taker

    def release(self) -> bool:
        """Ends an exchange; True: the connection can be reused. Otherwise it is closed."""
        parser = self.parser
        if not (parser.complete and parser.keep_alive) or self.closed or self._transport.get_write_buffer_size():
            # The unread body is freed now: parser and connection refer to each other until the garbage collector runs,
            # which counts objects and not their bytes.
            self._busy, self._taker = False, None
            parser.pieces.clear()
            self.abort()
            return False
        if self._bounded:
            self._bounded = False
            self._transport.set_protocol(self)
        if parser.pieces or self._paused:
            self.read_available()
        self._buffered = 0
        self._busy, self._taker = False, None  # else an idle connection would keep the call alive
        return True

    def abort(self) -> None:
        """Closes the socket at once. May be called at any time, and repeatedly."""
        self.closed = True
        self._transport.abort()

    def _pause(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def _wait_for_turn(self) -> None:
        self._pause()
        if not self._bounded:
            self._bounded = True
            self._transport.set_protocol(BoundedReader(self))
        self._loop.call_soon(self._turned)

    def _turned(self) -> None:
        """Called in the loop's next iteration."""
        if self._paused and self._buffered <= HIGH_WATER:
            self._resume()

    def _resume(self) -> None:
        self._paused = False
        if not self.closed:
            self._transport.resume_reading()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected, and the TLS handshake done."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of the response, or unsolicited bytes on an idle connection."""
        if not self._busy:
            self.abort()
            return
        size = len(data)
        if size >= MAX_READ and not self._paused:
            self._wait_for_turn()
        self.response_begun = True
        parser = self.parser
        try:
            parser.feed(data)
        except httpx.RemoteProtocolError as error:
            self._fail(error)
            self.abort()
        waiter = self._body_waiter
        if waiter is not None and self._taker is not None and parser.pieces and not (parser.complete or waiter.done()):
            self._buffered = 0  # the taker keeps up: earlier framing is no longer counted
            try:
                if self._taker(parser.joined()):
                    return
            except BaseException as error:  # raised where the wait is awaited
                waiter.set_exception(error)
            else:
                waiter.set_result(True)
            self._body_waiter = None
            return
        self._buffered += size
        if self._buffered > HIGH_WATER and not self._paused and not self.closed:
            self._pause()
        if self._head_waiter is not None or (waiter is not None and (parser.pieces or parser.complete or self._error)):
            self._wake()

    def eof_received(self) -> None:
        """The upstream will send nothing more. Returning None closes the transport."""
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed, by either side."""
        self._end(error)
        self._on_lost(self)

    def _end(self, error: Exception | None) -> None:
        self.closed = True
        if not self._busy or self._error is not None:
            return
        if error is None:
            try:
                self.parser.finish()
            except httpx.RemoteProtocolError as cut:
                self._fail(cut)
        elif isinstance(error, BrokenPipeError):
            self._fail(httpx.WriteError("connection closed while the request was being sent"))
        else:
            self._fail(httpx.ReadError("connection reset"))
        self._wake()

    def _wake(self) -> None:
        """Wakes the waiter for the head, or for more of the body."""
        waiter = self._body_waiter
        if waiter is not None:
            self._body_waiter = None
            if not waiter.done():
                waiter.set_result(False)
            return
        headed = self._head_waiter
        if headed is None or not (self._error or self.parser.status):
            return
        self._head_waiter = None
        if headed.done():
            pass  # the caller was cancelled
        elif self._error is None:
            headed.set_result(None)
        else:
            headed.set_exception(self._error)
            headed.exception()  # marks it as retrieved: the caller may be cancelled before it sees it

    def _fail(self, error: httpx.TransportError) -> None:
        if not self.parser.complete:
            self._error, self._taker = error, None

"""One socket to an upstream, carrying one request and response at a time."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import httpx

from proxy.upstream.parsing import ResponseParser

TURN: Final = 64 * 1024  # bytes read of one socket in one turn of the event loop, so that all get theirs
HIGH_WATER: Final = 256 * 1024  # bytes held for a reader that does not come; more are left in the kernel
JOINED: Final = 64 * 1024  # bytes of body up to which copying it behind the head is cheaper than a second buffer


class Sips(asyncio.BufferedProtocol):
    """Reads for a connection whose socket buffer is full, at most TURN bytes at a time."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._scratch = memoryview(bytearray(TURN))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """So many have come."""
        self._connection.data_received(self._scratch[:nbytes].tobytes())

    def eof_received(self) -> None:
        """As the connection does."""
        self._connection.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """As the connection does."""
        self._connection.connection_lost(error)


class Connection(asyncio.Protocol):
    """Sends a request, receives the response and buffers its body until it is read.

    By itself libuv drains a full socket before it looks at the next: 50 ms for 4 MB of events. So one that delivered
    TURN bytes at once waits for the loop's next turn, and is read by Sips for the rest of that response.

    Its user calls `exchange`, then `taken` and `arrival` in turn, then returns it or calls `abort`. There is at most
    one waiter, and each await may be cancelled: a connection with half a response is never reusable.
    """

    __slots__ = (
        "parser",
        "served",
        "touched",
        "closed",
        "_lost",
        "_sips",
        "_loop",
        "_transport",
        "_headed",
        "_waiter",
        "_taker",
        "_error",
        "_held",
        "_paused",
        "_busy",
    )

    def __init__(self, lost: "Callable[[Connection], None]") -> None:
        self.parser = ResponseParser()
        self.served = 0  # exchanges begun
        self.touched = False  # whether a byte of the current response has come
        self.closed = False  # nothing will come any more
        self._lost = lost
        self._sips = False  # it is read so
        self._loop = asyncio.get_running_loop()
        self._headed: asyncio.Future[None] | None = None  # somebody waits for the head
        self._waiter: asyncio.Future[bool] | None = None  # for more of the body; True: the taker had it
        self._taker: Callable[[bytes], bool] | None = None  # what comes while somebody waits for it
        self._error: httpx.TransportError | None = None
        self._held = 0  # bytes received since the last read
        self._paused = False
        self._busy = False

    def exchange(self, head: bytes, body: bytes, bodiless: bool = False) -> "asyncio.Future[None]":
        """Sends one request; the future is done once the response's head is there (`parser.status`, `parser.headers`).

        It fails with httpx.ReadError, WriteError or RemoteProtocolError. After that, and if the wait is cancelled, the
        connection must be aborted.
        """
        self._busy = True
        self.served += 1
        self.touched = False
        self._taker = None
        self.parser.expect(bodiless)
        self._headed = headed = self._loop.create_future()
        if self.closed:
            self._error = httpx.ReadError("connection closed while it was idle")
            self._wake()
            return headed
        # There is no pause_writing: this is all that will be written, and the response may come before it is through.
        if len(body) <= JOINED:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return headed

    def taken(self) -> bytes:
        """The body received since the last read; b"": nothing."""
        self._held = 0  # heads and framing count too
        if self._paused:
            self._go_on()
        return self.parser.joined()

    def arrival(self) -> "asyncio.Future[bool]":
        """A future that is done when more of the body, or its end, has arrived; fails as `exchange` does.

        True: the taker got the bytes, and ends the wait. A failure comes only after the bytes received before it. To be
        called only when `taken` gives nothing and the parser is not `complete`.
        """
        if self._error is not None:
            raise self._error
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def pass_to(self, taker: Callable[[bytes], bool] | None) -> None:
        """What arrives while `arrival` is awaited goes to the taker, which returns whether the wait goes on.

        For this response. Its end, its failures and what the taker raises go to the waiter.
        """
        self._taker = taker

    def rest(self) -> bool:
        """Ends an exchange; True: the connection can be reused. Otherwise it is closed."""
        parser = self.parser
        if not (parser.complete and parser.keep_alive) or self.closed or self._transport.get_write_buffer_size():
            # Nobody waits for the rest: what came of it is let go now, as parser and connection hold each other until
            # the garbage collector runs, which counts objects and not their bytes.
            self._busy, self._taker = False, None
            parser.pieces.clear()
            self.abort()
            return False
        if self._sips:
            self._sips = False
            self._transport.set_protocol(self)
        if parser.pieces or self._paused:
            self.taken()
        self._held = 0
        self._busy, self._taker = False, None  # an idle connection holds no call
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
        if not self._sips:
            self._sips = True
            self._transport.set_protocol(Sips(self))
        self._loop.call_soon(self._turned)

    def _turned(self) -> None:
        """The loop's next turn."""
        if self._paused and self._held <= HIGH_WATER:
            self._go_on()

    def _go_on(self) -> None:
        self._paused = False
        if not self.closed:
            self._transport.resume_reading()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected, and TLS agreed upon."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of the response, or unsolicited bytes on an idle connection."""
        if not self._busy:
            self.abort()
            return
        size = len(data)
        if size >= TURN and not self._paused:
            self._wait_for_turn()
        self.touched = True
        parser = self.parser
        try:
            parser.feed(data)
        except httpx.RemoteProtocolError as error:
            self._fail(error)
            self.abort()
        waiter = self._waiter
        if waiter is not None and self._taker is not None and parser.pieces and not (parser.complete or waiter.done()):
            self._held = 0  # framing that came before it counts no longer
            try:
                if self._taker(parser.joined()):
                    return
            except BaseException as error:  # it is for whoever waits, as if that had called the taker
                waiter.set_exception(error)
            else:
                waiter.set_result(True)
            self._waiter = None
            return
        self._held += size
        if self._held > HIGH_WATER and not self._paused and not self.closed:
            self._pause()
        if self._headed is not None or (waiter is not None and (parser.pieces or parser.complete or self._error)):
            self._wake()

    def eof_received(self) -> None:
        """The upstream will send nothing more. Returning None closes the transport."""
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed, by either side."""
        self._end(error)
        self._lost(self)

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
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(False)
            return
        headed = self._headed
        if headed is None or not (self._error or self.parser.status):
            return
        self._headed = None
        if headed.done():
            pass  # whoever asked has left
        elif self._error is None:
            headed.set_result(None)
        else:
            headed.set_exception(self._error)
            headed.exception()  # whoever asked may leave now: nobody is to be told that it was not looked at

    def _fail(self, error: httpx.TransportError) -> None:
        if not self.parser.complete:
            self._error, self._taker = error, None

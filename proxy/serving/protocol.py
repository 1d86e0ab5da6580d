"""One client connection: parses requests, runs the app on them in order, notices disconnects, enforces deadlines."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, cast

from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.server import ServerState

from proxy.call import Headers
from proxy.errors import SluiceError, draining
from proxy.headers import request_id
from proxy.serving.cycle import Cycle
from proxy.serving.deadline import Deadline
from proxy.serving.framing import invalid
from proxy.serving.heads import error_response
from proxy.serving.kernel import unsent
from proxy.serving.leaving import Leaving
from proxy.serving.limits import HIGH_WATER, LINGER, MAX_PIPELINED, PARTING, Limits
from proxy.serving.requests import Head, RequestReader

Awaited = Literal["nothing", "head", "body", "idle", "write", "linger"]
"""What the deadline of a connection is for."""


class SluiceProtocol(asyncio.Protocol):
    """HTTP/1.1 for uvicorn (`http=SluiceProtocol`): one instance per connection.

    Requests are answered in order. The first malformed one is answered with its error, after all before it, and ends
    the connection.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: object,  # of uvicorn's lifespan, in which our app puts nothing
        _loop: asyncio.AbstractEventLoop | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        more_lines: Callable[[Headers], Headers] = lambda headers: [],  # of our own answer to a request with these
    ) -> None:
        self.app = cast(ASGIApp, config.loaded_app)
        self.server_state = server_state
        self.limits = limits
        self.more_lines = more_lines
        self.loop = _loop or asyncio.get_running_loop()
        self.connections: set[Any] = server_state.connections
        self.deadline = Deadline(self.loop, self._expired)
        self.awaited: Awaited = "nothing"

        self.reader = RequestReader(self)
        self.deaf = False  # nothing more is read as HTTP
        self.ended = False  # the client sends no more
        self.parting = False  # the next request is the last one
        self.read_paused = False
        self.write_paused = False
        self._room: asyncio.Future[None] | None = None  # senders wait here for room in the write buffer
        self._unsent = 0  # bytes on their way to the client when the deadline was last set

        self.cycle: Cycle | None = None  # the request last read
        self.running: Cycle | None = None  # the one that is being answered
        self.pipeline: deque[Cycle] = deque()  # those after it
        self.refused: tuple[SluiceError, Headers] | None = None  # what answers the request after them, and its headers

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.reader.common = {"client": _address(peer), "server": _address(here)}
        self.leaving = Leaving(self.transport, self.loop, self._probe)
        if len(self.connections) >= self.limits.max_connections:
            self.answer(SluiceError("proxy_overloaded", "Too many connections are open.", retry_after=1), [])
        else:
            self.connections.add(self)
            self._expect("idle", self.limits.header)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self.deadline.stop()
        self.leaving.stop()
        self.deaf = True
        self.pipeline.clear()
        self.cycle = None  # whose body may never have been asked for, and we live until the garbage collector runs
        if self.running is not None:
            self.running.cancel("left")
        self.resume_writing()
        self.reader.close()

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            return
        try:
            self.reader.feed(data)
        except SluiceError as error:
            self._refuse(error)
        else:
            if self.reader.phase != "idle" or self.awaited != "nothing":
                self._watch()

    def eof_received(self) -> bool:
        self.ended = True
        if not self.answering and (self.deaf or self.reader.phase == "idle"):
            self._close()
        elif self.reader.phase != "idle" and not self.deaf:
            self._refuse(invalid("The request ended before it was complete."))
        if self.answering and self.cycle is not None:
            if self.refused is None:
                self.cycle.keep_alive = False  # it is the last one
            self.leaving.ended()
        return True

    def pause_writing(self) -> None:
        self.write_paused = True
        self._watch()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._watch()

    # What the reader tells

    def on_request(self, head: Head, size: int, body: bytes | None = None) -> None:
        if size > self.limits.max_body:
            raise self._too_much()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise invalid("Too many requests wait for their answers on this connection.")
        cycle = self.cycle = Cycle(dict(head.scope), self, head.keep_alive and not self.parting, head.waits)
        if body is not None:
            cycle.body, cycle.more_body = body, False
        if self.answering:
            self.pipeline.append(cycle)
            self._pause_reading()
        else:
            self._start(cycle)

    def on_piece(self, piece: bytes) -> None:
        cycle = self.cycle
        if cycle is None or cycle.complete:
            return  # answered already: the rest is read and forgotten
        size = cycle.feed(piece)
        if size > self.limits.max_body:
            raise self._too_much()
        if size > HIGH_WATER and not cycle.wanted:
            self._pause_reading()

    def on_end(self) -> None:
        if self.cycle is not None:
            self.cycle.fed()

    # What the cycles tell

    @property
    def answering(self) -> bool:
        """Whether an answer is due."""
        return self.running is not None and not self.running.complete

    def answered(self, cycle: Cycle) -> None:
        """The cycle's response is complete: continues with the next request."""
        if self.transport.is_closing():
            return
        if not cycle.keep_alive:
            self._linger() if cycle.more_body else self._close()
        elif self.pipeline:
            self._start(self.pipeline.popleft())
            if not self.pipeline:
                self.resume_reading()
        elif self.refused is not None:
            self.answer(*self.refused)
        elif self.read_paused or self.reader.phase != "idle":
            self.resume_reading()
        else:
            self._expect("idle", self.limits.keep_alive)

    def answer(self, error: SluiceError, headers: Headers) -> None:
        """Writes the error as the whole answer to the request with these headers, and ends the connection."""
        if not self.transport.is_closing():
            lines = [*self.server_state.default_headers, *self.more_lines(headers)]
            self.transport.write(error_response(error, request_id(headers), lines))
            self._linger()

    def resume_reading(self) -> None:
        """Reads from the client again, if reading was paused."""
        if self.read_paused and not self.ended and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()
            self.leaving.resumed()
        self._watch()

    async def writable(self) -> None:
        """Waits until the write buffer has room, or the client has left."""
        if self._room is None or self._room.done():
            self._room = self.loop.create_future()
        await self._room

    # What the server tells

    def shutdown(self) -> None:
        """The process is about to end (called by uvicorn): requests accepted or on their way are still answered."""
        self.parting = True
        if self.answering and self.cycle is not None:
            self.cycle.keep_alive = False
        elif self.reader.phase == "head":
            self._refuse(draining())
        elif not self.deaf:
            self._linger() if self.reader.phase == "body" else self._expect("idle", PARTING)

    def cut(self) -> None:
        """The drain time is over: the running call ends, with an error if its response has a place for one."""
        self.pipeline.clear()
        if self.running is not None:
            self.running.cancel("draining", draining())

    # Steps

    def _start(self, cycle: Cycle) -> None:
        self.running = cycle
        self._expect_nothing()
        cycle.task = self.loop.create_task(cycle.run(self.app))

    def _refuse(self, error: SluiceError) -> None:
        """Ends the connection with this error, after the answers to earlier requests."""
        self.deaf = True
        self._expect_nothing()
        cycle = self.cycle if self.reader.phase == "body" else None  # the request at fault, if it got as far as that
        if cycle is not None and cycle is self.running:
            if cycle.complete:
                self._linger()
            elif cycle.started:
                self.transport.abort()
            else:
                cycle.cancel("left", None if self.ended else error)  # who ends a request half-way has most likely left
                self.answer(error, cycle.scope["headers"])
            return
        headers = self.reader.headers
        if cycle is not None:
            self.pipeline.remove(cycle)
            headers = cycle.scope["headers"]
        if self.answering:
            self.refused = error, headers
        else:
            self.answer(error, headers)

    def _probe(self) -> None:
        if self.running is not None and not self.write_paused:
            self.running.probe()

    def _pause_reading(self) -> None:
        if not self.read_paused and not self.ended and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()
            self.leaving.paused()

    def _too_much(self) -> SluiceError:
        return SluiceError("client_too_large", f"The body is larger than {self.limits.max_body} bytes.")

    # Deadlines

    def _watch(self) -> None:
        """Sets the deadline for what the client must do next."""
        phase = self.reader.phase
        if self.write_paused:
            self._expect("write", self.limits.write)
        elif self.deaf or self.read_paused:
            if self.answering:  # else it is closing, and has its deadline
                self._expect_nothing()
        elif phase == "head":
            if self.awaited != "head":  # the whole head, from its first byte on
                self._expect("head", self.limits.header)
        elif phase == "body" and self.cycle is not None and not self.cycle.holds_body:
            self._expect("body", self.limits.body)
        elif self.answering:
            self._expect_nothing()
        elif self.awaited != "idle":  # empty lines between requests prolong nothing
            self._expect("idle", self.limits.keep_alive)

    def _expect_nothing(self) -> None:
        self.awaited = "nothing"
        self.deadline.clear()

    def _expect(self, what: Awaited, seconds: float) -> None:
        self.awaited = what
        self.deadline.set(seconds)
        if what == "write" or what == "linger":
            self._unsent = unsent(self.transport)

    def _expired(self) -> None:
        if self.awaited == "idle":
            self._close()
        elif self.awaited == "head":
            self._refuse(SluiceError("client_timeout", "The request head did not come in time."))
        elif self.awaited == "body":
            self._refuse(SluiceError("client_timeout", "The request body did not come in time."))
        elif 0 < unsent(self.transport) < self._unsent:
            self._expect("write", self.limits.write)  # slow, but reading
        else:
            self.transport.abort()

    def _linger(self) -> None:
        """Closes our sending side and discards further input.

        Closing with unread bytes would send a reset, by which the client could lose the answer (RFC 9112 9.6).
        """
        self.deaf = True
        if self.ended:
            self._close()
            return
        self.resume_reading()
        self.transport.write_eof()
        self._expect("linger", LINGER)

    def _close(self) -> None:
        self.deaf = True
        self.leaving.stop()
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._expect("write", self.limits.write)
        else:
            self.deadline.stop()


def _address(name: Any) -> tuple[str, int] | None:
    """Host and port of a socket name, as ASGI wants it; None for anything but IP."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None

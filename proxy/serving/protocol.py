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
from proxy.serving.limits import HIGH_WATER, IDLE_GRACE, LINGER, MAX_PIPELINED, Limits
from proxy.serving.requests import Head, RequestReader

Awaited = Literal["nothing", "head", "body", "idle", "write", "linger"]
"""What the deadline of a connection is for."""


class SluiceProtocol(asyncio.Protocol):
    """HTTP/1.1 for uvicorn (`http=SluiceProtocol`): one instance per connection.

    Requests are answered in order. The first malformed one gets its error after the answers to all earlier ones, and
    ends the connection.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: object,  # lifespan state of uvicorn, which our app does not use
        _loop: asyncio.AbstractEventLoop | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        error_headers: Callable[[Headers], Headers] = lambda headers: [],  # added to our errors, by request headers
    ) -> None:
        self.app = cast(ASGIApp, config.loaded_app)
        self.server_state = server_state
        self.limits = limits
        self.error_headers = error_headers
        self.loop = _loop or asyncio.get_running_loop()
        self.connections: set[Any] = server_state.connections
        self.deadline = Deadline(self.loop, self._expired)
        self.awaited: Awaited = "nothing"

        self.reader = RequestReader(self)
        self.discarding = False  # further input is not parsed
        self.half_closed = False  # the client has ended its input
        self.stopping = False  # the process is ending: the next request is the last one
        self.read_paused = False
        self.write_paused = False
        self._drained: asyncio.Future[None] | None = None  # senders wait here while writing is paused
        self._unsent = 0  # bytes in the write buffer and the kernel when the deadline was last set

        self.cycle: Cycle | None = None  # the latest request
        self.running: Cycle | None = None  # the request being answered
        self.pipeline: deque[Cycle] = deque()  # requests waiting behind it
        self.refused: tuple[SluiceError, Headers] | None = None  # error for the last request, and its headers

    # Called by the transport

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
        self.discarding = True
        self.pipeline.clear()
        self.cycle = None  # frees an unread body now, not when the garbage collector runs
        if self.running is not None:
            self.running.cancel("left")
        self.resume_writing()
        self.reader.close()

    def data_received(self, data: bytes) -> None:
        if self.discarding:
            return
        try:
            self.reader.feed(data)
        except SluiceError as error:
            self._refuse(error)
        else:
            if self.reader.phase != "idle" or self.awaited != "nothing":
                self._watch()

    def eof_received(self) -> bool:
        self.half_closed = True
        if not self.answering and (self.discarding or self.reader.phase == "idle"):
            self._close()
        elif self.reader.phase != "idle" and not self.discarding:
            self._refuse(invalid("The request ended before it was complete."))
        if self.answering and self.cycle is not None:
            if self.refused is None:
                self.cycle.keep_alive = False  # no request follows
            self.leaving.ended()
        return True

    def pause_writing(self) -> None:
        self.write_paused = True
        self._watch()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._watch()

    # Called by the reader

    def on_request(self, head: Head, size: int, body: bytes | None = None) -> None:
        if size > self.limits.max_body:
            raise self._too_much()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise invalid("Too many requests wait for their answers on this connection.")
        cycle = self.cycle = Cycle(dict(head.scope), self, head.keep_alive and not self.stopping, head.waits)
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
            return  # answered already: the rest is discarded
        size = cycle.feed(piece)
        if size > self.limits.max_body:
            raise self._too_much()
        if size > HIGH_WATER and not cycle.wanted:
            self._pause_reading()

    def on_end(self) -> None:
        if self.cycle is not None:
            self.cycle.feed_eof()

    # Called by the cycles

    @property
    def answering(self) -> bool:
        """Whether a request is being answered."""
        return self.running is not None and not self.running.complete

    def answered(self, cycle: Cycle) -> None:
        """Continues with the next request after the cycle's response is complete."""
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
            lines = [*self.server_state.default_headers, *self.error_headers(headers)]
            self.transport.write(error_response(error, request_id(headers), lines))
            self._linger()

    def resume_reading(self) -> None:
        """Reads from the client again, if reading was paused."""
        if self.read_paused and not self.half_closed and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()
            self.leaving.resumed()
        self._watch()

    async def writable(self) -> None:
        """Waits until the write buffer has room, or the client has left."""
        if self._drained is None or self._drained.done():
            self._drained = self.loop.create_future()
        await self._drained

    # Called by the server

    def shutdown(self) -> None:
        """Prepares for the end of the process (called by uvicorn): requests received or in transit are answered."""
        self.stopping = True
        if self.answering and self.cycle is not None:
            self.cycle.keep_alive = False
        elif self.reader.phase == "head":
            self._refuse(draining())
        elif not self.discarding:
            self._linger() if self.reader.phase == "body" else self._expect("idle", IDLE_GRACE)

    def cut(self) -> None:
        """Cancels the running call after the drain time; its client gets an error where the response allows it."""
        self.pipeline.clear()
        if self.running is not None:
            self.running.cancel("draining", draining())

    # Steps

    def _start(self, cycle: Cycle) -> None:
        self.running = cycle
        self._expect_nothing()
        # Costs less than loop.create_task, which makes a name of its own for each task.
        cycle.task = asyncio.Task(cycle.run(self.app), loop=self.loop, name="request")

    def _refuse(self, error: SluiceError) -> None:
        """Ends the connection with this error, after the answers to earlier requests."""
        self.discarding = True
        self._expect_nothing()
        cycle = self.cycle if self.reader.phase == "body" else None  # the malformed request, if its head was valid
        if cycle is not None and cycle is self.running:
            if cycle.complete:
                self._linger()
            elif cycle.started:
                self.transport.abort()
            else:
                cycle.cancel("left", None if self.half_closed else error)  # half-closed mid-request: it probably left
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
        if not self.read_paused and not self.half_closed and not self.transport.is_closing():
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
        elif self.discarding or self.read_paused:
            if self.answering:  # else it is closing, with a deadline of its own
                self._expect_nothing()
        elif phase == "head":
            if self.awaited != "head":  # for the whole head, from its first byte
                self._expect("head", self.limits.header)
        elif phase == "body" and self.cycle is not None and not self.cycle.holds_body:
            self._expect("body", self.limits.body)
        elif self.answering:
            self._expect_nothing()
        elif self.awaited != "idle":  # empty lines between requests do not extend it
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
            self._refuse(SluiceError("client_timeout", "The request head did not arrive in time."))
        elif self.awaited == "body":
            self._refuse(SluiceError("client_timeout", "The request body did not arrive in time."))
        elif 0 < unsent(self.transport) < self._unsent:
            self._expect("write", self.limits.write)  # slow, but it reads
        else:
            self.transport.abort()

    def _linger(self) -> None:
        """Ends our output and discards further input.

        Closing with unread bytes would send a reset, which can cost the client the answer (RFC 9112, 9.6).
        """
        self.discarding = True
        if self.half_closed:
            self._close()
            return
        self.resume_reading()
        self.transport.write_eof()
        self._expect("linger", LINGER)

    def _close(self) -> None:
        self.discarding = True
        self.leaving.stop()
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._expect("write", self.limits.write)
        else:
            self.deadline.stop()


def _address(name: Any) -> tuple[str, int] | None:
    """Host and port of a socket name, in the form that ASGI demands; None for anything but IP."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None

"""Clients that leave end their call at once in every phase; clients that only stop sending get their answer."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from starlette.types import Receive, Scope, Send

from tests.serving.served import Client, piece, respond, served, start
from tests.waiting import wait_for

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n"
AT_ONCE = 0.2
"""Seconds within which a call has ended after its client left."""


@dataclass
class Waiting:
    """An app that stays in the phase it is told to until its task is cancelled, or `go` is set."""

    phase: str
    entered: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self.phase == "reading":
                self.entered.set()
                await receive()
            if self.phase in ("streaming", "plain stream"):
                kind = b"Text/event-stream; charset=utf-8" if self.phase == "streaming" else b"text/plain"
                await send(start((b"content-type", kind)))
                await send(piece(b"data: 1\n\n"))
            self.entered.set()
            while not self.go.is_set():
                await asyncio.sleep(0.01)
            if self.phase in ("streaming", "plain stream"):
                await send(piece(b"data: 2\n\n", more=False))
            else:
                await respond(send, b"{}")
        except asyncio.CancelledError:
            self.ended.set()
            raise


def close(client: Client) -> None:
    client.sock.close()


def reset(client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


def half_close_then_close(client: Client) -> None:
    client.sock.shutdown(socket.SHUT_WR)
    client.sock.close()


@pytest.mark.parametrize("leave", [close, reset, half_close_then_close])
@pytest.mark.parametrize(
    ("phase", "said"),
    [
        ("waiting", GET),
        ("waiting", POST + bytes(600_000)),  # not read: our reading is paused, the end hides behind the body
        ("waiting", GET + GET),  # the next request waits: our reading is paused
        ("reading", POST + bytes(1000)),
        ("streaming", GET),
    ],
)
def test_leaving_ends_the_call_at_once(
    phase: str, said: bytes, leave: Callable[[Client], None], caplog: pytest.LogCaptureFixture
) -> None:
    app = Waiting(phase)
    with served(app) as server:
        client = server.client()
        client.say(said)
        assert app.entered.wait(5)
        if phase == "streaming":
            client.until(b"data: 1\n\n")
        leave(client)
        wait_for(app.ended.is_set, AT_ONCE * 3)  # the machine may be busy; the delays add up to less than AT_ONCE
        wait_for(server.quiet)
    assert not caplog.records


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("phase", ["waiting", "streaming", "plain stream"])
def test_half_closing_never_ends_the_call(phase: str, version: bytes) -> None:
    app = Waiting(phase)
    with served(app) as server, server.client() as client:
        client.say(GET.replace(b"1.1", version))
        assert app.entered.wait(5)
        client.sock.shutdown(socket.SHUT_WR)
        assert not app.ended.wait(0.3)
        app.go.set()
        said = client.rest()
        wait_for(server.quiet)
    assert not app.ended.is_set()
    if phase == "waiting":
        assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200" if version == b"1.1" else b"HTTP/1.1 200")
        assert said.endswith(b"\r\n\r\n{}") and b"connection: close" in said
    elif version == b"1.1":
        assert said.endswith(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
        assert (b"\r\n4\r\n: \n\n\r\n" in said) == (phase == "streaming")
    else:
        assert said.endswith(b"data: 1\n\ndata: 2\n\n")


def test_a_half_closed_client_that_leaves_during_an_answer_is_noticed() -> None:
    app = Waiting("streaming")
    with served(app) as server:
        client = server.client()
        client.say(GET)
        client.until(b"data: 1\n\n")
        client.sock.shutdown(socket.SHUT_WR)
        client.until(b": \n\n")
        client.sock.close()
        app.go.set()  # the next event is answered with a reset
        wait_for(server.quiet)


def test_all_that_was_asked_before_half_closing_is_answered() -> None:
    app = Waiting("waiting")
    with served(app) as server, server.client() as client:
        client.say(GET * 3)
        assert app.entered.wait(5)
        client.sock.shutdown(socket.SHUT_WR)
        app.go.set()
        assert client.rest().count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize("said", [b"", GET, b"\r\n"])
def test_a_half_closed_connection_with_nothing_in_flight_is_closed(said: bytes) -> None:
    app = Waiting("waiting")
    app.go.set()
    with served(app) as server, server.client() as client:
        client.say(said)
        if said == GET:
            client.answer()
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == b""
        wait_for(server.quiet)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHo", POST + bytes(1000)])
def test_a_request_that_ends_early_is_refused(said: bytes) -> None:
    app = Waiting("reading")
    with served(app) as server, server.client() as client:
        client.say(said)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.answer().code == "client_invalid_request"
        assert client.rest() == b""
        wait_for(server.quiet)


def test_receive_reports_the_disconnect() -> None:
    told = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        told.append(await receive())
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.append(await receive())
            await respond(send, b"into the void")

    with served(app) as server:
        with server.client() as client:
            client.say(GET)
            wait_for(lambda: told)
        wait_for(lambda: len(told) == 2)
        wait_for(server.quiet)
    assert [message["type"] for message in told] == ["http.request", "http.disconnect"]

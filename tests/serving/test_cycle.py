"""Responses of an app as bytes on the wire, and the handling of apps that fail."""

import asyncio
import gc
import logging
import re
import socket
import time

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.reply import DIRECT
from proxy.serving.cycle import Cycle
from tests.serving.served import Answer, answers, echo, piece, respond, served, start
from tests.waiting import wait_for

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = GET[:-2] + b"Connection: close\r\n\r\n"


class Steps:
    """An app that sends these messages, sleeping where a number of seconds stands between them."""

    def __init__(self, *steps: object) -> None:
        self.steps = steps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for step in self.steps:
            if isinstance(step, dict):
                await send(step)
            elif isinstance(step, Exception):
                raise step
            elif isinstance(step, float):
                await asyncio.sleep(step)


def ask(app: ASGIApp, data: bytes = CLOSE) -> bytes:
    with served(app) as server:
        return server.ask(data)


DATE = b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"


def test_head_and_body_as_they_are_on_the_wire() -> None:
    assert ask(Steps(start((b"content-length", b"2")), piece(b"{}", more=False))) == (
        b"HTTP/1.1 200 OK\r\n" + DATE + b"content-length: 2\r\nconnection: close\r\n\r\n{}"
    )
    assert ask(Steps(start(status=529), piece(b"ab"), piece(b""), piece(b"c", more=False))) == (
        b"HTTP/1.1 529 Unknown\r\n"
        + DATE
        + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    )


def test_the_body_of_a_request_that_was_never_run_is_freed_without_the_garbage_collector() -> None:
    began = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        began.append(True)
        await asyncio.sleep(60)

    body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + 60000 * b"x"
    with served(app) as server:
        gc.collect()
        gc.disable()
        try:
            with server.client() as client:
                client.say(GET + body + body)
                wait_for(lambda: began)
            wait_for(lambda: not any(found.body for found in gc.get_objects() if isinstance(found, Cycle)))
        finally:
            gc.enable()


def test_a_head_does_not_wait_for_its_body() -> None:
    with served(Steps(start(), 60.0)) as server, server.client() as client:
        client.say(GET)
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("bad", [b"a\r\nset-cookie: x", b"a\nb", b"a\rb", b"a\0b", b"a\r\n\r\nHTTP/1.1 200 OK"])
def test_no_header_splits_a_response(bad: bytes) -> None:
    [answer] = answers(ask(Steps(start((b"x", bad), (bad, b"y"), (b"content-length", b"0")), piece(b"", more=False))))
    assert answer.headers["x"] == bad.decode().translate({10: " ", 13: " ", 0: " "}).lower()
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "steps", [(start((b"content-length", b"9")), piece(b"", False)), (start(), piece(b"ab", False))]
)
def test_HEAD_has_no_body(steps: tuple[object, ...]) -> None:
    said = ask(Steps(*steps), CLOSE.replace(b"GET", b"HEAD"))
    assert said.endswith(b"\r\n\r\n") and said.count(b"\r\n\r\n") == 1 and b"transfer-encoding" not in said


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body(status: int) -> None:
    said = ask(Steps(start(status=status), piece(b"", False)))
    assert said.endswith(b"\r\n\r\n") and b"transfer-encoding" not in said


def test_an_HTTP_1_0_client_gets_no_chunks() -> None:
    said = ask(Steps(start(), piece(b"ab"), piece(b"cd", False)), b"GET / HTTP/1.0\r\n\r\n")
    assert said.endswith(b"connection: close\r\n\r\nabcd") and b"chunked" not in said


def test_the_app_may_close() -> None:
    app = Steps(start((b"connection", b"close"), (b"content-length", b"0")), piece(b"", False))
    assert ask(app, GET).count(b"connection: close\r\n") == 1


def test_expect_is_answered_when_the_body_is_asked_for() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n"
    with served(echo) as server, server.client() as client:
        client.say(head)
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.say(b"abc")
        assert client.answer().status == 200
        client.say(head)
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    refused = Steps(start((b"content-length", b"0"), status=401), piece(b"", False))
    [answer] = answers(ask(refused, head))  # whether the body still comes, nobody can tell
    assert (answer.status, answer.headers["connection"]) == (401, "close")


def test_an_answer_before_the_body_keeps_the_connection() -> None:
    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"{}", 401)
        assert (await receive())["type"] == "http.disconnect"

    with served(early) as server, server.client() as client:
        for _ in range(2):
            client.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n")
            assert client.answer().status == 401
            client.say(bytes(400_000))
        with server.client() as other:
            other.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\nConnection: close\r\n\r\n")
            assert other.answer().status == 401
            other.say(bytes(400_000))
            assert other.rest() == b""


def test_receive_ends_with_a_disconnect_once_the_answer_is_out() -> None:
    told = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        told.append(await receive())
        listening = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await receive()
        await respond(send, b"{}")
        told.append(await listening)

    with served(app) as server, server.client() as client:
        client.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        client.answer()
        wait_for(lambda: len(told) == 2)
    assert told == [{"type": "http.request", "body": b"abc", "more_body": False}, {"type": "http.disconnect"}]


def failed(raw: bytes) -> Answer:
    [answer] = answers(raw)
    assert (answer.status, answer.code) == (500, "proxy_internal")
    assert answer.headers["content-type"] == "application/json" and answer.headers["x-request-id"] == "r-1"
    return answer


SECRET = RuntimeError("sk-secret")
WITH_ID = GET[:-2] + b"X-Request-Id: r-1\r\n\r\n"


@pytest.mark.parametrize(
    "steps",
    [
        (SECRET,),
        (start((b"content-length", b"1")), SECRET),
        (),
        (start(),),
        (piece(b""),),
        (start((b"content-length", b"1")), piece(b"ab", False)),
        (start((b"content-length", b"3")), piece(b"ab", False)),
        (start(status=999),),
    ],
)
def test_an_app_that_fails_before_its_head_is_out_becomes_a_500(
    steps: tuple[object, ...], caplog: pytest.LogCaptureFixture
) -> None:
    assert b"sk-secret" not in failed(ask(Steps(*steps), WITH_ID)).body
    [record] = caplog.records
    assert record.levelno == logging.ERROR and "r-1" in record.getMessage()
    assert "sk-secret" not in record.getMessage()


@pytest.mark.parametrize("last", [SECRET, 0.0, start()])
def test_an_app_that_fails_in_mid_stream_breaks_the_connection(last: object, caplog: pytest.LogCaptureFixture) -> None:
    said = ask(Steps(start(), piece(b"ab"), 0.05, last), GET)
    assert said.endswith(b"2\r\nab\r\n")
    assert len(caplog.records) == 1


def test_a_failure_after_the_answer_only_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = Steps(start((b"content-length", b"2")), piece(b"{}", False), SECRET)
    with served(app) as server, server.client() as client:
        for _ in range(2):
            client.say(GET)
            assert client.answer().body == b"{}"
        wait_for(lambda: len(caplog.records) == 2)


def test_a_stream_that_is_not_read_stops_its_app() -> None:
    sent = []

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for number in range(1000):
            await send(piece(bytes(2**20)))
            sent.append(number)

    with served(flood) as server:
        with server.client() as client:
            client.say(GET)
            wait_for(lambda: len(sent) > 1)
            time.sleep(0.3)
            assert len(sent) < 100
        wait_for(server.quiet)


class Pushing:
    """An app that sends what is bytes, pushes what is a number, and sends the number where the push was refused."""

    def __init__(self, *steps: bytes | int, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.steps, self.status, self.headers = steps, status, headers
        self.pushed: list[bool] = []
        self.late: list[bool] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        push = scope[DIRECT].push
        assert not push(b"early")
        await send(start(*self.headers, status=self.status))
        for step in self.steps:
            data = step if isinstance(step, bytes) else b"%d" % step
            taken = not isinstance(step, bytes) and push(data)
            self.pushed.append(taken)
            if not taken:
                await send(piece(data))
        await send(piece(b"", more=False))
        self.late.append(push(b"late"))


def test_what_is_pushed_is_a_chunk_in_its_place() -> None:
    app = Pushing(b"a", 1, 2, b"b", 3)
    with served(app) as server, server.client() as client:
        for _ in range(2):
            client.say(GET)
            assert client.answer().body == b"a12b3"
    assert app.pushed == 2 * [False, True, True, False, True]
    assert app.late == [False, False]


def test_nothing_is_pushed_before_the_head() -> None:
    app = Pushing(1, 2)
    [answer] = answers(ask(app))
    assert answer.body == b"12"
    assert app.pushed == [False, True]


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", ()),
        (CLOSE, ((b"content-length", b"3"),)),
        (CLOSE.replace(b"GET", b"HEAD"), ()),
    ],
)
def test_only_chunks_are_pushed(data: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    app = Pushing(b"a", 1, 2, headers=headers)
    said = ask(app, data)
    assert app.pushed == [False, False, False]
    assert said.partition(b"\r\n\r\n")[2] == (b"" if data.startswith(b"HEAD") else b"a12")


def test_a_client_that_does_not_read_is_pushed_no_more_than_the_buffers_hold() -> None:
    sent: list[int] = []

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(piece(b"-"))
        for number in range(1000):
            block = b"%09d" % number + bytes(16_000)
            if not scope[DIRECT].push(block):
                await send(piece(block))
            sent.append(number)
        await send(piece(b"", more=False))

    with served(flood) as server, server.client() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.say(GET)
        wait_for(lambda: len(sent) > 10)
        time.sleep(0.3)
        assert len(sent) < 700
        came = [b""]
        while not came[-1].endswith(b"\r\n0\r\n\r\n"):
            came.append(client.sock.recv(1 << 20))
        numbers = re.findall(rb"\r\n([0-9]{9})\0{16000}\r\n", b"".join(came))
        assert numbers == [b"%09d" % number for number in range(1000)]


def test_a_client_that_left_is_pushed_nothing() -> None:
    taken: list[bool] = []

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start((b"content-type", b"text/event-stream")))
        await send(piece(b"-"))
        push = scope[DIRECT].push
        try:
            await asyncio.sleep(60)
        finally:
            taken.append(push(b"x"))

    with served(stubborn) as server:
        with server.client() as client:
            client.say(GET)
            client.until(b"-\r\n")
        wait_for(lambda: bool(taken))
        wait_for(server.quiet)
    assert taken == [False]


def test_a_whole_response_is_written_at_once() -> None:
    took: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        took.append(scope[DIRECT].whole(200, [(b"x-a", b"1")], b"{}"))
        took.append(scope[DIRECT].whole(200, [], b"again"))

    with served(app) as server, server.client() as client:
        for _ in range(2):
            client.say(GET)
            answer = client.answer()
            assert (answer.status, answer.headers["x-a"], answer.body) == (200, "1", b"{}")
    assert took == [True, False, True, False]


@pytest.mark.parametrize(("data", "status", "ends"), [(GET.replace(b"GET", b"HEAD"), 200, b"2"), (GET, 204, None)])
def test_a_whole_response_without_a_body(data: bytes, status: int, ends: bytes | None) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope[DIRECT].whole(status, [], b"{}")

    with served(app) as server, server.client() as client:
        for _ in range(2):
            client.say(data)
            head = client.until(b"\r\n\r\n")
            assert (b"content-length: 2\r\n" in head) is (ends is not None)


def test_a_body_is_taken_once_and_only_when_it_is_all_there() -> None:
    took: list[bytes | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        took.append(scope[DIRECT].take())
        if took[-1] is None:
            took.append((await receive())["body"])
        took.append(scope[DIRECT].take())
        assert scope[DIRECT].whole(200, [], b"")

    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    with served(app) as server, server.client() as client:
        client.say(post + b"abc")
        assert client.answer().status == 200
        client.say(post)
        wait_for(lambda: len(took) > 2)
        client.say(b"def")
        assert client.answer().status == 200
    assert took == [b"abc", None, None, b"def", None]

"""The server protocol over a real socket, with input whole and byte by byte."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from proxy.serving.limits import Limits
from tests.serving.served import PATIENCE, Client, Served, answers, echo, piece, respond, served, start
from tests.waiting import wait_for

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a:1\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"

REFUSED_400 = {
    "TE and CL": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "CL and TE": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two CL": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "CL list": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "CL +3": POST + b"Content-Length: +3\r\n\r\nabc",
    "CL huge": POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two TE": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE in 1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE space colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "bad chunk end": CHUNKED + b"3\r\nabcX\r\n0\r\n\r\n",
    "bad chunk size": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "bare LF in chunk": CHUNKED + b"3\nabc\r\n0\r\n\r\n",
    "NUL": POST + b"X: a\0b\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF in head": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare CR": POST + b"X: a\rb\r\n\r\n",
    "folded": POST + b"X: a\r\n b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\nX: a\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
    "host with a path": b"GET / HTTP/1.1\r\nHost: a/health?\r\n\r\n",
    "host with a fragment": b"GET / HTTP/1.1\r\nHost: a/health#\r\n\r\n",
    "host with a user": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "host list": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "empty host": b"GET / HTTP/1.1\r\nHost: \r\n\r\n",
    "two authorizations": GET[:-2] + b"Authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n",
    "absolute form": b"GET http://evil/v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "connect": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "not ASCII": b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "chunk of nothing": CHUNKED + b"3;" + b"x" * 2**20 + b"\r\nabc\r\n0\r\n\r\n",
}
REFUSED_431 = {
    "70 kB header": POST + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    "1 MB header": POST + b"X: " + b"a" * 2**20 + b"\r\n\r\n",
    "1 MB header that never ends": POST + b"X: " + b"a" * 2**20,
    "2000 headers": POST + b"".join(b"X-%d: a\r\n" % i for i in range(2000)) + b"\r\n",
    "101 headers": POST + b"".join(b"X-%d: a\r\n" % i for i in range(100)) + b"\r\n",
    "17 kB target": b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.fixture(scope="module")
def echoing() -> Iterator[Served]:
    with served(echo) as server:
        yield server


def in_bytes(client: Client, data: bytes) -> None:
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(len(data)):
        try:
            client.say(data[at : at + 1])
        except ConnectionError:  # refused before the end
            return


def refusal(raw: bytes, status: int, code: str) -> None:
    [answer] = answers(raw)
    assert (answer.status, answer.code) == (status, code), answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("data", REFUSED_400.values(), ids=REFUSED_400.keys())
def test_what_could_be_misread_is_refused(echoing: Served, data: bytes) -> None:
    refusal(echoing.ask(data), 400, "client_invalid_request")


@pytest.mark.parametrize("data", [d for d in REFUSED_400.values() if len(d) < 1000])
def test_cuts_do_not_change_what_is_refused(echoing: Served, data: bytes) -> None:
    with echoing.client() as client:
        in_bytes(client, data)
        refusal(client.rest(), 400, "client_invalid_request")


@pytest.mark.parametrize("data", REFUSED_431.values(), ids=REFUSED_431.keys())
def test_what_is_too_large_a_head_is_refused(echoing: Served, data: bytes) -> None:
    refusal(echoing.ask(data), 431, "client_invalid_request")


@pytest.mark.parametrize(
    "data", [GET + GET[:-2] + b"Host: b\r\n\r\n", GET + b"junk\r\n\r\n", GET + CHUNKED + b"3\r\nabcX\r\n0\r\n\r\n"]
)
def test_a_refusal_waits_for_the_answers_before_it(echoing: Served, data: bytes) -> None:
    first, second = answers(echoing.ask(data))
    assert (first.status, second.status) == (200, 400)


def test_a_hundred_headers_and_16_kB_of_target_are_fine(echoing: Served) -> None:
    head = b"GET /" + b"a" * 16_000 + b" HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: a\r\n" % i for i in range(99))
    with echoing.client() as client:
        client.say(head + b"\r\n")
        assert client.answer().status == 200


@pytest.mark.parametrize("host", [b"a", b"a.b_c-d:80", b"127.0.0.1:8080", b"[::1]:8080", b"a:"])
def test_hosts_that_are_hosts_pass(echoing: Served, host: bytes) -> None:
    with echoing.client() as client:
        client.say(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
        assert client.answer().status == 200


def test_paths_are_given_raw_and_decoded(echoing: Served) -> None:
    with echoing.client() as client:
        client.say(b"GET /v1%2fecho?a=%20b HTTP/1.1\r\nHost: a\r\n\r\n")
        told = json.loads(client.answer().body)
    assert (told["path"], told["raw_path"], told["query"]) == ("/v1/echo", "/v1%2fecho", "a=%20b")


def test_trailers_are_no_headers(echoing: Served) -> None:
    with echoing.client() as client:
        client.say(CHUNKED + b"3\r\nabc\r\n0\r\nAuthorization: Bearer x\r\n\r\n" + GET)
        told = json.loads(client.answer().body)
        assert told["body"] == "abc"
        assert "authorization" not in dict(told["headers"])
        assert "authorization" not in dict(json.loads(client.answer().body)["headers"])


def test_an_upgrade_is_served_as_plain_HTTP_with_its_body(echoing: Served) -> None:
    """As Java's HTTP client and curl --http2 ask."""
    with echoing.client() as client:
        head = POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
        client.say(head + b"Content-Length: 3\r\n\r\nabc" + GET)
        told = json.loads(client.answer().body)
        assert told["body"] == "abc"
        assert not {"upgrade", "connection", "http2-settings"} & dict(told["headers"]).keys()
        assert json.loads(client.answer().body)["path"] == "/x"
        in_bytes(client, head + b"Content-Length: 3\r\n\r\nabc")
        assert json.loads(client.answer().body)["body"] == "abc"


def test_pipelined_requests_are_answered_in_order(echoing: Served) -> None:
    with echoing.client() as client:
        client.say(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(50)))
        assert [json.loads(client.answer().body)["path"] for _ in range(50)] == [f"/{i}" for i in range(50)]


def test_too_many_pipelined_requests_are_refused(echoing: Served) -> None:
    found = answers(echoing.ask(GET * 1000))
    assert [answer.status for answer in found[:-1]] == [200] * (len(found) - 1)
    assert found[-1].status == 400 and 200 < len(found) < 1000


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 70_000, 20 * 2**20])
def test_bodies_up_to_the_limit_arrive_in_one_message(size: int, chunked: bool) -> None:
    async def count(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.01)  # longer than the first bytes take: reading pauses
        message = await receive()
        assert not message["more_body"]
        await respond(send, b"%d" % len(message["body"]))

    body = bytes(size)
    with served(count) as server, server.client() as client:
        if chunked:
            cut = [body[at : at + 50_000] for at in range(0, size, 50_000)]
            client.say(CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in cut) + b"0\r\n\r\n")
        else:
            client.say(POST + b"Content-Length: %d\r\n\r\n" % size + body)
        assert client.answer().body == b"%d" % size


def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    with served(echo, Limits(max_body=1000)) as server:
        refusal(server.ask(POST + b"Content-Length: 1001\r\n\r\n"), 413, "client_too_large")
        refusal(server.ask(POST + b"Content-Length: 300000\r\n\r\n" + bytes(300_000)), 413, "client_too_large")
        refusal(server.ask(CHUNKED + b"3e9\r\n" + bytes(1001)), 413, "client_too_large")
        refusal(server.ask(CHUNKED + b"1f4\r\n" + bytes(500) + b"\r\n1f5\r\n" + bytes(501)), 413, "client_too_large")


def test_silence_is_closed_at_its_deadline() -> None:
    limits = Limits(header=0.2, body=0.2, keep_alive=0.2)
    with served(echo, limits) as server:
        assert server.ask(b"") == b""  # nothing said, nothing answered
        refusal(server.ask(b"GET / HT"), 408, "client_timeout")
        refusal(server.ask(POST + b"Content-Length: 9\r\n\r\nabc"), 408, "client_timeout")
        refusal(server.ask(CHUNKED + b"3\r\nab"), 408, "client_timeout")
        [answer] = answers(server.ask(GET))  # idle after an answer: closed without a word
        assert answer.status == 200
        wait_for(server.quiet)


def test_a_head_that_trickles_is_closed_at_its_deadline_and_a_body_that_trickles_is_not() -> None:
    with served(echo, Limits(header=0.3, body=0.3)) as server:
        with server.client() as client:
            client.say(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            client.sock.setblocking(False)
            while not client.buffer:
                client.say(b"a")
                time.sleep(0.05)
                with suppress(BlockingIOError):
                    client.more()
            client.sock.settimeout(PATIENCE)
            refusal(client.rest(), 408, "client_timeout")
        with server.client() as client:
            client.say(POST + b"Content-Length: 8\r\n\r\n")
            for _ in range(8):
                time.sleep(0.1)
                client.say(b"x")
            assert client.answer().status == 200


def test_the_head_may_take_as_long_as_the_connection_lives_between_requests() -> None:
    with served(echo, Limits(header=0.3, keep_alive=5)) as server, server.client() as client:
        client.say(GET)
        assert client.answer().status == 200
        time.sleep(0.5)
        client.say(GET)
        assert client.answer().status == 200


def test_a_client_that_waits_for_a_100_continue_is_not_silent() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.4)
        await echo(scope, receive, send)

    with served(slow, Limits(body=0.2)) as server, server.client() as client:
        client.say(POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        refusal(client.rest(), 408, "client_timeout")


def test_empty_lines_keep_no_connection_open() -> None:
    with served(echo, Limits(header=0.3, keep_alive=60)) as server, server.client() as client:
        client.sock.setblocking(False)
        with suppress(BrokenPipeError):
            while not client.closed:
                client.say(b"\r\n")
                time.sleep(0.05)
                with suppress(BlockingIOError):
                    client.more()
        assert not client.buffer


def test_a_request_that_waits_in_the_pipeline_has_no_deadline() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.5)
        await echo(scope, receive, send)

    with served(slow, Limits(header=0.2, body=0.2)) as server, server.client() as client:
        client.say(GET + POST + b"Content-Length: 3\r\n\r\nab")
        assert client.answer().status == 200
        client.say(b"c" + GET[:9])
        assert json.loads(client.answer().body)["body"] == "abc"


def test_a_reader_that_takes_nothing_is_dropped_and_a_slow_one_is_served() -> None:
    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start((b"content-length", b"16777216")))
        for left in range(63, -1, -1):
            await send(piece(bytes(2**18), more=left > 0))

    with served(flood, Limits(write=0.3)) as server:
        with server.client() as client:
            client.say(GET)
            wait_for(lambda: server.state.connections)
            wait_for(server.quiet)
        with server.client() as client:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
            client.say(GET)
            for _ in range(10):  # longer than the deadline in all, a little each time
                time.sleep(0.1)
                client.exactly(2**18)
            while len(client.buffer) < 2**22:
                assert client.more()


def test_past_the_cap_connections_are_refused() -> None:
    with served(echo, Limits(max_connections=2)) as server:
        with server.client() as first, server.client() as second:
            wait_for(lambda: len(server.state.connections) == 2)
            refusal(server.ask(GET), 503, "proxy_overloaded")
            for client in (first, second):
                client.say(GET)
                assert client.answer().status == 200
        wait_for(server.quiet)
        with server.client() as client:
            client.say(GET)
            assert client.answer().status == 200


def test_a_request_id_of_the_client_is_kept_in_refusals(echoing: Served) -> None:
    [answer] = answers(echoing.ask(b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine-1\r\n\r\n"))
    assert answer.headers["x-request-id"] == "mine-1"
    [answer] = answers(echoing.ask(b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX-Request-Id: <b>\r\n\r\n"))
    assert answer.headers["x-request-id"] != "<b>"


def test_a_body_that_breaks_ends_its_call(echoing: Served) -> None:
    ended = []

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await receive()
        except asyncio.CancelledError:
            ended.append(True)
            raise

    with served(wait) as server, server.client() as client:
        client.say(CHUNKED)
        wait_for(lambda: server.state.tasks)
        client.say(b"nonsense\r\n")
        refusal(client.rest(), 400, "client_invalid_request")
        wait_for(lambda: ended == [True])


SEEDS = [
    GET,
    POST + b"Content-Length: 3\r\n\r\nabc",
    CHUNKED + b"3\r\nabc\r\n0\r\nT: u\r\n\r\n",
    GET + POST + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc",
    POST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
    b"GET / HTTP/1.0\r\n\r\n",
]
TOKENS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b"\t",
    b"Host: b\r\n",
    b"Content-Length: 5\r\n",
    b"0\r\n\r\n",
    b"\xff",
]


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 4))
        new = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=3)))
        data = data[:at] + new + data[at + gone :]
    return data


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=mutants())
def test_whatever_is_said_the_answer_is_sound(echoing: Served, data: bytes) -> None:
    with echoing.client() as client:
        client.say(data)
        client.sock.shutdown(socket.SHUT_WR)
        raw = client.rest().replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    for answer in answers(raw):
        assert answer.status in (200, 400, 405, 408, 413, 431)
        assert answer.headers["content-type"] == "application/json"
        json.loads(answer.body)

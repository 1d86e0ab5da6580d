"""A server process: its start, its signals, its end."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop
from starlette.types import Receive, Scope, Send

from proxy.serving.listening import listen
from proxy.serving.running import Drain, Hooks, Serving
from tests.running import ThreadedServer
from tests.serving.served import Answer, Client, respond
from tests.waiting import wait_for

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
PROGRAM = """
import asyncio, sys
from proxy.serving.running import Drain, Hooks, Serving, serve

drain = Drain()
say = lambda *words: print(*words, flush=True)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            say(kind)
            if scope_fails and kind.endswith("startup"):
                await send({"type": kind + ".failed"})
            else:
                if slow and kind.endswith("shutdown"):
                    await asyncio.sleep(serving.drain)  # for calls of others
                    await asyncio.sleep(0.2)
                    say("put away")
                await send({"type": kind + ".complete"})
            if kind.endswith("shutdown"):
                return
    path = scope["path"]
    status = 503 if path == "/readyz" and drain.draining else 200
    if path == "/stream":
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(int(scope["query_string"] or b"1000")):
            await send({"type": "http.response.body", "body": b"data: 1\\n\\n", "more_body": True})
            await asyncio.sleep(0.02)
        await send({"type": "http.response.body"})
        return
    if path == "/wait":
        say("waiting")
        await asyncio.sleep(60)
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

scope_fails, slow = sys.argv[4] == "fails", sys.argv[4] == "slow"
serving = Serving(port=int(sys.argv[1]), drain=float(sys.argv[2]), notice=float(sys.argv[3]))
hooks = Hooks(lambda *address: say("listening", *address), lambda: say("drain"), lambda: say("reload"))
sys.exit(serve(app, serving, drain, hooks))
"""


@dataclass
class Process:
    """The server's process and what it says."""

    popen: subprocess.Popen[str]
    port: int = 0

    def line(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def client(self, path: bytes) -> Client:
        client = Client(socket.create_connection(("127.0.0.1", self.port), timeout=5))
        client.say(GET % path)
        return client

    def ask(self, path: bytes) -> Answer:
        with self.client(path) as client:
            return client.answer()

    def refuses(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except ConnectionError:
            return True
        return False


@contextmanager
def process(port: int = 0, drain: float = 10, notice: float = 0, lifespan: str = "works") -> Iterator[Process]:
    root = Path(__file__).parents[2]
    arguments = [sys.executable, "-c", PROGRAM, str(port), str(drain), str(notice), lifespan]
    popen = subprocess.Popen(arguments, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with popen:
        try:
            yield Process(popen)
        finally:
            popen.kill()


@contextmanager
def running(drain: float = 10, notice: float = 0, lifespan: str = "works") -> Iterator[Process]:
    with process(drain=drain, notice=notice, lifespan=lifespan) as found:
        assert found.line() == "lifespan.startup"
        word, host, port = found.line().split()
        assert (word, host) == ("listening", "127.0.0.1")
        found.port = int(port)
        yield found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_server_at_once(number: signal.Signals) -> None:
    with running() as server:
        with server.client(b"/") as client:  # an idle connection does not hold it
            assert client.answer().headers["date"].endswith("gmt")
            server.popen.send_signal(number)
            assert client.rest() == b""
        assert (server.line(), server.line()) == ("drain", "lifespan.shutdown")
        assert server.popen.wait(5) == 0


def test_running_calls_finish_and_nothing_new_is_taken() -> None:
    with running() as server, server.client(b"/stream?30") as client:
        client.until(b"data: 1\n\n")
        server.popen.send_signal(signal.SIGTERM)
        assert server.line() == "drain"
        wait_for(server.refuses)
        assert server.popen.poll() is None
        assert client.rest().endswith(b"data: 1\n\n\r\n0\r\n\r\n")
        assert server.line() == "lifespan.shutdown"
        assert server.popen.wait(5) == 0


async def brief(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await respond(send, b"{}")
        return
    for step in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{step}"
        await send({"type": f"lifespan.{step}.complete"})


class Interrupted(ThreadedServer):
    """Ends at once, with a request unread on a connection that was answered before, and more clients in its queue."""

    def __init__(self, queued: int) -> None:
        super().__init__(brief, Serving(), Drain(), Hooks())
        (self.listener,) = listen("127.0.0.1", 0)
        self.queued = queued
        self.clients: list[Client] = []

    async def main_loop(self) -> None:
        """What comes after the last await is seen by nobody before `shutdown`."""
        kept = self._client()
        assert "connection" not in (await asyncio.to_thread(kept.answer)).headers
        kept.say(GET % b"/")
        for _ in range(self.queued):
            self._client()

    def _client(self) -> Client:
        client = Client(socket.create_connection(self.listener.getsockname(), timeout=5))
        client.say(GET % b"/")
        self.clients.append(client)
        return client


def test_requests_that_cross_the_end_are_answered() -> None:
    server = Interrupted(queued=20)
    uvloop.run(server.serve([server.listener]))
    for client in server.clients:
        with client:
            assert client.answer().status == 200 and client.rest() == b""


def test_readiness_ends_before_the_listening() -> None:
    with running(notice=1) as server, server.client(b"/stream?10"):
        assert server.ask(b"/readyz").status == 200
        server.popen.send_signal(signal.SIGTERM)
        assert server.line() == "drain"
        assert server.ask(b"/readyz").status == 503
        wait_for(server.refuses)


def test_who_has_no_calls_waits_for_nobody() -> None:
    with running(notice=60) as server, socket.create_connection(("127.0.0.1", server.port), timeout=5):
        assert server.ask(b"/").status == 200  # a later connection: the other one has been taken by now
        server.popen.send_signal(signal.SIGTERM)
        assert server.popen.wait(5) == 0


def test_calls_that_do_not_finish_in_time_get_an_error() -> None:
    with running(drain=0.2) as server, server.client(b"/stream") as stream, server.client(b"/wait") as waiting:
        stream.until(b"data: 1\n\n")
        assert server.line() == "waiting"
        server.popen.send_signal(signal.SIGTERM)
        assert stream.rest().endswith(b"data: 1\n\n\r\n"), "broken off: what it might be told, only the app knows"
        answer = waiting.answer()
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "proxy_draining", "1")
        assert server.popen.wait(5) == 0


def test_a_second_signal_ends_all_at_once() -> None:
    with running(drain=60) as server, server.client(b"/wait") as client:
        assert server.line() == "waiting"
        server.popen.send_signal(signal.SIGTERM)
        assert server.line() == "drain"
        server.popen.send_signal(signal.SIGTERM)
        assert client.answer().code == "proxy_draining"
        assert server.line() == "lifespan.shutdown"
        assert server.popen.wait(5) == 0


def test_an_app_that_waits_for_the_calls_of_others_puts_away_what_it_has_after_them() -> None:
    with running(drain=1.5, lifespan="slow") as server:
        server.popen.send_signal(signal.SIGTERM)
        assert [server.line() for _ in range(3)] == ["drain", "lifespan.shutdown", "put away"]
        assert server.popen.wait(5) == 0


def test_a_half_sent_request_is_answered_at_the_end_of_the_process() -> None:
    with running() as server, Client(socket.create_connection(("127.0.0.1", server.port), timeout=5)) as client:
        client.say(b"GET / HTTP/1.1\r\nHo")
        assert server.ask(b"/").status == 200  # a later connection: the half request has been read by now
        server.popen.send_signal(signal.SIGTERM)
        assert json.loads(client.rest().partition(b"\r\n\r\n")[2])["error"]["code"] == "proxy_draining"


def test_SIGHUP_reloads() -> None:
    with running() as server:
        server.popen.send_signal(signal.SIGHUP)
        assert server.line() == "reload"
        assert server.ask(b"/").status == 200


def test_an_address_in_use_is_one_line_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with process(port) as server:
            assert server.popen.wait(10) == 1
            assert server.popen.stderr is not None
            assert server.popen.stderr.read() == f"sluice: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_an_app_that_does_not_start_is_exit_code_1() -> None:
    with process(lifespan="fails") as server:
        assert server.popen.wait(10) == 1

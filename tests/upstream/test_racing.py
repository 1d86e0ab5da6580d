"""The trace of a call whose targets race describes the target whose answer, or failure, the caller gets."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace

import orjson
import pytest

from proxy.call import Call
from proxy.clocks import Clock, Watchdog
from proxy.policies.retries import Budget
from proxy.policies.rewriting import RequestRules, ResponseRules
from proxy.policies.routes import Choice, Hedge, Policies, Retry, Route, Timeouts
from proxy.policies.runs import Hold as Held
from proxy.policies.runs import Run
from proxy.providers.contract import Order, Provider, Target
from proxy.upstream.attempting import Outcome
from proxy.upstream.bodies import RawReader
from proxy.upstream.racing import raced
from proxy.upstream.streaming import EventStream, Waits
from proxy.upstream.wire import Stream, Wire
from proxy.watch import RawWatch
from tests.doubles.anthropic import AnthropicDouble
from tests.doubles.faults import Status
from tests.doubles.openai import OpenAIDouble
from tests.doubles.server import Double
from tests.doubles.wire import Answer, Hold, Received
from tests.providers.targets import target
from tests.running import Running, sluice
from tests.upstream.conftest import Run as OnLoop
from tests.upstream.test_bodies import Body
from tests.waiting import wait_for

CONFIG = """
upstreams:
  east: {{provider: {provider}, base_url: {east}, api_key: sk-east, models: [x]}}
  west: {{provider: openai, base_url: {west}, api_key: sk-west, models: [y]}}
routes:
  - {{model: hedged, to: [east/x, west/y], hedge: {{after: 50ms, budget: 100%}}, retry: {{attempts: 1}}}}
"""
HELLO = {"model": "hedged", "messages": [{"role": "user", "content": "hello"}]}


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def url(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}/v1"


def asked_for_a_chat(server: socket.socket) -> socket.socket:
    """The connection on which a chat is asked for; other questions get no answer."""
    while True:
        peer, _ = server.accept()
        if peer.recv(65536).startswith(b"POST"):
            return peer
        peer.close()


def answer(model: str, tokens: int) -> bytes:
    body = orjson.dumps(
        {
            "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1},
        }
    )
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@contextmanager
def standing_still(proxy: Running) -> Iterator[None]:
    """The proxy's event loop does nothing in the meantime: what comes is there all at once afterwards."""
    still, go_on = threading.Event(), threading.Event()

    def stand() -> None:
        still.set()
        go_on.wait(10)

    proxy.loop.call_soon_threadsafe(stand)
    assert still.wait(10)
    try:
        yield
    finally:
        go_on.set()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_answers_at_once_the_one_that_is_given_is_recorded(order: tuple[int, int]) -> None:
    with closing(listening()) as east, closing(listening()) as west, ThreadPoolExecutor() as pool:
        with sluice(CONFIG.format(provider="openai", east=url(east), west=url(west))) as proxy:
            asked = pool.submit(proxy.chat, HELLO)
            peers = [asked_for_a_chat(server) for server in (east, west)]
            with standing_still(proxy):
                for place in order:
                    peers[place].sendall((answer("x", 2), answer("y", 5))[place])
            given = asked.result(10)
            asker, model, tokens = ("east", "x", 2) if given.json()["model"] == "x" else ("west", "y", 5)
            assert (given.headers["x-sluice-upstream"], given.headers["x-sluice-model"]) == (asker, model)
            wait_for(lambda: proxy.metric("sluice_requests_total", upstream=asker, code="ok") == 1)
            assert proxy.metric("sluice_tokens_total", kind="output") == tokens
            for peer in peers:
                peer.close()


def test_a_failure_of_both_shows_the_changes_made_for_the_first() -> None:
    def held(double: Double, request: Received) -> Answer:
        return replace(Status(500)(double, request), before=(Hold(),))

    with AnthropicDouble(key="sk-east") as east, OpenAIDouble(key="sk-west") as west, ThreadPoolExecutor() as pool:
        east.always = west.always = held
        with sluice(CONFIG.format(provider="anthropic", east=east.url, west=west.url)) as proxy:
            asked = pool.submit(proxy.chat, HELLO | {"seed": 7})
            wait_for(lambda: east.calls and west.calls)
            east.release()
            wait_for(lambda: proxy.metric("sluice_attempts_total", upstream="east") == 1)
            west.release()
            failed = asked.result(10)
        assert (failed.status_code, failed.headers["x-sluice-attempts"]) == (502, "east:500,west:500")
        assert (failed.headers["x-sluice-upstream"], failed.headers["x-sluice-model"]) == ("east", "x")
        assert failed.headers["x-sluice-changes"] == "default max_tokens, drop seed"


class Ready:
    """A prepared call."""

    changes = ()

    def order(self, target: Target) -> Order:
        return Order("chat/completions", b"{}", True, [], target)

    def context(self, target: Target) -> int | None:
        return None


def test_an_answer_is_closed_if_its_call_ends_while_the_loser_is_being_closed(run: OnLoop) -> None:
    slow, quick = (target(Provider(), model, base="http://x") for model in ("slow", "quick"))
    route = Route(
        "r",
        "r",
        True,
        (slow, quick),
        RequestRules(),
        ResponseRules(),
        Policies(Timeouts(1, 1, 1, 1, 1), Retry(1, 0, 0, 0)),
    )

    async def main() -> None:
        ended, leaves, left = list[Stream](), asyncio.Event(), asyncio.Event()

        async def tries(order: Order, clock: Clock, hold: Held) -> Outcome:
            if order.target is quick:
                stream = EventStream(Body(), RawReader(), RawWatch(), clock, Waits(1, 1))
                wire = Wire(quick, 200, [], stream=stream)
                wire.after = ended.append
                return wire
            try:
                await asyncio.Event().wait()
            finally:
                leaves.set()
                await left.wait()
            raise AssertionError("it is cancelled")

        call = Call("1", "openai", "chat/completions", "m", b"{}", {}, stream=True)
        way = Run(call, Choice(route, (slow, quick)), Ready(), Watchdog().clock(9), Budget(0))
        first = way.next_order()
        assert first is not None
        racing = asyncio.create_task(raced(way, first, Hedge(0, 1), tries))
        await leaves.wait()
        racing.cancel()
        await asyncio.sleep(0)  # so that it is heard
        left.set()
        with pytest.raises(asyncio.CancelledError):
            await racing
        assert len(ended) == 1

    run(main())

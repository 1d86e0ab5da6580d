"""Breakers and concurrency limits together, and across a reload: neither blocks an upstream forever."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.doubles.faults import Held, HoldAfter, Status
from tests.doubles.openai import OpenAIDouble
from tests.doubles.server import Double
from tests.doubles.wire import Answer, Hold, Received, Wait, sse
from tests.running import Running, sluice
from tests.waiting import wait_for

CONFIG = """
upstreams:
  east: {{provider: openai, base_url: {east}, max_in_flight: 1, max_wait: 50ms}}
defaults:
  retry: {{attempts: 1}}
  breaker: {{failures: 1, open_for: 200ms}}
"""


@pytest.fixture
def east() -> Iterator[OpenAIDouble]:
    with OpenAIDouble(key="") as double:
        double.strict = False
        yield double


@pytest.fixture
def proxy(east: OpenAIDouble) -> Iterator[Running]:
    with sluice(CONFIG.format(east=east.url)) as running:
        yield running


def status(proxy: Running, model: str) -> int:
    return proxy.chat({"model": model, "messages": [{"role": "user", "content": "hello"}]}).status_code


def test_a_probe_that_finds_no_place_makes_room_for_the_next(proxy: Running, east: OpenAIDouble) -> None:
    east.script(Status(500), Held())
    assert status(proxy, "sick") == 502  # its breaker is open now
    holder = threading.Thread(target=status, args=(proxy, "other"))
    holder.start()  # it has the only place
    wait_for(lambda: proxy.metric("sluice_in_flight", upstream="east") == 1)
    time.sleep(0.25)
    assert status(proxy, "sick") == 429  # a probe, and no place for it
    east.release()
    holder.join()
    assert status(proxy, "sick") == 200


def test_a_probe_whose_client_leaves_makes_room_for_the_next(proxy: Running, east: OpenAIDouble) -> None:
    east.script(Status(500), Held())
    assert status(proxy, "sick") == 502  # its breaker is open now
    time.sleep(0.25)
    with proxy.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json={"model": "sick", "messages": []}, timeout=0.3)
    wait_for(lambda: east.disconnects)
    assert status(proxy, "sick") == 200


def halting(double: Double, request: Received) -> Answer:
    """A stream that says who speaks, a word, and no more until it is let go."""
    role, word = ({"choices": [{"index": 0, "delta": delta}]} for delta in ({"role": "assistant"}, {"content": "Hi"}))
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    acts = sse(role), Wait(0.05), sse(word), Hold(), sse(finish), b"data: [DONE]\n\n"
    return Answer(200, (("content-type", "text/event-stream"),), acts, "chunked")


def test_a_probe_that_streams_keeps_nobody_waiting_for_its_end(proxy: Running, east: OpenAIDouble) -> None:
    proxy.reload(CONFIG.format(east=east.url).replace("max_in_flight: 1", "max_in_flight: 2"))
    east.script(Status(500), halting)
    assert status(proxy, "sick") == 502  # its breaker is open now
    time.sleep(0.25)
    asked = {"model": "sick", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    with proxy.client() as client, client.stream("POST", "/v1/chat/completions", json=asked) as probe:
        lines = probe.iter_lines()
        while '"Hi"' not in next(lines):
            pass
        assert (status(proxy, "sick"), proxy.metric("sluice_breaker_open", upstream="east")) == (200, 0)
        east.release()
        assert [line for line in lines if line][-1] == "data: [DONE]"


def test_a_probe_proves_nothing_before_its_first_word(proxy: Running, east: OpenAIDouble) -> None:
    proxy.reload(CONFIG.format(east=east.url).replace("max_in_flight: 1", "max_in_flight: 2"))
    east.script(Status(500), HoldAfter(1))  # who speaks, and no word
    assert status(proxy, "sick") == 502  # its breaker is open now
    time.sleep(0.25)
    asked = {"model": "sick", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    with ThreadPoolExecutor() as callers:
        probe = callers.submit(proxy.chat, asked)
        wait_for(lambda: len(east.calls) == 2)
        assert [status(proxy, "sick") for _ in range(20)] == [502] * 20
        east.release()
        assert probe.result().text.endswith("data: [DONE]\n\n")
    assert status(proxy, "sick") == 200


def test_a_breaker_outlives_a_reload_that_leaves_its_upstream_as_it_is(proxy: Running, east: OpenAIDouble) -> None:
    config = CONFIG.format(east=east.url).replace("open_for: 200ms", "open_for: 1h")
    proxy.reload(config)
    east.script(Status(500))
    assert status(proxy, "sick") == 502
    proxy.reload(config + "# changed\n")
    assert (status(proxy, "sick"), proxy.metric("sluice_breaker_open", upstream="east")) == (502, 1)
    proxy.reload(config.replace("max_wait", "headers: {x-new: here}, max_wait"))
    assert (status(proxy, "sick"), proxy.metric("sluice_breaker_open", upstream="east")) == (200, 0)


def test_a_call_keeps_its_place_across_a_reload(proxy: Running, east: OpenAIDouble) -> None:
    config = CONFIG.format(east=east.url)
    east.script(Held())
    holder = threading.Thread(target=status, args=(proxy, "held"))
    holder.start()
    wait_for(lambda: east.calls)
    proxy.reload(config + "# changed\n")
    assert status(proxy, "other") == 429
    east.release()
    holder.join()
    assert status(proxy, "other") == 200

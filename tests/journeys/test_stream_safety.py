"""Streams whose upstream breaks end with an error event, a continuation, or were held back until complete."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter, sleep

import httpx
import orjson
import pytest

from tests.doubles.faults import (
    CutAfter,
    ErrorEvent,
    FirstTokenAfter,
    Held,
    HoldAfter,
    Late,
    NoDone,
    RejectPrefill,
    Silent,
    StallAfter,
    Status,
    events,
)
from tests.doubles.mistral import MistralDouble
from tests.doubles.openai import OpenAIDouble
from tests.doubles.server import Double, Fault
from tests.doubles.wire import Answer, Cut, Hold, Received, sse
from tests.doubles.words import Said
from tests.running import Running, free_port, sluice
from tests.waiting import wait_for

CONFIG = """
server: {{ping: {ping}}}
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
  west: {{provider: openai, base_url: {west}, api_key: sk-west, prefill: {prefill}}}
defaults:
  timeouts: {{connect: 1s, first_token: 2s, idle: 400ms, whole: 3s}}
  retry: {{attempts: 2, backoff: 10ms, max_backoff: 100ms}}
  breaker: {{failures: 3, open_for: 3s}}
  stream_safety: {safety}
routes:
  - {{prefix: gpt-, to: [east, west]}}
  - {{prefix: hedged-, to: [east/x, west/x], hedge: {{after: {hedge}, budget: 100%}}}}
"""
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "tell me"}], "stream": True}


@contextmanager
def running(
    safety: str, prefill: bool = False, ping: str = "200ms", hedge: str = "100ms"
) -> Iterator[tuple[Running, OpenAIDouble, OpenAIDouble]]:
    with OpenAIDouble(key="sk-east") as east, OpenAIDouble(key="sk-west") as west:
        east.strict = west.strict = False
        west.prefill = prefill
        chosen = {"safety": safety, "prefill": str(prefill).lower(), "ping": ping, "hedge": hedge}
        with sluice(CONFIG.format(east=east.url, west=west.url, **chosen)) as proxy:
            yield proxy, east, west


def text_of(stream: str) -> str:
    """The words of a stream; checks that it is one well-formed stream."""
    chunks = [orjson.loads(line[6:]) for line in stream.split("\n") if line.startswith("data: {")]
    deltas = [chunk["choices"][0] for chunk in chunks if chunk.get("choices")]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert sum("role" in delta["delta"] for delta in deltas) == 1
    assert [delta["finish_reason"] for delta in deltas if delta["finish_reason"]] == ["stop"]
    assert stream.count("data: [DONE]") == 1 and stream.rstrip().endswith("data: [DONE]")
    return "".join(delta["delta"].get("content") or "" for delta in deltas)


BREAKS = [
    CutAfter(40),
    CutAfter(1),
    CutAfter(40, "reset"),
    StallAfter(20, 30),
    ErrorEvent(30),
    CutAfter(30, "chunk-eof"),
]


@pytest.mark.parametrize("broken", BREAKS, ids=str)
@pytest.mark.parametrize("prefill", [False, True])
def test_resume_goes_on_where_the_first_upstream_broke(broken: CutAfter, prefill: bool) -> None:
    with running("resume", prefill) as (proxy, east, west):
        right = text_of(proxy.chat(BODY).text)
        east.script(broken)
        answer = proxy.chat(BODY)
        assert text_of(answer.text) == right
        if broken == CutAfter(1):
            assert not west.calls  # nothing but the role had come, so the first target could simply be asked again
        else:
            assert [(call.json["messages"][-1]["role"] == "assistant") for call in west.calls] == [prefill]


def test_resume_asks_afresh_where_a_prefill_is_refused() -> None:
    with running("resume", True) as (proxy, east, west):
        right = text_of(proxy.chat(BODY).text)
        east.script(CutAfter(40))
        west.always = RejectPrefill()
        assert text_of(proxy.chat(BODY).text) == right
        assert len(west.calls) == 2


def after_a_thought(double: Double, request: Received) -> Answer:
    """A stream that breaks off, with a thought before its text."""
    answer = double.answer(request)
    first, *rest = events(answer)
    choice = {"index": 0, "delta": {"reasoning_content": "Hm."}, "finish_reason": None}
    thought = sse(orjson.loads(first.removeprefix(b"data: ")) | {"choices": [choice]})
    return answer.with_acts(first, thought, *rest[:40], Cut())


@pytest.mark.parametrize("broken", [CutAfter(40), after_a_thought])
def test_resume_tells_mistral_to_go_on_and_leaves_out_what_it_repeats(broken: Fault) -> None:
    """Behind a prefix it thinks no more."""
    with OpenAIDouble(key="sk-east") as east, MistralDouble() as west:
        east.strict = False
        chosen = {"safety": "resume", "prefill": "true", "ping": "200ms", "hedge": "100ms"}
        config = CONFIG.format(east=east.url, west=west.url, **chosen)
        own = f"base_url: {west.url}, api_key: "
        with sluice(config.replace(f"openai, {own}sk-west", f"mistral, {own}{west.key}")) as proxy:
            right = text_of(proxy.chat(BODY).text)
            east.script(broken)
            assert text_of(proxy.chat(BODY).text) == right
            (call,) = west.calls
            assert call.json["messages"][-1]["prefix"] is True
            assert right.startswith(call.json["messages"][-1]["content"])


def test_resume_does_not_join_answers_that_disagree() -> None:
    with running("resume") as (proxy, east, west):
        west.said = Said("something else entirely")
        east.script(CutAfter(40), CutAfter(40), CutAfter(40))
        west.script(HoldAfter(3))
        answer = proxy.chat(BODY).text
        assert "upstream_truncated" in answer and "[DONE]" not in answer and "something else" not in answer
        wait_for(lambda: west.disconnects)  # what cannot be joined is not read to its end
        wait_for(lambda: proxy.metric("sluice_in_flight") == 0)


def test_of_two_that_break_each_is_counted_by_what_it_did_itself() -> None:
    with running("resume") as (proxy, east, west):
        east.script(StallAfter(20, 30))  # a silent one is not asked again
        west.script(CutAfter(40, "reset"), CutAfter(40, "reset"))
        assert "upstream_timeout_idle" not in proxy.chat(BODY).text
        wait_for(lambda: proxy.metric("sluice_in_flight") == 0)
        assert proxy.metric("sluice_attempts_total", upstream="east", outcome="upstream_timeout_idle") == 1
        assert proxy.metric("sluice_attempts_total", upstream="west", outcome="upstream_truncated") == 2


@pytest.mark.parametrize("broken", BREAKS, ids=str)
def test_whole_holds_the_answer_back_until_it_is_complete(broken: CutAfter) -> None:
    with running("whole") as (proxy, east, west):
        right = text_of(proxy.chat(BODY).text)
        east.script(broken, broken)
        answer = proxy.chat(BODY)
        assert text_of(answer.text) == right
        assert len(west.calls) == 1


def test_a_stream_without_done_is_complete_and_gets_it() -> None:
    with running("live") as (proxy, east, _):
        east.script(NoDone())
        assert text_of(proxy.chat(BODY).text)


def test_a_breaker_opens_and_a_single_probe_closes_it() -> None:
    with running("live") as (proxy, east, west):
        east.always = Status(500)
        for _ in range(3):
            assert proxy.chat(BODY | {"stream": False}).headers["x-sluice-upstream"] == "west"
        seen = len(east.calls)
        wait_for(lambda: proxy.metric("sluice_breaker_open", upstream="east") == 1)
        assert proxy.chat(BODY | {"stream": False}).headers["x-sluice-attempts"] == "west:200"
        assert len(east.calls) == seen
        east.always = None

        def back() -> bool:
            return proxy.chat(BODY | {"stream": False}).headers["x-sluice-upstream"] == "east"

        wait_for(back)
        wait_for(lambda: proxy.metric("sluice_breaker_open", upstream="east") == 0)


def test_a_hedge_lets_the_first_token_win_and_cancels_the_loser() -> None:
    # Long enough that no comment sends the head before the upstream is known, and that the second call does not race.
    with running("live", ping="10s", hedge="500ms") as (proxy, east, west):
        east.script(FirstTokenAfter(5))
        answer = proxy.chat(BODY | {"model": "hedged-x"})
        assert answer.headers["x-sluice-upstream"] == "west"
        assert answer.headers["x-sluice-attempts"] == "west:200,east:cancelled"
        assert text_of(answer.text)
        wait_for(lambda: east.disconnects)
        fast = proxy.chat(BODY | {"model": "hedged-x"})
        assert fast.headers["x-sluice-attempts"] == "east:200"
        assert proxy.app.metrics.dispatched.totals() == proxy.app.upstreams.sent.totals()
        wait_for(lambda: proxy.metric("sluice_in_flight") == 0)


def timing(answer: httpx.Response) -> tuple[float, float]:
    """Milliseconds of the proxy and of the upstream, as the answer says."""
    said = answer.headers["server-timing"]
    assert (found := re.fullmatch(r"proxy;dur=([\d.]+), upstream;dur=([\d.]+)", said)), said
    return float(found[1]), float(found[2])


def test_two_that_race_are_waited_for_once() -> None:
    with running("live") as (proxy, east, west):
        east.script(Silent(5))
        west.script(Late(0.4))
        began = perf_counter()
        answer = proxy.chat(BODY | {"model": "hedged-x", "stream": False})
        assert answer.headers["x-sluice-upstream"] == "west"
        assert 400 < timing(answer)[1] < (perf_counter() - began) * 1000
        wait_for(lambda: proxy.metric("sluice_overhead_seconds_count") == 1)
        assert proxy.metric("sluice_overhead_seconds_sum") >= 0


def test_the_time_for_the_call_goes_on_while_it_waits_for_a_place() -> None:
    with OpenAIDouble(key="k") as east, ThreadPoolExecutor() as callers:
        east.strict = False
        east.script(Held())
        place = f"{{provider: openai, base_url: {east.url}, api_key: k, max_in_flight: 1, max_wait: 20s}}"
        with sluice(f"upstreams: {{east: {place}}}") as proxy:
            first = callers.submit(proxy.chat, BODY | {"stream": False})
            wait_for(lambda: east.calls)
            late = proxy.chat(BODY | {"stream": False}, x_sluice_timeout="200ms")
            assert (late.status_code, late.json()["error"]["code"]) == (504, "upstream_timeout_total")
            assert not first.done()
            east.release()
            assert first.result().status_code == 200
            assert proxy.chat(BODY | {"stream": False}).status_code == 200  # the place came free again


def test_the_wait_for_a_place_is_not_the_proxys_own_time() -> None:
    with OpenAIDouble(key="k") as east, ThreadPoolExecutor() as callers:
        east.strict = False
        east.script(Held())
        place = f"{{provider: openai, base_url: {east.url}, api_key: k, max_in_flight: 1}}"
        with sluice(f"upstreams: {{east: {place}}}") as proxy:
            first = callers.submit(proxy.chat, BODY | {"stream": False})
            wait_for(lambda: east.calls)
            second = callers.submit(proxy.chat, BODY | {"stream": False})
            sleep(0.3)  # which it spends before the gate
            east.release()
            assert first.result().status_code == 200
            ours, theirs = timing(second.result())
            assert ours < theirs


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [(500, 503, ("upstream_error", "east")), (400, 500, ("client_invalid_request", "east"))],
)
def test_a_race_that_nobody_wins_fails_as_its_first_target(first: int, second: int, told: tuple[str, str]) -> None:
    with running("live") as (proxy, east, west):

        def late(double: Double, request: Received) -> Answer:
            return replace(Status(first)(double, request), before=(Hold(),))

        def meanwhile(double: Double, request: Received) -> Answer:
            east.release()
            return Status(second)(double, request)

        east.always, west.always = late, meanwhile
        answer = proxy.chat(BODY | {"model": "hedged-x", "stream": False})
        assert (answer.json()["error"]["code"], answer.headers["x-sluice-upstream"]) == told
        assert west.calls


def test_a_full_upstream_lets_others_wait_and_refuses_the_rest() -> None:
    with OpenAIDouble(key="k") as east, ThreadPoolExecutor() as callers:
        east.strict = False
        place = f"{{provider: openai, base_url: {east.url}, api_key: k, max_in_flight: 1, max_wait: 300ms}}"
        with sluice(f"upstreams: {{east: {place}}}") as proxy:
            east.script(HoldAfter(1))
            first = callers.submit(proxy.chat, BODY)
            wait_for(lambda: east.calls)
            refused = proxy.chat(BODY | {"stream": False})
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "policy_concurrency")
            later = callers.submit(proxy.chat, BODY)
            east.release()
            assert [call.result().status_code for call in (first, later)] == [200, 200]


def test_a_route_that_leads_back_to_the_proxy_is_a_loop() -> None:
    port = free_port()
    config = f"""
upstreams:
  self: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1", api_key: k}}
"""
    with sluice(config, port=port) as proxy:
        answer = proxy.chat(BODY | {"stream": False, "model": "round"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (508, "proxy_loop")
        assert answer.headers["x-should-retry"] == "false"


def test_what_goes_on_after_a_won_race_has_its_clocks_and_leaves_none_behind() -> None:
    with running("resume") as (proxy, east, west):
        east.script(FirstTokenAfter(30))
        west.script(CutAfter(30), FirstTokenAfter(30))
        answer = proxy.chat(BODY | {"model": "hedged-x"}).text
        assert "upstream_truncated" in answer and "[DONE]" not in answer
        watchdog = proxy.app.runtime.gateway.stages.dispatch._watchdog
        wait_for(lambda: not watchdog._clocks)

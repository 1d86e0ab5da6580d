"""The cache, seen from outside: repeated calls are sent once, and nothing is served that should not be."""

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.doubles.faults import (
    CutAfter,
    ErrorEvent,
    ErrorIn200,
    Held,
    HoldAfter,
    NoFinish,
    Say,
    Status,
)
from tests.doubles.openai import OpenAIDouble
from tests.doubles.pacing import Paced
from tests.doubles.words import Said, ToolCall
from tests.running import Running, sluice
from tests.streams import text_of
from tests.waiting import wait_for

CONFIG = """
access: {{keys: required, client_keys: [one, two]}}
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
default_upstream: east
defaults:
  timeouts: {{connect: 1s, first_token: 5s, idle: 5s, whole: 5s}}
  retry: {{attempts: 1}}
routes:
  - prefix: kept/
    to: "east/{{rest}}"
    cache: {{exact: 1h, sampled: true}}
  - prefix: other/
    to: "east/{{rest}}"
    cache: {{exact: 1h, sampled: true}}
  - prefix: cold/
    to: "east/{{rest}}"
    cache: {{exact: 1h}}
  - prefix: tools/
    to: "east/{{rest}}"
    cache: {{exact: 1h, sampled: true, tools: true}}
  - prefix: shown/
    to: "east/{{rest}}"
    cache: {{exact: 1h, sampled: true}}
    request: {{remove: [user]}}
    response: {{model: asked, remove: [system_fingerprint], set: {{service: sluice}}}}
  - prefix: brief/
    to: "east/{{rest}}"
    cache: {{exact: 200ms, sampled: true}}
"""
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
ASKED = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture
def proxy(east: OpenAIDouble) -> Iterator[Running]:
    east.strict = False
    with sluice(CONFIG.format(east=east.url)) as running:
        running.headers = {"authorization": "Bearer one"}
        yield running


def test_the_same_call_is_answered_once_by_the_upstream(proxy: Running, east: OpenAIDouble) -> None:
    body = HELLO | {"model": "kept/gpt-4o"}
    first, second = proxy.chat(body), proxy.chat({"model": "kept/gpt-4o"} | HELLO)
    assert first.headers["x-sluice-cache"] == "miss" and "age" not in first.headers
    assert second.headers["x-sluice-cache"] == "hit" and second.headers["age"] == "0"
    assert second.content == first.content
    assert second.headers["content-type"].startswith("application/json")
    assert (second.headers["x-sluice-upstream"], second.headers["x-sluice-model"]) == ("east", "gpt-4o")
    assert second.headers["x-sluice-attempts"] == ""
    assert len(east.calls) == 1
    assert proxy.metric("sluice_cache_total", route="kept/", result="hit") == 1
    assert proxy.metric("sluice_cache_total", route="kept/", result="miss") == 1


@pytest.mark.parametrize("change", [{"seed": 7}, {"temperature": 0.5}, {"model": "kept/gpt-4.1"}, {"user": "u"}])
def test_another_body_is_another_call(proxy: Running, east: OpenAIDouble, change: dict[str, Any]) -> None:
    proxy.chat(HELLO | {"model": "kept/gpt-4o"})
    assert proxy.chat(HELLO | {"model": "kept/gpt-4o"} | change).headers["x-sluice-cache"] == "miss"
    assert len(east.calls) == 2


def test_tenants_routes_and_telling_headers_are_apart(proxy: Running, east: OpenAIDouble) -> None:
    body = HELLO | {"model": "kept/gpt-4o"}
    proxy.chat(body)
    assert proxy.chat(body, authorization="Bearer two").headers["x-sluice-cache"] == "miss"
    assert proxy.chat(body | {"model": "other/gpt-4o"}).headers["x-sluice-cache"] == "miss"
    assert proxy.chat(body, openai_beta="next").headers["x-sluice-cache"] == "miss"
    assert proxy.chat(body, user_agent="else", x_stainless_retry_count="1").headers["x-sluice-cache"] == "hit"
    assert len(east.calls) == 4


def test_rewriting_comes_before_the_comparison_and_after_the_replay(proxy: Running, east: OpenAIDouble) -> None:
    body = HELLO | {"model": "shown/gpt-4o"}
    first, hit = proxy.chat(body | {"user": "a"}), proxy.chat(body | {"user": "b"})
    assert hit.headers["x-sluice-cache"] == "hit" and hit.content == first.content
    assert hit.headers["x-sluice-changes"] == "remove user"
    assert hit.json()["model"] == "shown/gpt-4o" and hit.json()["service"] == "sluice"
    stream = proxy.chat(body | {"stream": True})
    assert '"model":"shown/gpt-4o"' in stream.text and "system_fingerprint" not in stream.text
    assert len(east.calls) == 1


def test_a_kept_whole_answer_replays_as_a_stream(proxy: Running, east: OpenAIDouble) -> None:
    whole = proxy.chat(HELLO | {"model": "kept/gpt-4o"})
    silent = proxy.chat(HELLO | {"model": "kept/gpt-4o", "stream": True})
    asked = proxy.chat(HELLO | {"model": "kept/gpt-4o"} | ASKED)
    assert silent.headers["x-sluice-cache"] == asked.headers["x-sluice-cache"] == "hit"
    assert silent.headers["content-type"].startswith("text/event-stream")
    assert text_of(silent.text) == whole.json()["choices"][0]["message"]["content"]
    assert silent.text.endswith("data: [DONE]\n\n") and '"choices":[]' not in silent.text
    assert json.loads(asked.text.split("\n\n")[-3][6:])["usage"] == whole.json()["usage"]
    assert len(east.calls) == 1


def test_a_kept_stream_replays_whole_with_usage_though_nobody_asked(proxy: Running, east: OpenAIDouble) -> None:
    stream = proxy.chat(HELLO | {"model": "kept/gpt-4o", "stream": True})
    whole = proxy.chat(HELLO | {"model": "kept/gpt-4o"})
    assert '"choices":[]' not in stream.text
    assert whole.headers["x-sluice-cache"] == "hit"
    assert whole.json()["object"] == "chat.completion"
    assert whole.json()["choices"][0]["message"]["content"] == text_of(stream.text)
    assert whole.json()["usage"]["total_tokens"] > 0
    assert len(east.calls) == 1


def test_the_openai_client_reads_replays(proxy: Running) -> None:
    with openai.OpenAI(api_key="one", base_url=f"{proxy.url}/v1", max_retries=0) as client:
        for _ in range(2):
            stream = client.chat.completions.create(
                model="kept/gpt-4o", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            texts = [chunk.choices[0].delta.content or "" for chunk in stream]
            whole = client.chat.completions.create(model="kept/gpt-4o", messages=[{"role": "user", "content": "hi"}])
            assert "".join(texts) == whole.choices[0].message.content
    assert proxy.metric("sluice_cache_total", result="hit") == 3


def test_the_client_may_refuse_refresh_or_insist(proxy: Running, east: OpenAIDouble) -> None:
    body = HELLO | {"model": "kept/gpt-4o"}
    missed = proxy.chat(body, x_sluice_cache="only")
    assert (missed.status_code, missed.json()["error"]["code"]) == (504, "cache_miss")
    assert missed.headers["x-should-retry"] == "false"
    assert missed.headers["x-sluice-cache"] == "miss" and not east.calls
    proxy.chat(body)
    assert proxy.chat(body, x_sluice_cache="off").headers["x-sluice-cache"] == "off"
    assert proxy.chat(body, x_sluice_cache="only").headers["x-sluice-cache"] == "hit"
    east.script(Say(Said("fresh")))
    assert proxy.chat(body, x_sluice_cache="refresh").headers["x-sluice-cache"] == "miss"
    assert proxy.chat(body).json()["choices"][0]["message"]["content"] == "fresh"
    assert len(east.calls) == 3


def test_routes_that_keep_nothing_say_off(proxy: Running, east: OpenAIDouble) -> None:
    body = HELLO | {"model": "east/gpt-4o"}
    assert proxy.chat(body).headers["x-sluice-cache"] == proxy.chat(body).headers["x-sluice-cache"] == "off"
    assert proxy.chat(body, x_sluice_cache="only").json()["error"]["code"] == "cache_miss"
    assert len(east.calls) == 2


def test_sampled_answers_need_the_routes_word(proxy: Running, east: OpenAIDouble) -> None:
    body = HELLO | {"model": "cold/gpt-4o"}
    for sampled in (body, body | {"temperature": 1}, body | {"temperature": None}):
        assert [proxy.chat(sampled).headers["x-sluice-cache"] for _ in range(2)] == ["off", "off"]
    exact = body | {"temperature": 0}
    assert [proxy.chat(exact).headers["x-sluice-cache"] for _ in range(2)] == ["miss", "hit"]


def test_tool_calls_need_the_routes_word(proxy: Running, east: OpenAIDouble) -> None:
    east.said = Said(tools=(ToolCall("look", '{"at":"owl"}'),))
    tools = {"tools": [{"type": "function", "function": {"name": "look"}}]}
    body = HELLO | {"model": "kept/gpt-4o"} | tools
    assert [proxy.chat(body).headers["x-sluice-cache"] for _ in range(2)] == ["miss", "miss"]
    body = HELLO | {"model": "tools/gpt-4o"} | tools
    first, hit = proxy.chat(body | {"stream": True}), proxy.chat(body)
    assert (first.headers["x-sluice-cache"], hit.headers["x-sluice-cache"]) == ("miss", "hit")
    assert hit.json()["choices"][0]["message"]["tool_calls"][0]["function"] == {
        "name": "look",
        "arguments": '{"at":"owl"}',
    }


def test_embeddings_are_kept_and_other_endpoints_are_not(proxy: Running, east: OpenAIDouble) -> None:
    body = {"model": "kept/text-embedding-3-small", "input": "an owl"}
    first, hit = proxy.chat(body, "/v1/embeddings"), proxy.chat(body, "/v1/embeddings")
    assert (first.headers["x-sluice-cache"], hit.headers["x-sluice-cache"]) == ("miss", "hit")
    assert hit.content == first.content
    other = {"model": "kept/gpt-4o", "input": "an owl"}
    assert [proxy.chat(other, "/v1/responses").headers["x-sluice-cache"] for _ in range(2)] == ["off", "off"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [Status(500), CutAfter(10), ErrorEvent(10), ErrorIn200(), Say(Said("x", finish="content_filter"))],
)
def test_nothing_broken_is_kept(proxy: Running, east: OpenAIDouble, fault: Any, stream: bool) -> None:
    body = HELLO | {"model": "kept/gpt-4o", "stream": stream}
    east.script(fault)
    broken = proxy.chat(body)
    assert broken.headers["x-sluice-cache"] == "miss"
    assert proxy.chat(body).headers["x-sluice-cache"] == "miss"
    good = proxy.chat(body)
    assert good.headers["x-sluice-cache"] == "hit" and good.status_code == 200
    assert len(east.calls) == 2


def test_a_stream_without_a_finish_reason_is_not_kept(proxy: Running, east: OpenAIDouble) -> None:
    east.script(NoFinish(10))
    body = HELLO | {"model": "kept/gpt-4o", "stream": True}
    assert [proxy.chat(body).headers["x-sluice-cache"] for _ in range(3)] == ["miss", "miss", "hit"]


def test_an_answer_cut_at_max_tokens_is_cached(proxy: Running, east: OpenAIDouble) -> None:
    east.script(Say(Said("cut short", finish="length")))
    body = HELLO | {"model": "kept/gpt-4o", "stream": True}
    assert [proxy.chat(body).headers["x-sluice-cache"] for _ in range(2)] == ["miss", "hit"]


def test_what_a_client_gave_up_is_not_kept(proxy: Running, east: OpenAIDouble) -> None:
    east.script(HoldAfter(3))
    body = HELLO | {"model": "kept/gpt-4o", "stream": True}
    with proxy.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_raw())
    wait_for(lambda: east.disconnects)
    assert proxy.chat(body).headers["x-sluice-cache"] == "miss"
    assert proxy.metric("sluice_in_flight", upstream="east") == 0


def test_cached_answers_expire(proxy: Running, east: OpenAIDouble) -> None:
    body = HELLO | {"model": "brief/gpt-4o"}
    proxy.chat(body)
    wait_for(lambda: proxy.chat(body).headers["x-sluice-cache"] == "miss")


def test_a_hundred_at_once_ask_once(proxy: Running, east: OpenAIDouble) -> None:
    east.script(Held())
    body = HELLO | {"model": "kept/gpt-4o", "stream": True}

    async def all_of_them() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(
            base_url=proxy.url, headers=proxy.headers, trust_env=False, limits=limits
        ) as client:
            calls = [asyncio.create_task(client.post("/v1/chat/completions", json=body)) for _ in range(100)]
            shared = lambda: proxy.metric("sluice_cache_total", result="shared") == 99  # noqa: E731
            await asyncio.to_thread(wait_for, shared)
            east.release()
            return await asyncio.gather(*calls)

    answers = asyncio.run(all_of_them())
    assert len(east.calls) == 1
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].text.endswith("data: [DONE]\n\n")
    assert sorted(answer.headers["x-sluice-cache"] for answer in answers) == ["miss"] + ["shared"] * 99
    assert {answer.headers["x-sluice-attempts"] for answer in answers} == {"east:200"}
    once = json.loads(proxy.chat(HELLO | {"model": "kept/gpt-4o"}).text)["usage"]["completion_tokens"]
    assert proxy.metric("sluice_tokens_total", kind="output") == once


@pytest.mark.parametrize("leaves", ["first", "second"])
def test_joining_in_mid_stream_and_leaving_alone(proxy: Running, east: OpenAIDouble, leaves: str) -> None:
    east.script(HoldAfter(5))
    body = HELLO | {"model": "kept/gpt-4o", "stream": True}
    with proxy.client() as one, proxy.client() as two:
        with one.stream("POST", "/v1/chat/completions", json=body) as first:
            begun = first.iter_raw()
            early = next(begun)
            with two.stream("POST", "/v1/chat/completions", json=body) as second:
                assert second.headers["x-sluice-cache"] == "shared"
                late = second.iter_raw()
                assert next(late).startswith(early[:200])  # from its beginning
                stays, goes = (late, first) if leaves == "first" else (begun, second)
                goes.close()
                wait_for(lambda: proxy.metric("sluice_client_disconnects_total") == 1)
                assert not east.disconnects
                east.release()
                assert b"".join(stays).endswith(b"data: [DONE]\n\n")
    assert not east.disconnects
    assert proxy.chat(body).headers["x-sluice-cache"] == "hit"


def test_the_last_to_leave_ends_the_upstream_call(proxy: Running, east: OpenAIDouble) -> None:
    east.script(HoldAfter(5))
    body = HELLO | {"model": "kept/gpt-4o", "stream": True}
    with proxy.client() as one, proxy.client() as two:
        with one.stream("POST", "/v1/chat/completions", json=body) as first:
            begun = first.iter_raw()
            next(begun)
            with two.stream("POST", "/v1/chat/completions", json=body) as second:
                late = second.iter_raw()
                next(late)
                first.close()
                wait_for(lambda: proxy.metric("sluice_client_disconnects_total") == 1)
                assert not east.disconnects
    wait_for(lambda: east.disconnects)
    assert proxy.metric("sluice_in_flight", upstream="east") == 0


def test_a_whole_answer_may_join_a_stream(proxy: Running, east: OpenAIDouble) -> None:
    east.script(HoldAfter(5))
    body = HELLO | {"model": "kept/gpt-4o"}
    with proxy.client() as client, ThreadPoolExecutor() as pool:
        with client.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as first:
            begun = first.iter_raw()
            next(begun)
            whole = pool.submit(proxy.chat, body)
            only = pool.submit(lambda: proxy.chat(body, x_sluice_cache="only"))
            wait_for(lambda: proxy.metric("sluice_cache_total", result="shared") == 2)
            east.release()
            for _ in begun:
                pass
            for answer in (whole.result(10), only.result(10)):
                assert answer.headers["x-sluice-cache"] == "shared"
                assert answer.headers["content-type"].startswith("application/json")
                assert answer.json()["choices"][0]["finish_reason"] == "stop"
    assert len(east.calls) == 1


def test_a_stream_does_not_wait_for_a_whole_answer_but_where_it_must_not_ask(
    proxy: Running, east: OpenAIDouble
) -> None:
    east.script(Held())
    body = HELLO | {"model": "kept/gpt-4o"}
    with ThreadPoolExecutor() as pool:
        whole = pool.submit(proxy.chat, body)
        wait_for(lambda: east.calls)
        only = pool.submit(lambda: proxy.chat(body | {"stream": True}, x_sluice_cache="only"))
        wait_for(lambda: proxy.metric("sluice_cache_total", result="shared") == 1)
        stream = proxy.chat(body | {"stream": True})
        assert stream.headers["x-sluice-cache"] == "miss" and text_of(stream.text)
        east.release()
        assert whole.result(10).headers["x-sluice-cache"] == "miss"
        assert only.result(10).headers["x-sluice-cache"] == "shared" and text_of(only.result().text)
    assert len(east.calls) == 2


def test_all_who_share_see_how_it_broke(proxy: Running, east: OpenAIDouble) -> None:
    east.script(HoldAfter(5))
    body = HELLO | {"model": "kept/gpt-4o", "stream": True}
    with proxy.client() as one, proxy.client() as two:
        with one.stream("POST", "/v1/chat/completions", json=body) as first:
            begun = first.iter_raw()
            next(begun)
            with two.stream("POST", "/v1/chat/completions", json=body) as second:
                east.drop_connections()
                for text in (b"".join(begun), second.read()):
                    assert b'"upstream_truncated"' in text or b'"upstream_unreachable"' in text
                    assert b"[DONE]" not in text
    assert proxy.chat(body).headers["x-sluice-cache"] == "miss"


def test_all_who_wait_get_the_error(proxy: Running, east: OpenAIDouble) -> None:
    east.script(HoldAfter(1))
    body = HELLO | {"model": "kept/gpt-4o"}
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(proxy.chat, body) for _ in range(3)]
        wait_for(lambda: proxy.metric("sluice_cache_total", result="shared") == 2 and len(east.calls) == 1)
        east.drop_connections()
        answers = [call.result(10) for call in calls]
    assert {answer.status_code for answer in answers} == {502}
    assert {answer.json()["error"]["code"] for answer in answers} <= {"upstream_unreachable", "upstream_truncated"}
    assert len(east.calls) == 1


def test_a_call_with_its_own_clock_is_not_shared(proxy: Running, east: OpenAIDouble) -> None:
    east.script(Held())
    body = HELLO | {"model": "kept/gpt-4o"}
    with ThreadPoolExecutor() as pool:
        brief = pool.submit(lambda: proxy.chat(body, x_sluice_timeout="300ms"))
        wait_for(lambda: east.calls)
        assert proxy.chat(body).headers["x-sluice-cache"] == "miss"
        assert brief.result(10).json()["error"]["code"] == "upstream_timeout_total"


@pytest.mark.parametrize("mode", [{}, {"x_sluice_cache": "only"}])
def test_one_who_joins_may_have_a_clock_of_its_own(proxy: Running, east: OpenAIDouble, mode: dict[str, str]) -> None:
    east.script(HoldAfter(5))
    body = HELLO | {"model": "kept/gpt-4o", "stream": True}
    with proxy.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as first:
        begun = first.iter_raw()
        next(begun)
        whole = proxy.chat(HELLO | {"model": "kept/gpt-4o"}, x_sluice_timeout="300ms", **mode)
        assert (whole.status_code, whole.headers["x-sluice-cache"]) == (504, "shared")
        assert whole.json()["error"]["code"] == "upstream_timeout_total"
        stream = proxy.chat(body, x_sluice_timeout="300ms", **mode)
        assert stream.headers["x-sluice-cache"] == "shared" and '"upstream_timeout_total"' in stream.text
        east.release()
        assert b"".join(begun).endswith(b"data: [DONE]\n\n")
    assert len(east.calls) == 1 and not east.disconnects


def test_the_wait_of_one_who_leaves_is_not_our_overhead(proxy: Running, east: OpenAIDouble) -> None:
    east.script(Held())
    with proxy.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=HELLO | {"model": "kept/gpt-4o"}, timeout=0.5)
    wait_for(lambda: proxy.metric("sluice_client_disconnects_total"))
    assert proxy.metric("sluice_overhead_seconds_sum") < 0.25
    east.release()


def test_a_whole_answer_that_waits_for_a_stream_waits_for_its_upstream(proxy: Running, east: OpenAIDouble) -> None:
    east.script(Paced(0.01))
    body = HELLO | {"model": "kept/gpt-4o"}
    with proxy.client() as client, client.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as first:
        begun = first.iter_raw()
        next(begun)
        with ThreadPoolExecutor() as pool:
            whole = pool.submit(proxy.chat, body)
            for _ in begun:
                pass
            answer = whole.result(10)
    assert answer.headers["x-sluice-cache"] == "shared"
    ours, upstreams = map(float, re.findall("dur=([0-9.]+)", answer.headers["server-timing"]))
    assert ours < upstreams


def test_a_reload_keeps_what_is_kept(proxy: Running, east: OpenAIDouble) -> None:
    body = HELLO | {"model": "kept/gpt-4o"}
    proxy.chat(body)
    proxy.reload(CONFIG.format(east=east.url) + "tests: []\n")
    assert proxy.chat(body).headers["x-sluice-cache"] == "hit"

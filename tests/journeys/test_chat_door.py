"""The chat page's endpoint, seen from outside: short form or long, the same gateway answers."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.doubles.faults import CutAfter, HoldAfter, Status
from tests.doubles.openai import OpenAIDouble
from tests.running import Running, sluice
from tests.waiting import wait_for

CONFIG = """
access: {{keys: {keys}, client_keys: [the-key]}}
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
  west: {{provider: openai, base_url: {west}, api_key: sk-west, models: [gpt-4o-mini]}}
default_upstream: {default}
defaults:
  retry: {{attempts: 1}}
personas:
  pirate: {{upstream: west, model: gpt-4o-mini, system: You are a pirate.}}
"""
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def config(east: OpenAIDouble, west: OpenAIDouble, keys: str = "open", default: str = "east") -> str:
    return CONFIG.format(east=east.url, west=west.url, keys=keys, default=default)


@pytest.fixture
def proxy(east: OpenAIDouble, west: OpenAIDouble) -> Iterator[Running]:
    with sluice(config(east, west)) as running:
        yield running


def say(proxy: Running, body: dict[str, Any], **headers: str) -> httpx.Response:
    return proxy.chat(body, "/chat", **headers)


def test_a_chat_completions_body_is_answered_like_chat_completions(proxy: Running, east: OpenAIDouble) -> None:
    body = HELLO | {"model": "east/gpt-4o"}
    assert say(proxy, body).json()["choices"] == proxy.chat(body).json()["choices"]
    assert east.calls[0].body == east.calls[1].body
    assert proxy.metric("sluice_requests_total", door="chat", code="ok", upstream="east") == 1


def test_the_short_form_is_answered_too(proxy: Running, east: OpenAIDouble) -> None:
    before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    answer = say(proxy, {"message": "hello", "model": "east/gpt-4o-mini", "conversation": before, "temperature": 0})
    assert answer.status_code == 200 and answer.json()["object"] == "chat.completion"
    assert east.calls[0].json == {
        "model": "gpt-4o-mini",
        "messages": [*before, *HELLO["messages"]],
        "temperature": 0,
    }


def test_the_chat_endpoint_streams(proxy: Running, east: OpenAIDouble) -> None:
    answer = say(proxy, {"message": "hello", "model": "east/gpt-4o", "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.rstrip().endswith("data: [DONE]")
    east.script(CutAfter(20))
    broken = say(proxy, {"message": "hello", "model": "east/gpt-4o", "stream": True})
    assert "upstream_truncated" in broken.text and "[DONE]" not in broken.text


def test_a_persona_answers_from_its_own_upstream(proxy: Running, east: OpenAIDouble, west: OpenAIDouble) -> None:
    answer = say(proxy, {"message": "hello", "persona": "pirate", "model": "east/gpt-4o"})
    assert answer.headers["x-sluice-upstream"] == "west"
    assert west.calls[0].json["messages"][0] == {"role": "system", "content": "You are a pirate."}
    assert not east.calls
    listed = say(proxy, {"message": "hello", "persona": "persona/pirate"})
    assert listed.headers["x-sluice-route"] == "persona/pirate"
    unknown = say(proxy, {"message": "hello", "persona": "nobody"})
    assert not west.calls[2:] and unknown.status_code == 404


def test_without_a_choice_the_first_model_of_the_default_upstream_answers(
    proxy: Running, east: OpenAIDouble, west: OpenAIDouble
) -> None:
    wait_for(lambda: proxy.app.runtime.plan.catalog.shelves["east"].state == "fetched")
    assert say(proxy, {"message": "hello"}).headers["x-sluice-model"] == "gpt-4o"
    proxy.reload(config(east, west, default="west"))
    assert say(proxy, {"message": "hello"}).headers["x-sluice-upstream"] == "west"


def test_without_a_choice_no_model_answers_that_is_for_other_work(west: OpenAIDouble) -> None:
    with OpenAIDouble(key="sk-east", models=["text-embedding-3-small", "whisper-1", "gpt-4o"]) as east:
        with sluice(config(east, west)) as proxy:
            wait_for(lambda: proxy.app.runtime.plan.catalog.shelves["east"].state == "fetched")
            assert say(proxy, {"message": "hello"}).headers["x-sluice-model"] == "gpt-4o"


def test_without_a_choice_a_default_upstream_that_does_not_answer_is_at_fault(
    east: OpenAIDouble, west: OpenAIDouble
) -> None:
    east.script(*[Status(500)] * 50, on="/models")
    with sluice(config(east, west)) as proxy:
        wait_for(lambda: proxy.app.runtime.plan.catalog.shelves["east"].trouble)
        answer = say(proxy, {"message": "hello"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert "the default upstream east are unknown: The upstream" in answer.json()["error"]["message"]


def test_without_a_choice_a_default_upstream_that_is_off_says_what_it_lacks() -> None:
    with sluice("upstreams: {openrouter: {provider: openrouter}}") as proxy:
        answer = say(proxy, {"message": "hello"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_not_configured")
    assert "OPENROUTER_API_KEY is not set" in answer.json()["error"]["message"]


def test_a_leaving_reader_ends_the_upstream_call(proxy: Running, east: OpenAIDouble) -> None:
    east.script(HoldAfter(3))
    with proxy.client() as client:
        with client.stream("POST", "/chat", json={"message": "hi", "model": "east/gpt-4o", "stream": True}) as answer:
            next(answer.iter_raw())
    wait_for(lambda: east.disconnects)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({"message": ""}, {}, 400),
        ({"model": "east/gpt-4o"}, {}, 400),
        ({"message": "hi", "model": "east/gpt-4o", "stream": "yes"}, {}, 400),
        ({"message": "hi", "model": "east/gpt-4o"}, {"origin": "http://elsewhere.example"}, 403),
        ({"message": "hi", "model": "east/gpt-4o"}, {"origin": "null"}, 403),
        ({"message": "hi", "model": "east/gpt-4o"}, {"host": "rebound.example"}, 403),
        ({"message": "hi", "model": "east/gpt-4o"}, {"content-type": "text/plain"}, 415),
    ],
)
def test_bad_bodies_of_the_chat_endpoint_are_client_errors(
    proxy: Running, east: OpenAIDouble, body: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    answer = say(proxy, body, **headers)
    assert answer.status_code == status and answer.json()["error"]["code"] and answer.headers["x-request-id"]
    assert not east.calls


def test_our_own_page_may_ask(proxy: Running) -> None:
    assert say(proxy, {"message": "hi", "model": "east/gpt-4o"}, origin=proxy.url).status_code == 200


def test_a_client_key_is_needed_where_keys_are_required(east: OpenAIDouble, west: OpenAIDouble) -> None:
    with sluice(config(east, west, keys="required")) as proxy:
        body = {"message": "hi", "model": "east/gpt-4o"}
        assert say(proxy, body).json()["error"]["code"] == "invalid_api_key"
        assert say(proxy, body, authorization="Bearer wrong").status_code == 401
        assert not east.calls
        assert say(proxy, body, authorization="Bearer the-key").status_code == 200
        assert proxy.metric("sluice_requests_total", door="chat", code="invalid_api_key") == 2
    assert east.keys_seen == {"sk-east"}

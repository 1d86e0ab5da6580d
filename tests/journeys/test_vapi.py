"""Telephone calls of a voice platform, seen from outside: turns of a conversation, tools, and server messages."""

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.doubles.faults import ContextLength, CutAfter, FirstTokenAfter, HoldAfter, Say, Status
from tests.doubles.openai import OpenAIDouble
from tests.doubles.tools import ToolsDouble
from tests.doubles.words import Said, ToolCall
from tests.running import Running, sluice
from tests.streams import chunks, text_of
from tests.waiting import wait_for

CONFIG = """
access: {{keys: required, client_keys: [the-key]}}
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
  west: {{provider: openai, base_url: {west}, api_key: sk-west}}
default_upstream: east
defaults:
  timeouts: {{first_token: 1s, idle: 1s}}
  retry: {{attempts: 1}}
routes:
  - prefix: fast/
    to: [{{upstream: east, model: gpt-4o, weight: 1}}, {{upstream: west, model: gpt-4o, weight: 1}}]
  - prefix: slow/
    to: [east/gpt-4o, west/gpt-4o]
    hedge: {{after: 50ms, budget: 100%}}
vapi:
  secret: the-vapi-secret
  model: east/gpt-4o
{more}
"""
APOLOGY = "  apology: Sorry, one moment."
WEBHOOK = """
  assistant: {{name: front desk, firstMessage: Hello}}
  tools:
    weather: {{url: {tools}/weather}}
    echo: {{url: {tools}/echo, timeout: 5s}}
    late: {{url: {tools}/silent, timeout: 100ms}}
  hmac: {{header: x-signature, timestamp_header: x-timestamp, algorithm: sha256, prefix: "sha256="}}
"""
SECRET = {"authorization": "Bearer the-vapi-secret"}
# The shape that Vapi sends, its own fields filled with what must go no further.
TURN: dict[str, Any] = {
    "model": "east/gpt-4o",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi", "time": 1760000000000, "secondsFromStart": 1.5, "source": "canary"},
    ],
    "temperature": 0.5,
    "max_tokens": 250,
    "stream": True,
    "tools": [
        {"type": "function", "function": {"name": "endCall", "parameters": {"type": "object", "properties": {}}}}
    ],
    "call": {"id": "call-1", "orgId": "canary", "type": "inboundPhoneCall", "serverUrlSecret": "canary"},
    "phoneNumber": {"twilioAuthToken": "canary"},
    "customer": {"number": "canary"},
    "metadata": {"note": "canary"},
    "timestamp": 1760000000000,
    "loyaltyTier": "canary",
}


@pytest.fixture
def tools() -> Iterator[ToolsDouble]:
    with ToolsDouble() as double:
        yield double


@pytest.fixture
def proxy(east: OpenAIDouble, west: OpenAIDouble, tools: ToolsDouble) -> Iterator[Running]:
    with sluice(CONFIG.format(east=east.url, west=west.url, more=WEBHOOK.format(tools=tools.url))) as running:
        yield running


@pytest.fixture
def sorry(east: OpenAIDouble, west: OpenAIDouble) -> Iterator[Running]:
    with sluice(CONFIG.format(east=east.url, west=west.url, more=APOLOGY)) as running:
        yield running


def turn(proxy: Running, more: dict[str, Any] | None = None, path: str = "/vapi/chat/completions") -> httpx.Response:
    return proxy.chat(TURN | (more or {}), path, **SECRET)


def test_a_model_without_a_route_is_counted_by_its_name_whatever_the_default_upstream(
    east: OpenAIDouble, west: OpenAIDouble
) -> None:
    east.strict = west.strict = False
    config = CONFIG.format(east=east.url, west=west.url, more="").replace("model: east/gpt-4o\n", "model: voice\n")
    with sluice(config) as proxy, proxy.client() as client:
        for name in ("east", "west"):
            client.put("/admin/provider-settings", json={"default_upstream": name}).raise_for_status()
            assert turn(proxy, {"model": None}).headers["x-sluice-upstream"] == name
        wait_for(lambda: proxy.metric("sluice_requests_total", model="voice") == 2)
        assert not proxy.metric("sluice_requests_total", model="other")


def tell(proxy: Running, message: Any, **headers: str) -> httpx.Response:
    return proxy.chat({"message": message}, "/vapi/webhook", **(headers or SECRET))


def signed(body: bytes, stamp: int | None = None, secret: str = "the-vapi-secret") -> dict[str, str]:
    at = str(int(time.time()) if stamp is None else stamp)
    digest = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"content-type": "application/json", "x-signature": f"sha256={digest}", "x-timestamp": at}


# The custom LLM.


def test_a_turn_is_answered_by_a_stream_and_vapis_fields_go_no_further(
    proxy: Running, east: OpenAIDouble, caplog: pytest.LogCaptureFixture
) -> None:
    east.said = Said("Certainly. <flush /> One moment.")
    with caplog.at_level(logging.DEBUG):
        answer = turn(proxy)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert text_of(answer.text) == "Certainly. <flush /> One moment."
    (received,) = east.calls
    assert received.json.keys() == {
        "model",
        "messages",
        "temperature",
        "max_tokens",
        "stream",
        "tools",
        "stream_options",
    }
    assert received.json["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert b"canary" not in received.body and "the-vapi-secret" not in str(received.headers)
    assert "canary" not in caplog.text and "the-vapi-secret" not in caplog.text
    assert "canary" not in str(proxy.app.history.calls())
    wait_for(lambda: proxy.metric("sluice_requests_total", door="vapi", code="ok") == 1)  # counted after the last byte


@pytest.mark.parametrize(
    "path",
    [
        "/vapi/chat/completions/chat/completions",
        "/v1/vapi/chat/completions",
        "/vapi/v1/chat/completions",
        "/vapi//chat/completions/",
    ],
)
def test_every_way_to_write_the_base_url_leads_here(proxy: Running, path: str) -> None:
    assert text_of(turn(proxy, path=path).text)


def test_model_and_stream_have_usual_values(proxy: Running, east: OpenAIDouble) -> None:
    bare = {"messages": TURN["messages"]}
    answer = proxy.chat(bare, "/vapi/chat/completions", **{"x-vapi-secret": "the-vapi-secret"})
    assert text_of(answer.text) and answer.headers["x-sluice-model"] == "gpt-4o"
    whole = turn(proxy, {"stream": False})
    assert whole.json()["object"] == "chat.completion"


def test_a_default_model_that_no_upstream_can_answer_is_warned_of_at_the_start(
    east: OpenAIDouble, west: OpenAIDouble, caplog: pytest.LogCaptureFixture
) -> None:
    config = CONFIG.format(east=east.url, west=west.url, more="")
    for model, warned in (("east/gpt-4o", False), ("persona/nobody", True)):
        caplog.clear()
        with sluice(config.replace("  model: east/gpt-4o", f"  model: {model}")):
            assert ("vapi.model: no upstream can answer" in caplog.text) is warned


def test_ending_and_transferring_a_call_pass_as_tool_calls(proxy: Running, east: OpenAIDouble) -> None:
    for call in (ToolCall("endCall"), ToolCall("transferCall", '{"destination": "+15550100"}')):
        east.script(Say(Said(tools=(call,))))
        found = chunks(turn(proxy).text)
        deltas = [tool for chunk in found for tool in chunk["choices"][0]["delta"].get("tool_calls") or ()]
        assert deltas[0]["function"]["name"] == call.name
        assert "".join(tool["function"]["arguments"] for tool in deltas) == call.arguments
        assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_telephone_call_stays_on_one_target(proxy: Running, east: OpenAIDouble, west: OpenAIDouble) -> None:
    for number in range(6):
        where = {
            turn(proxy, {"model": "fast/8b", "call": {"id": f"call-{number}"}}).headers["x-sluice-upstream"]
            for _ in range(3)
        }
        assert len(where) == 1
    assert east.calls and west.calls


def test_a_slow_first_word_is_hedged(proxy: Running, east: OpenAIDouble) -> None:
    east.script(FirstTokenAfter(0.9))
    answer = turn(proxy, {"model": "slow/8b"})
    assert answer.headers["x-sluice-upstream"] == "west" and text_of(answer.text)


def test_an_interruption_ends_the_upstream_call(proxy: Running, east: OpenAIDouble) -> None:
    east.script(HoldAfter(3))
    with proxy.client() as client:
        with client.stream("POST", "/vapi/chat/completions", json=TURN, headers=SECRET) as answer:
            next(answer.iter_raw())
    wait_for(lambda: east.disconnects)
    wait_for(lambda: proxy.metric("sluice_client_disconnects_total") == 1)


# Failures.


def test_without_an_apology_errors_are_errors(proxy: Running, east: OpenAIDouble) -> None:
    east.script(Status(500), CutAfter(20))
    failed = turn(proxy)
    assert (failed.status_code, failed.json()["error"]["code"]) == (502, "upstream_error")
    broken = turn(proxy)
    assert "upstream_truncated" in broken.text and "[DONE]" not in broken.text


def test_an_apology_is_spoken_in_place_of_a_failure(sorry: Running, east: OpenAIDouble) -> None:
    east.script(Status(500), Status(401), FirstTokenAfter(30))
    codes = ("upstream_error", "upstream_auth_failed", "upstream_timeout_first_token")
    for code in codes:
        answer = turn(sorry)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        assert text_of(answer.text) == "Sorry, one moment."
        assert chunks(answer.text)[-1]["choices"][0]["finish_reason"] == "stop"
        assert answer.headers["x-sluice-attempts"].startswith("east:")
        assert sorry.metric("sluice_requests_total", door="vapi", code=code) == 1
    assert {line["code"] for line in sorry.app.history.calls()} == set(codes)


def test_an_apology_ends_a_sentence_that_breaks_off(sorry: Running, east: OpenAIDouble) -> None:
    east.said = Said("one two three four five six seven eight nine ten")
    east.script(CutAfter(5))
    answer = turn(sorry)
    assert answer.status_code == 200 and "error" not in answer.text.replace("sluice apology", "")
    assert text_of(answer.text) == "one two three four Sorry, one moment."
    wait_for(lambda: sorry.metric("sluice_requests_total", door="vapi", code="upstream_truncated") == 1)


def test_a_whole_answer_apologises_too(sorry: Running, east: OpenAIDouble) -> None:
    east.script(Status(500))
    answer = turn(sorry, {"stream": False})
    assert answer.json()["choices"][0]["message"]["content"] == "Sorry, one moment."


def test_an_apology_is_spoken_where_the_upstream_is_full(east: OpenAIDouble, west: OpenAIDouble) -> None:
    config = CONFIG.format(east=east.url, west=west.url, more=APOLOGY)
    config = config.replace("api_key: sk-east", "api_key: sk-east, max_in_flight: 1, max_wait: 50ms")
    east.script(HoldAfter(3))
    with sluice(config) as proxy, proxy.client() as client:
        with client.stream("POST", "/vapi/chat/completions", json=TURN, headers=SECRET) as first:
            pieces = first.iter_raw()  # held: where it goes, so does the connection
            next(pieces)
            answer = turn(proxy)
        assert answer.status_code == 200 and text_of(answer.text) == "Sorry, one moment."
        wait_for(lambda: proxy.metric("sluice_requests_total", door="vapi", code="policy_concurrency") == 1)


def test_nobody_apologises_for_the_callers_own_faults(sorry: Running, east: OpenAIDouble) -> None:
    east.script(ContextLength())
    assert turn(sorry).status_code == 400
    assert turn(sorry, {"messages": "x"}).status_code == 400
    assert turn(sorry, {"model": 7}).json()["error"]["param"] == "model"
    assert turn(sorry, {"Model": "west/gpt-4o"}).status_code == 400


# Who may come in.


@pytest.mark.parametrize("path", ["/vapi/chat/completions", "/vapi/webhook"])
@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer the-key"}, {"x-vapi-secret": "wrong"}, {"x-api-key": "the-vapi-secret"}]
)
def test_only_vapis_secret_opens_the_door(
    proxy: Running, east: OpenAIDouble, path: str, headers: dict[str, str]
) -> None:
    answer = proxy.chat(TURN, path, **headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert not east.calls


def test_vapis_secret_opens_no_other_door(proxy: Running) -> None:
    assert proxy.chat({"model": "east/gpt-4o", "messages": []}, **SECRET).status_code == 401


@pytest.mark.parametrize("path", ["/vapi/chat/completions", "/vapi/webhook"])
def test_without_a_secret_there_is_no_such_door(east: OpenAIDouble, west: OpenAIDouble, path: str) -> None:
    config = CONFIG.format(east=east.url, west=west.url, more="").replace("the-vapi-secret", "${NOTHING:-}")
    with sluice(config) as proxy, proxy.client() as client:
        for headers in ({}, SECRET, {"authorization": "Bearer"}, {"x-vapi-secret": ""}):
            answer = client.post(path, json=TURN, headers=headers)
            assert answer.status_code == 404
            assert answer.text.replace(path, "/nowhere") == client.post("/nowhere", json=TURN).text
        assert client.options(path).status_code == client.options("/nowhere").status_code == 404


# The webhook.


def test_an_assistant_request_is_answered_at_once(proxy: Running) -> None:
    began = time.monotonic()
    answer = tell(proxy, {"type": "assistant-request", "call": {"id": "call-1"}})
    assert answer.json() == {"assistant": {"name": "front desk", "firstMessage": "Hello"}}
    assert time.monotonic() - began < 2


def test_without_an_assistant_the_caller_hears_why(sorry: Running) -> None:
    answer = tell(sorry, {"type": "assistant-request"})
    assert answer.status_code == 200 and "no assistant" in answer.json()["error"]


def test_tool_calls_go_to_their_tools(proxy: Running, tools: ToolsDouble) -> None:
    message = {
        "type": "tool-calls",
        "call": {"id": "call-1"},
        "toolCallList": [
            {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
            {"id": "b", "name": "echo", "parameters": {"x": [1]}},
            {"id": "c", "type": "function", "function": {"name": "late", "arguments": {}}},
            {"id": "d", "name": "nobody", "parameters": {}},
        ],
    }
    answer = tell(proxy, message)
    weather, echo, late, nobody = answer.json()["results"]
    assert answer.status_code == 200
    assert weather == {"toolCallId": "a", "name": "weather", "result": "21 degrees and sun"}
    assert json.loads(echo["result"])["arguments"] == {"x": [1]}
    assert late["error"] == "The tool late failed: It did not answer in time."
    assert "no tool named 'nobody'" in nobody["error"]
    asked = next(request for request in tools.requests if request.route == "/weather")
    assert asked.json == {"toolCallId": "a", "name": "weather", "arguments": {"city": "Oslo"}, "callId": "call-1"}
    assert not any(name == b"authorization" for request in tools.requests for name, _ in request.headers)


def test_news_are_counted_in_metrics_and_for_the_admin_page(proxy: Running) -> None:
    report = {"type": "end-of-call-report", "endedReason": "customer-ended-call", "artifact": {"transcript": "canary"}}
    for message in (
        {"type": "status-update", "status": "in-progress", "call": {"id": "call-1"}},
        report | {"call": {"id": "call-1"}},
        {"type": "hang"},
        {"type": "of-tomorrow"},
        {"type": "x" * 5000},
    ):
        answer = tell(proxy, message)
        assert (answer.status_code, answer.json()) == (200, {})
    assert proxy.metric("sluice_vapi_events_total", type="end-of-call-report") == 1
    assert proxy.metric("sluice_vapi_events_total", type="other") == 2
    said = proxy.app.vapi_events.as_json()
    assert said["events"] == {"status-update": 1, "end-of-call-report": 1, "hang": 1, "other": 2}
    assert [event["status"] for event in said["last"]][-2:] == ["customer-ended-call", "in-progress"]
    assert "canary" not in str(said)


def test_refused_webhooks_are_counted_and_logged(proxy: Running, caplog: pytest.LogCaptureFixture) -> None:
    assert tell(proxy, {"type": "hang"}, x_vapi_secret="guess").status_code == 401
    assert tell(proxy, "no message").status_code == 400
    assert proxy.metric("sluice_vapi_events_total", type="refused") == 2
    assert proxy.app.vapi_events.as_json() == {"events": {"refused": 2}, "last": []}
    assert "vapi webhook refused: Vapi's secret is missing or wrong." in caplog.text and "guess" not in caplog.text


def test_signed_webhooks_need_no_other_secret_and_come_once(proxy: Running) -> None:
    body = b'{ "message": {"type":"hang", "call":{"id":"caf\xc3\xa9"}} }'
    with proxy.client() as client:

        def send(headers: dict[str, str], sent: bytes = body) -> int:
            return client.post("/vapi/webhook", content=sent, headers=headers).status_code

        headers = signed(body)
        assert send(headers) == 200
        assert send(headers) == 401, "a replay"
        proxy.reload(proxy.path.read_text().replace("gpt-4o", "gpt-4o-mini"))
        assert send(headers) == 401, "a replay after a reload"
        assert send(signed(body, int(time.time() * 1000))) == 200, "milliseconds"
        assert send(signed(body, int(time.time()) - 3), body + b" ") == 401, "another body"
        assert send(signed(body, secret="guess")) == 401
        assert send(signed(body, int(time.time()) - 400)) == 401, "stale"
        assert send(signed(body, secret="guess") | SECRET) == 401, "a wrong signature beside the right secret"
        assert send({"content-type": "application/json"} | SECRET) == 200
        assert send(signed(body, int(time.time()) - 9) | {"content-type": "text/plain"}) == 415
    assert proxy.metric("sluice_vapi_events_total", type="hang") == 3


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{}", "application/json", 400),
        (b'{"message":"x"}', "application/json", 400),
        (b'{"message":{"type":"hang"}}', "text/plain", 415),
        (b'{"message":{"type":"hang","x":"' + b"y" * 70_000 + b'"}}', "application/json", 413),
    ],
)
def test_bad_webhook_bodies_are_client_errors(
    east: OpenAIDouble, west: OpenAIDouble, content: bytes, kind: str, status: int
) -> None:
    config = "server: {max_body: 64KB}" + CONFIG.format(east=east.url, west=west.url, more="")
    with sluice(config) as proxy, proxy.client() as client:
        answer = client.post("/vapi/webhook", content=content, headers={"content-type": kind} | SECRET)
    assert answer.status_code == status and answer.json()["error"]["code"].startswith("client_")

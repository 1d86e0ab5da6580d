"""The main job, seen from outside: a client's call reaches the upstream its model names, and the answer comes back."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from tests.doubles.faults import ContextLength, CutAfter, FirstTokenAfter, Held, HoldAfter, RoleOnlyThen, Status
from tests.doubles.openai import OpenAIDouble
from tests.doubles.wire import Wait
from tests.running import Running, sluice
from tests.waiting import wait_for

CONFIG = """
server: {{ping: 200ms}}
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
  west: {{provider: openai, base_url: {west}, api_key: sk-west}}
default_upstream: east
defaults:
  timeouts: {{connect: 1s, first_token: 2s, idle: 2s, whole: 3s}}
  retry: {{attempts: 2, backoff: 10ms, max_backoff: 100ms}}
routes:
  - prefix: gpt-
    to: [east, "west/backup-{{model}}"]
  - model: house
    to: west/big
    response: {{model: asked}}
"""
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def proxy(east: OpenAIDouble, west: OpenAIDouble) -> Iterator[Running]:
    east.strict = west.strict = False
    with sluice(CONFIG.format(east=east.url, west=west.url)) as running:
        yield running


def events(text: str) -> list[str]:
    return [event for event in text.split("\n\n") if event]


def test_a_whole_answer_comes_back_byte_for_byte(proxy: Running, east: OpenAIDouble) -> None:
    answer = proxy.chat(HELLO | {"model": "gpt-4o"})
    direct = httpx.post(
        f"{east.url}/chat/completions", json=HELLO | {"model": "gpt-4o"}, headers={"authorization": "Bearer sk-east"}
    )
    assert answer.status_code == 200
    assert answer.json()["choices"] == direct.json()["choices"]
    assert answer.headers["x-sluice-upstream"] == "east"
    assert answer.headers["x-sluice-model"] == "gpt-4o"
    assert answer.headers["x-sluice-route"] == "gpt-"
    assert answer.headers["x-sluice-attempts"] == "east:200"
    assert "proxy;dur=" in answer.headers["server-timing"]
    assert answer.headers["x-upstream-request-id"]


def test_a_route_for_every_name_is_listed_too(east: OpenAIDouble) -> None:
    east.strict = False
    config = f"upstreams: {{east: {{provider: openai, base_url: '{east.url}', api_key: sk-east}}}}\n"
    with sluice(config + "routes: [{prefix: '', to: east}]") as proxy:
        for _ in range(2):
            answer = proxy.chat(HELLO | {"model": "gpt-4o"})
            assert (answer.headers["x-sluice-route"], answer.headers["x-sluice-upstream"]) == ("*", "east")
            assert (answer.headers["x-sluice-model"], answer.headers["x-sluice-attempts"]) == ("gpt-4o", "east:200")
        wait_for(lambda: proxy.metric("sluice_requests_total", route="*", upstream="east") == 2)


def test_the_body_goes_out_with_only_the_model_exchanged(proxy: Running, west: OpenAIDouble) -> None:
    body = b'{ "messages" : [ {"role":"user","content":"caf\\u00e9"} ],"temperature":0.70,\n"model" :\t"house", "later": 1e2 }'
    with proxy.client() as client:
        client.post("/chat/completions", content=body, headers={"content-type": "application/json"})
    (received,) = west.calls
    assert received.body == body.replace(b'"house"', b'"big"')


def test_a_stream_passes_event_by_event_and_usage_only_if_asked(proxy: Running, east: OpenAIDouble) -> None:
    body = HELLO | {"model": "gpt-4o", "stream": True}
    silent = proxy.chat(body)
    asked = proxy.chat(body | {"stream_options": {"include_usage": True}})
    assert [received.json["stream_options"] for received in east.calls] == [{"include_usage": True}] * 2
    assert events(silent.text)[-1] == events(asked.text)[-1] == "data: [DONE]"
    assert '"choices":[]' not in silent.text
    assert '"choices":[]' in asked.text and '"total_tokens"' in asked.text
    wait_for(lambda: proxy.metric("sluice_tokens_total", kind="output", upstream="east") > 0)


def test_the_next_target_answers_where_the_first_fails(proxy: Running, east: OpenAIDouble, west: OpenAIDouble) -> None:
    east.script(Status(500), Status(503))
    answer = proxy.chat(HELLO | {"model": "gpt-4o"})
    assert answer.status_code == 200
    assert answer.headers["x-sluice-attempts"] == "east:500,east:503,west:200"
    assert west.calls[0].json["model"] == "backup-gpt-4o"
    assert west.keys_seen == {"sk-west"} and east.keys_seen == {"sk-east"}


def test_a_role_only_start_does_not_commit_a_call(proxy: Running, east: OpenAIDouble) -> None:
    east.script(RoleOnlyThen(CutAfter(0)), CutAfter(1))
    answer = proxy.chat(HELLO | {"model": "gpt-4o", "stream": True})
    assert answer.headers["x-sluice-upstream"] == "west"
    assert events(answer.text)[-1] == "data: [DONE]"


def test_a_broken_stream_ends_with_an_error_event_and_no_done(proxy: Running, east: OpenAIDouble) -> None:
    east.script(CutAfter(20))
    answer = proxy.chat(HELLO | {"model": "gpt-4o", "stream": True})
    last = events(answer.text)[-1]
    assert '"upstream_truncated"' in last and "[DONE]" not in answer.text
    wait_for(lambda: proxy.metric("sluice_requests_total", code="upstream_truncated") == 1)


def test_a_client_error_of_the_upstream_is_the_clients(proxy: Running, east: OpenAIDouble, west: OpenAIDouble) -> None:
    east.script(ContextLength())
    answer = proxy.chat(HELLO | {"model": "gpt-4o"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert not west.calls


def test_our_own_bad_key_is_the_operators_problem(proxy: Running, west: OpenAIDouble) -> None:
    west.script(Status(401, message="Incorrect API key provided: sk-west"))
    answer = proxy.chat(HELLO | {"model": "house"})
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_auth_failed"
    assert "sk-west" not in answer.text


def test_response_model_asked_shows_the_clients_name(proxy: Running) -> None:
    whole = proxy.chat(HELLO | {"model": "house"})
    assert whole.json()["model"] == "house"
    streamed = proxy.chat(HELLO | {"model": "house", "stream": True})
    assert '"model":"big"' not in streamed.text and '"model":"house"' in streamed.text


def test_a_leaving_client_ends_the_upstream_call(proxy: Running, east: OpenAIDouble) -> None:
    east.script(HoldAfter(3))
    with proxy.client() as client:
        with client.stream("POST", "/v1/chat/completions", json=HELLO | {"model": "gpt-4o", "stream": True}) as answer:
            next(answer.iter_raw())
    wait_for(lambda: east.disconnects)
    wait_for(lambda: proxy.metric("sluice_client_disconnects_total", phase="streaming") == 1)
    east.script(Held())
    with proxy.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=HELLO | {"model": "gpt-4o"}, timeout=0.3)
    wait_for(lambda: len(east.disconnects) == 2)
    assert proxy.metric("sluice_streams_open") == 0


def test_comments_keep_a_waiting_stream_open_and_tell_who_answered(proxy: Running, east: OpenAIDouble) -> None:
    east.script(FirstTokenAfter(0.5))
    answer = proxy.chat(HELLO | {"model": "gpt-4o", "stream": True})
    lines = events(answer.text)
    assert lines[0] == ": ping"
    assert any(line.startswith(": sluice upstream=east model=gpt-4o attempts=east:200") for line in lines)
    assert lines[-1] == "data: [DONE]"


def test_a_failure_behind_an_early_head_is_counted_with_the_status_that_the_client_saw(
    proxy: Running, east: OpenAIDouble
) -> None:
    east.script(lambda double, request: replace(Status(400)(double, request), before=(Wait(0.5),)))
    answer = proxy.chat(HELLO | {"model": "east/gpt-4o", "stream": True})
    assert answer.status_code == 200 and '"client_invalid_request"' in events(answer.text)[-1]
    wait_for(lambda: proxy.metric("sluice_requests_total", status="200", code="client_invalid_request") == 1)
    assert proxy.metric("sluice_requests_total") == 1
    with proxy.client() as client:
        (call,) = client.get("/admin/calls").json()["data"]
    assert (call["status"], call["code"]) == (200, "client_invalid_request")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "client_invalid_json"),
        (b"{", 400, "client_invalid_json"),
        (b"[]", 400, "client_invalid_request"),
        (b'{"messages":[]}', 400, "client_invalid_request"),
        (b'{"model":7,"messages":[]}', 400, "client_invalid_request"),
        (b'{"model":"a","Model":"b","messages":[]}', 400, "client_invalid_request"),
        (b'{"model":"a","mod\\u0065l":"b","messages":[]}', 400, "client_invalid_request"),
        (b'{"model":"a","model":"b","messages":[]}', 400, "client_invalid_request"),
        (b'{"model":"a","messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "client_invalid_json"),
        (b'{"model":"a","messages":[],"temperature":NaN}', 400, "client_invalid_json"),
        (b'{"model":"a","messages":[],"stream":"yes"}', 400, "client_invalid_request"),
    ],
)
def test_bad_bodies_are_answered_in_openais_form(proxy: Running, content: bytes, status: int, code: str) -> None:
    with proxy.client() as client:
        answer = client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["x-request-id"]
    wait_for(lambda: proxy.metric("sluice_requests_total", code=code) == 1)


def test_other_content_types_paths_and_methods(proxy: Running) -> None:
    with proxy.client() as client:
        assert (
            client.post("/v1/chat/completions", content="{}", headers={"content-type": "text/plain"}).status_code == 415
        )
        assert client.get("/v1/chat/completions").status_code == 405
        assert client.post("/v1/nothing", json={}).status_code == 404
        assert client.post("/v1%2fchat/completions", json={}).status_code == 404
        for path in ("/chat/completions/", "//v1//chat/completions", "/v1/v1/chat/completions/chat/completions"):
            assert client.post(path, json=HELLO | {"model": "gpt-4o"}).status_code == 200
        assert client.head("/").status_code == 200
        assert client.options("/v1/chat/completions").status_code == 204


def listed(client: httpx.Client) -> set[str]:
    """The ids of the models."""
    return {entry["id"] for entry in client.get("/v1/models").json()["data"]}


def test_models_are_listed_with_their_upstream(proxy: Running) -> None:
    with proxy.client() as client:
        wait_for(lambda: {"house", "east/gpt-4o", "west/gpt-4o"} <= listed(client))
        only = client.get("/v1/models?upstream=west").json()["data"]
        assert {entry["upstream"] for entry in only} == {"west"}
        assert client.get("/v1/models/east/gpt-4o").json()["id"] == "east/gpt-4o"
        assert client.get("/v1/models/east%2Fgpt-4o").json()["id"] == "east/gpt-4o"
        assert client.get("/v1/models/gpt-4o").json()["id"] == "gpt-4o"  # as the route takes it
        assert client.get("/v1/models/east/nothing").json()["error"]["code"] == "model_not_found"


def test_an_upstream_without_the_endpoint_is_not_a_broken_one(
    proxy: Running, east: OpenAIDouble, west: OpenAIDouble
) -> None:
    for double in (east, west):
        double.script(Status(404, "Not Found"))
    with proxy.client() as client:
        answer = client.post("/v1/rerank", json={"model": "gpt-4o", "query": "q", "documents": ["d"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "endpoint_not_supported")
    assert answer.headers["x-sluice-attempts"] == "east:404,west:404"


def test_half_a_surrogate_pair_and_no_number_pass_as_they_came(proxy: Running, east: OpenAIDouble) -> None:
    body = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"\\ud800"},"logprobs":NaN,'
    body += b'"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}'
    east.script(Status(200, body=body))
    answer = proxy.chat(HELLO | {"model": "gpt-4o"})
    assert (answer.status_code, answer.content) == (200, body)
    wait_for(lambda: proxy.metric("sluice_tokens_total", kind="output") == 2)

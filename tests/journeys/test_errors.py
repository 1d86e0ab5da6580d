"""Whatever goes wrong, a client gets one clear error in OpenAI's form that says whose fault it was, and no secret."""

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest

from proxy.errors import STATUS
from proxy.logs import JsonLines, Readable
from proxy.serving.limits import Limits
from tests.doubles.anthropic import AnthropicDouble
from tests.doubles.faults import (
    ContentFilter,
    ContextLength,
    CutAfter,
    ErrorEvent,
    ErrorIn200,
    HeadersThenSilence,
    Held,
    HtmlIn200,
    Json,
    NoFinish,
    Redirect,
    ResetBeforeHeaders,
    Silent,
    StallAfter,
    Status,
)
from tests.doubles.oddities import GzipBomb
from tests.doubles.openai import OpenAIDouble
from tests.doubles.runpod import RunPodDouble
from tests.doubles.runpod_jobs import NEVER
from tests.doubles.server import Fault
from tests.running import Running, sluice, wait_for

UPSTREAM_KEY, HEADER_SECRET = "sk-canary-of-the-upstream", "canary-in-a-header"
CLIENT_KEY, ADMIN_TOKEN, PROMPT = "canary-client-key", "canary-admin-token", "canary-prompt: my name is Ada"
CONFIG = """
server: {{max_body: 4KB, ping: 10s}}
access: {{keys: required, client_keys: [canary-client-key], admin_token: canary-admin-token}}
upstreams:
  east:
    provider: openai
    base_url: {east}
    api_key: sk-canary-of-the-upstream
    headers: {{x-access-token: canary-in-a-header}}
    limits: {{small: {{context: 50, output: 20}}}}
  narrow: {{provider: openai, base_url: {east}, api_key: sk-canary-of-the-upstream, max_in_flight: 1, max_wait: 100ms}}
  listed: {{provider: openai, base_url: {east}, api_key: sk-canary-of-the-upstream, models: [gpt-4o, gpt-4o-mini]}}
  claude: {{provider: anthropic, base_url: {claude}, api_key: sk-ant-double-key}}
  pods: {{provider: runpod, base_url: {pods}, endpoint_id: ep-double, api_key: rpa_DOUBLEKEY, job_wait: 300ms}}
  gone: {{provider: openai, base_url: "http://127.0.0.1:1/v1"}}
  deaf: {{provider: openai, base_url: "http://127.0.0.1:{deaf}/v1"}}
  off: {{provider: openrouter, api_key: "${{OPENROUTER_API_KEY:-}}"}}
defaults:
  retry: {{attempts: 2, backoff: 1ms, max_backoff: 50ms}}
  timeouts: {{connect: 300ms, first_token: 300ms, idle: 300ms, whole: 400ms, total: 20s}}
  breaker: {{failures: 10000}}
"""
HELLO = {"messages": [{"role": "user", "content": PROMPT}]}


@dataclass(frozen=True, slots=True)
class Place:
    """A proxy that asks for a client key, and the double behind `east`, `narrow` and `listed`."""

    proxy: Running
    east: OpenAIDouble
    pods: RunPodDouble

    def ask(self, model: str = "east/gpt-4o", path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
        return self.proxy.chat(HELLO | {"model": model} | more, path)


@pytest.fixture(scope="module")
def deaf() -> Iterator[int]:
    """The port of a socket whose queue is full: connections to it are never taken, and never refused."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def place(deaf: int) -> Iterator[Place]:
    with OpenAIDouble(key=UPSTREAM_KEY) as east, AnthropicDouble() as claude, RunPodDouble() as pods:
        east.strict = False
        pods_url = pods.url.removesuffix("/ep-double")
        with sluice(CONFIG.format(east=east.url, claude=claude.url, pods=pods_url, deaf=deaf)) as proxy:
            proxy.headers = {"authorization": f"Bearer {CLIENT_KEY}"}
            yield Place(proxy, east, pods)


@pytest.fixture(autouse=True)
def everything_works(place: Place) -> Iterator[None]:
    yield
    place.east.always = None
    place.east.release()


def check(answer: httpx.Response, status: int, code: str) -> None:
    """The answer is OpenAI's envelope with this status and code, and says which request it was."""
    error = envelope(answer.content)
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-request-id"]


def envelope(body: bytes) -> dict[str, Any]:
    said = orjson.loads(body)
    assert said.keys() == {"error"} and said["error"].keys() == {"message", "type", "param", "code"}
    assert isinstance(said["error"]["message"], str) and said["error"]["message"]
    error: dict[str, Any] = said["error"]
    return error


# What upstreams do wrong: the same error for a whole answer and for a stream that has not begun.

FAULTS: list[tuple[Fault, int, str]] = [
    (Status(400, "Bad value.", "invalid_value"), 400, "invalid_value"),
    (Status(400, "Bad value."), 400, "client_invalid_request"),
    (Status(404, "The model `x` does not exist.", "model_not_found"), 404, "model_not_found"),
    (Status(413), 413, "client_too_large"),
    (Status(422), 422, "client_invalid_request"),
    (Status(403, "Flagged by moderation.", "content_filter"), 403, "content_filter"),
    (ContextLength(), 400, "context_length_exceeded"),
    (ContentFilter(), 400, "content_policy_violation"),
    (Status(401), 502, "upstream_auth_failed"),
    (Status(402), 502, "upstream_auth_failed"),
    (Status(403), 502, "upstream_auth_failed"),
    (Status(408), 504, "upstream_timeout"),
    (Status(409), 502, "upstream_error"),
    (Status(429), 429, "upstream_rate_limited"),
    (Status(429, code="insufficient_quota"), 429, "upstream_rate_limited"),
    (Status(500), 502, "upstream_error"),
    (Status(502, body=b"<h1>Bad gateway</h1>"), 502, "upstream_error"),
    (Status(503), 503, "upstream_overloaded"),
    (Status(504), 504, "upstream_timeout"),
    (Status(524), 504, "upstream_timeout"),
    (Status(529), 503, "upstream_overloaded"),
    (Status(599), 502, "upstream_error"),
    (Status(404, body=b"nothing here"), 502, "upstream_error"),
    (ResetBeforeHeaders(), 502, "upstream_unreachable"),
    (ResetBeforeHeaders("close"), 502, "upstream_unreachable"),
    (Redirect("http://127.0.0.1:1/elsewhere"), 502, "upstream_error"),
    (HtmlIn200(), 502, "upstream_malformed"),
    (ErrorIn200(), 502, "upstream_error"),
    (ErrorIn200(b'{"error":{"message":"slow down","code":429}}'), 429, "upstream_rate_limited"),
    (Json([1, 2]), 502, "upstream_malformed"),
    (GzipBomb(1_000_000), 502, "upstream_malformed"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("fault", "status", "code"), FAULTS, ids=lambda value: str(value)[:40])
def test_what_upstreams_do_wrong_has_its_own_code(
    place: Place, fault: Fault, status: int, code: str, stream: bool
) -> None:
    place.east.always = fault
    answer = place.ask(stream=stream)
    check(answer, status, code)
    assert answer.headers["x-sluice-route"] == "east/"
    assert answer.headers["x-sluice-upstream"] == "east"
    counted = code if code in STATUS else "client_invalid_request"
    assert place.proxy.metric("sluice_requests_total", code=counted, status=str(status)) >= 1


@pytest.mark.parametrize(
    ("fault", "stream", "code"),
    [
        (Silent(), False, "upstream_timeout_whole"),
        (Silent(), True, "upstream_timeout_first_token"),
        (HeadersThenSilence(), False, "upstream_timeout_whole"),
        (HeadersThenSilence(), True, "upstream_timeout_first_token"),
        (StallAfter(0), True, "upstream_timeout_first_token"),
    ],
)
def test_silence_ends_by_the_clock_that_ran_out(place: Place, fault: Fault, stream: bool, code: str) -> None:
    place.east.always = fault
    check(place.ask(stream=stream), 504, code)


@pytest.mark.parametrize("stream", [False, True])
def test_a_callers_own_clock_is_the_total(place: Place, stream: bool) -> None:
    place.east.always = Silent()
    answer = place.proxy.chat(HELLO | {"model": "east/gpt-4o", "stream": stream}, x_sluice_timeout="100ms")
    check(answer, 504, "upstream_timeout_total")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("gone/x", 502, "upstream_unreachable"),
        ("deaf/x", 504, "upstream_timeout_connect"),
        ("off/x", 503, "upstream_not_configured"),
        ("nobody", 404, "model_not_found"),
        ("listed/gpt-4", 404, "model_not_found"),
    ],
)
def test_models_that_nobody_can_answer_for(place: Place, model: str, status: int, code: str, stream: bool) -> None:
    check(place.ask(model, stream=stream), status, code)


def test_an_upstream_that_is_off_says_which_variable_is_missing(place: Place) -> None:
    assert "OPENROUTER_API_KEY" in place.ask("off/x").json()["error"]["message"]


def test_a_model_outside_a_fixed_catalogue_is_told_the_nearest(place: Place) -> None:
    calls = len(place.east.calls)
    assert "gpt-4o" in place.ask("listed/gpt-4").json()["error"]["message"]
    assert len(place.east.calls) == calls, "and nobody is asked"


def test_a_whole_answer_that_breaks_off_is_none(place: Place) -> None:
    place.east.always = CutAfter()
    check(place.ask(), 502, "upstream_truncated")


def test_an_endpoint_that_the_provider_has_not(place: Place) -> None:
    check(place.ask("claude/x", "/v1/embeddings", input="hi"), 404, "endpoint_not_supported")


def test_a_job_that_no_worker_takes(place: Place) -> None:
    place.pods.plan(NEVER)
    check(place.ask("pods/m"), 504, "upstream_timeout_queue")
    wait_for(lambda: place.pods.cancels)


def test_a_prompt_that_does_not_fit_is_not_sent(place: Place) -> None:
    calls = len(place.east.calls)
    answer = place.ask("east/small", max_tokens=21)
    check(answer, 400, "context_length_exceeded")
    message = answer.json()["error"]["message"]
    assert "21" in message and "20" in message, "both numbers are named"
    assert len(place.east.calls) == calls


def test_calls_beyond_what_an_upstream_takes_wait_and_are_refused(place: Place) -> None:
    place.east.script(Held())
    with place.proxy.client() as client:
        with client.stream("POST", "/v1/chat/completions", json=HELLO | {"model": "narrow/x", "stream": True}) if False else _held(place):
            check(place.ask("narrow/x"), 429, "policy_concurrency")


# What breaks in mid-stream is an error event, and no invented end.


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (CutAfter(5), "upstream_truncated"),
        (CutAfter(5, "reset"), "upstream_truncated"),
        (CutAfter(5, "chunk-eof"), "upstream_truncated"),
        (CutAfter(5, "mid-chunk"), "upstream_truncated"),
        (NoFinish(5), "upstream_truncated"),
        (StallAfter(5), "upstream_timeout_idle"),
        (ErrorEvent(5), "upstream_error"),
        (ErrorEvent(5, "rate_limit_exceeded"), "upstream_rate_limited"),
        (ErrorEvent(5, with_done=True), "upstream_error"),
    ],
)
def test_a_stream_that_breaks_ends_with_its_error(place: Place, fault: Fault, code: str) -> None:
    place.east.script(fault)
    answer = place.ask(stream=True)
    assert answer.status_code == 200
    *before, last = answer.content.rstrip(b"\n").split(b"\n\n")
    assert envelope(last.removeprefix(b"data: "))["code"] == code
    assert before and b"[DONE]" not in answer.content and b'"finish_reason":"stop"' not in answer.content
    assert place.proxy.metric("sluice_requests_total", code=code, status="200") >= 1

"""Whatever goes wrong, a client gets one clear error in OpenAI's form that says whose fault it was, and no secret."""

import logging
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
    Redirect,
    ResetBeforeHeaders,
    Silent,
    StallAfter,
    Status,
)
from tests.doubles.oddities import GzipBomb
from tests.doubles.openai import OpenAIDouble
from tests.doubles.runpod import RunPodDouble
from tests.doubles.runpod_jobs import NEVER, Plan
from tests.doubles.server import Double, Fault
from tests.doubles.wire import Answer, Hold, Received
from tests.running import Running, sluice
from tests.waiting import wait_for

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
  patient: {{provider: runpod, base_url: {pods}, endpoint_id: ep-double, api_key: rpa_DOUBLEKEY}}
  gone: {{provider: openai, base_url: "http://127.0.0.1:1/v1"}}
  deaf: {{provider: openai, base_url: "http://127.0.0.1:{deaf}/v1"}}
  off: {{provider: openrouter, api_key: "${{OPENROUTER_API_KEY:-}}"}}
defaults:
  retry: {{attempts: 2, backoff: 1ms, max_backoff: 50ms}}
  timeouts: {{connect: 5s, first_token: 5s, idle: 5s, whole: 5s, total: 20s}}
  breaker: {{failures: 10000}}
routes:
  - prefix: quick/
    to: "east/{{rest}}"
    timeouts: {{first_token: 150ms, idle: 150ms, whole: 150ms}}
  - prefix: quick-pods/
    to: "patient/{{rest}}"
    timeouts: {{first_token: 150ms, whole: 150ms}}
  - prefix: deaf/
    to: "deaf/{{rest}}"
    timeouts: {{connect: 100ms}}
"""


@dataclass(frozen=True, slots=True)
class Committed:
    """A fault that strikes when the test has seen the first events: before that, another try would hide it."""

    fault: Fault

    def __call__(self, double: Double, request: Received) -> Answer:
        answer = self.fault(double, request)
        return replace(answer, acts=(*answer.acts[:3], Hold(), *answer.acts[3:]))


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
    place.east.always = place.pods.always = None


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


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "rubbish",
    [
        "[1, 2]",
        "7",
        "null",
        '"text"',
        "{",
        "{}",
        '{"choices": 7}',
        '{"choices": [7]}',
        '{"choices": [{"message": [7]}]}',
    ],
)
def test_rubbish_with_status_200_is_no_failure_of_ours(place: Place, rubbish: str, stream: bool) -> None:
    place.east.always = ErrorIn200(rubbish.encode())
    answer = place.ask(stream=stream)
    assert answer.status_code < 300 or envelope(answer.content)["code"] == "upstream_malformed"


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
    check(place.ask("quick/gpt-4o", stream=stream), 504, code)


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


def test_a_model_outside_a_fixed_catalogue_gets_the_nearest_suggested(place: Place) -> None:
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
    check(place.ask(f"pods/{place.pods.models[0]}"), 504, "upstream_timeout_queue")
    wait_for(lambda: place.pods.cancels)


@pytest.mark.parametrize(("stream", "clock"), [(False, "whole"), (True, "first_token")])
def test_a_job_that_works_too_long(place: Place, stream: bool, clock: str) -> None:
    place.pods.plan(Plan(working=10**9, fragments=0))
    check(place.ask(f"quick-pods/{place.pods.models[0]}", stream=stream), 504, f"upstream_timeout_{clock}")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fault", "told"), [(Status(401), "pods:401"), (ResetBeforeHeaders(), "pods:unreachable")])
def test_an_attempt_at_a_job_is_recorded_by_its_answer(place: Place, fault: Fault, told: str, stream: bool) -> None:
    place.pods.always = fault
    failed = place.ask("pods/x", stream=stream)
    assert failed.status_code == 502 and failed.headers["x-sluice-attempts"].startswith(told)


def test_a_prompt_that_does_not_fit_is_not_sent(place: Place) -> None:
    calls = len(place.east.calls)
    answer = place.ask("east/small", max_tokens=21)
    check(answer, 400, "context_length_exceeded")
    message = answer.json()["error"]["message"]
    assert "21" in message and "20" in message, "both numbers are named"
    assert len(place.east.calls) == calls


def test_calls_beyond_what_an_upstream_takes_wait_and_are_refused(place: Place) -> None:
    place.east.script(Held())
    calls = len(place.east.calls)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(place.ask, "narrow/x")
        wait_for(lambda: len(place.east.calls) > calls)
        check(place.ask("narrow/x"), 429, "policy_concurrency")
        place.east.release()
        assert first.result().status_code in (200, 504)


# What breaks in mid-stream is an error event, and no invented end.


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (CutAfter(5), "upstream_truncated"),
        (CutAfter(5, "reset"), "upstream_truncated"),
        (CutAfter(5, "chunk-eof"), "upstream_truncated"),
        (CutAfter(5, "mid-chunk"), "upstream_truncated"),
        (ErrorEvent(5), "upstream_error"),
        (ErrorEvent(5, "rate_limit_exceeded"), "upstream_rate_limited"),
        (ErrorEvent(5, with_done=True), "upstream_error"),
    ],
)
def test_a_stream_that_breaks_ends_with_its_error(place: Place, fault: Fault, code: str) -> None:
    place.east.on_loop(place.east.begin)  # what was released holds again
    place.east.script(Committed(fault))
    with place.proxy.client() as client:
        body = HELLO | {"model": "east/gpt-4o", "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            pieces = answer.iter_raw()
            got = next(pieces)
            place.east.release()
            got += b"".join(pieces)
    assert answer.status_code == 200
    *before, last = got.rstrip(b"\n").split(b"\n\n")
    assert envelope(last.removeprefix(b"data: "))["code"] == code
    assert before and b"[DONE]" not in got and b'"finish_reason":"stop"' not in got
    wait_for(lambda: place.proxy.metric("sluice_requests_total", code=code, status="200"))


def test_a_stream_that_stalls_ends_with_its_error(place: Place) -> None:
    place.east.script(StallAfter(5))
    answer = place.ask("quick/gpt-4o", stream=True)
    *before, last = answer.content.rstrip(b"\n").split(b"\n\n")
    assert before and envelope(last.removeprefix(b"data: "))["code"] == "upstream_timeout_idle"


# What clients do wrong, the server's own refusals included.

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer canary-client-key\r\n"
JSON = b"Content-Type: application/json\r\n"
MISTAKES = {
    "no such path": (b"GET /v2/nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404, "client_invalid_request"),
    "encoded slash": (b"GET /v1%2fmodels HTTP/1.1\r\nHost: a\r\n\r\n", 404, "client_invalid_request"),
    "other method": (b"DELETE /v1/models HTTP/1.1\r\nHost: a\r\n\r\n", 405, "client_invalid_request"),
    "invented method": (b"BREW /v1/models HTTP/1.1\r\nHost: a\r\n\r\n", 400, "client_invalid_request"),
    "text": (POST + b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415, "client_invalid_request"),
    "a form": (
        POST + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 2\r\n\r\n{}",
        415,
        "client_invalid_request",
    ),
    "no type": (POST + b"Content-Length: 2\r\n\r\n{}", 415, "client_invalid_request"),
    "no body": (POST + JSON + b"Content-Length: 0\r\n\r\n", 400, "client_invalid_json"),
    "no JSON": (POST + JSON + b"Content-Length: 3\r\n\r\n{,}", 400, "client_invalid_json"),
    "no UTF-8": (POST + JSON + b'Content-Length: 11\r\n\r\n{"model":"\xff', 400, "client_invalid_json"),
    "no object": (POST + JSON + b"Content-Length: 2\r\n\r\n[]", 400, "client_invalid_request"),
    "a body over the limit": (POST + JSON + b"Content-Length: 5000\r\n\r\n", 413, "client_too_large"),
    "chunks over the limit": (
        POST + JSON + b"Transfer-Encoding: chunked\r\n\r\n1388\r\n" + b" " * 5000 + b"\r\n0\r\n\r\n",
        413,
        "client_too_large",
    ),
    "many headers": (POST + b"X: y\r\n" * 200 + b"\r\n", 431, "client_invalid_request"),
    "a large header": (POST + b"X: " + b"y" * 70_000 + b"\r\n\r\n", 431, "client_invalid_request"),
    "a long path": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431, "client_invalid_request"),
    "two lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "client_invalid_request"),
    "length and chunks": (
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        400,
        "client_invalid_request",
    ),
    "a bad chunk": (POST + JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "client_invalid_request"),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", 400, "client_invalid_request"),
    "a poisoned host": (b"GET /livez HTTP/1.1\r\nHost: a/admin?\r\n\r\n", 400, "client_invalid_request"),
    "bare line ends": (b"GET /livez HTTP/1.1\nHost: a\n\n", 400, "client_invalid_request"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01", 400, "client_invalid_request"),
}


@pytest.mark.parametrize(("sent", "status", "code"), MISTAKES.values(), ids=MISTAKES)
def test_client_errors_have_the_same_form(place: Place, sent: bytes, status: int, code: str) -> None:
    calls = len(place.east.calls)
    check(raw_answer(place.proxy.url, sent), status, code)
    assert len(place.east.calls) == calls


def test_a_body_that_stops_coming_is_a_timeout() -> None:
    """In the log and in metrics too, which must not say that the client left."""
    quick = Limits(header=0.2, body=0.2)
    with sluice("upstreams: {gone: {provider: openai, base_url: 'http://127.0.0.1:1/v1'}}", limits=quick) as proxy:
        check(raw_answer(proxy.url, POST + JSON + b"Content-Length: 9\r\n\r\n{"), 408, "client_timeout")
        with proxy.client() as client:
            (call,) = wait_for(lambda: client.get("/admin/calls").json()["data"])
            assert (call["status"], call["code"]) == (408, "client_timeout")
            assert "sluice_client_disconnects_total{" not in client.get("/metrics").text


def raw_answer(url: str, sent: bytes) -> httpx.Response:
    """The first answer to these bytes, read until it is whole."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(sent)
        got = b""
        while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < _length(got):
            piece = sock.recv(65_536)
            assert piece, f"the connection ended after {got!r}"
            got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)


def _length(got: bytes) -> int:
    lines = [line for line in got.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return int(lines[0].partition(b":")[2])


@pytest.mark.parametrize(("sent", "kept"), [("trace-1", True), ("a b", False), ("x" * 200, False)])
def test_a_sane_request_id_is_kept_and_another_made_otherwise(place: Place, sent: str, kept: bool) -> None:
    answers = [place.proxy.chat(HELLO | {"model": model}, x_request_id=sent) for model in ("east/gpt-4o", "nobody")]
    for answer in answers:
        assert (answer.headers["x-request-id"] == sent) is kept and answer.headers["x-request-id"]


# When to come again.


@pytest.mark.parametrize(
    ("asked", "passed"),
    [(0, "0"), (7, "7"), (60, "60"), (3600, "60"), ("Fri, 31 Dec 2100 23:59:59 GMT", "60"), ("soon", None)],
)
def test_retry_after_is_passed_on_and_cut_to_a_minute(place: Place, asked: float | str, passed: str | None) -> None:
    place.east.always = Status(429, retry_after=asked)
    answer = place.ask()
    check(answer, 429, "upstream_rate_limited")
    assert answer.headers.get("retry-after") == passed


@pytest.mark.parametrize("fault", [Status(500), Status(503), Status(401), ResetBeforeHeaders()])
def test_clients_are_asked_not_to_retry_what_was_retried_already(place: Place, fault: Fault) -> None:
    place.east.always = fault
    assert place.ask().headers["x-should-retry"] == "false"


# Secrets: none in an answer, a metric or a log line.

SECRETS = (UPSTREAM_KEY, HEADER_SECRET, CLIENT_KEY, ADMIN_TOKEN)
LEAKS: dict[str, Fault] = {
    "error text": Status(500, f"Key {UPSTREAM_KEY} with {HEADER_SECRET} is broken"),
    "client's mistake": Status(400, f"{UPSTREAM_KEY} and {HEADER_SECRET} were sent", "invalid_value"),
    "credentials refused": Status(401, f"Incorrect API key provided: {UPSTREAM_KEY}"),
    "page": Status(502, body=f"<pre>authorization: Bearer {UPSTREAM_KEY}</pre>".encode()),
    "200": ErrorIn200(orjson.dumps({"error": {"message": f"bad {UPSTREAM_KEY} {HEADER_SECRET}", "code": 500}})),
    "mid-stream": ErrorEvent(5, message=f"lost {UPSTREAM_KEY} {HEADER_SECRET}"),
    "type": Status(400, body=orjson.dumps({"error": {"message": "no", "type": UPSTREAM_KEY, "param": HEADER_SECRET}})),
    "header": Status(429, headers=(("x-seen", f"Bearer {UPSTREAM_KEY}"),)),
    "redirect": Redirect(f"http://127.0.0.1:1/?key={UPSTREAM_KEY}"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("leak", LEAKS)
def test_secrets_in_an_upstreams_words_are_blanked(
    place: Place, leak: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="sluice")
    place.east.always = LEAKS[leak]
    answer = place.ask(stream=stream)
    shown = answer.text + str(answer.headers) + metrics(place.proxy) + logged(caplog)
    assert [secret for secret in SECRETS if secret in shown] == []


def test_secrets_and_prompts_are_in_no_error_metric_or_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="sluice")
    shown = ""
    for model in ("nobody", "off/x", "gone/x", "listed/x", "east/small"):
        answer = place.ask(model, max_tokens=50)
        assert answer.status_code >= 400
        shown += answer.text + str(answer.headers)
    with place.proxy.client() as client:
        broken = b'{"model": "east/gpt-4o", "messages": [{"content": "' + PROMPT.encode() + b'"'
        for body in (broken, b'{"messages": "%b"}' % PROMPT.encode(), b'"%b"' % PROMPT.encode()):
            answer = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
            shown += answer.text + str(answer.headers)
        for path in ("/health", "/readyz", "/livez", "/"):
            shown += client.get(path).text
    assert place.ask().status_code == 200
    place.ask(stream=True)
    shown += metrics(place.proxy) + logged(caplog)
    assert [secret for secret in (*SECRETS, PROMPT, "Ada") if secret in shown] == []


@pytest.mark.parametrize("status", [400, 500])
def test_open_pages_say_in_our_words_why_an_upstream_is_not_well(status: int) -> None:
    words = f"model list: dial tcp 10.1.2.3:8000: connect: connection refused, x-access-token: {HEADER_SECRET}"
    with OpenAIDouble(key=UPSTREAM_KEY) as east:
        east.script(*[Status(status, words)] * 50, on="/models")
        config = f"""
upstreams: {{east: {{provider: openai, base_url: "{east.url}", api_key: x, headers: {{x-token: {HEADER_SECRET}}}}}}}
"""
        with sluice(config) as proxy, proxy.client() as client:
            wait_for(lambda: not client.get("/health").json()["upstreams"][0]["healthy"])
            told = [client.get(path).text for path in ("/health", "/readyz", "/livez")]
            asked = client.post("/chat", json={"message": "Hi."}).text
            overview = client.get("/admin/overview").json()["upstreams"][0]["reason"]
    assert all("The upstream " in text and "dial" not in text and HEADER_SECRET not in text for text in (*told, asked))
    assert "dial tcp" in overview and HEADER_SECRET not in overview


def test_an_upstreams_code_is_a_word_of_ours_or_of_openai(deaf: int) -> None:
    """It is passed on where it is a word, but holds no secret, and labels of metrics come from the closed list."""
    with OpenAIDouble(key=UPSTREAM_KEY) as east:
        config = f"upstreams: {{east: {{provider: openai, base_url: {east.url}, api_key: {UPSTREAM_KEY}}}}}"
        with sluice(config) as proxy:
            east.script(Status(400, "Bad.", UPSTREAM_KEY), Status(400, "Bad.", "word_of_the_upstream"))
            answers = [proxy.chat(HELLO | {"model": "east/gpt-4o"}) for _ in range(2)]
            assert UPSTREAM_KEY not in answers[0].text
            assert answers[1].json()["error"]["code"] == "word_of_the_upstream"
            shown = metrics(proxy)
            assert UPSTREAM_KEY not in shown and "word_of_the_upstream" not in shown


def test_no_secret_is_in_what_objects_show_of_themselves(place: Place) -> None:
    """What a traceback or a debugger would print."""
    app = place.proxy.app
    shown = f"{app.settings!r} {app.runtime!r} {app.control!r} {app.upstreams!r}"
    assert [secret for secret in SECRETS if secret in shown] == []


def metrics(proxy: Running) -> str:
    with proxy.client() as client:
        return client.get("/metrics").text


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Every record in both forms, with all that it carries."""
    return "".join(f"{JsonLines().format(each)} {Readable().format(each)} {each.__dict__}" for each in caplog.records)

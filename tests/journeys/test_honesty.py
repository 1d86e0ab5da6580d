"""Answers are honest: truncated ones never look complete, nor the reverse, and errors name whose fault it was."""

import json
import re
import socket
from collections.abc import Iterator
from time import sleep
from typing import Any

import httpx
import pytest

from tests.doubles.anthropic import AnthropicDouble
from tests.doubles.faults import Fine, HtmlIn200, Say
from tests.doubles.oddities import MalformedEvent, WholeForStream
from tests.doubles.ollama import OllamaDouble
from tests.doubles.openai import OpenAIDouble
from tests.doubles.server import Double, Fault
from tests.doubles.wire import Act, Answer, Cut, Hold, Received, Wait, json_answer, sse
from tests.running import Running, sluice
from tests.waiting import wait_for

CONFIG = """
server: {{ping: 400ms, cors: ["http://page.example"]}}
access: {{admin_token: admin-token}}
vapi: {{secret: voice}}
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east, prices: {{priced: {{input: 10, output: 20}}}}}}
  west: {{provider: openai, base_url: {west}, api_key: sk-west}}
defaults:
  retry: {{attempts: 1}}
  timeouts: {{first_token: 3s, idle: 2s}}
  breaker: {{failures: 1000}}
routes:
  - {{prefix: both/, to: ["east/{{rest}}", "west/{{rest}}"]}}
  - {{prefix: kept/, to: "east/{{rest}}", cache: {{exact: 1h, sampled: true}}}}
  - {{prefix: joined/, to: ["east/{{rest}}", "west/{{rest}}"], stream_safety: resume}}
  - {{prefix: spared/, to: ["east/{{rest}}", "west/{{rest}}"], stream_safety: resume, cache: {{exact: 1h, sampled: true}}}}
  - {{prefix: held/, to: ["east/{{rest}}", "west/{{rest}}"], stream_safety: whole}}
  - {{prefix: ruled/, to: "east/{{rest}}", response: {{model: asked, remove: [provider]}}}}
  - {{prefix: set/, to: "east/{{rest}}", request: {{set: {{temperature: 0.5}}}}}}
  - {{prefix: doubled/, to: "east/{{rest}}", request: {{set: {{n: 2}}}}}}
"""
ROLE: dict[str, Any] = {"role": "assistant", "content": ""}


def chunk(index: int = 0, finish: str | None = None, **delta: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return sse({"id": "c", "object": "chat.completion.chunk", "model": "m", "provider": "p", "choices": [choice]})


class Events:
    """A stream of these steps, whatever was asked."""

    def __init__(self, *acts: Act, kind: str = "text/event-stream") -> None:
        self._acts, self._kind = acts, kind

    def __call__(self, double: Double, request: Received) -> Answer:
        return Answer(200, (("content-type", self._kind),), self._acts, "chunked")


class Refusal:
    """An error with headers."""

    def __init__(self, status: int, **headers: str) -> None:
        self._status, self._headers = status, tuple((name.replace("_", "-"), value) for name, value in headers.items())

    def __call__(self, double: Double, request: Received) -> Answer:
        return json_answer({"error": {"message": "No.", "type": "x", "code": None}}, self._status, self._headers)


DONE, HELLO, STOP = b"data: [DONE]\n\n", chunk(**ROLE) + chunk(content="Hello"), chunk(finish="stop")
Place = tuple[Running, OpenAIDouble, OpenAIDouble]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with OpenAIDouble(key="sk-east") as east, OpenAIDouble(key="sk-west") as west:
        east.strict = west.strict = False
        with sluice(CONFIG.format(east=east.url, west=west.url)) as proxy:
            yield proxy, east, west


def ask(proxy: Running, model: str = "east/m", **more: Any) -> httpx.Response:
    asked = {"model": model, "messages": [{"role": "user", "content": "Hi."}], "stream": True} | more
    return proxy.chat(asked)


def code(answer: httpx.Response) -> str:
    """The code of the error that the stream ends with; "": it ends well."""
    last = answer.text.strip().rpartition("data: ")[2]
    return "" if last == "[DONE]" else json.loads(last)["error"]["code"]


@pytest.mark.parametrize(("model", "more"), [("east/m", {"n": 2}), ("set/m", {"n": 2}), ("doubled/m", {})])
def test_a_stream_of_two_choices_is_complete_when_both_are(place: Place, model: str, more: dict[str, int]) -> None:
    proxy, east, _ = place
    two = chunk(content="a"), chunk(1, content="b")
    east.script(Events(*two, chunk(finish="stop"), chunk(1, content="c")))
    assert code(ask(proxy, model, **more)) == "upstream_truncated"
    east.script(Events(*two, chunk(finish="stop"), chunk(1, finish="length")))
    assert code(ask(proxy, model, **more)) == ""


@pytest.mark.parametrize("model", ["east/m", "set/m"])
@pytest.mark.parametrize("prompt", [["a", "b"], [[1, 2], [3]]])
def test_a_stream_of_two_prompts_is_complete_when_both_are_answered(
    place: Place, model: str, prompt: list[Any]
) -> None:
    proxy, east, _ = place

    def said(index: int, finish: str | None = None) -> bytes:
        return sse({"id": "c", "object": "text_completion", "choices": [
            {"index": index, "text": "x", "finish_reason": finish}]})  # fmt: skip

    for events, ends in (((said(0), said(1), said(0, "stop")), "upstream_truncated"), ((said(0, "stop"),), "")):
        for stream in (True, False):
            east.script(Events(*events))
            asked = {"model": model, "prompt": prompt if ends else prompt[0], "stream": stream}
            answer = proxy.chat(asked, "/v1/completions")
            told = code(answer) if stream else answer.json().get("error", {}).get("code", "")
            assert told == ends


@pytest.mark.parametrize("how", ["reset", "close", "mid-chunk", "chunk-eof"])
@pytest.mark.parametrize("model", ["east/m", "both/m", "joined/m"])
def test_behind_its_finish_an_answer_is_complete_however_the_connection_ends(
    place: Place, how: Any, model: str
) -> None:
    proxy, east, west = place
    before = len(west.calls)
    east.script(Events(HELLO, STOP, Wait(0.03), Cut(how)))
    answer = ask(proxy, model)
    assert (code(answer), answer.text.count('"finish_reason":"stop"')) == ("", 1)
    assert len(west.calls) == before


@pytest.mark.parametrize("model", ["east/m", "both/m", "kept/m", "ruled/m"])
def test_what_comes_together_with_a_failure_is_not_lost(place: Place, model: str) -> None:
    proxy, east, _ = place
    failed = sse({"error": {"message": "x", "code": "server_error"}})
    east.script(Events(HELLO, Wait(0.05), chunk(content=" world") + failed, Wait(0.05), chunk(content="!")))
    answer = ask(proxy, model)
    assert '"content":" world"' in answer.text and '"content":"!"' not in answer.text
    assert (code(answer), answer.text.count('"error"')) == ("upstream_error", 1)


@pytest.mark.parametrize("acts", [(HELLO,), (chunk(**ROLE), Wait(0.05), chunk(content="Hello"))])
@pytest.mark.parametrize("model", ["east/m", "both/m", "kept/m", "ruled/m"])
def test_the_first_content_commits_a_call_though_a_failure_comes_in_one_piece_with_it(
    place: Place, model: str, acts: tuple[Any, ...]
) -> None:
    proxy, east, west = place
    before, failed = len(west.calls), sse({"error": {"message": "x", "code": "server_error"}})
    east.script(Events(*acts[:-1], acts[-1] + failed))
    answer = ask(proxy, model)
    assert (answer.status_code, answer.headers["x-sluice-upstream"], len(west.calls)) == (200, "east", before)
    assert '"content":"Hello"' in answer.text
    assert (code(answer), answer.text.count('"error"')) == ("upstream_error", 1)


@pytest.mark.parametrize(
    "error", [{"type": "sk-east", "code": "invalid_prompt"}, {"type": "invalid_request_error", "code": "sk-east"}]
)
@pytest.mark.parametrize("model", ["east/m", "kept/m"])
def test_no_secret_is_in_any_word_of_an_error_in_a_running_stream(place: Place, model: str, error: Any) -> None:
    proxy, east, _ = place
    east.script(Events(HELLO, Wait(0.05), chunk(content=" world"), sse({"error": {"message": "x"} | error})))
    answer = ask(proxy, model)
    assert answer.status_code == 200 and '"error"' in answer.text and "sk-east" not in answer.text


def test_a_failure_after_the_finish_is_reported_and_nothing_is_sent_twice(place: Place) -> None:
    proxy, east, west = place
    failed, before = sse({"error": {"message": "x", "code": "server_error"}}), len(west.calls)
    for acts in ((HELLO, Wait(0.05), STOP, Wait(0.05), failed), (HELLO, Wait(0.05), STOP + failed)):
        east.script(Events(*acts))
        answer = ask(proxy, "joined/m")
        assert (code(answer), answer.text.count('"finish_reason":"stop"')) == ("upstream_error", 1)
    assert len(west.calls) == before


def test_a_stream_that_broke_is_not_read_again_behind_the_one_piece_that_went_on(place: Place) -> None:
    proxy, east, west = place
    failed = sse({"error": {"message": "x", "code": "server_error"}})
    east.script(Events(HELLO, Wait(0.05), chunk(content=" wor") + failed))
    west.script(Say("Hello world", WholeForStream()))
    answer = ask(proxy, "joined/m")
    assert (code(answer), answer.text.count("[DONE]")) == ("", 1) and '"content":"ld"' in answer.text


@pytest.mark.parametrize("rest", [b'data: {"id":"c1","choic', b'data: {"id":"c1"}', b"data: [DONE]"])
def test_what_stands_behind_the_last_empty_line_is_an_event_or_nothing(place: Place, rest: bytes) -> None:
    proxy, east, _ = place
    east.script(Events(HELLO, STOP, rest))
    events = [event for event in ask(proxy).text.split("\n\n") if event]
    assert all(event == "data: [DONE]" or json.loads(event[6:]) for event in events if event.startswith("data:"))
    assert events[-1] == "data: [DONE]" and events.count("data: [DONE]") == 1


CREATED = sse({"type": "response.created", "response": {"id": "r", "status": "in_progress", "error": None}})
FAILED = [
    sse({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "Too many."}}}),
    sse({"type": "error", "code": "rate_limit_exceeded", "message": "Too many.", "param": None}),
    sse({"error": {"code": "rate_limit_exceeded", "message": "Too many."}}),
]
DEEP = b'{"output": [' + b"[" * 400 + b"]" * 400 + b"]}"
SPOKEN = sse({"type": "response.output_text.delta", "delta": "Hi"}), sse({"type": "response.completed", "response": {}})


def whole(fields: dict[str, Any]) -> Fault:
    """An answer in one piece."""
    return lambda double, request: json_answer(fields)


def ends(response: dict[str, Any]) -> bytes:
    """The last event of a stream that ends with this response."""
    return sse({"type": "response.completed", "response": response})


@pytest.mark.parametrize("failed", FAILED)
def test_a_responses_stream_that_fails_before_content_is_a_failure_while_nothing_has_left(
    place: Place, failed: bytes
) -> None:
    proxy, east, west = place
    counted = proxy.metric("sluice_requests_total", upstream="east", code="upstream_rate_limited")
    asked = {"model": "both/m", "input": "Hi.", "stream": True}
    east.script(Events(CREATED, Wait(0.05), failed))
    west.script(Events(CREATED, *SPOKEN))
    answer = proxy.chat(asked, "/v1/responses")
    assert answer.headers["x-sluice-attempts"] == "east:rate_limited,west:200"
    assert answer.content == b"".join((CREATED, *SPOKEN))
    east.script(Events(CREATED + failed))
    refused = proxy.chat(asked | {"model": "east/m"}, "/v1/responses")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "upstream_rate_limited")
    for before in (CREATED, SPOKEN[0]):  # which have gone out: the client is told in the API's own words
        east.script(Events(before, Wait(0.05), failed))
        assert proxy.chat(asked | {"model": "east/m"}, "/v1/responses").content == before + failed
    wait_for(
        lambda: proxy.metric("sluice_requests_total", upstream="east", code="upstream_rate_limited") == counted + 3
    )


def test_a_response_that_was_asked_for_whole_and_comes_as_a_stream_is_complete_or_a_failure(place: Place) -> None:
    proxy, east, _ = place
    before = proxy.metric("sluice_requests_total", upstream="west", code="ok")
    nothing, silent = ends({"output": None}), ends({"output": []})
    lasts = ((SPOKEN[0], "truncated"), (SPOKEN[1], "malformed"), (nothing, "malformed"), (silent, "malformed"))
    for last, cause in ((FAILED[0], "rate_limited"), *lasts):
        east.script(Events(CREATED, SPOKEN[0], last))
        answer = proxy.chat({"model": "both/m", "input": "Hi."}, "/v1/responses")
        assert answer.headers["x-sluice-attempts"] == f"east:{cause},west:200"
        assert answer.json()["output"]
    wait_for(lambda: proxy.metric("sluice_requests_total", upstream="west", code="ok") == before + 5)


@pytest.mark.parametrize(
    "response",
    [b'{"output": [{"n": 123456789012345678901234567890}]}', b'{"output":["\\ud800"]}', DEEP],
    ids=["large", "half", "deep"],
)
def test_a_response_that_comes_as_a_stream_is_passed_on_byte_for_byte(place: Place, response: bytes) -> None:
    proxy, east, _ = place
    stream = Events(CREATED, SPOKEN[0], b'data: {"type":"response.completed","response":%b}\n\n' % response)
    east.script(stream, stream)
    asked = {"model": "east/m", "input": "Hi."}
    assert proxy.chat(asked, "/v1/responses").content == response
    assert proxy.chat(asked | {"stream": True}, "/v1/responses").content.endswith(response + b"}\n\n")


def test_a_failed_response_in_one_piece_is_a_failure_however_little_it_says(place: Place) -> None:
    proxy, east, _ = place
    failed = {"status": "failed", "output": []}
    for fields, stream in (
        (failed, True),
        (failed | {"object": "response"}, True),
        (failed | {"object": "response"}, False),
    ):
        east.script(whole(fields))
        answer = proxy.chat({"model": "both/m", "input": "Hi.", "stream": stream}, "/v1/responses")
        assert answer.headers["x-sluice-attempts"] == "east:error,west:200"


@pytest.mark.parametrize("endpoint", ["responses", "chat/completions"])
@pytest.mark.parametrize("stream", [True, False])
def test_the_usage_of_an_answer_that_was_not_taken_is_not_that_of_the_next_target(
    place: Place, endpoint: str, stream: bool
) -> None:
    proxy, east, west = place
    used = {"prompt_tokens": 7, "completion_tokens": 1, "input_tokens": 7, "output_tokens": 1, "total_tokens": 8}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}}
    said = {"choices": [choice], "output": [], "status": "in_progress", "usage": used}
    failed = Events(SPOKEN[0], ends({"output": [], "usage": used})) if endpoint == "responses" else None
    if not stream and endpoint == "chat/completions":
        choice["finish_reason"] = "error"
    before = [proxy.metric("sluice_tokens_total", upstream=name, kind="input") for name in ("east", "west")]
    east.script(failed if failed and not stream else whole(said))
    finished = {"status": "completed", "choices": [choice | {"finish_reason": "stop"}]}
    west.script(whole(said | finished))
    asked = {"model": "both/m", "input": "Hi.", "messages": [{"role": "user", "content": "Hi."}], "stream": stream}
    answer = proxy.chat(asked, f"/v1/{endpoint}")
    assert (
        answer.headers["x-sluice-attempts"].startswith("east:") and ",west:200" in answer.headers["x-sluice-attempts"]
    )
    proxy.calm()
    after = [proxy.metric("sluice_tokens_total", upstream=name, kind="input") for name in ("east", "west")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [0, 7]


@pytest.mark.parametrize("waits", [0.0, 0.05])
@pytest.mark.parametrize("failed", FAILED)
def test_no_secret_is_in_a_responses_streams_own_words_of_failure(place: Place, failed: bytes, waits: float) -> None:
    proxy, east, _ = place
    east.script(Events(CREATED, Wait(0.05), SPOKEN[0], Wait(waits), failed.replace(b"Too many", b"No sk-east here")))
    answer = proxy.chat({"model": "east/m", "input": "Hi.", "stream": True}, "/v1/responses")
    assert answer.content.startswith(CREATED + SPOKEN[0])
    assert b"No [secret] here" in answer.content and b"sk-east" not in answer.content


@pytest.mark.parametrize("model", ["east/m", "both/m"])
@pytest.mark.parametrize("failed", FAILED)
def test_no_secret_is_in_words_of_failure_that_come_in_one_piece_with_the_first_content(
    place: Place, model: str, failed: bytes
) -> None:
    proxy, east, _ = place
    told = SPOKEN[0] + failed.replace(b"Too many", b"No sk-east here")
    east.script(Events(told))
    answer = proxy.chat({"model": model, "input": "Hi.", "stream": True}, "/v1/responses")
    assert answer.content == told.replace(b"sk-east", b"[secret]")


@pytest.mark.parametrize("failed", FAILED)
def test_a_responses_stream_that_is_held_back_whole_can_fail_behind_its_content_too(
    place: Place, failed: bytes
) -> None:
    proxy, east, west = place
    east.script(Events(CREATED, SPOKEN[0], Wait(0.05), failed))
    west.script(Events(CREATED, *SPOKEN))
    answer = proxy.chat({"model": "held/m", "input": "Hi.", "stream": True}, "/v1/responses")
    assert answer.headers["x-sluice-attempts"] == "east:rate_limited,west:200"
    assert answer.content == b"".join((CREATED, *SPOKEN))


def test_a_responses_stream_that_breaks_ends_with_an_error_event_of_that_api(place: Place) -> None:
    """Clients that check each event's `type` take OpenAI's plain envelope for garbage."""
    proxy, east, _ = place
    begun = [sse({"type": "response.created", "sequence_number": 0, "response": {"id": "r"}})]
    begun.append(sse({"type": "response.output_text.delta", "sequence_number": 1, "delta": '"sequence_number":7'}))
    begun.append(b": ping\n\n")
    east.script(Events(*begun[:2], Wait(0.05), begun[2], Cut()))
    answer = proxy.chat({"model": "east/m", "input": "Hi.", "stream": True}, "/v1/responses")
    assert answer.content.startswith(b"".join(begun))
    name, _, data = answer.content.removeprefix(b"".join(begun)).decode().partition("\n")
    event = json.loads(data.removeprefix("data: "))
    assert (name, event["type"], event["sequence_number"]) == ("event: error", "error", 2)
    assert event["code"] == event["error"]["code"] == "upstream_truncated"
    assert event["message"] == event["error"]["message"] and event["error"]["type"] == "upstream_error"


def test_dropped_events_are_silence_and_silence_is_commented(place: Place) -> None:
    proxy, east, _ = place
    odd = [each for _ in range(8) for each in (b"data: keep-alive\n\n", Wait(0.13))]
    east.script(Events(HELLO, *odd, STOP, DONE))
    assert ask(proxy).text.count(": ping") >= 2


def test_a_whole_answer_without_a_finish_gets_none_as_a_stream(place: Place) -> None:
    proxy, east, _ = place
    cut = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hel"}, "finish_reason": None}]}
    for _ in range(2):
        east.script(lambda double, request: json_answer(cut))
    assert "upstream_truncated" in ask(proxy).text
    assert proxy.chat({"model": "east/m", "messages": []}).json() == cut  # asked whole, it passes as it came


@pytest.mark.parametrize("model", ["joined/m", "spared/m"])
@pytest.mark.parametrize("goes_on", [True, False])
def test_the_upstream_that_resumed_is_shown_with_a_cache_as_without(place: Place, model: str, goes_on: bool) -> None:
    proxy, east, west = place
    east.script(Events(HELLO, Cut("close")), *([] if goes_on else [Refusal(400)]))
    west.script(Events(HELLO, STOP, DONE) if goes_on else Refusal(500))
    answer = ask(proxy, model, seed=len(east.calls))
    assert code(answer) == ("" if goes_on else "upstream_truncated")
    told = wait_for(
        lambda: [call for call in proxy.app.history.calls() if call["id"] == answer.headers["x-request-id"]]
    )
    assert [(call["upstream"], call["attempts"]) for call in told] == [
        ("west", ["east:200", "west:200"]) if goes_on else ("east", ["east:200", "west:500", "east:400"])
    ]


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "embeddings"])
def test_json_cut_off_behind_a_brace_is_no_answer(place: Place, path: str) -> None:
    proxy, east, _ = place
    asked = {"model": "both/m", "messages": [{"role": "user", "content": "Hi."}], "prompt": "Hi.", "input": "Hi."}
    cut = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hel"}', b'{"data":[{"embedding":[1]}'
    for body in cut:
        east.script(lambda double, request: Answer(200, (("content-type", "application/json"),), (body,), "close"))  # noqa: B023
        answer = proxy.chat(asked, f"/v1/{path}")
        assert (answer.status_code, answer.headers["x-sluice-attempts"]) == (200, "east:malformed,west:200")
        assert answer.json()


@pytest.mark.parametrize("path", ["chat/completions", "responses", "embeddings", "audio/speech"])
@pytest.mark.parametrize("stream", [{}, {"stream": True}])
@pytest.mark.parametrize("model", ["both/m", "east/m"])
def test_nothing_is_no_answer(place: Place, path: str, stream: dict[str, bool], model: str) -> None:
    proxy, east, _ = place
    asked = {"model": model, "messages": [{"role": "user", "content": "Hi."}], "input": "Hi.", "voice": "alloy"}
    for status, kind in ((204, ()), (200, (("content-type", "audio/mpeg"),))):
        east.script(lambda double, request: Answer(status, kind))  # noqa: B023
        answer = proxy.chat(asked | stream, f"/v1/{path}")
        if model == "both/m":
            assert (answer.status_code, answer.headers["x-sluice-attempts"]) == (200, "east:malformed,west:200")
        else:
            assert (answer.status_code, code(answer)) == (502, "upstream_malformed")


def test_what_stands_behind_a_response_is_for_nobody_however_it_comes(place: Place) -> None:
    proxy, east, _ = place
    made = sse({"type": "response.completed", "response": {"id": "r", "status": "completed"}}, "response.completed")
    late = sse({"error": {"message": "Late.", "type": "x", "code": None}})
    for acts in ((made, late), (made + late,)):
        east.script(Events(*acts))
        before = proxy.metric("sluice_attempts_total", upstream="east", outcome="ok")
        answer = proxy.chat({"model": "east/m", "input": "Hi.", "stream": True}, "/v1/responses")
        assert answer.content == made
        wait_for(lambda: proxy.metric("sluice_attempts_total", upstream="east", outcome="ok") == before + 1)  # noqa: B023


@pytest.mark.parametrize("options", [None, {"include_usage": False}, {"include_usage": True}])
def test_a_whole_answer_as_a_stream_has_the_usage_event_that_was_asked_for(place: Place, options: Any) -> None:
    proxy, east, _ = place
    east.script(WholeForStream())
    answer = ask(proxy, stream_options=options)
    assert code(answer) == ""
    assert ('"choices":[],"usage"' in answer.text) is bool(options and options["include_usage"])


def test_an_answer_with_a_hole_is_not_kept_and_half_signs_are_no_hole(place: Place) -> None:
    proxy, east, _ = place
    halves = [b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n',
              b'data: {"choices":[{"index":0,"delta":{"content":"\\ude00"}}]}\n\n']  # fmt: skip
    east.script(Events(HELLO, *halves, STOP, DONE))
    ask(proxy, "kept/m", user="halves")
    again = ask(proxy, "kept/m", user="halves", stream=False)
    assert again.headers["x-sluice-cache"] == "hit"
    assert again.json()["choices"][0]["message"]["content"] == "Hello\N{GRINNING FACE}"
    dropped = proxy.metric("sluice_malformed_events_total", upstream="east")
    east.script(Events(HELLO, b'data: {"choices":[{\n\n', STOP, DONE), Events(HELLO, STOP, DONE))
    ask(proxy, "kept/m", user="hole")
    assert ask(proxy, "kept/m", user="hole").headers["x-sluice-cache"] == "miss"
    wait_for(lambda: proxy.metric("sluice_malformed_events_total", upstream="east") == dropped + 1)


@pytest.mark.parametrize(
    ("provider", "make", "model", "stream"),
    [
        ("ollama", OllamaDouble, "llama3.2:latest", True),
        ("anthropic", AnthropicDouble, "claude-sonnet-4-5-20250929", True),
        ("llamacpp", OpenAIDouble, "m", True),
        ("llamacpp", OpenAIDouble, "m", False),  # which is gathered from a stream
    ],
)
def test_a_hole_in_what_is_not_passed_as_it_came_is_counted_and_not_kept(
    provider: str, make: Any, model: str, stream: bool
) -> None:
    with make() as east:
        east.strict = False
        upstream = f"{{provider: {provider}, base_url: {east.url}, api_key: '{east.key}'}}"
        route = "{prefix: kept/, to: 'east/{rest}', cache: {exact: 1h, sampled: true}}"
        with sluice(f"upstreams: {{east: {upstream}}}\nroutes: [{route}]") as proxy:
            asked: dict[str, Any] = {"model": f"kept/{model}", "stream": stream, "max_tokens": 50}
            east.script(MalformedEvent(4))
            assert ask(proxy, **asked).headers["x-sluice-cache"] == "miss"
            wait_for(lambda: proxy.metric("sluice_malformed_events_total", upstream="east") == 1)
            assert ask(proxy, **asked).headers["x-sluice-cache"] == "miss"
            assert ask(proxy, **asked).headers["x-sluice-cache"] == "hit"


BREAKING = chunk(content="Hello"), b"data: {broken\n\n", Wait(0.05), Cut("reset")


def test_a_hole_in_what_another_went_on_from_is_counted_and_the_answer_not_kept(place: Place) -> None:
    proxy, east, west = place
    proxy.calm()
    dropped = proxy.metric("sluice_malformed_events_total")
    east.script(Events(*BREAKING))
    west.script(Say("Hello world"))
    assert code(ask(proxy, "spared/m")) == ""
    wait_for(lambda: proxy.metric("sluice_malformed_events_total") == dropped + 1)
    east.script(Say("Hello world"))
    assert ask(proxy, "spared/m").headers["x-sluice-cache"] == "miss"


def test_what_a_stream_said_that_nobody_could_go_on_from_is_counted_once(place: Place) -> None:
    proxy, east, west = place
    numbers = ("sluice_malformed_events_total", "sluice_tokens_total")
    proxy.calm()
    before = [proxy.metric(each) for each in numbers]
    usage = sse({"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    east.script(Events(usage, *BREAKING), Refusal(500))
    west.script(Refusal(500))
    assert code(ask(proxy, "joined/m")) == "upstream_truncated"
    wait_for(lambda: [proxy.metric(each) for each in numbers] == [before[0] + 1, before[1] + 5])


@pytest.mark.parametrize("model", ["east/m", "kept/m", "spared/m"])
def test_what_an_answer_in_one_piece_took_is_counted_once_in_the_place_of_a_stream(place: Place, model: str) -> None:
    proxy, east, _ = place
    proxy.calm()
    before = proxy.metric("sluice_tokens_total")
    east.script(WholeForStream())
    usage = re.findall(r'"total_tokens":(\d+)', ask(proxy, model, stream_options={"include_usage": True}, seed=5).text)
    wait_for(lambda: proxy.metric("sluice_tokens_total") == before + int(usage[0]))


@pytest.mark.parametrize("fault,seed", [(Fine(), 6), (WholeForStream(), 7)])
def test_what_two_took_that_made_one_answer_is_counted_together(place: Place, fault: Fault, seed: int) -> None:
    proxy, east, west = place
    proxy.calm()
    before = proxy.metric("sluice_tokens_total")
    usage = sse({"id": "c", "choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 1000}})
    east.script(Events(usage, *BREAKING))
    west.script(Say("Hello world", fault))
    asked = ask(proxy, "spared/m", stream_options={"include_usage": True}, seed=seed)
    assert code(asked) == "" and (took := re.findall(r'"total_tokens":(\d+)', asked.text))
    wait_for(lambda: proxy.metric("sluice_tokens_total") == before + 2000 + int(took[0]))


def test_rules_hold_for_what_is_only_nearly_json(place: Place) -> None:
    proxy, east, _ = place
    odd = b'data: {"model":"m","provider":"p","choices":[{"index":0,"delta":{"content":"\\ud83d"},"x":NaN}]}\n\n'
    east.script(Events(HELLO, odd, STOP, DONE))
    text = ask(proxy, "ruled/m").text
    assert '"provider"' not in text and text.count('"model":"ruled/m"') == 4


def test_an_error_has_the_upstreams_request_id_and_limits(place: Place) -> None:
    proxy, east, _ = place
    said = {"x_request_id": "up-9", "x_ratelimit_remaining_requests": "0", "retry_after": "2", "server": "hidden"}
    east.script(Refusal(429, **said))
    answer = ask(proxy)
    shown = [
        answer.headers.get(name, "").split(",")[0]
        for name in ("x-upstream-request-id", "x-ratelimit-remaining-requests", "server")
    ]
    assert shown == ["up-9", "0", ""]
    assert answer.headers.get_list("retry-after") == ["2"] and answer.headers.get_list("content-type") == [
        "application/json"
    ]


def test_the_headers_name_the_target_whose_failure_is_sent(place: Place) -> None:
    proxy, east, west = place
    before = proxy.metric("sluice_requests_total", upstream="east", code="upstream_rate_limited")
    east.script(Refusal(429))
    west.script(Refusal(500))
    answer = ask(proxy, "both/m")
    assert (answer.status_code, answer.headers["x-sluice-upstream"]) == (429, "east")
    assert answer.headers["x-sluice-attempts"] == "east:429,west:500"
    wait_for(lambda: proxy.metric("sluice_requests_total", upstream="east", code="upstream_rate_limited") == before + 1)


def test_an_upstream_that_refuses_our_key_is_not_well_until_it_takes_it(place: Place) -> None:
    proxy, east, _ = place
    wait_for(lambda: proxy.metric("sluice_upstream_up", upstream="east") == 1)
    east.script(Refusal(401))
    ask(proxy)
    (shown,) = [each for each in httpx.get(f"{proxy.url}/health").json()["upstreams"] if each["name"] == "east"]
    assert (shown["healthy"], shown["reason"]) == (False, "It refuses our key.")
    assert proxy.metric("sluice_upstream_up", upstream="east") == 0
    ask(proxy)
    wait_for(lambda: proxy.metric("sluice_upstream_up", upstream="east") == 1)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat", "/vapi/chat/completions"])
def test_who_leaves_while_sending_is_counted(place: Place, path: str) -> None:
    proxy, _, _ = place
    before = proxy.metric("sluice_client_disconnects_total", phase="admission")
    host, port = proxy.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as leaving:
        lines = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer voice\r\n"
        leaving.sendall(lines.encode() + b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{")
    wait_for(lambda: proxy.metric("sluice_client_disconnects_total", phase="admission") == before + 1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["east/m", "kept/m", "joined/m"])
def test_a_client_that_left_is_logged_with_the_upstream_asked(place: Place, model: str, stream: bool) -> None:
    proxy, east, _ = place
    east.script(Events(Hold()))
    ended = proxy.metric("sluice_requests_total", code="client_cancelled")
    asked = {"model": model, "messages": [{"role": "user", "content": "Hi."}], "stream": stream}
    with proxy.client() as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/chat/completions", json=asked, timeout=0.1)
        wait_for(lambda: proxy.metric("sluice_requests_total", code="client_cancelled") > ended)
        call = client.get("/admin/calls", headers={"authorization": "Bearer admin-token"}).json()["data"][0]
    assert (call["upstream"], call["attempts"]) == ("east", ["east:cancelled"])


def test_who_leaves_with_the_last_event_has_had_it_all(place: Place) -> None:
    proxy, east, _ = place
    left = proxy.metric("sluice_client_disconnects_total")
    ended = proxy.metric("sluice_requests_total", code="ok")
    east.script(Events(HELLO, STOP, DONE, Hold()))
    with proxy.client() as client:
        asked = {"model": "east/m", "messages": [], "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=asked) as answer:
            seen = ""
            for text in answer.iter_text():
                seen += text
                if "[DONE]" in seen:
                    break
    wait_for(lambda: proxy.metric("sluice_requests_total", code="ok") == ended + 1)
    east.release()
    assert proxy.metric("sluice_client_disconnects_total") == left


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", ["completions", "embeddings", "responses", "images/generations", "audio/speech"])
def test_a_page_is_no_answer_of_any_endpoint(place: Place, endpoint: str, stream: bool) -> None:
    proxy, east, west = place
    east.script(HtmlIn200())
    whole = {"choices": [{"text": "x", "finish_reason": "stop"}], "output": []}
    west.script(lambda double, request: json_answer(whole))
    answer = proxy.chat({"model": "both/m", "input": "Hi.", "prompt": "Hi.", "stream": stream}, f"/v1/{endpoint}")
    assert (answer.status_code, answer.headers["x-sluice-attempts"]) == (200, "east:malformed,west:200")
    assert "html" not in answer.text


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize(
    "said", [b'{"id":"c","choices":[]}', b'{"id":"c","choices":null,"usage":{}}', b'{"id":"c"}', b"{}", b"[]", b"null"]
)
def test_a_whole_chat_without_choices_is_no_answer(place: Place, said: bytes, kind: str) -> None:
    proxy, east, _ = place
    said = b"data: %b\n\n%b" % (said, DONE) if kind == "text/event-stream" else said
    east.script(Events(said, kind=kind))
    answer = ask(proxy, "both/m", stream=False)
    assert answer.headers["x-sluice-attempts"] == "east:malformed,west:200" and answer.json()["choices"]
    east.script(Events(said, kind=kind))
    assert code(ask(proxy, stream=False)) == "upstream_malformed"


@pytest.mark.parametrize("stream", [True, False])
def test_a_text_completion_without_choices_is_no_answer(place: Place, stream: bool) -> None:
    proxy, east, _ = place
    east.script(lambda double, request: json_answer({"choices": []}))
    answer = proxy.chat({"model": "east/m", "prompt": "Hi.", "stream": stream}, "/v1/completions")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_malformed")


@pytest.mark.parametrize(
    ("reason", "kind"), [("abort", "upstream_error"), ("insufficient_system_resource", "upstream_overloaded")]
)
def test_an_answer_that_its_upstream_broke_off_is_none(place: Place, reason: str, kind: str) -> None:
    proxy, east, _ = place
    said = '{"id":"c","choices":[{"index":0,"message":{"content":"abort"},"finish_reason":"%s"}]}'
    east.script(Events((said % "stop").encode(), kind="application/json"))
    assert ask(proxy, stream=False).text == said % "stop"
    east.always = Events((said % reason).encode(), kind="application/json")
    try:
        assert ask(proxy, "both/m", stream=False).headers["x-sluice-upstream"] == "west"
        assert code(ask(proxy, stream=False)) == kind
    finally:
        east.always = None


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", ""])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_without_a_type_of_its_own_is_what_it_begins_as(
    place: Place, kind: str, stream: bool, streamed: bool
) -> None:
    """Go's servers and Cloudflare's call JSON plain text where nobody says otherwise."""
    proxy, east, _ = place
    whole = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}'
    body = HELLO + STOP + DONE if streamed else b"\n" + whole
    headers = (("content-type", kind),) if kind else ()
    for at in (1, 2, len(body)):
        east.script(
            lambda double, request, at=at: Answer(
                200, headers, (Wait(0.05), body[:at], Wait(0.02), body[at:]), "chunked"
            )
        )
        answer = ask(proxy, stream=stream)
        assert float(answer.headers["server-timing"].rpartition("=")[2]) >= 40, "the upstream's time, not ours"
        assert answer.headers["content-type"] == ("text/event-stream" if stream else "application/json")
        if stream:
            assert '"content":"Hello"' in answer.text and answer.text.endswith("data: [DONE]\n\n")
        else:
            assert answer.json()["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_of_blanks_is_given_up_and_not_kept(place: Place, stream: bool) -> None:
    proxy, east, _ = place
    east.script(Events(*[b" " * 2**20] * 65, Hold(), kind="text/plain"))
    assert code(ask(proxy, stream=stream)) == "upstream_malformed"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat"])
def test_a_client_that_sends_slowly_does_not_make_the_proxy_slow(place: Place, path: str) -> None:
    proxy, _, _ = place
    body = json.dumps({"model": "east/m", "messages": [{"role": "user", "content": "Hi."}]}).encode()
    spent = proxy.metric("sluice_overhead_seconds_sum")

    def slowly() -> Iterator[bytes]:
        yield body[:9]
        sleep(0.4)
        yield body[9:]

    with proxy.client() as client:
        answer = client.post(path, content=slowly(), headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert float(answer.headers["server-timing"].removeprefix("proxy;dur=").partition(",")[0]) < 300
    counted = proxy.metric("sluice_client_disconnects_total", phase="admission")
    host, _, port = proxy.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as leaving:
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n"
        )
        leaving.sendall(head.encode() + b"{")
        sleep(0.4)
    wait_for(lambda: proxy.metric("sluice_client_disconnects_total", phase="admission") > counted)
    assert proxy.metric("sluice_overhead_seconds_sum") - spent < 0.3


def test_audio_is_heard_while_it_is_made() -> None:
    with OpenAIDouble() as east, sluice(f"upstreams: {{east: {{provider: openai, base_url: {east.url}}}}}") as proxy:
        east.script(Events(b"AAAA", Hold(), b"BBBB", kind="audio/mpeg"))
        asked = {"model": "east/tts-1", "input": "Hi.", "voice": "alloy"}
        with proxy.client() as client, client.stream("POST", "/v1/audio/speech", json=asked) as answer:
            pieces = answer.iter_raw()
            assert next(pieces) == b"AAAA"
            east.release()
            assert b"".join(pieces) == b"BBBB"
        assert (answer.headers["content-type"], answer.headers["x-sluice-attempts"]) == ("audio/mpeg", "east:200")


@pytest.mark.parametrize("stream", [{}, {"stream": True}])
def test_audio_is_audio_to_its_last_byte_or_breaks_off(place: Place, stream: dict[str, bool]) -> None:
    proxy, east, _ = place
    asked = {"model": "east/tts", "input": "Hi.", "voice": "alloy"} | stream
    east.script(Events(Wait(0.6), b"AAAA", Wait(0.6), b"BBBB", kind="audio/mpeg"))
    answer = proxy.chat(asked, "/v1/audio/speech")
    assert (answer.headers["content-type"], answer.content) == ("audio/mpeg", b"AAAABBBB")
    east.script(Events(b"AA\n\n", b"BB", kind="text/plain"))
    answer = proxy.chat(asked, "/v1/audio/speech")
    assert (answer.headers["content-type"], answer.content) == ("text/plain", b"AA\n\nBB")
    east.script(Events(b"AAAA", Wait(0.05), Cut("reset"), kind="audio/mpeg"))
    with pytest.raises(httpx.RemoteProtocolError):
        proxy.chat(asked, "/v1/audio/speech")


def test_audio_that_never_comes_ran_out_of_the_time_it_had() -> None:
    with OpenAIDouble() as east:
        timeouts = "defaults: {timeouts: {first_token: 100ms, whole: 300ms}}"
        with sluice(f"upstreams: {{east: {{provider: openai, base_url: {east.url}}}}}\n{timeouts}") as proxy:
            east.always = Events(Hold(), kind="audio/mpeg")
            asked = {"model": "east/tts-1", "input": "Hi.", "voice": "alloy"}
            assert code(proxy.chat(asked, "/v1/audio/speech")) == "upstream_timeout_whole"
            assert code(proxy.chat(asked | {"stream": True}, "/v1/audio/speech")) == "upstream_timeout_first_token"


def test_one_piece_in_place_of_a_stream_has_the_time_of_a_whole_answer() -> None:
    with OpenAIDouble() as east:
        timeouts = "defaults: {timeouts: {first_token: 500ms, whole: 10s}}"
        with sluice(f"upstreams: {{east: {{provider: openai, base_url: {east.url}}}}}\n{timeouts}") as proxy:
            whole = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}'
            east.script(Events(whole[:9], Wait(0.8), whole[9:], kind="application/json"))
            answer = ask(proxy, "east/gpt-4o")
    assert (code(answer), '"content":"Hello"' in answer.text) == ("", True)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [({"prompt_tokens": 1, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 100_000}}, 0.00001),
     ({"completion_tokens": 5}, 0.0), ({"prompt_tokens": 1000, "total_tokens": 1000}, 0.01)],
)  # fmt: skip
def test_cost_only_grows_and_is_known_or_not_counted(place: Place, usage: dict[str, Any], cost: float) -> None:
    proxy, east, _ = place
    proxy.calm()
    before = proxy.metric("sluice_cost_usd_total")
    whole = {"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}], "usage": usage}
    east.script(lambda double, request: json_answer(whole))
    asked = ask(proxy, "east/priced", stream=False).headers["x-request-id"]
    wait_for(lambda: asked in {call["id"] for call in proxy.app.history.calls()})  # which is told last
    assert proxy.metric("sluice_cost_usd_total") - before == pytest.approx(cost)


def test_a_page_of_an_allowed_origin_may_call_v1_and_nothing_else(place: Place) -> None:
    proxy, _, _ = place
    asks = {"origin": "http://page.example", "access-control-request-method": "POST"}
    with proxy.client() as client:
        preflight = client.options("/v1/chat/completions", headers=asks)
        others = [client.get(path, headers=asks) for path in ("/metrics", "/admin/calls", "/health")]
    assert preflight.headers.get_list("access-control-allow-origin") == ["http://page.example"]
    assert ["access-control-allow-origin" in answer.headers for answer in others] == [False, False, True]


def test_numbers_that_are_only_nearly_equal_are_two_questions(place: Place) -> None:
    proxy, east, _ = place
    body = b'{"model":"kept/m","messages":[{"role":"user","content":"Hi."}],"seed":%d}'
    before = len(east.calls)
    with proxy.client() as client:
        for seed in (18446744073709551616, 18446744073709551617, 18446744073709551616):
            client.post("/v1/chat/completions", content=body % seed, headers={"content-type": "application/json"})
    assert len(east.calls) == before + 2

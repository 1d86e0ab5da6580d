"""The Ollama double: its native API, and what its /v1 loses."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.doubles.faults import ErrorEvent, Status
from tests.doubles.ollama import BUSY, OllamaDouble
from tests.doubles.words import Said, ToolCall, derived

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def double() -> Iterator[OllamaDouble]:
    with OllamaDouble() as started:
        yield started


def post(double: OllamaDouble, path: str, **body: Any) -> httpx.Response:
    return httpx.post(double.address + path, json=body, trust_env=False)


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


def test_chat_streams_lines_unless_told_not_to(double: OllamaDouble) -> None:
    response = post(double, "/api/chat", model="llama3.2", messages=HI)
    assert response.headers["content-type"] == "application/x-ndjson"
    told = lines(response)
    assert "".join(line["message"]["content"] for line in told) == derived("hi")
    assert [line["done"] for line in told] == [False] * 60 + [True]
    assert (told[-1]["done_reason"], told[-1]["eval_count"]) == ("stop", 60)
    whole = post(double, "/api/chat", model="llama3.2", messages=HI, stream=False)
    assert whole.headers["content-type"] == "application/json; charset=utf-8"
    assert whole.json()["message"]["content"] == derived("hi")


def test_a_window_too_small_cuts_the_prompt_in_silence(double: OllamaDouble) -> None:
    messages = [{"role": "user", "content": "x" * 20_000}, *HI]
    silent = post(double, "/api/chat", model="llama3.2", messages=messages, stream=False).json()
    assert silent["prompt_eval_count"] < 10
    assert silent["message"]["content"] == derived("hi")
    loud = post(double, "/api/chat", model="llama3.2", messages=messages, truncate=False)
    assert (loud.status_code, "longer than the context length" in loud.json()["error"]) == (400, True)
    wide = {"num_ctx": 8192}
    whole = post(double, "/api/chat", model="llama3.2", messages=messages, stream=False, options=wide).json()
    assert whole["prompt_eval_count"] > 5000
    assert httpx.get(f"{double.address}/api/ps").json()["models"][0]["context_length"] == 8192
    assert double.loads == 2


def test_thinking_and_tool_calls(double: OllamaDouble) -> None:
    double.said = Said("So.", (ToolCall("weather", '{"city":"Zürich"}'),))
    message = post(double, "/api/chat", model="qwen3:8b", messages=HI, stream=False).json()["message"]
    assert message["thinking"] == "Okay, let me think."
    assert message["tool_calls"][0]["function"] == {"index": 0, "name": "weather", "arguments": {"city": "Zürich"}}
    quiet = post(double, "/api/chat", model="qwen3:8b", messages=HI, stream=False, think=False).json()
    assert "thinking" not in quiet["message"]
    assert quiet["done_reason"] == "stop"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"model": "nope", "messages": HI}, 404, "model 'nope' not found"),
        ({"messages": HI}, 400, "model is required"),
        ({"model": "llama3.2", "messages": HI, "think": True}, 400, '"llama3.2" does not support thinking'),
        ({"model": "gemma3:4b", "messages": HI, "tools": [{}]}, 400, "gemma3:4b does not support tools"),
        ({"model": "nomic-embed-text", "messages": HI}, 400, "does not support chat"),
        ({"model": "llama3.2", "messages": [{"role": "user", "content": []}]}, 400, "cannot unmarshal array"),
        ({"model": "llama3.2", "messages": HI, "options": {"num_ctx": "8k"}}, 500, "must be of type integer"),
    ],
)
def test_the_double_refuses_what_ollama_refuses(
    double: OllamaDouble, body: dict[str, Any], status: int, text: str
) -> None:
    response = post(double, "/api/chat", **body)
    assert response.status_code == status
    assert text in response.json()["error"]


def test_a_foreign_host_gets_403_and_nothing_else(double: OllamaDouble) -> None:
    response = httpx.get(f"{double.address}/api/tags", headers={"host": "openrouter.ai"})
    assert (response.status_code, response.content) == (403, b"")
    assert httpx.get(f"{double.address}/api/tags", headers={"host": "localhost:11434"}).status_code == 200


def test_the_double_lists_and_shows_models(double: OllamaDouble) -> None:
    names = [model["name"] for model in httpx.get(f"{double.address}/api/tags").json()["models"]]
    assert names == list(double.models)
    info = post(double, "/api/show", model="qwen3:8b").json()
    assert info["model_info"][info["model_info"]["general.architecture"] + ".context_length"] == 40_960
    assert "num_ctx" in post(double, "/api/show", model="gemma3:4b").json()["parameters"]
    assert httpx.get(double.address).text == "Ollama is running"
    assert len(post(double, "/api/embed", model="nomic-embed-text", input=["a", "b"]).json()["embeddings"]) == 2


def test_generate_and_warm_up(double: OllamaDouble) -> None:
    told = lines(post(double, "/api/generate", model="llama3.2", prompt="hi"))
    assert "".join(line["response"] for line in told) == derived("hi")
    assert post(double, "/api/chat", model="llama3.2", messages=[]).json()["done_reason"] == "load"
    assert post(double, "/api/chat", model="llama3.2", messages=[], keep_alive=0).json()["done_reason"] == "unload"
    assert double.loaded == {}


def test_an_error_in_mid_stream_is_a_line_there_and_lost_on_v1(double: OllamaDouble) -> None:
    double.script(ErrorEvent(2), ErrorEvent(2), Status(503, BUSY))
    last = lines(post(double, "/api/chat", model="llama3.2", messages=HI))[-1]
    assert last["error"].startswith("an error was encountered")
    events = post(double, "/v1/chat/completions", model="llama3.2", messages=HI, stream=True).text.split("\n\n")
    assert '"model":""' in events[-2]
    assert "error" not in "".join(events)
    assert post(double, "/api/chat", model="llama3.2", messages=HI).json() == {"error": BUSY}


def test_v1_drops_what_it_does_not_read(double: OllamaDouble) -> None:
    body = {"model": "llama3.2", "messages": HI, "max_completion_tokens": 2, "tool_choice": "required"}
    whole = post(double, "/v1/chat/completions", **body).json()
    assert whole["choices"][0]["message"]["content"] == derived("hi")
    assert double.ignored == {"max_completion_tokens", "tool_choice"}
    short = post(double, "/v1/chat/completions", model="llama3.2", messages=HI, max_tokens=2).json()
    assert short["choices"][0]["finish_reason"] == "length"
    url = {"type": "image_url", "image_url": {"url": "https://example.com/owl.png"}}
    refused = post(double, "/v1/chat/completions", model="gemma3:4b", messages=[{"role": "user", "content": [url]}])
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    unknown = post(double, "/v1/chat/completions", model="nope", messages=HI)
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")


def test_v1_lists_null_when_nothing_is_pulled() -> None:
    with OllamaDouble(models=()) as double:
        assert httpx.get(f"{double.address}/v1/models").json() == {"object": "list", "data": None}

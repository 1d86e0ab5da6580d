"""The Anthropic double: messages whole and as events, and what it refuses."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.doubles.anthropic import AnthropicDouble
from tests.doubles.faults import ContextLength, ErrorEvent, NoDone, Status
from tests.doubles.words import Said, ToolCall, derived

MODEL = "claude-sonnet-4-5-20250929"
BODY: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]}
TOOLS = [{"name": "f", "input_schema": {"type": "object"}}]
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_2", "content": "4"}]}


def turn(id: str) -> list[dict[str, Any]]:
    """A call of this id, and its result."""
    return [
        {"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "4"}]},
    ]


TURN = turn("toolu_1")


@pytest.fixture
def double() -> Iterator[AnthropicDouble]:
    with AnthropicDouble() as started:
        yield started


def ask(double: AnthropicDouble, path: str = "/messages", version: str = "2023-06-01", **more: Any) -> httpx.Response:
    headers = {"x-api-key": double.key, "anthropic-version": version}
    return httpx.post(double.url + path, json={**BODY, **more}, headers=headers, trust_env=False)


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The events' data, each under its own type."""
    found = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_a_stream_says_what_the_whole_answer_says(double: AnthropicDouble) -> None:
    double.said = Said("Ja, gern.", (ToolCall("weather", '{"city": "Zürich"}'),), reasoning="Hm, well.")
    thinking = {"type": "enabled", "budget_tokens": 1024}
    whole = ask(double, thinking=thinking, max_tokens=2000).json()
    told = events(ask(double, thinking=thinking, max_tokens=2000, stream=True))
    assert [block["type"] for block in whole["content"]] == ["thinking", "text", "tool_use"]
    deltas = [event["delta"] for event in told if event["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == "Ja, gern."
    assert json.loads("".join(delta.get("partial_json", "") for delta in deltas)) == whole["content"][2]["input"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == "Hm, well."
    assert [told[0]["type"], told[2]["type"], told[-1]["type"]] == ["message_start", "ping", "message_stop"]
    assert told[-2]["delta"]["stop_reason"] == whole["stop_reason"] == "tool_use"
    assert told[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


def test_limits_prefill_and_cached_tokens(double: AnthropicDouble) -> None:
    double.cached = 2
    whole = ask(double, max_tokens=5).json()
    assert (whole["stop_reason"], whole["usage"]["output_tokens"]) == ("max_tokens", 5)
    counted = ask(double, "/messages/count_tokens").json()["input_tokens"]
    assert whole["usage"]["input_tokens"] + whole["usage"]["cache_read_input_tokens"] == counted
    begun = {"role": "assistant", "content": derived("hi")[:20].rstrip()}
    rest = ask(double, messages=[*BODY["messages"], begun]).json()["content"][0]["text"]
    assert begun["content"] + rest == derived("hi")
    forced = ask(double, tools=[{"name": "f", "input_schema": {"type": "object"}}], tool_choice={"type": "any"}).json()
    assert [block["type"] for block in forced["content"]] == ["tool_use"]


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"max_tokens": None}, 400, "max_tokens: Input should be a valid integer"),
        ({"n": 2}, 400, "n: Extra inputs are not permitted"),
        ({"temperature": 1.5}, 400, "temperature: range: 0..1"),
        ({"messages": []}, 400, "at least one message"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, 'Unexpected role "system"'),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, 'first message must use the "user" role'),
        ({"messages": [{"role": "user", "content": ""}]}, 400, "must be non-empty"),
        ({"messages": [BODY["messages"][0], {"role": "assistant", "content": "x "}]}, 400, "trailing whitespace"),
        ({"messages": [BODY["messages"][0], USE, BODY["messages"][0]]}, 400, "without `tool_result` blocks"),
        ({"messages": [BODY["messages"][0], RESULT]}, 400, "unexpected `tool_use_id`"),
        ({"messages": [BODY["messages"][0], *TURN]}, 400, "must define tools"),
        ({"messages": [BODY["messages"][0], *TURN, *TURN], "tools": TOOLS}, 400, "ids must be unique"),
        ({"messages": [BODY["messages"][0], *turn("f:1")], "tools": TOOLS}, 400, "String should match pattern"),
        ({"temperature": 0.5, "top_p": 0.5}, 400, "cannot both be specified"),
        ({"tool_choice": {"type": "any"}}, 400, "only be specified while providing tools"),
        ({"model": "gpt-4o"}, 404, "model: gpt-4o"),
    ],
)
def test_the_double_refuses_what_anthropic_refuses(
    double: AnthropicDouble, change: dict[str, Any], status: int, text: str
) -> None:
    response = ask(double, **change)
    assert response.status_code == status
    assert text in response.json()["error"]["message"]
    assert response.json()["type"] == "error"


def test_consecutive_roles_are_merged_or_refused(double: AnthropicDouble) -> None:
    twice = BODY["messages"] * 2
    assert ask(double, messages=twice).status_code == 200
    double.alternating = True
    assert "roles must alternate" in ask(double, messages=twice).json()["error"]["message"]


def test_the_double_checks_versions_and_keys(double: AnthropicDouble) -> None:
    assert ask(double, temperature=0.5).status_code == 200
    assert ask(double, version="2026-10-21", temperature=0.5).status_code == 400
    bare = httpx.post(f"{double.url}/messages", json=BODY, headers={"x-api-key": double.key})
    assert "anthropic-version" in bare.json()["error"]["message"]
    foreign = httpx.post(f"{double.url}/messages", json=BODY, headers={"authorization": "Bearer sk-other"})
    assert (foreign.status_code, foreign.json()["error"]["type"]) == (401, "authentication_error")
    assert double.keys_seen == {double.key, "sk-other"}


def test_errors_before_and_in_the_stream(double: AnthropicDouble) -> None:
    double.script(ErrorEvent(4), NoDone(), Status(529, "Overloaded"), ContextLength())
    last = events(ask(double, stream=True))[-1]
    assert (last["type"], last["error"]["type"]) == ("error", "overloaded_error")
    assert events(ask(double, stream=True))[-1]["type"] == "message_delta"
    overloaded = ask(double)
    assert (overloaded.status_code, overloaded.json()["error"]["type"]) == (529, "overloaded_error")
    assert overloaded.headers["request-id"]
    assert "prompt is too long" in ask(double).json()["error"]["message"]


def test_the_double_lists_models(double: AnthropicDouble) -> None:
    headers = {"x-api-key": double.key, "anthropic-version": "2023-06-01"}
    listed = httpx.get(f"{double.url}/models", headers=headers).json()
    assert [model["id"] for model in listed["data"]] == list(double.models)
    assert listed["has_more"] is False
    assert httpx.get(f"{double.url}/models/nope", headers=headers).status_code == 404

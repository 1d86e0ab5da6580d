"""The fourth lock: whichever door a call comes in by, only the upstream that its model names is ever asked."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.doubles.anthropic import AnthropicDouble
from tests.doubles.faults import Status
from tests.doubles.ollama import OllamaDouble
from tests.doubles.openai import OpenAIDouble
from tests.doubles.openrouter import OpenRouterDouble
from tests.doubles.runpod import RunPodDouble
from tests.doubles.server import Double
from tests.running import Running, sluice


@dataclass(frozen=True, slots=True)
class Door:
    """A way in for chats: a path, the body that asks this model there, and who asks."""

    path: str
    body: Callable[[str, bool], dict[str, Any]]
    headers: Mapping[str, str] = field(default_factory=dict)


def chat_body(model: str, stream: bool) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Who is there?"}], "stream": stream}


def short_body(model: str, stream: bool) -> dict[str, Any]:
    return {"model": model, "message": "Who is there?", "stream": stream}


DOORS = {
    "openai": Door("/v1/chat/completions", chat_body),
    "chat": Door("/chat", short_body),
    "vapi": Door("/vapi/chat/completions", chat_body, {"authorization": "Bearer key-of-vapi"}),
}
UPSTREAMS = """
  openai: {{provider: openai, base_url: {openai}, api_key: key-of-openai}}
  openrouter: {{provider: openrouter, base_url: {openrouter}, api_key: key-of-openrouter}}
  ollama: {{provider: ollama, base_url: {ollama}}}
  pods: {{provider: runpod, base_url: {pods}, endpoint_id: ep-double, api_key: key-of-pods}}
  podsapi: {{provider: runpod, base_url: {podsapi}, endpoint_id: ep-double, api_key: key-of-podsapi, mode: openai}}
  anthropic: {{provider: anthropic, base_url: {anthropic}, api_key: key-of-anthropic}}
  llama: {{provider: llamacpp, base_url: {llama}}}
"""
CONFIG = """
upstreams: {upstreams}
default_upstream: openai
vapi: {{secret: key-of-vapi}}
defaults:
  retry: {{attempts: 2, backoff: 1ms, max_backoff: 2ms}}
  timeouts: {{connect: 2s, first_token: 10s, idle: 10s, whole: 10s}}
  breaker: {{failures: 10000}}
"""
MODELS = {
    "openai": "gpt-4o",
    "openrouter": "openai/gpt-4o",
    "ollama": "llama3.2",
    "pods": "meta-llama/Llama-3.1-8B-Instruct",
    "podsapi": "meta-llama/Llama-3.1-8B-Instruct",
    "anthropic": "claude-sonnet-4-5-20250929",
    "llama": "gpt-4o-mini",
}


@dataclass(frozen=True, slots=True)
class Town:
    """One proxy before a double of every provider."""

    proxy: Running
    doubles: Mapping[str, Double]

    def ask(self, door: str, upstream: str, stream: bool) -> httpx.Response:
        """A call by this door to this upstream's model; what came before is forgotten."""
        for double in self.doubles.values():
            double.requests.clear()
            double.keys_seen.clear()
        way = DOORS[door]
        return self.proxy.chat(way.body(f"{upstream}/{MODELS[upstream]}", stream), way.path, **way.headers)

    def called(self) -> set[str]:
        """Which doubles saw a call."""
        return {name for name, double in self.doubles.items() if double.calls}

    def check_keys(self) -> None:
        """No double saw a key but its own."""
        for name, double in self.doubles.items():
            assert double.keys_seen <= {f"key-of-{name}"}, name


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    doubles: dict[str, Double] = {
        "openai": OpenAIDouble(key="key-of-openai"),
        "openrouter": OpenRouterDouble(key="key-of-openrouter"),
        "ollama": OllamaDouble(),
        "pods": RunPodDouble(key="key-of-pods"),
        "podsapi": RunPodDouble(key="key-of-podsapi"),
        "anthropic": AnthropicDouble(key="key-of-anthropic"),
        "llama": OpenAIDouble(key=""),
    }
    with ExitStack() as stack:
        addresses = {name: stack.enter_context(double).url for name, double in doubles.items()}
        for name in ("pods", "podsapi"):
            addresses[name] = addresses[name].removesuffix("/ep-double")
        upstreams = UPSTREAMS.format(**addresses)
        yield Town(stack.enter_context(sluice(CONFIG.format(upstreams=upstreams))), doubles)


@pytest.fixture(autouse=True)
def everything_works(town: Town) -> Iterator[None]:
    yield
    for double in town.doubles.values():
        double.always = None


matrix = [
    pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"]),
    pytest.mark.parametrize("upstream", MODELS),
    pytest.mark.parametrize("door", DOORS),
]


def over_the_matrix(test: Any) -> Any:
    for mark in matrix:
        test = mark(test)
    return test


@over_the_matrix
def test_the_upstream_that_is_named_answers(town: Town, door: str, upstream: str, stream: bool) -> None:
    answer = town.ask(door, upstream, stream)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-sluice-upstream"] == upstream
    assert answer.headers["x-sluice-model"] == MODELS[upstream]
    assert "[DONE]" in answer.text if stream else answer.json()["choices"][0]["message"]["content"]
    assert town.called() == {upstream}
    town.check_keys()
    if keyed := town.doubles[upstream].key:
        assert town.doubles[upstream].keys_seen == {keyed}


@over_the_matrix
@pytest.mark.parametrize(
    ("status", "code"), [(500, "upstream_error"), (401, "upstream_auth_failed"), (429, "upstream_rate_limited")]
)
def test_nobody_else_is_asked_while_it_fails(
    town: Town, door: str, upstream: str, stream: bool, status: int, code: str
) -> None:
    town.doubles[upstream].always = Status(status)
    answer = town.ask(door, upstream, stream)
    assert answer.json()["error"]["code"] == code
    assert answer.headers["x-sluice-upstream"] == upstream
    assert town.called() == {upstream}
    town.check_keys()


@over_the_matrix
def test_nobody_else_is_asked_while_it_is_gone(town: Town, door: str, upstream: str, stream: bool) -> None:
    town.doubles[upstream].down()
    try:
        answer = town.ask(door, upstream, stream)
    finally:
        town.doubles[upstream].up()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unreachable")
    assert town.called() == set()
    town.check_keys()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "model",
    [
        "openai/../ollama/llama3.2",
        "openai//ollama/llama3.2",
        "openai/gpt-4o@http://127.0.0.1/",
        "openai/gpt-4o?x=1#y",
        "openai/gpt-4o\r\nhost: elsewhere",
        "openai/\u0000",
        "openai/💥",
    ],
)
def test_a_model_name_cannot_lead_elsewhere(town: Town, door: str, model: str) -> None:
    """Whatever is behind the prefix is a name for that upstream, and never part of an address."""
    for double in town.doubles.values():
        double.requests.clear()
    town.proxy.chat(DOORS[door].body(model, False), DOORS[door].path, **DOORS[door].headers)
    assert town.called() <= {"openai"}
    for received in town.doubles["openai"].calls:
        assert received.path == "/v1/chat/completions" and received.json["model"] == model.partition("/")[2]


@pytest.mark.parametrize(
    "field", ["api_base", "base_url", "api_key", "custom_llm_provider", "upstream", "provider_url"]
)
def test_a_body_cannot_name_an_address_or_key(town: Town, field: str) -> None:
    body = chat_body("openrouter/" + MODELS["openrouter"], False) | {field: town.doubles["openai"].url}
    for double in town.doubles.values():
        double.requests.clear()
    town.proxy.chat(body)
    assert town.called() == {"openrouter"}
    town.check_keys()


def test_each_upstream_lists_its_own_models_only(town: Town) -> None:
    with town.proxy.client() as client:
        for upstream in MODELS:
            listed = client.get(f"/v1/models?upstream={upstream}").json()["data"]
            assert all(entry["id"].startswith(f"{upstream}/") and entry["upstream"] == upstream for entry in listed)

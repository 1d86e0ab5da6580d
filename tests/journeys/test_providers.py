"""OpenAI's own client with every provider behind the same base URL: what it puts together is the same everywhere."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion

from tests.doubles.anthropic import AnthropicDouble
from tests.doubles.mistral import MistralDouble
from tests.doubles.ollama import OllamaDouble
from tests.doubles.openai import OpenAIDouble
from tests.doubles.openrouter import OpenRouterDouble
from tests.doubles.runpod import RunPodDouble
from tests.doubles.server import Double
from tests.doubles.words import Said, ToolCall, derived
from tests.running import sluice

CONFIG = """
upstreams:
  openai: {{provider: openai, base_url: {openai.url}, api_key: {openai.key}}}
  openrouter: {{provider: openrouter, base_url: {openrouter.url}, api_key: {openrouter.key}}}
  mistral: {{provider: mistral, base_url: {mistral.url}, api_key: {mistral.key}}}
  anthropic: {{provider: anthropic, base_url: {anthropic.url}, api_key: {anthropic.key}}}
  ollama: {{provider: ollama, base_url: {ollama.url}}}
  runpod: {{provider: runpod, base_url: {runpod.address}/v2, endpoint_id: ep-double, api_key: {runpod.key}}}
  direct: {{provider: runpod, base_url: {runpod.address}/v2, endpoint_id: ep-double, api_key: {runpod.key}, mode: openai}}
"""
MODELS = {
    "openai": "openai/gpt-4o",
    "openrouter": "openrouter/openai/gpt-4o",
    "mistral": "mistral/mistral-large-latest",
    "anthropic": "anthropic/claude-sonnet-4-5-20250929",
    "ollama": "ollama/llama3.2",
    "runpod": "runpod/meta-llama/Llama-3.1-8B-Instruct",
    "direct": "direct/meta-llama/Llama-3.1-8B-Instruct",
}
THINKING = ("anthropic", "mistral", "ollama")
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
ASK: list[Any] = [{"role": "user", "content": "hello"}]
CALLS = (ToolCall("weather", '{"city": "Rom"}'), ToolCall("weather", '{"city": "Zürich"}'))


@pytest.fixture(scope="module")
def doubles() -> Iterator[dict[str, Double]]:
    kinds = (
        OpenAIDouble(key="sk-double"),
        OpenRouterDouble(),
        MistralDouble(),
        AnthropicDouble(),
        OllamaDouble(),
        RunPodDouble(),
    )
    with ExitStack() as stack:
        yield {double.name: stack.enter_context(double) for double in kinds}


@pytest.fixture(scope="module")
def client(doubles: dict[str, Double]) -> Iterator[OpenAI]:
    with sluice(CONFIG.format(**doubles)) as proxy, openai.DefaultHttpxClient(trust_env=False) as http:
        with OpenAI(base_url=f"{proxy.url}/v1", api_key="any", http_client=http, max_retries=0) as made:
            yield made


@pytest.fixture
def says(doubles: dict[str, Double]) -> Iterator[Any]:
    """Has every double say this."""

    def say(said: Said) -> None:
        for double in doubles.values():
            double.said = said

    yield say
    for double in doubles.values():
        double.said = None


def ask(client: OpenAI, provider: str, stream: bool, **asked: Any) -> ChatCompletion:
    """The whole answer, put together by the client where it is streamed."""
    asked = {"model": MODELS[provider], "messages": ASK} | asked
    if not stream:
        return client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
        return events.get_final_completion()


every = pytest.mark.parametrize("provider", MODELS)
both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@every
@both
def test_text_with_its_counts(client: OpenAI, provider: str, stream: bool) -> None:
    answer = ask(client, provider, stream)
    choice, usage = answer.choices[0], answer.usage
    assert (choice.message.content, choice.finish_reason) == (derived("hello"), "stop")
    assert usage and (usage.completion_tokens, usage.total_tokens) == (60, usage.prompt_tokens + 60)


@every
@both
def test_calls_of_tools_and_their_results(client: OpenAI, provider: str, stream: bool, says: Any) -> None:
    """The second turn goes on with what the client was given, and without tools, as OpenAI's own example does."""
    says(Said(tools=CALLS))
    message = ask(client, provider, stream, tools=[WEATHER]).choices[0].message
    calls: list[Any] = list(message.tool_calls or [])
    assert [json.loads(call.function.arguments) for call in calls] == [json.loads(call.arguments) for call in CALLS]
    assert [call.function.name for call in calls] == ["weather", "weather"]
    says(Said("It is warm."))
    called = {
        "role": "assistant",
        "tool_calls": [call.model_dump(include={"id", "type", "function"}) for call in calls],
    }
    results = [{"role": "tool", "tool_call_id": call.id, "content": "warm"} for call in calls]
    said = ask(client, provider, stream, messages=[*ASK, called, *results]).choices[0].message.content
    assert said == "It is warm."


@every
@both
def test_an_answer_sent_back_as_it_came(client: OpenAI, provider: str, stream: bool, says: Any) -> None:
    """With every member that it has, null or not."""
    says(Said("Hi.", reasoning="Hm." if provider in THINKING else ""))
    message: Any = ask(client, provider, stream).choices[0].message
    assert message.content == "Hi."
    assert provider != "mistral" or message.reasoning_content == "Hm."
    back = message.model_dump(exclude={"parsed"}) | {"role": "assistant"}  # OpenRouter says the role with every piece
    said = ask(client, provider, stream, messages=[*ASK, back, *ASK])
    assert said.choices[0].message.content == "Hi."


@every
@both
def test_an_assistant_that_speaks_first(client: OpenAI, provider: str, stream: bool) -> None:
    greeting = [{"role": "developer", "content": "Be brief."}, {"role": "assistant", "content": "How can I help?"}]
    assert ask(client, provider, stream, messages=[*greeting, *ASK]).choices[0].message.content == derived("hello")


@every
def test_an_answer_cut_at_its_limit(client: OpenAI, provider: str) -> None:
    for limit in ("max_tokens", "max_completion_tokens"):
        choice = ask(client, provider, False, **{limit: 5}).choices[0]
        assert choice.finish_reason == "length" and len((choice.message.content or "").split(" ")) == 5


@pytest.mark.parametrize("provider", ["openai", "openrouter", "ollama"])
@both
def test_log_probabilities_come_from_every_provider_that_has_them(
    client: OpenAI, provider: str, stream: bool, says: Any
) -> None:
    says(Said("Hi there."))
    for more, top in (({}, []), ({"top_logprobs": 1}, ["Hi"])):
        logprobs = ask(client, provider, stream, logprobs=True, **more).choices[0].logprobs
        assert logprobs and logprobs.content and [each.token for each in logprobs.content] == ["Hi", " there."]
        assert (logprobs.content[0].logprob, logprobs.content[0].bytes) == (-0.25, list(b"Hi"))
        assert [each.token for each in logprobs.content[0].top_logprobs] == top


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["queue", "openai"])
def test_settings_that_leave_the_last_message_open_are_listed_as_changes(mode: str, stream: bool) -> None:
    with RunPodDouble() as runpod:
        own = f"base_url: {runpod.address}/v2, endpoint_id: ep-double, api_key: {runpod.key}"
        with sluice(f"upstreams:\n  pod: {{provider: runpod, {own}, mode: {mode}, prefill: true}}\n") as proxy:
            begun = [*ASK, {"role": "assistant", "content": "It"}]
            answer = proxy.chat(
                {"model": MODELS["runpod"].replace("runpod", "pod"), "messages": begun, "stream": stream}
            )
    assert answer.status_code == 200
    assert answer.headers["x-sluice-changes"] == "set continue_final_message, set add_generation_prompt"

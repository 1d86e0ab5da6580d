"""OpenAI's own clients, in Python and in JavaScript, with nothing exchanged but the base URL."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from openai.types.responses import Response, ResponseCompletedEvent, ResponseIncompleteEvent
from pydantic import BaseModel

from tests.doubles.faults import ContextLength, CutAfter, HoldAfter, Say, Status
from tests.doubles.oddities import StreamForWhole, WholeForStream
from tests.doubles.openai import OpenAIDouble
from tests.doubles.server import Fault
from tests.doubles.words import Said, ToolCall, derived
from tests.running import Running, sluice
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent
CONFIG = """
access: {{keys: required, client_keys: [sk-client]}}
upstreams:
  east: {{provider: openai, base_url: {east}, api_key: sk-east}}
  west: {{provider: openai, base_url: {west}, api_key: sk-west}}
default_upstream: east
defaults:
  retry: {{attempts: 2, backoff: 1ms, max_backoff: 5ms}}
  breaker: {{failures: 10000}}
routes:
  - model: breaks
    to: west/gpt-4o
"""
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
EVENTS = ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]


@pytest.fixture(scope="module")
def east() -> Iterator[OpenAIDouble]:
    with OpenAIDouble(key="sk-east") as double:
        yield double


@pytest.fixture(scope="module")
def proxy(east: OpenAIDouble) -> Iterator[Running]:
    with OpenAIDouble(key="sk-west") as west:
        west.always = CutAfter(20)
        with sluice(CONFIG.format(east=east.url, west=west.url)) as running:
            wait_for(lambda: running.app.runtime.plan.catalog.shelves["east"].state == "fetched")
            yield running


@pytest.fixture(scope="module")
def client(proxy: Running) -> Iterator[OpenAI]:
    with openai.DefaultHttpxClient(trust_env=False) as http:
        with OpenAI(base_url=f"{proxy.url}/v1", api_key="sk-client", http_client=http) as made:
            yield made


@pytest.fixture(autouse=True)
def everything_works(east: OpenAIDouble) -> Iterator[None]:
    yield
    east.always = None


def test_models_are_listed_and_looked_up(client: OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    assert {"breaks", "east/gpt-4o", "west/gpt-4o"} <= listed
    assert client.models.retrieve("east/gpt-4o").owned_by == "openai"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("east/nothing")


@pytest.mark.parametrize("model", ["gpt-4o", "east/gpt-4o"])
def test_openais_client_gets_a_whole_chat(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=HELLO)
    assert answer.choices[0].message.content == derived("hello")
    assert answer.choices[0].finish_reason == "stop" and answer.usage and answer.usage.total_tokens > 0
    assert answer._request_id


def test_a_streamed_chat_says_the_same(client: OpenAI) -> None:
    said = ""
    for chunk in client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True):
        assert chunk.usage is None and chunk.choices, "usage comes only to those who ask for it"
        said += chunk.choices[0].delta.content or ""
    assert said == derived("hello")
    *_, last = client.chat.completions.create(
        model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    assert last.usage and last.usage.completion_tokens == 60


def test_tools_whole_and_streamed(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "gpt-4o", "messages": HELLO, "tools": [WEATHER], "tool_choice": "required"}
    whole = client.chat.completions.create(**asked).choices[0].message.tool_calls
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls
    assert whole and streamed
    for calls in (whole, streamed):
        assert calls[0].type == "function" and calls[0].function.name == "weather"
        assert json.loads(calls[0].function.arguments) == {"city": "city"}
    assert whole[0].id == streamed[0].id


def test_an_answer_parsed_into_a_model(client: OpenAI, east: OpenAIDouble) -> None:
    class Answer(BaseModel):
        number: int

    east.script(Say('{"number": 42}'))
    answer = client.chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=Answer)
    assert answer.choices[0].message.parsed == Answer(number=42)
    assert east.calls[-1].json["response_format"]["type"] == "json_schema"


def test_openais_client_gets_embeddings(client: OpenAI) -> None:
    """The client asks for base64 by itself, and decodes it."""
    found = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"]).data
    assert [len(each.embedding) for each in found] == [8, 8] and found[0].embedding != found[1].embedding


def test_responses_whole_and_streamed(client: OpenAI) -> None:
    assert client.responses.create(model="gpt-4o", input="hello").output_text == derived("hello")
    events = list(client.responses.create(model="gpt-4o", input="hello", stream=True))
    assert [event.type for event in events][:4] == EVENTS and events[-1].type == "response.completed"


def test_a_response_streamed_although_it_was_asked_for_whole_and_the_reverse(
    client: OpenAI, east: OpenAIDouble
) -> None:
    for said in (Said("Hello world"), Said(tools=(ToolCall("look", '{"up": 1}'),)), Said("Hello wor", finish="length")):
        asked: dict[str, Any] = {"model": "gpt-4o", "input": "hello"}
        east.script(Say(said))
        expected = client.responses.create(**asked)
        east.script(Say(said, StreamForWhole()))
        whole = client.responses.create(**asked)
        assert without_ids(whole) == without_ids(expected)
        east.script(Say(said, WholeForStream()))
        with client.responses.stream(**asked) as stream:
            events = list(stream)
        assert isinstance(last := events[-1], ResponseCompletedEvent | ResponseIncompleteEvent)
        assert last.type == f"response.{expected.status}" and last.response.usage == expected.usage
        assert last.response.output_text == expected.output_text
        assert [event.sequence_number for event in events] == [*range(len(events))]
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == said.text


def without_ids(response: Response) -> dict[str, Any]:
    """A response without what the double derives from the request's bytes."""
    return response.to_dict() | {"id": "", "output": [item.to_dict() | {"id": ""} for item in response.output]}


def test_responses_of_the_embedded_model_streamed() -> None:
    """Its server leaves out numbers that the client puts a stream together by."""
    pytest.importorskip("xllamacpp")
    with sluice("upstreams:\n  local: {provider: llamacpp}\n") as running:
        with openai.DefaultHttpxClient(trust_env=False) as http:
            client = OpenAI(base_url=f"{running.url}/v1", api_key="any", http_client=http)
            with client.responses.stream(
                model="local/smollm2-135m-instruct", input="Hi", max_output_tokens=8
            ) as stream:
                said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
                assert said and stream.get_final_response().output_text == said


def test_openais_client_calls_the_other_endpoints(client: OpenAI) -> None:
    assert client.completions.create(model="gpt-4o", prompt="hello").choices[0].text
    assert client.moderations.create(model="omni-moderation-latest", input="hello").results
    assert client.images.generate(model="gpt-image-1", prompt="an owl").data
    assert client.audio.speech.create(model="tts-1", input="hello", voice="alloy").read()


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (ContextLength(), openai.BadRequestError, "context_length_exceeded"),
        (Status(422), openai.UnprocessableEntityError, "client_invalid_request"),
        (Status(404, "The model `x` does not exist.", "model_not_found"), openai.NotFoundError, "model_not_found"),
        (Status(429, retry_after=3600), openai.RateLimitError, "upstream_rate_limited"),
        (Status(401), openai.InternalServerError, "upstream_auth_failed"),
        (Status(500), openai.InternalServerError, "upstream_error"),
        (Status(503), openai.InternalServerError, "upstream_overloaded"),
    ],
)
def test_failures_are_the_clients_own_exceptions(
    client: OpenAI, east: OpenAIDouble, fault: Fault, kind: type[openai.APIStatusError], code: str
) -> None:
    east.always = fault
    with pytest.raises(kind) as raised:
        client.with_options(max_retries=0).chat.completions.create(model="gpt-4o", messages=HELLO)
    assert (raised.value.code, bool(raised.value.request_id)) == (code, True)


def test_a_wrong_key_is_an_authentication_error(client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as raised:
        client.with_options(api_key="wrong").chat.completions.create(model="gpt-4o", messages=HELLO)
    assert raised.value.code == "invalid_api_key"


def test_a_break_in_mid_stream_is_raised(client: OpenAI) -> None:
    said = ""
    with pytest.raises(openai.APIError) as raised:
        for chunk in client.chat.completions.create(model="breaks", messages=HELLO, stream=True):
            said += chunk.choices[0].delta.content or ""
    assert raised.value.code == "upstream_truncated" and said


def test_clients_do_not_multiply_our_retries(client: OpenAI, proxy: Running, east: OpenAIDouble) -> None:
    """The client would try three times by itself; what was tried twice here it is told to leave."""
    east.always = Status(500)
    before = len(east.calls), proxy.metric("sluice_requests_total")
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    wait_for(lambda: proxy.metric("sluice_requests_total") > before[1])
    assert proxy.metric("sluice_requests_total") == before[1] + 1
    assert len(east.calls) - before[0] <= 2


def test_a_client_that_stops_reading_ends_the_upstream_call(proxy: Running, east: OpenAIDouble) -> None:
    async def leave() -> None:
        async with openai.DefaultAsyncHttpxClient(trust_env=False) as http:
            async with AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="sk-client", http_client=http) as client:
                stream = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
                await anext(aiter(stream))
                await stream.close()

    gone = len(east.disconnects)
    east.script(HoldAfter(3))
    asyncio.run(leave())
    wait_for(lambda: len(east.disconnects) == gone + 1)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_openais_javascript_client_works(proxy: Running) -> None:
    subprocess.run([ROOT / "scripts" / "install-npm"], check=True, timeout=120)
    environ = {
        "PATH": os.environ["PATH"],
        "NO_PROXY": "*",
        "OPENAI_BASE_URL": f"{proxy.url}/v1",
        "OPENAI_API_KEY": "sk-client",
    }
    run = subprocess.run(
        ["node", "journey.mjs"], cwd=ROOT / "tests" / "npm", env=environ, capture_output=True, timeout=60
    )
    assert run.returncode == 0, run.stderr.decode()
    seen = json.loads(run.stdout)
    assert {"breaks", "east/gpt-4o"} <= set(seen["models"]) and seen["model"] == "east/gpt-4o"
    assert seen["whole"] == seen["streamed"] == seen["response"] == derived("hello")
    assert seen["requestId"] and seen["error"].pop("requestId")
    assert seen["tool"]["name"] == "weather" and json.loads(seen["tool"]["arguments"]) == {"city": "city"}
    assert seen["embeddings"] == [8, 8]
    assert seen["responseEvents"][:4] == EVENTS and seen["responseEvents"][-1] == "response.completed"
    assert seen["error"] == {"notFound": True, "code": "model_not_found"}
    assert seen["broken"] == {"api": True, "code": "upstream_truncated"} and seen["beforeTheBreak"] == 1

"""The OpenAI double, asked by OpenAI's own SDK."""

import base64
import struct
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from tests.doubles.openai import OpenAIDouble
from tests.doubles.words import Said, ToolCall, derived

QUESTION = ChatCompletionUserMessageParam(role="user", content="hi")


@pytest.fixture
def double() -> Iterator[OpenAIDouble]:
    with OpenAIDouble() as started:
        yield started


@pytest.fixture
def client(double: OpenAIDouble) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=double.url, api_key=double.key, max_retries=0) as opened:
        yield opened


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="gpt-4o", messages=[QUESTION])
    options = {"include_usage": True, "include_obfuscation": False}
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=[QUESTION], stream=True, extra_body={"stream_options": options}
    )
    chunks = list(raw.parse())
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == whole.choices[0].message.content == derived("hi")
    assert [chunk.usage is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert chunks[-1].usage == whole.usage
    assert chunks[-1].choices == []
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["x-ratelimit-remaining-requests"] == "9999"


def test_usage_is_null_on_the_other_chunks_and_absent_when_not_asked_for(double: OpenAIDouble) -> None:
    body = {"model": "gpt-4o", "messages": [QUESTION], "stream": True}
    headers = {"authorization": f"Bearer {double.key}"}
    unasked = httpx.post(f"{double.url}/chat/completions", json=body, headers=headers).text
    asked = httpx.post(
        f"{double.url}/chat/completions", json=body | {"stream_options": {"include_usage": True}}, headers=headers
    ).text
    assert '"usage"' not in unasked
    assert asked.count('"usage":null') == asked.count("data: {") - 1
    assert unasked.endswith("data: [DONE]\n\n")


def test_tool_calls_come_whole_and_in_pieces(double: OpenAIDouble, client: openai.OpenAI) -> None:
    double.said = Said(tools=(ToolCall("weather", '{"city":"Zürich"}'), ToolCall("clock")))
    whole = client.chat.completions.create(model="gpt-4o", messages=[QUESTION]).choices[0]
    assert whole.message.content is None
    assert whole.finish_reason == "tool_calls"
    with client.chat.completions.stream(model="gpt-4o", messages=[QUESTION]) as stream:
        merged = stream.get_final_completion().choices[0].message
    assert merged.tool_calls and whole.message.tool_calls
    pairs = zip(merged.tool_calls, whole.message.tool_calls, strict=True)
    for one, other in pairs:
        assert one.type == other.type == "function"
        assert (one.id, one.function.name, one.function.arguments) == (
            other.id,
            other.function.name,
            other.function.arguments,
        )


def test_streamed_choices_interleave(client: openai.OpenAI) -> None:
    chunks = client.chat.completions.create(model="gpt-4o", messages=[QUESTION], n=2, stream=True, max_tokens=2)
    order = [(choice.index, choice.finish_reason) for chunk in chunks for choice in chunk.choices]
    assert order == [(0, None), (1, None)] * 3 + [(0, "length"), (1, "length")]


def test_embeddings_are_the_same_as_floats_and_base64(double: OpenAIDouble, client: openai.OpenAI) -> None:
    model = "text-embedding-3-small"
    floats = client.embeddings.create(model=model, input=["a", "b"], encoding_format="float").data[1].embedding
    assert client.embeddings.create(model=model, input=["a", "b"]).data[1].embedding == pytest.approx(floats)
    assert double.requests[-1].json["encoding_format"] == "base64"
    raw = httpx.post(
        f"{double.url}/embeddings",
        json={"model": model, "input": "b", "encoding_format": "base64"},
        headers={"authorization": f"Bearer {double.key}"},
    ).json()
    assert struct.unpack("<8f", base64.b64decode(raw["data"][0]["embedding"])) == tuple(floats)


def test_responses_end_with_one_terminal_event_and_no_done(double: OpenAIDouble, client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="gpt-4o", input="hi", stream=True))
    assert [event.type for event in events][:3] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
    ]
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == derived("hi")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert last.response == client.responses.create(model="gpt-4o", input="hi", stream=False).model_copy(
        update={"id": last.response.id, "output": last.response.output}
    )


def test_the_double_has_the_other_endpoints(client: openai.OpenAI) -> None:
    completion = client.completions.create(model="gpt-4o", prompt="once", max_tokens=3)
    assert completion.choices[0].finish_reason == "length"
    pieces = client.completions.create(model="gpt-4o", prompt="once", max_tokens=3, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == completion.choices[0].text
    assert client.moderations.create(input="an attack").results[0].flagged
    drawn = client.images.generate(model="gpt-image-1", prompt="an owl", n=2).data
    assert drawn and len(drawn) == 2
    assert len(client.audio.speech.create(model="tts-1", voice="alloy", input="hi").content) == 2048
    assert "gpt-4o" in [model.id for model in client.models.list()]
    assert client.models.retrieve("gpt-4o").owned_by == "openai"


def test_a_wrong_key_is_echoed_in_part(double: OpenAIDouble) -> None:
    foreign = openai.OpenAI(base_url=double.url, api_key="sk-or-v1-of-another", max_retries=0)
    with foreign, pytest.raises(openai.AuthenticationError, match=r"sk-or-v1\*+ther") as caught:
        foreign.chat.completions.create(model="gpt-4o", messages=[QUESTION])
    assert caught.value.code == "invalid_api_key"
    assert double.keys_seen == {"sk-or-v1-of-another"}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"model": "llama3.2"}, 404, "model_not_found"),
        ({"top_k": 4}, 400, "unknown_parameter"),
        ({"messages": []}, 400, "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": "x" * 600_000}]}, 400, "context_length_exceeded"),
        ({"stream_options": {"include_usage": True}}, 400, "invalid_value"),
    ],
)
def test_the_double_refuses_what_openai_refuses(
    double: OpenAIDouble, change: dict[str, object], status: int, code: str
) -> None:
    body = {"model": "gpt-4o", "messages": [QUESTION]} | change
    headers = {"authorization": f"Bearer {double.key}"}
    refused = httpx.post(f"{double.url}/chat/completions", json=body, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)

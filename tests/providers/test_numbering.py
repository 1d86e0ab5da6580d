from typing import Any

import orjson
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from proxy.providers.registry import provider
from tests.providers.orders import chunks
from tests.providers.targets import order


def event(*calls: Any, choice: int = 0, finish: str | None = None) -> bytes:
    delta: dict[str, Any] = {"role": "assistant"} | ({"tool_calls": calls} if calls else {})
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gemini-3.8-flash"}
    choices = [{"delta": delta, "index": choice, "finish_reason": finish}]
    return b"data: " + orjson.dumps(chunk | {"choices": choices}) + b"\n\n"


def call(id: str, name: str, arguments: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


SIGNED = {"extra_content": {"google": {"thought_signature": "Eo8="}}}
STREAM = (
    event(call("call_1", "look", '{"city":', **SIGNED))
    + event({"function": {"arguments": '"Rome"}'}})
    + event(call("call_2", "look", '{"city":"Oslo"}'))
    + event(call("call_1", "", ""), {"function": {"name": "here", "arguments": "{}"}}, call("", "there", "{}"))
    + event(finish="stop")
    + b"data: [DONE]\n\n"
)


def read(stream: bytes, size: int) -> bytes:
    at = provider("gemini", {})
    reader = at.reader(order(at, stream=True))
    return b"".join(reader.feed(stream[i : i + size]) for i in range(0, len(stream), size)) + reader.finish()


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_geminis_tool_calls_are_put_together_by_openais_client(size: int) -> None:
    state: ChatCompletionStreamState[Any] = ChatCompletionStreamState()
    found = chunks(read(STREAM, size))
    for chunk in found:
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    choice = state.get_final_completion().choices[0]
    calls = choice.message.tool_calls or []
    assert choice.finish_reason == "tool_calls"
    assert [(each.function.name, each.function.arguments) for each in calls] == [
        ("look", '{"city":"Rome"}'),
        ("look", '{"city":"Oslo"}'),
        ("here", "{}"),
        ("there", "{}"),
    ]
    assert found[0]["choices"][0]["delta"]["tool_calls"][0]["extra_content"] == SIGNED["extra_content"]


def test_choices_are_numbered_apart() -> None:
    out = chunks(read(event(call("a", "f", "{}"), choice=0) + event(call("b", "f", "{}"), choice=1), 9))
    assert [chunk["choices"][0]["delta"]["tool_calls"][0]["index"] for chunk in out] == [0, 0]


def test_only_a_choice_that_calls_finishes_so() -> None:
    stream = event(call("a", "f", "{}", index=0), choice=1) + event(finish="stop") + event(choice=1, finish="stop")
    assert read(stream + event(choice=1, finish="length"), 9) == (
        event(call("a", "f", "{}", index=0), choice=1)
        + event(finish="stop")
        + event(choice=1, finish="tool_calls")
        + event(choice=1, finish="length")
    )


@pytest.mark.parametrize(
    "stream",
    [
        event(finish="stop"),
        event(call("a", "f", "{}", index=0), call("b", "f", "{}", index=1)),
        b'data: {"choices": [{"delta": {"content": "\\"tool_calls\\"", "tool_calls": null}}]}\n\n',
        b'data: {"tool_calls"\n\ndata: ["tool_calls"]\n\n: "tool_calls"\n\ndata: [DONE]\n\n',
        b'data: {"choices":[7,{"delta":{"tool_calls":[8]}},{"delta":{"tool_calls":{"a":1}}}]}\n\n',
    ],
)
def test_what_lacks_nothing_passes_byte_for_byte(stream: bytes) -> None:
    assert read(stream, 11) == stream

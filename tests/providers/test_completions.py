import orjson
from hypothesis import given
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.providers.completions import (
    Chunks,
    TextChunks,
    chat_completion,
    text_completion,
    tool_call,
    usage,
)
from proxy.usage import is_count
from tests.providers.orders import chunks, words


@given(words, words)
def test_any_text_of_any_model_comes_through(model: str, said: str) -> None:
    writer = Chunks(model)
    (found,) = chunks(writer.content(said))
    assert (found["model"], found["choices"][0]["delta"]["content"]) == (model, said)


def test_openai_s_own_types_take_every_event() -> None:
    writer = Chunks("m", thoughts="reasoning_content")
    calls = {"tool_calls": [tool_call("c", "f", "{}", 0)]}
    stream = writer.role() + writer.reasoning("t") + writer.content("a") + writer.delta(calls) + writer.finish("stop")
    for chunk in chunks(stream + writer.usage(usage(1, 2, cached=0, reasoning=0))):
        assert ChatCompletionChunk.model_validate(chunk, strict=True).id.startswith("chatcmpl-")


def test_legacy_completions_are_streamed_without_roles() -> None:
    writer = TextChunks("m")
    stream = writer.role() + writer.reasoning("t") + writer.content("a") + writer.finish("length")
    going, last = chunks(stream)
    assert going["choices"] == [{"index": 0, "logprobs": None, "text": "a", "finish_reason": None}]
    assert Completion.model_validate(last, strict=True).choices[0].finish_reason == "length"
    assert orjson.loads(writer.usage(usage(1, 2))[6:])["usage"]["total_tokens"] == 3


def test_openai_s_own_types_take_whole_answers() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [tool_call("c", "f", "{}")]}
    chat = chat_completion("m", {"message": message, "finish_reason": "tool_calls"}, usage(1, 2, cached=1))
    assert ChatCompletion.model_validate_json(chat, strict=True).choices[0].finish_reason == "tool_calls"
    text = text_completion("m", {"text": "a", "finish_reason": "stop"}, None)
    assert Completion.model_validate_json(text, strict=True).usage is None


def test_what_can_be_a_count_can_be_written() -> None:
    assert not any(map(is_count, (-1, 2**64, 1.5, True, "1", None))) and is_count(0) and is_count(2**53)
    assert orjson.loads(orjson.dumps(usage(2**53, 2**53)))["total_tokens"] == 2**54

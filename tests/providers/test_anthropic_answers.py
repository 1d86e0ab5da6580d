from typing import Any

import orjson
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from proxy.errors import SluiceError
from proxy.providers.anthropic import Anthropic
from proxy.providers.anthropic_answers import AnthropicReader
from proxy.providers.anthropic_messages import converse
from proxy.providers.reading import NO_JSON
from proxy.sse import DONE
from tests.costs import cost
from tests.providers.orders import Json, chunks, message_of, order, read, steady

CLAUDE = Anthropic()


def event(kind: str, **fields: object) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind} | fields) + b"\n\n"


def block(index: int, start: Json, *deltas: Json) -> bytes:
    pieces = [event("content_block_delta", index=index, delta=delta) for delta in deltas]
    return b"".join([event("content_block_start", index=index, content_block=start), *pieces]) + event(
        "content_block_stop", index=index
    )


USAGE = {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2, "output_tokens": 1}
START = event("message_start", message={"id": "msg_1", "model": "claude-x", "content": [], "usage": USAGE})
PING = event("ping")
THOUGHT = block(
    0,
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "thinking_delta", "thinking": "Hm"},
    {"type": "thinking_delta", "thinking": "m"},
    {"type": "signature_delta", "signature": "sig"},
)
TEXT = block(
    1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "It is "}, {"type": "text_delta", "text": "« é »"}
)
CALL = block(
    2,
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
    {"type": "input_json_delta", "partial_json": ""},
    {"type": "input_json_delta", "partial_json": '{"city":'},
    {"type": "input_json_delta", "partial_json": '"Rome"}'},
)
BARE = block(
    3,
    {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    {"type": "input_json_delta", "partial_json": ""},
)


def end(reason: str | None = "end_turn", **usage: int | None) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return event("message_delta", delta=delta, usage={"output_tokens": 42} | usage) + event("message_stop")


STREAM = START + PING + THOUGHT + TEXT + CALL + PING + BARE + end("tool_use", cache_read_input_tokens=None)


def reader() -> AnthropicReader:
    return AnthropicReader("m")


def test_a_stream_becomes_openai_s_events() -> None:
    stream = read(reader(), [STREAM])
    assert stream.endswith(DONE)
    found = chunks(stream)
    assert {(chunk["id"], chunk["model"]) for chunk in found} == {("msg_1", "claude-x")}
    deltas = [choice["delta"] for chunk in found for choice in chunk["choices"]]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm"},
        {"reasoning_content": "m"},
        {"thinking_blocks": [{"type": "thinking", "thinking": "Hmm", "signature": "sig", "index": 0}]},
        {"content": "It is "},
        {"content": "« é »"},
        {
            "tool_calls": [
                {"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]},
        {
            "tool_calls": [
                {"index": 1, "id": "toolu_2", "type": "function", "function": {"name": "now", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert message_of(stream)["finish"] == "tool_calls"
    assert found[-1]["choices"] == [] and found[-1]["usage"] == {
        "prompt_tokens": 17,
        "completion_tokens": 42,
        "total_tokens": 59,
        "prompt_tokens_details": {"cached_tokens": 5},
    }


def test_events_do_not_depend_on_how_the_network_cuts_them() -> None:
    whole = steady(read(reader(), [STREAM]))
    for size in (1, 2, 3, 7, 64):
        assert steady(read(reader(), [STREAM[at : at + size] for at in range(0, len(STREAM), size)])) == whole
    for at in range(len(STREAM)):
        assert steady(read(reader(), [STREAM[:at], STREAM[at:]])) == whole


def test_other_line_ends_comments_and_a_missing_last_line_are_no_matter() -> None:
    odd = b": hello\n\n" + STREAM.replace(b"\n", b"\r\n").replace(b"data: ", b"data:")
    assert steady(read(reader(), [odd[:-2]])) == steady(read(reader(), [STREAM]))


@pytest.mark.parametrize(
    "stop, finish",
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("invented_tomorrow", "stop"),
    ],
)
def test_stop_reasons_become_finish_reasons(stop: str, finish: str) -> None:
    assert message_of(read(reader(), [START + TEXT + end(stop)]))["finish"] == finish
    assert whole({"content": [], "stop_reason": stop})["choices"][0]["finish_reason"] == finish


def test_an_end_without_a_stop_reason_is_none() -> None:
    for stream in (
        START + TEXT,
        START + TEXT + event("message_stop"),
        START + TEXT + end(None),
        START + end(None)[:40],
    ):
        translated = read(reader(), [stream])
        assert b"[DONE]" not in translated and message_of(translated)["finish"] is None


def test_a_stop_reason_without_message_stop_is_an_end() -> None:
    cut = (START + TEXT + end()).removesuffix(event("message_stop"))
    stream = read(reader(), [cut])
    assert stream.endswith(DONE) and message_of(stream)["usage"]["completion_tokens"] == 42
    assert read(reader(), [cut + event("message_stop") * 2]).count(b"[DONE]") == 1


@pytest.mark.parametrize(
    "kind, code, again",
    [
        ("overloaded_error", "upstream_overloaded", "same"),
        ("rate_limit_error", "upstream_rate_limited", "same"),
        ("api_error", "upstream_error", "same"),
        ("timeout_error", "upstream_timeout", "same"),
        ("authentication_error", "upstream_auth_failed", "next"),
        ("permission_error", "upstream_auth_failed", "next"),
        ("invalid_request_error", "client_invalid_request", "never"),
    ],
)
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_failure_in_the_stream_comes_after_what_went_before(kind: str, code: str, again: str, size: int) -> None:
    data = START + TEXT + event("error", error={"type": kind, "message": "Oh no sk-ant-123456789"}) + TEXT
    it, got = reader(), []
    with pytest.raises(SluiceError) as caught:
        for at in range(0, len(data), size):
            got.append(it.feed(data[at : at + size]))
        it.finish()
    assert message_of(b"".join(got))["content"] == "It is « é »"
    assert (caught.value.code, caught.value.again) == (code, again)
    assert "sk-ant" not in caught.value.message


def test_what_is_no_json_is_dropped_and_what_is_unknown_says_nothing() -> None:
    odd = event("invented_tomorrow") + block(
        7, {"type": "server_tool_use", "input": {}}, {"type": "input_json_delta", "partial_json": "x"}
    )
    odd += block(8, {"type": "text", "text": "a"}, {"type": "citations_delta", "citation": {}})
    odd += b"data: {broken\n\ndata: [1]\n\n" + event("content_block_delta", index=[], delta=5) + event("message_start")
    stream = read(reader(), [START + odd + end()])
    assert message_of(stream)["content"] == "a" and stream.count(NO_JSON) == 1


def test_a_redacted_thought_and_a_call_that_came_with_its_input() -> None:
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    given = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    stream = read(reader(), [START + block(0, hidden) + block(1, given) + end("tool_use")])
    thought = {"thinking_blocks": [hidden | {"index": 0}]}
    assert thought in [choice["delta"] for chunk in chunks(stream) for choice in chunk["choices"]]
    assert message_of(stream)["calls"] == [["t", "f", '{"a":1}']]


def test_several_thoughts_are_put_together_by_openais_client_and_go_back_as_they_came() -> None:
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    stream = read(reader(), [START + THOUGHT + block(1, hidden) + TEXT + end()])
    state: ChatCompletionStreamState[Any] = ChatCompletionStreamState()
    for chunk in chunks(stream):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    message = state.get_final_completion().choices[0].message.model_dump(include={"role", "content", "thinking_blocks"})
    back = converse({"messages": [{"role": "user", "content": "Hi"}, message]}).turns[1]["content"]
    assert back[:2] == [{"type": "thinking", "thinking": "Hmm", "signature": "sig"}, hidden]


def test_an_imitation_without_message_start() -> None:
    found = message_of(read(reader(), [TEXT + event("message_delta", delta={"stop_reason": "end_turn"})]))
    assert (found["content"], found["finish"], found["usage"]) == ("It is « é »", "stop", None)


def whole(answer: object) -> Json:
    found: Json = orjson.loads(CLAUDE.whole(order(CLAUDE, {}), orjson.dumps(answer)))
    return found


WHOLE = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-x",
    "content": [
        {"type": "thinking", "thinking": "Hm", "signature": "sig"},
        {"type": "text", "text": "It is "},
        {"type": "text", "text": "warm"},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
    ],
    "stop_reason": "tool_use",
    "usage": USAGE | {"output_tokens_details": {"thinking_tokens": 1}},
}


def test_a_whole_message_becomes_a_chat_completion() -> None:
    answer = whole(WHOLE)
    assert (answer["id"], answer["object"], answer["model"]) == ("msg_1", "chat.completion", "claude-x")
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": "It is warm",
        "reasoning_content": "Hm",
        "thinking_blocks": [{"type": "thinking", "thinking": "Hm", "signature": "sig"}],
        "tool_calls": [
            {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
        ],
    }
    assert answer["usage"] == {
        "prompt_tokens": 17,
        "completion_tokens": 1,
        "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


def test_an_answer_sent_back_says_what_anthropic_said() -> None:
    message = whole(WHOLE)["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": "toolu_1", "content": "x"}
    turn = converse({"messages": [{"role": "user", "content": "Hi"}, message, result]}).turns[1]
    thought, _, _, call = WHOLE["content"]
    assert turn == {"role": "assistant", "content": [thought, {"type": "text", "text": "It is warm"}, call]}


def test_unknown_counts_are_left_out() -> None:
    assert "usage" not in whole({"content": [], "stop_reason": "end_turn"})
    counts = whole({"content": [], "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 2}})[
        "usage"
    ]
    assert counts == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    odd = {"input_tokens": -1, "output_tokens": -2, "cache_read_input_tokens": -3}
    assert "usage" not in whole({"content": [], "stop_reason": "end_turn", "usage": odd})


@pytest.mark.parametrize(
    "answer, code",
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "upstream_overloaded"),
        ({"content": [{"type": "text", "text": "half"}], "stop_reason": None}, "upstream_truncated"),
        ({"completion": "x"}, "upstream_malformed"),
        ([], "upstream_malformed"),
    ],
)
def test_a_whole_answer_that_is_none(answer: object, code: str) -> None:
    with pytest.raises(SluiceError) as caught:
        whole(answer)
    assert caught.value.code == code


def test_a_thought_costs_no_more_behind_many_than_behind_few() -> None:
    def behind(size: int) -> float:
        thinking, start = reader(), {"type": "thinking", "thinking": "x" * size, "signature": ""}
        thinking.feed(START + event("content_block_start", index=0, content_block=start))
        piece = event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "x"})
        return cost(lambda: thinking.feed(piece))

    assert behind(4_000_000) < 10 * behind(0)

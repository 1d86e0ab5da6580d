import base64
import struct

import orjson
import pytest

from proxy.errors import SluiceError
from proxy.providers.completions import TextChunks
from proxy.providers.ollama import Ollama
from proxy.providers.ollama_answers import OllamaReader
from proxy.providers.reading import NO_JSON
from proxy.sse import DONE
from tests.providers.orders import Json, chunks, message_of, order, read, steady

OLLAMA = Ollama()


def line(content: str = "", **more: object) -> bytes:
    message = {"role": "assistant", "content": content} | {
        k: more.pop(k) for k in ("thinking", "tool_calls") if k in more
    }
    return orjson.dumps({"model": "llama3.2", "message": message, "done": False} | more) + b"\n"


CALL = {"function": {"index": 0, "name": "weather", "arguments": {"city": "Rome é"}}}
STREAM = b"".join(
    [
        line(thinking="Okay…"),
        line("It is "),
        line("« warm »"),
        line(tool_calls=[CALL | {"id": "call_1"}]),
        line(tool_calls=[CALL]),
        line(done=True, done_reason="stop", prompt_eval_count=26, eval_count=282),
    ]
)


def reader() -> OllamaReader:
    return OllamaReader("m")


def test_a_stream_becomes_openai_s_events() -> None:
    stream = read(reader(), [STREAM])
    found = chunks(stream)
    assert stream.endswith(DONE)
    assert [chunk["choices"][0]["delta"] for chunk in found[:4]] == [
        {"role": "assistant", "content": ""},
        {"reasoning": "Okay…"},
        {"content": "It is "},
        {"content": "« warm »"},
    ]
    assert found[4]["choices"][0]["delta"]["tool_calls"] == [
        {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city":"Rome é"}'},
        }
    ]
    second = found[5]["choices"][0]["delta"]["tool_calls"][0]
    assert second["index"] == 1 and second["id"].startswith("call_") and len(second["id"]) > 8
    assert found[6]["choices"] == [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]
    assert found[7]["choices"] == []
    assert found[7]["usage"] == {"prompt_tokens": 26, "completion_tokens": 282, "total_tokens": 308}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in found}) == 1
    assert found[0]["id"].startswith("chatcmpl-") and found[0]["model"] == "llama3.2"


def test_events_do_not_depend_on_how_the_network_cuts_them() -> None:
    plain = STREAM.replace(line(tool_calls=[CALL]), b"")  # its id is made anew each time
    whole = steady(read(reader(), [plain]))
    for size in range(1, len(plain)):
        assert steady(read(reader(), [plain[at : at + size] for at in range(0, len(plain), size)])) == whole
    for at in range(len(plain)):
        assert steady(read(reader(), [plain[:at], plain[at:]])) == whole


@pytest.mark.parametrize(
    "last, finish, usage",
    [
        ({"done_reason": "stop", "eval_count": 3}, "stop", (0, 3)),
        ({"done_reason": "length", "prompt_eval_count": 2, "eval_count": 3}, "length", (2, 3)),
        ({"done_reason": "stop", "prompt_eval_count": 2}, "stop", (2, 0)),
        ({"done_reason": "load"}, "stop", None),
        ({"done_reason": "unload"}, "stop", None),
        ({"done_reason": ""}, "stop", None),
        ({}, "stop", None),
        ({"prompt_eval_count": -7, "eval_count": 3}, "stop", None),
        ({"prompt_eval_count": 2, "eval_count": 2**64 - 1}, "stop", None),
    ],
)
def test_ends_and_counts_that_are_left_out(last: Json, finish: str, usage: tuple[int, int] | None) -> None:
    found = message_of(read(reader(), [line(done=True, **last)]))
    assert found["finish"] == finish
    counts = found["usage"]
    assert (counts and (counts["prompt_tokens"], counts["completion_tokens"])) == usage


def test_a_length_stays_one_after_a_tool_call() -> None:
    stream = read(reader(), [line(tool_calls=[CALL]), line(done=True, done_reason="length")])
    assert message_of(stream)["finish"] == "length"


@pytest.mark.parametrize("cut", range(0, len(STREAM) - 2, 7))
def test_a_stream_without_done_has_no_finish(cut: int) -> None:
    stream = read(reader(), [STREAM[:cut]])
    assert b"[DONE]" not in stream and message_of(stream)["finish"] is None


def test_a_last_line_needs_no_newline_and_blank_lines_say_nothing() -> None:
    plain = line("a") + line("b", done=True)
    odd = b"\r\n\n" + plain.replace(b"\n", b"\r\n\n").rstrip()
    assert steady(read(reader(), [odd])) == steady(read(reader(), [plain]))


FAILURE = b'{"error":"an error was encountered: Post http://127.0.0.1:3987/x"}\n'


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_a_failure_in_the_stream_comes_after_what_went_before(size: int) -> None:
    data = line("a") + line("b") + FAILURE + line("c")
    it, got = reader(), []
    with pytest.raises(SluiceError) as caught:
        for at in range(0, len(data), size):
            got.append(it.feed(data[at : at + size]))
        it.finish()
    assert message_of(b"".join(got))["content"] == "ab"
    assert (caught.value.code, caught.value.again) == ("upstream_error", "next")
    assert "an error was encountered" in caught.value.message and "127.0.0.1" not in caught.value.message


def test_a_failure_as_the_first_line_is_raised_at_once() -> None:
    with pytest.raises(SluiceError, match="upstream_error"):
        reader().feed(FAILURE)


def test_a_line_that_is_no_json_is_dropped_and_counted() -> None:
    stream = read(reader(), [line("a"), b"{rubbish\n", b"[1]\n", line("b", done=True)])
    assert message_of(stream)["content"] == "ab" and stream.count(NO_JSON) == 2


def test_html_is_no_stream() -> None:
    with pytest.raises(SluiceError, match="upstream_malformed"):
        reader().feed(b"<html>\n<body>\n")


def test_lines_after_the_end_say_nothing() -> None:
    assert read(reader(), [STREAM + STREAM]).count(b"[DONE]") == 1


def test_fields_of_odd_types_are_no_crash() -> None:
    odd = [{"message": 1}, {"message": {"content": 5, "thinking": [], "tool_calls": 3}}, {"model": 5, "logprobs": 1}]
    odd += [{"message": {"tool_calls": [1, {"function": 2}, {"function": {"name": "f", "arguments": None}}]}}]
    stream = read(reader(), [orjson.dumps(entry) + b"\n" for entry in odd])
    assert [call[1:] for call in message_of(stream)["calls"]] == [["f", "{}"]]


def test_log_probabilities_get_the_fields_that_go_leaves_out() -> None:
    entry = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "a", "logprob": -0.5}]}
    found = chunks(read(reader(), [line("a", logprobs=[entry])]))
    assert found[1]["choices"][0]["logprobs"] == {"content": [{"bytes": None} | entry], "refusal": None}


def test_a_generated_stream_becomes_text() -> None:
    lines = [{"model": "x", "response": "a", "thinking": "t"}, {"response": "b", "done": True, "eval_count": 2}]
    stream = read(OllamaReader("m", TextChunks), [orjson.dumps(entry) + b"\n" for entry in lines])
    found = chunks(stream)
    assert stream.endswith(DONE) and {chunk["object"] for chunk in found} == {"text_completion"}
    assert [choice for chunk in found for choice in chunk["choices"]] == [
        {"index": 0, "logprobs": None, "text": "a", "finish_reason": None},
        {"index": 0, "logprobs": None, "text": "b", "finish_reason": None},
        {"index": 0, "logprobs": None, "text": "", "finish_reason": "stop"},
    ]


def whole(answer: object, fields: Json | None = None, endpoint: str = "chat/completions") -> Json:
    found: Json = orjson.loads(OLLAMA.whole(order(OLLAMA, fields or {}, endpoint), orjson.dumps(answer)))
    return found


def test_a_whole_chat_becomes_a_chat_completion() -> None:
    message = {"role": "assistant", "content": "", "thinking": "Hm", "tool_calls": [CALL | {"id": "c1"}]}
    answer = whole({"model": "x", "message": message, "done": True, "done_reason": "stop", "eval_count": 5})
    assert answer["object"] == "chat.completion" and answer["id"].startswith("chatcmpl-")
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    assert choice["message"]["reasoning"] == "Hm"
    assert choice["message"]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome é"}'}}
    ]
    assert answer["usage"] == {"prompt_tokens": 0, "completion_tokens": 5, "total_tokens": 5}
    assert "usage" not in whole({"message": {"content": "Hi"}, "done": True})


def test_a_whole_text_becomes_a_legacy_completion() -> None:
    answer = whole({"response": "Hi", "done": True, "done_reason": "length"}, {"prompt": "x"}, "completions")
    assert (answer["object"], answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]) == (
        "text_completion",
        "Hi",
        "length",
    )


def test_embeddings_as_numbers_and_as_base64() -> None:
    answer = {"model": "x", "embeddings": [[1, 0.5], [-2.25, 0]], "prompt_eval_count": 4}
    plain = whole(answer, {"input": "x"}, "embeddings")
    assert [entry["embedding"] for entry in plain["data"]] == answer["embeddings"]
    assert plain["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    packed = whole(answer, {"input": "x", "encoding_format": "base64"}, "embeddings")
    assert struct.unpack("<2f", base64.b64decode(packed["data"][1]["embedding"])) == (-2.25, 0.0)


@pytest.mark.parametrize(
    "answer, code",
    [
        ({"error": "it broke"}, "upstream_error"),
        ({"message": {"content": "half"}, "done": False}, "upstream_truncated"),
        ([], "upstream_malformed"),
    ],
)
def test_a_whole_answer_that_is_none(answer: object, code: str) -> None:
    with pytest.raises(SluiceError) as caught:
        whole(answer)
    assert (caught.value.code, caught.value.again) == (code, "next")
    with pytest.raises(SluiceError, match="upstream_malformed"):
        OLLAMA.whole(order(OLLAMA, {}), b"<html>")

"""A stream gathered is the whole answer, and a whole answer as a stream gathers to itself again."""

import json
import math
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.assembling import Assembler, as_stream
from proxy.errors import SluiceError
from proxy.sse import DONE, events, payload
from tests.costs import cost

HEAD = {"id": "c", "object": "chat.completion", "created": 7, "model": "m"}


def gathered(*chunks: Any) -> dict[str, Any]:
    return assembled(b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + DONE)


def assembled(stream: bytes) -> dict[str, Any]:
    assembler = Assembler()
    assembler.add(stream)
    whole: dict[str, Any] = orjson.loads(assembler.whole())
    return whole


def delta(index: int = 0, finish: str | None = None, **said: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": said, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice]}


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": TEXT.filter(bool),
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": TEXT, "arguments": TEXT}),
        }
    ),
    min_size=1,
    max_size=3,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": TEXT | st.none()},
    optional={
        "tool_calls": CALLS,
        "reasoning_content": TEXT,
        "reasoning": TEXT,
        "refusal": st.none(),
        "annotations": st.lists(st.dictionaries(TEXT, TEXT), max_size=2),
        "reasoning_details": st.lists(st.fixed_dictionaries({"type": TEXT, "text": TEXT}), max_size=2),
    },
)
LOGPROBS = st.fixed_dictionaries(
    {"content": st.lists(st.fixed_dictionaries({"token": TEXT, "logprob": st.just(-0.5)}), min_size=1, max_size=3)}
)
USAGE = st.fixed_dictionaries({"prompt_tokens": st.integers(0, 99), "completion_tokens": st.integers(0, 99)})


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    choices = []
    for index in range(draw(st.integers(1, 3))):
        finish = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
        choice = {"index": index, "message": draw(MESSAGE), "finish_reason": finish}
        if draw(st.booleans()):
            choice["logprobs"] = draw(LOGPROBS)
        choices.append(choice)
    answer = HEAD | {"choices": choices}
    if draw(st.booleans()):
        answer["usage"] = draw(USAGE)
    if draw(st.booleans()):
        answer["system_fingerprint"] = "fp"
    return answer


@given(answers())
def test_a_whole_answer_comes_back_from_its_stream(answer: dict[str, Any]) -> None:
    whole = assembled(as_stream(orjson.dumps(answer)))
    for choice in answer["choices"]:
        if choice["message"] == {"role": "assistant", "content": None}:
            choice["message"]["content"] = ""  # which is how one says nothing
    assert whole == answer


@given(st.lists(TEXT, min_size=1), st.lists(TEXT))
def test_texts_grow_in_order_whatever_they_hold(texts: list[str], thoughts: list[str]) -> None:
    chunks = [delta(reasoning_content=text) for text in thoughts] + [delta(content=text) for text in texts]
    whole = gathered(delta(role="assistant", content=""), *chunks, delta(finish="stop"))
    message = whole["choices"][0]["message"]
    assert message["content"] == "".join(texts)
    assert message.get("reasoning_content", "") == "".join(thoughts)
    assert whole["object"] == "chat.completion"


@given(st.randoms(use_true_random=False), st.integers(1, 4), st.integers(1, 3))
def test_tool_calls_are_distinguished_by_index_however_their_parts_are_mixed(
    random: Any, calls: int, choices: int
) -> None:
    parts = {
        (choice, at): [f'{{"{choice}', f'":{at}', "}"] for choice in range(choices) for at in range(calls)
    }  # fmt: skip
    chunks = []
    for choice, at in parts:
        opening = {"index": at, "id": f"id{choice}{at}", "type": "function", "function": {"name": "f", "arguments": ""}}
        chunks.append(delta(choice, tool_calls=[opening]))
    left = {key: list(texts) for key, texts in parts.items()}
    while left:
        choice, at = random.choice(sorted(left))
        chunks.append(delta(choice, tool_calls=[{"index": at, "function": {"arguments": left[choice, at].pop(0)}}]))
        if not left[choice, at]:
            del left[choice, at]
    whole = gathered(*chunks, *(delta(choice, finish="tool_calls") for choice in range(choices)))
    for choice, at in parts:
        call = whole["choices"][choice]["message"]["tool_calls"][at]
        assert call["id"] == f"id{choice}{at}"
        assert call["function"] == {"name": "f", "arguments": f'{{"{choice}":{at}}}'}


def test_what_a_tool_call_has_besides_is_kept() -> None:
    first = {"index": 0, "id": "1", "type": "custom", "custom": {"name": "sql", "input": ""}, "extra_content": {"s": 1}}
    whole = gathered(delta(tool_calls=[first]), delta(tool_calls=[{"index": 0, "custom": {"input": "SELECT 1"}}]))
    (call,) = whole["choices"][0]["message"]["tool_calls"]
    assert call["custom"] == {"name": "sql", "input": "SELECT 1"}
    assert call["extra_content"] == {"s": 1}


def test_pieces_of_openrouters_reasoning_are_one_as_it_was_signed() -> None:
    def piece(kind: str, index: int | None, **more: object) -> dict[str, object]:
        return {"type": f"reasoning.{kind}", "index": index, "format": "f"} | more

    pieces = [
        piece("text", 0, text="Hm", id=None),
        piece("text", 0, text=", well"),
        piece("text", 0, text=None, signature="s", id="a"),
        piece("summary", 1, summary="So"),
        piece("summary", 1, summary=" it is"),
        piece("encrypted", 1, data="x"),
        piece("text", None, text="y"),
        piece("text", None, text="z"),
    ]
    whole = gathered(*[delta(reasoning_details=[each]) for each in pieces], delta(finish="stop"))
    assert whole["choices"][0]["message"]["reasoning_details"] == [
        piece("text", 0, text="Hm, well", signature="s", id="a"),
        piece("summary", 1, summary="So it is"),
        *pieces[5:],
    ]


@pytest.mark.parametrize(
    "said",
    [
        lambda size: {"delta": {"content": "x" * size}},
        lambda size: {"text": "x" * size},
        lambda size: {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "x" * size}}]}},
        lambda size: {"delta": {"reasoning_details": [{"index": 0, "type": "t", "text": "x" * size}]}},
        lambda size: {"delta": {"annotations": [1] * size}},
        lambda size: {"delta": {"content": None}, "logprobs": {"content": [1] * size}},
    ],
    ids=["content", "text", "arguments", "reasoning", "annotations", "logprobs"],
)
def test_a_piece_costs_no_more_behind_a_long_answer_than_behind_a_short_one(
    said: Callable[[int], dict[str, Any]],
) -> None:
    def piece(size: int) -> bytes:
        return b"data: " + orjson.dumps({"choices": [{"index": 0} | said(size)]}) + b"\n\n"

    short, long, small = Assembler(), Assembler(), piece(1)
    short.add(small)
    long.add(piece(4_000_000))
    assert cost(lambda: long.add(small)) < 10 * cost(lambda: short.add(small))


def test_pieces_of_a_summary_may_be_lists() -> None:
    def summed_up(*parts: str) -> dict[str, Any]:
        return {
            "index": 0,
            "type": "reasoning.summary",
            "summary": [{"type": "summary_text", "text": t} for t in parts],
        }

    whole = gathered(*(delta(reasoning_details=[summed_up(part)]) for part in ("First", "then")))
    assert whole["choices"][0]["message"]["reasoning_details"] == [summed_up("First", "then")]


def test_null_in_place_of_tool_calls_is_nothing() -> None:
    call = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    whole = gathered(delta(role="assistant", content=None, tool_calls=None), delta(tool_calls=[call]))
    assert [each["id"] for each in whole["choices"][0]["message"]["tool_calls"]] == ["1"]


@pytest.mark.parametrize("depth", [200, 400])
def test_however_deep_it_is_nested(depth: int) -> None:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    for broken in (b'{"choices":[],"x":' + deep + b"}", b'{"choices":[{"index":0,"delta":{"x":' + deep + b"}}]}"):
        assembler = Assembler()
        try:
            assembler.add((b"data: " + broken + b"\n\n") * 2)
            assembler.whole()
        except SluiceError as error:
            assert error.code == "upstream_malformed"
    try:
        as_stream(b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"x":' + deep + b"}")
    except SluiceError as error:
        assert error.code == "upstream_malformed"


def test_logprobs_of_chunks_are_joined() -> None:
    def said(token: str) -> dict[str, Any]:
        chunk = delta(content=token)
        chunk["choices"][0]["logprobs"] = {"content": [{"token": token, "logprob": -1.0}], "refusal": None}
        return chunk

    whole = gathered(said("a"), said("b"), delta(finish="stop"))
    assert [each["token"] for each in whole["choices"][0]["logprobs"]["content"]] == ["a", "b"]


def test_a_first_chunk_without_a_head_is_not_the_answer_s() -> None:
    """Azure's, which tells of the prompt's filter."""
    first = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [1]}
    whole = gathered(first, delta(content="x"), delta(finish="stop") | {"id": "d", "model": "n"})
    assert (whole["id"], whole["object"], whole["created"], whole["model"]) == ("c", "chat.completion", 7, "m")
    assert whole["prompt_filter_results"] == [1]
    never = gathered(first, {"choices": delta(content="x")["choices"]}, {"choices": [], "model": "n"})
    assert (never["id"], never["created"], never["model"]) == ("", 0, "n")


def test_the_last_usage_and_unknown_members_are_kept() -> None:
    first = delta(content="x") | {"usage": None, "provider": "P", "obfuscation": "abc"}
    whole = gathered(first, delta(finish="stop"), {"choices": [], "usage": {"prompt_tokens": 1}})
    assert whole["usage"] == {"prompt_tokens": 1}
    assert whole["provider"] == "P"
    assert "obfuscation" not in whole


def test_text_completions_come_back_as_such() -> None:
    answer = {"id": "c", "object": "text_completion", "created": 7, "model": "m",
              "choices": [{"index": 0, "text": "hello", "finish_reason": "stop", "logprobs": None}]}  # fmt: skip
    assert assembled(as_stream(orjson.dumps(answer))) == answer


def test_a_stream_made_of_a_whole_answer_says_what_openai_says() -> None:
    answer = HEAD | {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
                     "usage": {"prompt_tokens": 1}}  # fmt: skip
    said = [payload(event) for event in events(as_stream(orjson.dumps(answer)))]
    assert said[-1] == b"[DONE]"
    chunks = [orjson.loads(data or b"") for data in said[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}],
        [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        [],
    ]
    assert chunks[-1]["usage"] == {"prompt_tokens": 1}


@pytest.mark.parametrize(
    "body",
    [b"[1,2]", b"7", b"null", b"{}", b'{"choices":7}', b'{"choices":[7]}', b'{"choices":[{"message":[7]}]}', b"{"],
)
def test_what_is_no_completion_is_the_upstreams_fault(body: bytes) -> None:
    with pytest.raises(SluiceError) as raised:
        as_stream(body)
    assert raised.value.code == "upstream_malformed"


@pytest.mark.parametrize(
    "choice",
    [
        {"index": [], "delta": {"content": "x"}},
        {"index": "0", "delta": {"content": "x"}},
        {"index": 0, "text": 7},
        {"index": 0, "delta": {"tool_calls": [7]}},
        {"index": 0, "delta": {"tool_calls": [{"index": 10**12}]}},
        {"index": 0, "delta": {"tool_calls": [{"index": -1}]}},
        {"index": 0, "delta": {"tool_calls": [{"index": "0"}]}},
        {"index": 0, "delta": {"tool_calls": [{"function": "f"}]}},
        {"index": 0, "delta": {"tool_calls": [{"function": {"name": 7}}]}},
        {"index": 0, "delta": {"tool_calls": [{"function": {"arguments": {"a": 1}}}]}},
    ],
)
def test_a_chunk_of_another_form_is_the_upstreams_fault(choice: Any) -> None:
    plain = delta(content="x")
    with pytest.raises(SluiceError) as raised:
        gathered(plain, plain | {"choices": [choice]}, plain)
    assert raised.value.code == "upstream_malformed"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "choices index delta message text tool_calls function name arguments id logprobs content usage".split()
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=3))
def test_no_chunk_whatever_breaks_it(chunks: list[Any]) -> None:
    choices = [{"choices": [chunk]} for chunk in chunks]
    try:
        gathered(*chunks, *choices)
    except SluiceError as error:
        assert error.code == "upstream_malformed"


@given(JSON)
def test_no_whole_answer_whatever_breaks_it(answer: Any) -> None:
    for body in (answer, {"choices": [answer]}, {"choices": [{"message": answer}]}):
        try:
            as_stream(orjson.dumps(body))
        except SluiceError as error:
            assert error.code in ("upstream_malformed", "upstream_truncated")


@pytest.mark.parametrize(
    "event",
    [b'{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}', b'{"choices":[{"index":0,"delta":{"x":-Infinity}}]}'],
    ids=["half a pair", "no number"],
)
def test_what_is_only_nearly_json_is_kept_as_it_came(event: bytes) -> None:
    other = b'{"choices":[{"index":0,"delta":{"content":"\\ude00!"},"finish_reason":"stop"}]}'
    assembler = Assembler()
    assembler.add(b"".join(b"data: " + each + b"\n\n" for each in (event, other)))
    choice = json.loads(assembler.whole())["choices"][0]
    assert not assembler.dropped
    assert (choice["message"]["content"], choice["message"].get("x")) in (("\U0001f600!", None), ("\ude00!", -math.inf))


def test_an_event_that_is_no_json_leaves_a_gap_that_is_reported() -> None:
    assembler = Assembler()
    assembler.add(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {"choic\n\n')
    assert assembler.dropped


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"choices": []}, "upstream_malformed"),
        ({"choices": [{"message": {"content": "x"}, "finish_reason": None}]}, "upstream_truncated"),
        ({"choices": [{"text": "x", "finish_reason": "stop"}, {"text": "y"}]}, "upstream_truncated"),
    ],
)
def test_no_finish_is_made_up(answer: dict[str, Any], code: str) -> None:
    with pytest.raises(SluiceError) as raised:
        as_stream(orjson.dumps(answer))
    assert raised.value.code == code

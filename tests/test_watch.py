"""What a stream reports is recognized in any spelling, and nothing is removed that the client asked for."""

import json
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SluiceError
from proxy.providers.failures import error_in_event
from proxy.usage import Usage
from proxy.watch import ChatWatch, ResponsesWatch


def chunk(delta: Any = None, finish: str | None = None, **more: Any) -> bytes:
    return event({"id": "c", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **more})


def event(fields: Any) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def failure_in(fields: Mapping[str, Any]) -> SluiceError | None:
    return SluiceError("upstream_error", "no") if fields.get("error") else None


def watch(own_usage: bool = False) -> ChatWatch:
    return ChatWatch(failure_in, own_usage)


ROLE, HELLO, END = chunk({"role": "assistant", "content": ""}), chunk({"content": "hello"}), chunk(finish="stop")
USAGE = event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}})
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("size", [1, 2, 6])
def test_a_stream_is_complete_at_its_finish_and_done_at_its_done(size: int) -> None:
    stream = [ROLE, b": ping\n\n", HELLO, END, USAGE, DONE]
    seen = watch()
    passed = [seen.see(b"".join(stream[at : at + size])) for at in range(0, 6, size)]
    assert b"".join(passed) == b"".join(stream)
    assert (seen.finished, seen.done, seen.complete) == (True, True, True)
    assert seen.usage == Usage(3, 5)
    assert seen.content_at is not None


def test_completeness_comes_with_the_event_that_brings_it() -> None:
    seen = watch()
    states = []
    for batch in (ROLE, HELLO, END, DONE):
        seen.see(batch)
        states.append((seen.content_at is not None, seen.complete, seen.done))
    assert states == [(False, False, False), (True, False, False), (True, True, False), (True, True, True)]


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"reasoning_content": "x"},
        {"reasoning": "x"},
        {"tool_calls": [{"index": 0, "function": {"name": "f"}}]},
        {"refusal": "no"},
        {"audio": {"data": "eA=="}},
    ],
)
def test_whatever_a_reader_would_miss_is_content(delta: dict[str, Any]) -> None:
    seen = watch()
    seen.see(chunk(delta))
    assert seen.content_at is not None


@pytest.mark.parametrize("delta", [{"role": "assistant"}, {"content": ""}, {"content": None, "tool_calls": []}, {}])
def test_a_role_and_empty_values_are_none(delta: dict[str, Any]) -> None:
    seen = watch()
    seen.see(chunk(delta) + b": ping\n\n")
    assert seen.content_at is None


def test_text_completions_have_content_too() -> None:
    seen = watch()
    seen.see(event({"choices": [{"index": 0, "text": "x", "finish_reason": None}]}))
    assert seen.content_at is not None


def test_the_usage_event_that_only_we_asked_for_is_taken_out_and_kept() -> None:
    seen = watch(own_usage=True)
    assert seen.see(HELLO + END + USAGE + DONE) == HELLO + END + DONE
    assert seen.usage == Usage(3, 5)
    seen = watch(own_usage=True)
    seen.see(HELLO)
    assert seen.see(USAGE) == b""
    both = chunk(finish="stop", usage={"prompt_tokens": 1})  # usage beside a choice is the upstream's own doing
    assert seen.see(both) == both


def test_an_event_that_is_no_json_is_dropped_and_counted_where_events_are_parsed() -> None:
    seen = watch()
    assert seen.see(b"data: {broken\n\n" + HELLO) == HELLO
    assert seen.malformed == 1
    assert seen.see(b"data: {broken\n\n") == b""  # it does not end like JSON, and is looked at all the same
    assert seen.see(b"data: {broken}\n\n") == b"data: {broken}\n\n"  # this does, and passes unseen


@pytest.mark.parametrize("before", [b"", HELLO])
def test_an_error_event_raises_before_and_after_content(before: bytes) -> None:
    seen = watch()
    if before:
        seen.see(before)
    with pytest.raises(SluiceError):
        seen.see(HELLO + event({"error": {"message": "x"}}))


@pytest.mark.parametrize("value", [[], 7, "x", None, True, [[]], {"choices": 7}, {"choices": [7, None]}])
def test_json_of_any_form_is_no_failure_of_ours(value: Any) -> None:
    seen = watch(own_usage=True)
    assert seen.see(event(value)) == event(value)


NAMES = st.sampled_from("choices delta usage finish_reason text prompt_tokens_details cost".split())
SCALARS = st.none() | st.booleans() | st.integers(-9, 2**53) | st.floats(allow_nan=False) | st.text(max_size=3)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=12))
def test_no_form_of_json_breaks_it(value: Any) -> None:
    for seen in (watch(), watch(own_usage=True), ResponsesWatch(error_in_event)):
        seen.see(event(value))


@pytest.mark.parametrize("behind", [HELLO, DONE, USAGE, event({"error": {"message": "x"}}), b": late\n\n"])
def test_what_stands_behind_done_is_for_nobody(behind: bytes) -> None:
    seen = watch()
    assert seen.see(HELLO + END + DONE + behind) == HELLO + END + DONE
    assert seen.usage is None and seen.complete


def test_done_in_a_text_is_no_done() -> None:
    seen = watch()
    seen.see(HELLO)
    seen.see(chunk({"content": 'say data: [DONE] "usage" "error"'}))
    assert not seen.done
    assert not seen.complete


def test_a_finish_reason_that_is_null_does_not_finish() -> None:
    seen = watch()
    seen.see(HELLO)
    seen.see(b'data: {"choices":[{"delta":{"content":"\\"finish_reason\\": \\"stop"},"finish_reason" : null}]}\n\n')
    assert not seen.complete
    seen.see(b'data: {"choices":[{"delta":{},"finish_reason" : "stop"}]}\n\n')
    assert seen.complete


def test_the_responses_api_is_complete_at_its_terminal_event() -> None:
    seen = ResponsesWatch(error_in_event)
    created = b'event: response.created\ndata: {"type":"response.created"}\n\n'
    delta = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"x"}\n\n'
    completed = b"event: response.completed\n" + event(
        {"type": "response.completed", "response": {"usage": {"input_tokens": 4, "output_tokens": 2,
         "output_tokens_details": {"reasoning_tokens": 1}}}}
    )  # fmt: skip
    assert seen.see(created) == created
    assert seen.content_at is None
    seen.see(delta)
    assert seen.content_at is not None
    assert not seen.complete
    assert seen.see(completed) == completed
    assert seen.complete
    assert seen.usage == Usage(4, 2, reasoning=1)


def test_a_terminal_word_in_a_text_of_the_responses_api_ends_nothing() -> None:
    seen = ResponsesWatch(error_in_event)
    seen.see(event({"type": "response.output_text.delta", "delta": "response.completed"}))
    assert not seen.complete


@pytest.mark.parametrize("said", [b'"\\ud83d"', b'"x","logprobs":-Infinity'])
def test_what_orjson_refuses_and_clients_may_read_is_kept(said: bytes) -> None:
    seen = watch()
    event = b'data: {"choices":[{"delta":{"content":%b},"finish_reason":"stop"}]}\n\n' % said
    assert seen.see(event) == event
    assert (seen.malformed, seen.finished, seen.content_at is not None) == (0, True, True)


WORDS = [
    "[DONE]",
    '"usage"',
    '"error"',
    '"finish_reason":"stop"',
    "\\",
    '"',
    "}\n\n",
    "data: [DONE]\n\n",
    '"content":"',
    '"}}]}',
]
TEXTS = st.sampled_from(WORDS) | st.text(max_size=3)
DELTAS = st.fixed_dictionaries(
    {}, optional={"role": st.just("assistant"), "content": TEXTS | st.none(), "reasoning": TEXTS}
)
CHOICES = st.fixed_dictionaries(
    {"index": st.just(0), "delta": DELTAS}, optional={"finish_reason": st.sampled_from([None, "stop"])}
)
CHUNKS = st.fixed_dictionaries(
    {"id": st.sampled_from("ab"), "choices": st.lists(CHOICES, max_size=2)},
    optional={"usage": st.none() | st.fixed_dictionaries({"prompt_tokens": st.integers(0, 9)}), "error": st.none()},
)
ALIKE = st.sampled_from(["x", "", "y", "z\\", 'say "x"', "[DONE]", '"usage"']).map(
    lambda said: chunk({"content": said})
)
EVENTS = st.one_of(
    ALIKE,
    CHUNKS.map(event),
    CHUNKS.map(lambda fields: b"data: " + json.dumps(fields).encode() + b"\n\n"),
    CHUNKS.map(lambda fields: event(fields)[:-2] + b"\r\n\r\n"),
    st.sampled_from([b": ping\n\n", DONE, b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n", b"data: {no\n\n", USAGE, END, b"\n\n"]),
)  # fmt: skip


@given(st.lists(EVENTS, max_size=12), st.lists(st.integers(1, 5), min_size=12, max_size=12), st.booleans())
def test_neither_the_cut_into_batches_nor_what_is_left_unparsed_makes_a_difference(
    stream: list[bytes], sizes: list[int], own_usage: bool
) -> None:
    by_one, by_batch, parsed = watch(own_usage), watch(own_usage), watch(own_usage)
    kept = [one for one in stream if parsed._keep(one)]
    passed = [by_one.see(one) for one in stream if not by_one.done]
    batches = []
    for size in sizes:
        if not by_batch.done:
            batches.append(by_batch.see(b"".join(stream[:size])))
        stream = stream[size:]
    assert b"".join(kept) == b"".join(passed) == b"".join(batches)
    for seen in (by_one, by_batch):
        assert (seen.done, seen.finished, seen.malformed) == (parsed.done, parsed.finished, parsed.malformed)
        assert seen.usage == parsed.usage


@pytest.mark.parametrize(
    "more",
    [b'","finish_reason":"stop', b'"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3},"x":[{"y":{"z":"'],
)
def test_an_event_that_begins_and_ends_like_others_and_says_more_is_heard(more: bytes) -> None:
    def alike(said: bytes) -> bytes:
        return b'data: {"choices":[{"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % said

    seen = watch()
    for said in (b"a", b"b", b"", b"c\\"):
        assert seen.see(alike(said)) == alike(said)
    seen.see(b'data: {"choices":[{"finish_reason":"stop","delta":{"content":"a"},"finish_reason":null}]}\n\n')
    said_more = alike(b"a" + more)
    assert orjson.loads(said_more[6:])
    assert seen.see(said_more) == said_more
    assert (seen.usage == Usage(3)) is (b"usage" in more)


def test_events_that_are_no_JSON_teach_nothing() -> None:
    broken = b'data: {"choices":[{"delta":{"content":"x"}},]}\n\n'
    seen = watch()
    assert [seen.see(broken), seen.see(broken), seen.see(broken)] == [b"", b"", b""]
    assert (seen.malformed, seen.content_at) == (3, None)


def test_an_error_in_an_array_is_one() -> None:
    with pytest.raises(SluiceError):
        watch().see(event([{"error": {"message": "no"}}]))


def test_a_stream_of_several_choices_is_complete_with_the_last() -> None:
    two = ChatWatch(failure_in, False, 2)
    two.see(chunk({"content": "a"}))
    for _ in range(2):
        two.see(chunk({}, "stop"))
        assert not two.complete
    two.see(event({"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}))
    assert two.complete


def test_a_comment_beside_the_terminal_event_of_a_response_is_no_failure() -> None:
    seen, batch = ResponsesWatch(error_in_event), b": ping\n\n" + event({"type": "response.completed", "response": {}})
    assert seen.see(batch) == batch
    assert (seen.complete, seen.malformed, seen.failure) == (True, 0, None)


def test_a_response_is_over_with_its_terminal_event() -> None:
    seen = ResponsesWatch(error_in_event)
    seen.see(event({"type": "response.output_text.delta", "delta": "a"}))
    assert not seen.lingers
    seen.see(event({"type": "response.completed", "response": {}}))
    assert seen.complete and seen.lingers

"""A second stream is joined to what the client has seen, or not at all: nothing is repeated or changed."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policies.splices import Disagreement, Splice, Transcript, handed_on
from proxy.sse import DONE, events, payload
from tests.costs import cost

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)


def event(delta: Any = None, finish: str | None = None, **more: Any) -> bytes:
    fields = {"id": more.pop("id", "one"), "created": 1, "choices": [{"index": 0, "delta": delta or {},
              "finish_reason": finish}]} | more  # fmt: skip
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def transcript(*texts: str, name: str = "content") -> Transcript:
    made = Transcript()
    made.add(event({"role": "assistant"}))
    for text in texts:
        made.add(event({name: text}))
    return made


def said(batches: bytes) -> str:
    found = ""
    for each in events(batches):
        data = payload(each)
        if data and data != b"[DONE]":
            for choice in orjson.loads(data)["choices"]:
                found += choice["delta"].get("content") or ""
    return found


def cut(text: str, at: list[int]) -> list[str]:
    ends = sorted({min(end, len(text)) for end in at} | {len(text)})
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(TEXT, st.integers(0, 30), st.lists(st.integers(0, 30)), st.lists(st.integers(0, 30)))
def test_a_fresh_answer_that_agrees_is_continued_wherever_both_are_cut(
    whole: str, broke_at: int, first: list[int], second: list[int]
) -> None:
    seen = whole[:broke_at]
    splice = Splice(transcript(*cut(seen, first)), continues=False)
    out = b"".join(
        splice.events(event({"role": "assistant", "content": text}, id="two")) for text in cut(whole, second)
    )
    out += splice.events(event(finish="stop", id="two") + DONE)
    assert seen + said(out) == whole
    assert out.endswith(DONE)
    assert b'"role"' not in out
    assert b'"two"' not in out  # the client sees one stream with one id


@given(TEXT.filter(bool), TEXT.filter(bool), st.lists(st.integers(0, 30)))
def test_a_fresh_answer_that_differs_is_refused_before_any_of_it_is_sent(seen: str, other: str, at: list[int]) -> None:
    if other.startswith(seen):
        return
    splice, out = Splice(transcript(seen), continues=False), b""
    with pytest.raises(Disagreement):
        for text in cut(other, at):
            out += splice.events(event({"content": text}))
        splice.events(event(finish="stop"))
    assert said(out) == ""


@pytest.mark.parametrize("end", [event(finish="stop"), DONE])
def test_a_fresh_answer_that_ends_too_early_is_another_answer(end: bytes) -> None:
    splice = Splice(transcript("hello world"), continues=False)
    splice.events(event({"content": "hello"}))
    with pytest.raises(Disagreement):
        splice.events(end)


@given(TEXT.filter(bool), st.lists(st.integers(0, 30)))
def test_a_continuation_is_passed_on_unchanged(rest: str, at: list[int]) -> None:
    splice = Splice(transcript("hello "), continues=True)
    out = b"".join(splice.events(event({"role": "assistant", "content": text})) for text in cut(rest, at))
    assert said(out + splice.events(event(finish="stop") + DONE)) == rest


def test_reasoning_before_a_continued_text_is_not_sent_again() -> None:
    splice = Splice(transcript("hello"), continues=True)
    assert splice.events(event({"reasoning_content": "hm"})) == b""
    thinking = Splice(transcript("hm", name="reasoning_content"), continues=True)
    assert b'"hm2"' in thinking.events(event({"reasoning_content": "hm2"}))


def test_an_echo_is_left_out_and_lacks_only_the_thoughts() -> None:
    seen = transcript("hm", name="reasoning_content")
    seen.add(event({"content": "hello "}))
    splice = Splice(seen, continues=True, echoes=True)
    assert said(splice.events(event({"content": "hello wor"}) + event({"content": "ld"}))) == "world"
    for other in ({"content": "help"}, {"content": ""}):
        with pytest.raises(Disagreement):
            Splice(seen, continues=True, echoes=True).events(event(other) + event(finish="stop"))


def test_thoughts_and_text_are_compared_each_for_itself() -> None:
    seen = transcript("a thought", name="reasoning_content")
    seen.add(event({"content": "hel"}))
    splice = Splice(seen, continues=False)
    assert splice.events(event({"reasoning_content": "a thought"})) == b""
    assert said(splice.events(event({"content": "hello"}))) == "lo"
    with pytest.raises(Disagreement):
        Splice(seen, continues=False).events(event({"reasoning_content": "another"}))


def test_an_answer_without_the_thoughts_that_were_seen_is_refused_before_a_word_of_it_is_told() -> None:
    splice = Splice(transcript("a thought", name="reasoning_content"), continues=False)
    assert splice.events(event({"reasoning_content": "a"})) == b""
    with pytest.raises(Disagreement):
        splice.events(event({"content": "hello"}))


def test_thoughts_may_come_under_two_names_at_once() -> None:
    seen = Transcript()
    seen.add(event({"reasoning": "hm", "reasoning_content": "hm"}))
    splice = Splice(seen, continues=False)
    assert b'"!"' in splice.events(event({"reasoning": "hm!", "reasoning_content": "hm!"}))


@pytest.mark.parametrize("delta", [{"tool_calls": [{"index": 0}]}, {"function_call": {"name": "f"}}])
def test_tool_calls_are_never_spliced(delta: dict[str, Any]) -> None:
    seen = transcript("x")
    assert seen.joinable
    seen.add(event(delta))
    assert not seen.joinable
    with pytest.raises(Disagreement):
        Splice(transcript("x"), continues=True).events(event(delta))


def test_several_choices_are_never_spliced() -> None:
    seen = Transcript()
    seen.add(event(choices=[{"index": 1, "delta": {"content": "x"}}]))
    assert not seen.joinable


def test_an_empty_id_before_the_first_text_is_nobody_s() -> None:
    seen = Transcript()
    seen.add(event(id="", created=0, choices=[]))
    seen.add(event({"role": "assistant", "content": "x"}))
    assert seen.head == {"id": "one", "created": 1}


def test_usage_passes_and_comments_of_the_second_do_not() -> None:
    splice = Splice(transcript("x"), continues=True)
    usage = b'data: {"id":"two","choices":[],"usage":{"prompt_tokens":1}}\n\n'
    out = splice.events(b": hello\n\n" + usage)
    assert orjson.loads(payload(out) or b"") == {
        "id": "one", "created": 1, "choices": [], "usage": {"prompt_tokens": 1}
    }  # fmt: skip


@pytest.mark.parametrize("rubbish", [b"data: {broken\n\n", b"data: 7\n\n", b"data: []\n\n", b"\n\n", b": x\n\n"])
def test_rubbish_in_the_second_stream_is_passed_over(rubbish: bytes) -> None:
    assert Splice(transcript("x"), continues=True).events(rubbish) == b""


@given(st.recursive(st.none() | st.integers(-9, 9) | st.text("ab"), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from("choices delta content tool_calls role index finish_reason id".split()), inner), max_leaves=9))  # fmt: skip
def test_no_form_of_json_breaks_it(fields: Any) -> None:
    batch = b"data: " + orjson.dumps(fields) + b"\n\n"
    Transcript().add(batch)
    for continues in (True, False):
        try:
            Splice(transcript("x"), continues).events(batch)
        except Disagreement:
            pass


@given(TEXT)
def test_what_is_handed_on_ends_with_the_text_so_far(text: str) -> None:
    body = b'{"model": "m", "messages": [ {"role":"user","content":"hi"} ], "n": 1.0}'
    made = handed_on(body, text)
    assert made is not None
    assert orjson.loads(made)["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": text}]
    assert made.startswith(b'{"model": "m", "messages": [ {"role":"user","content":"hi"}')
    assert made.endswith(b'], "n": 1.0}')


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"messages":[]}',
        b'{"messages":[7]}',
        b'{"messages":[{"role":"user"},{"role":"assistant","content":"x"}]}',
    ],
)
def test_what_cannot_be_handed_on(body: bytes) -> None:
    assert handed_on(body, "x") is None


HALF = b'data: {"id":"one","choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n'


def test_what_nobody_can_compare_is_never_spliced() -> None:
    first = transcript("Hello ")
    first.add(HALF)
    assert not first.joinable
    with pytest.raises(Disagreement):
        Splice(transcript("Hello "), continues=True).events(HALF)


def test_an_event_costs_no_more_behind_a_long_text_than_behind_a_short_one() -> None:
    def behind(size: int) -> float:
        said, seen = event({"content": "x"}), transcript("x" * size)
        splice = Splice(seen, continues=False)
        splice.events(event({"content": "x" * (size // 2)}))
        return cost(lambda: seen.add(said)) + cost(lambda: splice.events(said))

    assert behind(4_000_000) < 10 * behind(0)
